"""How large changes are over all regions, and with that the probability that a region changed.

Stephens M. False discovery rates: a new deal. Biostatistics 18:275 (2017): changes are drawn from a mixture of normal
distributions about 0, one of them a point, whose weights are those of the largest likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from .moderated import ModeratedDifference

_RATIO = np.sqrt(2)  # of the standard deviations of neighbouring components
_PENALTY = 10  # regions that count as unchanged beside those at hand, so that doubt speaks for no change
_ITERATIONS = 200
_MOST_REGIONS = 20_000


@dataclass(frozen=True, eq=False)
class ChangePrior:
    """A mixture of normal distributions about 0.

    Parameters
    ----------
    spread_j
        Standard deviation of each component (log2), ascending from 0.
    weight_j
        Their weights; sum to 1.
    """

    spread_j: np.ndarray
    weight_j: np.ndarray

    @classmethod
    def fit(cls, found: ModeratedDifference) -> ChangePrior:
        """Estimate the weights by expectation maximisation."""
        rows = np.flatnonzero(~np.isnan(found.mean_r))
        rows = rows[:: max(1, len(rows) // _MOST_REGIONS)]
        mean_r, error_r = found.mean_r[rows], found.normal_error_r[rows]
        least = error_r.min() / 10
        most = max(2 * np.sqrt(np.max(mean_r**2 - error_r**2)) if (mean_r**2 > error_r**2).any() else 0, 8 * least)
        n_steps = int(np.ceil(np.log(most / least) / np.log(_RATIO)))
        spread_j = np.r_[0, most * _RATIO ** -np.arange(n_steps, -1, -1.0)]
        density_rj = _density(mean_r, error_r, spread_j)
        weight_j = np.full(len(spread_j), 1 / len(spread_j))
        for _ in range(_ITERATIONS):
            member_rj = density_rj * weight_j
            weight_j = (member_rj / member_rj.sum(axis=1, keepdims=True)).sum(axis=0)
            weight_j[0] += _PENALTY
            weight_j /= weight_j.sum()
        return cls(spread_j, weight_j)

    def probability_beyond(self, found: ModeratedDifference, bound: float) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities that the log2 fold change is below -bound, and above bound; NaN where not measured."""
        error_r = found.normal_error_r
        member_rj = _density(found.mean_r, error_r, self.spread_j) * self.weight_j
        member_rj /= member_rj.sum(axis=1, keepdims=True)
        below_r, above_r = np.zeros_like(error_r), np.zeros_like(error_r)
        for spread, member_r in zip(self.spread_j[1:], member_rj[:, 1:].T, strict=True):
            kept_r = spread**2 / (spread**2 + error_r**2)
            mean_r, sd_r = kept_r * found.mean_r, np.sqrt(kept_r) * error_r
            below_r += member_r * ndtr((-bound - mean_r) / sd_r)
            above_r += member_r * ndtr((mean_r - bound) / sd_r)
        is_missing_r = np.isnan(found.mean_r)
        return np.where(is_missing_r, np.nan, below_r), np.where(is_missing_r, np.nan, above_r)


def _density(mean_r: np.ndarray, error_r: np.ndarray, spread_j: np.ndarray) -> np.ndarray:
    """Density of the estimates under each component, up to a factor of the region."""
    log_density_rj = -0.5 * np.log(error_r[:, None] ** 2 + spread_j**2)
    log_density_rj -= 0.5 * mean_r[:, None] ** 2 / (error_r[:, None] ** 2 + spread_j**2)
    return np.exp(log_density_rj - log_density_rj.max(axis=1, keepdims=True))
