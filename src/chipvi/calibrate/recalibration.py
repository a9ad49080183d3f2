"""The first step after training: by how much imputed means and spreads of each track are off, and its correction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from ..data.grid import Grid
from ..data.splits import MOST_RECALIBRATED, draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..module.vae import ChipVAE
from ..predict.predictor import impute_measured
from ..predict.quantiles import mix_counts

_FEWEST_HELD_OUT = 2_000  # below, the regions of training are the better guide
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
    is_held_out = len(held_out) >= _FEWEST_HELD_OUT
    rows = draw_blocks(held_out if is_held_out else trained, MOST_RECALIBRATED)
    for view in module.views:
        view.calibration.reset()
    for track in impute_measured(module, grid, data, rows):
        if track.kind is ViewKind.COUNTS:
            level, log_spread = fit_factors(track.measured_r, track.mean_r, track.spread_r, track.shape_rp)
        else:
            level, log_spread = fit_shift(track.measured_r, track.mean_r, track.spread_r)
        cell = (int(grid.biosample_t[track.column]), int(grid.assay_t[track.column]))
        module.view(track.kind).calibration.set(cell, level, log_spread if is_held_out else None)


def fit_factors(
    counts: np.ndarray, mean: np.ndarray, dispersion: np.ndarray, shape_rp: ArrayLike = ()
) -> tuple[float, float]:
    """Logs of the factors of mean and dispersion under which the counts are most likely, with a weak prior at 0.

    Parameters
    ----------
    counts
        Of a track.
    mean, dispersion, shape_rp
        Their distribution, see :meth:`chipvi.nn.NegativeBinomial.with_shape`.

    >>> random = np.random.default_rng(0)
    >>> counts = random.negative_binomial(3, 0.5, 20_000)  # mean 3, dispersion 3
    >>> log_factors = fit_factors(counts, mean=np.full(20_000, 6.0), dispersion=np.full(20_000, 1.5))
    >>> bool(np.allclose(np.exp(log_factors), [0.5, 2.0], rtol=0.1))
    True
    """

    def loss(log_factors: np.ndarray) -> float:
        nll = mix_counts(mean, dispersion, shape_rp, *log_factors).nll(counts).mean()
        return float(nll + 0.5 * np.square(log_factors / _PRIOR).sum() / len(counts))

    log_mean_factor, log_dispersion_factor = minimize(loss, np.zeros(2), bounds=[(-3.0, 3.0)] * 2).x
    return float(log_mean_factor), float(log_dispersion_factor)


def fit_shift(signal: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple[float, float]:
    """Shift of the mean and log of the factor of the standard deviation under which the signal is most likely."""
    weight = 1 / std**2
    shift = np.sum(weight * (signal - mean)) / np.sum(weight)
    variance = np.mean(weight * (signal - mean - shift) ** 2)
    return float(shift), float(np.clip(0.5 * np.log(variance), -3.0, 3.0))
