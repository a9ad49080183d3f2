"""The moderated t test of two groups of replicates: regions of one level share what they know of the spread.

Smyth GK. Linear models and empirical Bayes methods for assessing differential expression in microarray experiments.
Statistical Applications in Genetics and Molecular Biology 3:3 (2004); with a prior that follows the level, as in Law
CW et al., Genome Biology 15:R29 (2014), and groups that vary by unlike amounts, as in Liu R et al., Nucleic Acids
Research 43:e97 (2015). Residual variances are those of all groups with replicates, the two compared ones or not. Bounds
on the change: McCarthy DJ, Smyth GK. Testing significance relative to a fold-change threshold is a TREAT.
Bioinformatics 25:765 (2009).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma, ndtri, polygamma, stdtr, stdtrit

from .levels import mean_by_row, strata

_TAIL = 0.9  # share of the regions that say how far most of them differ
_MOST = 1e6  # degrees of freedom that stand for a variance that is known
_SMALLEST = 1e-12  # variance, of replicates that agree to the last digit
_CONFIDENCE = 0.95  # that a biosample without replicates varies no more than is assumed
FEWEST = 3  # variances of biosamples from which that of another is foreseen
_LOWEST = 0.1  # variance of a biosample, in means of its group: estimates of small ones may be negative


@dataclass(frozen=True, eq=False)
class Replicates:
    """The biosamples of one group in each region.

    Parameters
    ----------
    mean_r
        Mean log2 rate; NaN where none was measured.
    squares_r
        Sum of squared departures from it.
    number_r
        How many were measured.
    """

    mean_r: np.ndarray
    squares_r: np.ndarray
    number_r: np.ndarray

    @classmethod
    def of(cls, log_rate_rt: np.ndarray) -> Replicates:
        """From log2 rates, NaN where missing."""
        mean_r = mean_by_row(log_rate_rt)
        squares_r = np.nansum((log_rate_rt - mean_r[:, None]) ** 2, axis=1)
        return cls(mean_r, squares_r, (~np.isnan(log_rate_rt)).sum(axis=1))

    @property
    def degrees_r(self) -> np.ndarray:
        """Degrees of freedom of the squares."""
        return np.maximum(self.number_r - 1, 0)


@dataclass(frozen=True, eq=False)
class Difference:
    """Two groups in each region, before anything is shared between regions, and others that have replicates.

    Parameters
    ----------
    groups
        The two that are compared, then the others.
    level_r
        Mean log2 rate over the two.
    """

    groups: tuple[Replicates, ...]
    level_r: np.ndarray

    @classmethod
    def of(cls, log_rate_rt: np.ndarray, group_t: np.ndarray) -> Difference:
        """From log2 rates of all tracks, NaN where missing, and the group of each: 0, 1, and 2 or more for others."""
        groups = tuple(Replicates.of(log_rate_rt[:, group_t == g]) for g in range(group_t.max() + 1))
        return cls(groups, mean_by_row(log_rate_rt[:, group_t < 2]))

    @property
    def mean_r(self) -> np.ndarray:
        """Mean log2 rate of the first group less that of the second; NaN where either was not measured."""
        return self.groups[0].mean_r - self.groups[1].mean_r


@dataclass(frozen=True, eq=False)
class LevelVariance:
    """A variance that follows the level.

    Parameters
    ----------
    level_m
        Levels (log2) at which it is known, ascending.
    log_variance_m
        Its log there.
    """

    level_m: np.ndarray
    log_variance_m: np.ndarray

    @classmethod
    def fit(cls, level_r: np.ndarray, log_variance_r: np.ndarray) -> tuple[LevelVariance, float]:
        """The mean of log variances at each level, and the variance about it."""
        parts = strata(level_r)
        mean_m = np.array([log_variance_r[rows].mean() for rows in parts])
        squares = sum(((log_variance_r[rows] - mean) ** 2).sum() for rows, mean in zip(parts, mean_m, strict=True))
        found = cls(np.array([level_r[rows].mean() for rows in parts]), mean_m)
        return found, squares / max(len(level_r) - len(parts), 1)

    def at(self, level_r: np.ndarray) -> np.ndarray:
        """The variance at some levels."""
        return np.exp(np.interp(level_r, self.level_m, self.log_variance_m))


@dataclass(frozen=True, eq=False)
class Unevenness:
    """By how much more the biosamples of one group vary than those of another.

    Parameters
    ----------
    factor_g
        Mean variance of the biosamples of each group, in geometric means over all of them. For a group without
        replicates, what its factor is below with a probability of 95 %, as far as those of others say; 1 where these
        are fewer than three.
    is_foreseen
        Whether they are three or more.
    """

    factor_g: np.ndarray
    is_foreseen: bool

    @classmethod
    def fit(cls, log_rate_rt: np.ndarray, group_t: np.ndarray, usual: LevelVariance) -> Unevenness:
        """From log2 rates of all tracks, the group of each, and the variance that is usual at each level.

        Logs of the variances of biosamples are taken for normal, and the next is foreseen from them, with Student's t.
        A pair of replicates has one variance between them, whose log scatters half as much.
        """
        variances = [_variances(log_rate_rt[:, group_t == g], usual) for g in range(group_t.max() + 1)]
        known = [np.log(one_t[:1] if len(one_t) == 2 else one_t) for one_t in variances]
        weight_n = np.concatenate([np.full(len(log_t), 2.0 if len(log_t) == 1 else 1.0) for log_t in known])
        log_n = np.concatenate(known)
        centre, most = (np.average(log_n, weights=weight_n) if len(log_n) else 0.0), 1.0
        if is_foreseen := len(log_n) >= FEWEST:
            variance = (weight_n * (log_n - centre) ** 2).sum() / (len(log_n) - 1)
            error = np.sqrt(variance * (1 + 1 / weight_n.sum()))
            most = float(np.exp(stdtrit(len(log_n) - 1, _CONFIDENCE) * error))
        factors = [one_t.mean() / np.exp(centre) if len(one_t) else most for one_t in variances]
        return cls(np.array(factors), is_foreseen)


def _variances(log_rate_rt: np.ndarray, usual: LevelVariance) -> np.ndarray:
    """Variance of each replicate, in what is usual at a region's level; none where there is no region that all have.

    What one departs by from the mean of n has the variance v (1 - 2 / n) + V / n^2, v its own and V the sum of all
    (Grubbs FE. Journal of the American Statistical Association 43:243, 1948). Two depart alike.
    """
    n_tracks, rows = log_rate_rt.shape[1], ~np.isnan(log_rate_rt).any(axis=1)
    if n_tracks < 2 or not rows.any():
        return np.zeros(0)
    mean_r = log_rate_rt[rows].mean(axis=1)
    square_t = ((log_rate_rt[rows] - mean_r[:, None]) ** 2 / usual.at(mean_r)[:, None]).mean(axis=0)
    total = max(square_t.sum() * n_tracks / (n_tracks - 1), _SMALLEST)
    if n_tracks == 2:
        return np.full(2, total / 2)
    own_t = (square_t - total / n_tracks**2) * n_tracks / (n_tracks - 2)
    return np.maximum(own_t, _LOWEST * total / n_tracks)


@dataclass(frozen=True, eq=False)
class SpreadPrior:
    """What the variance between replicates is at each level, and how much it varies between regions of one level.

    Parameters
    ----------
    usual
        Variance between replicates at the level of a group, in geometric means over the levels.
    factor_g
        Variance of each group in geometric means over biosamples.
    region
        Variance of a region in both, by the level of the two compared.
    degrees
        How many degrees of freedom it is worth; infinite where regions of one level do not differ.
    has_single
        Whether a compared group has no replicates.
    bulk
        How far most regions differ, where it has none, and too few others say by how much they would differ.
    """

    usual: LevelVariance
    factor_g: np.ndarray
    region: LevelVariance
    degrees: float
    has_single: bool
    bulk: Bulk | None = None

    @classmethod
    def fit(cls, log_rate_rt: np.ndarray, group_t: np.ndarray) -> SpreadPrior:
        """Estimate it from the log2 rates of all groups, in the order of :meth:`Difference.of`."""
        found = Difference.of(log_rate_rt, group_t)
        has_replicates = [bool((one.degrees_r > 0).any()) for one in found.groups]
        has_single = not all(has_replicates[:2])
        if any(has_replicates):
            usual = _usual(found)
            uneven = Unevenness.fit(log_rate_rt, group_t, usual)
            prior = cls(usual, uneven.factor_g, _CONSTANT, np.inf, has_single)._of_regions(found)
            if uneven.is_foreseen or not has_single:
                return prior
        else:
            nothing = LevelVariance(np.zeros(1), np.log([_SMALLEST]))
            prior = cls(nothing, np.ones(len(found.groups)), _CONSTANT, np.inf, has_single)
        return replace(prior, bulk=Bulk.fit(prior.moderate(found), found.level_r, is_test=any(has_replicates)))

    def _of_regions(self, found: Difference) -> SpreadPrior:
        """By the first two moments of the log variances of many regions (Smyth 2004, section 6.2)."""
        squares_r, degrees_r = self._pooled(found)
        rows = (degrees_r > 0) & ~np.isnan(found.level_r)
        region, scatter = LevelVariance.fit(found.level_r[rows], _log_variance(squares_r[rows], degrees_r[rows]))
        excess = scatter - polygamma(1, degrees_r[rows] / 2).mean()
        degrees = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
        shift = digamma(degrees / 2) - np.log(degrees / 2) if np.isfinite(degrees) else 0.0
        return replace(self, region=LevelVariance(region.level_m, region.log_variance_m + shift), degrees=degrees)

    def _pooled(self, found: Difference) -> tuple[np.ndarray, np.ndarray]:
        """Squares of all groups, in what is usual for each, and their degrees of freedom."""
        squares_r, degrees_r = np.zeros(len(found.level_r)), np.zeros(len(found.level_r))
        for one, factor in zip(found.groups, self.factor_g, strict=True):
            squares_r += np.where(one.degrees_r > 0, one.squares_r / (factor * self.usual.at(one.mean_r)), 0)
            degrees_r += one.degrees_r
        return squares_r, degrees_r

    def moderate(self, found: Difference) -> ModeratedDifference:
        """The variance of each region, drawn towards that of its level.

        Where a group has no replicates, those of others are not counted as degrees of freedom: its variance may depart
        from theirs in any region, by as much as regions do.
        """
        squares_r, own_r = self._pooled(found)
        variance_r = self.region.at(found.level_r)
        if np.isfinite(self.degrees):
            variance_r = (self.degrees * variance_r + squares_r) / (self.degrees + own_r)
        scale_r = np.zeros(len(variance_r))
        for one, factor in zip(found.groups[:2], self.factor_g[:2], strict=True):
            scale_r += np.divide(factor, one.number_r, out=np.full(len(scale_r), np.nan), where=one.number_r > 0)
        error_r = np.sqrt(variance_r * self.usual.at(found.level_r) * scale_r)
        degrees_r = np.minimum(self.degrees + (0 if self.has_single else own_r), _MOST)
        moderated = ModeratedDifference(found.mean_r, error_r, np.broadcast_to(degrees_r, error_r.shape))
        return moderated if self.bulk is None else self.bulk.widen(moderated, found.level_r)


_CONSTANT = LevelVariance(np.zeros(1), np.zeros(1))


def _usual(found: Difference) -> LevelVariance:
    """Variance between replicates by the level of their group, in what is usual in it."""
    levels, logs = [], []
    for one in found.groups:
        if (rows := one.degrees_r > 0).any():
            log_variance_r = _log_variance(one.squares_r[rows], one.degrees_r[rows])
            levels.append(one.mean_r[rows])
            logs.append(log_variance_r - log_variance_r.mean())
    return LevelVariance.fit(np.concatenate(levels), np.concatenate(logs))[0]


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

        Without any replicate it is a screen: tails are taken for normal, for what changed cannot be distinguished from
        them.
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


def _log_variance(squares_r: np.ndarray, degrees_r: np.ndarray) -> np.ndarray:
    """Logs of variances whose expectation is that of the true ones."""
    log_variance_r = np.log(np.maximum(squares_r / degrees_r, _SMALLEST))
    return log_variance_r - digamma(degrees_r / 2) + np.log(degrees_r / 2)


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
