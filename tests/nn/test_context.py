"""Means over windows, against a plain loop over the rows of each."""

import numpy as np
import pytest
import torch

from chipvi.nn import window_means, window_sums

# 13 rows of 3 tracks; windows of 5 regions, the wider around the narrower, one of them cut off at either end
LOW_RS = torch.tensor([[0, 0, 0, 0], [3, 2, 0, 0], [6, 5, 3, 0], [9, 8, 6, 4], [12, 11, 9, 7]])
HIGH_RS = torch.tensor([[1, 2, 4, 6], [4, 5, 7, 9], [7, 8, 10, 13], [10, 11, 13, 13], [13, 13, 13, 13]])


def looped(value_lt, present_lt):
    """The definition: each window's mean of what is present, or that of the next wider one, or 0."""
    n_regions, n_windows = LOW_RS.shape
    mean = np.zeros((n_regions, value_lt.shape[1], n_windows))
    for r, t, s in np.ndindex(mean.shape):
        for wider in range(s, n_windows):
            rows = [row for row in range(LOW_RS[r, wider], HIGH_RS[r, wider]) if present_lt[row, t]]
            if rows:
                mean[r, t, s] = sum(float(value_lt[row, t]) for row in rows) / len(rows)
                break
    widest = [(int(LOW_RS[r, -1]), int(HIGH_RS[r, -1])) for r in range(n_regions)]
    return mean, np.array(
        [[bool(present_lt[low:high, t].any()) for t in range(value_lt.shape[1])] for low, high in widest]
    )


def test_a_mean_is_that_of_what_is_present_in_the_window_or_in_the_next_wider_one():
    random = np.random.default_rng(4)
    for share in (0.0, 0.1, 0.3, 0.7, 1.0):
        present_lt = torch.from_numpy(random.random((13, 3)) < share)
        present_lt[:, 1] &= share == 1  # a track without any
        present_lt[:, 2] |= share == 0.3  # and one with all, beside one with gaps
        value_lt = torch.from_numpy(random.poisson(30, (13, 3)).astype(np.float32)) * present_lt
        mean_rts, any_rt = window_means(value_lt, present_lt, torch.ones(13), LOW_RS, HIGH_RS)
        expected_rts, expected_rt = looped(value_lt, present_lt)
        assert (mean_rts.shape, mean_rts.dtype) == ((5, 3, 4), torch.float32)
        np.testing.assert_allclose(mean_rts, expected_rts, rtol=1e-6)
        np.testing.assert_array_equal(any_rt, expected_rt)


@pytest.mark.parametrize("n_rows", [1, 127, 128, 129, 300])
def test_windows_of_any_number_of_rows_are_summed(n_rows):
    random = np.random.default_rng(0)
    value_lt = torch.from_numpy(random.poisson(3, (n_rows, 2)).astype(np.float32))
    low_rs = torch.from_numpy(random.integers(0, n_rows, (9, 2)))
    high_rs = torch.from_numpy(random.integers(low_rs.numpy(), n_rows) + 1)
    found_rst = window_sums(value_lt, low_rs, high_rs)
    for r, s in np.ndindex(9, 2):
        assert torch.equal(found_rst[r, s], value_lt[low_rs[r, s] : high_rs[r, s]].double().sum(0))


def test_a_single_read_after_very_many_is_not_lost():
    value_lt = torch.zeros(13, 3)
    value_lt[0], value_lt[12] = 2.0**30, 1.0
    mean_rts, _ = window_means(value_lt, torch.ones(13, 3, dtype=torch.bool), torch.ones(13), LOW_RS, HIGH_RS)
    assert (mean_rts[4, :, 0] == 1).all() and (mean_rts[3, :, 0] == 0).all()
