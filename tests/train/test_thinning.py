import numpy as np
import pytest
import torch
from scipy.stats import binom

from chipvi.train.thinning import alias_tables, thin


@pytest.mark.parametrize("keep", [1e-3, 0.3, 0.5, 0.9, 0.999])
def test_tables_hold_the_binomial_probabilities(keep):
    expected_ck = binom.pmf(np.arange(32), np.arange(32)[:, None], keep)
    accept_ck, other_ck = alias_tables(expected_ck)
    assert (accept_ck >= 0).all() and (accept_ck <= 1 + 1e-12).all()
    found_ck = accept_ck / 32
    for k in range(32):  # what other outcomes become
        found_ck[:, k] += np.where(other_ck == k, 1 - accept_ck, 0).sum(axis=1) / 32
    np.testing.assert_allclose(found_ck, expected_ck, atol=1e-14)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_each_read_is_kept_independently_with_the_probability_asked_for(keep):
    n_draws = 100_000
    count_nc = torch.tensor([0.0, 1.0, 2.0, 7.0, 31.0, 32.0, 400.0]).repeat(n_draws, 1)
    kept_nc = thin(count_nc, keep, torch.Generator().manual_seed(0))
    assert kept_nc.dtype == torch.float32 and kept_nc.shape == count_nc.shape
    for count, kept_n in zip(count_nc[0].int().tolist(), kept_nc.T.numpy().astype(int), strict=True):
        expected_k = binom.pmf(np.arange(count + 1), count, keep)
        share_k = np.bincount(kept_n, minlength=count + 1) / n_draws
        assert len(share_k) == count + 1  # no read is added
        np.testing.assert_allclose(share_k, expected_k, atol=4.5 * np.sqrt(expected_k.max() / n_draws))
        variance = count * keep * (1 - keep)
        assert kept_n.mean() == pytest.approx(count * keep, abs=4.5 * np.sqrt(variance / n_draws))
        assert kept_n.var() == pytest.approx(variance, rel=0.02)
    correlation_cc = np.corrcoef(kept_nc[:, 1:].T.numpy())  # of different counts there is none
    assert np.abs(correlation_cc - np.eye(6)).max() < 4.5 / np.sqrt(n_draws)


def test_a_seed_gives_the_same_reads_and_no_counts_none():
    count_rt = torch.poisson(torch.full((40, 7), 9.0), generator=torch.Generator().manual_seed(1))
    first_rt, second_rt = (thin(count_rt, 0.4, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first_rt, second_rt)
    assert thin(count_rt[:0], 0.4, None).shape == (0, 7)
