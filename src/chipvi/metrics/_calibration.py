"""How well a negative binomial foretells counts as a whole: its mean m and dispersion d, variance m + m^2 / d."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import betainc, betaincc

from .._arguments import checked, require_whole
from ._counts import nb_nll

_MOST_BINS = 10_000  # of a histogram
_POISSON = 1e100  # stands for an infinite dispersion, so that inf * 0 cannot arise
_NEAR_POISSON = 1e5  # from here on betainc loses digits
_LOG_FACTOR = (np.log(0.01), np.log(100))
_CHUNK = 2048  # entries whose integrals are taken at once: an array of about 1 MB
_STEP = 3.5 / 40
_TAU = _STEP * np.arange(-40, 41)
_SHIFT = 2 * np.sinh(_TAU)  # nodes s of the integral, from its centre: both exponential tails end after few nodes
_WEIGHT = _STEP * 2 * np.cosh(_TAU) * np.exp(-_SHIFT) / np.pi


@checked
def nb_cdf(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> np.ndarray:
    """Probability of a count or fewer, entry by entry.

    Parameters
    ----------
    counts
        Counts; NaN where missing. Between two counts the lower one holds; below zero there is no probability.
    mean, dispersion
        Of the negative binomial, 0 or more and above 0; all three broadcast against each other. An infinite dispersion
        is the Poisson limit.

    Returns
    -------
    float64 of the common shape, from 0 to 1, NaN where any argument is. Exact to about 1e-10 at any dispersion from
    1e-6 to infinity; `scipy.stats.nbinom` loses digits from 1e4 on.

    Examples
    --------
    >>> nb_cdf([-1, 0, 2, np.nan], mean=1.0, dispersion=2.0).round(3)
    array([0.   , 0.444, 0.889,   nan])
    """
    count_n, m_n, d_n = _broadcast(counts, mean, dispersion)
    beyond_n, total_n = np.maximum(np.floor(count_n), 0) + 1, m_n + d_n
    many = m_n >= d_n
    near = ~many & (d_n > _NEAR_POISSON)
    rest = ~many & ~near
    # a regularised incomplete beta function, by the smaller of the two success chances, which keeps its digits
    cdf = np.empty(count_n.shape)
    cdf[many] = betainc(d_n[many], beyond_n[many], (d_n / total_n)[many])
    cdf[rest] = 1 - betainc(beyond_n[rest], d_n[rest], (m_n / total_n)[rest])
    cdf[near] = betaincc(beyond_n[near], d_n[near], (m_n / total_n)[near])  # slower, and with more digits
    cdf[count_n < 0] = 0
    return cdf


@checked
def nb_crps(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> np.ndarray:
    """Continuous ranked probability score, in reads, entry by entry; lower is better.

    The sum over k of (P(X <= k) - [count <= k])^2, which is E|X - count| - E|X - X'| / 2 for independent X and X' of
    the negative binomial (Gneiting and Raftery 2007, JASA 102:359). Without spread it is the absolute error.

    Parameters
    ----------
    counts
        Counts; NaN where missing.
    mean, dispersion
        Of the negative binomial; all three broadcast against each other. An infinite dispersion is the Poisson limit.

    Returns
    -------
    float64 of the common shape, 0 or more, NaN where any argument is. Exact to about 1e-9 of the mean plus the
    count for means up to 1e6, at any dispersion from 1e-3 to infinity.

    Examples
    --------
    >>> nb_crps([0, 2, np.nan], mean=1.0, dispersion=2.0).round(3)
    array([0.391, 0.761,   nan])
    """
    count_n, mean_n, dispersion_n = _broadcast(counts, mean, dispersion)
    crps = np.full(count_n.shape, np.nan)
    there = ~np.isnan(count_n)
    k, m, d = count_n[there], mean_n[there], dispersion_n[there]
    # E|X - k| = m - k + 2 (k P(X <= k) - E[X; X <= k]), and k P(X = k) sums to m (P(X <= k) - (1 + k / d) P(X = k))
    distance = (k - m) * (2 * nb_cdf(k, m, d) - 1) + 2 * m * (1 + k / d) * np.exp(-nb_nll(k, m, d))
    for start in range(0, len(k), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        distance[chunk] -= _mean_difference(m[chunk], d[chunk]) / 2
    crps[there] = np.maximum(distance, 0)  # which rounding may have passed
    return crps


def _mean_difference(mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Compute E|X - X'|, for one-dimensional arrays.

    From |n| = integral over t from 0 to pi of (1 - cos n t) / (1 - cos t) / pi follows E|X - X'|, with the squared
    characteristic function of X in place of cos n t: (1 + 4 v / d sin^2(t / 2))^-d, where v is the variance. With
    tan(t / 2) = e^s it is the integral of (1 - that) e^-s / pi over all s, smooth and with exponential tails, for which
    the trapezoid rule on s = centre + 2 sinh(tau) needs few nodes.
    """
    variance = mean * (1 + mean / dispersion)
    scale = 1 + 4 * variance / np.minimum(dispersion, 1)  # e^(-2 centre), where the integrand is largest
    sine_squared = 1 / (1 + scale[:, None] * np.exp(-2 * _SHIFT))
    log_square = -dispersion[:, None] * np.log1p(4 * (variance / dispersion)[:, None] * sine_squared)
    return -np.expm1(log_square) @ _WEIGHT * np.sqrt(scale)


