"""How well predictions put regions in order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._arguments import checked
from ._calibration import _one_shape
from ._tables import _per_track


class Concordance(NamedTuple):
    """Result of :func:`c_index`.

    Parameters
    ----------
    c_index
        float64, one per track, from 0 to 1: 0.5 is chance. NaN where no two entries differ in truth.
    standard_error
        float64, one per track.
    """

    c_index: np.ndarray
    standard_error: np.ndarray


@checked
def c_index(truth: ArrayLike, prediction: ArrayLike) -> Concordance:
    """Share of the pairs of entries with different truth that the prediction puts in the same order; ties count half.

    It is exact, over all pairs. The standard error is that of a ratio of U-statistics, linearised (Sen 1960, Calcutta
    Statistical Association Bulletin 10:1): with a_i of the b_i pairs of entry i concordant, the index is c = sum of
    a_i / sum of b_i, and its standard error is 2 sqrt(sum of (a_i - c b_i)^2) / sum of b_i. Where the truth has two
    values, c is the area under the ROC curve and this its standard error of DeLong et al. 1988 (Biometrics 44:837), but
    for n in place of n - 1 in its two variances. It takes entries as independent; neighbouring regions are not, so it
    is too low for them.

    Parameters
    ----------
    truth, prediction
        One track, or regions x tracks; an entry where either is NaN does not count.

    Examples
    --------
    >>> found = c_index([0, 1, 2, 5], [0.1, 0.4, 0.3, 0.3])
    >>> float(found.c_index), round(float(found.standard_error), 3)
    (0.5833333333333334, 0.25)
    """
    truth, prediction = _one_shape(truth=truth, prediction=prediction)
    if truth.ndim == 2:
        tracks = zip(truth.T, prediction.T, strict=True)
        return Concordance(*np.array([c_index(*track) for track in tracks]).reshape(-1, 2).T)
    there = ~(np.isnan(truth) | np.isnan(prediction))
    return Concordance(*np.array(_concordance(truth[there], prediction[there])))


@checked
def auprc(peaks: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Area under the precision-recall curve of each track: average precision.

    The sum over thresholds of the precision times the gain in recall, without interpolation between them (Davis and
    Goadrich 2006, ICML, on why not). Entries with equal predictions pass a threshold together. Chance is the share of
    peaks.

    Parameters
    ----------
    peaks
        One track, or regions x tracks: which regions are peaks, bool or 0 and 1.
    prediction
        Of the same shape, higher where a peak is more likely; an entry where either is NaN does not count.

    Returns
    -------
    float64, one per track, from 0 to 1; NaN for a track without peaks.

    Examples
    --------
    >>> float(auprc([True, False, True, False], [4.0, 3.0, 2.0, 1.0]).round(3))
    0.833
    """
    return _per_track(_average_precision, np.asarray(peaks, dtype=np.float64), prediction)


def _average_precision(peaks: np.ndarray, prediction: np.ndarray) -> float:
    order = np.argsort(-prediction, kind="stable")
    last_of_ties = np.append(np.diff(prediction[order]) != 0, True)
    true_n = np.cumsum(peaks[order])[last_of_ties]
    called_n = np.flatnonzero(last_of_ties) + 1
    return np.sum(true_n / called_n * np.diff(true_n, prepend=0)) / true_n[-1] if true_n[-1] else np.nan


def _concordance(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """C-index of one track and its standard error."""
    pairs_n = len(truth) - _number_equal(truth)
    if not pairs_n.any():
        return np.nan, np.nan
    ties_n = _number_equal(prediction) - _number_equal(truth, prediction)
    right_n = _number_below(truth, prediction) + _number_below(-truth, -prediction) + ties_n / 2
    c = right_n.sum() / pairs_n.sum()
    return c, 2 * np.sqrt(np.sum((right_n - c * pairs_n) ** 2)) / pairs_n.sum()


def _number_equal(*values: np.ndarray) -> np.ndarray:
    """For each entry, number of entries with the same values, itself included."""
    code = np.zeros(len(values[0]), dtype=np.int64)
    for value in values:
        distinct, rank = np.unique(value, return_inverse=True)
        code = code * len(distinct) + rank
    _, group, number = np.unique(code, return_inverse=True, return_counts=True)
    return number[group]


def _number_below(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each entry, number of entries with both lower x and lower y, in O(n log^2 n).

    The rank of a lower y is the same in its highest bits, then has a 0 for a 1. So for each bit, among entries with the
    same higher bits in the order of x, the zeros are counted that come before.
    """
    rank = np.unique(y, return_inverse=True)[1]
    order = np.argsort(x, kind="stable")
    number = np.zeros(len(x), dtype=np.int64)
    for bit in reversed(range(int(rank.max()).bit_length())):
        order = order[np.argsort(rank[order] >> (bit + 1), kind="stable")]
        higher, is_zero = rank[order] >> (bit + 1), (rank[order] >> bit) & 1 == 0
        zeros_before = np.append(0, np.cumsum(is_zero))
        new_group = np.diff(higher, prepend=-1) != 0
        new_x = new_group | (np.diff(x[order], prepend=np.nan) != 0)
        before = zeros_before[_first_of_run(new_x)] - zeros_before[_first_of_run(new_group)]
        number[order] += np.where(is_zero, 0, before)
    return number


def _first_of_run(begins: np.ndarray) -> np.ndarray:
    """For each entry, where its run begins."""
    return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
