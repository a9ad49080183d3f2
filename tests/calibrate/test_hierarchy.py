"""The hierarchical model of what to expect of experiments nobody ran: its trials, its posterior, its calibration."""

from __future__ import annotations

import numpy as np
import pyro
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import chi2, nbinom, norm

from chipvi.calibrate import hierarchy
from chipvi.calibrate.hierarchy import PRIORS, Covariates, Prior, Trial, infer, track_effects
from chipvi.data.track_data import ViewKind
from chipvi.module.calibration import Evidence

DEFAULT = np.array([0.25, 0.0, 0.0])
TRUTH = np.array([0.6, 0.3, -0.4])  # weight, log amplitude, log factor of the spread


def make_trial(seed, kind=ViewKind.SIGNAL, n_regions=1_280, truth=TRUTH):
    """A track drawn from the likelihood."""
    random = np.random.default_rng(seed)
    network_r, average_r = random.gamma(2, 2, size=(2, n_regions))
    spread_r = random.uniform(0.5, 2, size=n_regions)
    weight, log_amplitude, log_factor = truth
    blended_r = (1 - weight) * network_r + weight * average_r
    factor_r = spread_r * np.exp(log_factor)
    if kind is ViewKind.SIGNAL:
        level = 3.0
        measured_r = random.normal(level + np.exp(log_amplitude) * (blended_r - level), factor_r)
    else:
        level, mean_r = 0.0, np.exp(log_amplitude) * blended_r
        measured_r = random.negative_binomial(factor_r, factor_r / (factor_r + mean_r)).astype(float)
    return Trial(0, 0, kind, measured_r, network_r, average_r, spread_r, level, DEFAULT)


def repeat(trial, n):
    """Every region n times in a row."""
    arrays = (trial.measured_r, trial.network_r, trial.average_r, trial.spread_r)
    return Trial(0, 0, trial.kind, *(np.repeat(x, n) for x in arrays), trial.level, trial.default_u)


# --- trials ---


def test_a_signal_trial_is_summarised_by_least_squares_and_then_by_likelihood():
    trial = make_trial(0)

    def mean(x):
        blended_r = (1 - x[0]) * trial.network_r + x[0] * trial.average_r
        return trial.level + np.exp(x[1]) * (blended_r - trial.level)

    fitted = minimize(lambda x: np.sum((trial.measured_r - mean(x)) ** 2), [0.2, 0.0]).x
    log_factor = 0.5 * np.log(np.mean(((trial.measured_r - mean(fitted)) / trial.spread_r) ** 2))
    deviation_u, _ = trial.summarise()
    np.testing.assert_allclose(DEFAULT + deviation_u, [*fitted, log_factor], atol=5e-3)


def test_a_count_trial_is_summarised_by_quasi_likelihood_and_then_by_likelihood():
    trial = make_trial(0, ViewKind.COUNTS)

    def mean(x):
        return np.exp(x[1]) * ((1 - x[0]) * trial.network_r + x[0] * trial.average_r)

    def nll(x):
        r = trial.spread_r * np.exp(x[0])
        return -nbinom.logpmf(trial.measured_r, r, r / (r + mean(fitted))).sum()

    bounds = [(0, 0.95), (-1, 1)]  # no mean below 0
    fitted = minimize(lambda x: np.sum(mean(x) - trial.measured_r * np.log(mean(x))), [0.2, 0.0], bounds=bounds).x
    deviation_u, _ = trial.summarise()
    np.testing.assert_allclose(DEFAULT + deviation_u, [*fitted, *minimize(nll, [0.0]).x], atol=5e-3)


@pytest.mark.parametrize("kind", list(ViewKind), ids=str)
def test_the_variances_of_a_summary_are_those_of_repeated_draws(kind):
    found = [make_trial(seed, kind, n_regions=2_560).summarise() for seed in range(60)]
    deviation_nu, variance_nu = (np.array(x) for x in zip(*found, strict=True))
    score_nu = (DEFAULT + deviation_nu - TRUTH) / np.sqrt(variance_nu)
    assert (np.abs(score_nu.mean(axis=0)) < 0.5).all()
    assert ((score_nu.std(axis=0) > 0.7) & (score_nu.std(axis=0) < 1.4)).all(), score_nu.std(axis=0)


