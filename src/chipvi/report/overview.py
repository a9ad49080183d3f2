"""What there is: the matrix of biosamples and assays, and the tracks one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.grid import Grid
from ..data.track_data import TrackData
from ..pl._style import assay_colour

MEASURED, PART, IMPUTABLE, CONTROL, NOTHING = "measured", "part", "imputable", "control", "nothing"
WHOLE = 0.995  # share of the regions from which on a track counts as measured


@dataclass(frozen=True)
class Cell:
    """A biosample and an assay: its kind (one of the constants of this file), and what to write there."""

    kind: str
    text: str


@dataclass(frozen=True)
class Track:
    """A track: shares of regions with counts and signal, depth and mean count per region; NaN where unknown."""

    name: str
    kind: str
    colour: str
    counted: float
    signalled: float
    depth: float
    mean: float


def describe_tracks(data: TrackData) -> list[Track]:
    """Every track, in the order of the columns."""
    tracks, is_there_t = data.tracks, data.measured_t
    share_t = np.maximum(data.counted_share_t, data.signalled_share_t)
    depth_t, mean_t = data.depth_t, data.summary.counts.mean_t
    found = []
    for t, name in enumerate(tracks.names):
        kind = IMPUTABLE if not is_there_t[t] else MEASURED if share_t[t] >= WHOLE else PART
        found.append(
            Track(
                name=name,
                kind=CONTROL if tracks.is_control[t] and is_there_t[t] else kind,
                colour=assay_colour(tracks.assays[t]),
                counted=float(data.counted_share_t[t]),
                signalled=float(data.signalled_share_t[t]),
                depth=float(depth_t[t]) if data.counted_share_t[t] > 0 else np.nan,
                mean=float(mean_t[t]),
            )
        )
    return found


def fill_matrix(grid: Grid, tracks: list[Track]) -> list[list[Cell]]:
    """Lay the tracks out: a row per biosample, a column per assay.

    A cell without a track can be imputed if its assay is measured in some biosample, and no control.
    """
    is_target_a = np.zeros(len(grid.assays), dtype=bool)
    for t, track in enumerate(tracks):
        is_target_a[grid.assay_t[t]] |= track.kind in (MEASURED, PART)
    return [
        [
            _cell(tracks[t]) if t >= 0 and tracks[t].kind != IMPUTABLE else _empty_cell(bool(is_target_a[a]))
            for a, t in enumerate(row)
        ]
        for row in grid.track_ba
    ]


def _empty_cell(is_target: bool) -> Cell:
    return Cell(IMPUTABLE, "imputable") if is_target else Cell(NOTHING, "–")


def _cell(track: Track) -> Cell:
    parts = []
    if track.kind == CONTROL:
        parts.append("control")
    if np.isfinite(track.depth):
        parts.append(short(track.depth))
    if track.signalled > 0:
        parts.append("p-value")
    if track.kind == PART:
        parts.append(f"{max(track.counted, track.signalled):.0%} of regions")
    return Cell(track.kind, " · ".join(parts) or "measured")


def short(number: float) -> str:
    r"""A number of reads, as one says it; no line breaks in it.

    >>> short(950), short(20_500), short(12_345_678), short(120e6)
    ('950', '20.5\xa0k', '12.3\xa0M', '120\xa0M')
    """
    for unit, name in ((1e6, "\N{NO-BREAK SPACE}M"), (1e3, "\N{NO-BREAK SPACE}k"), (1, "")):
        if number >= unit:
            return f"{number / unit:.3g}{name}" if number < 1_000 * unit else f"{number / unit:,.0f}{name}"
    return f"{number:.2g}"
