"""Scores of predicted distributions of counts, against sums over probabilities and against the definitions."""

from itertools import product

import mpmath
import numpy as np
import pytest
from scipy import stats

from chipvi.metrics import coverage, crps_split, nb_cdf, nb_coverage, nb_crps, nb_pit, nb_quantile

N_REGIONS, N_TRACKS, N_BINS = 211, 3, 7
MEANS = (1e-3, 0.2, 1.0, 30.0, 1e3, 1e4)
DISPERSIONS = (1e-2, 0.3, 1.0, 12.0, 1e3, 1e5, 1e6, 1e8, 1e9, 1e12, np.inf)
MOST_SUMMED = 2_000_000  # counts; heavier tails have a test of their own


def last_count(mean: float, dispersion: float) -> int:
    """A count that next to nothing exceeds."""
    return int(mean + 15 * np.sqrt(mean + mean * (mean / dispersion)) + 60 + 45 * mean / dispersion)


def probabilities(mean: float, dispersion: float, last: int) -> np.ndarray:
    """P(X = k) for k from 0 to last: that of 0, times the ratios of each to the one before, in long double."""
    k, m = np.arange(last, dtype=np.longdouble), np.longdouble(mean)
    if np.isinf(dispersion):
        log_first, log_ratio = -m, np.log(m / (k + 1))
    else:
        d = np.longdouble(dispersion)
        log_first, log_ratio = -d * np.log1p(m / d), np.log1p((k - m) / (d + m)) + np.log(m / (k + 1))
    return np.exp(np.concatenate([[log_first], log_first + np.cumsum(log_ratio)]))


def counts_to_try(mean: float, dispersion: float) -> list[int]:
    sd = np.sqrt(mean + mean * (mean / dispersion))
    return sorted({0, 1, 2, 17, *(max(0, int(mean + z * sd)) for z in (-5, -1, 0, 1, 5))})


def summed_crps(count: int, probability_k: np.ndarray) -> float:
    above_k = np.cumsum(probability_k[::-1])[::-1]  # P(X >= k)
    return float(np.sum(np.cumsum(probability_k)[:count] ** 2) + np.sum(above_k[count + 1 :] ** 2))


@pytest.fixture
def mean_rt() -> np.ndarray:
    return np.random.default_rng(5).gamma(1.5, 4.0, size=(N_REGIONS, N_TRACKS))


@pytest.fixture
def dispersion_t() -> np.ndarray:
    return np.array([0.7, 5.0, np.inf])


@pytest.fixture
def counts_rt(mean_rt) -> np.ndarray:
    counts_rt = np.random.default_rng(6).poisson(1.3 * mean_rt).astype(float)
    counts_rt[::4, 0] = np.nan
    return counts_rt


