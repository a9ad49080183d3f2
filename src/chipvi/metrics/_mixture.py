"""Mixtures of negative binomials: what counts follow where a state, or the latent, is not known for sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from ._calibration import nb_cdf, nb_crps, pit_histogram
from ._counts import nb_nll, nb_quantile

_CHUNK = 2048  # entries whose integrals are taken at once
_POISSON = 1e9  # a dispersion that no count distinguishes from an infinite one
_STEP = 3.5 / 70
_TAU = _STEP * np.arange(-70, 71)[:, None]
_NODES, _WEIGHTS = 2 * np.sinh(_TAU), _STEP * 2 * np.cosh(_TAU) / np.pi


@dataclass(frozen=True, eq=False)
class NBMixture:
    """Mixtures of negative binomials, entry by entry; with one component, the negative binomials themselves.

    Parameters
    ----------
    log_weight_m
        Log of the weight of each component, which stand in the first axis; the weights of an entry sum to 1.
    mean_m, dispersion_m
        Of each component, variance = mean + mean^2 / dispersion. All three have one shape, float64.

    Examples
    --------
    >>> mixture = NBMixture(np.log([[0.9], [0.1]]), np.array([[1.0], [30.0]]), np.array([[5.0], [5.0]]))
    >>> mixture.mean, mixture.quantile(0.95), mixture.cdf(4.0).round(3)
    (array([3.9]), array([30]), array([0.897]))
    """

    log_weight_m: np.ndarray
    mean_m: np.ndarray
    dispersion_m: np.ndarray

    @classmethod
    def single(cls, mean: ArrayLike, dispersion: ArrayLike) -> NBMixture:
        """The negative binomials with this mean and dispersion, which broadcast."""
        mean, dispersion = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(dispersion, np.float64))
        return cls(np.zeros((1, *mean.shape)), mean[None], dispersion[None])

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, ArrayLike]) -> NBMixture:
        """What :meth:`chipvi.ChipVI.get_likelihood_parameters` returns, as a whole distribution."""
        named = {name: np.asarray(values, dtype=np.float64) for name, values in parameters.items()}
        if "peak_probs" not in named:
            return cls.single(named["mean"], named["dispersions"])
        means, dispersions = (named["background_mean"], named["peak_mean"]), (named["state_dispersions"],) * 2
        with np.errstate(divide="ignore"):
            log_weight_m = np.stack([np.log1p(-named["peak_probs"]), np.log(named["peak_probs"])])
        return cls(log_weight_m, np.stack(means), np.stack(dispersions))

    def __getitem__(self, entries: slice | np.ndarray) -> NBMixture:
        """Those of some entries: a slice, or an index or a mask of the axes after the first."""
        return NBMixture(*(x[:, entries] for x in (self.log_weight_m, self.mean_m, self.dispersion_m)))

    @property
    def mean(self) -> np.ndarray:
        """Mean of each entry."""
        return self._average(self.mean_m)

    def nll(self, counts: ArrayLike) -> np.ndarray:
        """Negative log-likelihood of counts in nat, NaN where they are; see :func:`nb_nll`."""
        nll_m = nb_nll(counts, self.mean_m, self.dispersion_m)
        return nll_m[0] if len(nll_m) == 1 else -logsumexp(self.log_weight_m - nll_m, axis=0)

    def cdf(self, counts: ArrayLike) -> np.ndarray:
        """Probability of a count or fewer, NaN where counts are; see :func:`nb_cdf`."""
        return self._average(nb_cdf(counts, self.mean_m, self.dispersion_m))

    def quantile(self, q: float) -> np.ndarray:
        """Smallest count up to which there is a probability of at least q, from 0 to below 1; int64."""
        quantile_m = nb_quantile(q, self.mean_m, self.dispersion_m)
        lower, upper = quantile_m.min(axis=0), quantile_m.max(axis=0)  # the answer is neither below all nor above all
        while (unclear := lower < upper).any():
            middle = (lower[unclear] + upper[unclear]) // 2
            is_enough = self[unclear].cdf(middle) >= q
            upper[unclear] = np.where(is_enough, middle, upper[unclear])
            lower[unclear] = np.where(is_enough, lower[unclear], middle + 1)
        return lower

    def crps(self, counts: ArrayLike) -> np.ndarray:
        """Continuous ranked probability score in reads, NaN where counts are; see :func:`nb_crps`.

        The average of the scores of the components, less what these are apart: half of both weights times the energy
        distance, over all pairs. To about 1e-8 of the mean plus the count.
        """
        score = self._average(nb_crps(counts, self.mean_m, self.dispersion_m))
        for i, j in combinations(range(len(self.mean_m)), 2):
            weight = np.exp(self.log_weight_m[i] + self.log_weight_m[j])
            components = (x.ravel() for k in (i, j) for x in (self.mean_m[k], self.dispersion_m[k]))
            score = score - weight * _energy_distance(*components).reshape(weight.shape) / 2
        return np.maximum(score, 0)  # which rounding may have passed

    def pit(self, counts: ArrayLike, n_bins: int = 10) -> np.ndarray:
        """Histogram of the probability integral transform of each track; see :func:`nb_pit`."""
        counts = np.asarray(counts, dtype=np.float64)
        return pit_histogram(self.cdf(counts - 1), self.cdf(counts), n_bins)

    def coverage(self, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
        """Probability of a count from lower to upper, both included; see :func:`nb_coverage`."""
        return np.maximum(self.cdf(upper) - self.cdf(np.ceil(lower) - 1), 0)

    def _average(self, value_m: np.ndarray) -> np.ndarray:
        return value_m[0] if len(value_m) == 1 else (np.exp(self.log_weight_m) * value_m).sum(axis=0)


def _energy_distance(
    mean: np.ndarray, dispersion: np.ndarray, other_mean: np.ndarray, other_dispersion: np.ndarray
) -> np.ndarray:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of negative binomials X and Y, for one-dimensional arrays.

    The integral of the squared distance between the characteristic functions (Szekely and Rizzo 2013, J. Stat. Plan.
    Inference 143:1249), by the substitution of :func:`chipvi.metrics.nb_crps`.
    """
    distance = np.empty(mean.shape)
    for start in range(0, len(mean), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pair = [
            (m[chunk], np.minimum(d[chunk], _POISSON)) for m, d in ((mean, dispersion), (other_mean, other_dispersion))
        ]
        scale = 1 + 4 * np.maximum(*((m * (1 + m / d) + m**2) / np.minimum(d, 1) for m, d in pair))
        rising = np.exp(-2 * _NODES) * scale
        sine_squared = 1 / (1 + rising)  # of half of the angle
        sine = 2 * sine_squared * np.sqrt(rising)
        one, other = (_characteristic(m, d, sine_squared, sine) for m, d in pair)
        distance[chunk] = (np.square(np.abs(one - other)) * _WEIGHTS * np.exp(-_NODES)).sum(axis=0) * np.sqrt(scale)
    return distance


def _characteristic(mean: np.ndarray, dispersion: np.ndarray, sine_squared: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """E[exp(i t X)] = (1 + mean / dispersion (1 - exp(i t)))^-dispersion, by sin^2(t / 2) and sin(t)."""
    ratio = mean / dispersion
    real, imaginary = 2 * ratio * sine_squared, -ratio * sine
    log_modulus = 0.5 * np.log1p(real * (2 + real) + imaginary**2)
    return np.exp(-dispersion * (log_modulus + 1j * np.arctan2(imaginary, 1 + real)))
