"""The hidden Markov model of states has the probabilities that all its paths add up to."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from chipvi.tl._chain import Chain, Stretches

MEAN = np.array([[0.0, 0.0], [1.5, 0.3], [-1.0, 1.0]])
COVARIANCE = np.array([[[1.0, 0.3], [0.3, 0.8]], [[0.6, 0.0], [0.0, 1.4]], [[1.2, -0.4], [-0.4, 1.0]]])
TRANSITION = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5]])
START = np.array([0.5, 0.2, 0.3])
CHAIN = Chain(MEAN, COVARIANCE, TRANSITION, START)


def by_all_paths(x_lf):
    """Probability of each state at each place, and expected transitions, by going through every path."""
    like_lk = np.stack([multivariate_normal(m, c).pdf(x_lf) for m, c in zip(MEAN, COVARIANCE, strict=True)], axis=1)
    weight_lk, pairs_kk, total = np.zeros_like(like_lk), np.zeros((3, 3)), 0.0
    for path in product(range(3), repeat=len(x_lf)):
        p = START[path[0]] * np.prod([like_lk[place, state] for place, state in enumerate(path)])
        p *= np.prod([TRANSITION[a, b] for a, b in zip(path, path[1:], strict=False)])
        total += p
        for place, state in enumerate(path):
            weight_lk[place, state] += p
        for a, b in zip(path, path[1:], strict=False):
            pairs_kk[a, b] += p
    return weight_lk / total, pairs_kk / total


def test_probabilities_are_those_of_all_paths_also_where_stretches_differ_in_length():
    x_lnf = np.random.default_rng(0).normal(size=(5, 2, 2))
    is_there_ln = np.ones((5, 2), dtype=bool)
    is_there_ln[3:, 1] = False
    weight_lnk, pairs_kk = CHAIN.posterior(Stretches(x_lnf, is_there_ln))
    long, long_pairs = by_all_paths(x_lnf[:, 0])
    short, short_pairs = by_all_paths(x_lnf[:3, 1])
    np.testing.assert_allclose(weight_lnk[:, 0], long, rtol=1e-9)
    np.testing.assert_allclose(weight_lnk[:3, 1], short, rtol=1e-9)
    np.testing.assert_allclose(pairs_kk, long_pairs + short_pairs, rtol=1e-9)


def test_fitting_recovers_the_chain_that_made_the_data():
    rng = np.random.default_rng(1)
    far = MEAN * 4
    state_ln = np.zeros((60, 50), dtype=int)
    for place, n in product(range(60), range(50)):
        chances = START if place == 0 else TRANSITION[state_ln[place - 1, n]]
        state_ln[place, n] = rng.choice(3, p=chances)
    noise = np.einsum("lnfg,lng->lnf", np.linalg.cholesky(COVARIANCE)[state_ln], rng.normal(size=(60, 50, 2)))
    x_lnf = far[state_ln] + noise
    nearest_n = ((x_lnf.reshape(-1, 1, 2) - far) ** 2).sum(axis=-1).argmin(axis=1)
    chain = Chain.of_clusters(x_lnf.reshape(-1, 2), nearest_n)
    chain = chain.fit(Stretches(x_lnf, np.ones((60, 50), dtype=bool)))
    np.testing.assert_allclose(chain.mean_kf, far, atol=0.15)
    np.testing.assert_allclose(chain.covariance_kff, COVARIANCE, atol=0.15)
    np.testing.assert_allclose(chain.transition_kk, TRANSITION, atol=0.06)


@pytest.mark.parametrize("far", [30.0, 1e4])
def test_what_lies_far_from_every_state_has_finite_probabilities(far):
    x_lnf = np.full((4, 1, 2), far)
    weight_lnk, pairs_kk = CHAIN.posterior(Stretches(x_lnf, np.ones((4, 1), dtype=bool)))
    np.testing.assert_allclose(weight_lnk.sum(axis=-1), 1)
    assert np.isfinite(pairs_kk).all()
