"""Predictions without a model, to put beside those of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from .._arguments import checked, require_real
from ._counts import fit_dispersion, nb_nll

_SPREADS = (0.1, 0.3, 0.5, 0.7)


@checked
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
    shape = np.shape(rate_rt)
    if len(shape) != 2 or not observed_rt.shape == shape or not biosample_t.shape == assay_t.shape == shape[1:]:
        raise ValueError(
            "rate_rt (or signal_rt) and observed_rt must be regions x tracks, and biosample_t and assay_t name every "
            f"track; their shapes are {shape}, {observed_rt.shape}, {biosample_t.shape} and {assay_t.shape}."
        )
    uses_tt = (assay_t[:, None] == assay_t) & (biosample_t[:, None] != biosample_t)
    weight_tt = uses_tt.T.astype(np.float64)
    total_rt = np.where(observed_rt, rate_rt, 0.0) @ weight_tt
    number_rt = observed_rt @ weight_tt
    return total_rt / np.where(number_rt > 0, number_rt, np.nan)


@checked
def leave_one_out_variance(
    signal_rt: np.ndarray, observed_rt: np.ndarray, biosample_t: ArrayLike, assay_t: ArrayLike
) -> np.ndarray:
    """Variance of the same assay over the other biosamples, region by region, for :func:`msevar`.

    Divided by the number of biosamples, as in the scorer of the ENCODE Imputation Challenge: where one was measured it
    is 0. Parameters are those of :func:`leave_one_out_average`.

    Returns
    -------
    float64, NaN where no other biosample was measured.

    Examples
    --------
    >>> signal_rt = np.array([[1.0, 3.0, 8.0], [2.0, np.nan, 9.0]])
    >>> leave_one_out_variance(signal_rt, ~np.isnan(signal_rt), ["K562", "H1", "liver"], ["DNase", "DNase", "DNase"])
    array([[ 6.25, 12.25,  1.  ],
           [ 0.  , 12.25,  0.  ]])
    """
    observed_rt = np.asarray(observed_rt, dtype=bool)
    number_r = np.maximum(observed_rt.sum(axis=1, keepdims=True), 1)
    # variance does not mind the shift, and the difference of squares below keeps its digits
    centre_r = np.where(observed_rt, signal_rt, 0.0).sum(axis=1, keepdims=True) / number_r
    shifted_rt = np.asarray(signal_rt, dtype=np.float64) - centre_r
    mean_rt, square_rt = (
        leave_one_out_average(values_rt, observed_rt, biosample_t, assay_t) for values_rt in (shifted_rt, shifted_rt**2)
    )
    return np.maximum(square_rt - mean_rt**2, 0)


@checked
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
    require_real("width", width, least=0)
    if width == 0:
        raise ValueError("width must be above 0 regions; it is 0.")
    counts_rt, offsets = np.asarray(counts_rt, dtype=np.float64), np.asarray(offsets)
    if offsets.ndim != 1 or not {0, len(counts_rt)} == {*offsets[:1], *offsets[-1:]} or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must ascend from 0 to the number of regions, {len(counts_rt)}; it is {offsets}.")
    smooth_rt = np.empty_like(counts_rt)
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        there = ~np.isnan(counts_rt[start:stop])
        total = gaussian_filter1d(np.where(there, counts_rt[start:stop], 0), width, axis=0, mode="constant")
        weight = gaussian_filter1d(there.astype(np.float64), width, axis=0, mode="constant")
        smooth_rt[start:stop] = total / np.where(weight > 0, weight, np.nan)
    return smooth_rt


@checked
def fit_average(counts_rt: np.ndarray, average_rt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likelihood that suits an average best: a share that is spread evenly over the regions, and a dispersion.

    A mean of zero would forbid all reads. So a share of the average, out of a few, gives way to its mean over regions;
    it is chosen, with the dispersion around what comes of it, to make the counts most likely.

    Parameters
    ----------
    counts_rt, average_rt
        Counts, and the average at the depth of each track; an entry where either is NaN does not count.

    Returns
    -------
    Share and dispersion of each track, float64; NaN for a track without entries, or whose average is 0 everywhere
    though it has reads.
    """
    level_t = column_means(average_rt)
    spread_t, dispersion_t = (np.full(counts_rt.shape[1], np.nan) for _ in range(2))
    lowest_t = np.full(counts_rt.shape[1], np.inf)
    for spread in _SPREADS:
        mean_rt = (1 - spread) * average_rt + spread * level_t
        fitted_t = fit_dispersion(counts_rt, mean_rt)
        nll_t = column_means(nb_nll(counts_rt, mean_rt, fitted_t))
        better_t = nll_t < lowest_t
        spread_t[better_t], dispersion_t[better_t] = spread, fitted_t[better_t]
        lowest_t[better_t] = nll_t[better_t]
    return spread_t, dispersion_t


def column_means(values_rt: np.ndarray) -> np.ndarray:
    """Mean of the entries of each column that are not NaN; NaN where there is none."""
    there_rt = ~np.isnan(values_rt)
    number_t = there_rt.sum(axis=0)
    return np.where(there_rt, values_rt, 0).sum(axis=0) / np.where(number_t > 0, number_t, np.nan)
