"""Tables of places on the genome, regions and blacklists: checked once, for every reader alike."""

from __future__ import annotations

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from .. import _keys
from .._messages import and_more, levels_to_caller, listed

PLACE = [_keys.CHROM, _keys.START, _keys.END]
_MOSTLY = 0.5


def check_places(places: pd.DataFrame, what: str) -> pd.DataFrame:
    """Check a table of intervals, in any order.

    Parameters
    ----------
    places
        With `chrom`, text or whole numbers; `start` and `end`, of any dtype of whole numbers; and perhaps more.
    what
        What the intervals are, for the message.

    Returns
    -------
    The same rows and columns, with `chrom` as text and int64 `start` and `end`.

    Raises
    ------
    ValueError
        If a column or a value is missing, or an interval does not start at 0 or later and end after it starts.

    Examples
    --------
    >>> check_places(pd.DataFrame({"chrom": [1], "start": [0], "end": [200]}), "regions")["chrom"].tolist()
    ['1']
    """
    if absent := [name for name in PLACE if name not in places]:
        raise ValueError(f"{what} must have the columns chrom, start and end; {listed(absent)} not found.")
    checked = places.assign(
        **{_keys.CHROM: _names(places[_keys.CHROM], what)},
        **{key: _positions(places[key], key, what) for key in (_keys.START, _keys.END)},
    )
    start, end = checked[_keys.START].to_numpy(), checked[_keys.END].to_numpy()
    broken = np.flatnonzero((start < 0) | (end <= start))
    if len(broken):
        row = broken[0]
        raise ValueError(
            f"{what} must start at 0 or later and end after they start; row {row} is "
            f"{checked[_keys.CHROM].iloc[row]}:{start[row]}-{end[row]}{and_more(len(broken))}."
        )
    return checked


def check_regions(regions: pd.DataFrame) -> pd.DataFrame:
    """Check regions as :func:`check_places` does, and warn where they look 1-based.

    Raises
    ------
    ValueError
        As :func:`check_places`, and if there is no region.
    """
    if not len(regions):
        raise ValueError("regions must hold at least one region; there is none.")
    checked = check_places(regions, "regions")
    _warn_if_one_based(checked)
    return checked


def _names(chrom: pd.Series, what: str) -> pd.Series:
    codes, names = pd.factorize(chrom)
    if len(absent := np.flatnonzero(codes < 0)):
        raise ValueError(f"{what} must each have a chromosome; row {absent[0]} has none{and_more(len(absent))}.")
    if wrong := [name for name in names if not isinstance(name, str | Integral)]:
        raise ValueError(
            f"chrom of {what} must be text, such as chr1 or 1; it holds {wrong[0]!r} (dtype {chrom.dtype}). "
            "Read it with dtype={'chrom': str}."
        )
    if all(isinstance(name, str) for name in names):
        return chrom
    return pd.Series(np.array([str(name) for name in names], dtype=object)[codes], index=chrom.index)


def _positions(column: pd.Series, key: str, what: str) -> np.ndarray:
    absent = np.flatnonzero(column.isna())
    if len(absent):
        raise ValueError(f"{what} must each have a value of {key}; row {absent[0]} has none{and_more(len(absent))}.")
    if not is_integer_dtype(column):
        raise ValueError(
            f"column {key!r} of {what} must hold whole base pairs; its dtype is {column.dtype}. "
            "Convert it with .astype(int)."
        )
    return column.to_numpy(dtype=np.int64)


def _warn_if_one_based(regions: pd.DataFrame) -> None:
    """Warn where no regions touch and most start one past the end of the one before: 201-400, 401-600."""
    codes, _ = pd.factorize(regions[_keys.CHROM])
    start, end = regions[_keys.START].to_numpy(), regions[_keys.END].to_numpy()
    order = np.lexsort((start, codes))
    gaps = (start[order][1:] - end[order][:-1])[np.diff(codes[order]) == 0]
    n_one = int((gaps == 1).sum())
    if n_one and n_one >= _MOSTLY * len(gaps) and not (gaps == 0).any():
        warnings.warn(
            f"{n_one:,} of {len(gaps):,} regions start one past the end of the region before and none starts where "
            "one ends: are these 1-based, closed intervals? Regions are 0-based and half-open (chr1 0 200, chr1 200 "
            "400): subtract 1 from each start, else no region has a neighbour for the model to look at.",
            UserWarning,
            stacklevel=levels_to_caller(),
        )
