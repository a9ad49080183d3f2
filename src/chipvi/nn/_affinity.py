"""By how much biosamples are taken for what is expected of each other."""

from __future__ import annotations

import os
X = os.environ.get("X", "").split(",")
import torch
from torch import Tensor, nn

_N_FEATURES = 16
_LARGEST_SCORE = 10.0  # bounds log weights: exp(-10) is next to nothing, and can still be learnt
_MOST = 0.95  # of the bound, to start at
_LEAST_DISTANCE = 1e-6
_STEEPNESS = 2.0  # of the weights in the squared distance: 1 would be right if the others erred independently


def similarity_scores(value_rba: Tensor, present_rba: Tensor) -> Tensor:
    """Log weights of the other biosamples by how near they are, in the assays that two of them share.

    For each assay minus twice the log of the mean squared difference, less its mean over the others: were their errors
    independent of each other, the best weights would be inverse to these; those that all others share call for more.

    Parameters
    ----------
    value_rba
        Values of each biosample and assay.
    present_rba
        1 where there is one, else 0.

    Returns
    -------
    Shape (b, b), float32, row by row the biosample that is predicted; 0 on the diagonal, for pairs without a shared
    assay, and for equal distances.
    """
    value_abr, present_abr = value_rba.permute(2, 1, 0).double(), present_rba.permute(2, 1, 0).double()
    value_abr = value_abr * present_abr
    number_abb = present_abr @ present_abr.mT
    square_abb = value_abr.square() @ present_abr.mT
    total_abb = square_abb + square_abb.mT - 2 * value_abr @ value_abr.mT
    is_pair_abb = (number_abb > 1) & ~torch.eye(number_abb.shape[1], dtype=torch.bool, device=number_abb.device)
    log_distance_abb = torch.log((total_abb / number_abb.clamp_min(1)).clamp_min(_LEAST_DISTANCE))
    log_distance_abb = torch.where(is_pair_abb, log_distance_abb, 0.0)
    mean_ab1 = log_distance_abb.sum(-1, keepdim=True) / is_pair_abb.sum(-1, keepdim=True).clamp_min(1)
    score_abb = torch.where(is_pair_abb, -_STEEPNESS * (log_distance_abb - mean_ab1), 0.0)
    return (score_abb.sum(0) / is_pair_abb.sum(0).clamp_min(1)).float()


class BiosampleAffinity(nn.Module):
    """Learnt weights of the other biosamples in an average of them.

    The log weight of biosample c in what is expected of assay a in biosample b is a scalar product, as in attention: of
    a query vector of b, scaled by a vector of a, and a key vector of c. With queries of zero all weights are equal.

    Parameters
    ----------
    n_biosamples, n_assays
        Sizes.
    """

    def __init__(self, n_biosamples: int, n_assays: int) -> None:
        super().__init__()
        self.query_bd = nn.Parameter(torch.zeros(n_biosamples, _N_FEATURES))
        self.key_bd = nn.Parameter(torch.randn(n_biosamples, _N_FEATURES))
        self.log_steep_a = nn.Parameter(torch.zeros(n_assays))
        self.register_buffer("score_bb", torch.zeros(n_biosamples, n_biosamples))
        self.log_scale_ad = nn.Parameter(torch.zeros(n_assays, _N_FEATURES))

    def forward(self, biosample_q: Tensor) -> Tensor:
        """Log weights, shape (q, a, b)."""
        if "frozen" in X:
            s = self.score_bb[biosample_q][:, None] * torch.exp(self.log_steep_a)[:, None]
            return 15 * torch.tanh(s / 15)
        query_qad = self.query_bd[biosample_q, None] * torch.exp(self.log_scale_ad)
        score_qab = query_qad @ self.key_bd.T
        return _LARGEST_SCORE * torch.tanh(score_qab / _LARGEST_SCORE)

    @torch.no_grad()
    def start_at(self, score_bb: Tensor) -> None:
        """Start with these log weights, as nearly as so few features can; the diagonal is not used."""
        self.score_bb.copy_(score_bb)
        score_bb = _unbounded(score_bb.double())
        nearest_b1 = score_bb.max(dim=1, keepdim=True).values
        score_bb = torch.where(torch.eye(len(score_bb), dtype=torch.bool, device=score_bb.device), nearest_b1, score_bb)
        left_bd, size_d, right_db = torch.linalg.svd(score_bb)
        n, scale = min(len(score_bb), _N_FEATURES), len(score_bb) ** 0.5  # keys of size 1, so that queries can learn
        self.key_bd[:, :n] = (right_db[:n].T * scale).to(self.key_bd)
        self.query_bd[:, :n] = (left_bd[:, :n] * size_d[:n] / scale).to(self.query_bd)


def _unbounded(score: Tensor) -> Tensor:
    return _LARGEST_SCORE * torch.atanh((score / _LARGEST_SCORE).clamp(-_MOST, _MOST))