def test_copies_of_regions_tell_nothing_new():
    trial = make_trial(3, n_regions=12_800)
    one, four = trial.summarise(), repeat(trial, 4).summarise()
    np.testing.assert_allclose(four[0], one[0], atol=1e-3)
    np.testing.assert_allclose(four[1], one[1], rtol=0.5)  # and not a quarter of it


def test_a_weight_that_nothing_tells_keeps_the_default():
    trial = make_trial(1)
    deviation_u, variance_u = Trial(
        0, 0, trial.kind, trial.measured_r, trial.network_r, trial.network_r, trial.spread_r, 3.0, DEFAULT
    ).summarise()
    assert abs(deviation_u[0]) < 1e-6
    assert variance_u[0] == pytest.approx(hierarchy._VAGUE**2)


# --- the posterior ---


def make_cells(shape, n, seed=0):
    return np.unravel_index(np.random.default_rng(seed).permutation(np.prod(shape))[:n], shape)


def test_the_posterior_is_that_of_a_linear_mixed_model(monkeypatch):
    """With the standard deviations known, by its normal equations in all effects."""
    monkeypatch.setattr(hierarchy, "_VARIATION", 1e-4)
    shape, prior, random = (3, 4), Prior(0.3, (0.8, 0.6), (0.4, 0.7), 0.4, 0.2, 0.15), np.random.default_rng(0)
    b, a = make_cells(shape, 7)
    covariate_b, covariate_a = random.normal(size=3), random.normal(size=4)
    deviation_i, variance_i = random.normal(size=7), random.uniform(0.01, 0.2, 7)
    evidence = Evidence(b, a, deviation_i[:, None], variance_i[:, None])
    mean_bau, std_bau = infer(evidence, Covariates(covariate_b[:, None], covariate_a[:, None]), [prior])
    every_b, every_a = (x.ravel() for x in np.mgrid[:3, :4])
    slopes_c2 = np.stack([covariate_b[every_b], covariate_a[every_a]], axis=1)
    design_ce = np.hstack([np.ones((12, 1)), slopes_c2, np.eye(4)[every_a], np.eye(3)[every_b], np.eye(12)])
    start_e = np.r_[0.0, 0.8, 0.4, np.zeros(4 + 3 + 12)]
    std_e = np.r_[0.3, 0.6, 0.7, np.full(4, 0.4), np.full(3, 0.2), np.full(12, 0.15)]
    design_ie = design_ce[b * 4 + a]
    covariance_ee = np.linalg.inv(design_ie.T @ (design_ie / variance_i[:, None]) + np.diag(std_e**-2.0))
    effect_e = covariance_ee @ (design_ie.T @ (deviation_i / variance_i) + start_e / std_e**2)
    np.testing.assert_allclose(mean_bau[..., 0].ravel(), design_ce @ effect_e, atol=1e-3)
    variance_c = np.einsum("ce,ef,cf->c", design_ce, covariance_ee, design_ce)
    np.testing.assert_allclose(std_bau[..., 0].ravel(), np.sqrt(variance_c), atol=1e-3)


@pytest.fixture(scope="module")
def some():
    b, a = np.array([0, 0, 1]), np.array([0, 1, 1])
    return Evidence(b, a, np.full((3, 3), 0.3), np.full((3, 3), 0.01))


def test_what_trials_tell_of_narrows_and_what_they_do_not_stays_wide(some):
    _, std_bau = infer(some, Covariates(np.zeros((3, 3)), np.zeros((3, 3))), PRIORS[ViewKind.COUNTS])
    tried, near, far = std_bau[0, 0], std_bau[1, 0], std_bau[2, 2]
    assert (tried < near).all()
    assert (near < far).all()


