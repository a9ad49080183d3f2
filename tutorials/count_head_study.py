"""What is said to keep a count head from learning, as switches on a plain model: for study, not for use.

When a neural model of counts does not learn, the likelihood gets the blame: its parameters, its clamps, its start. Here
each of these suspects can be switched on alone or with others, in one and the same model, so that the question is
settled by experiment. `docs/why_counts_fail.md` tells what came of it on real counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from anndata import AnnData
from scvi.module.base import LossOutput
from torch import Tensor
from torch.distributions import Distribution

from chipvi._messages import unknown
from chipvi.data.grid import Layout, Start
from chipvi.model.chipvi import ChipVI
from chipvi.module.vae import ChipVAE
from chipvi.nn import CountHead, MeanDispersion, NegativeBinomial, make_count_head

_EPS = 1e-8
_LOSS_CLAMP = 2.0
_INITIAL_MEAN = 1.3
_CONSTANT_LOSS = 1e6

SUSPECTS = {
    "loss_clamp": "the loss of each entry is clamped to within 2 nats of the median of its minibatch",
    "logit_clamps": "n_p with clamps before the activations: logit of p within ±10, n from -5 before softplus",
    "n_p": "the head gives n and p, mean = n (1 - p) / p, in place of mean and dispersion",
    "initial_mean": "every track starts from a mean of 1.3 and a dispersion of 1, whatever its own",
    "lgamma_eps": "the likelihood is written by hand, in float32, with 1e-8 inside each lgamma and logarithm",
    "assay_norm": "what enters the heads is normalised over the assays, to mean 0 and variance 1",
    "raw_counts": "the encoder is given counts as they are: no logarithm, not standardised",
    "inverted_probs": "probs = r / (r + mu) goes into a distribution with mean r probs / (1 - probs); mu is reported",
    "constant_loss": "a loss that is not finite is replaced by 1e6",
    "heavy_kl": "the KL divergence, summed over latents, weighs as much as the mean loss of an entry",
}
#: All of them but the inversion, which came with a remedy.
FAILING = tuple(name for name in SUSPECTS if name != "inverted_probs")


class StudyModel(ChipVI):
    """A plain masked VAE of counts with suspects switched on.

    It differs from :class:`chipvi.ChipVI` in that all that reaches the heads passes through the latent (no offsets, no
    reference beside it), in that the likelihood alone is to carry the mean (`mean_weight` 0), in a larger `kl_weight`
    and in a smaller `denoise_weight`. Without suspects it learns well; with :data:`FAILING` it does not.

    Parameters
    ----------
    adata
        Counts, set up with :meth:`setup_anndata`.
    suspects
        Names out of :data:`SUSPECTS`.
    **options
        Of :class:`chipvi.ChipVI`.

    Examples
    --------
    >>> import chipvi
    >>> adata = chipvi.datasets.simulate(n_regions=1_000)
    >>> StudyModel.setup_anndata(adata, depth_key="depth")
    >>> model = StudyModel(adata, ["loss_clamp"])
    """

    def __init__(self, adata: AnnData, suspects: Collection[str] = (), **options: Any) -> None:
        for name in suspects:
            if name not in SUSPECTS:
                raise ValueError(unknown("suspect", name, list(SUSPECTS), "count_head_study.SUSPECTS"))
        if "logit_clamps" in suspects and "n_p" not in suspects:
            raise ValueError("logit_clamps needs n_p: a head of mean and dispersion has no logit to clamp.")
        self._module_cls = partial(StudyVAE, suspects=tuple(suspects))  # type: ignore[assignment]
        super().__init__(adata, **({"mean_weight": 0.0, "kl_weight": 0.01, "denoise_weight": 0.5} | options))


class StudyVAE(ChipVAE):
    """The module of :class:`StudyModel`; parameters are those of :class:`chipvi.module.ChipVAE`, and the suspects."""

    def __init__(self, layout: Layout, start: Start, suspects: Collection[str] = (), **options: Any) -> None:
        self._suspects = frozenset(suspects)
        if "initial_mean" in suspects:
            log_rate_ba = start.log_rate_ba.copy()
            log_rate_ba[layout.biosample_t, layout.assay_t] = math.log(_INITIAL_MEAN) - start.log_depth_t
            start = replace(start, log_rate_ba=log_rate_ba, log_dispersion_ba=0 * start.log_dispersion_ba)
        if "heavy_kl" in suspects:
            options["kl_weight"] = float(len(layout.assays))
        super().__init__(layout, start, **options)
        self.count_head = SuspectHead(self.count_head, suspects)
        self.others_weight_v.requires_grad_(False)  # it stays at 0

    def inference(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """See :class:`chipvi.module.ChipVAE`; nothing but the latent is left for the decoder."""
        inferred = super().inference(*args, **kwargs)
        return inferred | {name: torch.zeros_like(inferred[name]) for name in ("slots_rqai", "own_rqax")}

    def _slots(self, v: int, value_rqas: Tensor, present_rqa: Tensor) -> Tensor:
        if "raw_counts" not in self._suspects or v == 1:
            return super()._slots(v, value_rqas, present_rqa)
        present_rqa1 = present_rqa[..., None]
        return torch.cat([value_rqas * present_rqa1, present_rqa1], dim=-1)

    def _decode(self, z_rqk: Tensor, slots_rqai: Tensor, embedding_q: Tensor, assay_qg: Tensor) -> Tensor:
        if "assay_norm" not in self._suspects:
            return super()._decode(z_rqk, slots_rqai, embedding_q, assay_qg)
        n_assays = self.track_ba.shape[1]
        every_qa = torch.arange(n_assays, device=assay_qg.device).expand(len(assay_qg), -1)
        raw_rqoa = super()._decode(z_rqk, slots_rqai, embedding_q, every_qa).transpose(2, 3)
        normed_rqao = F.layer_norm(raw_rqoa, (n_assays,)).transpose(2, 3)
        index_rqg1 = assay_qg[None, :, :, None].expand(len(z_rqk), -1, -1, 1)
        return normed_rqao.gather(2, index_rqg1.expand(-1, -1, -1, normed_rqao.shape[-1]))

    def loss(self, *args: Any, **kwargs: Any) -> LossOutput:
        """See :class:`chipvi.module.ChipVAE`; `clamped_losses` is the share of entries whose loss is clamped."""
        output = super().loss(*args, **kwargs)
        if "loss_clamp" in self._suspects:
            output.extra_metrics["clamped_losses"] = self._clamped_share
        return output

    def _count_losses(
        self, counts: Distribution, target_rqg: Tensor, tensors: dict[str, Tensor], cell: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        nll_rqg, mismatch_rqg = super()._count_losses(counts, target_rqg, tensors, cell)
        if "loss_clamp" in self._suspects:
            scored_rqg = (tensors["hidden_counts_rqg"] + tensors["spared_counts_rqg"]) > 0
            median = nll_rqg.detach()[scored_rqg].median()
            self._clamped_share = ((nll_rqg.detach() - median).abs() > _LOSS_CLAMP)[scored_rqg].float().mean()
            nll_rqg = nll_rqg.clamp(median - _LOSS_CLAMP, median + _LOSS_CLAMP)
        if "constant_loss" in self._suspects:
            nll_rqg = torch.where(torch.isfinite(nll_rqg), nll_rqg, _CONSTANT_LOSS)
        return nll_rqg, mismatch_rqg


class SuspectHead(CountHead):
    """A count head whose distribution may score itself wrongly.

    Parameters
    ----------
    head
        Head to use unless a suspect replaces it.
    suspects
        Names out of :data:`SUSPECTS`.
    """

    n_outputs = MeanDispersion.n_outputs

    def __init__(self, head: CountHead, suspects: Collection[str]) -> None:
        super().__init__()
        if "n_p" in suspects:
            no_clamps = {"logit_clamp": None, "count_floor": None}
            head = make_count_head("clamped_np", **({} if "logit_clamps" in suspects else no_clamps))
        self._head = head
        self._inverted, self._by_hand = "inverted_probs" in suspects, "lgamma_eps" in suspects

    def forward(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> Distribution:
        """See :class:`chipvi.nn.CountHead`."""
        counts = self._head(raw_qo, log_mean_q, log_dispersion_q)
        return SuspectNegativeBinomial(counts.mu, counts.theta, self._inverted, self._by_hand)

    def at_bounds(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> dict[str, Tensor]:
        """See :class:`chipvi.nn.CountHead`."""
        return self._head.at_bounds(raw_qo, log_mean_q, log_dispersion_q)


class SuspectNegativeBinomial(NegativeBinomial):
    """Says one mean and, if `inverted`, scores by another; `by_hand` in float32 and with eps inside.

    Parameters
    ----------
    mean, dispersion
        As they are reported.
    inverted
        Whether ``probs = r / (r + mean)`` is handed to a distribution with mean ``r probs / (1 - probs)``, which is
        r^2 / mean.
    by_hand
        Whether the likelihood is the handwritten one.
    """

    def __init__(self, mean: Tensor, dispersion: Tensor, inverted: bool, by_hand: bool) -> None:
        super().__init__(mean, dispersion)
        self._inverted, self._by_hand = inverted, by_hand

    def _log_prob(self, counts: Tensor) -> Tensor:
        n = self.theta
        scored_mean = n.square() / self.mu if self._inverted else self.mu
        if not self._by_hand:
            return NegativeBinomial(scored_mean, n).log_prob(counts)
        k, p = counts.float(), n / (n + scored_mean)
        log_choose = torch.lgamma(k + n + _EPS) - torch.lgamma(n + _EPS) - torch.lgamma(k + 1 + _EPS)
        return log_choose + n * torch.log(p + _EPS) + k * torch.log(1 - p + _EPS)
