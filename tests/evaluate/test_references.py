"""Predictions without a model, against plain sums."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import nbinom

from chipvi.data.track_data import Entries
from chipvi.data.tracks import Tracks
from chipvi.evaluate.references import average_of_others, fit_marginal, is_imputable

# four tracks of one assay in three biosamples and the same again, and one assay that is alone
TRACKS = Tracks(
    ("a.x", "b.x", "c.x", "a.y", "b.y"),
    ("a", "b", "c", "a", "b"),
    ("x", "x", "x", "y", "z"),
    np.zeros(5, dtype=bool),
)
VALUES = np.array([[2.0, 9.0, 7.0, 5.0, 1.0], [4.0, 3.0, 0.0, 6.0, 8.0]], dtype=np.float32)
MEASURED = np.array([[True, True, True, True, True], [True, True, False, True, True]])
DEPTH = np.array([1e6, 3e6, 7e6, 2e6, 4e6])


def test_counts_are_averaged_per_read_of_depth_and_come_at_the_depth_of_the_track():
    average_rt = average_of_others(TRACKS, Entries(VALUES, MEASURED), DEPTH)
    expected_rt = np.array(
        [
            [1e6 * (9 / 3e6 + 7 / 7e6) / 2, 3e6 * (2 / 1e6 + 7 / 7e6) / 2, 7e6 * (2 / 1e6 + 9 / 3e6) / 2],
            [1e6 * 3 / 3e6, 3e6 * 4 / 1e6, 7e6 * (4 / 1e6 + 3 / 3e6) / 2],
        ]
    )
    np.testing.assert_allclose(average_rt[:, :3], expected_rt, rtol=1e-12)
    assert np.isnan(average_rt[:, 3:]).all()


def test_a_factor_that_all_depths_share_changes_nothing():
    once, scaled = (average_of_others(TRACKS, Entries(VALUES, MEASURED), depth_t) for depth_t in (DEPTH, DEPTH / 3.7e6))
    np.testing.assert_allclose(once, scaled, rtol=1e-12)


def test_signal_is_averaged_as_it_is():
    average_rt = average_of_others(TRACKS, Entries(VALUES, MEASURED))
    np.testing.assert_array_equal(average_rt[:, :3], [[8.0, 4.5, 5.5], [3.0, 4.0, 3.5]])


def test_the_dispersion_of_the_marginal_is_the_most_likely_one():
    random = np.random.default_rng(0)
    counts_rt = random.negative_binomial([2, 5], [0.3, 0.6], size=(3_000, 2)).astype(np.float64)
    counts_rt[random.random(counts_rt.shape) < 0.1] = np.nan
    mean_t = np.array([4.5, 3.5])
    for t, dispersion in enumerate(fit_marginal(counts_rt, mean_t)):
        counts, mean = counts_rt[~np.isnan(counts_rt[:, t]), t], mean_t[t]

        def nll(log_size, counts=counts, mean=mean):
            size = np.exp(log_size)
            return -nbinom.logpmf(counts, size, size / (size + mean)).mean()

        best = minimize_scalar(nll, bounds=(-3, 6), method="bounded").x
        assert np.log(dispersion) == pytest.approx(best, abs=1e-2)


def test_a_track_can_be_imputed_from_its_biosample_or_from_its_assay_elsewhere():
    found_rt = is_imputable(TRACKS, MEASURED)
    np.testing.assert_array_equal(found_rt, [[True, True, True, True, True], [True] * 5])
    lonely = np.array([[True, False, False, False, False], [False, False, True, False, True]])
    np.testing.assert_array_equal(
        is_imputable(TRACKS, lonely),
        # beside a.x alone: the same assay, and a's other track; beside c.x and b.z: x, and b's other track
        [[False, True, True, True, False], [True, True, False, False, False]],
    )
