"""Encoder and decoder: what is shared over regions, biosamples and assays, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

TrainableEntries: TypeAlias = list[tuple[nn.Parameter, Tensor]]  # which entries of a parameter training may move, bool


class BiosampleEmbedding(nn.Module):
    """A vector per biosample, and a generic one for those that are new.

    Parameters
    ----------
    n_biosamples, n_embedding
        Sizes.
    """

    def __init__(self, n_biosamples: int, n_embedding: int) -> None:
        super().__init__()
        self.generic = n_biosamples
        self.vectors = nn.Embedding(n_biosamples + 1, n_embedding)
        nn.init.normal_(self.vectors.weight, std=0.1)

    def forward(self, biosample_q: Tensor) -> Tensor:
        """Vectors, shape (q, n_embedding); the index `generic` stands for any biosample."""
        return self.vectors(biosample_q)

    @torch.no_grad()
    def extend_from(self, known: BiosampleEmbedding) -> None:
        """Take the vectors of known biosamples, the first of these; new ones start as the generic one."""
        self.vectors.weight[: known.generic] = known.vectors.weight[: known.generic]
        self.vectors.weight[known.generic :] = known.vectors.weight[known.generic]

    def new_entries(self, n_known: int) -> TrainableEntries:
        """The vectors of biosamples after the first `n_known`, but not the generic one."""
        is_new = torch.zeros_like(self.vectors.weight, dtype=torch.bool)
        is_new[n_known : self.generic] = True
        return [(cast(nn.Parameter, self.vectors.weight), is_new)]


class Encoder(nn.Module):
    """From what is visible of a biosample in a region, and of the others there, to the latent.

    What queries share is multiplied by the weights of the first layer once: features of the others by those that leave
    out one assay or another, what is known of a query in all regions alike, and of a region for all queries.

    Parameters
    ----------
    n_assays
        Number of assays.
    is_own_i
        Features of an assay, and which of them are of the biosample's own track rather than of the others.
    n_embedding, n_covariates, n_hidden, n_latent
        Sizes.
    dropout
        Share of hidden units dropped in training.
    """

    own_columns: Tensor
    others_columns: Tensor

    def __init__(
        self,
        n_assays: int,
        is_own_i: Sequence[bool],
        n_embedding: int,
        n_covariates: int,
        n_hidden: int,
        n_latent: int,
        dropout: float,
    ) -> None:
        super().__init__()
        n_context = n_embedding + n_covariates + 1
        self.n_slots, self.n_features = len(is_own_i), n_assays * len(is_own_i)
        self._sizes = (self.n_features, n_embedding, n_covariates, 1)
        is_own_column = torch.tensor(is_own_i).repeat(n_assays)
        self.register_buffer("own_columns", is_own_column.nonzero()[:, 0], persistent=False)
        self.register_buffer("others_columns", (~is_own_column).nonzero()[:, 0], persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(self.n_features + n_context, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(n_hidden, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, -3.0)  # nearly certain at first: noise would hide the signal

    def forward(
        self, others_rqi: Tensor, own_rqi: Tensor, embedding_qe: Tensor, covariates_rc: Tensor, log_keep: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent, each (r, q, n_latent).

        Parameters
        ----------
        others_rqi, own_rqi
            Features, assay by assay. A single query of what all share.
        embedding_qe, covariates_rc
            What is known of a query in all regions, and of a region for all queries.
        log_keep
            Log of the share of the reads that is visible. No axis.
        """
        first = cast(nn.Linear, self.layers[0])
        features_hi, embedding_he, covariates_hc, log_keep_h1 = first.weight.split(self._sizes, dim=1)
        shared_rqh = linear(others_rqi, features_hi[:, self.others_columns])
        shared_rqh = shared_rqh + (linear(embedding_qe, embedding_he, first.bias) + log_keep * log_keep_h1[:, 0])
        if covariates_rc.shape[1]:
            shared_rqh = shared_rqh + linear(covariates_rc, covariates_hc).unsqueeze(1)
        hidden_rqh = self.layers[1:](linear(own_rqi, features_hi[:, self.own_columns]) + shared_rqh)
        return self.mean(hidden_rqh), torch.exp(0.5 * self.log_variance(hidden_rqh).clamp(-12, 4))

    @property
    def input_weight_hi(self) -> nn.Parameter:
        """Weights of the first layer: of the features, then of the embedding and the share of the reads."""
        return cast(nn.Parameter, self.layers[0].weight)

    @torch.no_grad()
    def extend_from(self, known: Encoder) -> None:
        """Take the weights of an encoder of the first of these assays; new ones get weights of 0."""
        of_known, own = known.state_dict(), self.state_dict()
        for name, value in of_known.items():
            if own[name].shape == value.shape:
                own[name].copy_(value)
        self.input_weight_hi.zero_()
        self.input_weight_hi[:, : known.n_features] = known.input_weight_hi[:, : known.n_features]
        self.input_weight_hi[:, self.n_features :] = known.input_weight_hi[:, known.n_features :]

    def new_entries(self, n_known: int) -> TrainableEntries:
        """The weights of features of assays after the first `n_known`."""
        is_new = torch.zeros_like(self.input_weight_hi, dtype=torch.bool)
        is_new[:, n_known * self.n_slots : self.n_features] = True
        return [(self.input_weight_hi, is_new)]


