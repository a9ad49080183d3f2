"""ChipVAE: what one biosample shows in a region, and what the others show there, to any of its tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from .._arguments import require_real, require_whole
from ..data.context import choose_half_widths
from ..data.grid import Grid, Initialisation
from ..data.minibatch import Minibatch
from ..data.track_data import ViewKind
from ..nn import (
    BiosampleAffinity,
    BiosampleEmbedding,
    BoostedTrees,
    Decoder,
    Encoder,
    make_count_head,
    similarity_scores,
)
from .features import TrackGrid, WindowOffsets
from .inputs import (
    Encoding,
    Example,
    LossWeights,
    Queries,
    Surroundings,
    Truth,
    ViewFeatures,
    ViewPrediction,
    Visible,
    WindowMeans,
)
from .views import CountView, SignalView, TargetInputs, View

_SIMILARITY_WINDOW = -3  # from the widest, over which biosamples are compared: 1.4 kb of bins
_N_DECODER_HIDDEN, _N_EMBEDDING = 96, 16


@dataclass(frozen=True)
class ModuleOptions:
    """Sizes and weights of :class:`ChipVAE`.

    Parameters
    ----------
    n_latent
        Size of the latent of a region in a biosample.
    n_hidden
        Width of the two hidden layers of the encoder.
    dropout
        Share of the encoder's hidden units dropped in training.
    head, head_options
        Count head by name (:data:`chipvi.nn.COUNT_HEADS`), and options of its constructor.
    kl_weight
        Weight of the KL divergence per assay. The full weight destroys imputation.
    mean_weight
        Weight of the mean-matching terms beside the likelihoods.
    denoise_weight
        Weight of the likelihood of the reads that data thinning held back.
    """

    n_latent: int = 32
    n_hidden: int = 256
    dropout: float = 0.1
    head: str = "mean_dispersion"
    head_options: Mapping[str, float | None] | None = None
    kl_weight: float = 0.001
    mean_weight: float = 1.0
    denoise_weight: float = 1.0

    def __post_init__(self) -> None:
        require_whole("n_latent", self.n_latent, least=1)
        require_whole("n_hidden", self.n_hidden, least=1)
        require_real("dropout", self.dropout, least=0, below=1)
        require_real("kl_weight", self.kl_weight, least=0)
        require_real("mean_weight", self.mean_weight, least=0)
        require_real("denoise_weight", self.denoise_weight, least=0)


class ChipVAE(BaseModuleClass):
    """Variational autoencoder with one latent per region and biosample, shared over biosamples.

    The encoder of biosample b sees its visible tracks and, for every assay, the average of the other biosamples, each
    as means over windows of several widths. The decoder of a target (biosample, assay) sees the latent, the average of
    the same assay in the others and, to denoise it, the target's own data. Both also enter the mean as offsets with a
    learned weight, and the target's reads in the region itself, where visible, as the update of a gamma prior. A target
    or a biosample that was never seen uses the same weights with a generic embedding.

    A query (q) is a biosample and, at will, an assay that it is asked without; all regions of a minibatch share the
    queries. Axes: rows read l, regions r, tracks t, queries q, assays a, targets of a query g, latents k, windows s,
    views v.

    Parameters
    ----------
    grid, start
        The grid of tracks and the numbers to start from.
    options
        Sizes and weights.
    n_covariates
        Region covariates, which encoder and decoder see.
    half_widths
        How far windows reach to either side, narrowest first: bp, or without coordinates regions.
    """

    log_center: Tensor
    log_depth_t: Tensor
    known_ba: Tensor
    covariate_shift_c: Tensor
    covariate_scale_c: Tensor

    def __init__(
        self,
        grid: Grid,
        start: Initialisation,
        options: ModuleOptions | None = None,
        n_covariates: int = 0,
        half_widths: tuple[int, ...] = choose_half_widths(None),  # noqa: B008 - a tuple
    ) -> None:
        super().__init__()
        self.half_widths = half_widths
        self.options = options = ModuleOptions() if options is None else options
        n_biosamples, n_assays = len(grid.biosamples), len(grid.assays)
        # the offsets go first: the norm of the gradient is summed up in the order of the parameters
        self.offsets = WindowOffsets(len(half_widths))
        views: dict[ViewKind, View] = {}
        if ViewKind.COUNTS in grid.seen:
            head = make_count_head(options.head, **(options.head_options or {}))
            views[ViewKind.COUNTS] = CountView(head, start.counts, start.known_ba)
        if ViewKind.SIGNAL in grid.seen:
            views[ViewKind.SIGNAL] = SignalView(start.signal, start.known_ba)
        n_slot = (len(half_widths) + 1) * len(views)
        self.biosamples = BiosampleEmbedding(n_biosamples, _N_EMBEDDING)
        self.affinity = BiosampleAffinity(n_biosamples, n_assays)
        is_own_i = ([False] * 2 * (len(half_widths) + 1) + [True] * (len(half_widths) + 1)) * len(views)
        sizes = (_N_EMBEDDING, n_covariates, options.n_hidden, options.n_latent)
        self.encoder = Encoder(n_assays, is_own_i, *sizes, options.dropout)
        n_outputs = sum(views[kind].n_outputs for kind in grid.views)
        n_inputs = 3 * n_slot + n_covariates
        self.decoder = Decoder(n_assays, options.n_latent, _N_EMBEDDING, n_inputs, _N_DECODER_HIDDEN, n_outputs)
        self.by_kind = torch.nn.ModuleDict({str(kind): view for kind, view in views.items()})
        self._predicted = grid.views
        # kept as buffers, so that a saved model carries what prediction needs
        self.tracks = TrackGrid(
            *(torch.as_tensor(x) for x in (grid.biosample_t, grid.assay_t, grid.track_ba, grid.target_bg))
        )
        self.trees = BoostedTrees(n_covariates + len(start.log_depth_t) * self._n_tree_features)
        self.register_buffer("log_center", torch.tensor(start.log_center, dtype=torch.float64))
        self.register_buffer("log_depth_t", torch.as_tensor(start.log_depth_t))
        self.register_buffer("known_ba", torch.as_tensor(start.known_ba))
        self.register_buffer("covariate_shift_c", torch.zeros(n_covariates))
        self.register_buffer("covariate_scale_c", torch.ones(n_covariates))

    @property
    def seen(self) -> tuple[View, ...]:
        """The views that the encoder sees, counts first."""
        return tuple(self.by_kind.values())  # type: ignore[arg-type]

    @property
    def views(self) -> tuple[View, ...]:
        """Those that are predicted: all, but for a view that controls alone have."""
        return tuple(self.view(kind) for kind in self._predicted)

    def view(self, kind: ViewKind) -> View:
        """One of them."""
        return self.by_kind[str(kind)]  # type: ignore[return-value]

    @property
    def has_counts(self) -> bool:
        """Whether counts are predicted."""
        return ViewKind.COUNTS in self._predicted

    @property
    def log_depth_array_t(self) -> np.ndarray:
        """Log depth of each track in training, less the centre; float64."""
        return self.log_depth_t.double().cpu().numpy()

    @property
    def known_array_ba(self) -> np.ndarray:
        """Which cells of the grid have data, bool."""
        return self.known_ba.cpu().numpy()

    @property
    def _n_tree_features(self) -> int:
        """Of each track: its window means, view by view."""
        return len(self.seen) * len(self.half_widths)

    def tree_features(self, visible: Visible, means_of: Mapping[ViewKind, WindowMeans] | None = None) -> Tensor:
        """What trees may look at: the covariates, then the window means of each track, NaN where there are none (r, f).

        Parameters
        ----------
        visible
            Regions, and what may be seen of them.
        means_of
            Their window means by view, where they are known already.
        """
        feature_vrts = []
        for view in self.seen:
            means = view.means(visible) if means_of is None else means_of[view.kind]
            is_missing_rt1 = means.present_rt.unsqueeze(-1) == 0
            feature_vrts.append(view.transform(means.value_rts).masked_fill(is_missing_rt1, torch.nan))
        feature_rf = torch.stack(feature_vrts, dim=2).flatten(1)
        return torch.cat([visible.minibatch.covariates_rc, feature_rf], dim=1)

    def tree_features_of(self, tracks: np.ndarray) -> np.ndarray:
        """Positions among :meth:`tree_features` of the covariates and of these tracks."""
        n_covariates, n_features = len(self.covariate_shift_c), self._n_tree_features
        first_t1 = n_covariates + tracks[:, None] * n_features
        return np.concatenate([np.arange(n_covariates), (first_t1 + np.arange(n_features)).ravel()])

    @torch.no_grad()
    def standardise(self, minibatch: Minibatch) -> None:
        """Standardise the inputs of each assay, and the covariates, by what they are in these regions."""
        covariates_rc = minibatch.covariates_rc.double()
        self.covariate_shift_c.copy_(covariates_rc.mean(dim=0))
        self.covariate_scale_c.copy_((covariates_rc - self.covariate_shift_c).square().mean(dim=0).sqrt())
        self.covariate_scale_c[self.covariate_scale_c == 0] = 1.0  # a constant carries nothing, and harms nothing
        visible = Visible.everything(minibatch, self.log_depth_t)
        scores = []
        for view in self.seen:
            view.standardise(visible, self.tracks.assay_t)
            scores.append(similarity_scores(*self._standardised(view, visible)))
        self.affinity.learn(torch.stack(scores).mean(dim=0))

    def _standardised(self, view: View, visible: Visible) -> tuple[Tensor, Tensor, Tensor]:
        """One view of every cell around a region, 1 where there is any, and its noise variance, all (r, b, a)."""
        means = view.means(visible)
        value_rts = means.value_rts[..., _SIMILARITY_WINDOW, None]  # wide enough for few reads
        value_rba, present_rba = self.tracks.cells(WindowMeans(value_rts, means.present_rt))
        noise_rts = view.noise(value_rts.squeeze(-1), visible, _SIMILARITY_WINDOW).unsqueeze(-1)
        noise_rba, _ = self.tracks.cells(WindowMeans(noise_rts, means.present_rt))
        value_rba, noise_rba = view.transform(value_rba.squeeze(-1)), noise_rba.squeeze(-1)
        return (value_rba - view.shift_a) / view.scale_a, present_rba, noise_rba / view.scale_a**2

    # --- what scvi-tools asks for ---

    def forward(
        self,
        tensors: Example,
        generator: torch.Generator | None = None,
        kl_weight: float = 1.0,
        weights: LossWeights | None = None,
    ) -> tuple[Encoding, dict[ViewKind, ViewPrediction], LossOutput]:
        """Encode, predict and score an example; scvi-tools' own looks for keys of a dictionary.

        Parameters
        ----------
        tensors
            What is asked, and the truth.
        generator
            Of the draw of the latent; None for torch's own.
        kl_weight
            Factor of the KL divergence, 0 to 1.
        weights
            As in :meth:`loss`.
        """
        encoding = self.inference(tensors.visible, tensors.queries, generator)
        predicted = self.generative(encoding, tensors.queries, tensors.log_depth_rqg)
        return encoding, predicted, self.loss(tensors, encoding, predicted, kl_weight, weights)

    def _get_inference_input(self, tensors: Example, **_: Any) -> dict[str, Any]:
        return {"visible": tensors.visible, "queries": tensors.queries}

    def _get_generative_input(self, tensors: Example, inference_outputs: Encoding, **_: Any) -> dict[str, Any]:
        return {
            "encoding": inference_outputs,
            "queries": tensors.queries,
            "log_depth_rqg": tensors.log_depth_rqg,
        }

    def inference(self, visible: Visible, queries: Queries, generator: torch.Generator | None = None) -> Encoding:
        """Latent of each query in each region, from visible data only.

        Parameters
        ----------
        visible, queries
            What may be seen, and what is asked.
        generator
            Of the draw of the latent; None for torch's own.
        """
        encoding = self.encode(self.look(visible, queries.biosample_q), queries)
        posterior = encoding.posterior
        noise = torch.randn(posterior.loc.shape, generator=generator, device=posterior.loc.device)
        return encoding.with_latent(posterior.loc + posterior.scale * noise)

    def look(self, visible: Visible, biosample_q: Tensor) -> Surroundings:
        """What is known of some biosamples around each region.

        Parameters
        ----------
        visible
            What may be seen.
        biosample_q
            Biosamples that may be asked for.
        """
        log_weight_qab, own_counts = self.affinity(biosample_q), None
        means, views = {}, {}
        with torch.autocast(biosample_q.device.type, enabled=False):
            for view in self.seen:
                means[view.kind] = view.means(visible)
                own = self.tracks.own(means[view.kind], biosample_q)
                others = self.tracks.averages_of_others(means[view.kind], biosample_q, log_weight_qab)
                others = others.times(self.affinity.is_of_use)
                relatives = replace(view.slots(others.weighted), present_rqa=others.trust_rqa)
                views[view.kind] = ViewFeatures(
                    others_rqai=torch.cat([view.slots(others.equal).packed_rqai, relatives.packed_rqai], dim=-1),
                    own_rqai=view.slots(own).packed_rqai,
                    average=self.offsets.average(others.equal, view.number),
                    weighted=self.offsets.relatives(others.weighted, view.number),
                )
                if view.kind is ViewKind.COUNTS:
                    windows_rqa = self.offsets.own_over_windows(own)
                    own_counts = self.tracks.own_counts(visible, biosample_q, own, windows_rqa)
        covariates_rc = (visible.minibatch.covariates_rc - self.covariate_shift_c) / self.covariate_scale_c
        return Surroundings(visible, means, views, own_counts, covariates_rc, visible.minibatch.log_width_r)

    def encode(self, around: Surroundings, queries: Queries) -> Encoding:
        """Latent of each query in each region, at its mean.

        Parameters
        ----------
        around
            Of :meth:`look`.
        queries
            What is asked.
        """
        views = around.views.values()
        own_rqai = torch.cat([queries.look_up(view.own_rqai) for view in views], dim=-1)
        may_see_qa1 = queries.may_see_qa(own_rqai.shape[2]).unsqueeze(-1)
        mean_rqk, std_rqk = self.encoder(
            torch.cat([queries.look_up(view.others_rqai) for view in views], dim=-1).flatten(2),
            (own_rqai * may_see_qa1).flatten(2),
            self.biosamples(queries.embedding_q),
            around.covariates_rc,
            around.visible.log_keep,
        )
        posterior = Normal(mean_rqk.float(), std_rqk.float(), validate_args=False)
        return Encoding(posterior, posterior.loc, around)

    def generative(self, encoding: Encoding, queries: Queries, log_depth_rqg: Tensor) -> dict[ViewKind, ViewPrediction]:
        """Distributions of the targets of each query, by view.

        Parameters
        ----------
        encoding, queries
            From :meth:`inference`, and as there.
        log_depth_rqg
            Log depth of each target, less the centre; broadcasts over regions.
        """
        return self.predict(self.decode(encoding, queries), encoding.around, queries, log_depth_rqg)

    def decode(self, encoding: Encoding, queries: Queries) -> Tensor:
        """Raw numbers for the heads of each target, shape (r, q, g, outputs)."""
        picked = []
        for view in encoding.around.views.values():
            own_rqgi = queries.pick(view.own_rqai) * queries.may_see_qg.unsqueeze(-1)
            picked += [queries.pick(view.others_rqai), own_rqgi]
        covariates_rqgc = encoding.around.covariates_rc[:, None, None].expand(*picked[0].shape[:3], -1)
        features_rqgi = torch.cat([*picked, covariates_rqgc], dim=-1)
        embedding_qe = self.biosamples(queries.embedding_q)
        return self.decoder(encoding.z_rqk, embedding_qe, queries.assay_qg, features_rqgi).float()

    def predict(
        self, raw_rqgo: Tensor, around: Surroundings, queries: Queries, log_depth_rqg: Tensor
    ) -> dict[ViewKind, ViewPrediction]:
        """Distributions of the targets given the raw numbers of :meth:`decode`; otherwise as :meth:`generative`."""
        log_exposure_rqg = log_depth_rqg + around.log_width_r[:, None, None]
        own = None if around.own_counts is None else around.own_counts.pick(queries)
        predicted, first = {}, 0
        for view in self.views:
            raw_view_rqgo, known = raw_rqgo[..., first : first + view.n_outputs], around.views[view.kind]
            averages = known.average.pick(queries), known.weighted.pick(queries)
            predicted[view.kind] = view.predict(
                raw_view_rqgo, queries, TargetInputs(*averages, own, log_exposure_rqg), self.offsets
            )
            first += view.n_outputs
        return predicted

    def loss(
        self,
        tensors: Example,
        inference_outputs: Encoding,
        generative_outputs: Mapping[ViewKind, ViewPrediction],
        kl_weight: float = 1.0,
        weights: LossWeights | None = None,
    ) -> LossOutput:
        """Negative evidence lower bound per entry, hidden and thinned entries in their own mean.

        Parameters
        ----------
        tensors
            What was asked, and the truth.
        inference_outputs, generative_outputs
            As returned.
        kl_weight
            Factor of the KL divergence, 0 to 1.
        weights
            By what to divide sums in place of what :meth:`weigh` finds, as where the example is a part of a minibatch.
        """
        weights = self.weigh(tensors) if weights is None else weights
        kl_rq = kl_divergence(inference_outputs.posterior, Normal(0.0, 1.0)).sum(dim=-1)
        terms: dict[str, Tensor] = {}
        kl = kl_rq.sum() / weights.latents
        loss = kl_weight * self.options.kl_weight / self.tracks.track_ba.shape[1] * kl
        log_exposure_rqg = tensors.log_depth_rqg + inference_outputs.around.log_width_r[:, None, None]
        for v, view in enumerate(self.views):
            truth = tensors.truth[view.kind]
            nll_rqg, mismatch_rqg = view.losses(generative_outputs[view.kind], truth, tensors.queries, log_exposure_rqg)
            terms[view.names.imputed_loss] = (nll_rqg * truth.hidden_rqg).sum() / weights.hidden_v[v]
            loss = loss + terms[view.names.imputed_loss]
            if view.names.denoised_loss is not None:
                terms[view.names.denoised_loss] = (nll_rqg * truth.thinned_rqg).sum() / weights.thinned_v[v]
                loss = loss + self.options.denoise_weight * terms[view.names.denoised_loss]
            matched_rqg = self._matched(view, truth)
            loss = loss + self.options.mean_weight * ((mismatch_rqg * matched_rqg).sum() / weights.matched_v[v])
        return LossOutput(loss=loss, kl_local={"kl": kl}, extra_metrics=terms, n_obs_minibatch=kl_rq.shape[0])

    @torch.no_grad()
    def weigh(
        self, example: Example, total: Callable[[Tensor], Tensor] = lambda part: part, n_parts: int = 1
    ) -> LossWeights:
        """By what the sums in the loss of an example are divided.

        Parameters
        ----------
        example
            All of a minibatch, or one of several parts, on each of which the loss is worked out.
        total, n_parts
            Sums a tensor up over the parts, and how many they are. The mean of their losses is then the loss of all of
            the minibatch, however its measured entries are spread over them.
        """
        truths = [(view, example.truth[view.kind]) for view in self.views]
        n_latents = len(example.visible.visible_rt) * len(example.queries.assay_qg)
        sums = [
            torch.tensor([float(n_latents)], device=self.log_depth_t.device),
            torch.stack([truth.hidden_rqg.sum() for _, truth in truths]),
            torch.stack([truth.thinned_rqg.sum() for _, truth in truths]),
            torch.stack([self._matched(view, truth).sum() for view, truth in truths]),
        ]
        weights = total(torch.cat(sums)).clamp_min(1) / n_parts  # one message
        latents, hidden_v, thinned_v, matched_v = weights.split([len(one) for one in sums])
        return LossWeights(latents.squeeze(0), hidden_v, thinned_v, matched_v)

    def _matched(self, view: View, truth: Truth) -> Tensor:
        """Weights of the entries whose mean is matched."""
        if view.names.denoised_loss is None:
            return truth.hidden_rqg
        return truth.hidden_rqg + self.options.denoise_weight * truth.thinned_rqg

    # --- a query's module ---

    @torch.no_grad()
    def extend_from(self, known: ChipVAE) -> None:
        """Take the weights of a trained module whose biosamples, assays and tracks are the first of this one.

        A new biosample starts as the generic one, a new assay as the mean of the known ones; of its data, the encoder
        sees nothing before it is trained.
        """
        self.offsets.load_state_dict(known.offsets.state_dict())
        self.covariate_shift_c.copy_(known.covariate_shift_c)
        self.covariate_scale_c.copy_(known.covariate_scale_c)
        self.biosamples.extend_from(known.biosamples)
        self.affinity.extend_from(known.affinity)
        self.encoder.extend_from(known.encoder)
        self.decoder.extend_from(known.decoder)
        self.trees.extend_from(known.trees)
        for view in self.seen:
            view.extend_from(known.view(view.kind))

    def freeze_calibration(self, is_frozen_ba: Tensor) -> None:
        """Keep what was learnt of these cells after training, whatever is trained next."""
        for view in self.views:
            view.calibration.freeze(is_frozen_ba)

    @torch.no_grad()
    def learn_tracks(self, columns: np.ndarray) -> None:
        """Know the cells of these tracks from now on, beside those known before."""
        t = torch.as_tensor(columns, device=self.known_ba.device)
        self.known_ba[self.tracks.biosample_t[t], self.tracks.assay_t[t]] = True
