"""What surrounds a region: means over windows of several widths."""

from __future__ import annotations

import torch
from torch import Tensor


def window_means(total_lt: Tensor, weight_lt: Tensor, low_rs: Tensor, high_rs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over each window of each region: the sum of what is present, by the sum of its weights.

    Parameters
    ----------
    total_lt
        What to sum along the rows read, 0 where missing.
    weight_lt
        Weight of each, such as the width of its region; 0 where missing.
    low_rs, high_rs
        First row, and row after the last, of each window, narrowest window first.

    Returns
    -------
    Means, float32, shape (regions, tracks, windows), and whether the widest window has any value, shape (regions,
    tracks). A window without any takes the mean of the next wider one; where there is none at all it is 0.
    """
    sum_rst = window_sums(total_lt, low_rs, high_rs)
    weight_rst = window_sums(weight_lt, low_rs, high_rs)
    mean_rst = (sum_rst / torch.where(weight_rst > 0, weight_rst, 1.0)).float()
    if not bool((weight_lt > 0).all()):
        for s in reversed(range(mean_rst.shape[1] - 1)):
            mean_rst[:, s] = torch.where(weight_rst[:, s] > 0, mean_rst[:, s], mean_rst[:, s + 1])
    return mean_rst.transpose(1, 2), weight_rst[:, -1] > 0


def window_sums(x_lt: Tensor, low_rs: Tensor, high_rs: Tensor) -> Tensor:
    """Sums over windows, float64, shape (regions, windows, tracks)."""
    total_lt = x_lt.double().cumsum(dim=0)  # float32 sums would lose single reads
    total_lt = torch.cat([torch.zeros_like(total_lt[:1]), total_lt])
    return total_lt[high_rs] - total_lt[low_rs]
