"""The moderated t test of two groups of replicates: regions of one level share what they know of the spread.

Smyth GK. Linear models and empirical Bayes methods for assessing differential expression in microarray experiments.
Statistical Applications in Genetics and Molecular Biology 3:3 (2004); with a prior that follows the level, as in Law
CW et al., Genome Biology 15:R29 (2014). Bounds on the change: McCarthy DJ, Smyth GK. Testing significance relative to
a fold-change threshold is a TREAT. Bioinformatics 25:765 (2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, ndtri, polygamma, stdtr

from .levels import mean_by_row, strata

_MEDIAN = ndtri(0.75) ** 2  # of the chi-square distribution with one degree of freedom
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
    """

    mean_r: np.ndarray
    variance_r: np.ndarray
    degrees_r: np.ndarray
    scale_r: np.ndarray
    level_r: np.ndarray

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
        return cls(means[0] - means[1], variance_r, degrees_r, scale_r, mean_by_row(log_rate_rt))


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
    """

    level_m: np.ndarray
    log_variance_m: np.ndarray
    degrees: float

    @classmethod
    def fit(cls, found: Difference) -> SpreadPrior:
        """Estimate it from the log variances of many regions, by their first two moments (Smyth 2004, section 6.2)."""
        chosen = found.degrees_r > 0
        if not chosen.any():
            return cls._from_bulk(found)
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

    @classmethod
    def _from_bulk(cls, found: Difference) -> SpreadPrior:
        """Without replicates: as if most regions did not change, so that their differences are what chance makes."""
        rows_r = np.flatnonzero(~np.isnan(found.mean_r))
        parts = [rows_r[rows] for rows in strata(found.level_r[rows_r])]
        square_r = found.mean_r**2 / found.scale_r
        variance_m = [max(np.median(square_r[rows]) / _MEDIAN, _SMALLEST) for rows in parts]
        return cls(np.array([found.level_r[rows].mean() for rows in parts]), np.log(variance_m), np.inf)

    def moderate(self, found: Difference) -> ModeratedDifference:
        """The variance of each region, drawn towards that of its level."""
        prior_r = np.exp(np.interp(found.level_r, self.level_m, self.log_variance_m))
        own_r = np.where(found.degrees_r > 0, found.variance_r, 0) * found.degrees_r
        if np.isfinite(self.degrees):
            variance_r = (self.degrees * prior_r + own_r) / (self.degrees + found.degrees_r)
        else:
            variance_r = prior_r
        degrees_r = np.minimum(self.degrees + found.degrees_r, _MOST)
        return ModeratedDifference(found.mean_r, np.sqrt(variance_r * found.scale_r), degrees_r)


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
