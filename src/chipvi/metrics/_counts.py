"""The negative binomial with mean m and dispersion d, variance m + m^2 / d, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import betainc, betaincc, gammaln, ndtri, xlogy

from .._arguments import checked

_STIRLING_FROM = 16.0  # from here on the series below is exact to 1e-15
_POISSON = 1e11  # a dispersion that hardly any count distinguishes from the Poisson limit
_WALK, _UNKNOWN = 64, -1
_LEAST_Q = 1e-12  # from which a search starts
_LOG_DISPERSION = (np.log(1e-3), np.log(1e6))


@checked
def nb_nll(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> np.ndarray:
    """Negative log-likelihood of counts, in nat, entry by entry.

    Parameters
    ----------
    counts
        Counts; NaN where missing.
    mean, dispersion
        Of the negative binomial; they broadcast against `counts`. An infinite dispersion is the Poisson limit.

    Returns
    -------
    float64 of the common shape, NaN where `counts` is. Exact to about 1e-8 for means and counts up to 1e6, at any
    dispersion from 1e-3 to infinity.

    Examples
    --------
    >>> nb_nll([0, 2, np.nan], mean=1.0, dispersion=[2.0, 2.0, 2.0]).round(3)
    array([0.811, 1.91 ,   nan])
    """
    k, m = np.asarray(counts, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    d = np.minimum(np.asarray(dispersion, dtype=np.float64), 1e100)  # so that inf * 0 cannot arise
    log_up, log_down = np.log1p(k / d), np.log1p(m / d)  # of (d + k) / d and (d + m) / d
    log_probability = _log_rising(d, k, log_up) + k * (log_up - log_down) + xlogy(k, m) - gammaln(k + 1) - d * log_down
    return -log_probability


def _log_rising(d: np.ndarray, k: np.ndarray, log_up: np.ndarray) -> np.ndarray:
    """Compute log(gamma(d + k) / gamma(d)) - k log(d + k), without the cancellation of large d."""
    large = np.maximum(d, _STIRLING_FROM)
    by_stirling = (d - 0.5) * log_up - k + _stirling_rest(large + k) - _stirling_rest(large)
    small = np.minimum(d, _STIRLING_FROM)
    directly = gammaln(small + k) - gammaln(small) - k * np.log(small + k)
    return np.where(d >= _STIRLING_FROM, by_stirling, directly)


def _stirling_rest(x: np.ndarray) -> np.ndarray:
    """Compute log gamma(x) - ((x - 0.5) log x - x + 0.5 log 2 pi), for x from 16 on."""
    y = 1 / x**2
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x


@checked
def nb_quantile(q: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> np.ndarray:
    """Smallest count whose cumulative probability is at least q.

    Parameters
    ----------
    q
        Probability, from 0 up to but not including 1.
    mean, dispersion
        Of the negative binomial, 0 or more and above 0; all three broadcast against each other.

    Returns
    -------
    int64 of the common shape.

    Raises
    ------
    ValueError
        Where an argument is out of range, or NaN.

    Examples
    --------
    >>> nb_quantile([[0.025], [0.975]], mean=[0.1, 5.0, 1000.0], dispersion=10.0)
    array([[   0,    1,  477],
           [   1,   11, 1712]])
    """
    q_n, mean_n, dispersion_n = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (q, mean, dispersion)))
    shape = q_n.shape
    for name, values, allowed, broken in (
        ("q", q_n, "from 0 to below 1", ~((q_n >= 0) & (q_n < 1))),
        ("mean", mean_n, "finite and not negative", ~((mean_n >= 0) & (mean_n < np.inf))),
        ("dispersion", dispersion_n, "above 0", ~(dispersion_n > 0)),
    ):
        if broken.any():
            raise ValueError(f"{name} must be {allowed}; found {values[broken][0]}.")
    q_n, mean_n, dispersion_n = q_n.ravel(), mean_n.ravel(), np.minimum(dispersion_n.ravel(), _POISSON)
    quantile_n = np.full(len(q_n), _UNKNOWN, dtype=np.int64)
    low = np.flatnonzero(mean_n <= _WALK / 2)
    quantile_n[low] = _walk(q_n[low], mean_n[low], dispersion_n[low])
    left = np.flatnonzero(quantile_n == _UNKNOWN)
    q_n, mean_n, dispersion_n = q_n[left], mean_n[left], dispersion_n[left]
    quantile_n[left] = _search(q_n, mean_n, dispersion_n)
    return quantile_n.reshape(shape)


def _walk(q: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Add up probabilities from zero on, which is quick where counts are low; unknown where that does not suffice."""
    quantile = np.full(q.shape, _UNKNOWN, dtype=np.int64)
    left = np.arange(len(q))
    ratio = mean / (mean + dispersion)
    probability = np.exp(-dispersion * np.log1p(mean / dispersion))
    cumulative = probability.copy()
    for k in range(_WALK):
        short = cumulative < q
        quantile[left[~short]] = k
        left, q, dispersion, ratio, probability, cumulative = (
            x[short] for x in (left, q, dispersion, ratio, probability, cumulative)
        )
        probability *= (dispersion + k) / (k + 1) * ratio
        cumulative += probability
    return quantile


