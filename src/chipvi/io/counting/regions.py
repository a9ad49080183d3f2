"""Counting of intervals per region, however the regions lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ... import _keys
from ..contigs import contig_numbers
from .rules import Reads


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of several chromosomes, laid end to end in one coordinate.

    Starts and ends are sorted each for itself: the number of intervals that overlap [s, e) is the number that start
    before e, less the number that end at s or before.

    Parameters
    ----------
    chroms
        Chromosomes that have an interval.
    offsets
        Where each begins in the coordinate, and the end of the last: int64, one more than `chroms`.
    starts, ends
        In the coordinate, int64, each sorted.
    """

    chroms: tuple[str, ...]
    offsets: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Intervals:
        """Build from `chrom`, `start` and `end`, in any order, overlapping or not."""
        start, end, chroms, offsets = _end_to_end(frame)
        return cls(chroms, offsets, np.sort(start), np.sort(end))

    def __reduce__(self) -> tuple[Any, ...]:
        """Short to send: bins are steps of one length."""
        return _unpacked, (self.chroms, self.offsets, _pack(self.starts), _pack(self.ends))

    def locate(self, reads: Reads, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which places lie on one of the chromosomes, and start and end of those in the coordinate."""
        number = contig_numbers(self.chroms, reads.contigs)[reads.contig]
        known = number >= 0
        low, high = self.offsets[number[known]], self.offsets[number[known] + 1]
        # what reaches beyond the last interval of a chromosome must not reach into the next chromosome
        return known, np.clip(start[known] + low, low, high), np.clip(end[known] + low, low, high)

    def touched(self, reads: Reads, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Whether each place overlaps an interval, bool."""
        known, start, end = self.locate(reads, start, end)
        touched = np.zeros(len(known), dtype=bool)
        touched[known] = np.searchsorted(self.starts, end) > np.searchsorted(self.ends, start, side="right")
        return touched


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions in the order of the result.

    Parameters
    ----------
    intervals
        Of the regions.
    start_rank, end_rank
        How many regions start before the start of each, and end before its end. Slices where regions are sorted and
        do not overlap, which saves memory.
    """

    intervals: Intervals
    start_rank: np.ndarray | slice
    end_rank: np.ndarray | slice

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Regions:
        """Build from `chrom`, `start` and `end`, in any order, overlapping or not."""
        start, end, chroms, offsets = _end_to_end(frame)
        if np.all(np.diff(start) > 0) and np.all(np.diff(end) > 0):
            rank = slice(0, len(start))
            return cls(Intervals(chroms, offsets, start, end), rank, rank)
        intervals = Intervals(chroms, offsets, np.sort(start), np.sort(end))
        return cls(intervals, np.searchsorted(intervals.starts, start), np.searchsorted(intervals.ends, end))


class RegionCounter:
    """Adds up how many places overlap each region; memory does not grow with the number of places.

    Examples
    --------
    >>> regions = Regions.from_frame(pd.DataFrame({"chrom": "chr1", "start": [0, 50], "end": [50, 100]}))
    >>> counter = RegionCounter(regions)
    >>> start, end = np.array([10, 40]), np.array([20, 60])
    >>> counter.add(Reads(("chr1",), start * 0, start, end, start * 0, start > 0), start, end)
    >>> counter.counts()
    array([2, 1])
    """

    def __init__(self, regions: Regions):
        self._regions = regions
        size = len(regions.intervals.starts) + 1
        self._begun = np.zeros(size, dtype=np.int64)
        self._ended = np.zeros(size, dtype=np.int64)

    def add(self, reads: Reads, start: np.ndarray, end: np.ndarray) -> None:
        """Count the places of some reads, in bp on the reads' contigs."""
        intervals = self._regions.intervals
        _, start, end = intervals.locate(reads, start, end)
        # sorted, they are looked up in neighbouring places of memory, which is quicker by far among many regions
        np.add.at(self._begun, np.searchsorted(intervals.ends, np.sort(start), side="right"), 1)
        np.add.at(self._ended, np.searchsorted(intervals.starts, np.sort(end)), 1)

    def counts(self) -> np.ndarray:
        """Number of places that overlap each region, int64, in the order of the regions."""
        # places that start before a region's end, less those that end at its start or before
        begun = np.cumsum(self._begun)[self._regions.end_rank]
        return begun - np.cumsum(self._ended)[self._regions.start_rank]


def _pack(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps from each value to the next, and how often each comes in a row."""
    steps = np.diff(values, prepend=0)
    first = np.flatnonzero(np.r_[True, steps[1:] != steps[:-1]])[: len(steps)]
    return steps[first], np.diff(np.r_[first, len(steps)])


def _unpacked(chroms: tuple[str, ...], offsets: np.ndarray, *packed: tuple[np.ndarray, np.ndarray]) -> Intervals:
    return Intervals(chroms, offsets, *(np.cumsum(np.repeat(steps, number)) for steps, number in packed))


def _end_to_end(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]:
    codes, names = pd.factorize(frame[_keys.CHROM])
    start, end = frame[_keys.START].to_numpy(np.int64), frame[_keys.END].to_numpy(np.int64)
    spans = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(spans, codes, end)
    offsets = np.r_[0, np.cumsum(spans)]
    return start + offsets[codes], end + offsets[codes], tuple(map(str, names)), offsets
