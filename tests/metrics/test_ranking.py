"""Concordance and precision-recall, against all pairs, DeLong's formula, repeated draws and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from chipvi.metrics import auprc, c_index


def all_pairs(truth: np.ndarray, prediction: np.ndarray) -> float:
    right = comparable = 0.0
    for i in range(len(truth)):
        for j in range(i):
            if truth[i] != truth[j]:
                comparable += 1
                order = (truth[i] - truth[j]) * (prediction[i] - prediction[j])
                right += 1 if order > 0 else 0.5 if order == 0 else 0
    return right / comparable


@pytest.mark.parametrize("n_values", [2, 5, 1_000], ids=lambda n: f"{n} values")
@pytest.mark.parametrize("n", [2, 3, 64, 157])
def test_c_index_is_that_of_all_pairs_with_ties_counted_half(n, n_values):
    rng = np.random.default_rng(n * n_values)
    truth, prediction = rng.integers(0, n_values, size=n), rng.integers(0, 7, size=n) / 3
    truth[:2] = 0, 1
    assert float(c_index(truth, prediction).c_index) == pytest.approx(all_pairs(truth, prediction), rel=1e-12)


def test_c_index_of_the_right_order_is_1_of_the_reverse_0_and_of_a_constant_half():
    truth = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    assert [float(c_index(truth, p).c_index) for p in (np.exp(truth), -truth, np.zeros(5))] == [1, 0, 0.5]
    assert float(c_index(truth, truth).standard_error) == 0


def test_c_index_of_two_classes_is_the_area_under_the_roc_curve_with_the_standard_error_of_delong():
    rng = np.random.default_rng(31)
    truth = np.repeat([0, 1], [90, 37])
    prediction = (rng.normal(truth, 1.0)).round(1)
    found = c_index(truth, prediction)
    assert float(found.c_index) == pytest.approx(roc_auc_score(truth, prediction), rel=1e-12)
    positive, negative = prediction[truth == 1], prediction[truth == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(axis=1).var(ddof=0) / 37 + wins.mean(axis=0).var(ddof=0) / 90
    assert float(found.standard_error) == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_standard_error_is_the_spread_over_repeated_draws():
    rng = np.random.default_rng(32)
    truth_rt = rng.poisson(2.0, size=(150, 600)).astype(float)
    prediction_rt = truth_rt + rng.normal(0, 2.0, size=truth_rt.shape)
    found = c_index(truth_rt, prediction_rt)
    # relative error of a standard deviation from 600 draws: 1 / sqrt(1200), here three times that
    assert found.standard_error.mean() == pytest.approx(found.c_index.std(), rel=0.09)


def test_c_index_takes_each_track_by_itself_and_looks_at_no_missing_entry():
    rng = np.random.default_rng(33)
    truth_rt, prediction_rt = rng.poisson(2.0, size=(41, 3)).astype(float), rng.random((41, 3))
    truth_rt[::4, 0], prediction_rt[1::5, 1], truth_rt[:, 2] = np.nan, np.nan, np.nan
    found = c_index(truth_rt, prediction_rt)
    for t in range(2):
        kept = ~np.isnan(truth_rt[:, t] + prediction_rt[:, t])
        alone = c_index(truth_rt[kept, t], prediction_rt[kept, t])
        assert (found.c_index[t], found.standard_error[t]) == (alone.c_index, alone.standard_error)
        assert float(alone.c_index) == pytest.approx(all_pairs(truth_rt[kept, t], prediction_rt[kept, t]))
    assert np.isnan([found.c_index[2], found.standard_error[2]]).all()


def test_c_index_without_entries_or_without_difference_is_missing():
    assert np.isnan(c_index([2.0, 2.0], [1.0, 3.0])).all()
    assert np.isnan(c_index([], [])).all()


@pytest.mark.parametrize("n_values", [2, 6, 10_000], ids=lambda n: f"{n} values")
def test_area_under_precision_and_recall_is_the_average_precision_of_scikit_learn(n_values):
    rng = np.random.default_rng(n_values)
    peaks_rt, prediction_rt = rng.random((53, 3)) < 0.3, rng.integers(0, n_values, size=(53, 3)) / 7
    prediction_rt[::6, 1] = np.nan
    expected = []
    for peaks, prediction in zip(peaks_rt.T, prediction_rt.T, strict=True):
        kept = ~np.isnan(prediction)
        expected.append(average_precision_score(peaks[kept], prediction[kept]))
    np.testing.assert_allclose(auprc(peaks_rt, prediction_rt), expected, rtol=1e-12)


def test_area_of_a_constant_prediction_is_the_share_of_peaks_and_without_peaks_there_is_none():
    assert auprc([True, False, False, True, False], np.ones(5)) == pytest.approx(0.4)
    assert np.isnan(auprc([False, False], [0.1, 0.2]))


@pytest.mark.parametrize("score", [c_index, auprc], ids=lambda score: score.__name__)
def test_shapes_must_match(score):
    with pytest.raises(ValueError, match=r"same shape; got \(2,\) and \(1,\)"):
        score([1.0, 0.0], [1.0])