def _search(q: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Start from where the first four moments place it (Cornish and Fisher 1938), in steps that double, then halve."""
    std, z = np.sqrt(mean + mean**2 / dispersion), ndtri(np.clip(q, _LEAST_Q, 1 - _LEAST_Q))
    skewness, kurtosis = (1 + 2 * mean / dispersion) / std, 6 / dispersion + 1 / std**2
    by_skewness = skewness * (z**2 - 1) / 6 - skewness**2 * (2 * z**3 - 5 * z) / 36
    start = mean + std * (z + by_skewness + kurtosis * (z**3 - 3 * z) / 24)
    guess, step = np.maximum(np.round(start), 0.0), np.ones(len(q))
    too_low, enough = np.full(len(q), -1.0), np.full(len(q), np.inf)  # counts known to be so
    left = np.arange(len(q))
    while len(left):
        k, m, d = guess[left], mean[left], dispersion[left]
        cdf, many = np.empty(len(left)), m >= d  # by whichever of the two keeps its digits
        cdf[many] = betainc(d[many], k[many] + 1, (d / (m + d))[many])
        cdf[~many] = betaincc(k[~many] + 1, d[~many], (m / (m + d))[~many])
        is_enough = q[left] <= cdf
        enough[left] = np.where(is_enough, k, enough[left])
        too_low[left] = np.where(is_enough, too_low[left], k)
        left = left[enough[left] - too_low[left] > 1]
        low, high, k, by = too_low[left], enough[left], guess[left], step[left]
        moved = np.where(high == k, k - by, k + by)
        guess[left] = np.where((low < moved) & (moved < high), moved, np.floor((low + high) / 2))
        step[left] *= 2
    return enough.astype(np.int64)


@checked
def fit_dispersion(counts_rt: np.ndarray, mean_rt: np.ndarray) -> np.ndarray:
    """Dispersion of each track that makes its counts most likely, given their means.

    For predictions that come without one, so that likelihoods can be compared. NaN in either marks a missing entry.

    Returns
    -------
    float64, one per track, from 1e-3 to 1e6; NaN for a track without entries, or with reads where the mean is 0, which
    no dispersion allows.
    """
    fitted_t = np.full(counts_rt.shape[1], np.nan)
    for t in range(len(fitted_t)):
        there = ~np.isnan(counts_rt[:, t]) & ~np.isnan(mean_rt[:, t])
        counts, mean = counts_rt[there, t], mean_rt[there, t]
        if len(counts) and not ((counts > 0) & (mean == 0)).any():
            loss = lambda log_d, counts=counts, mean=mean: nb_nll(counts, mean, np.exp(log_d)).mean()  # noqa: E731
            fitted_t[t] = np.exp(minimize_scalar(loss, bounds=_LOG_DISPERSION, method="bounded").x)
    return fitted_t


@checked
def deviance_explained(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> np.ndarray:
    """Share of the deviance of each track that its predicted means explain: 1 - D(mean) / D(constant mean).

    D is the deviance of the negative binomial, twice the log-likelihood that is lost against means equal to the counts
    (McCullagh and Nelder 1989, Generalized Linear Models, sections 2.3 and 11.2). The null is the marginal: every entry
    of the track at the mean of its counts, with the same dispersion. Within a track the depth is one number, so that is
    the marginal at the depth of the track. At an infinite dispersion it is that of a Poisson.

    Parameters
    ----------
    counts, mean
        One track, or regions x tracks; an entry where either is NaN does not count.
    dispersion
        Of the negative binomial around `mean`; it broadcasts, so one per track is enough.

    Returns
    -------
    float64, one per track, at most 1; NaN for a track without entries or without variance.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> float(deviance_explained([0, 2, 7, np.nan], [1.0, 2.0, 6.0, 3.0], dispersion=2.0).round(3))
    0.675
    """
    counts, mean = np.asarray(counts, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    if counts.shape != mean.shape:
        raise ValueError(f"counts and mean must have the same shape; got {counts.shape} and {mean.shape}.")
    there = ~(np.isnan(counts) | np.isnan(mean))
    number = there.sum(axis=0)
    null = np.where(there, counts, 0).sum(axis=0) / np.where(number > 0, number, np.nan)
    counts = np.where(there, counts, np.nan)
    best = nb_nll(counts, counts, dispersion)
    lost, null_lost = (np.nansum(nb_nll(counts, m, dispersion) - best, axis=0) for m in (mean, null))
    varies = np.nanmax(np.where(there, counts, -1), axis=0) > null
    return 1 - lost / np.where(varies, null_lost, np.nan)
