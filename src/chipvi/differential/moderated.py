"""The moderated t test of two groups of replicates: regions of one level share what they know of the spread.

Smyth GK. Linear models and empirical Bayes methods for assessing differential expression in microarray experiments.
Statistical Applications in Genetics and Molecular Biology 3:3 (2004); with a prior that follows the level, as in Law
CW et al., Genome Biology 15:R29 (2014). Bounds on the change: McCarthy DJ, Smyth GK. Testing significance relative to
a fold-change threshold is a TREAT. Bioinformatics 25:765 (2009).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma, ndtri, polygamma, stdtr, stdtrit

from .levels import mean_by_row, strata

_TAIL = 0.9  # share of the regions that say how far most of them differ
_MOST = 1e6  # degrees of freedom that stand for a variance that is known
_SMALLEST = 1e-12  # variance, of replicates that agree to the last digit


@dataclass(frozen=True, eq=False)
class Difference:
    """Two groups in each region, before anything is shared between regions.

    Parameters
    ----------
    mean_r
        Mean log2 rate of the first group less that of the second; NaN where either was not measured.
    variance_r
        Variance between replicates of one group; NaN without replicates.
    degrees_r
        Degrees of freedom of the variance, 0 without replicates.
    scale_r
        Variance of the difference in variances of one track, 1 / n1 + 1 / n2; NaN where either was not measured.
    level_r
        Mean log2 rate over both groups.
    has_single
        Whether a group is a single track, so that nothing says what its replicates would differ by.
    """

    mean_r: np.ndarray
    variance_r: np.ndarray
    degrees_r: np.ndarray
    scale_r: np.ndarray
    level_r: np.ndarray
    has_single: bool

    @classmethod
    def of(cls, log_rate_rt: np.ndarray, is_first_t: np.ndarray) -> Difference:
        """From log2 rates of all tracks, NaN where missing, and which tracks are of the first group."""
        means, squares, numbers = [], [], []
        for is_group_t in (is_first_t, ~is_first_t):
            group_rt = log_rate_rt[:, is_group_t]
            means.append(mean_by_row(group_rt))
            squares.append(np.nansum((group_rt - means[-1][:, None]) ** 2, axis=1))
            numbers.append((~np.isnan(group_rt)).sum(axis=1))
        degrees_r = np.maximum(numbers[0] - 1, 0) + np.maximum(numbers[1] - 1, 0)
        total_r = squares[0] + squares[1]
        variance_r = np.divide(total_r, degrees_r, out=np.full(len(total_r), np.nan), where=degrees_r > 0)
        scale_r = sum(np.divide(1, n_r, out=np.full(len(n_r), np.nan), where=n_r > 0) for n_r in numbers)
        has_single = bool(min(is_first_t.sum(), (~is_first_t).sum()) < 2)
        return cls(means[0] - means[1], variance_r, degrees_r, scale_r, mean_by_row(log_rate_rt), has_single)


@dataclass(frozen=True, eq=False)
class SpreadPrior:
    """What the variance between replicates is at each level, and how much it varies between regions of one level.

    Parameters
    ----------
    level_m
        Levels (log2) at which it is known, ascending.
    log_variance_m
        Log of the variance there.
    degrees
        How many degrees of freedom it is worth; infinite where regions of one level do not differ.
    bulk
        Where a group is a single track, how far most regions differ.
    """

    level_m: np.ndarray
    log_variance_m: np.ndarray
    degrees: float
    bulk: Bulk | None = None

    @classmethod
    def fit(cls, found: Difference) -> SpreadPrior:
        """Estimate it from replicates, and where a group has none, from the bulk of the regions, too."""
        has_replicates = (found.degrees_r > 0).any()
        prior = cls._from_replicates(found) if has_replicates else cls(np.zeros(1), np.log([_SMALLEST]), np.inf)
        if not found.has_single:
            return prior
        return replace(prior, bulk=Bulk.fit(prior.moderate(found), found.level_r, is_test=bool(has_replicates)))

    @classmethod
    def _from_replicates(cls, found: Difference) -> SpreadPrior:
        """By the first two moments of the log variances of many regions (Smyth 2004, section 6.2)."""
        chosen = found.degrees_r > 0
        half_r = found.degrees_r[chosen] / 2
        log_variance_r = np.log(np.maximum(found.variance_r[chosen], _SMALLEST)) - digamma(half_r) + np.log(half_r)
        level_r = found.level_r[chosen]
        parts = strata(level_r)
        mean_m = np.array([log_variance_r[rows].mean() for rows in parts])
        squares = sum(((log_variance_r[rows] - mean) ** 2).sum() for rows, mean in zip(parts, mean_m, strict=True))
        excess = squares / max(len(level_r) - len(parts), 1) - polygamma(1, half_r).mean()
        degrees = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
        shift = digamma(degrees / 2) - np.log(degrees / 2) if np.isfinite(degrees) else 0.0
        return cls(np.array([level_r[rows].mean() for rows in parts]), mean_m + shift, degrees)

    def moderate(self, found: Difference) -> ModeratedDifference:
        """The variance of each region, drawn towards that of its level."""
        prior_r = np.exp(np.interp(found.level_r, self.level_m, self.log_variance_m))
        own_r = np.where(found.degrees_r > 0, found.variance_r, 0) * found.degrees_r
        if np.isfinite(self.degrees):
            variance_r = (self.degrees * prior_r + own_r) / (self.degrees + found.degrees_r)
        else:
            variance_r = prior_r
        degrees_r = np.minimum(self.degrees + found.degrees_r, _MOST)
        moderated = ModeratedDifference(found.mean_r, np.sqrt(variance_r * found.scale_r), degrees_r)
        return moderated if self.bulk is None else self.bulk.widen(moderated, found.level_r)


@dataclass(frozen=True, eq=False)
class Bulk:
    """An empirical null: how far most regions differ, as if they did not change.

    A single track may be unlike its replicates in every region, by which the tracks of the other group say nothing. Its
    differences are those of a t distribution with their median and their tail (Efron B. Large-scale simultaneous
    hypothesis testing. Journal of the American Statistical Association 99:96, 2004), but no narrower than replicates
    say.

    Parameters
    ----------
    level_m
        Levels (log2) at which it is known, ascending.
    widening_m
        By how much errors are larger there than replicates say, 1 at least.
    degrees
        Of freedom of the t distribution; infinite for the tail of a normal one.
    """

    level_m: np.ndarray
    widening_m: np.ndarray
    degrees: float

    @classmethod
    def fit(cls, found: ModeratedDifference, level_r: np.ndarray, is_test: bool) -> Bulk:
        """Estimate it from differences and their errors, as replicates say them.

        Without any replicate it is a screen: tails are taken for normal, for what changed cannot be told from them.
        """
        rows_r = np.flatnonzero(~np.isnan(found.mean_r))
        parts = [rows_r[rows] for rows in strata(level_r[rows_r])]
        size_r = np.abs(found.mean_r) / found.error_r
        median_m = np.array([max(np.median(size_r[rows]), _SMALLEST) for rows in parts])
        shares = [size_r[rows] / median for rows, median in zip(parts, median_m, strict=True)]
        degrees = _degrees_of_tail(float(np.quantile(np.concatenate(shares), _TAIL))) if is_test else np.inf
        widening_m = np.maximum(median_m / stdtrit(min(degrees, _MOST), 0.75), 1)
        return cls(np.array([level_r[rows].mean() for rows in parts]), widening_m, degrees)

    def widen(self, found: ModeratedDifference, level_r: np.ndarray) -> ModeratedDifference:
        """Differences whose errors are those of the bulk."""
        error_r = found.error_r * np.interp(level_r, self.level_m, self.widening_m)
        return ModeratedDifference(found.mean_r, error_r, np.minimum(found.degrees_r, self.degrees))


@dataclass(frozen=True, eq=False)
class ModeratedDifference:
    """A log2 fold change by region, its standard error, and the degrees of freedom of that; NaN where not measured."""

    mean_r: np.ndarray
    error_r: np.ndarray
    degrees_r: np.ndarray

    def p_value(self, delta: float) -> np.ndarray:
        """P-value of a log2 fold change from -delta to delta."""
        tails = [stdtr(self.degrees_r, (end - np.abs(self.mean_r)) / self.error_r) for end in (delta, -delta)]
        return np.minimum(tails[0] + tails[1], 1.0)

    @property
    def normal_error_r(self) -> np.ndarray:
        """Standard error with which a normal distribution has the same p-value of no change."""
        score_r = -ndtri(np.maximum(stdtr(self.degrees_r, -np.abs(self.mean_r) / self.error_r), 1e-300))
        return np.maximum(
            np.divide(np.abs(self.mean_r), score_r, out=self.error_r.copy(), where=score_r > 0), self.error_r
        )


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(y) = value by Newton's method (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, y)
        step = trigamma * (1 - trigamma / value) / polygamma(2, y)
        y += step
        if abs(step) < 1e-10 * y:
            break
    return float(y)


def _degrees_of_tail(ratio: float) -> float:
    """Degrees of freedom of the t distribution of whose sizes nine tenths are below so many medians."""
    degrees = np.geomspace(0.5, 500, 200)
    ratios = stdtrit(degrees, (1 + _TAIL) / 2) / stdtrit(degrees, 0.75)
    return float(np.interp(ratio, ratios[::-1], degrees[::-1], left=np.inf))
