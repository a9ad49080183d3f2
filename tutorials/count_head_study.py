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

import numpy as np
import torch
import torch.nn.functional as F
from anndata import AnnData
from scvi.module.base import LossOutput
from torch import Tensor
from torch.distributions import Distribution

from chipvi._messages import unknown
from chipvi.data.grid import CellStart, Grid, Initialisation
from chipvi.data.track_data import ViewKind
from chipvi.model.chipvi import ChipVI
from chipvi.module.features import AssayMeans
from chipvi.module.inputs import Encoding, Queries, Slots, Surroundings, Truth, ViewPrediction
from chipvi.module.vae import ChipVAE, ModuleOptions
from chipvi.module.views import CountView
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

    def _wants_trees(self, wish: bool | None, n_regions: int) -> bool:
        return bool(wish)  # unasked, trees would learn what the network does not


class StudyVAE(ChipVAE):
    """The module of :class:`StudyModel`; parameters are those of :class:`chipvi.module.ChipVAE`, and the suspects."""

    def __init__(
        self,
        grid: Grid,
        start: Initialisation,
        options: ModuleOptions,
        *arguments: Any,
        suspects: Collection[str] = (),
    ) -> None:
        self._suspects = frozenset(suspects)
        if "initial_mean" in suspects:
            level_ba = start.counts.level_ba.copy()
            level_ba[grid.biosample_t, grid.assay_t] = math.log(_INITIAL_MEAN) - start.log_depth_t
            start = replace(start, counts=CellStart(level_ba, 0 * start.counts.log_spread_ba))
        if "heavy_kl" in suspects:
            options = replace(options, kl_weight=float(len(grid.assays)))
        super().__init__(grid, start, options, *arguments)
        head = make_count_head(options.head, **(options.head_options or {}))
        counts = StudyView(head, start.counts, start.known_ba, suspects)
        self.by_kind[str(ViewKind.COUNTS)] = counts
        for weight_v in (self.offsets.others_weight_v, self.offsets.relatives_weight_v):
            weight_v.requires_grad_(False)  # it stays at 0

    def predict(self, raw_rqgo: Tensor, around: Surroundings, *args: Any) -> dict[ViewKind, ViewPrediction]:
        """See :class:`chipvi.module.ChipVAE`; nothing but the latent is known."""
        return super().predict(raw_rqgo, _bare(around), *args)

    def decode(self, encoding: Encoding, queries: Queries) -> Tensor:
        """See :class:`chipvi.module.ChipVAE`; nothing but the latent is known."""
        encoding = replace(encoding, around=_bare(encoding.around))
        if "assay_norm" not in self._suspects:
            return super().decode(encoding, queries)
        n_assays = self.tracks.track_ba.shape[1]
        every_qa = torch.arange(n_assays, device=queries.assay_qg.device).expand(len(queries.assay_qg), -1)
        raw_rqoa = super().decode(encoding, replace(queries, assay_qg=every_qa)).transpose(2, 3)
        normed_rqao = F.layer_norm(raw_rqoa, (n_assays,)).transpose(2, 3)
        n_regions, n_outputs = len(normed_rqao), normed_rqao.shape[-1]
        index_rqgo = queries.assay_qg[None, :, :, None].expand(n_regions, -1, -1, n_outputs)
        return normed_rqao.gather(2, index_rqgo)

    def loss(self, *args: Any, **kwargs: Any) -> LossOutput:
        """See :class:`chipvi.module.ChipVAE`; `clamped_losses` is the share of entries whose loss is clamped."""
        output = super().loss(*args, **kwargs)
        if "loss_clamp" in self._suspects:
            output.extra_metrics["clamped_losses"] = self.view(ViewKind.COUNTS).clamped_share
        return output


def _bare(around: Surroundings) -> Surroundings:
    """Without what is known beside the latent: a biosample's own tracks, and the others."""
    around = around.without_own()
    views = {kind: replace(view, others_rqai=0 * view.others_rqai) for kind, view in around.views.items()}
    return replace(around, views=views)


class StudyView(CountView):
    """Counts, given to the encoder and scored as the suspects have it.

    Parameters
    ----------
    head, start, known_ba
        As in :class:`chipvi.module.views.CountView`.
    suspects
        Names out of :data:`SUSPECTS`.
    """

    clamped_share: Tensor

    def __init__(self, head: CountHead, start: CellStart, known_ba: np.ndarray, suspects: Collection[str]) -> None:
        super().__init__(SuspectHead(head, suspects), start, known_ba)
        self._suspects = frozenset(suspects)

    def slots(self, means: AssayMeans) -> Slots:
        """Raw counts, or as the model has them."""
        if "raw_counts" not in self._suspects:
            return super().slots(means)
        return Slots(means.value_rqas * means.present_rqa.unsqueeze(-1), means.present_rqa)

    def losses(
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_exposure_rqg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Likelihoods as the suspects have them."""
        nll_rqg, mismatch_rqg = super().losses(prediction, truth, queries, log_exposure_rqg)
        if "loss_clamp" in self._suspects:
            is_scored_rqg = truth.scored_rqg > 0
            median = nll_rqg.detach()[is_scored_rqg].median()
            self.clamped_share = ((nll_rqg.detach() - median).abs() > _LOSS_CLAMP)[is_scored_rqg].float().mean()
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
