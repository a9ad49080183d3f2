"""Files that the commands read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import numcodecs.registry
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset

from .. import _keys
from ..data.annotation import number_rows, take_rows, without_matrices
from ..data.track_data import Matrix, names_of_layers
from .contigs import choose_chromosomes
from .text import as_whole, is_header, read_rows

_READERS = {".h5ad": anndata.read_h5ad, ".zarr": anndata.read_zarr}
_IN_MEMORY = 2**29  # bytes of matrices that are quicker to read once than piece by piece
_BIGWIG = (".bw", ".bigwig")
_URLS = ("http://", "https://", "ftp://")


def is_bigwig(path: Path) -> bool:
    """Whether the name is one of a bigWig file."""
    return path.suffix.lower() in _BIGWIG


def is_url(file: str) -> bool:
    """Whether a file is not on this computer.

    >>> is_url("https://example.org/a.bigWig"), is_url("/data/a.bigWig")
    (True, False)
    """
    return file.lower().startswith(_URLS)


def read_anndata(path: Path) -> AnnData:
    """Read an AnnData into memory. Nothing in the file can run.

    Raises
    ------
    ValueError
        If there is none, or it is damaged or holds pickles, in a single line.
    """
    return _opened(path, lambda path: _READERS[path.suffix](path))


def open_anndata(path: Path) -> AnnData:
    """Open an AnnData: regions and tracks are read, and matrices when their rows are asked for, if they are large.

    Of the rest only `uns` is read. Regions that the file only numbers have no names of their own, and numbers as index.
    Nothing in the file can run.

    Parameters
    ----------
    path
        File that ends in .h5ad, or folder that ends in .zarr.

    Raises
    ------
    ValueError
        As :func:`read_anndata`.
    """
    return _opened(path, _open_lazily)


def read_regions(path: Path, adata: AnnData, rows: np.ndarray) -> AnnData:
    """Read some regions of an opened AnnData into memory, in the type that the file has, and no others.

    Parameters
    ----------
    path, adata
        What :func:`open_anndata` has opened.
    rows
        Regions, 0-based, ascending.

    Raises
    ------
    ValueError
        If they cannot be read.
    """
    return _opened(path, lambda _: _take(adata, rows))


def find_chromosomes(obs: pd.DataFrame, chromosomes: str) -> np.ndarray:
    """Rows of the regions on some chromosomes.

    Parameters
    ----------
    obs
        Regions.
    chromosomes
        Names or patterns by commas, as for :func:`chipvi.io.contigs.choose_chromosomes`.

    Raises
    ------
    ValueError
        If the regions have no chromosomes, or a name or pattern matches none of them.
    """
    if _keys.CHROM not in obs:
        raise ValueError("chromosomes need the column chrom of obs, which the data do not have.")
    code_r, names = pd.factorize(obs[_keys.CHROM])
    known = list(map(str, names))
    chosen = set(choose_chromosomes(known, chromosomes))
    return np.flatnonzero(np.array([name in chosen for name in known])[code_r])


def _take(adata: AnnData, rows: np.ndarray) -> AnnData:
    """Some regions, ascending, in memory."""

    def read(matrix: Any) -> Any:
        return matrix[rows] if hasattr(matrix, "format") else Matrix("matrix", matrix).read_rows(rows)

    part = without_matrices(take_rows(adata.obs, rows), adata.var, adata.uns)
    for name in names_of_layers(adata):
        part.layers[name] = read(adata.layers[name])
    if adata.X is not None:
        part.X = read(adata.X)
    return part


def _opened(path: Path, read: Callable[[Path], AnnData]) -> AnnData:
    if is_bigwig(path):
        raise ValueError(
            f"data must be regions x tracks, a file that ends in .h5ad or .zarr; {path.name} is a bigWig file. "
            "chipvi.io.read_bigwigs makes such data."
        )
    if not path.exists():
        raise ValueError(f"there is no {path}.")
    if path.suffix not in _READERS:
        raise ValueError(f"data must be a file that ends in .h5ad or .zarr; got {path.name!r}.")
    try:
        with without_pickles():
            return read(path)
    except Exception as error:  # noqa: BLE001 - whatever h5py, zarr and anndata raise for damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path} cannot be read as an AnnData: {reason}") from error


def _open_lazily(path: Path) -> AnnData:
    group: Any = h5py.File(path, "r") if path.suffix == ".h5ad" else zarr.open_group(str(path), mode="r")
    layers = group["layers"] if "layers" in group else {}
    elements = {name: layers[name] for name in layers} | ({None: group["X"]} if "X" in group else {})
    is_small = sum(map(_size, elements.values())) <= _IN_MEMORY
    obs, var = (read_elem(group[name]) for name in ("obs", "var"))
    adata = without_matrices(number_rows(obs), var, read_elem(group["uns"]) if "uns" in group else {})
    for name, element in elements.items():
        matrix = read_elem(element) if is_small else element
        if hasattr(matrix, "attrs") and "csr" in matrix.attrs.get("encoding-type", ""):
            matrix = sparse_dataset(matrix)
        if name is None:
            adata.X = matrix
        else:
            adata.layers[name] = matrix
    return adata


def _size(element: Any) -> int:
    """Bytes of a matrix once it is read."""
    parts = [element[name] for name in element] if hasattr(element, "keys") else [element]
    return sum(int(np.prod(part.shape, dtype=np.int64)) * np.dtype(part.dtype).itemsize for part in parts)


@contextmanager
def without_pickles() -> Iterator[None]:
    """Leave zarr without the codec that unpickles, and so runs, what an array holds."""
    codec = numcodecs.registry.codec_registry.pop("pickle", None)
    try:
        yield
    finally:
        if codec is not None:
            numcodecs.registry.codec_registry["pickle"] = codec


def read_bed(path: Path) -> pd.DataFrame:
    """Read the intervals of a BED file, plain or compressed with gzip.

    Blank lines, comments, lines for genome browsers and a first line that names the columns are skipped.

    Returns
    -------
    `chrom`, `start`, `end` (0-based, half-open) and `strand`, which is "." where there is none.

    Raises
    ------
    ValueError
        If a line holds no interval, or no line does; the message names it.
    """
    if not path.exists():
        raise ValueError(f"there is no {path}.")
    rows: list[tuple[str, int, int, str]] = []
    for number, cells in read_rows(path, "a BED file"):
        if rows or not is_header(cells):
            rows.append(_interval(cells, f"line {number} of {path.name}"))
    if not rows:
        raise ValueError(f"{path} must hold an interval a line; it holds none.")
    return pd.DataFrame(rows, columns=[_keys.CHROM, _keys.START, _keys.END, _keys.STRAND])


def _interval(cells: list[str], where: str) -> tuple[str, int, int, str]:
    start, end = (as_whole(cells[1]), as_whole(cells[2])) if len(cells) > 2 else (None, None)
    chrom = cells[0].strip()
    if start is None or end is None or not chrom:
        raise ValueError(f"{where} must begin with chromosome, start and end; it is {' '.join(cells)[:60]!r}.")
    return chrom, start, end, cells[5].strip() if len(cells) > 5 else "."
