"""Which biosamples a model goes by when it predicts another one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import torch

from .._arguments import checked
from .._messages import unknown
from ..data.track_data import Block
from ..evaluate.swaps import Suspect, judge_swaps
from .requests import RequestMixin

_MAY_BE_COPY = 0.2  # weight of either on the other, below which two biosamples are not compared entry by entry


class AffinityMixin(RequestMixin):
    """How :class:`chipvi.ChipVI` weighs biosamples for each other."""

    @torch.no_grad()
    @checked
    def get_biosample_affinity(self, assay: str | None = None) -> pd.DataFrame:
        """Weight of every other biosample in the weighted average that predictions of a biosample start from.

        Weights come from how near two biosamples are in the assays that both have, in regions of training, and from a
        steepness of each assay that training learns. Replicates get most of the weight; biosamples that are all equally
        far get equal weights. In a region, the weights of those in which the assay is visible are taken.

        Parameters
        ----------
        assay
            For tracks of this assay; None: the mean over assays.

        Returns
        -------
        Biosamples x biosamples: a row for the one that is predicted, a column for the one that is gone by. Rows sum to
        1, but for a lone biosample's, and the diagonal is 0.

        Raises
        ------
        ValueError
            For an unknown assay.
        """
        self._check_if_trained(warn=False)
        names, assays = list(self.grid.biosamples), list(self.grid.assays)
        if assay is not None and assay not in assays:
            raise ValueError(unknown("assay", assay, assays, "the model"))
        affinity = self.module.affinity
        log_weight_bab = affinity(torch.arange(len(names), device=affinity.score_bb.device)).cpu()
        is_own_b1b = torch.eye(len(names), dtype=torch.bool).unsqueeze(1)
        weight_bab = torch.softmax(log_weight_bab.masked_fill(is_own_b1b, -torch.inf), dim=-1).nan_to_num()
        weight_bb = weight_bab.mean(dim=1) if assay is None else weight_bab[:, assays.index(assay)]
        return pd.DataFrame(weight_bb.numpy(), index=names, columns=names)

    def _find_swaps(self, block: Block) -> list[Suspect]:
        """Biosamples that seem swapped or to be there twice, given the data of some regions."""
        affinity = self.get_biosample_affinity()
        names, grid = list(self.grid.biosamples), self.grid
        entries = block.view(grid.views[0])
        assert entries is not None
        has_ba = np.zeros((len(names), len(grid.assays)), dtype=bool)
        is_measured_t = entries.present_rt.any(axis=0) & grid.is_target_t
        has_ba[grid.biosample_t[is_measured_t], grid.assay_t[is_measured_t]] = True
        shares_bb = has_ba.astype(int) @ has_ba.T > 0
        correlation = pd.DataFrame(np.nan, index=names, columns=names)
        weight_bb = affinity.to_numpy()
        for b, c in combinations(range(len(names)), 2):
            if shares_bb[b, c] and max(weight_bb[b, c], weight_bb[c, b]) >= _MAY_BE_COPY:
                track_2n = grid.track_ba[[b, c]][:, has_ba[b] & has_ba[c]]
                both_rn = entries.present_rt[:, track_2n].all(axis=1)
                first, second = (entries.value_rt[:, track_n][both_rn] for track_n in track_2n)
                if both_rn.any() and first.std() > 0 and second.std() > 0:
                    correlation.iloc[b, c] = correlation.iloc[c, b] = np.corrcoef(first, second)[0, 1]
        return judge_swaps(affinity.where(shares_bb), correlation)
