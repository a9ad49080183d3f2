"""Predictions without a model, against loops over their definitions."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from chipvi.metrics import fit_average, gaussian_smoothing, leave_one_out_average

BIOSAMPLES = ["K562", "H1", "liver", "K562", "liver", "H1", "K562"]
ASSAYS = ["DNase", "DNase", "DNase", "H3K4me3", "H3K4me3", "CTCF", "DNase"]  # K562.DNase twice: a replicate is no other


def test_average_is_that_of_the_measured_entries_of_the_other_biosamples():
    rng = np.random.default_rng(5)
    rate_rt = rng.gamma(2.0, size=(11, len(ASSAYS)))
    observed_rt = rng.random(rate_rt.shape) < 0.6
    rate_rt[~observed_rt & (rng.random(rate_rt.shape) < 0.5)] = np.nan  # a missing entry may hold anything
    rate_rt[~observed_rt & ~np.isnan(rate_rt)] = 1e9
    average_rt = leave_one_out_average(rate_rt, observed_rt.astype(np.int8), BIOSAMPLES, np.array(ASSAYS))
    for r, t in np.ndindex(rate_rt.shape):
        others = [
            rate_rt[r, u]
            for u in range(len(ASSAYS))
            if ASSAYS[u] == ASSAYS[t] and BIOSAMPLES[u] != BIOSAMPLES[t] and observed_rt[r, u]
        ]
        assert average_rt[r, t] == pytest.approx(np.mean(others) if others else np.nan, nan_ok=True)


def test_average_never_looks_at_the_tracks_own_biosample():
    rate_rt = np.random.default_rng(6).gamma(2.0, size=(9, len(ASSAYS)))
    observed_rt = np.ones(rate_rt.shape, dtype=bool)
    before_rt = leave_one_out_average(rate_rt, observed_rt, BIOSAMPLES, ASSAYS)
    own = np.array(BIOSAMPLES) == "K562"
    rate_rt[:, own] += 100.0
    after_rt = leave_one_out_average(rate_rt, observed_rt, BIOSAMPLES, ASSAYS)
    np.testing.assert_array_equal(after_rt[:, own], before_rt[:, own])
    assert (after_rt[:, [1, 2, 4]] > before_rt[:, [1, 2, 4]]).all()
    assert np.isnan(after_rt[:, 5]).all()  # no other biosample has this assay


def test_smoothing_weighs_the_measured_neighbours_of_the_same_segment_by_a_gaussian():
    rng = np.random.default_rng(7)
    counts_rt = rng.poisson(4.0, size=(50, 3)).astype(float)
    counts_rt[rng.random(counts_rt.shape) < 0.3] = np.nan
    offsets, width = np.array([0, 2, 31, 50]), 1.7
    segment_r = np.repeat([0, 1, 2], np.diff(offsets))
    reach = int(4 * width + 0.5)
    smooth_rt = gaussian_smoothing(counts_rt, offsets, width)
    for r, t in np.ndindex(counts_rt.shape):
        rows = [u for u in range(50) if segment_r[u] == segment_r[r] and abs(u - r) <= reach]
        rows = [u for u in rows if not np.isnan(counts_rt[u, t])]
        weights = [np.exp(-0.5 * ((u - r) / width) ** 2) for u in rows]
        expected = np.average(counts_rt[rows, t], weights=weights) if rows else np.nan
        assert smooth_rt[r, t] == pytest.approx(expected, nan_ok=True)


def test_an_empty_segment_changes_no_smoothed_count():
    counts_rt = np.random.default_rng(9).poisson(4.0, size=(12, 2)).astype(float)
    np.testing.assert_array_equal(
        gaussian_smoothing(counts_rt, np.array([0, 0, 5, 5, 12, 12]), 1.3),
        gaussian_smoothing(counts_rt, np.array([0, 5, 12]), 1.3),
    )


def test_smoothing_far_from_the_ends_is_the_usual_filter():
    counts_rt = np.random.default_rng(8).poisson(4.0, size=(60, 2)).astype(float)
    smooth_rt = gaussian_smoothing(counts_rt, np.array([0, 60]), 2.0)
    np.testing.assert_allclose(smooth_rt[8:-8], gaussian_filter1d(counts_rt, 2.0, axis=0)[8:-8])


def test_smoothing_gives_nothing_where_nothing_is_in_reach():
    counts_rt = np.r_[5.0, np.full(20, np.nan)][:, None]
    smooth = gaussian_smoothing(counts_rt, np.array([0, 21]), 1.0)[:, 0]
    np.testing.assert_allclose(smooth[:5], 5.0)
    assert np.isnan(smooth[5:]).all()


def test_likelihood_of_an_average_spreads_as_much_as_the_counts_do_and_allows_reads_where_it_is_zero():
    rng = np.random.default_rng(9)
    average_rt = rng.gamma(0.5, 6.0, size=(3_000, 3))
    average_rt[::3] = 0.0
    true_t = np.array([0.3, 0.5, 0.1])
    mean_rt = (1 - true_t) * average_rt + true_t * average_rt.mean(axis=0)
    counts_rt = rng.poisson(mean_rt * rng.gamma(5.0, 1 / 5.0, size=mean_rt.shape)).astype(float)
    counts_rt[:, 2], average_rt[::5, 1] = np.nan, np.nan
    spread_t, dispersion_t = fit_average(counts_rt, average_rt)
    np.testing.assert_array_equal(spread_t, [0.3, 0.5, np.nan])
    np.testing.assert_allclose(dispersion_t[:2], 5.0, rtol=0.15)
    assert np.isnan(dispersion_t[2])
