"""Draws of the latent, and quantiles of the mixture of negative binomials that counts follow once it is integrated."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from ..metrics import nb_cdf, nb_quantile


def nb_mixture_quantile(q: float, mean_s: np.ndarray, dispersion_s: np.ndarray) -> np.ndarray:
    """Smallest count whose probability up to there, averaged over draws, is at least q.

    Parameters
    ----------
    q
        Probability, from 0 up to but not including 1.
    mean_s, dispersion_s
        Of the negative binomials, equal shapes; the first axis is that of the draws, which weigh the same.

    Returns
    -------
    int64, of the shape without the first axis. With one draw it is :func:`chipvi.metrics.nb_quantile`.

    Examples
    --------
    >>> nb_mixture_quantile(0.9, np.array([[2.0, 1.0], [2.0, 30.0]]), np.array([[5.0, 5.0], [5.0, 5.0]]))
    array([ 4, 41])
    """
    quantile_s = nb_quantile(q, mean_s, dispersion_s)
    lower, upper = quantile_s.min(axis=0), quantile_s.max(axis=0)  # the answer is neither below all nor above all
    while (unclear := lower < upper).any():
        middle = (lower[unclear] + upper[unclear]) // 2
        is_enough = nb_cdf(middle, mean_s[:, unclear], dispersion_s[:, unclear]).mean(axis=0) >= q
        upper[unclear] = np.where(is_enough, middle, upper[unclear])
        lower[unclear] = np.where(is_enough, lower[unclear], middle + 1)
    return lower


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
