"""The last step of training: by how much the imputed means and spreads of each track are off, taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.optimize import minimize

from ..data.grid import Layout
from ..data.splits import spread
from ..data.track_data import TrackData
from ..data.tracks import parse_targets
from ..metrics import nb_nll
from ..module.vae import CALIBRATION, ChipVAE
from ..predict.predictor import Predictor

_Fit: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float]]

_MOST_REGIONS = 32_768
_FEWEST_HELD_OUT = 2_000  # below, the regions of training tell more
_PRIOR = 0.5  # standard deviation of the log factors: a track with hardly a read stays as it is


def recalibrate(module: ChipVAE, layout: Layout, data: TrackData, trained: np.ndarray, held_out: np.ndarray) -> None:
    """Give a trained module the factors by which imputation is most likely, in place.

    Training predicts with dropout and a noisy latent, prediction does without, and so comes out less certain than it
    may be, and some percent too high. Each track is imputed without its own data on the held-out regions, or where
    these are few on those of training. Then, for counts, a factor of the mean and one of the dispersion are set to
    their maximum of likelihood; for signal, a shift and a factor of the standard deviation. Regions of training
    flatter the model, so that nothing that they say of the spread is taken.

    Parameters
    ----------
    module, layout
        Trained, and its grid.
    data
        What it was trained on.
    trained, held_out
        Ascending rows that it was trained on, and rows that it was not.
    """
    is_held_out = len(held_out) >= _FEWEST_HELD_OUT
    rows = spread(held_out if is_held_out else trained, _MOST_REGIONS)
    targets = parse_targets(None, data.tracks)
    log_depth_t = module.log_depth_t.double().cpu().numpy()
    for name in CALIBRATION:
        getattr(module, name).zero_()
    predictor = Predictor(module, layout, data, targets, log_depth_t, log_depth_t[targets.columns])
    predicted = predictor.impute(rows)
    block = data.read_rows(rows)
    views: list[tuple[str, str, np.ndarray, np.ndarray, _Fit, tuple[str, ...]]] = []
    views += [("mean", "dispersion", block.counts_rt, block.counted_rt, fit_factors, CALIBRATION[:2])]
    if block.signal_rt is not None and block.signalled_rt is not None:
        views += [("signal", "signal_std", block.signal_rt, block.signalled_rt, fit_shift, CALIBRATION[2:])]
    for mean, spread_name, value_rt, there_rt, fit, names in views:
        for n, t in enumerate(targets.columns if mean in predicted else []):
            there = there_rt[:, t]
            if there.any():
                found = fit(value_rt[there, t], predicted[mean][there, n], predicted[spread_name][there, n])
                for name, value in zip(names, found if is_held_out else found[:1], strict=False):
                    getattr(module, name)[layout.biosample_t[t], layout.assay_t[t]] = value


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
