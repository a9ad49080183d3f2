"""Regions with their surroundings, cut out of the data as small dense tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .track_data import Entries, TrackData, ViewKind


@dataclass(frozen=True, eq=False)
class ViewRows:
    """One view of the rows read (l) of all tracks (t).

    Parameters
    ----------
    value_lt
        Reads, or arcsinh(-log10 p); float32, 0 where missing.
    present_lt
        Where they were measured, bool.
    """

    value_lt: Tensor
    present_lt: Tensor

    def to(self, device: torch.device) -> ViewRows:
        """The same, on a device."""
        return ViewRows(self.value_lt.to(device), self.present_lt.to(device))


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Regions (r), and the rows around them that windows (s) of several widths reach.

    Parameters
    ----------
    low_rs, high_rs
        First row, and row after the last, of each window, narrowest first, as positions among the rows read.
    counts, signal
        The rows read; no signal without a signal layer.
    width_l
        Their widths, in typical ones; float32.
    covariates_rc
        Region covariates (c); no column for none.
    """

    low_rs: Tensor
    high_rs: Tensor
    width_l: Tensor
    counts: ViewRows
    signal: ViewRows | None
    covariates_rc: Tensor

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.low_rs)

    @property
    def own_row_r(self) -> Tensor:
        """Position of each region itself among the rows read."""
        return self.low_rs[:, 0]  # the narrowest window is the region

    @property
    def log_width_r(self) -> Tensor:
        """Log width of each region, in typical ones."""
        return torch.log(self.width_l[self.own_row_r])

    def view(self, kind: ViewKind) -> ViewRows:
        """Rows of one view."""
        rows = self.counts if kind is ViewKind.COUNTS else self.signal
        if rows is None:
            raise ValueError("the data have no signal layer.")
        return rows

    def to(self, device: torch.device) -> Minibatch:
        """The same, on a device; Lightning moves a minibatch by this method."""
        return Minibatch(
            self.low_rs.to(device),
            self.high_rs.to(device),
            self.width_l.to(device),
            self.counts.to(device),
            None if self.signal is None else self.signal.to(device),
            self.covariates_rc.to(device),
        )


def take_regions(data: TrackData, rows: np.ndarray, half_widths: tuple[int, ...]) -> Minibatch:
    """Cut out regions, and around each the rows that its widest window can reach within its segment.

    Parameters
    ----------
    data
        Where to read.
    rows
        Regions, 0-based, ascending and without repeats.
    half_widths
        How far windows reach to either side, narrowest first: bp, or without coordinates rows.

    Raises
    ------
    ValueError
        If the rows do not ascend.
    """
    if np.any(np.diff(rows) <= 0):
        raise ValueError("rows must ascend without repeats; sort them with np.unique.")
    low_rs, high_rs = data.segments.windows(rows, half_widths)
    first_r, last_r = low_rs[:, -1], high_rs[:, -1]
    run_starts = np.flatnonzero(np.r_[True, first_r[1:] > last_r[:-1]])
    run_stops = np.r_[run_starts[1:], len(rows)]
    starts, stops = first_r[run_starts], last_r[run_stops - 1]
    # from a row of the data to its position among the rows read
    shift_r = np.repeat(np.r_[0, np.cumsum(stops - starts)[:-1]] - starts, run_stops - run_starts)
    block = data.read_rows(np.concatenate([*map(np.arange, starts, stops)]))  # at once, which files are quicker at
    widths = [data.segments.relative_widths(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return Minibatch(
        torch.from_numpy(low_rs + shift_r[:, None]),
        torch.from_numpy(high_rs + shift_r[:, None]),
        torch.from_numpy(np.concatenate(widths)),
        _view_rows(block.counts),
        None if block.signal is None else _view_rows(block.signal),
        torch.from_numpy(data.covariates_rc[rows]),
    )


def _view_rows(entries: Entries) -> ViewRows:
    return ViewRows(torch.from_numpy(entries.value_rt), torch.from_numpy(entries.present_rt))
