"""What to expect of experiments that training never saw: learnt from measured tracks that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from ..data.grid import Grid
from ..data.splits import MOST_TRIED, draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..module.vae import ChipVAE
from ..predict.predictor import impute_measured, log_depths
from ..predict.quantiles import mix_counts

_LEAST_CURVE = 0.01  # below, the average and the network predict the same
_PRIOR_TRIALS = 0.5  # with which the prior of no difference between assays, and between biosamples, counts
_LARGEST_LOG_FACTOR = 3.0


@dataclass(frozen=True, eq=False)
class Trial:
    """A measured track, and what a model that has not seen it makes of it.

    Parameters
    ----------
    biosample, assay
        Indices of its cell of the grid.
    kind
        Which view of it.
    measured_r, network_r, average_r
        The data, the mean that the network gives, and the average of the other biosamples; float64.
    spread_r, shape_rp
        Dispersion of the counts, or standard deviation of the signal, that the network gives, and what else there is
        to the distribution of counts.
    """

    biosample: int
    assay: int
    kind: ViewKind
    measured_r: np.ndarray
    network_r: np.ndarray
    average_r: np.ndarray
    spread_r: np.ndarray
    shape_rp: ArrayLike = ()

    @cached_property
    def slope_and_curve(self) -> tuple[float, float]:
        """With a blend weight w, the squared error falls by 2 w slope - w² curve, in variances of the track."""
        apart_r, variance = self.average_r - self.network_r, self.measured_r.var()
        slope = np.mean((self.measured_r - self.network_r) * apart_r) / variance
        return float(slope), float(np.mean(apart_r**2) / variance)

    def fit_log_factor(self, weight: float) -> float:
        """Log of the factor of the spread that makes the data most likely, given the blend weight."""
        mean_r = self.network_r + weight * (self.average_r - self.network_r)
        if self.kind is ViewKind.SIGNAL:
            return float(0.5 * np.log(np.mean(((self.measured_r - mean_r) / self.spread_r) ** 2)))

        def loss(log_factor: float) -> float:
            counts = mix_counts(mean_r, self.spread_r, self.shape_rp, log_factor=log_factor)
            return float(counts.nll(self.measured_r).mean())

        return float(minimize_scalar(loss, bounds=(-_LARGEST_LOG_FACTOR, _LARGEST_LOG_FACTOR), method="bounded").x)


def try_tracks(
    module: ChipVAE, grid: Grid, seen: TrackData, data: TrackData, columns: np.ndarray, rows: np.ndarray
) -> list[Trial]:
    """Impute tracks without their own data, in blocks of the rows.

    Parameters
    ----------
    module, grid
        To which the cells of these tracks are not known, and its grid.
    seen, data
        What to impute from, and what to compare with.
    columns, rows
        Tracks and ascending rows.
    """
    rows = draw_blocks(rows, MOST_TRIED)
    imputed = impute_measured(module, grid, data, rows, columns, seen, target_log_depth_t=log_depths(module, data))
    return [
        Trial(
            biosample=int(grid.biosample_t[track.column]),
            assay=int(grid.assay_t[track.column]),
            kind=track.kind,
            measured_r=track.measured_r,
            network_r=track.network_r,
            average_r=track.average_r,
            spread_r=track.spread_r,
            shape_rp=track.shape_rp,
        )
        for track in imputed
        if track.measured_r.var() > 0
    ]


def learn_from_given(module: ChipVAE, grid: Grid, data: TrackData, n_biosamples: int, n_assays: int) -> None:
    """Learn what to expect of new biosamples, each from its own tracks if they are two or more, in place.

    Parameters
    ----------
    module, grid, data
        Of a query.
    n_biosamples, n_assays
        How many biosamples and assays, the first ones, the module was trained on.
    """
    is_given_t = grid.is_target_t & (grid.assay_t < n_assays) & data.measured_t
    for b in range(n_biosamples, len(grid.biosamples)):
        columns = np.flatnonzero(is_given_t & (grid.biosample_t == b))
        if len(columns) >= 2:  # each is imputed from the others
            trials = try_tracks(module, grid, data, data, columns, np.arange(data.n_regions))
            if trials:
                learn(module, trials, pool_weights(trials, module.blend.array_ba, n_default=2), np.array([b]))


def learn(module: ChipVAE, trials: Sequence[Trial], weight_ba: np.ndarray, biosamples: np.ndarray) -> None:
    """Set what a module expects of the cells that it has not seen, in place.

    Parameters
    ----------
    module
        To set.
    trials
        From which the factor of the spread is taken, by maximum likelihood in each and as their mean.
    weight_ba
        Blend weight of each cell.
    biosamples
        Rows of the grid to set.
    """
    module.blend.set(biosamples, weight_ba)
    is_unseen_ba = ~module.known_array_ba
    is_unseen_ba[np.setdiff1d(np.arange(len(is_unseen_ba)), biosamples)] = False
    for view in module.views:
        found = [t.fit_log_factor(weight_ba[t.biosample, t.assay]) for t in trials if t.kind is view.kind]
        if found:
            view.calibration.set(np.nonzero(is_unseen_ba), log_spread=float(np.mean(found)))


def pool_weights(trials: Sequence[Trial], default_ba: np.ndarray, n_default: int) -> np.ndarray:
    """Blend weight of each cell, 0 to 1: the default, moved by as much everywhere.

    At the cells of the trials it is on average the weight with which these have the least squared error, together with
    typical ones whose best weight is the default.

    Parameters
    ----------
    trials
        At least one.
    default_ba
        Weights without any trial.
    n_default
        Number of trials that the default counts for.
    """
    slopes, curves = np.array([trial.slope_and_curve for trial in trials]).T
    typical = n_default * curves.mean()
    if typical < _LEAST_CURVE:
        return default_ba
    default = np.mean([default_ba[trial.biosample, trial.assay] for trial in trials])
    return np.clip(default_ba + (slopes.sum() + default * typical) / (curves.sum() + typical) - default, 0, 1)


def choose_weights(trials: Sequence[Trial], default_ba: np.ndarray) -> np.ndarray:
    """Weights as :func:`pool_weights` has them, and for each assay and biosample as different as its own trials are.

    The differences are random effects, found by ridge regression.
    """
    weight_ba = pool_weights(trials, default_ba, n_default=1)
    informative = [trial for trial in trials if trial.slope_and_curve[1] >= _LEAST_CURVE]
    own_i = np.clip([slope / curve for slope, curve in (trial.slope_and_curve for trial in informative)], 0, 1)
    biosample_i, assay_i = [trial.biosample for trial in informative], [trial.assay for trial in informative]
    n_biosamples, n_assays = default_ba.shape
    design_ie = np.hstack([np.eye(n_biosamples)[biosample_i], np.eye(n_assays)[assay_i]])
    precision_ee = design_ie.T @ design_ie + _PRIOR_TRIALS * np.eye(n_biosamples + n_assays)
    effect_e = np.linalg.solve(precision_ee, design_ie.T @ (own_i - weight_ba[biosample_i, assay_i]))
    return np.clip(weight_ba + effect_e[:n_biosamples, None] + effect_e[n_biosamples:], 0, 1)