def draw(mean: np.ndarray, dispersion: float | np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(mean * rng.gamma(dispersion, 1 / np.broadcast_to(dispersion, mean.shape))).astype(float)


@pytest.mark.parametrize("dispersion", [1e-6, 1e-3, *DISPERSIONS, 1e16, 1e60, 1e300])
@pytest.mark.parametrize("mean", [1e-10, *MEANS])
def test_cdf_is_the_sum_of_probabilities_at_the_extremes(mean, dispersion):
    counts = counts_to_try(mean, max(dispersion, 1.0))
    exact = np.cumsum(probabilities(mean, dispersion, counts[-1]))[counts]
    np.testing.assert_allclose(nb_cdf(counts, mean, dispersion), exact.astype(float), rtol=0, atol=1e-10)


def test_probabilities_of_this_test_are_the_exact_ones():
    for mean, dispersion in ((1e-3, 1e12), (30.0, 1e9), (1e3, 0.3)):
        with mpmath.workdps(50):
            m, d, k = mpmath.mpf(mean), mpmath.mpf(dispersion), 400
            log_p = mpmath.loggamma(k + d) - mpmath.loggamma(d) - mpmath.loggamma(k + 1)
            exact = float(mpmath.exp(log_p + d * mpmath.log(d / (d + m)) + k * mpmath.log(m / (d + m))))
        assert float(probabilities(mean, dispersion, 401)[400]) == pytest.approx(exact, rel=1e-12, abs=0)


def test_cdf_at_infinite_dispersion_is_that_of_a_poisson():
    counts = np.arange(60)
    np.testing.assert_allclose(nb_cdf(counts, 7.5, np.inf), stats.poisson.cdf(counts, 7.5), rtol=1e-12)


def test_cdf_is_zero_below_zero_and_flat_between_counts():
    assert nb_cdf([-1.0, -np.inf, np.inf], 3.0, 2.0).tolist() == [0.0, 0.0, 1.0]
    assert nb_cdf(4.7, 3.0, 2.0) == nb_cdf(4, 3.0, 2.0)
    assert nb_cdf([0, 5], 0.0, 2.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("score", [nb_cdf, nb_crps], ids=lambda score: score.__name__)
def test_scores_broadcast_and_are_missing_where_an_argument_is(score):
    counts = np.array([1.0, np.nan, 3.0, 0.0])[:, None, None]
    mean = np.array([1.0, 200.0, np.nan])[:, None]
    found = score(counts, mean, [2.0, np.inf])
    assert found.shape == (4, 3, 2)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(np.isnan(counts) | np.isnan(mean), found.shape))
    assert found[2, 1, 0] == pytest.approx(score(3.0, 200.0, 2.0), rel=1e-14)  # BLAS may add up in another order
    assert found[0, 0, 1] == pytest.approx(score(1.0, 1.0, np.inf), rel=1e-14)


@pytest.mark.parametrize(
    ("mean", "dispersion"), [pair for pair in product(MEANS, DISPERSIONS) if last_count(*pair) <= MOST_SUMMED]
)
def test_crps_is_the_sum_of_squared_differences_of_the_cdfs(mean, dispersion):
    last, counts = last_count(mean, dispersion), counts_to_try(mean, dispersion)
    probability_k = probabilities(mean, dispersion, max(last, counts[-1]))
    exact = [summed_crps(count, probability_k) for count in counts]
    np.testing.assert_allclose(nb_crps(counts, mean, dispersion), exact, rtol=2e-9, atol=1e-10 * mean)


@pytest.mark.parametrize("dispersion", [1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("mean", [0.2, 1e3, 1e4])
def test_crps_of_heavy_tails_is_that_of_the_hypergeometric_form(mean, dispersion):
    """E|X - X'| / 2 = m (1 + m / d) 2F1(d + 1, 1 / 2; 2; -4 m / d (1 + m / d)), Wei and Held 2014, TEST 23:787."""
    m, d = mpmath.mpf(mean), mpmath.mpf(dispersion)
    with mpmath.workdps(40):
        half = m * (1 + m / d) * mpmath.hyp2f1(d + 1, mpmath.mpf(1) / 2, 2, -4 * m / d * (1 + m / d))
    counts = [0, 1, 40, 25_000]
    cdf = np.cumsum(probabilities(mean, dispersion, counts[-1]))
    distance = [mean - count + 2 * float(cdf[:count].sum()) for count in counts]  # E|X - count|
    np.testing.assert_allclose(
        nb_crps(counts, mean, dispersion), np.array(distance) - float(half), rtol=1e-9, atol=1e-9 * mean
    )


def test_crps_at_infinite_dispersion_is_that_of_a_poisson():
    counts, k = np.arange(0, 50, 7), np.arange(300)
    exact = np.sum((stats.poisson.cdf(k, 12.5) - (k >= counts[:, None])) ** 2, axis=1)
    np.testing.assert_allclose(nb_crps(counts, 12.5, np.inf), exact, rtol=1e-10)


def test_crps_of_a_mean_of_zero_is_the_count():
    assert nb_crps([0, 1, 250], 0.0, [0.1, 2.0, np.inf]).tolist() == [0.0, 1.0, 250.0]


def test_crps_of_many_entries_is_that_of_each(mean_rt, dispersion_t, counts_rt):
    many = nb_crps(np.tile(counts_rt, (20, 1)), np.tile(mean_rt, (20, 1)), dispersion_t)
    assert many.size > 4 * 2048
    for r, t in ((1, 0), (100, 1), (210, 2)):
        np.testing.assert_allclose(many[r::N_REGIONS, t], nb_crps(counts_rt[r, t], mean_rt[r, t], dispersion_t[t]))


def test_crps_is_lowest_on_average_for_the_distribution_that_counts_come_from():
    mean = np.full(20_000, 8.0)
    counts = draw(mean, 2.0, seed=7)
    best = nb_crps(counts, 8.0, 2.0).mean()
    others = [nb_crps(counts, *pair).mean() for pair in ((7.0, 2.0), (9.0, 2.0), (8.0, 1.0), (8.0, 8.0))]
    assert best < min(others)


def test_pit_is_the_definition_written_out(mean_rt, counts_rt):
    dispersion = 5.0
    bars = np.zeros(N_BINS)
    for count, mean in zip(counts_rt[:, 1], mean_rt[:, 1], strict=True):
        cdf = np.cumsum(probabilities(mean, dispersion, int(count)).astype(float))
        before, upto = (cdf[-2] if count else 0.0), cdf[-1]
        for j in range(N_BINS):
            inside = min(upto, (j + 1) / N_BINS) - max(before, j / N_BINS)
            bars[j] += max(inside, 0.0) / (upto - before) * N_BINS / N_REGIONS
    np.testing.assert_allclose(nb_pit(counts_rt[:, 1], mean_rt[:, 1], dispersion, N_BINS), bars, rtol=1e-8)


def test_pit_of_tracks_is_that_of_each_over_the_entries_that_are_there(mean_rt, dispersion_t, counts_rt):
    mean_rt[7, 1] = np.nan
    bars = nb_pit(counts_rt, mean_rt, dispersion_t, N_BINS)
    assert bars.shape == (N_TRACKS, N_BINS)
    for t in range(N_TRACKS):
        there = ~np.isnan(counts_rt[:, t]) & ~np.isnan(mean_rt[:, t])
        alone = nb_pit(counts_rt[there, t], mean_rt[there, t], dispersion_t[t], N_BINS)
        np.testing.assert_allclose(bars[t], alone, rtol=1e-12)


def test_pit_sums_to_the_number_of_bars_also_at_impossible_counts():
    counts = np.array([[0.0, 1e6, 0.0], [1e6, 2.0, 0.0], [0.0, 1e6, 5.0], [3.0, 0.0, 2.0]])
    mean = np.array([[1e6, 1.0, 0.0], [1.0, 1e6, 1e-9], [1e6, 1e-3, 0.0], [3.0, 1.0, 2.0]])
    bars = nb_pit(counts, mean, [np.inf, 1e9, 2.0])
    assert bars.shape == (3, 10)
    np.testing.assert_allclose(bars.sum(axis=1), 10, rtol=1e-12)
    assert nb_pit([0.0, 0.0], [1e6, 1e6], np.inf).tolist() == [10.0] + 9 * [0.0]
    assert nb_pit([1e6, 1e6], [1.0, 1.0], np.inf).tolist() == 9 * [0.0] + [10.0]


@pytest.mark.parametrize("dispersion", [0.5, 4.0, 1e7])
def test_pit_is_flat_for_counts_of_the_very_distribution(dispersion):
    mean = np.random.default_rng(8).gamma(1.5, 4.0, size=40_000)
    bars = nb_pit(draw(mean, dispersion, seed=9), mean, dispersion)
    # four standard errors of a bar of randomised values, which vary more
    np.testing.assert_allclose(bars, 1, rtol=0, atol=4 * np.sqrt(9 / 40_000))


def test_pit_is_a_u_where_the_dispersion_is_overstated_and_a_hill_where_it_is_understated():
    mean = np.random.default_rng(10).gamma(3.0, 10.0, size=20_000)
    counts = draw(mean, 2.0, seed=11)
    narrow, wide = nb_pit(counts, mean, 20.0), nb_pit(counts, mean, 0.2)
    assert min(narrow[0], narrow[-1]) > 1.5 > 0.8 > narrow[3:7].max()
    assert max(wide[0], wide[-1]) < 0.5 < 2 < wide[4:9].max()


def test_a_track_without_entries_has_neither_pit_nor_coverage():
    counts, mean = (
        np.array([[np.nan, 1.0], [np.nan, 2.0], [4.0, 0.0]]),
        np.array([[1.0, 1.0], [1.0, 1.0], [np.nan, 1.0]]),
    )
    assert np.isnan(nb_pit(counts, mean, 2.0, n_bins=4)).tolist() == [4 * [True], 4 * [False]]
    assert np.isnan(coverage(counts, mean - 1, mean)).tolist() == [True, False]


def test_coverage_is_the_share_of_entries_from_end_to_end():
    counts = np.array([[0.0, 3.0], [1.0, np.nan], [4.0, 9.0], [5.0, 2.0]])
    lower, upper = np.ones((4, 2)), np.full((4, 2), 4.0)
    upper[3, 0] = np.nan
    np.testing.assert_allclose(coverage(counts, lower, upper), [2 / 3, 2 / 3])
    assert coverage(counts[:, 1], lower[:, 1], upper[:, 1]) == pytest.approx(2 / 3)


def test_coverage_to_expect_is_the_sum_of_probabilities_in_the_interval():
    probability_k = probabilities(6.0, 3.0, 40).astype(float)
    lower, upper = np.array([[0], [2], [5]]), np.array([4, 5, 6, 40])
    exact = [[probability_k[low : up + 1].sum() for up in upper] for low in lower[:, 0]]
    np.testing.assert_allclose(nb_coverage(6.0, 3.0, lower, upper), exact, rtol=1e-10)
    assert nb_coverage(6.0, 3.0, 1.5, 4.5) == nb_coverage(6.0, 3.0, 2, 4)
    assert nb_coverage(6.0, 3.0, 5, 3) == 0
    assert nb_coverage(6.0, 3.0, -np.inf, np.inf) == 1
    assert np.isnan(nb_coverage(6.0, 3.0, [1.0, np.nan], [np.nan, 4.0])).all()


def test_coverage_of_drawn_counts_is_the_one_to_expect():
    mean_rt = np.random.default_rng(12).gamma(0.7, 3.0, size=(30_000, N_TRACKS))
    dispersion_t = np.array([0.7, 5.0, 1e7])
    lower_rt, upper_rt = (nb_quantile(q, mean_rt, dispersion_t).astype(float) for q in (0.025, 0.975))
    found_t = coverage(draw(mean_rt, dispersion_t, seed=13), lower_rt, upper_rt)
    expected_t = nb_coverage(mean_rt, dispersion_t, lower_rt, upper_rt).mean(axis=0)
    assert (expected_t > 0.955).all()  # whole counts cannot have just 0.95
    np.testing.assert_allclose(found_t, expected_t, rtol=0, atol=4 * np.sqrt(0.95 * 0.05 / 30_000))


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"counts and mean must have the same shape; got \(2,\) and \(1,\)"):
        nb_pit([1.0, 2.0], [1.0], 2.0)
    with pytest.raises(ValueError, match=r"counts and lower and upper must have the same shape; got \(2,\) and \(\)"):
        coverage([1.0, 2.0], 0.0, [1.0, 2.0])
    with pytest.raises(ValueError, match="must be one track, or regions x tracks; got 3 axes"):
        nb_pit(np.ones((2, 3, 4)), np.ones((2, 3, 4)), 2.0)
    with pytest.raises(ValueError, match="could not be broadcast"):
        nb_pit(np.ones((2, 3)), np.ones((2, 3)), np.ones(2))


def test_crps_parts_into_scale_and_rest_and_the_factor_is_the_best_of_a_grid(mean_rt, dispersion_t, counts_rt):
    split = crps_split(counts_rt, 3 * mean_rt, dispersion_t)
    whole_t = np.nanmean(nb_crps(counts_rt, 3 * mean_rt, dispersion_t), axis=0)
    np.testing.assert_allclose(split.scale + split.rest, whole_t, rtol=1e-12)
    grid = np.exp(np.arange(np.log(0.1), np.log(2), 0.002))
    for t in range(N_TRACKS):
        tried = [np.nanmean(nb_crps(counts_rt[:, t], f * 3 * mean_rt[:, t], dispersion_t[t])) for f in grid]
        assert split.rest[t] == pytest.approx(min(tried), rel=1e-5)
        assert split.factor[t] == pytest.approx(grid[np.argmin(tried)], rel=4e-3)
        alone = crps_split(counts_rt[:, t], 3 * mean_rt[:, t], dispersion_t[t])
        np.testing.assert_array_equal(np.array(alone), [split.factor[t], split.scale[t], split.rest[t]])


def test_the_scale_error_of_a_wrong_scale_is_what_the_right_one_saves_and_else_there_is_hardly_any():
    mean = np.random.default_rng(14).gamma(0.7, 6.0, size=20_000)
    counts = draw(mean, 4.0, seed=15)
    right, wrong = crps_split(counts, mean, 4.0), crps_split(counts, 0.5 * mean, 4.0)
    assert right.factor == pytest.approx(1, abs=0.03)
    assert 0 <= right.scale < 1e-3 * right.rest
    assert wrong.factor == pytest.approx(2 * right.factor, rel=4e-3)
    assert wrong.rest == pytest.approx(right.rest, rel=1e-6)
    assert wrong.scale > 0.1 * wrong.rest


def test_a_track_without_entries_has_no_parts_of_crps(counts_rt, mean_rt):
    counts_rt[:, 1] = np.nan
    assert np.isnan(np.array(crps_split(counts_rt, mean_rt, 2.0))).tolist() == [[False, True, False]] * 3


def test_a_track_with_a_single_entry_has_scores():
    assert coverage([3.0, np.nan], [2.0, 2.0], [4.0, 4.0]) == 1
    assert nb_pit([3.0, np.nan], [3.0, 1.0], 2.0, n_bins=1) == 1
    with pytest.raises(ValueError, match="n_bins must be at least 1; it is 0"):
        nb_pit([3.0], [3.0], 2.0, n_bins=0)
