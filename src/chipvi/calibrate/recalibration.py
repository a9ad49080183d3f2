"""The first step after training: by how much imputed means and spreads of each track are off, and its correction."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from ..data.context import count_at_window_bin
from ..data.grid import Grid
from ..data.splits import MOST_RECALIBRATED, draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..metrics import nb_nll
from ..module.vae import ChipVAE
from ..predict.predictor import impute_measured

_FEWEST_HELD_OUT = 2_000  # of 200 bp at least; below, the regions of training are the better guide
_PRIOR = 0.5  # standard deviation of the log factors: a track with hardly a read stays as it is


def recalibrate(module: ChipVAE, grid: Grid, data: TrackData, trained: np.ndarray, held_out: np.ndarray) -> None:
    """Give a trained module the corrections under which imputation is most likely, in place.

    Training predicts with dropout and a noisy latent, prediction does without, and so comes out less certain than it
    may be, and some percent too high. Each track is imputed without its own data on the held-out regions, or where
    these are few on those of training. Then, for counts, a factor of the mean and one of the dispersion are set to
    their maximum of likelihood; for signal, a shift and a factor of the standard deviation. Regions of training
    flatter the model, so that the spread is not fitted to them.

    Parameters
    ----------
    module, grid
        Trained, and its grid.
    data
        What it was trained on.
    trained, held_out
        Ascending rows that it was trained on, and rows that it was not.
    """
    bin_width = data.segments.bin_width
    is_held_out = count_at_window_bin(len(held_out), bin_width) >= _FEWEST_HELD_OUT
    rows = draw_blocks(held_out if is_held_out else trained, MOST_RECALIBRATED, bin_width=bin_width)
    for view in module.views:
        view.calibration.reset()
    for track in impute_measured(module, grid, data, rows):
        fit = fit_factors if track.kind is ViewKind.COUNTS else fit_shift
        level, log_spread = fit(track.measured_r, track.mean_r, track.spread_r)
        cell = (int(grid.biosample_t[track.column]), int(grid.assay_t[track.column]))
        module.view(track.kind).calibration.set(cell, level, log_spread if is_held_out else None)


def fit_factors(counts: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> tuple[float, float]:
    """Logs of the factors of mean and dispersion under which the counts are most likely, with a weak prior at 0.

    >>> random = np.random.default_rng(0)
    >>> counts = random.negative_binomial(3, 0.5, 20_000)  # mean 3, dispersion 3
    >>> log_factors = fit_factors(counts, mean=np.full(20_000, 6.0), dispersion=np.full(20_000, 1.5))
    >>> bool(np.allclose(np.exp(log_factors), [0.5, 2.0], rtol=0.1))
    True
    """

    def loss(log_factors: np.ndarray) -> float:
        mean_factor, dispersion_factor = np.exp(log_factors)
        nll = nb_nll(counts, mean * mean_factor, dispersion * dispersion_factor).mean()
        return float(nll + 0.5 * np.square(log_factors / _PRIOR).sum() / len(counts))

    log_mean_factor, log_dispersion_factor = minimize(loss, np.zeros(2), bounds=[(-3.0, 3.0)] * 2).x
    return float(log_mean_factor), float(log_dispersion_factor)


def fit_shift(signal: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple[float, float]:
    """Shift of the mean and log of the factor of the standard deviation under which the signal is most likely."""
    weight = 1 / std**2
    shift = np.sum(weight * (signal - mean)) / np.sum(weight)
    variance = np.mean(weight * (signal - mean - shift) ** 2)
    return float(shift), float(np.clip(0.5 * np.log(variance), -3.0, 3.0))
