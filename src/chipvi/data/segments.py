"""Regions of the genome: which rows are neighbours, how wide they are, and how far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from .. import _keys
from .._messages import and_more, unknown
from .context import choose_half_widths

_REGULAR_SHARE = 0.9  # of the regions have one width, or they are no bins
_SORT = f"adata = adata[adata.obs.sort_values([{_keys.CHROM!r}, {_keys.START!r}]).index].copy()"


@dataclass(frozen=True)
class Widths:
    """Width of bins in bp, None for regions that are none, and the width that stands for all, None if not known."""

    bins: int | None
    typical: int | None


@dataclass(frozen=True, eq=False)
class Segments:
    """Runs of neighbouring regions; context never crosses from one to the next.

    Parameters
    ----------
    offsets
        Row at which each segment begins, and the number of regions at the end: int64, (n_segments + 1).
    bin_width
        Width of bins in bp: nearly all have the same, and most touch the next. None for other regions.
    typical_width
        Width in bp that stands for all; None without coordinates.
    spacing
        From the middle of a region to that of the next: in bp, or without coordinates 1, for rows.
    middle_r
        Middle of each region in bp, from an origin of each segment, ascending over all; None where every region lies
        `spacing` from the next, as bins do.
    relative_width_r
        Width of each region, in typical ones, float32; None where all are 1.

    Examples
    --------
    >>> segments = Segments(np.array([0, 3, 5]))
    >>> segments.bounds(np.array([4, 0]))
    (array([3, 0]), array([5, 3]))
    """

    offsets: np.ndarray
    bin_width: int | None = None
    typical_width: int | None = None
    spacing: int = 1
    middle_r: np.ndarray | None = None
    relative_width_r: np.ndarray | None = None

    @property
    def widths(self) -> Widths:
        """What a model keeps of the widths."""
        are_bins = self.typical_width is not None and self.middle_r is None
        return Widths(self.spacing if are_bins else None, self.typical_width)

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

    @property
    def total_width(self) -> float:
        """Width of all regions together, in typical ones."""
        width_r = self.relative_width_r
        return self.n_regions if width_r is None else float(width_r.sum(dtype=np.float64))

    def index(self, rows: np.ndarray) -> np.ndarray:
        """Segment in which each row lies, 0-based."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def bounds(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First row of the segment of each row, and the row after its last."""
        segment = self.index(rows)
        return self.offsets[segment], self.offsets[segment + 1]

    def windows(self, rows: np.ndarray, half_widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """First row, and row after the last, of windows around regions, within their segments.

        Parameters
        ----------
        rows
            Regions.
        half_widths
            How far from the middle of the region the middles of others may lie: in bp, or without coordinates in rows.

        Returns
        -------
        Shape (rows, half widths) each.

        Examples
        --------
        >>> low_rs, high_rs = Segments(np.array([0, 3, 5])).windows(np.array([1, 4]), [0, 1])
        >>> low_rs.tolist(), high_rs.tolist()
        ([[1, 0], [4, 3]], [[2, 3], [5, 5]])
        """
        low_r1, high_r1 = (bound_r[:, None] for bound_r in self.bounds(rows))
        if self.middle_r is None:
            n_rows_s = np.asarray(half_widths) // self.spacing
            first_rs, last_rs = rows[:, None] - n_rows_s, rows[:, None] + n_rows_s
        else:
            middle_r1 = self.middle_r[rows][:, None]
            first_rs = np.searchsorted(self.middle_r, middle_r1 - half_widths, side="left")
            last_rs = np.searchsorted(self.middle_r, middle_r1 + half_widths, side="right") - 1
        return np.maximum(first_rs, low_r1), np.minimum(last_rs + 1, high_r1)

    def relative_widths(self, start: int, stop: int) -> np.ndarray:
        """Width of the regions from start to stop, in typical ones, float32."""
        if self.relative_width_r is None:
            return np.ones(stop - start, dtype=np.float32)
        return self.relative_width_r[start:stop]


def find_segments(obs: pd.DataFrame, segment_key: str | None = None, widths: Widths | None = None) -> Segments:
    """Find the runs of neighbouring regions.

    Parameters
    ----------
    obs
        One row per region. Without `segment_key` it needs the columns `chrom`, `start` and `end` (0-based, half-open),
        sorted. A segment ends with the chromosome, and where a region overlaps the one before. Bins end it at a gap,
        too; peaks where the middles of two are further apart than the widest window reaches.
    segment_key
        Column whose equal values mark the rows of one segment, which must follow each other. Coordinates are then
        not looked at, so that windows around overlapping genes are fine.
    widths
        Those of the data that a model was set up with; None: of these regions.

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
    if segment_key is not None:
        return Segments(_offsets(_where_key_changes(obs, segment_key), len(obs)))
    same_chrom, start, end = _read_places(obs)
    if not len(obs):
        return Segments(np.zeros(1, dtype=np.int64))
    width_r, touches = end - start, same_chrom & (start[1:] == end[:-1])
    bin_width = _find_bin_width(width_r, touches[same_chrom])
    widths = Widths(bin_width, int(np.median(width_r))) if widths is None else widths
    typical_width = widths.typical or int(np.median(width_r))
    if widths.bins is not None:
        parts, spacing, middle_r = ~touches, widths.bins, None
    else:
        step_r = np.diff(start.astype(np.int64) + end) / 2  # from middle to middle
        parts = ~same_chrom | (start[1:] < end[:-1]) | (step_r > max(choose_half_widths(typical_width)))
        spacing, middle_r = 1, np.r_[0.0, np.cumsum(np.where(parts, 1.0, step_r))]
    return Segments(
        offsets=_offsets(parts, len(obs)),
        bin_width=bin_width,
        typical_width=typical_width,
        spacing=spacing,
        middle_r=middle_r,
        relative_width_r=None if (width_r == typical_width).all() else (width_r / typical_width).astype(np.float32),
    )


def find_overlaps(obs: pd.DataFrame) -> np.ndarray:
    """Rows of regions that overlap the one before; the columns as :func:`find_segments` asks for them."""
    same_chrom, start, end = _read_places(obs)
    return np.flatnonzero(same_chrom & (start[1:] < end[:-1])) + 1


def refuse_overlaps(obs: pd.DataFrame) -> None:
    """Raise a ValueError if any region overlaps the one before, which no bigWig or bedGraph file can hold."""
    overlaps = np.isin(np.arange(len(obs)), find_overlaps(obs))
    _refuse(obs, overlaps, "files for genome browsers cannot hold regions that overlap", "Leave them out.")


def name_region(obs: pd.DataFrame, row: int) -> str:
    """A region by name and place, for messages."""
    return f"{obs.index[row]} is {obs[_keys.CHROM].iloc[row]}:{obs[_keys.START].iloc[row]}-{obs[_keys.END].iloc[row]}"


def _find_bin_width(width_r: np.ndarray, touches: np.ndarray) -> int | None:
    """The width of bins, which nearly all have (the last of a chromosome may be shorter) and of which most touch."""
    width = int(np.median(width_r))  # that of nine in ten is the median
    is_regular = np.count_nonzero(width_r == width) >= _REGULAR_SHARE * len(width_r)
    return width if is_regular and 2 * np.count_nonzero(touches) >= len(touches) else None


def _where_key_changes(obs: pd.DataFrame, segment_key: str) -> np.ndarray:
    if segment_key not in obs:
        raise ValueError(unknown("segment_key", segment_key, list(obs.columns), "adata.obs"))
    what = f"column {segment_key!r} of obs"
    codes = _codes(obs, segment_key, f"{what} must give every region its segment")
    _require_blocks(obs, segment_key, codes, f"{what} must hold each segment in one block of rows")
    return codes[1:] != codes[:-1]


def _read_places(obs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each region but the first is on the chromosome of the one before, and where all start and end."""
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
    same_chrom = chrom[1:] == chrom[:-1]
    comes_back = np.r_[False, same_chrom & (start[1:] < start[:-1])]
    _refuse(obs, comes_back, "regions must be sorted by start within a chromosome", f"Sort with `{_SORT}`.")
    _require_blocks(obs, _keys.CHROM, chrom, "regions must be sorted, each chromosome in one block of rows")
    return same_chrom, start, end


def _offsets(parts: np.ndarray, n_rows: int) -> np.ndarray:
    """Where each run begins, and where the last one ends."""
    return np.r_[_first_rows(parts, n_rows), n_rows].astype(np.int64)


def _first_rows(parts: np.ndarray, n_rows: int) -> np.ndarray:
    """Where each run begins, given between which neighbours there is a gap."""
    return np.flatnonzero(np.r_[True, parts])[:n_rows]


def _codes(obs: pd.DataFrame, key: str, expected: str) -> np.ndarray:
    column = obs[key]
    codes = column.cat.codes.to_numpy() if isinstance(column.dtype, pd.CategoricalDtype) else pd.factorize(column)[0]
    _refuse(obs, codes < 0, expected, "Fill in the missing values, or leave those regions out.", show=key)
    return codes


def _positions(obs: pd.DataFrame, key: str) -> np.ndarray:
    expected = f"column {key!r} of obs must hold whole base pairs"
    if not is_numeric_dtype(obs[key]):
        raise ValueError(f"{expected}; its dtype is {obs[key].dtype}. Convert the column with .astype(int).")
    if isinstance(obs[key].dtype, np.dtype) and obs[key].dtype.kind == "i":
        return obs[key].to_numpy()  # as it is: of a whole genome a copy is large
    positions = obs[key].to_numpy(dtype=np.float64, na_value=np.nan)
    broken = ~np.isfinite(positions) | (positions != np.floor(positions))
    _refuse(obs, broken, expected, "Convert the column with .astype(int).", show=key)
    return positions.astype(np.int64)


def _require_blocks(obs: pd.DataFrame, key: str, codes: np.ndarray, expected: str) -> None:
    run_starts = _first_rows(codes[1:] != codes[:-1], len(codes))
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
            found = f"{obs.index[row]} has {obs[show].iloc[row : row + 1].tolist()[0]!r} as {show}"
        else:
            found = name_region(obs, row)
        raise ValueError(f"{expected}; region {found}{and_more(len(rows))}. {advice}")
