"""The moderated t test: right at known variances, uniform under the null, and what levels take out."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from chipvi.differential.changes import ChangePrior
from chipvi.differential.levels import GroupTrends, LevelTrend, strata
from chipvi.differential.moderated import Difference, LevelVariance, ModeratedDifference, SpreadPrior, Unevenness

GROUPS = {"2 and 2": (2, 2), "3 and 2": (3, 2), "2 and 2, others 2 and 3": (2, 2, 2, 3)}


def draw(n_regions: int, sizes: tuple[int, ...], degrees: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log2 rates of unchanged regions whose variance between replicates follows the level and varies by region."""
    random = np.random.default_rng(seed)
    level_r = random.uniform(0, 6, n_regions)
    variance_r = 0.5 * np.exp(-0.4 * level_r)
    if np.isfinite(degrees):
        variance_r = variance_r * degrees / random.chisquare(degrees, n_regions)
    noise_rt = random.standard_normal((n_regions, sum(sizes))) * np.sqrt(variance_r)[:, None]
    return level_r[:, None] + noise_rt, np.repeat(np.arange(len(sizes)), sizes)


def moderate(log_rate_rt: np.ndarray, group_t: np.ndarray) -> ModeratedDifference:
    return SpreadPrior.fit(log_rate_rt, group_t).moderate(Difference.of(log_rate_rt, group_t))


@pytest.mark.parametrize("degrees", [4.0, np.inf], ids=["regions differ", "regions agree"])
@pytest.mark.parametrize("sizes", GROUPS.values(), ids=GROUPS)
def test_p_values_are_uniform_where_nothing_changes(sizes, degrees):
    log_rate_rt, group_t = draw(20_000, sizes, degrees)
    p_r = moderate(log_rate_rt, group_t).p_value(0.0)
    assert stats.kstest(p_r, "uniform").statistic < 0.02
    assert (p_r < 0.001).mean() == pytest.approx(0.001, abs=0.0008)
    assert not (stats.false_discovery_control(p_r) < 0.05).any()


def test_degrees_of_freedom_and_variance_of_the_prior_are_found():
    log_rate_rt, group_t = draw(40_000, (3, 3), degrees=6.0)
    prior = SpreadPrior.fit(log_rate_rt, group_t)
    assert prior.degrees == pytest.approx(6, rel=0.1)
    level_m = np.linspace(1, 5, 9)
    expected = 0.5 * np.exp(-0.4 * level_m)
    np.testing.assert_allclose(prior.usual.at(level_m) * prior.region.at(level_m), expected, rtol=0.15)


def test_without_moderation_it_is_student_s_t_test():
    log_rate_rt, group_t = draw(50, (3, 4), degrees=5.0)
    one = LevelVariance(np.array([0.0]), np.array([0.0]))
    prior = SpreadPrior(one, np.ones(2), one, degrees=1e-9, has_single=False)
    expected = stats.ttest_ind(log_rate_rt[:, group_t == 0], log_rate_rt[:, group_t == 1], axis=1).pvalue
    np.testing.assert_allclose(prior.moderate(Difference.of(log_rate_rt, group_t)).p_value(0.0), expected, rtol=1e-6)


def squeezed(variance_r: np.ndarray, degrees: int) -> tuple[float, float]:
    """Degrees of freedom and variance of the prior, Smyth 2004, section 6.2, in arithmetic of 30 digits."""
    e = [mpmath.log(v) - mpmath.digamma(degrees / 2) + mpmath.log(degrees / 2) for v in variance_r.tolist()]
    mean = mpmath.fsum(e) / len(e)
    scatter = mpmath.fsum((one - mean) ** 2 for one in e) / (len(e) - 1)
    excess = scatter - mpmath.psi(1, degrees / mpmath.mpf(2))
    half = mpmath.findroot(lambda x: mpmath.psi(1, x) - excess, (1, 10), solver="anderson")
    return float(2 * half), float(mpmath.exp(mean + mpmath.digamma(half) - mpmath.log(half)))


