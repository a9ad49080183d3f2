"""Regions x tracks of whole genomes in zarr stores: written a stretch of regions at a time, and made wider later."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from anndata.io import read_elem, write_elem

from ..data.annotation import named, number_rows
from .inputs import without_pickles
from .reading import STRETCH

_MOST_NAMED = 10**6  # regions whose names are written; those of more are made of their places
_CHUNK_BYTES, _SHARD_BYTES = 2**16, 2**26  # what is read for a block of regions, and a file
_CHUNK_OF_COLUMN = 2**18  # regions, of a column of obs
_FRAME = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_DICT = {"encoding-type": "dict", "encoding-version": "0.1.0"}
_ANNDATA = {"encoding-type": "anndata", "encoding-version": "0.1.0"}


def new_store(path: Path, obs: pd.DataFrame) -> Any:
    """Make a zarr store of an AnnData with these regions and nothing else.

    Parameters
    ----------
    path
        The folder.
    obs
        Regions, with `chrom`, `start` and `end`. More than a million are numbered, and have no names.

    Returns
    -------
    The group, to be given to :func:`write_matrix` and :func:`finish`.
    """
    group = zarr.open_group(str(path), mode="w")
    group.attrs.update(_ANNDATA)
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        group.create_group(name).attrs.update(_DICT)
    write_regions(group, obs)
    return group


def write_regions(group: Any, obs: pd.DataFrame) -> None:
    """Write `obs` so that it takes little space: places as int32 where they fit, and no names of many regions."""
    with quiet_zarr():
        if len(obs) <= _MOST_NAMED:
            write_elem(group, "obs", named(obs))
            return
        frame = group.create_group("obs")
        frame.attrs.update(_FRAME | {"_index": "_index", "column-order": list(obs.columns)})
        for name in obs:
            values = obs[name]
            if isinstance(values.dtype, np.dtype) and values.dtype.kind == "i":
                _write_column(frame, name, narrowed(values.to_numpy(), np.int32))
            else:
                write_elem(
                    frame, name, values.array if isinstance(values.dtype, pd.CategoricalDtype) else values.to_numpy()
                )
        _write_column(frame, "_index", narrowed(np.arange(len(obs)), np.int32))


def narrowed(values: np.ndarray, kind: Any) -> np.ndarray:
    """Whole numbers in a narrower type, if it holds them."""
    fits = not len(values) or (np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max)
    return values.astype(kind) if fits else values


def narrowest(largest: int) -> np.dtype:
    """The narrowest type of whole numbers from 0 that holds a number.

    >>> narrowest(255), narrowest(256)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(largest)


def write_matrix(
    group: Any, name: str, shape: tuple[int, int], dtype: Any, fill: float, stretches: Iterable[np.ndarray] = ()
) -> None:
    """Write the last columns of a matrix, which is made, or made wider or of a wider type, if need be.

    Chunks are consecutive regions of all tracks that the matrix was made with; later tracks have chunks of their own.

    Parameters
    ----------
    group, name
        Of the store; `X` or a layer.
    shape
        That the matrix is to have.
    dtype
        That the columns need.
    fill
        What entries are that are not written.
    stretches
        Values of the columns, :data:`chipvi.io.reading.STRETCH` regions at a time; none where all are `fill`.
    """
    place = name if name == "X" else f"layers/{name}"
    if place in group:
        array = group[place]
        wanted = np.promote_types(array.dtype, dtype)
        array = array if array.dtype == wanted else _widened(group, place, array, wanted)
        array.resize(shape)
    else:
        array = _new_array(group, place, shape, np.dtype(dtype), fill)
    for start, values_rt in zip(range(0, shape[0], STRETCH), stretches, strict=False):
        array[start : start + len(values_rt), shape[1] - values_rt.shape[1] :] = values_rt.astype(array.dtype)


def finish(group: Any, var: pd.DataFrame, uns: Mapping[str, Any]) -> None:
    """Write the tracks and what else is known, after which the store is whole."""
    with quiet_zarr():
        for name, values in (("var", var), ("uns", dict(uns))):
            if name in group:
                del group[name]
            write_elem(group, name, values)
        zarr.consolidate_metadata(group.store)


def copy_store(path: Path, copy: Path) -> Any:
    """A second store that shares the files of a first one: zarr never changes a file, but puts another in its place.

    Where the file system has no links they are copied.
    """

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(path, copy, copy_function=link)
    with without_pickles():
        return zarr.open_group(str(copy), mode="r+", **_unconsolidated())


def read_store(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Regions, tracks and `uns` of a store.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not path.is_dir():
        raise ValueError(f"there is no store {path} to append tracks to. Count without appending.")
    try:
        with without_pickles():
            group = zarr.open_group(str(path), mode="r", **_unconsolidated())
            obs, var, uns = (read_elem(group[name]) for name in ("obs", "var", "uns"))
    except Exception as error:  # noqa: BLE001 - whatever zarr and anndata raise for damaged files
        raise ValueError(f"{path} cannot be read as an AnnData: {' '.join(str(error).split())[:200]}") from error
    return number_rows(obs), var, uns


def _unconsolidated() -> dict[str, Any]:
    return {} if zarr.__version__.startswith("2.") else {"use_consolidated": False}


def _new_array(group: Any, place: str, shape: tuple[int, int], dtype: np.dtype, fill: float, width: int = 0) -> Any:
    """An empty matrix: chunks of some ten kilobytes of consecutive rows, many of them in a file."""
    width = width or max(1, shape[1])
    n_rows = 2 ** int(np.clip(np.log2(_CHUNK_BYTES / (width * dtype.itemsize)), 8, 13))
    n_chunks = max(1, min(_SHARD_BYTES // (n_rows * width * dtype.itemsize), STRETCH // n_rows))
    if getattr(getattr(group, "metadata", None), "zarr_format", 2) == 3:
        from zarr.codecs import BloscCodec

        array = group.create_array(
            place,
            shape=shape,
            dtype=dtype,
            chunks=(n_rows, width),
            shards=(n_rows * n_chunks, width),
            fill_value=fill,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        )
    else:  # format 2 has no shards
        array = group.create_dataset(place, shape=shape, dtype=dtype, chunks=(n_rows, width), fill_value=fill)
    array.attrs.update(_ARRAY)
    return array


def _write_column(group: Any, name: str, values: np.ndarray) -> None:
    chunks = (min(_CHUNK_OF_COLUMN, max(1, len(values))),)
    if getattr(getattr(group, "metadata", None), "zarr_format", 2) == 3:
        from zarr.codecs import BloscCodec

        packed = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=packed)
    else:
        array = group.create_dataset(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
    array[:] = values
    array.attrs.update(_ARRAY)


def _widened(group: Any, place: str, array: Any, dtype: np.dtype) -> Any:
    """The same matrix of a wider type."""
    wide = _new_array(group, f"{place}_wide", array.shape, dtype, array.fill_value, array.chunks[1])
    for start in range(0, array.shape[0], STRETCH):
        wide[start : start + STRETCH] = array[start : start + STRETCH].astype(dtype)
    folder = Path(str(group.store.root if hasattr(group.store, "root") else group.store.path))  # zarr 3, and 2
    shutil.rmtree(folder / place)
    os.replace(folder / f"{place}_wide", folder / place)
    return group[place]


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Leave out what zarr and anndata say of their next versions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*autosharding will be the default.*")
        warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata.*")
        yield
