"""Which biosamples a model goes by when it predicts another one."""

from __future__ import annotations

import pandas as pd
import torch

from .._messages import unknown
from .requests import RequestMixin


class AffinityMixin(RequestMixin):
    """What :class:`chipvi.ChipVI` knows of how biosamples are related."""

    @torch.no_grad()
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
