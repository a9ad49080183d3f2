"""What surrounds a region: means over windows of several widths."""

from __future__ import annotations

import torch
from torch import Tensor


def window_means(values_lt: Tensor, present_lt: Tensor, low_rs: Tensor, high_rs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the present values in each window of each region.

    Parameters
    ----------
    values_lt
        Values along the rows read, 0 where missing.
    present_lt
        1 where a value is present, 0 where it is missing.
    low_rs, high_rs
        First row, and row after the last, of each window, narrowest window first.

    Returns
    -------
    Means, float32, shape (regions, tracks, windows), and whether the widest window has any value, shape (regions,
    tracks). A window without any takes the mean of the next wider one; where there is none at all it is 0.
    """
    both_ltv = torch.stack([values_lt, present_lt], dim=-1).double()  # float32 sums would lose single reads
    total_ltv = torch.cat([torch.zeros_like(both_ltv[:1]), both_ltv.cumsum(dim=0)])
    sum_rstv = total_ltv[high_rs] - total_ltv[low_rs]
    sum_rst, number_rst = sum_rstv.unbind(dim=-1)
    mean_rst = (sum_rst / number_rst.clamp_min(1)).float()
    if not bool(present_lt.all()):
        for s in reversed(range(mean_rst.shape[1] - 1)):
            mean_rst[:, s] = torch.where(number_rst[:, s] > 0, mean_rst[:, s], mean_rst[:, s + 1])
    return mean_rst.transpose(1, 2), number_rst[:, -1] > 0
