"""What to expect of experiments that training never saw: learnt from imputing measured ones as if they were such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from ..data.grid import Layout, has_data
from ..data.splits import spread
from ..data.track_data import TrackData
from ..data.tracks import parse_targets
from ..metrics import nb_nll
from ..module.vae import ChipVAE
from ..predict.predictor import Predictor, log_depths

_MOST_REGIONS = 8_192
_LEAST_CURVE = 0.01  # below, the average and the network say the same
_PRIOR_TRIALS = 0.5  # that speak for no difference between assays, and between biosamples
_LARGEST_LOG_FACTOR = 3.0


@dataclass(frozen=True, eq=False)
class Trial:
    """A measured track, and what a model that has not seen it makes of it.

    Parameters
    ----------
    biosample, assay
        Indices of its cell of the grid.
    is_signal
        Whether these are its signal, not its counts.
    measured_r, network_r, average_r
        The data, the mean that the network gives, and the average of the other biosamples; float64.
    spread_r
        Dispersion of the counts, or standard deviation of the signal, that the network gives.
    """

    biosample: int
    assay: int
    is_signal: bool
    measured_r: np.ndarray
    network_r: np.ndarray
    average_r: np.ndarray
    spread_r: np.ndarray

    @cached_property
    def slope_and_curve(self) -> tuple[float, float]:
        """With a share s of the average, the squared error falls by 2 s slope - s² curve, in variances of the track."""
        apart_r, variance = self.average_r - self.network_r, self.measured_r.var()
        slope = np.mean((self.measured_r - self.network_r) * apart_r) / variance
        return float(slope), float(np.mean(apart_r**2) / variance)

    def fit_log_factor(self, share: float) -> float:
        """Log of the factor of the spread that makes the data most likely, given the share of the average."""
        mean_r = self.network_r + share * (self.average_r - self.network_r)
        if self.is_signal:
            return float(0.5 * np.log(np.mean(((self.measured_r - mean_r) / self.spread_r) ** 2)))

        def loss(log_factor: float) -> float:
            return float(nb_nll(self.measured_r, mean_r, self.spread_r * np.exp(log_factor)).mean())

        return float(minimize_scalar(loss, bounds=(-_LARGEST_LOG_FACTOR, _LARGEST_LOG_FACTOR), method="bounded").x)


def try_tracks(
    module: ChipVAE, layout: Layout, seen: TrackData, data: TrackData, columns: np.ndarray, rows: np.ndarray
) -> list[Trial]:
    """Impute tracks without their own data, in blocks of the rows.

    Parameters
    ----------
    module, layout
        To whom the cells of these tracks are not known, and its grid.
    seen, data
        What to impute from, and what to compare with.
    columns, rows
        Tracks and ascending rows.
    """
    rows = spread(rows, _MOST_REGIONS)
    targets = parse_targets([data.tracks.names[t] for t in columns], data.tracks)
    log_depth_t = module.log_depth_t.double().cpu().numpy()
    log_depth_n = log_depths(module, data)[columns]
    network, average = Predictor(module, layout, seen, targets, log_depth_t, log_depth_n).impute_apart(rows)
    block = data.read_rows(rows)
    views = [(False, "mean", "dispersion", block.counts_rt, block.counted_rt)]
    if block.signal_rt is not None and block.signalled_rt is not None:
        views += [(True, "signal", "signal_std", block.signal_rt, block.signalled_rt)]
    trials = []
    for is_signal, mean, width, value_rt, there_rt in views:
        for n, t in enumerate(columns if mean in network else []):
            there = there_rt[:, t]
            measured_r = value_rt[there, t].astype(np.float64)
            if there.any() and measured_r.var() > 0:
                entries = (network[mean][there, n], average[mean][there, n], network[width][there, n])
                cell = (int(layout.biosample_t[t]), int(layout.assay_t[t]))
                trials.append(Trial(*cell, is_signal, measured_r, *entries))
    return trials


def learn_from_given(module: ChipVAE, layout: Layout, data: TrackData, n_biosamples: int, n_assays: int) -> None:
    """Tell a module what to expect of new biosamples, each from its own tracks if they are two or more, in place.

    Parameters
    ----------
    module, layout, data
        Of a query.
    n_biosamples, n_assays
        How many biosamples and assays, the first ones, the module was trained on.
    """
    is_given_t = layout.is_target_t & (layout.assay_t < n_assays) & has_data(data)
    for b in range(n_biosamples, len(layout.biosamples)):
        columns = np.flatnonzero(is_given_t & (layout.biosample_t == b))
        if len(columns) >= 2:  # each is imputed from the others
            trials = try_tracks(module, layout, data, data, columns, np.arange(data.n_regions))
            if trials:
                default_ba = module.unseen_share_ba.double().cpu().numpy()
                learn(module, trials, pool_shares(trials, default_ba, n_default=2), np.array([b]))


@torch.no_grad()
def learn(module: ChipVAE, trials: Sequence[Trial], share_ba: np.ndarray, biosamples: np.ndarray) -> None:
    """Tell a module what to expect of the cells that it has not seen, in place.

    Parameters
    ----------
    module
        To tell.
    trials
        From which the factor of the spread is taken, by maximum likelihood in each and as their mean.
    share_ba
        Share of the average of the other biosamples in the mean of each cell.
    biosamples
        Rows of the grid to tell it of.
    """
    device = module.unseen_share_ba.device
    module.unseen_share_ba[biosamples] = torch.as_tensor(share_ba[biosamples], dtype=torch.float32, device=device)
    is_told_ba = torch.zeros_like(module.known_ba)
    is_told_ba[biosamples] = True
    for is_signal, name in ((False, "log_dispersion_factor_ba"), (True, "log_std_factor_ba")):
        found = [t.fit_log_factor(share_ba[t.biosample, t.assay]) for t in trials if t.is_signal == is_signal]
        if found:
            getattr(module, name)[is_told_ba & ~module.known_ba] = float(np.mean(found))


def pool_shares(trials: Sequence[Trial], default_ba: np.ndarray, n_default: int) -> np.ndarray:
    """Share of the average in the mean of each cell, 0 to 1: the default, moved by as much everywhere.

    At the cells of the trials it is on average the share with which these have the least squared error, together with
    typical ones that say the default.

    Parameters
    ----------
    trials
        At least one.
    default_ba
        Shares without any trial.
    n_default
        Number of trials that the default counts for.
    """
    slopes, curves = np.array([trial.slope_and_curve for trial in trials]).T
    typical = n_default * curves.mean()
    if typical < _LEAST_CURVE:
        return default_ba
    default = np.mean([default_ba[trial.biosample, trial.assay] for trial in trials])
    return np.clip(default_ba + (slopes.sum() + default * typical) / (curves.sum() + typical) - default, 0, 1)


def choose_shares(trials: Sequence[Trial], default_ba: np.ndarray) -> np.ndarray:
    """Shares as :func:`pool_shares` has them, and for each assay and biosample as different as its own trials say.

    The differences are random effects, found by ridge regression.
    """
    share_ba = pool_shares(trials, default_ba, n_default=1)
    tells = [trial for trial in trials if trial.slope_and_curve[1] >= _LEAST_CURVE]
    own_i = np.clip([slope / curve for slope, curve in (trial.slope_and_curve for trial in tells)], 0, 1)
    biosample_i, assay_i = ([getattr(trial, name) for trial in tells] for name in ("biosample", "assay"))
    n_biosamples, n_assays = default_ba.shape
    design_ie = np.hstack([np.eye(n_biosamples)[biosample_i], np.eye(n_assays)[assay_i]])
    precision_ee = design_ie.T @ design_ie + _PRIOR_TRIALS * np.eye(n_biosamples + n_assays)
    effect_e = np.linalg.solve(precision_ee, design_ie.T @ (own_i - share_ba[biosample_i, assay_i]))
    return np.clip(share_ba + effect_e[:n_biosamples, None] + effect_e[n_biosamples:], 0, 1)
