"""The negative binomial of the metrics, against mpmath and against the definitions."""

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.special import betainc, betaincc
from sklearn.metrics import d2_tweedie_score

from chipvi.metrics import deviance_explained, fit_dispersion, nb_nll, nb_quantile

MEANS = (1e-6, 0.03, 1.0, 31.0, 33.0, 4e3, 1e6)
DISPERSIONS = (1e-3, 0.2, 1.0, 15.9, 16.1, 500.0, 1e6)


def exact_nll(count: int, mean: float, dispersion: float) -> float:
    with mpmath.workdps(60):
        m, d = mpmath.mpf(mean), mpmath.mpf(dispersion)
        log_p = mpmath.loggamma(count + d) - mpmath.loggamma(d) - mpmath.loggamma(count + 1)
        return float(-(log_p + d * mpmath.log(d / (d + m)) + count * mpmath.log(m / (d + m))))


def cumulative(count: int, mean: float, dispersion: float) -> float:
    """P(K <= count), with the smaller of the two success chances, which keeps its digits."""
    if count < 0:
        return 0.0
    if mean < dispersion:
        return float(betaincc(count + 1, dispersion, mean / (mean + dispersion)))
    return float(betainc(dispersion, count + 1, dispersion / (mean + dispersion)))


@pytest.mark.parametrize("dispersion", [*DISPERSIONS, 1e9, 1e15])
@pytest.mark.parametrize("mean", MEANS)
def test_nll_is_the_exact_one_at_the_extremes(mean, dispersion):
    counts = [0, 1, 2, 17, 400, 52_051, 1_000_000]
    exact = [exact_nll(count, mean, dispersion) for count in counts]
    np.testing.assert_allclose(nb_nll(counts, mean, dispersion), exact, rtol=1e-12, atol=3e-8)


def test_nll_at_infinite_dispersion_is_that_of_a_poisson():
    counts = np.arange(40)
    np.testing.assert_allclose(nb_nll(counts, 7.5, np.inf), -stats.poisson.logpmf(counts, 7.5), rtol=1e-12)


def test_nll_of_a_mean_of_zero_allows_no_reads():
    assert nb_nll([0, 3], 0.0, 2.0).tolist() == [0.0, np.inf]


def test_nll_is_missing_where_the_count_is():
    assert np.isnan(nb_nll([[1, np.nan], [np.nan, 0]], 1.0, [2.0, 3.0])).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("dispersion", DISPERSIONS)
@pytest.mark.parametrize("mean", MEANS)
def test_quantile_is_the_first_count_with_enough_probability(mean, dispersion):
    for q in (1e-9, 0.025, 0.3, 0.5, 0.9, 0.975, 0.999):
        found = int(nb_quantile(q, mean, dispersion))
        assert cumulative(found, mean, dispersion) >= q > cumulative(found - 1, mean, dispersion), (q, found)


def test_cumulative_probabilities_of_this_test_are_the_exact_sums():
    for mean, dispersion, count in ((1e-6, 1e6, 0), (0.03, 1e-3, 5), (31.0, 0.2, 60), (33.0, 500.0, 40), (9.0, 1e6, 9)):
        exact = sum(mpmath.exp(-exact_nll(k, mean, dispersion)) for k in range(count + 1))
        assert cumulative(count, mean, dispersion) == pytest.approx(float(exact), rel=1e-11)


@pytest.mark.parametrize("mean", [0.4, 5.0, 300.0])
def test_quantile_at_infinite_dispersion_is_that_of_a_poisson(mean):
    q = np.linspace(0.001, 0.999, 301)
    np.testing.assert_array_equal(nb_quantile(q, mean, np.inf), stats.poisson.ppf(q, mean))


def test_quantile_is_zero_where_no_probability_or_no_mean_is_asked_for():
    assert nb_quantile([0.0, 0.9], [1e5, 0.0], 2.0).tolist() == [0, 0]


def test_quantile_broadcasts_and_gives_whole_numbers():
    found = nb_quantile(np.array([0.1, 0.9])[:, None, None], np.array([1.0, 2.0, 300.0])[:, None], np.full(5, 2.0))
    assert found.shape == (2, 3, 5)
    assert found.dtype == np.int64
    assert found[1, 2, 0] == nb_quantile(0.9, 300.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((1.0, 2.0, 3.0), "q must be from 0 to below 1; found 1.0", id="q"),
        pytest.param((0.5, -2.0, 3.0), "mean must be finite and not negative; found -2.0", id="negative mean"),
        pytest.param((0.5, [1.0, np.nan], 3.0), "mean must be finite and not negative; found nan", id="missing mean"),
        pytest.param((0.5, 2.0, 0.0), "dispersion must be above 0; found 0.0", id="dispersion"),
    ],
)
def test_quantile_refuses_what_has_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        nb_quantile(*arguments)


