"""Where on the genome a command works: regions and chromosomes as options name them, and the data of these alone."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _keys
from .._messages import unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData

_PLACE = re.compile(r"(?P<chrom>[^:]+)(:(?P<start>[\d,]+)-(?P<end>[\d,]+))?")


def open_places(path: Path, chromosomes: str | None, regions: str | None) -> AnnData:
    """Open an AnnData; where places are named, their regions are read into memory, and no others.

    Parameters
    ----------
    path
        File that ends in .h5ad, or folder that ends in .zarr.
    chromosomes, regions
        As for :func:`find_rows`.

    Raises
    ------
    ValueError
        As :func:`find_rows` and :func:`chipvi.io.inputs.open_anndata`.
    """
    from ..io.inputs import open_anndata, read_regions

    adata = open_anndata(path)
    rows = find_rows(adata.obs, chromosomes, regions)
    return adata if rows is None else read_regions(path, adata, rows)


def find_rows(obs: pd.DataFrame, chromosomes: str | None, regions: str | None) -> np.ndarray | None:
    """Rows of the regions that are asked for; None for all.

    Parameters
    ----------
    obs
        Regions.
    chromosomes
        As for :func:`chipvi.io.inputs.find_chromosomes`.
    regions
        As for :func:`find_regions`.

    Raises
    ------
    ValueError
        If both are given, and as these two functions.
    """
    from ..io.inputs import find_chromosomes

    if regions is not None and chromosomes is not None:
        raise ValueError("--regions and --chromosomes both name regions; give one of them.")
    if chromosomes is not None:
        return find_chromosomes(obs, chromosomes)
    return None if regions is None else find_regions(regions, obs)


def require_places(obs: pd.DataFrame) -> None:
    """Refuse regions without coordinates.

    Raises
    ------
    ValueError
        With the columns of obs that are absent.
    """
    absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in obs]
    if absent:
        raise ValueError(
            f"bigWig files and places need the columns chrom, start and end of obs; {', '.join(absent)} not found."
        )


def find_regions(asked: str, obs: pd.DataFrame) -> np.ndarray:
    """Rows that touch a place, such as `chr1:1,001-2,000` (as browsers count: from 1, the end included) or a BED file.

    Raises
    ------
    ValueError
        If a place cannot be read, or no region lies there.
    """
    import numpy as np
    import pandas as pd

    from ..io.inputs import read_bed

    require_places(obs)
    path = Path(asked)
    if path.exists():
        bed = read_bed(path)
        places = list(zip(bed[_keys.CHROM].astype(str), bed[_keys.START], bed[_keys.END], strict=True))
    elif path.suffix in (".bed", ".gz"):
        raise ValueError(f"there is no {path}.")
    else:
        places = [read_place(one) for one in asked.split()]
    if not places:
        raise ValueError("regions name no place; leave the option out for all.")
    code_r, names = pd.factorize(obs[_keys.CHROM])
    known, start_r, end_r = list(map(str, names)), obs[_keys.START].to_numpy(), obs[_keys.END].to_numpy()
    is_chosen_r = np.zeros(len(obs), dtype=bool)
    rows_of = {}
    for name in {name for name, _, _ in places} & set(known):
        rows = rows_of[name] = np.flatnonzero(code_r == known.index(name))
        low, high = np.array(sorted((low, high) for chrom, low, high in places if chrom == name), dtype=float).T
        reached = np.r_[-1, np.maximum.accumulate(high)]  # by the first so many places
        is_chosen_r[rows] = reached[np.searchsorted(low, end_r[rows])] > start_r[rows]
    if not is_chosen_r.any():
        first = places[0][0]
        if first not in known:
            raise ValueError(unknown("chromosome", first, known, "the data"))
        there = rows_of[first]
        raise ValueError(
            f"no region of the data lies in {asked}; on {first} they lie between {start_r[there].min() + 1:,} and "
            f"{end_r[there].max():,}."
        )
    return np.flatnonzero(is_chosen_r)


def read_place(text: str) -> tuple[str, int, float]:
    """Chromosome, start and end (0-based, half-open) of a place such as `chr1:1,001-2,000` or `chr1`.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"regions must be a BED file, or a place such as chr1:1,001-2,000 or chr1; got {text!r}.")
    if found["start"] is None:
        return found["chrom"], 0, math.inf
    start, end = (int(found[name].replace(",", "") or 0) for name in ("start", "end"))
    if not 0 < start <= end:
        raise ValueError(f"a place counts from 1 and ends where it starts or later; got {text!r}.")
    return found["chrom"], start - 1, end