class Decoder(nn.Module):
    """From the latent of a biosample in a region to raw numbers for the heads of each target.

    The sum of a small network shared over all assays, which sees the target's assay in the other biosamples and of its
    own, and of a linear map per assay, which sees the latent only. Both start at zero, where the heads give their
    starting point.

    Parameters
    ----------
    n_assays, n_latent, n_embedding, n_slots, n_hidden, n_outputs
        Sizes; `n_slots` features of the same assay, in the other biosamples and of its own.
    """

    def __init__(
        self, n_assays: int, n_latent: int, n_embedding: int, n_slots: int, n_hidden: int, n_outputs: int
    ) -> None:
        super().__init__()
        self.assays = nn.Embedding(n_assays, n_embedding)
        nn.init.normal_(self.assays.weight, std=0.1)
        self.shared = nn.Sequential(
            nn.Linear(n_latent + 2 * n_embedding + n_slots, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.GELU(),
            nn.Linear(n_hidden, n_hidden),
            nn.GELU(),
            nn.Linear(n_hidden, n_outputs),
        )
        for parameter in self.shared[-1].parameters():
            nn.init.zeros_(parameter)
        self.weight_ako = nn.Parameter(torch.zeros(n_assays, n_latent, n_outputs))
        self.bias_ao = nn.Parameter(torch.zeros(n_assays, n_outputs))

    def forward(self, z_rqk: Tensor, embedding_qe: Tensor, assay_qg: Tensor, reference_rqgi: Tensor) -> Tensor:
        """Raw numbers of each target (g) of each query in each region, shape (r, q, g, n_outputs)."""
        first = cast(nn.Linear, self.shared[0])
        latent_hk, assay_he, biosample_he, reference_hi = first.weight.split(
            (z_rqk.shape[-1], self.assays.embedding_dim, embedding_qe.shape[-1], reference_rqgi.shape[-1]), dim=1
        )
        of_cell_qgh = linear(self.assays(assay_qg), assay_he, first.bias)
        of_cell_qgh = of_cell_qgh + linear(embedding_qe, biosample_he).unsqueeze(1)
        hidden_rqgh = linear(reference_rqgi, reference_hi) + of_cell_qgh + linear(z_rqk, latent_hk).unsqueeze(2)
        # (q, r, k) times (q, k, g x o): the map of each target's assay
        weight_qkgo = self.weight_ako[assay_qg].transpose(1, 2)
        per_assay_qru = z_rqk.transpose(0, 1) @ weight_qkgo.flatten(2)
        per_assay_rqgo = per_assay_qru.transpose(0, 1).unflatten(2, (assay_qg.shape[1], -1)) + self.bias_ao[assay_qg]
        return self.shared[1:](hidden_rqgh) + per_assay_rqgo

    @property
    def _of_assays(self) -> list[nn.Parameter]:
        """What has a row for each assay."""
        return [cast(nn.Parameter, self.assays.weight), self.weight_ako, self.bias_ao]

    @torch.no_grad()
    def extend_from(self, known: Decoder) -> None:
        """Take the weights of a decoder of the first of these assays; a new one starts as their mean."""
        self.shared.load_state_dict(known.shared.state_dict())
        for own, of_known in zip(self._of_assays, known._of_assays, strict=True):
            own[: len(of_known)] = of_known
            own[len(of_known) :] = of_known.mean(dim=0)

    def new_entries(self, n_known: int) -> TrainableEntries:
        """The weights of assays after the first `n_known`."""
        entries = []
        for parameter in self._of_assays:
            is_new = torch.zeros_like(parameter, dtype=torch.bool)
            is_new[n_known:] = True
            entries.append((parameter, is_new))
        return entries