def test_fitted_dispersion_is_the_most_likely_one_and_looks_at_no_missing_entry():
    rng = np.random.default_rng(1)
    mean_rt = rng.gamma(2.0, 3.0, size=(4000, 3))
    true_t = np.array([0.5, 6.0, 1.0])
    counts_rt = rng.poisson(mean_rt * rng.gamma(true_t, 1 / true_t, size=mean_rt.shape)).astype(float)
    counts_rt[:, 2] = np.nan
    mean_rt[::3, 0], counts_rt[::5, 1] = np.nan, np.nan
    fitted_t = fit_dispersion(counts_rt, mean_rt)
    np.testing.assert_allclose(fitted_t[:2], true_t[:2], rtol=0.15)
    assert np.isnan(fitted_t[2])
    for t in range(2):
        best, worse, also = (np.nansum(nb_nll(counts_rt, mean_rt, fitted_t * f)[:, t]) for f in (1.0, 0.97, 1.03))
        assert best < min(worse, also)


def test_no_dispersion_fits_reads_where_the_mean_is_zero():
    assert np.isnan(
        fit_dispersion(np.array([[3.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    ).tolist() == [
        True,
        False,
    ]


def unit_deviance(k: float, m: float, d: float) -> float:
    """Twice the log-likelihood that is lost, from the textbook's formula."""
    log_ratio = k * np.log(k / m) if k else 0.0
    return 2 * (log_ratio - (k + d) * np.log((k + d) / (m + d)))


def test_deviance_explained_is_one_minus_the_deviance_over_that_of_the_tracks_mean():
    rng = np.random.default_rng(2)
    counts_rt, mean_rt = rng.poisson(3.0, size=(37, 3)).astype(float), rng.gamma(2.0, 1.5, size=(37, 3))
    counts_rt[::4, 0], mean_rt[::5, 1] = np.nan, np.nan
    dispersion_rt = rng.gamma(2.0, 3.0, size=(37, 3))
    found = deviance_explained(counts_rt, mean_rt, dispersion_rt)
    for t in range(3):
        rows = [r for r in range(37) if not np.isnan(counts_rt[r, t] + mean_rt[r, t])]
        null = counts_rt[rows, t].mean()
        lost = sum(unit_deviance(counts_rt[r, t], mean_rt[r, t], dispersion_rt[r, t]) for r in rows)
        null_lost = sum(unit_deviance(counts_rt[r, t], null, dispersion_rt[r, t]) for r in rows)
        assert found[t] == pytest.approx(1 - lost / null_lost, rel=1e-9)
        alone = deviance_explained(counts_rt[:, t], mean_rt[:, t], dispersion_rt[:, t])
        assert float(alone) == pytest.approx(found[t], rel=1e-12)


def test_deviance_explained_at_infinite_dispersion_is_that_of_a_poisson():
    rng = np.random.default_rng(3)
    counts, mean = rng.poisson(3.0, size=50), rng.gamma(2.0, 1.5, size=50)
    expected = d2_tweedie_score(counts, mean, power=1)
    assert float(deviance_explained(counts, mean, np.inf)) == pytest.approx(expected, rel=1e-9)


def test_deviance_explained_is_1_for_the_counts_themselves_0_for_their_mean_and_missing_without_variance():
    counts = np.array([0.0, 4.0, 9.0, 1.0])
    assert float(deviance_explained(counts, counts, 2.0)) == pytest.approx(1)
    assert float(deviance_explained(counts, np.full(4, 3.5), 2.0)) == pytest.approx(0, abs=1e-12)
    assert float(deviance_explained(counts, np.array([0.0, 4.0, 0.0, 1.0]), 2.0)) == -np.inf
    assert np.isnan(deviance_explained([[3.0, np.nan], [3.0, np.nan]], np.ones((2, 2)), 2.0)).all()
    with pytest.raises(ValueError, match=r"same shape; got \(4,\) and \(1,\)"):
        deviance_explained(counts, [1.0], 2.0)
