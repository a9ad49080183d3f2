"""What known data add to the log of a mean, against the definitions."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from chipvi.nn import log_ratio, log_update


@pytest.mark.parametrize(("reads", "expected", "shape"), [(0, 3.0, 2.0), (11, 3.0, 0.7), (2, 0.1, 40.0)])
def test_own_reads_update_a_gamma_prior_by_bayes_rule(reads, expected, shape):
    def weight(rate):  # prior with mean 1 times the likelihood of the reads
        return scipy.stats.gamma.pdf(rate, shape, scale=1 / shape) * scipy.stats.poisson.pmf(reads, rate * expected)

    total = scipy.integrate.quad(weight, 0, 60, limit=300)[0]
    posterior_mean = scipy.integrate.quad(lambda rate: rate * weight(rate), 0, 60, limit=300)[0] / total
    found = log_update(torch.tensor(float(reads)), torch.tensor(np.log(expected)), torch.tensor(np.log(shape)))
    assert float(found.exp()) == pytest.approx(posterior_mean, rel=1e-5)


@pytest.mark.parametrize(("expected", "variance", "noise"), [(3.0, 0.5, 0.1), (400.0, 0.3, 0.2), (0.2, 2.0, 0.0)])
def test_own_reads_count_by_their_credibility_where_replicates_differ(expected, variance, noise):
    # Bühlmann: of the best linear estimate, the reads have the share of the variance between over that in all
    between = variance - noise
    credibility = between / (between + noise + 1 / expected)
    reads = 2.5 * expected
    arguments = (float(np.log(value)) for value in (expected, 1 / variance))
    found = log_update(torch.tensor(reads), *map(torch.tensor, arguments), torch.tensor(noise))
    assert float(found.exp()) == pytest.approx(1 + credibility * 1.5, rel=1e-5)


def test_reads_say_nothing_where_replicates_differ_by_all_there_is():
    found = log_update(torch.tensor(50.0), torch.tensor(0.0), torch.tensor(np.log(1 / 0.2)), torch.tensor(0.3))
    assert 0 < float(found) < 0.02


def test_a_ratio_is_zero_at_the_mean_and_finite_without_reads():
    ratio = log_ratio(torch.tensor([0.0, 2.0, 2e6]), torch.tensor(2.0))
    assert ratio[1] == 0
    assert ratio[0] == pytest.approx(np.log(0.15 / 1.15), rel=1e-5)
    assert ratio[2] == pytest.approx(np.log(1e6 / 1.15), rel=1e-5)