def test_inference_is_the_same_each_time_and_moves_nobodys_random_state(some):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - that of others
    pyro.param("ours", torch.tensor(1.0))
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (
        infer(some, Covariates(np.zeros((3, 3)), np.zeros((3, 3))), PRIORS[ViewKind.SIGNAL]) for _ in range(2)
    )
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert list(pyro.get_param_store().keys()) == ["ours"]
    pyro.clear_param_store()


def test_the_posterior_is_calibrated_on_simulated_grids():
    """Draw from the prior, infer, and rank the truth (Talts et al. 2018): ranks in cells never run are uniform.

    The unknowns are independent, so that many grids are inferred at once, as so many unknowns.
    """
    random, n_grids, shape, prior = (
        np.random.default_rng(0),
        100,
        (4, 5),
        Prior(0.2, (1.0, 0.5), (0.5, 0.4), 0.2, 0.15, 0.25),
    )
    b, a = make_cells(shape, 9)
    covariate_bu, covariate_au = (random.normal(scale=0.5, size=(n, n_grids)) for n in shape)
    std_uk = np.array([prior.assay, prior.biosample, prior.cell]) * np.exp(
        hierarchy._VARIATION * random.normal(size=(n_grids, 3))
    )
    truth_bau = (
        random.normal(scale=prior.level, size=n_grids)
        + random.normal(*prior.biosample_slope, size=n_grids) * covariate_bu[:, None]
        + random.normal(*prior.assay_slope, size=n_grids) * covariate_au
        + random.normal(size=(1, 5, n_grids)) * std_uk[:, 0]
        + random.normal(size=(4, 1, n_grids)) * std_uk[:, 1]
        + random.normal(size=(4, 5, n_grids)) * std_uk[:, 2]
    )
    variance_iu = np.full((9, n_grids), 0.05**2)
    deviation_iu = random.normal(truth_bau[b, a], 0.05)
    mean_bau, std_bau = infer(
        Evidence(b, a, deviation_iu, variance_iu), Covariates(covariate_bu, covariate_au), [prior] * n_grids
    )
    never_ba = np.ones(shape, dtype=bool)
    never_ba[b, a] = False
    rank_cu = norm.cdf((truth_bau - mean_bau)[never_ba] / std_bau[never_ba])
    # cells of one grid share effects, so that each cell is tested over the grids, and coverage over all; the posterior,
    # a mixture, has more in its middle than the normal of its mean and variance
    for rank_u in rank_cu:
        number = np.histogram(rank_u, bins=10, range=(0, 1))[0]
        assert chi2.sf(np.sum((number - n_grids / 10) ** 2) / (n_grids / 10), df=9) > 1e-4
    assert np.mean((rank_cu > 0.05) & (rank_cu < 0.95)) == pytest.approx(0.9, abs=0.03)
    assert np.mean((rank_cu > 0.25) & (rank_cu < 0.75)) == pytest.approx(0.5, abs=0.08)


def test_effects_of_biosamples_and_assays_are_those_of_an_additive_grid():
    random = np.random.default_rng(0)
    effect_b, effect_a = random.normal(size=5), random.normal(size=40)
    known_ba = random.random((5, 40)) < 0.7
    known_ba[:, 7] = False
    value_ba = np.where(known_ba, effect_b[:, None] + effect_a, np.nan)
    found_b, found_a = track_effects(value_ba, known_ba)
    np.testing.assert_allclose(found_b, effect_b - effect_b.mean(), atol=0.02)
    number_a = known_ba.sum(axis=0)
    typical = effect_a[number_a > 0].mean()  # as one more track of each assay has it
    expected_a = [n * (x - typical) / (n + 1) for x, n in zip(effect_a, number_a, strict=True)]
    np.testing.assert_allclose(found_a, expected_a, atol=0.02)
    assert found_a[7] == 0
