"""The nine measures of the ENCODE Imputation Challenge (Schreiber et al. 2023, Genome Biology 24:79).

As its scorer computes them (ENCODE-DCC/imputation_challenge, `score_metrics.py` and `build_var_npy.py`), on whatever
scale the signal is given; the challenge took -log10 p in bins of 25 bp. Two things differ. Missing entries (NaN) count
nowhere, whereas the scorer reads bins without data as 0. And annotations go by coordinates: after cutting out
blacklisted bins the scorer looks them up by the old bin numbers, so that all behind the first cut are shifted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from .._arguments import checked
from ._tables import _pearson, _per_track, mse, pearson, require_same_columns

_TOP = 0.01


@checked
def gwcorr(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Pearson correlation of each track over all regions; another name of :func:`pearson`."""
    return pearson(truth, prediction)


@checked
def gwspear(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Spearman correlation of each track: the Pearson correlation of ranks, where ties share their mean rank.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries, or where either has no variance.
    """
    return _per_track(lambda x, y: _pearson(rankdata(x), rankdata(y)), truth, prediction)


@checked
def mse1obs(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Mean squared error over the entries of each track with the highest 1 % of the measured signal.

    With n entries, those count that are at least as high as the int(0.01 n)-th highest. All that tie with it count,
    which for a track of mostly zeros may be every entry; so they do where there are fewer than 100.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries.

    Examples
    --------
    >>> truth, prediction = np.r_[np.zeros(198), 3.0, 4.0], np.r_[np.zeros(198), 1.0, 1.0]
    >>> float(mse1obs(truth, prediction))
    6.5
    """
    return _per_track(lambda x, y: _mse_of_top(x, y, by=x), truth, prediction)


@checked
def mse1imp(truth: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Mean squared error over the entries of each track with the highest 1 % of the imputed signal.

    As :func:`mse1obs`, but ranked by the prediction: an error here is a false peak.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track; NaN for a track without entries.
    """
    return _per_track(lambda x, y: _mse_of_top(x, y, by=y), truth, prediction)


@checked
def mseprom(truth: ArrayLike, prediction: ArrayLike, promoters: ArrayLike) -> np.ndarray:
    """Mean squared error of each track over promoters.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.
    promoters
        Which regions are in a promoter, or in how many, as :func:`count_promoters` has it. The scorer goes from gene to
        gene, so a region in two promoters counts twice.

    Returns
    -------
    float64, one per track; NaN for a track without entries there.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    return _weighted_mse(truth, prediction, promoters=promoters)


@checked
def msegene(truth: ArrayLike, prediction: ArrayLike, genes: ArrayLike) -> np.ndarray:
    """Mean squared error of each track over gene bodies.

    As :func:`mseprom`, with the number of genes that each region is in, as :func:`count_intervals` returns it.
    """
    return _weighted_mse(truth, prediction, genes=genes)


@checked
def mseenh(truth: ArrayLike, prediction: ArrayLike, enhancers: ArrayLike) -> np.ndarray:
    """Mean squared error of each track over enhancers.

    As :func:`mseprom`, with the number of enhancers that each region is in, as :func:`count_intervals` returns it.
    """
    return _weighted_mse(truth, prediction, enhancers=enhancers)


@checked
def msevar(truth: ArrayLike, prediction: ArrayLike, variance: ArrayLike) -> np.ndarray:
    """Mean squared error of each track, where a region weighs as much as its signal varies between biosamples.

    The sum of variance times squared error over the sum of the variance.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.
    variance
        Of the assay over the training biosamples, divided by their number, not by one less: one per region, or regions
        x tracks as :func:`leave_one_out_variance` gives. NaN does not count. Without it the scorer gives 0; here it
        is asked for.

    Returns
    -------
    float64, one per track; NaN for a track without entries, or without variance.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    return _weighted_mse(truth, prediction, variance=variance)


@checked
def encode_scores(
    truth: np.ndarray | pd.DataFrame,
    prediction: np.ndarray | pd.DataFrame,
    promoters: ArrayLike | None = None,
    genes: ArrayLike | None = None,
    enhancers: ArrayLike | None = None,
    variance: ArrayLike | None = None,
) -> pd.DataFrame:
    """Score signal by the measures of the ENCODE Imputation Challenge, track by track.

    Parameters
    ----------
    truth, prediction
        Regions x tracks; an entry where either is NaN does not count. The columns of a DataFrame name the tracks.
    promoters, genes, enhancers, variance
        As for :func:`mseprom`, :func:`msegene`, :func:`mseenh` and :func:`msevar`.

    Returns
    -------
    A row per track with `mse`, `gwcorr`, `gwspear`, `mse1obs`, `mse1imp`, and with `mseprom`, `msegene`, `mseenh` and
    `msevar` where what they need was given. The last row, `macro_mean`, is the mean over the tracks that have the
    score.

    Raises
    ------
    ValueError
        If shapes differ, or two DataFrames do not have the same columns.
    """
    names = require_same_columns(truth=truth, prediction=prediction)
    truth_rt, prediction_rt = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    scores = {name: score(truth_rt, prediction_rt) for name, score in _OF_ALL.items()}
    given = {"mseprom": promoters, "msegene": genes, "mseenh": enhancers, "msevar": variance}
    scores |= {name: _OF_SOME[name](truth_rt, prediction_rt, by) for name, by in given.items() if by is not None}
    table = pd.DataFrame({name: scores[name] for name in ENCODE_MEASURES if name in scores}, index=names)
    table.loc["macro_mean"] = table.mean()
    return table


ENCODE_MEASURES = ("mse", "gwcorr", "gwspear", "mseprom", "msegene", "mseenh", "msevar", "mse1obs", "mse1imp")
_OF_ALL = {"mse": mse, "gwcorr": gwcorr, "gwspear": gwspear, "mse1obs": mse1obs, "mse1imp": mse1imp}
_OF_SOME: dict[str, Callable] = {"mseprom": mseprom, "msegene": msegene, "mseenh": mseenh, "msevar": msevar}


def _mse_of_top(truth: np.ndarray, prediction: np.ndarray, by: np.ndarray) -> float:
    number = int(len(by) * _TOP)
    top = by >= np.sort(by)[-number]  # of fewer than 100 the lowest, as in the scorer, since -0 is 0
    return np.mean((truth[top] - prediction[top]) ** 2)


def _weighted_mse(truth: ArrayLike, prediction: ArrayLike, **named: ArrayLike) -> np.ndarray:
    ((name, weight),) = named.items()
    truth, prediction = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    weight = np.asarray(weight, dtype=np.float64)
    if weight.shape == truth.shape[:1] and truth.ndim == 2:
        weight = np.broadcast_to(weight[:, None], truth.shape)
    if weight.shape != truth.shape:
        raise ValueError(
            f"{name} must have a number for each of the {len(truth)} regions; its shape is {weight.shape}."
        )
    squares = np.square(truth - prediction)
    total_t = _per_track(lambda square, w: w.sum(), squares, weight)
    return _per_track(lambda square, w: square @ w, squares, weight) / np.where(total_t > 0, total_t, np.nan)
