"""Draws of the latent, and the mixture of negative binomials that counts follow, states and draws averaged."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import ndtri
from torch import Tensor

from ..metrics import NBMixture
from ..nn import NegativeBinomial


def mix_counts(
    mean: ArrayLike, dispersion: ArrayLike, shape_p: ArrayLike = (), log_mean_factor: float = 0, log_factor: float = 0
) -> NBMixture:
    """Distribution of counts as a mixture of its states.

    Parameters
    ----------
    mean, dispersion, shape_p
        Of :meth:`chipvi.nn.NegativeBinomial.with_shape`.
    log_mean_factor, log_factor
        Logs of the factors by which to multiply mean and dispersions.
    """
    numbers = (torch.as_tensor(x, dtype=torch.float64) for x in (mean, dispersion, shape_p))
    counts = NegativeBinomial.with_shape(*numbers)
    if log_mean_factor or log_factor:
        counts = counts.scaled(*(torch.tensor(x, dtype=torch.float64) for x in (log_mean_factor, log_factor)))
    return NBMixture(*(x.cpu().numpy() for x in counts.components))


def mix_draws(mean_s: Tensor, dispersion_s: Tensor, shape_sp: Tensor) -> NBMixture:
    """The same, with draws in the first axis, which weigh the same."""
    mixture = mix_counts(mean_s, dispersion_s, shape_sp)
    log_weight_m, mean_m, dispersion_m = (
        x.reshape(-1, *x.shape[2:]) for x in (mixture.log_weight_m, mixture.mean_m, mixture.dispersion_m)
    )
    return NBMixture(log_weight_m - np.log(len(mean_s)), mean_m, dispersion_m)


def latent_noise(n_samples: int | None, n_latent: int) -> np.ndarray:
    """Standard normal numbers, draws x latents, float32; always the same. None gives one draw of zeros.

    A Latin hypercube: in each latent every draw has its own of `n_samples` equally likely intervals, so that few draws,
    shared by all regions, have about the right mean and spread.

    >>> latent_noise(None, 2)
    array([[0., 0.]], dtype=float32)
    >>> (latent_noise(4, n_latent=3) > 0).sum(axis=0)
    array([2, 2, 2])
    """
    if n_samples is None:
        return np.zeros((1, n_latent), dtype=np.float32)
    random = np.random.default_rng(0)
    interval_ks = random.permuted(np.tile(np.arange(n_samples), (n_latent, 1)), axis=1)
    return ndtri((interval_ks.T + random.random((n_samples, n_latent))) / n_samples).astype(np.float32)


def tails(level: float) -> tuple[float, float]:
    """Probabilities at the ends of the central interval of that level.

    >>> tails(0.5)
    (0.25, 0.75)
    """
    tail = (1 - level) / 2
    return tail, 1 - tail
