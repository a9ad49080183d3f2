"""Mixtures of negative binomials against sums over their probabilities."""

import numpy as np
import pytest
from scipy import stats

from chipvi.metrics import NBMixture, nb_cdf, nb_crps, nb_nll, nb_pit, nb_quantile

# weight of the second component, both means, both dispersions
MIXTURES = [
    (0.4, 1.5, 5.4, 0.5, 0.5),
    (0.15, 6.0, 300.0, 9.0, 9.0),
    (0.005, 2.5, 480.0, 20.0, 20.0),
    (0.8, 0.001, 0.3, 0.05, 40.0),
    (0.5, 20.0, 21.0, 3.0, 1e7),
    (1e-4, 3.0, 2000.0, 6.0, 30.0),
]
COUNTS = [0, 1, 2, 7, 60, 1_000]
LAST = 40_000


def mixture(weight, mean, other_mean, dispersion, other_dispersion, n=1):
    log_weight, means, dispersions = np.log([1 - weight, weight]), (mean, other_mean), (dispersion, other_dispersion)
    return NBMixture(*(np.repeat(np.array(x)[:, None], n, axis=1) for x in (log_weight, means, dispersions)))


def probabilities(weight, mean, other_mean, dispersion, other_dispersion):
    """P(X = k) by scipy."""
    k = np.arange(LAST)
    one, other = (stats.nbinom.pmf(k, d, d / (d + m)) for m, d in ((mean, dispersion), (other_mean, other_dispersion)))
    return (1 - weight) * one + weight * other


every_mixture = pytest.mark.parametrize("numbers", MIXTURES, ids=str)


@every_mixture
def test_likelihood_and_cdf_are_those_of_the_summed_probabilities(numbers):
    found, p = mixture(*numbers, n=len(COUNTS)), probabilities(*numbers)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found.nll(COUNTS)[:5], -np.log(p[COUNTS[:5]]), rtol=1e-6)
    np.testing.assert_allclose(found.cdf(COUNTS), p.cumsum()[COUNTS], rtol=1e-7)
    np.testing.assert_allclose(found.mean, p @ np.arange(LAST), rtol=1e-7)
    np.testing.assert_allclose(
        found.coverage(np.zeros(6), COUNTS) - found.coverage(np.ones(6), COUNTS), np.full(6, p[0]), rtol=1e-6
    )


def test_the_likelihood_of_a_count_out_of_reach_is_finite():
    assert mixture(0.5, 1.0, 2.0, 1e6, 1e6).nll(1e5) == pytest.approx(nb_nll(1e5, 2.0, 1e6) + np.log(2), rel=1e-12)


@every_mixture
@pytest.mark.parametrize("q", [0.0, 0.025, 0.5, 0.9, 0.975, 0.9999])
def test_quantiles_are_where_the_summed_probabilities_pass(numbers, q):
    assert mixture(*numbers).quantile(q) == [(probabilities(*numbers).cumsum() >= q).argmax()]


@every_mixture
def test_crps_is_the_sum_of_squared_differences_of_the_cdfs(numbers):
    cdf = np.minimum(probabilities(*numbers).cumsum(), 1)
    exact = [np.sum((cdf - (np.arange(LAST) >= count)) ** 2) for count in COUNTS]
    found = mixture(*numbers, n=len(COUNTS)).crps(COUNTS)
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=2e-9)


def test_crps_of_a_table_is_that_of_each_entry():
    numbers = np.array(MIXTURES)[:, :, None].repeat(1_000, axis=2)
    table = NBMixture(
        np.log([1 - numbers[:, 0], numbers[:, 0]]), numbers[:, 1:3].swapaxes(0, 1), numbers[:, 3:].swapaxes(0, 1)
    )
    found = table.crps(np.full((6, 1_000), 7.0))
    for row, each in zip(found, MIXTURES, strict=True):
        np.testing.assert_allclose(row, mixture(*each).crps([7.0])[0], rtol=1e-12)


@every_mixture
def test_the_pit_of_counts_that_follow_the_mixture_is_flat(numbers):
    random = np.random.default_rng(1)
    counts = random.choice(LAST, size=20_000, p=probabilities(*numbers) / probabilities(*numbers).sum()).astype(float)
    counts[::7] = np.nan
    bars = mixture(*numbers, n=len(counts)).pit(counts)
    np.testing.assert_allclose(bars, np.ones(10), atol=0.12)
    assert bars.mean() == pytest.approx(1)


def test_of_one_component_it_is_the_negative_binomial():
    counts, mean, dispersion = (
        np.array([[0.0, 3.0], [9.0, np.nan]]),
        np.array([[0.2, 4.0], [5.0, 1.0]]),
        np.array([0.5, 30.0]),
    )
    one = NBMixture.single(mean, dispersion)
    np.testing.assert_array_equal(one.nll(counts), nb_nll(counts, mean, dispersion))
    np.testing.assert_array_equal(one.cdf(counts), nb_cdf(counts, mean, dispersion))
    np.testing.assert_array_equal(one.crps(counts), nb_crps(counts, mean, dispersion))
    np.testing.assert_array_equal(one.pit(counts), nb_pit(counts, mean, dispersion))
    np.testing.assert_array_equal(one.quantile(0.7), nb_quantile(0.7, mean, dispersion))


def test_some_entries_are_those_of_the_whole():
    whole = NBMixture.single(np.arange(1.0, 7.0).reshape(3, 2), 2.0)
    np.testing.assert_array_equal(whole[1:].mean, whole.mean[1:])
    np.testing.assert_array_equal(whole[whole.mean > 4].mean, [5.0, 6.0])
