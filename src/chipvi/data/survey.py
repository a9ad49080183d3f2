"""One pass over the data: what breaks the contract, and moments per track."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .._messages import and_more
from .annotation import RegionNames
from .segments import Segments
from .track_data import Matrix, Moments, Summary, are_counts, are_signal, find_present
from .tracks import Tracks

CHUNK_ENTRIES = 1_048_576
"""Entries of a matrix that are looked at together."""

PLAUSIBLE_SIGNAL = 8.0
"""arcsinh(-log10 p) above this means p below 1e-1490, so rather a forgotten arcsinh."""


@dataclass
class Findings:
    """Entries that share a fault: the first, and how many."""

    number: int = 0
    first: tuple[int, int, float] | None = None

    def add(self, broken_rt: np.ndarray, values_rt: np.ndarray, start: int) -> None:
        """Note the broken entries of rows that begin at start."""
        number = int(np.count_nonzero(broken_rt))
        if number and self.first is None:
            row, column = np.unravel_index(int(np.argmax(broken_rt)), broken_rt.shape)
            self.first = (start + int(row), int(column), float(values_rt[row, column]))
        self.number += number

    def describe(self, region_names: RegionNames, tracks: Tracks) -> str:
        """Say where the first is, and how many follow."""
        if self.first is None:
            return "nothing"
        row, column, value = self.first
        return f"region {region_names[row]}, track {tracks.names[column]} is {value:g}{and_more(self.number)}"


@dataclass
class Survey:
    """Result of the pass."""

    summary: Summary
    not_counts: Findings = field(default_factory=Findings)
    not_flags: Findings = field(default_factory=Findings)
    not_signal: Findings = field(default_factory=Findings)
    too_high: Findings = field(default_factory=Findings)


def survey(
    counts: Matrix | None, observed: Matrix | None, signal: Matrix | None, segments: Segments, is_control_t: np.ndarray
) -> Survey:
    """Go through all rows once, a chunk at a time.

    The signal of a control is seen and never predicted, so that it may be any real number.
    """
    n_tracks = len(is_control_t)
    result = Survey(Summary(Moments.none(n_tracks), Moments.none(n_tracks)))
    step = max(1, CHUNK_ENTRIES // n_tracks)
    for start in range(0, segments.n_regions, step):
        stop = min(start + step, segments.n_regions)
        width_r = segments.relative_widths(start, stop)
        if counts is not None:
            observed_rt = None
            if observed is not None:
                flags_rt = observed.read(start, stop)
                observed_rt = flags_rt != 0
                result.not_flags.add(observed_rt & (flags_rt != 1), flags_rt, start)
            values_rt = counts.read(start, stop)
            counted_rt = find_present(values_rt, observed_rt)
            if (is_right_rt := are_counts(values_rt)) is not None:
                result.not_counts.add(counted_rt & ~is_right_rt, values_rt, start)
            if not result.not_counts.number:
                result.summary.counts.add(values_rt, counted_rt, width_r)
        if signal is not None:
            values_rt = signal.read(start, stop)
            signalled_rt = find_present(values_rt)
            result.not_signal.add(~are_signal(values_rt, is_control_t), values_rt, start)
            result.too_high.add((values_rt > PLAUSIBLE_SIGNAL) & ~is_control_t, values_rt, start)
            if not result.not_signal.number:
                result.summary.signal.add(values_rt, signalled_rt, width_r)
    return result
