"""Where imputation is possible at all."""

from __future__ import annotations

import torch
from torch import Tensor


def find_imputable(visible_rt: Tensor, biosample_t: Tensor, assay_t: Tensor, is_target_t: Tensor) -> Tensor:
    """Entries beside which another track of the biosample, or the assay in another biosample, is visible in the region.

    Without either there is nothing to impute from, and no model could learn to. Controls do not count: they are visible
    everywhere, and hold little of what is to be imputed.

    Parameters
    ----------
    visible_rt
        Entries that are measured and not hidden, bool.
    biosample_t, assay_t
        Biosample and assay of each track, as numbers below the number of tracks.
    is_target_t
        Tracks that are no controls, bool.

    Returns
    -------
    bool, regions x tracks. It does not matter whether the entry itself is visible.

    Examples
    --------
    >>> visible_rt = torch.tensor([[True, True, False], [True, False, True]])
    >>> find_imputable(visible_rt, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), torch.ones(3, dtype=torch.bool))
    tensor([[ True,  True, False],
            [False,  True, False]])
    """
    seen_rt = (visible_rt & is_target_t).float()

    def number(group_t: Tensor) -> Tensor:
        """Visible tracks of the group of each track."""
        return torch.zeros_like(seen_rt).index_add_(1, group_t, seen_rt)[:, group_t]

    return number(biosample_t) + number(assay_t) - 2 * seen_rt > 0
