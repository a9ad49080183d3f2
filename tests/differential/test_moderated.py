"""The moderated t test: right at known variances, uniform under the null, and what levels take out."""

import numpy as np
import pytest
from scipy import stats

from chipvi.differential.changes import ChangePrior
from chipvi.differential.levels import LevelTrend, strata
from chipvi.differential.moderated import Difference, ModeratedDifference, SpreadPrior

GROUPS = {"2 and 2": (2, 2), "3 and 2": (3, 2), "1 and 3": (1, 3)}


def draw(n_regions: int, sizes: tuple[int, int], degrees: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log2 rates of unchanged regions whose variance between replicates follows the level and varies by region."""
    random = np.random.default_rng(seed)
    level_r = random.uniform(0, 6, n_regions)
    variance_r = 0.5 * np.exp(-0.4 * level_r)
    if np.isfinite(degrees):
        variance_r = variance_r * degrees / random.chisquare(degrees, n_regions)
    noise_rt = random.standard_normal((n_regions, sum(sizes))) * np.sqrt(variance_r)[:, None]
    return level_r[:, None] + noise_rt, np.arange(sum(sizes)) < sizes[0]


@pytest.mark.parametrize("degrees", [4.0, np.inf], ids=["regions differ", "regions agree"])
@pytest.mark.parametrize("sizes", GROUPS.values(), ids=GROUPS)
def test_p_values_are_uniform_where_nothing_changes(sizes, degrees):
    log_rate_rt, is_first_t = draw(20_000, sizes, degrees)
    found = Difference.of(log_rate_rt, is_first_t)
    p_r = SpreadPrior.fit(found).moderate(found).p_value(0.0)
    assert stats.kstest(p_r, "uniform").statistic < 0.02
    assert (p_r < 0.001).mean() == pytest.approx(0.001, abs=0.0008)
    assert not (stats.false_discovery_control(p_r) < 0.05).any()


def test_degrees_of_freedom_and_variance_of_the_prior_are_found():
    log_rate_rt, is_first_t = draw(40_000, (3, 3), degrees=6.0)
    prior = SpreadPrior.fit(Difference.of(log_rate_rt, is_first_t))
    assert prior.degrees == pytest.approx(6, rel=0.1)
    middle = (prior.level_m > 1) & (prior.level_m < 5)
    np.testing.assert_allclose(
        np.exp(prior.log_variance_m)[middle], 0.5 * np.exp(-0.4 * prior.level_m[middle]), rtol=0.15
    )


def test_without_moderation_it_is_student_s_t_test():
    log_rate_rt, is_first_t = draw(50, (3, 4), degrees=5.0)
    found = Difference.of(log_rate_rt, is_first_t)
    prior = SpreadPrior(np.array([0.0]), np.array([0.0]), degrees=1e-9)
    expected = stats.ttest_ind(log_rate_rt[:, is_first_t], log_rate_rt[:, ~is_first_t], axis=1).pvalue
    np.testing.assert_allclose(prior.moderate(found).p_value(0.0), expected, rtol=1e-6)


def test_a_known_variance_gives_the_normal_test_and_the_bound_adds_both_tails():
    found = ModeratedDifference(np.array([1.5, -0.7]), np.array([0.5, 0.5]), np.array([1e6, 1e6]))
    z = np.array([1.5, 0.7])
    expected = stats.norm.sf((z - 0.4) / 0.5) + stats.norm.sf((z + 0.4) / 0.5)
    np.testing.assert_allclose(found.p_value(0.4), expected, rtol=1e-4)


def test_missing_counts_take_replicates_away():
    log_rate_rt = np.array([[1.0, 3.0, np.nan, 5.0], [1.0, 3.0, np.nan, np.nan], [2.0, 2.5, 4.0, 5.0]])
    found = Difference.of(log_rate_rt, np.array([True, True, False, False]))
    np.testing.assert_allclose(found.mean_r, [-3, np.nan, -2.25])
    assert found.degrees_r.tolist() == [1, 1, 2]
    np.testing.assert_allclose(found.scale_r, [1.5, np.nan, 1.0])
    np.testing.assert_allclose(found.variance_r[2], (stats.tvar([2, 2.5]) + stats.tvar([4, 5])) / 2)


def test_without_replicates_only_what_stands_out_from_the_bulk_is_called():
    log_rate_rt, is_first_t = draw(10_000, (1, 1), degrees=np.inf)
    log_rate_rt[:20, 0] += 8
    found = Difference.of(log_rate_rt, is_first_t)
    assert (found.degrees_r == 0).all()
    called = stats.false_discovery_control(SpreadPrior.fit(found).moderate(found).p_value(0.0)) < 0.05
    assert called[:20].all() and called[20:].sum() <= 3


@pytest.mark.parametrize("degrees", [5.0, np.inf], ids=["regions differ", "regions agree"])
@pytest.mark.parametrize("n_others", [2, 3])
def test_a_single_track_unlike_the_others_is_called_where_it_stands_out(n_others, degrees):
    log_rate_rt, is_first_t = draw(20_000, (1, n_others + 1), degrees)
    # the last track says what the level is, and leaves: the first is twice as far from it as the others are
    log_rate_rt = log_rate_rt[:, :-1] + [1, *[0] * n_others] * (log_rate_rt[:, :1] - log_rate_rt[:, -1:])
    found = Difference.of(log_rate_rt, is_first_t[:-1])
    p_r = SpreadPrior.fit(found).moderate(found).p_value(0.0)
    assert (p_r < 0.05).mean() < 0.07 and (p_r < 0.001).mean() < 0.003
    assert (stats.false_discovery_control(p_r) < 0.05).mean() < 5e-4
    log_rate_rt[:20, 0] += 60
    found = Difference.of(log_rate_rt, is_first_t[:-1])
    called = stats.false_discovery_control(SpreadPrior.fit(found).moderate(found).p_value(0.0)) < 0.05
    assert called[:20].all() and called[20:].mean() < 5e-4


def test_the_bulk_has_the_spread_and_the_tails_of_a_t_distribution():
    random = np.random.default_rng(2)
    t_r = np.r_[random.standard_t(6, 60_000), random.normal(0, 30, 600)]  # and 1 % that changed
    log_rate_rt = random.uniform(0, 6, (len(t_r), 1)) + np.array([2, -1, -1]) / 3 * 0.3 * t_r[:, None]
    found = Difference.of(log_rate_rt + random.normal(0, 0.01, log_rate_rt.shape), np.array([True, False, False]))
    moderated = SpreadPrior.fit(found).moderate(found)
    np.testing.assert_allclose(moderated.degrees_r, 6, rtol=0.25)
    np.testing.assert_allclose(moderated.error_r, 0.3, rtol=0.1)


def test_what_follows_the_level_alone_is_taken_out():
    log_rate_rt, _ = draw(6_000, (2, 2), degrees=np.inf)
    bent_rt = log_rate_rt.copy()
    bent_rt[:, 1] = 0.7 * bent_rt[:, 1] + 1.0  # a track of another depth and of less enrichment
    straight_rt = LevelTrend.fit(bent_rt).remove(bent_rt)
    level_r = log_rate_rt.mean(axis=1)
    for low in range(1, 5):
        here = (level_r > low) & (level_r < low + 1)
        assert np.abs(np.median((straight_rt - straight_rt.mean(axis=1, keepdims=True))[here], axis=0)).max() < 0.05


def test_strata_hold_every_region_once_and_enough_of_them():
    level_r = np.random.default_rng(0).exponential(1.0, 4_321)
    parts = strata(level_r)
    assert sorted(np.concatenate(parts)) == list(range(4_321)) and min(map(len, parts)) >= 500
    assert all(level_r[a].max() <= level_r[b].min() for a, b in zip(parts, parts[1:], strict=False))
    assert [len(part) for part in strata(level_r[:100])] == [100]


def test_probabilities_of_change_are_as_often_right_as_they_say():
    random = np.random.default_rng(1)
    n = 30_000
    truth_r = np.where(random.random(n) < 0.2, random.normal(0, 1.5, n), 0)
    error_r = random.uniform(0.2, 0.6, n)
    found = ModeratedDifference(random.normal(truth_r, error_r), error_r, np.full(n, 1e6))
    below_r, above_r = ChangePrior.fit(found).probability_beyond(found, 0.3)
    probability_r, is_beyond_r = below_r + above_r, np.abs(truth_r) > 0.3
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (probability_r >= low) & (probability_r < low + 0.2)
        assert is_beyond_r[here].mean() == pytest.approx(probability_r[here].mean(), abs=0.06)
    sure = probability_r > 0.95
    assert (np.sign(truth_r) == np.where(above_r > below_r, 1, -1))[sure].mean() > 0.97