class CrpsSplit(NamedTuple):
    """Result of :func:`crps_split`; each float64, one per track, NaN for a track without entries.

    Parameters
    ----------
    factor
        That all means of the track would have to be multiplied by.
    scale
        CRPS that this would save, in reads per entry, 0 or more.
    rest
        CRPS that would be left, in reads per entry.
    """

    factor: np.ndarray
    scale: np.ndarray
    rest: np.ndarray


@checked
def crps_split(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> CrpsSplit:
    """Part the CRPS of each track into what a wrong scale costs, and the rest.

    The rest is the lowest mean CRPS that multiplying all means of the track by one factor from 0.01 to 100 can reach,
    with the dispersion kept, so that the spread grows with the mean; the scale error is the mean CRPS less the rest.
    The factor is chosen on the counts that are scored, to 0.1 %: this separates errors, and corrects none. The
    definition is ours, in the manner of scores parted into miscalibration and the rest (Broecker 2009, QJRMS
    135:1512), with the one recalibration that an error in depth calls for.

    Parameters
    ----------
    counts, mean
        One track, or regions x tracks; an entry where either is NaN does not count.
    dispersion
        Of the negative binomial around `mean`; it broadcasts, so one per track is enough.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> split = crps_split([0, 6, 14, np.nan], mean=[1.0, 3.0, 7.0, 9.0], dispersion=50.0)
    >>> [float(part.round(2)) for part in split]
    [1.94, 1.77, 0.92]
    """
    counts, mean = _one_shape(counts=counts, mean=mean)
    dispersion = np.broadcast_to(np.asarray(dispersion, dtype=np.float64), counts.shape)
    if counts.ndim == 2:
        tracks = zip(counts.T, mean.T, dispersion.T, strict=True)
        return CrpsSplit(*np.array([crps_split(*track) for track in tracks]).reshape(-1, 3).T)
    there = ~(np.isnan(counts) | np.isnan(mean) | np.isnan(dispersion))
    if not there.any():
        return CrpsSplit(*np.full(3, np.nan))
    k, m, d = counts[there], mean[there], dispersion[there]
    loss = lambda log_factor: nb_crps(k, np.exp(log_factor) * m, d).mean()  # noqa: E731
    found = minimize_scalar(loss, bounds=_LOG_FACTOR, method="bounded", options={"xatol": 1e-3})
    whole = loss(0.0)
    factor, rest = (np.exp(found.x), found.fun) if found.fun < whole else (1.0, whole)
    return CrpsSplit(*np.array([factor, whole - rest, rest]))


@checked
def nb_pit(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike, n_bins: int = 10) -> np.ndarray:
    """Histogram of the probability integral transform, which is flat where predictions are calibrated.

    It has the shape of a U where they claim too little spread, of a hill where they claim too much. Without random
    numbers: the probability of each count is spread evenly from P(X < count) to P(X <= count) (Czado, Gneiting and Held
    2009, Biometrics 65:1254).

    Parameters
    ----------
    counts, mean
        One track, or regions x tracks; an entry where either is NaN does not count.
    dispersion
        Of the negative binomial around `mean`; it broadcasts, so one per track is enough. May be infinite.
    n_bins
        Number of bars, of equal width from 0 to 1.

    Returns
    -------
    float64, tracks x bars, or the bars of the one track: heights of mean 1. NaN for a track without entries.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> nb_pit([0, 2, np.nan], mean=[1.0, 1.0, 1.0], dispersion=2.0, n_bins=4).round(3)
    array([1.125, 0.875, 0.125, 1.875])
    """
    require_whole("n_bins", n_bins, least=1, most=_MOST_BINS)
    counts, mean = _one_shape(counts=counts, mean=mean)
    dispersion = np.broadcast_to(np.asarray(dispersion, dtype=np.float64), counts.shape)
    return pit_histogram(nb_cdf(counts - 1, mean, dispersion), nb_cdf(counts, mean, dispersion), n_bins)


def pit_histogram(below: np.ndarray, upto: np.ndarray, n_bins: int) -> np.ndarray:
    """As :func:`nb_pit`, of any distribution, from the probabilities of less than each count and of it or less."""
    width, missing = upto - below, np.isnan(upto)
    wide = width > 0  # elsewhere all of the probability lies at one point
    cumulative = [np.zeros(upto.shape[1:])]
    for edge in np.arange(1, n_bins + 1) / n_bins:
        share = np.where(wide, np.clip(edge - below, 0, width) / np.where(wide, width, 1), edge >= below)
        cumulative.append(_mean_over_regions(np.where(missing, np.nan, share)))
    return np.diff(cumulative, axis=0).T * n_bins


@checked
def coverage(counts: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """Share of the entries of each track from lower to upper, both included.

    An interval of whole counts holds more than it was asked for: compare with the mean of :func:`nb_coverage`.

    Parameters
    ----------
    counts, lower, upper
        One track, or regions x tracks; an entry where any is NaN does not count.

    Returns
    -------
    float64, one per track, from 0 to 1; NaN for a track without entries.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> float(coverage([0, 3, 9, np.nan], lower=[0, 1, 2, 0], upper=[2, 3, 8, 9]).round(3))
    0.667
    """
    counts, lower, upper = _one_shape(counts=counts, lower=lower, upper=upper)
    missing = np.isnan(counts) | np.isnan(lower) | np.isnan(upper)
    return _mean_over_regions(np.where(missing, np.nan, (lower <= counts) & (counts <= upper)))


@checked
def nb_coverage(mean: ArrayLike, dispersion: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> np.ndarray:
    """Probability of a count from lower to upper, both included, entry by entry.

    Its mean over entries is the :func:`coverage` to expect of calibrated predictions.

    Parameters
    ----------
    mean, dispersion
        Of the negative binomial. An infinite dispersion is the Poisson limit.
    lower, upper
        Ends of the interval; all four broadcast against each other.

    Returns
    -------
    float64 of the common shape, from 0 to 1, NaN where any argument is.

    Examples
    --------
    >>> nb_coverage(mean=[0.1, 5.0, 1000.0], dispersion=10.0, lower=[0, 1, 477], upper=[1, 11, 1712]).round(3)
    array([0.995, 0.961, 0.95 ])
    """
    up_to = nb_cdf(upper, mean, dispersion)
    return np.maximum(up_to - nb_cdf(np.ceil(lower) - 1, mean, dispersion), 0)


def _broadcast(counts: ArrayLike, mean: ArrayLike, dispersion: ArrayLike) -> tuple[np.ndarray, ...]:
    dispersion = np.minimum(np.asarray(dispersion, dtype=np.float64), _POISSON)
    return np.broadcast_arrays(np.asarray(counts, np.float64), np.asarray(mean, np.float64), dispersion)


def _one_shape(**named: ArrayLike) -> list[np.ndarray]:
    arrays = [np.asarray(values, dtype=np.float64) for values in named.values()]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1:
        raise ValueError(f"{' and '.join(named)} must have the same shape; got {' and '.join(map(str, shapes))}.")
    if arrays[0].ndim not in (1, 2):
        raise ValueError(f"{' and '.join(named)} must be one track, or regions x tracks; got {arrays[0].ndim} axes.")
    return arrays


def _mean_over_regions(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    number = there.sum(axis=0)
    return np.where(there, values, 0).sum(axis=0) / np.where(number > 0, number, np.nan)
