"""The scores of tracks of counts under predicted distributions, intervals included."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ..metrics import NBMixture, coverage, score_tracks

LEVEL = 0.95  # of the intervals
TAIL = (1 - LEVEL) / 2
SCORES = ("r2", "pearson", "nll", "crps", "pit_deviation", "coverage", "expected_coverage")


def central_interval(counts: NBMixture) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central interval of counts with probability `LEVEL`, both within it."""
    return counts.quantile(TAIL), counts.quantile(1 - TAIL)


def score_counts(truth: pd.DataFrame, predicted: NBMixture) -> pd.DataFrame:
    """`SCORES` by track.

    Parameters
    ----------
    truth
        Counts, regions x tracks, NaN where missing.
    predicted
        Distribution of each entry.
    """
    scores = score_tracks(truth, predicted.mean).iloc[:-1]
    scores["nll"] = pd.DataFrame(predicted.nll(truth.to_numpy()), columns=truth.columns).mean()
    scores["crps"] = pd.DataFrame(predicted.crps(truth.to_numpy()), columns=truth.columns).mean()
    scores["pit_deviation"] = np.abs(predicted.pit(truth.to_numpy()) - 1).max(axis=-1)
    return scores.join(score_intervals(truth, predicted, *central_interval(predicted)))[list(SCORES)]


def score_intervals(truth: pd.DataFrame, predicted: NBMixture, lower: ArrayLike, upper: ArrayLike) -> pd.DataFrame:
    """Share of the entries of each track that lie in their intervals, and what the prediction itself expects.

    Parameters
    ----------
    truth, predicted
        As for :func:`score_counts`.
    lower, upper
        Ends of the interval of each entry, both within it.

    Returns
    -------
    `coverage` and `expected_coverage` by track.
    """
    expected = pd.DataFrame(predicted.coverage(lower, upper), index=truth.index, columns=truth.columns)
    scores = {"coverage": coverage(truth, lower, upper), "expected_coverage": expected.where(truth.notna()).mean()}
    return pd.DataFrame(scores, index=truth.columns)
