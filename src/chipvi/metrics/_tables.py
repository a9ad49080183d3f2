"""Scores per track, over the entries that are there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._arguments import checked
from ._calibration import nb_crps, nb_pit
from ._counts import nb_nll


@checked
def r2(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Share of the variance of each track that is explained, 1 - squared error / squared deviation from the mean.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries or without variance.

    Examples
    --------
    >>> float(r2([1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 2.0, 5.0]))
    0.5
    """
    return _per_track(_r2, truth, prediction)


@checked
def r2_arcsinh(counts: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """R2 of each track on the scale of arcsinh, on which no single peak decides; see :func:`r2`.

    Parameters
    ----------
    counts, prediction
        Reads, one track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries or without variance.
    """
    return _per_track(_r2, np.arcsinh(counts), np.arcsinh(prediction))


@checked
def pearson(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Pearson correlation of each track.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries, or where either has no variance.
    """
    return _per_track(_pearson, truth, prediction)


@checked
def mse(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Mean squared error of each track.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries.
    """
    return _per_track(_mse, truth, prediction)


@checked
def score_tracks(
    truth: np.ndarray | pd.DataFrame,
    prediction: np.ndarray | pd.DataFrame,
    dispersion: np.ndarray | pd.DataFrame | None = None,
    observed: np.ndarray | pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score predictions track by track, and their mean over tracks.

    Parameters
    ----------
    truth, prediction
        Regions x tracks; an entry where either is NaN does not count. The columns of a DataFrame name the tracks.
    dispersion
        Of the negative binomial around `prediction`, for the scores of a distribution of counts; it broadcasts, so one
        per track is enough.
    observed
        Where the truth was measured, bool or 0 and 1; elsewhere it is not looked at.

    Returns
    -------
    A row per track with `r2`, `pearson`, `mse` and, given a dispersion, `nll` (nat per entry, :func:`nb_nll`), `crps`
    (reads per entry, :func:`nb_crps`) and `pit_deviation`, the largest distance from 1 of the ten bars of
    :func:`nb_pit`: 0 where calibrated, at most 9. The last row, `macro_mean`, is the mean over the tracks that have
    the score.

    Raises
    ------
    ValueError
        If shapes differ, or two DataFrames do not have the same columns.
    """
    names = require_same_columns(truth=truth, prediction=prediction, dispersion=dispersion, observed=observed)
    truth_rt, prediction_rt = np.array(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if observed is not None:
        truth_rt[~np.asarray(observed, dtype=bool)] = np.nan
    scores = {"r2": r2(truth_rt, prediction_rt), "pearson": pearson(truth_rt, prediction_rt)}
    scores["mse"] = mse(truth_rt, prediction_rt)
    if dispersion is not None:
        negative_binomial = prediction_rt, np.asarray(dispersion, dtype=np.float64)
        for name, score in (("nll", nb_nll), ("crps", nb_crps)):
            score_rt = score(truth_rt, *negative_binomial)
            scores[name] = _per_track(lambda values, _: values.mean(), score_rt, score_rt)
        scores["pit_deviation"] = np.abs(nb_pit(truth_rt, *negative_binomial) - 1).max(axis=-1)
    table = pd.DataFrame(scores, index=names)
    table.loc["macro_mean"] = table.mean()
    return table


def require_same_columns(**tables: object) -> pd.Index | None:
    """Columns of the DataFrames among the tables, which must be the same; None if there is none.

    Raises
    ------
    ValueError
        If they are not.
    """
    columns = [table.columns for table in tables.values() if isinstance(table, pd.DataFrame)]
    if not all(other.equals(columns[0]) for other in columns[1:]):
        *first, last = tables
        raise ValueError(f"{', '.join(first)} and {last} must have the same columns, in one order.")
    return columns[0] if columns else None


def _per_track(score: Callable[[np.ndarray, np.ndarray], float], truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction must have the same shape; got {truth.shape} and {prediction.shape}.")
    if truth.ndim == 2:
        return np.array([_per_track(score, *pair) for pair in zip(truth.T, prediction.T, strict=True)], np.float64)
    truth, prediction = truth.astype(np.float64), prediction.astype(np.float64)
    there = ~(np.isnan(truth) | np.isnan(prediction))
    return np.float64(score(truth[there], prediction[there]) if there.any() else np.nan)  # type: ignore[return-value]


def _r2(truth: np.ndarray, prediction: np.ndarray) -> float:
    if np.ptp(truth) == 0:
        return np.nan
    return 1 - np.sum((truth - prediction) ** 2) / np.sum((truth - truth.mean()) ** 2)


def _pearson(truth: np.ndarray, prediction: np.ndarray) -> float:
    if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        return np.nan
    x, y = truth - truth.mean(), prediction - prediction.mean()
    return x @ y / np.sqrt((x @ x) * (y @ y))


def _mse(truth: np.ndarray, prediction: np.ndarray) -> float:
    return np.mean((truth - prediction) ** 2)
