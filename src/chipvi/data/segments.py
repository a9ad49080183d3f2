"""Regions of the genome: which rows are neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from .. import _keys
from .._messages import and_more, unknown

_REGULAR_SHARE = 0.9  # of the regions have one width, or they are no bins
_SORT = f"adata = adata[adata.obs.sort_values([{_keys.CHROM!r}, {_keys.START!r}]).index].copy()"


@dataclass(frozen=True, eq=False)
class Segments:
    """Runs of neighbouring regions; context never crosses from one to the next.

    Parameters
    ----------
    offsets
        Row at which each segment begins, and the number of regions at the end: int64, (n_segments + 1).
    bin_width
        Width of the regions in bp, if nearly all have the same; else None.

    Examples
    --------
    >>> segments = Segments(np.array([0, 3, 5]))
    >>> segments.bounds(np.array([4, 0]))
    (array([3, 0]), array([5, 3]))
    """

    offsets: np.ndarray
    bin_width: int | None = None

    @property
    def n_regions(self) -> int:
        """Number of rows over all segments."""
        return int(self.offsets[-1])

    @property
    def n_segments(self) -> int:
        """Number of runs."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of regions of each segment, int64."""
        return np.diff(self.offsets)

    def index(self, rows: np.ndarray) -> np.ndarray:
        """Segment in which each row lies, 0-based."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def bounds(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First row of the segment of each row, and the row after its last."""
        segment = self.index(rows)
        return self.offsets[segment], self.offsets[segment + 1]


def find_segments(obs: pd.DataFrame, segment_key: str | None = None) -> Segments:
    """Find the runs of neighbouring regions.

    Parameters
    ----------
    obs
        One row per region. Without `segment_key` it needs the columns `chrom`, `start` and `end` (0-based, half-open),
        sorted and without overlaps; two rows are neighbours where the chromosome stays and `end` is the next `start`.
    segment_key
        Column whose equal values mark the rows of one segment, which must follow each other. Coordinates are then
        not looked at, so that windows around overlapping genes are fine.

    Raises
    ------
    ValueError
        Where the regions break the above; the message names the first offender and says how many there are.

    Examples
    --------
    >>> obs = pd.DataFrame({"chrom": ["chr1"] * 3, "start": [0, 200, 600], "end": [200, 400, 800]})
    >>> find_segments(obs).offsets
    array([0, 2, 3])
    """
    if segment_key is None:
        parts, bin_width = _where_regions_part(obs), _find_bin_width(obs)
    else:
        parts, bin_width = _where_key_changes(obs, segment_key), None
    return Segments(np.r_[_first_rows(parts, len(obs)), len(obs)].astype(np.int64), bin_width)


def _find_bin_width(obs: pd.DataFrame) -> int | None:
    """The width that nearly all regions have; the last of a chromosome may be shorter."""
    widths, number = np.unique(_positions(obs, _keys.END) - _positions(obs, _keys.START), return_counts=True)
    if not len(obs):
        return None
    return int(widths[number.argmax()]) if number.max() >= _REGULAR_SHARE * number.sum() else None


def _where_key_changes(obs: pd.DataFrame, segment_key: str) -> np.ndarray:
    if segment_key not in obs:
        raise ValueError(unknown("segment_key", segment_key, list(obs.columns), "adata.obs"))
    what = f"column {segment_key!r} of obs"
    codes = _codes(obs, segment_key, f"{what} must give every region its segment")
    _require_blocks(obs, segment_key, codes, f"{what} must hold each segment in one block of rows")
    return np.diff(codes) != 0


def _where_regions_part(obs: pd.DataFrame) -> np.ndarray:
    absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in obs]
    if absent:
        raise ValueError(
            f"obs must place the regions with the columns chrom, start and end; {', '.join(absent)} not found. "
            "Add them, or name the obs column that marks which rows are neighbours with segment_key."
        )
    chrom = _codes(obs, _keys.CHROM, "column 'chrom' of obs must name a chromosome for every region")
    start, end = _positions(obs, _keys.START), _positions(obs, _keys.END)
    _refuse(obs, end <= start, "regions must end after they start", "Coordinates are 0-based and half-open.")
    _refuse(obs, start < 0, "regions must start at 0 or later", "Coordinates are 0-based and half-open.")
    same_chrom = np.diff(chrom) == 0
    comes_back = np.r_[False, same_chrom & (np.diff(start) < 0)]
    _refuse(obs, comes_back, "regions must be sorted by start within a chromosome", f"Sort with `{_SORT}`.")
    _require_blocks(obs, _keys.CHROM, chrom, "regions must be sorted, each chromosome in one block of rows")
    overlaps = np.r_[False, same_chrom & (start[1:] < end[:-1])]
    _refuse(
        obs,
        overlaps,
        "regions must not overlap the one before",
        "Count over bins that do not overlap, or mark independent windows with segment_key.",
    )
    return ~same_chrom | (start[1:] != end[:-1])


def _first_rows(parts: np.ndarray, n_rows: int) -> np.ndarray:
    """Where each run begins, given between which neighbours there is a gap."""
    return np.flatnonzero(np.r_[True, parts])[:n_rows]


def _codes(obs: pd.DataFrame, key: str, expected: str) -> np.ndarray:
    codes, _ = pd.factorize(obs[key])
    _refuse(obs, codes < 0, expected, "Fill in the missing values, or leave those regions out.", show=key)
    return codes


def _positions(obs: pd.DataFrame, key: str) -> np.ndarray:
    expected = f"column {key!r} of obs must hold whole base pairs"
    if not is_numeric_dtype(obs[key]):
        raise ValueError(f"{expected}; its dtype is {obs[key].dtype}. Convert the column with .astype(int).")
    positions = obs[key].to_numpy(dtype=np.float64, na_value=np.nan)
    broken = ~np.isfinite(positions) | (positions != np.floor(positions))
    _refuse(obs, broken, expected, "Convert the column with .astype(int).", show=key)
    return positions.astype(np.int64)


def _require_blocks(obs: pd.DataFrame, key: str, codes: np.ndarray, expected: str) -> None:
    run_starts = _first_rows(np.diff(codes) != 0, len(codes))
    comes_back = pd.Series(codes[run_starts]).duplicated().to_numpy()
    broken = np.zeros(len(codes), dtype=bool)
    broken[run_starts[comes_back]] = True
    by_key = f"adata = adata[adata.obs.sort_values({key!r}, kind='stable').index].copy()"
    _refuse(obs, broken, expected, f"Sort with `{_SORT if key == _keys.CHROM else by_key}`.", show=key)


def _refuse(obs: pd.DataFrame, broken: np.ndarray, expected: str, advice: str, show: str | None = None) -> None:
    """Raise if any row is broken: what was expected, the first such region, how many there are, what to do."""
    rows = np.flatnonzero(broken)
    if len(rows):
        row = rows[0]
        if show is not None:
            found = f"has {obs[show].iloc[row : row + 1].tolist()[0]!r} as {show}"
        else:
            found = f"is {obs[_keys.CHROM].iloc[row]}:{obs[_keys.START].iloc[row]}-{obs[_keys.END].iloc[row]}"
        raise ValueError(f"{expected}; region {obs.index[row]} {found}{and_more(len(rows))}. {advice}")
