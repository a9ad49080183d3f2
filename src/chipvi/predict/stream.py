"""Results on disk, written batch by batch, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from .._files import new_h5ad, new_zarr, require_writable, written_whole

_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_CHUNK_ROWS = 8_192


def write_in_parts(
    path: Path, obs: pd.DataFrame, var: pd.DataFrame, parts: Iterator[dict[str, np.ndarray]], n_regions: int
) -> Path:
    """Write an AnnData whose matrices come in batches of rows.

    Parameters
    ----------
    path
        Ends in `.h5ad` or `.zarr`; must not exist.
    obs, var
        Regions and tracks.
    parts
        Consecutive rows: `X` and layers by name, each (rows, tracks).
    n_regions
        Rows of all parts together.

    Returns
    -------
    The path. Until all is written the data are in a file beside it, which an error or an interrupt removes.

    Raises
    ------
    ValueError
        For another ending.
    FileExistsError
        If there is such a file.
    FileNotFoundError
        If there is no such folder.
    BlockingIOError
        If another process is writing there.
    OSError
        If it cannot be written, as where the disk is full.
    """
    require_writable(path)
    with written_whole(path) as partial:
        if path.suffix == ".h5ad":
            with new_h5ad(partial) as (file, require_written):
                _write(file, obs, var, _checked(parts, require_written), n_regions)
        else:
            _write(new_zarr(partial), obs, var, parts, n_regions)
    return path


def _checked(parts: Iterable[dict[str, np.ndarray]], check: Callable[[], None]) -> Iterator[dict[str, np.ndarray]]:
    """The same parts, with a call before the next one is asked for, which takes time to compute."""
    for part in parts:
        yield part
        check()


def _write(group: Any, obs: pd.DataFrame, var: pd.DataFrame, parts: Iterator[dict[str, np.ndarray]], n: int) -> None:
    anndata.io.write_elem(group, "/", anndata.AnnData(obs=obs, var=var))
    start = 0
    for part in parts:
        for name, values in part.items():
            place = name if name == "X" else f"layers/{name}"
            if start == 0:
                _create(group, place, (n, values.shape[1]), values.dtype)
            group[place][start : start + len(values)] = values
        start += len(values)


def _create(group: Any, place: str, shape: tuple[int, int], dtype: np.dtype) -> None:
    if place in group:
        del group[place]
    create = group.create_array if hasattr(group, "create_array") else group.create_dataset
    array = create(place, shape=shape, dtype=dtype, chunks=(min(_CHUNK_ROWS, shape[0]), shape[1]))
    array.attrs.update(_ARRAY)
