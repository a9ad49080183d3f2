"""Files that the commands read."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata
import pandas as pd
from anndata import AnnData

from .. import _keys

_READERS = {".h5ad": anndata.read_h5ad, ".zarr": anndata.read_zarr}
_BIGWIG = (".bw", ".bigwig")
_URLS = ("http://", "https://", "ftp://")
_HEADERS = ("#", "track", "browser")


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
    """Read an AnnData into memory.

    Raises
    ------
    ValueError
        If there is none, in a single line.
    """
    if is_bigwig(path):
        raise ValueError(
            f"data must be regions x tracks, a file that ends in .h5ad or .zarr; {path.name} is a bigWig file. "
            "chipvi.io.read_bigwigs makes such data."
        )
    if path.suffix not in _READERS:
        raise ValueError(f"data must be a file that ends in .h5ad or .zarr; got {path.name!r}.")
    if not path.exists():
        raise ValueError(f"there is no {path}.")
    try:
        return _READERS[path.suffix](path)
    except (KeyError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as an AnnData: {str(error).splitlines()[0]}") from error


def read_bed(path: Path) -> pd.DataFrame:
    """Read the intervals of a BED file, which may end in `.gz`.

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
    rows = []
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for number, line in enumerate(file, start=1):
                fields = line.rstrip("\n").split("\t" if "\t" in line else None)  # a name may hold spaces
                if line.strip() and not line.startswith(_HEADERS):
                    rows.append(_interval(fields, f"line {number} of {path.name}"))
    except (UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be read as a BED file: it is no text.") from error
    if not rows:
        raise ValueError(f"{path} must hold an interval a line; it holds none.")
    return pd.DataFrame(rows, columns=[_keys.CHROM, _keys.START, _keys.END, _keys.STRAND])


def _interval(fields: list[str], where: str) -> tuple[str, int, int, str]:
    try:
        chrom, start, end = fields[0], int(fields[1]), int(fields[2])
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"{where} must begin with chromosome, start and end; it is {' '.join(fields)[:60]!r}."
        ) from error
    return chrom, start, end, fields[5] if len(fields) > 5 else "."
