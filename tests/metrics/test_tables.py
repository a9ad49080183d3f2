"""Scores per track, against scikit-learn and scipy on the entries that are there."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mean_squared_error, r2_score

from chipvi.metrics import mse, nb_crps, nb_nll, nb_pit, pearson, r2, r2_arcsinh, score_tracks

N_REGIONS, N_TRACKS = 23, 4


@pytest.fixture
def truth_rt() -> np.ndarray:
    rng = np.random.default_rng(3)
    truth_rt = rng.poisson(5.0, size=(N_REGIONS, N_TRACKS)).astype(float)
    truth_rt[rng.random(truth_rt.shape) < 0.2] = np.nan
    return truth_rt


@pytest.fixture
def prediction_rt(truth_rt) -> np.ndarray:
    rng = np.random.default_rng(4)
    prediction_rt = np.nan_to_num(truth_rt, nan=900.0) + rng.gamma(2.0, size=truth_rt.shape)
    prediction_rt[2, 1] = np.nan
    return prediction_rt


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (r2, r2_score),
        (r2_arcsinh, lambda x, y: r2_score(np.arcsinh(x), np.arcsinh(y))),
        (pearson, lambda x, y: stats.pearsonr(x, y).statistic),
        (mse, mean_squared_error),
    ],
    ids=["r2", "r2_arcsinh", "pearson", "mse"],
)
def test_scores_are_those_of_the_entries_that_are_there(ours, theirs, truth_rt, prediction_rt):
    there_rt = ~np.isnan(truth_rt) & ~np.isnan(prediction_rt)
    expected = [theirs(truth_rt[there_rt[:, t], t], prediction_rt[there_rt[:, t], t]) for t in range(N_TRACKS)]
    np.testing.assert_allclose(ours(truth_rt, prediction_rt), expected, rtol=1e-12)
    assert ours(truth_rt[:, 1], prediction_rt[:, 1]) == pytest.approx(expected[1])


@pytest.mark.parametrize("score", [r2, r2_arcsinh, pearson, mse], ids=lambda score: score.__name__)
def test_a_track_without_entries_has_no_score(score):
    assert np.isnan(score([[np.nan, 1.0], [np.nan, 2.0]], [[1.0, 1.0], [2.0, 4.0]])).tolist() == [True, False]


def test_without_variance_there_is_neither_r2_nor_correlation():
    assert np.isnan(r2([2.0, 2.0], [1.0, 3.0]))
    assert np.isnan(pearson([2.0, 2.0], [1.0, 3.0]))
    assert np.isnan(pearson([1.0, 3.0], [0.1, 0.1]))
    assert r2([1.0, 3.0], [0.1, 0.1]) < 0


@pytest.mark.parametrize("score", [r2, r2_arcsinh, pearson, mse], ids=lambda score: score.__name__)
def test_shapes_must_match(score):
    with pytest.raises(ValueError, match=r"same shape; got \(2,\) and \(1,\)"):
        score([1.0, 2.0], [1.0])


def test_scores_of_float32_are_computed_in_float64():
    truth = np.arange(100, dtype=np.float32) + 1e7
    assert r2(truth, truth + np.float32(1)) == pytest.approx(1 - 100 / np.sum((np.arange(100) - 49.5) ** 2), rel=1e-12)


def test_table_has_a_row_per_track_and_their_mean(truth_rt, prediction_rt):
    names = [f"track{t}" for t in range(N_TRACKS)]
    truth = pd.DataFrame(truth_rt, columns=names)
    table = score_tracks(truth, prediction_rt, dispersion=np.full(N_TRACKS, 2.0))
    assert list(table.index) == [*names, "macro_mean"]
    assert list(table.columns) == ["r2", "pearson", "mse", "nll", "crps", "pit_deviation"]
    np.testing.assert_array_equal(table["r2"].iloc[:-1], r2(truth_rt, prediction_rt))
    np.testing.assert_allclose(table["nll"].iloc[:-1], np.nanmean(nb_nll(truth_rt, prediction_rt, 2.0), axis=0))
    np.testing.assert_allclose(table["crps"].iloc[:-1], np.nanmean(nb_crps(truth_rt, prediction_rt, 2.0), axis=0))
    pit_tb = nb_pit(truth_rt, prediction_rt, 2.0)
    np.testing.assert_allclose(table["pit_deviation"].iloc[:-1], np.abs(pit_tb - 1).max(axis=1))
    np.testing.assert_allclose(table.loc["macro_mean"], table.iloc[:-1].mean())


def test_what_was_not_observed_is_not_looked_at(truth_rt, prediction_rt):
    observed_rt = ~np.isnan(truth_rt)
    filled_rt = np.where(observed_rt, truth_rt, -77.0)
    given = filled_rt.copy()
    table = score_tracks(given, prediction_rt, observed=observed_rt.astype(np.int8))
    pd.testing.assert_frame_equal(table, score_tracks(truth_rt, prediction_rt))
    np.testing.assert_array_equal(given, filled_rt)  # and the caller's array stays as it was


def test_a_track_without_a_score_stays_out_of_the_mean():
    table = score_tracks(np.array([[1.0, np.nan], [2.0, np.nan]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    assert table.loc["macro_mean", "mse"] == 0.5


def test_without_a_dispersion_there_is_no_score_of_a_distribution(truth_rt, prediction_rt):
    assert list(score_tracks(truth_rt, prediction_rt)) == ["r2", "pearson", "mse"]


def test_a_track_without_entries_has_no_score_of_a_distribution():
    truth_rt = np.array([[1.0, np.nan, 4.0], [2.0, np.nan, 0.0]])
    table = score_tracks(truth_rt, np.ones((2, 3)), dispersion=np.array([2.0, 3.0, np.inf]))
    assert table[["nll", "crps", "pit_deviation"]].isna().to_numpy().tolist() == [[i == 1] * 3 for i in range(4)]


def test_tables_with_other_tracks_are_refused(truth_rt):
    truth = pd.DataFrame(truth_rt, columns=list("abcd"))
    with pytest.raises(ValueError, match="must have the same columns"):
        score_tracks(truth, truth[list("abdc")])
