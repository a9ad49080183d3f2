"""Results that are written in pieces, so that memory does not grow with the regions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import zarr
from anndata import AnnData

from .._files import new_h5ad, new_zarr, require_writable, written_whole
from ..io.inputs import without_pickles
from ..io.stores import write_regions

_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_CHUNK_ROWS = 8_192

Part = dict[str, np.ndarray]
"""Some rows of X and the layers, by name: (rows, tracks) each."""


def new_store(path: Path, frame: AnnData, names: Sequence[str], dtype: Any, chunk_rows: int) -> None:
    """Make a zarr store of an AnnData whose matrices are to be written by :func:`write_rows`.

    Parameters
    ----------
    path
        The store.
    frame
        Regions, tracks and whatever else there is but matrices.
    names
        `X` and the layers.
    dtype
        Of the matrices.
    chunk_rows
        Rows of a chunk: who writes whole chunks meets no other writer.
    """
    group = new_zarr(path)
    _write_annotation(group, frame)
    for name in names:
        _create(group, name, frame.shape, dtype, chunk_rows)


def write_rows(path: Path, start: int, part: Part) -> None:
    """Write rows of a store, which begin at start."""
    arrays = _open(path, "r+", part)
    for name, values in part.items():
        arrays[name][start : start + len(values)] = values


def read_parts(path: Path, names: Sequence[str]) -> Iterator[Part]:
    """Read all rows of a store, some at a time."""
    arrays = _open(path, "r", names)
    for start in range(0, arrays["X"].shape[0], _CHUNK_ROWS):
        yield {name: array[start : start + _CHUNK_ROWS] for name, array in arrays.items()}


def write_h5ad(path: Path, frame: AnnData, parts: Iterable[Part]) -> Path:
    """Write an AnnData whose matrices come in consecutive rows.

    Parameters
    ----------
    path
        Ends in `.h5ad`; must not exist.
    frame
        Regions, tracks and whatever else there is but matrices.
    parts
        All rows.

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
    with written_whole(path) as partial, new_h5ad(partial) as (file, require_written):
        _write_annotation(file, frame)
        start = 0
        for part in parts:
            for name, values in part.items():
                if start == 0:
                    _create(file, name, (frame.n_obs, values.shape[1]), values.dtype, _CHUNK_ROWS)
                file[_place(name)][start : start + len(values)] = values
            start += len(values)
            require_written()
    return path


def _open(path: Path, mode: Any, names: Iterable[str]) -> dict[str, Any]:
    """Arrays of a store, of which nothing can run."""
    try:
        with without_pickles():
            group: Any = zarr.open_group(str(path), mode=mode)
            return {name: group[_place(name)] for name in names}
    except (LookupError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}). Remove {path.parent}.") from error


def _write_annotation(group: Any, frame: AnnData) -> None:
    anndata.io.write_elem(group, "/", AnnData(var=frame.var, uns=frame.uns))
    del group["obs"]
    write_regions(group, frame.obs)


def _place(name: str) -> str:
    return name if name == "X" else f"layers/{name}"


def _create(group: Any, name: str, shape: tuple[int, int], dtype: Any, chunk_rows: int) -> None:
    if _place(name) in group:
        del group[_place(name)]
    create = group.create_array if hasattr(group, "create_array") else group.create_dataset
    array = create(_place(name), shape=shape, dtype=dtype, chunks=(min(chunk_rows, shape[0]), shape[1]))
    array.attrs.update(_ARRAY)
