"""ChipVAE: what one biosample shows in a region, and what the others show there, to any of its tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from ..data.grid import Layout, Start
from ..nn import (
    HALF_WIDTHS,
    BiosampleEmbedding,
    Decoder,
    Encoder,
    GaussianHead,
    log_ratio,
    log_update,
    make_count_head,
    window_means,
)

NO_ASSAY = -1
# of the average of the other biosamples in the mean of an experiment that training never saw, if nothing tells better:
# where one biosample at most taught its assay, and where more did, so that the network knows when to follow the average
_AVERAGE_SHARE, _AVERAGE_SHARE_LEARNT = 0.5, 0.25
CALIBRATION = ("log_mean_factor_ba", "log_dispersion_factor_ba", "signal_shift_ba", "log_std_factor_ba")
_CAUTION = 2.0  # log of how much narrower the prior of a rate starts than its track: own reads are noise at first


class ChipVAE(BaseModuleClass):
    """Variational autoencoder with one latent per region and biosample, shared over biosamples.

    The encoder of biosample b sees its visible tracks and, for every assay, the average of the other biosamples, each
    as means over windows of several widths. The decoder of a target (biosample, assay) sees the latent, the average of
    the same assay in the others and, to denoise it, the target's own data. Both also enter the mean as offsets with a
    learned weight, and the target's reads in the region itself, where visible, as the update of a gamma prior. A target
    or a biosample that was never seen uses the same weights with a generic embedding.

    A query (q) is a biosample and, at will, an assay that it is asked without; all regions of a minibatch share the
    queries. Axes: rows read l, regions r, tracks t, queries q, assays a, targets of a query g, latents k, windows s.

    Parameters
    ----------
    layout, start
        The grid of tracks and the numbers to start from.
    n_latent, n_hidden, n_decoder_hidden, n_embedding
        Sizes.
    dropout
        Share of the encoder's hidden units dropped in training.
    head, head_options
        Count head by name (:data:`chipvi.nn.COUNT_HEADS`), and options of its constructor.
    kl_weight
        Weight of the KL divergence per assay. The full weight destroys imputation.
    mean_weight
        Weight of the mean-matching terms beside the likelihoods.
    denoise_weight
        Weight of the likelihood of the reads that thinning set aside.
    """

    def __init__(
        self,
        layout: Layout,
        start: Start,
        n_latent: int = 32,
        n_hidden: int = 256,
        n_decoder_hidden: int = 96,
        n_embedding: int = 16,
        dropout: float = 0.1,
        head: str = "mean_dispersion",
        head_options: dict[str, float | None] | None = None,
        kl_weight: float = 0.001,
        mean_weight: float = 1.0,
        denoise_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.has_counts, self.has_signal = layout.has_counts, layout.has_signal
        self.n_latent = n_latent
        self.kl_weight, self.mean_weight, self.denoise_weight = kl_weight, mean_weight, denoise_weight
        n_biosamples, n_assays = len(layout.biosamples), len(layout.assays)
        n_slot = (len(HALF_WIDTHS) + 1) * (self.has_counts + self.has_signal)
        self.count_head = make_count_head(head, **(head_options or {}))
        self.signal_head = GaussianHead()
        # one more for counts: how far a target's own reads are believed
        self.n_count_outputs = (self.count_head.n_outputs + 1) * self.has_counts
        self.n_signal_outputs = self.signal_head.n_outputs * self.has_signal
        n_outputs = self.n_count_outputs + self.n_signal_outputs
        self.biosamples = BiosampleEmbedding(n_biosamples, n_embedding)
        self.encoder = Encoder(2 * n_assays * n_slot, n_embedding, n_hidden, n_latent, dropout)
        self.decoder = Decoder(n_assays, n_latent, n_embedding, 2 * n_slot, n_decoder_hidden, n_outputs)
        # offsets of the mean: weights of the windows (softmax) and of the whole, for the average of the other
        # biosamples (by view) and for the target's own counts
        self.others_windows_vs = nn.Parameter(torch.zeros(2, len(HALF_WIDTHS)))
        self.others_weight_v = nn.Parameter(torch.zeros(2))
        self.own_windows_s = nn.Parameter(torch.zeros(len(HALF_WIDTHS)))
        self.own_weight = nn.Parameter(torch.zeros(()))
        self._register(layout, start)

    def _register(self, layout: Layout, start: Start) -> None:
        """Keep as buffers what prediction needs, so that a saved model carries it."""
        self.register_buffer("assay_t", torch.as_tensor(layout.assay_t))
        self.register_buffer("biosample_t", torch.as_tensor(layout.biosample_t))
        self.register_buffer("track_ba", torch.as_tensor(layout.track_ba))
        self.register_buffer("target_bg", torch.as_tensor(layout.target_bg))
        self.register_buffer("log_center", torch.tensor(start.log_center, dtype=torch.float64))
        for name in ("log_depth_t", "log_rate_ba", "log_dispersion_ba", "signal_ba", "log_std_ba", "known_ba"):
            self.register_buffer(name, torch.as_tensor(getattr(start, name)))
        share_a = np.where(start.known_ba.sum(axis=0) >= 2, _AVERAGE_SHARE_LEARNT, _AVERAGE_SHARE)
        share_ba = np.broadcast_to(share_a, start.known_ba.shape)
        self.register_buffer("unseen_share_ba", torch.tensor(share_ba, dtype=torch.float32))
        self.register_buffer("rate_a", torch.as_tensor(np.exp(start.log_rate_ba).mean(axis=0)))
        self.register_buffer("feature_shift_va", torch.zeros(2, len(layout.assays)))
        self.register_buffer("feature_scale_va", torch.ones(2, len(layout.assays)))
        for name in CALIBRATION:
            self.register_buffer(name, torch.zeros(start.log_rate_ba.shape))

    @torch.no_grad()
    def fit_features(self, tensors: dict[str, Tensor]) -> None:
        """Standardise the inputs of each assay by what they are in these regions, at the scale of single regions."""
        for v, value_rts, present_rt in self._views(tensors):
            value_rt = (torch.log1p(value_rts) if v == 0 else value_rts)[..., 0].double()
            for a in range(self.feature_shift_va.shape[1]):
                entries = value_rt[(present_rt > 0) & (self.assay_t == a)]
                if len(entries) > 1:
                    self.feature_shift_va[v, a] = entries.mean()
                    self.feature_scale_va[v, a] = entries.std().clamp_min(0.05)

    def _views(self, tensors: dict[str, Tensor]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Counts as rates (0) and signal (1): window means (r, t, s), and 1 where visible with any value (r, t)."""
        for v, (has, values, present) in enumerate(
            [(self.has_counts, "counts_lt", "counted_lt"), (self.has_signal, "signal_lt", "signalled_lt")]
        ):
            if has:
                value_rts, any_rt = window_means(
                    tensors[values], tensors[present], tensors["low_rs"], tensors["high_rs"]
                )
                if v == 0:
                    value_rts = value_rts * torch.exp(-tensors["log_depth_t"] - tensors["log_keep"])[:, None]
                yield v, value_rts, (any_rt & tensors["visible_rt"]).float()

    def _own(
        self, value_rts: Tensor, present_rt: Tensor, biosample_q: Tensor, leave_out_q: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A biosample's own tracks, a slot per assay, and 1 where there is one that is visible."""
        track_qa = self.track_ba[biosample_q]
        assay_a = torch.arange(track_qa.shape[1], device=track_qa.device)
        may_see_qa = (track_qa >= 0) & (assay_a != leave_out_q[:, None])
        track_qa = track_qa.clamp_min(0)
        present_rqa = present_rt[:, track_qa] * may_see_qa
        return value_rts[:, track_qa] * present_rqa[..., None], present_rqa

    def _average_of_others(self, value_rts: Tensor, present_rt: Tensor, biosample_q: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of each assay over the other biosamples in which it is visible, and 1 where there is any."""
        # summed over the others, never as a difference, so that not even rounding tells of the biosample's own track
        is_other_qt = self.biosample_t != biosample_q[:, None]
        is_assay_at = self.assay_t == torch.arange(self.track_ba.shape[1], device=self.assay_t.device)[:, None]
        member_qat = (is_other_qt[:, None] & is_assay_at).float()
        number_rqa = torch.einsum("rt,qat->rqa", present_rt, member_qat)
        total_rqas = torch.einsum("rts,qat->rqas", value_rts * present_rt[..., None], member_qat)
        return total_rqas / number_rqa.clamp_min(1)[..., None], (number_rqa > 0).float()

    def _slots(self, v: int, value_rqas: Tensor, present_rqa: Tensor) -> Tensor:
        """Standardised features and their presence; all 0 where there is nothing."""
        feature_rqas = torch.log1p(value_rqas) if v == 0 else value_rqas
        feature_rqas = (feature_rqas - self.feature_shift_va[v][:, None]) / self.feature_scale_va[v][:, None]
        present_rqa1 = present_rqa[..., None]
        return torch.cat([feature_rqas * present_rqa1, present_rqa1], dim=-1)

    @staticmethod
    def _pick(average_rqax: Tensor, assay_qg: Tensor) -> tuple[Tensor, ...]:
        """What there is of each target's assay, each (r, q, g)."""
        n_regions, _, _, n_kinds = average_rqax.shape
        index_rqgx = assay_qg[None, :, :, None].expand(n_regions, -1, -1, n_kinds)
        return average_rqax.gather(2, index_rqgx).unbind(dim=-1)

    def _own_reads(
        self, tensors: dict[str, Tensor], biosample_q: Tensor, leave_out_q: Tensor, log_keep: Tensor
    ) -> Tensor:
        """Reads of a biosample's own tracks in the region itself, whether they are visible, and their log depth."""
        own_row_r = tensors["low_rs"][:, 0]
        seen_rt = (tensors["counted_lt"][own_row_r] & tensors["visible_rt"]).float()
        reads_rqa, seen_rqa = self._own(tensors["counts_lt"][own_row_r][..., None], seen_rt, biosample_q, leave_out_q)
        log_depth_qa = (tensors["log_depth_t"] + log_keep)[self.track_ba[biosample_q].clamp_min(0)]
        return torch.stack([reads_rqa[..., 0], seen_rqa, log_depth_qa.expand_as(seen_rqa)], dim=-1)

    # --- what scvi-tools asks for ---

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        names = ("biosample_q", "embedding_q", "leave_out_q", "log_keep")
        return {"tensors": tensors} | {name: tensors[name] for name in names}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Any], **_: Any
    ) -> dict[str, Any]:
        names = ("biosample_q", "embedding_q", "assay_qg", "log_depth_rqg")
        return {name: tensors[name] for name in names} | {
            name: inference_outputs[name] for name in ("z_rqk", "others_rqaxv", "slots_rqai", "own_rqax")
        }

    def inference(
        self,
        tensors: dict[str, Tensor],
        biosample_q: Tensor,
        embedding_q: Tensor,
        leave_out_q: Tensor,
        log_keep: Tensor,
        generator: torch.Generator | None = None,
    ) -> dict[str, Any]:
        """Latent of each query in each region, from visible data only.

        Parameters
        ----------
        tensors
            A minibatch of :func:`chipvi.data.minibatch.take_regions`, with `log_depth_t` and `visible_rt`.
        biosample_q, embedding_q
            Biosample of each query, and the embedding to use for it.
        leave_out_q
            Assay that each query must not see of its own biosample; `NO_ASSAY` for none.
        log_keep
            Log of the share of the reads that the counts at hand are, 0 for all.
        generator
            Of the sample `z_rqk`; None for torch's own.

        Returns
        -------
        `qz`, `z_rqk`, and for the decoder: `others_rqaxv`, the average of the other biosamples (x: over the windows by
        learnt weights, of the region alone, whether there is any) as rates or signal; `slots_rqai`, the features of
        that average and of the biosample's own data; and `own_rqax`, its own visible counts (x: reads of the region,
        whether they are visible, the log depth they are at less the centre, rate over the windows, whether it is
        visible).
        """
        own, reference, others, smooth = [], [], [], []
        with torch.autocast(biosample_q.device.type, enabled=False):
            for v, value_rts, present_rt in self._views(tensors):
                own_rqas, visible_rqa = self._own(value_rts, present_rt, biosample_q, leave_out_q)
                mean_rqas, has_rqa = self._average_of_others(value_rts, present_rt, biosample_q)
                own.append(self._slots(v, own_rqas, visible_rqa))
                reference.append(self._slots(v, mean_rqas, has_rqa))
                others_rqa = (mean_rqas * torch.softmax(self.others_windows_vs[v], dim=-1)).sum(-1)
                others.append(torch.stack([others_rqa, mean_rqas[..., 0], has_rqa], dim=-1))
                if v == 0:
                    smooth_rqa = (own_rqas * torch.softmax(self.own_windows_s, dim=-1)).sum(-1)
                    smooth.append(torch.stack([smooth_rqa, visible_rqa], dim=-1))
        own_rqai, reference_rqai = torch.cat(own, dim=-1), torch.cat(reference, dim=-1)
        n_regions, n_queries = own_rqai.shape[:2]
        slots_rqai = torch.cat([reference_rqai, own_rqai], dim=-1)
        embedding_e = self.biosamples(embedding_q.expand(n_regions, -1).flatten())
        log_keep_q = log_keep.expand(n_regions * n_queries)
        mean, std = self.encoder(slots_rqai.flatten(2).flatten(0, 1), embedding_e, log_keep_q)
        shape = (n_regions, n_queries, self.n_latent)
        qz = Normal(mean.float().view(shape), std.float().view(shape), validate_args=False)
        noise = torch.randn(shape, generator=generator, device=qz.loc.device)
        return {
            "qz": qz,
            "z_rqk": qz.loc + qz.scale * noise,
            "others_rqaxv": torch.stack(others, dim=-1),
            "slots_rqai": slots_rqai,
            "own_rqax": torch.cat([self._own_reads(tensors, biosample_q, leave_out_q, log_keep), *smooth], dim=-1),
        }

    def without_own(self, inference_outputs: dict[str, Any]) -> dict[str, Any]:
        """Let the decoder know of a biosample's own data through the latent only, as a likelihood given it must."""
        slots_rqai = inference_outputs["slots_rqai"].clone()
        slots_rqai[..., slots_rqai.shape[-1] // 2 :] = 0
        own_rqax = torch.zeros_like(inference_outputs["own_rqax"])
        return inference_outputs | {"slots_rqai": slots_rqai, "own_rqax": own_rqax}

    def generative(
        self,
        z_rqk: Tensor,
        others_rqaxv: Tensor,
        slots_rqai: Tensor,
        own_rqax: Tensor,
        biosample_q: Tensor,
        embedding_q: Tensor,
        assay_qg: Tensor,
        log_depth_rqg: Tensor,
    ) -> dict[str, Any]:
        """Distributions of the targets of each query.

        Parameters
        ----------
        z_rqk, others_rqaxv, slots_rqai, own_rqax
            From :meth:`inference`.
        biosample_q, embedding_q
            Biosample of each query, and its embedding.
        assay_qg
            Assays to predict for each query.
        log_depth_rqg
            Log depth of each target, less the centre; broadcasts over regions.

        Returns
        -------
        `counts`, a distribution of shape (r, q, g) or None, and `signal`, a normal distribution or None; and what their
        heads were given, `count_inputs` and `signal_inputs`.
        """
        raw_counts_rqgo, raw_signal_rqgo = self._decode(z_rqk, slots_rqai, embedding_q, assay_qg).split(
            [self.n_count_outputs, self.n_signal_outputs], dim=-1
        )
        generated: dict[str, Any] = {"counts": None, "signal": None}
        cell = (biosample_q[:, None], assay_qg)
        if self.has_counts:
            others_rqg, _, has_rqg = self._pick(others_rqaxv[..., 0], assay_qg)
            log_ratio_rqg = log_ratio(others_rqg, self.rate_a[assay_qg])
            reads_rqg, seen_rqg, log_input_rqg, smooth_rqg, visible_rqg = self._pick(own_rqax, assay_qg)
            log_rate_rqg = (
                self.log_rate_ba[cell]
                + self.others_weight_v[0] * has_rqg * log_ratio_rqg
                + self.own_weight * visible_rqg * log_ratio(smooth_rqg, self.rate_a[assay_qg])
            )
            log_dispersion_rqg = self.log_dispersion_ba[cell].expand_as(log_rate_rqg)
            update_rqg = seen_rqg * log_update(
                reads_rqg,
                log_rate_rqg + raw_counts_rqgo[..., 0] + log_input_rqg,
                log_dispersion_rqg + _CAUTION + raw_counts_rqgo[..., -1],
            )
            log_mean_rqg = log_depth_rqg + log_rate_rqg + update_rqg
            count_inputs = (raw_counts_rqgo[..., :-1], log_mean_rqg, log_dispersion_rqg)
            generated |= {"counts": self.count_head(*count_inputs), "count_inputs": count_inputs}
        if self.has_signal:
            others_rqg, _, has_rqg = self._pick(others_rqaxv[..., -1], assay_qg)
            start_qg = self.signal_ba[cell]
            mean_rqg = start_qg + self.others_weight_v[1] * has_rqg * (others_rqg - start_qg)
            signal_inputs = (raw_signal_rqgo, mean_rqg, self.log_std_ba[cell])
            generated |= {"signal": self.signal_head(*signal_inputs), "signal_inputs": signal_inputs}
        return generated

    def _decode(self, z_rqk: Tensor, slots_rqai: Tensor, embedding_q: Tensor, assay_qg: Tensor) -> Tensor:
        """Raw numbers for the heads of each target, shape (r, q, g, outputs)."""
        shape = (*z_rqk.shape[:2], assay_qg.shape[1])
        slots_rqgi = slots_rqai.gather(2, assay_qg[None, :, :, None].expand(*shape, slots_rqai.shape[-1]))
        raw = self.decoder(
            z_rqk.flatten(0, 1),
            self.biosamples(embedding_q.expand(shape[0], -1).flatten()),
            assay_qg.expand(shape).flatten(0, 1),
            slots_rqgi.flatten(0, 1),
        )
        return raw.view(*shape, -1).float()

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float = 1.0,
    ) -> LossOutput:
        """Negative evidence lower bound per entry, hidden and set-aside entries in their own mean.

        Parameters
        ----------
        tensors
            With the targets: `target_counts_rqg` and `target_signal_rqg`, and their weights, 1 or 0, for hidden
            (`hidden_counts_rqg`, `hidden_signal_rqg`) and for set-aside (`spared_counts_rqg`) entries.
        inference_outputs, generative_outputs
            As returned.
        kl_weight
            Factor of the KL divergence, 0 to 1.
        """
        kl_rq = kl_divergence(inference_outputs["qz"], Normal(0.0, 1.0)).sum(dim=-1)
        terms: dict[str, Tensor] = {}
        loss = kl_weight * self.kl_weight / self.track_ba.shape[1] * kl_rq.mean()
        counts, signal = generative_outputs["counts"], generative_outputs["signal"]
        cell = (tensors["biosample_q"][:, None], tensors["assay_qg"])
        if counts is not None:
            target, hidden, spared = (tensors[f"{name}_counts_rqg"] for name in ("target", "hidden", "spared"))
            nll, mismatch = self._count_losses(counts, target, tensors, cell)
            terms["imp_count_loss"] = _mean(nll, hidden)
            terms["obs_count_loss"] = _mean(nll, spared)
            weight = hidden + self.denoise_weight * spared
            loss = loss + terms["imp_count_loss"] + self.denoise_weight * terms["obs_count_loss"]
            loss = loss + self.mean_weight * _mean(mismatch, weight)
        if signal is not None:
            target, hidden = tensors["target_signal_rqg"], tensors["hidden_signal_rqg"]
            terms["imp_signal_loss"] = _mean(-signal.log_prob(target), hidden)
            squared = ((target - signal.mean) / torch.exp(self.log_std_ba[cell])).square()
            loss = loss + terms["imp_signal_loss"] + self.mean_weight * _mean(squared, hidden)
        return LossOutput(loss=loss, kl_local={"kl": kl_rq.mean()}, extra_metrics=terms, n_obs_minibatch=kl_rq.shape[0])

    def _count_losses(
        self, counts: Distribution, target_rqg: Tensor, tensors: dict[str, Tensor], cell: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each entry, and how far its mean is off.

        The latter is quasi-Poisson: the likelihood hardly cares about the height of peaks where dispersion is low.
        """
        excess_rqg = torch.exp(self.log_rate_ba[cell] + tensors["log_depth_rqg"] - self.log_dispersion_ba[cell])
        mismatch_rqg = (counts.mean - target_rqg * torch.log(counts.mean)) / (1 + excess_rqg)
        return -counts.log_prob(target_rqg), mismatch_rqg


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where all weights are."""
    return (value * weight).sum() / weight.sum().clamp_min(1)
