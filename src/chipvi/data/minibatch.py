"""Regions with their surroundings, cut out of the data as small dense arrays."""

from __future__ import annotations

import numpy as np

from .track_data import Block, TrackData

Minibatch = dict[str, np.ndarray]


def take_regions(data: TrackData, rows: np.ndarray, half_widths: tuple[int, ...]) -> Minibatch:
    """Cut out regions, and around each the rows that its widest window can reach within its segment.

    Parameters
    ----------
    data
        Where to read.
    rows
        Regions, 0-based, ascending and without repeats.
    half_widths
        Windows reach this many rows to either side.

    Returns
    -------
    Arrays over the rows read (l), tracks (t), the regions asked for (r) and windows (s): `counts_lt` and
    `counted_lt`, with a signal layer `signal_lt` and `signalled_lt`; `low_rs` and `high_rs`, first row and row after
    the last of each window, as positions among the rows read.

    Raises
    ------
    ValueError
        If the rows do not ascend.
    """
    if np.any(np.diff(rows) <= 0):
        raise ValueError("rows must ascend without repeats; sort them with np.unique.")
    low_r, high_r = data.segments.bounds(rows)
    reach = max(half_widths)
    first_r, last_r = np.maximum(rows - reach, low_r), np.minimum(rows + reach + 1, high_r)
    run_starts = np.flatnonzero(np.r_[True, first_r[1:] > last_r[:-1]])
    run_stops = np.r_[run_starts[1:], len(rows)]
    starts, stops = first_r[run_starts], last_r[run_stops - 1]
    minibatch = _join([data.read(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)])
    # from a row of the data to its position among the rows read
    shift_r = np.repeat(np.r_[0, np.cumsum(stops - starts)[:-1]] - starts, run_stops - run_starts)
    half_widths_s = np.array(half_widths)
    low_rs = np.maximum(rows[:, None] - half_widths_s, low_r[:, None])
    high_rs = np.minimum(rows[:, None] + half_widths_s + 1, high_r[:, None])
    return minibatch | {"low_rs": low_rs + shift_r[:, None], "high_rs": high_rs + shift_r[:, None]}


def _join(blocks: list[Block]) -> Minibatch:
    """Put blocks below each other."""
    names = ["counts_rt", "counted_rt"] + ["signal_rt", "signalled_rt"] * (blocks[0].signal_rt is not None)
    return {name.replace("_rt", "_lt"): np.concatenate([getattr(b, name) for b in blocks]) for name in names}
