"""The grid of biosamples and assays that tracks fill, as indices and as the numbers to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .track_data import TrackData, ViewKind
from .tracks import Tracks

_LEAST_DISPERSION, _LARGEST_DISPERSION = 0.05, 50.0  # moment estimates stray far beyond for nearly empty tracks


@dataclass(frozen=True, eq=False)
class Grid:
    """Which track is which cell of the grid.

    Parameters
    ----------
    biosamples, assays
        Labels of the rows and columns of the grid, in order of first appearance.
    biosample_t, assay_t
        Row and column of each track, int64.
    is_target_t
        Tracks that are no controls, bool.
    seen, views
        The views of an experiment that the model sees, and those that it predicts, counts first.
    """

    biosamples: tuple[str, ...]
    assays: tuple[str, ...]
    biosample_t: np.ndarray
    assay_t: np.ndarray
    is_target_t: np.ndarray
    seen: tuple[ViewKind, ...]
    views: tuple[ViewKind, ...]

    @classmethod
    def of(cls, tracks: Tracks, seen: Sequence[ViewKind], views: Sequence[ViewKind]) -> Grid:
        """Lay out tracks."""
        biosamples, assays = tuple(dict.fromkeys(tracks.biosamples)), tuple(dict.fromkeys(tracks.assays))
        return cls(
            biosamples=biosamples,
            assays=assays,
            biosample_t=np.array([biosamples.index(label) for label in tracks.biosamples]),
            assay_t=np.array([assays.index(label) for label in tracks.assays]),
            is_target_t=~tracks.is_control,
            seen=tuple(seen),
            views=tuple(views),
        )

    @property
    def has_counts(self) -> bool:
        """Whether counts are predicted."""
        return ViewKind.COUNTS in self.views

    @property
    def has_signal(self) -> bool:
        """Whether signal is predicted."""
        return ViewKind.SIGNAL in self.views

    @property
    def track_ba(self) -> np.ndarray:
        """Track in each cell, -1 where there is none."""
        track_ba = np.full((len(self.biosamples), len(self.assays)), -1)
        track_ba[self.biosample_t, self.assay_t] = np.arange(len(self.biosample_t))
        return track_ba

    @property
    def target_bg(self) -> np.ndarray:
        """Target tracks of each biosample, padded with -1 to the largest number of them."""
        targets = [np.flatnonzero(self.is_target_t & (self.biosample_t == b)) for b in range(len(self.biosamples))]
        target_bg = np.full((len(targets), max(map(len, targets))), -1)
        for b, target_g in enumerate(targets):
            target_bg[b, : len(target_g)] = target_g
        return target_bg


@dataclass(frozen=True, eq=False)
class CellStart:
    """Where the head of one view starts in each cell of the grid, float32: the moments of the track.

    A cell without data takes the average over its assay, or failing that over its biosample.

    Parameters
    ----------
    level_ba
        Log of the mean count at the central depth in a region of typical width, or mean of the signal.
    log_spread_ba
        Log of the moment estimate of the dispersion of the counts, or of the standard deviation of the signal.
    """

    level_ba: np.ndarray
    log_spread_ba: np.ndarray


@dataclass(frozen=True, eq=False)
class Initialisation:
    """The numbers that training starts from.

    Parameters
    ----------
    log_center
        Mean log depth of the counted tracks. Rates are counts at this depth.
    log_depth_t
        Log depth of each track less `log_center`, float32; where unknown the median depth of the assay, or failing
        that 0.
    known_ba
        Whether the cell has any data, bool.
    counts, signal
        Where the heads start.
    """

    log_center: float
    log_depth_t: np.ndarray
    known_ba: np.ndarray
    counts: CellStart
    signal: CellStart

    @classmethod
    def of(cls, data: TrackData, grid: Grid) -> Initialisation:
        """Take the start from the moments of the data."""
        log_depth_t = np.log(data.depth_t)
        is_counted = (data.summary.counts.number_t > 0) & np.isfinite(log_depth_t)
        log_center = float(log_depth_t[is_counted].mean()) if is_counted.any() else 0.0
        log_depth_t = fill_depths(log_depth_t - log_center, grid.assay_t)
        known_ba = np.zeros((len(grid.biosamples), len(grid.assays)), dtype=bool)
        known_ba[grid.biosample_t, grid.assay_t] = data.measured_t
        counts, signal = (
            CellStart(fill_cells(moments.level_t, grid), fill_cells(moments.log_spread_t, grid))
            for moments in (count_moments(data, log_depth_t), signal_moments(data))
        )
        return cls(log_center, log_depth_t.astype(np.float32), known_ba, counts, signal)

    @classmethod
    def blank(cls, grid: Grid) -> Initialisation:
        """Of no data: for a module whose numbers are about to be loaded."""
        shape = len(grid.biosamples), len(grid.assays)
        # modules keep these arrays, so that none may be another's
        starts = (CellStart(*(np.zeros(shape, dtype=np.float32) for _ in range(2))) for _ in range(2))
        log_depth_t = np.zeros(len(grid.biosample_t), dtype=np.float32)
        return cls(0.0, log_depth_t, np.zeros(shape, dtype=bool), *starts)

    def view(self, kind: ViewKind) -> CellStart:
        """Where the head of one view starts."""
        return self.counts if kind is ViewKind.COUNTS else self.signal


@dataclass(frozen=True, eq=False)
class TrackMoments:
    """What :class:`CellStart` has for each cell, for each track, float64; NaN where nothing was measured."""

    level_t: np.ndarray
    log_spread_t: np.ndarray


def count_moments(data: TrackData, log_depth_t: np.ndarray) -> TrackMoments:
    """Moments of the counts of each track, given its log depth less the centre."""
    counts = data.summary.counts
    rate_t, excess_t = counts.rate_t, counts.excess_t
    with np.errstate(divide="ignore", invalid="ignore"):
        log_rate_t = np.log(rate_t) - log_depth_t
        dispersion_t = np.where(excess_t > 0, rate_t**2 / excess_t, np.where(rate_t > 0, np.inf, np.nan))
    log_dispersion_t = np.log(np.clip(dispersion_t, _LEAST_DISPERSION, _LARGEST_DISPERSION))
    return TrackMoments(_finite(log_rate_t), _finite(log_dispersion_t))


def signal_moments(data: TrackData) -> TrackMoments:
    """Moments of the signal of each track."""
    signal = data.summary.signal
    with np.errstate(divide="ignore", invalid="ignore"):
        log_std_t = np.log(np.sqrt(signal.variance_t) + 1e-3)
    return TrackMoments(_finite(signal.mean_t), _finite(log_std_t))


def _finite(value_t: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value_t), value_t, np.nan)


def fill_depths(log_depth_t: np.ndarray, assay_t: np.ndarray) -> np.ndarray:
    """Depths where they are known, else the median of the assay, or failing that 0."""
    is_known_t = np.isfinite(log_depth_t)
    filled_t = np.where(is_known_t, log_depth_t, 0.0)
    for t in np.flatnonzero(~is_known_t):
        same_t = is_known_t & (assay_t == assay_t[t])
        if same_t.any():
            filled_t[t] = np.log(np.median(np.exp(log_depth_t[same_t])))
    return filled_t


def fill_cells(value_t: np.ndarray, grid: Grid) -> np.ndarray:
    """Spread values over the grid; gaps get the mean of the assay, of the biosample, of all, or 0."""
    value_ba = np.full((len(grid.biosamples), len(grid.assays)), np.nan)
    value_ba[grid.biosample_t, grid.assay_t] = value_t
    for axis in (0, 1, None):
        value_ba = np.where(np.isnan(value_ba), _mean(value_ba, axis), value_ba)
    return value_ba.astype(np.float32)


def _mean(value_ba: np.ndarray, axis: int | None) -> np.ndarray:
    """Mean of the values that are not NaN; NaN where none is, 0 over all of nothing."""
    number = np.isfinite(value_ba).sum(axis=axis, keepdims=True)
    total = np.nansum(value_ba, axis=axis, keepdims=True)
    return np.where(number > 0, total / np.maximum(number, 1), 0.0 if axis is None else np.nan)
