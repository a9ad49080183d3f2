"""Predictions without a model, to put beside those of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d


def leave_one_out_average(
    rate_rt: np.ndarray, observed_rt: np.ndarray, biosample_t: ArrayLike, assay_t: ArrayLike
) -> np.ndarray:
    """Mean of the same assay over the other biosamples, region by region.

    Parameters
    ----------
    rate_rt
        What to average, on a scale that tracks share: counts over depth, or signal. Missing entries are not looked at.
    observed_rt
        Where a track was measured, bool or 0 and 1.
    biosample_t, assay_t
        What each track is.

    Returns
    -------
    float64, NaN where no other biosample was measured.

    Examples
    --------
    >>> rate_rt = np.array([[1.0, 3.0, 8.0], [2.0, np.nan, 9.0]])
    >>> leave_one_out_average(rate_rt, ~np.isnan(rate_rt), ["K562", "H1", "liver"], ["DNase", "DNase", "DNase"])
    array([[5.5, 4.5, 2. ],
           [9. , 5.5, 2. ]])
    """
    biosample_t, assay_t = np.asarray(biosample_t), np.asarray(assay_t)
    observed_rt = np.asarray(observed_rt, dtype=bool)
    uses_tt = (assay_t[:, None] == assay_t) & (biosample_t[:, None] != biosample_t)
    weight_tt = uses_tt.T.astype(np.float64)
    total_rt = np.where(observed_rt, rate_rt, 0.0) @ weight_tt
    number_rt = observed_rt @ weight_tt
    return total_rt / np.where(number_rt > 0, number_rt, np.nan)


def gaussian_smoothing(counts_rt: np.ndarray, offsets: np.ndarray, width: float) -> np.ndarray:
    """Counts smoothed along the genome, each segment by itself.

    Parameters
    ----------
    counts_rt
        Counts; NaN where missing. Missing entries, and what lies beyond the ends of a segment, weigh nothing.
    offsets
        Row at which each segment begins, and the number of regions at the end.
    width
        Standard deviation of the Gaussian, in regions; it ends at four of them.

    Returns
    -------
    float64, also where counts are missing; NaN where none is in reach.

    Examples
    --------
    >>> gaussian_smoothing(np.array([[0.0], [4.0], [0.0], [7.0]]), offsets=np.array([0, 3, 4]), width=1).round(2)
    array([[1.39],
           [1.81],
           [1.39],
           [7.  ]])
    """
    counts_rt = np.asarray(counts_rt, dtype=np.float64)
    smooth_rt = np.empty_like(counts_rt)
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        there = ~np.isnan(counts_rt[start:stop])
        total = gaussian_filter1d(np.where(there, counts_rt[start:stop], 0), width, axis=0, mode="constant")
        weight = gaussian_filter1d(there.astype(np.float64), width, axis=0, mode="constant")
        smooth_rt[start:stop] = total / np.where(weight > 0, weight, np.nan)
    return smooth_rt
