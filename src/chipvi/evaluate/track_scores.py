"""The scores of tracks of counts under negative binomials, intervals included."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ..metrics import coverage, nb_coverage, nb_quantile, score_tracks

LEVEL = 0.95  # of the intervals
TAIL = (1 - LEVEL) / 2
SCORES = ("r2", "pearson", "nll", "crps", "pit_deviation", "coverage", "expected_coverage")


def central_interval(mean: ArrayLike, dispersion: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central interval of counts with probability `LEVEL`, both within it."""
    lower, upper = (nb_quantile(q, mean, dispersion) for q in (TAIL, 1 - TAIL))
    return lower, upper


def score_counts(truth: pd.DataFrame, mean: pd.DataFrame, dispersion: pd.DataFrame) -> pd.DataFrame:
    """`SCORES` by track.

    Parameters
    ----------
    truth
        Counts, regions x tracks, NaN where missing.
    mean, dispersion
        Of the negative binomial of each entry.
    """
    scores = score_tracks(truth, mean, dispersion).iloc[:-1]
    lower, upper = central_interval(mean, dispersion)
    return scores.join(score_intervals(truth, mean, dispersion, lower, upper))[list(SCORES)]


def score_intervals(
    truth: pd.DataFrame, mean: pd.DataFrame, dispersion: pd.DataFrame, lower: ArrayLike, upper: ArrayLike
) -> pd.DataFrame:
    """Share of the entries of each track that lie in their intervals, and what the prediction itself expects.

    Parameters
    ----------
    truth, mean, dispersion
        As for :func:`score_counts`.
    lower, upper
        Ends of the interval of each entry, both within it.

    Returns
    -------
    `coverage` and `expected_coverage` by track.
    """
    expected = pd.DataFrame(nb_coverage(mean, dispersion, lower, upper), columns=truth.columns)
    scores = {"coverage": coverage(truth, lower, upper), "expected_coverage": expected.where(truth.notna()).mean()}
    return pd.DataFrame(scores, index=truth.columns)
