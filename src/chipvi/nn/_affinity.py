"""By how much each of the other biosamples counts in what is expected of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_POWER = 2.0  # weights are inverse to this power of the distance; 1 would be best if the others erred independently
_AMONG_STRANGERS = 1.0  # scores of biosamples that are not related; smaller ones are shrunk to next to nothing
_LEAST_SHARE = 0.05  # of a squared difference that is not noise
_LEAST_DISTANCE = 1e-6  # in variances of the assay, between data that are all but the same
_LARGEST_LOG_WEIGHT = 15.0


def similarity_scores(value_rba: Tensor, present_rba: Tensor, noise_rba: Tensor) -> Tensor:
    """Log weights of the other biosamples by how near they are, in the assays that two of them share.

    For each assay it is minus twice the log of their mean squared difference, without the noise of the one that is
    predicted, less its mean over the others; then the mean over the assays that both have. If the errors of the others
    were independent, weights inverse to the squared difference would be best; errors that strangers share call for
    more. Strangers differ in how near they are, too, which says little: a score s becomes s³ / (s² + 1).

    Parameters
    ----------
    value_rba
        Values of each biosample and assay.
    present_rba
        1 where there is one, else 0.
    noise_rba
        Variance of the values by chance alone.

    Returns
    -------
    Shape (b, b), float32, row by row the biosample that is predicted. 0 on the diagonal, for pairs without a shared
    assay, and where all others are equally near.
    """
    present_abr = present_rba.permute(2, 1, 0).double()
    value_abr = value_rba.permute(2, 1, 0).double() * present_abr
    number_abb = present_abr @ present_abr.mT
    square_abb = value_abr.square() @ present_abr.mT
    total_abb = square_abb + square_abb.mT - 2 * value_abr @ value_abr.mT
    is_other_bb = ~torch.eye(value_abr.shape[1], dtype=torch.bool, device=value_abr.device)
    is_pair_abb = (number_abb > 1) & is_other_bb
    noise_abb = (noise_rba.permute(2, 1, 0).double() * present_abr) @ present_abr.mT
    distance_abb = torch.maximum(total_abb - noise_abb, _LEAST_SHARE * total_abb) / number_abb.clamp_min(1)
    log_distance_abb = torch.log(distance_abb.clamp_min(_LEAST_DISTANCE))
    log_distance_abb = torch.where(is_pair_abb, log_distance_abb, 0.0)
    mean_ab1 = log_distance_abb.sum(-1, keepdim=True) / is_pair_abb.sum(-1, keepdim=True).clamp_min(1)
    score_abb = torch.where(is_pair_abb, -_POWER * (log_distance_abb - mean_ab1), 0.0)
    score_bb = score_abb.sum(0) / is_pair_abb.sum(0).clamp_min(1)
    square_bb = score_bb.square()
    return (score_bb * square_bb / (square_bb + _AMONG_STRANGERS**2)).float()


class BiosampleAffinity(nn.Module):
    """Weights of the other biosamples in an average of them: by how near they are, more or less so by assay.

    Of two biosamples each has one other, so that weights mean nothing; `is_of_use` is 0 then, else 1.

    Parameters
    ----------
    n_biosamples, n_assays
        Sizes.
    """

    score_bb: Tensor
    is_of_use: Tensor

    def __init__(self, n_biosamples: int, n_assays: int) -> None:
        super().__init__()
        self.register_buffer("score_bb", torch.zeros(n_biosamples, n_biosamples))
        self.register_buffer("is_of_use", torch.tensor(float(n_biosamples > 2)))
        self.log_steepness_a = nn.Parameter(torch.zeros(n_assays))

    def forward(self, biosample_q: Tensor) -> Tensor:
        """Log weights of all biosamples (b), shape (q, a, b); the weight of a biosample for itself has no meaning."""
        log_weight_qab = self.score_bb[biosample_q].unsqueeze(1) * torch.exp(self.log_steepness_a).unsqueeze(1)
        return log_weight_qab.clamp(-_LARGEST_LOG_WEIGHT, _LARGEST_LOG_WEIGHT)

    @torch.no_grad()
    def learn(self, score_bb: Tensor) -> None:
        """Take the scores of :func:`similarity_scores`."""
        self.score_bb.copy_(score_bb)

    @torch.no_grad()
    def extend_from(self, known: BiosampleAffinity) -> None:
        """Take the scores between known biosamples, the first of these; those of new ones stay as they are."""
        n_biosamples, n_assays = len(known.score_bb), len(known.log_steepness_a)
        self.score_bb[:n_biosamples, :n_biosamples] = known.score_bb
        self.log_steepness_a[:n_assays] = known.log_steepness_a
        self.is_of_use.copy_(known.is_of_use)  # weights of no use were not learnt
