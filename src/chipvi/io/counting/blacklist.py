"""Regions without those that a blacklist overlaps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ... import _keys
from ..._messages import levels_to_caller, listed
from ..contigs import match_contigs
from ..genomes import read_blacklist
from ..places import check_places
from .regions import Intervals
from .rules import Reads


@dataclass(frozen=True, eq=False)
class Kept:
    """What a blacklist leaves.

    Parameters
    ----------
    regions
        Those that it does not overlap.
    blacklist
        Its intervals, in which no read counts; None if there are none.
    n_left_out
        Number of regions that it overlaps.
    """

    regions: pd.DataFrame
    blacklist: Intervals | None
    n_left_out: int


def leave_out(regions: pd.DataFrame, blacklist: pd.DataFrame | str | Path | None) -> Kept:
    """Leave out the regions that a blacklist overlaps, and warn if it has none of their chromosomes.

    Parameters
    ----------
    regions
        As :func:`chipvi.io.places.check_regions` returns them.
    blacklist
        A table of intervals, or a BED file.

    Raises
    ------
    ValueError
        If the blacklist cannot be read, or leaves no region.
    """
    if blacklist is None:
        return Kept(regions, None, 0)
    table = blacklist if isinstance(blacklist, pd.DataFrame) else read_blacklist(blacklist)
    if table.empty:
        return Kept(regions, None, 0)
    intervals = Intervals.from_frame(check_places(table, "intervals of the blacklist"))
    codes, chroms = pd.factorize(regions[_keys.CHROM])
    if not match_contigs(intervals.chroms, chroms):
        warnings.warn(
            f"the blacklist leaves out no region: it names {listed(intervals.chroms)}, and the regions lie on "
            f"{listed(chroms)}. Is it of another genome?",
            UserWarning,
            stacklevel=levels_to_caller(),
        )
    start, end = regions[_keys.START].to_numpy(np.int64), regions[_keys.END].to_numpy(np.int64)
    places = Reads(tuple(map(str, chroms)), codes, start, end, np.zeros(len(codes), np.int8), np.ones(len(codes), bool))
    listed_r = intervals.touched(places, start, end)
    if listed_r.all():
        raise ValueError(f"the blacklist must leave a region; all {len(regions):,} overlap it.")
    return Kept(regions[~listed_r], intervals, int(listed_r.sum()))