def test_it_is_the_linear_model_of_all_groups_with_squeezed_variances():
    sizes, n = (2, 3, 3, 2), 400  # too few for more than one level, so that nothing follows it
    random = np.random.default_rng(3)
    group_t = np.repeat(np.arange(4), sizes)
    sd_r = np.sqrt(4 / random.chisquare(4, n))
    spread_g = np.array([1.0, 0.5, 2.0, 1.5])
    log_rate_rt = 5.25 + 1e-3 * random.normal(size=(n, 10)) * sd_r[:, None] * np.sqrt(spread_g)[group_t]
    with mpmath.workdps(30):
        prior = SpreadPrior.fit(log_rate_rt, group_t)
        # weighted least squares, with a mean of each group, and the contrast of the first two
        design_tg, root_t = np.eye(4)[group_t], 1 / np.sqrt(prior.factor_g[group_t])
        x_tg = design_tg * root_t[:, None]
        mean_gr, residual_r, *_ = np.linalg.lstsq(x_tg, (log_rate_rt * root_t).T, rcond=None)
        own = 10 - 4
        degrees, variance = squeezed(residual_r / own, own)
        posterior_r = (degrees * variance + residual_r) / (degrees + own)
        contrast_g = np.array([1, -1, 0, 0])
        scale = contrast_g @ np.linalg.inv(x_tg.T @ x_tg) @ contrast_g
        t_r = (mean_gr[0] - mean_gr[1]) / np.sqrt(posterior_r * scale)
    found = prior.moderate(Difference.of(log_rate_rt, group_t))
    assert prior.degrees == pytest.approx(degrees, rel=1e-6)
    np.testing.assert_allclose(found.degrees_r, degrees + own, rtol=1e-6)
    np.testing.assert_allclose(found.mean_r, contrast_g @ mean_gr, rtol=1e-6)
    np.testing.assert_allclose(found.p_value(0.0), 2 * stats.t.sf(np.abs(t_r), degrees + own), rtol=1e-5)


def test_biosamples_that_vary_more_are_found_and_the_next_is_foreseen_with_student_s_t():
    random = np.random.default_rng(4)
    variance_t = np.array([1.0, 4.0, 0.5, 2.0, 3.0, 0.7])
    group_t = np.array([0, 1, 1, 1, 2, 2])
    log_rate_rt = random.normal(size=(200_000, 6)) * np.sqrt(variance_t)
    one = LevelVariance(np.array([0.0]), np.array([0.0]))
    found = Unevenness.fit(log_rate_rt, group_t, one)
    logs, weights = np.log([4.0, 0.5, 2.0, 1.85]), np.array([1, 1, 1, 2])  # of the pair, the mean, which counts for two
    centre = np.average(logs, weights=weights)
    spread = np.sqrt((weights * (logs - centre) ** 2).sum() / 3 * (1 + 1 / 5))
    most = np.exp(stats.t.ppf(0.95, 3) * spread)
    np.testing.assert_allclose(found.factor_g, [most, *np.array([6.5 / 3, 1.85]) / np.exp(centre)], rtol=0.03)
    assert found.is_foreseen and not Unevenness.fit(log_rate_rt[:, [0, 4, 5]], np.array([0, 1, 1]), one).is_foreseen


@pytest.mark.parametrize("sizes", [(1, 1, 3), (1, 2, 3, 2)], ids=["1 and 1", "1 and 2"])
def test_a_group_of_one_borrows_its_spread_from_others_with_replicates(sizes):
    log_rate_rt, group_t = draw(20_000, sizes, degrees=8.0)
    found = moderate(log_rate_rt, group_t)
    p_r = found.p_value(0.0)
    np.testing.assert_allclose(found.degrees_r, 8, rtol=0.2)
    assert (p_r < 0.05).mean() < 0.055 and not (stats.false_discovery_control(p_r) < 0.05).any()
    changed = np.random.default_rng(1).random(20_000) < 0.7  # nearly everywhere: no bulk is left that does not change
    log_rate_rt[changed, 0] += 6
    called = stats.false_discovery_control(moderate(log_rate_rt, group_t).p_value(0.0)) < 0.05
    assert called[changed].mean() > 0.8 and (~changed[called]).mean() < 0.05
    alone = group_t < 2
    called = stats.false_discovery_control(moderate(log_rate_rt[:, alone], group_t[alone]).p_value(0.0)) < 0.05
    assert called.mean() < 0.05


