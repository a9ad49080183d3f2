"""Reads of which each is kept or not: binomial draws, by tables, for the counts of hundreds of tracks are many."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import binom
from torch import Tensor

_MANY = 32  # reads; fewer are drawn by a table


def thin(count: Tensor, keep: float, generator: torch.Generator | None) -> Tensor:
    """Keep each read with a probability, independently of the others: a binomial draw for each count.

    On a CPU small counts are drawn by the alias method (Walker 1977, ACM Transactions on Mathematical Software 3:253),
    which takes one uniform number and the same time for any of them, exact to the 19 bits that are left of it.

    Parameters
    ----------
    count
        Reads, whole numbers of 0 or more, float32, any shape.
    keep
        Probability, above 0 and below 1.
    generator
        On the device of the counts; None for torch's own.

    Returns
    -------
    Reads kept, float32.
    """
    if not count.is_cpu:  # a GPU is quick without
        return torch.binomial(count, torch.full_like(count, keep), generator=generator)
    count_n = count.flatten()
    c, k = np.arange(_MANY)[:, None], np.arange(_MANY)  # a row per count, a column per number of reads kept
    accept, other = alias_tables(binom(c, k) * keep**k * (1 - keep) ** np.maximum(c - k, 0))
    within_n = torch.rand(count_n.shape, generator=generator).mul_(_MANY)
    kept_n = within_n.floor()
    within_n -= kept_n
    cell_n = torch.add(kept_n, count_n.clamp(max=_MANY - 1), alpha=_MANY).int()
    is_other_n = within_n >= torch.from_numpy(accept).float().flatten().index_select(0, cell_n)
    kept_n += (torch.from_numpy(other).float().flatten().index_select(0, cell_n) - kept_n).mul_(is_other_n)
    many = (count_n >= _MANY).nonzero()[:, 0]
    kept_n[many] = torch.binomial(count_n[many], torch.full((len(many),), keep), generator=generator)
    return kept_n.view_as(count)


def alias_tables(probability_ck: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tables to draw from distributions (c) over outcomes (k): an outcome drawn evenly stays, or becomes another one.

    Parameters
    ----------
    probability_ck
        Rows that sum to 1.

    Returns
    -------
    Probability of an outcome to stay, once drawn, and the outcome that it becomes if it does not.

    Examples
    --------
    >>> accept, other = alias_tables(np.array([[0.25, 0.75]]))
    >>> accept.tolist(), other.tolist()
    ([[0.5, 1.0]], [[1, 1]])
    """
    n = probability_ck.shape[1]
    row_c, share_ck = np.arange(len(probability_ck)), probability_ck * n
    accept_ck, other_ck = np.ones_like(share_ck), np.tile(np.arange(n), (len(share_ck), 1))
    is_done_ck = np.zeros_like(share_ck, dtype=bool)
    for _ in range(n - 1):  # what the rarest outcome lacks of an even share is taken from the most frequent
        rarest_c = np.where(is_done_ck, np.inf, share_ck).argmin(axis=1)
        commonest_c = np.where(is_done_ck, -np.inf, share_ck).argmax(axis=1)
        accept_ck[row_c, rarest_c], other_ck[row_c, rarest_c] = share_ck[row_c, rarest_c], commonest_c
        share_ck[row_c, commonest_c] -= 1 - share_ck[row_c, rarest_c]
        is_done_ck[row_c, rarest_c] = True
    return accept_ck, other_ck
