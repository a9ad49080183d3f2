"""What surrounds a region: means over windows of several widths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_ROWS = 128  # that are summed together


def window_means(
    total_lt: Tensor, present_lt: Tensor, width_l: Tensor, low_rs: Tensor, high_rs: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean over each window of each region: the sum of what is present, by the sum of its widths.

    Parameters
    ----------
    total_lt
        What to sum along the rows read, 0 where missing.
    present_lt
        Where there is anything, bool.
    width_l
        Width of each row.
    low_rs, high_rs
        First row, and row after the last, of each window, narrowest window first.

    Returns
    -------
    Means, float32, shape (regions, tracks, windows), and whether the widest window has any value, shape (regions,
    tracks). A window without any takes the mean of the next wider one; where there is none at all it is 0.
    """
    running_lt, running_width_l1 = _running_sum(total_lt), _running_sum(width_l[:, None])
    is_there_lt = present_lt.view(torch.uint8)  # of which torch takes extremes faster than any and all of bool
    has_any_t, has_all_t = is_there_lt.amax(dim=0).bool(), is_there_lt.amin(dim=0).bool()
    # most tracks are there in all rows or in none, and then the sum of the widths is that of the windows
    gap_t = (has_any_t & ~has_all_t).nonzero()[:, 0]
    running_present_lt = _running_sum(present_lt[:, gap_t] * width_l[:, None])
    n_regions, n_windows = low_rs.shape
    has_any_rt = has_any_t.repeat(n_regions, 1)
    mean_rst = torch.empty(n_regions, n_windows, total_lt.shape[1], device=total_lt.device)
    for s in reversed(range(n_windows)):  # one after the other, so that what they share stays in the cache
        low_r, high_r = low_rs[:, s], high_rs[:, s]
        sum_rt = _between(running_lt, low_r, high_r)
        mean_rst[:, s] = sum_rt / _between(running_width_l1, low_r, high_r)
        if len(gap_t):
            weight_rt = _between(running_present_lt, low_r, high_r)
            mean_rt = (sum_rt[:, gap_t] / torch.where(weight_rt > 0, weight_rt, 1.0)).float()
            if s == n_windows - 1:
                has_any_rt[:, gap_t] = weight_rt > 0
            else:
                mean_rt = torch.where(weight_rt > 0, mean_rt, mean_rst[:, s + 1, gap_t])
            mean_rst[:, s, gap_t] = mean_rt
    return mean_rst.transpose(1, 2), has_any_rt


def window_sums(x_lt: Tensor, low_rs: Tensor, high_rs: Tensor) -> Tensor:
    """Sums over windows, float64, shape (regions, windows, tracks)."""
    running_lt = _running_sum(x_lt)
    return torch.stack([_between(running_lt, *ends) for ends in zip(low_rs.T, high_rs.T, strict=True)], dim=1)


def _running_sum(x_lt: Tensor) -> Tensor:
    """Sums of the rows before each, and of all: float64, for float32 would lose single reads."""
    n_rows, n_tracks = len(x_lt) + 1, x_lt.shape[1]
    padded_lt = pad(x_lt, (0, 0, 1, -n_rows % _ROWS))
    # some rows at a time, so that those of a track stay in the cache
    running_nlt = padded_lt.view(len(padded_lt) // _ROWS, _ROWS, n_tracks).cumsum(dim=1, dtype=torch.float64)
    running_nlt[1:] += running_nlt[:-1, -1].cumsum(dim=0).unsqueeze(1)
    return running_nlt.flatten(0, 1)[:n_rows]


def _between(running_lt: Tensor, low_r: Tensor, high_r: Tensor) -> Tensor:
    """Sums of the rows from one to another, excluded."""
    return running_lt.index_select(0, high_r) - running_lt.index_select(0, low_r)