def test_other_groups_have_a_trend_of_their_own_and_lend_no_more_than_what_replicates_differ_by():
    log_rate_rt, group_t = draw(4_000, (2, 2, 3), degrees=np.inf)
    alone_rt = GroupTrends.fit(log_rate_rt[:, :4], group_t[:4]).remove(log_rate_rt[:, :4])
    log_rate_rt[:, 4:] += np.random.default_rng(0).normal(0, 3, (4_000, 1)) + np.array([0, 1, -2])  # levels, and depths
    even_rt = GroupTrends.fit(log_rate_rt, group_t).remove(log_rate_rt)
    np.testing.assert_array_equal(even_rt[:, :4], alone_rt)
    expected_r = np.sqrt(0.5 * np.exp(-0.4 * log_rate_rt[:, :4].mean(axis=1)))
    found = moderate(even_rt, group_t)
    assert np.median(found.error_r / expected_r) == pytest.approx(1, abs=0.1)


def test_a_known_variance_gives_the_normal_test_and_the_bound_adds_both_tails():
    found = ModeratedDifference(np.array([1.5, -0.7]), np.array([0.5, 0.5]), np.array([1e6, 1e6]))
    z = np.array([1.5, 0.7])
    expected = stats.norm.sf((z - 0.4) / 0.5) + stats.norm.sf((z + 0.4) / 0.5)
    np.testing.assert_allclose(found.p_value(0.4), expected, rtol=1e-4)


def test_missing_counts_take_replicates_away():
    log_rate_rt = np.array([[1.0, 3.0, np.nan, 5.0], [1.0, 3.0, np.nan, np.nan], [2.0, 2.5, 4.0, 5.0]])
    found = Difference.of(log_rate_rt, np.array([0, 0, 1, 1]))
    first, second = found.groups
    np.testing.assert_allclose(found.mean_r, [-3, np.nan, -2.25])
    assert first.degrees_r.tolist() == [1, 1, 1] and second.degrees_r.tolist() == [0, 0, 1]
    assert second.number_r.tolist() == [1, 0, 2]
    np.testing.assert_allclose([first.squares_r[2], second.squares_r[2]], [stats.tvar([2, 2.5]), stats.tvar([4, 5])])
    one = LevelVariance(np.array([0.0]), np.array([0.0]))
    moderated = SpreadPrior(one, np.array([1.0, 3.0]), one, np.inf, has_single=False).moderate(found)
    np.testing.assert_allclose(moderated.error_r**2, [1 / 2 + 3, np.nan, 1 / 2 + 3 / 2])


def test_without_replicates_only_what_stands_out_from_the_bulk_is_called():
    log_rate_rt, group_t = draw(10_000, (1, 1), degrees=np.inf)
    log_rate_rt[:20, 0] += 8
    called = stats.false_discovery_control(moderate(log_rate_rt, group_t).p_value(0.0)) < 0.05
    assert called[:20].all() and called[20:].sum() <= 3


@pytest.mark.parametrize("degrees", [5.0, np.inf], ids=["regions differ", "regions agree"])
def test_a_single_track_unlike_the_others_is_called_where_it_stands_out(degrees):
    log_rate_rt, group_t = draw(20_000, (1, 3), degrees)
    # the last track says what the level is, and leaves: the first is twice as far from it as the others are
    log_rate_rt = log_rate_rt[:, :-1] + [1, 0, 0] * (log_rate_rt[:, :1] - log_rate_rt[:, -1:])
    p_r = moderate(log_rate_rt, group_t[:-1]).p_value(0.0)
    assert (p_r < 0.05).mean() < 0.07 and (p_r < 0.001).mean() < 0.003
    assert (stats.false_discovery_control(p_r) < 0.05).mean() < 5e-4
    log_rate_rt[:20, 0] += 60
    called = stats.false_discovery_control(moderate(log_rate_rt, group_t[:-1]).p_value(0.0)) < 0.05
    assert called[:20].all() and called[20:].mean() < 5e-4


def test_the_bulk_has_the_spread_and_the_tails_of_a_t_distribution():
    random = np.random.default_rng(2)
    t_r = np.r_[random.standard_t(6, 60_000), random.normal(0, 30, 600)]  # and 1 % that changed
    log_rate_rt = random.uniform(0, 6, (len(t_r), 1)) + np.array([2, -1, -1]) / 3 * 0.3 * t_r[:, None]
    moderated = moderate(log_rate_rt + random.normal(0, 0.01, log_rate_rt.shape), np.array([0, 1, 1]))
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
