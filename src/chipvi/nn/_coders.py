"""Encoder and decoder: what is shared over regions, biosamples and assays, and what is not."""

from __future__ import annotations

from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

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

    Parameters
    ----------
    n_assays, n_slots
        Features of a query: so many of each assay, assay by assay.
    n_embedding, n_hidden, n_latent
        Sizes.
    dropout
        Share of hidden units dropped in training.
    """

    def __init__(
        self, n_assays: int, n_slots: int, n_embedding: int, n_hidden: int, n_latent: int, dropout: float
    ) -> None:
        super().__init__()
        self.n_slots, self.n_features = n_slots, n_assays * n_slots
        self.layers = nn.Sequential(
            nn.Linear(self.n_features + n_embedding + 1, n_hidden),
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

    def forward(self, features_qi: Tensor, embedding_qe: Tensor, log_keep_q: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent, each (q, n_latent)."""
        hidden_qh = self.layers(torch.cat([features_qi, embedding_qe, log_keep_q[:, None]], dim=-1))
        return self.mean(hidden_qh), torch.exp(0.5 * self.log_variance(hidden_qh).clamp(-12, 4))

    @property
    def input_weight_hi(self) -> nn.Parameter:
        """Weights of the first layer: of the features, then of the embedding and the share of the reads."""
        return cast(nn.Parameter, self.layers[0].weight)

    @torch.no_grad()
    def extend_from(self, known: Encoder) -> None:
        """Take the weights of an encoder that knows the first of these assays; what is new is not looked at."""
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

    def forward(self, z_qk: Tensor, embedding_qe: Tensor, assay_qg: Tensor, reference_qgi: Tensor) -> Tensor:
        """Raw numbers of each target (g) of each query, shape (q, g, n_outputs)."""
        shape = (*assay_qg.shape, -1)
        inputs_qgi = torch.cat(
            [z_qk[:, None].expand(shape), self.assays(assay_qg), embedding_qe[:, None].expand(shape), reference_qgi],
            dim=-1,
        )
        per_assay_qao = torch.einsum("qk,ako->qao", z_qk, self.weight_ako) + self.bias_ao
        index_qgo = assay_qg[..., None].expand(*assay_qg.shape, per_assay_qao.shape[-1])
        return self.shared(inputs_qgi) + per_assay_qao.gather(1, index_qgo)

    @property
    def _of_assays(self) -> list[nn.Parameter]:
        """What has a row for each assay."""
        return [cast(nn.Parameter, self.assays.weight), self.weight_ako, self.bias_ao]

    @torch.no_grad()
    def extend_from(self, known: Decoder) -> None:
        """Take the weights of a decoder that knows the first of these assays; a new one starts as their mean."""
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
