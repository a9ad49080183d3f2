"""What goes through the network: what is visible, what is asked, what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from ..data.minibatch import Minibatch
from ..data.track_data import ViewKind

NO_ASSAY = -1


@dataclass(frozen=True, eq=False)
class Visible:
    """What the encoder may see of a minibatch.

    Parameters
    ----------
    minibatch
        Counts and signal of all tracks; counts may be thinned.
    visible_rt
        Which tracks are not hidden in which region, bool.
    log_depth_t
        Log depth of each track less the model's centre.
    log_keep
        Log of the share of the reads that the counts at hand are; 0 for all. No axis.
    """

    minibatch: Minibatch
    visible_rt: Tensor
    log_depth_t: Tensor
    log_keep: Tensor

    @classmethod
    def everything(cls, minibatch: Minibatch, log_depth_t: Tensor) -> Visible:
        """All tracks, with all of their reads."""
        shape, device = (minibatch.n_regions, len(log_depth_t)), log_depth_t.device
        return cls(
            minibatch, torch.ones(shape, dtype=torch.bool, device=device), log_depth_t, torch.zeros((), device=device)
        )


@dataclass(frozen=True, eq=False)
class Queries:
    """What is asked: biosamples (q), each with some targets (g); all regions of a minibatch share them.

    Parameters
    ----------
    biosample_q
        Index of each biosample; a single one where all queries are of the same.
    embedding_q
        Embedding to use for it: its own, or the generic one; a single one as well.
    leave_out_q
        Assay that a query must not see of its own biosample; `NO_ASSAY` for none.
    assay_qg
        Assays to predict.
    place_q
        Position of each biosample among those that were looked at; None where they are the same.
    """

    biosample_q: Tensor
    embedding_q: Tensor
    leave_out_q: Tensor
    assay_qg: Tensor
    place_q: Tensor | None = None

    @property
    def cell_qg(self) -> tuple[Tensor, Tensor]:
        """Cell of the grid of each target, as an index of its two axes."""
        return self.biosample_q[:, None], self.assay_qg

    def may_see_qa(self, n_assays: int) -> Tensor:
        """1 for the assays that a query may see of its own biosample, else 0."""
        assay_a = torch.arange(n_assays, device=self.leave_out_q.device)
        return (assay_a != self.leave_out_q[:, None]).float()

    @property
    def may_see_qg(self) -> Tensor:
        """1 for the targets whose own data their query may see, else 0."""
        return (self.assay_qg != self.leave_out_q[:, None]).float()

    def look_up(self, x_rqa: Tensor) -> Tensor:
        """What was looked at of their biosamples."""
        return x_rqa if self.place_q is None else x_rqa.index_select(1, self.place_q)

    def pick(self, x_rqa: Tensor) -> Tensor:
        """Of all assays of the biosamples that were looked at those of each target, whatever axes follow."""
        n_assays, place_q = x_rqa.shape[2], self.place_q
        if place_q is None:
            place_q = torch.arange(x_rqa.shape[1], device=self.assay_qg.device)
        index_qg = place_q[:, None] * n_assays + self.assay_qg
        picked = x_rqa.flatten(1, 2).index_select(1, index_qg.flatten())
        return picked.view(len(x_rqa), *index_qg.shape, *x_rqa.shape[3:])


@dataclass(frozen=True, eq=False)
class Truth:
    """What one view of the targets is held against: values, and weights of 1 or 0 for kinds of entries.

    Parameters
    ----------
    value_rqg
        Reads to predict (of a visible target those that thinning held back), or signal.
    hidden_rqg
        Targets that the encoder does not see.
    thinned_rqg
        Visible targets whose reads were split in two.
    observed_rqg
        All measured entries.
    """

    value_rqg: Tensor
    hidden_rqg: Tensor
    thinned_rqg: Tensor
    observed_rqg: Tensor

    @property
    def scored_rqg(self) -> Tensor:
        """1 for what the loss is over."""
        return self.hidden_rqg + self.thinned_rqg


@dataclass(frozen=True, eq=False)
class Example:
    """A minibatch turned into a question with its answer.

    Parameters
    ----------
    visible, queries
        What the encoder sees, and what is asked.
    track_qg
        Track of each target.
    log_depth_rqg
        Log depth to predict each target at, less the centre; broadcasts over regions.
    truth
        The answer, by view.
    """

    visible: Visible
    queries: Queries
    track_qg: Tensor
    log_depth_rqg: Tensor
    truth: Mapping[ViewKind, Truth]


@dataclass(frozen=True, eq=False)
class LossWeights:
    """By what the sums in a loss are divided to be means, at least 1.

    Parameters
    ----------
    latents
        Number of latents: regions times queries. No axis.
    hidden_v, thinned_v, matched_v
        Weights of the entries that are hidden, of those that are thinned, and of those whose mean is matched, by view.
    """

    latents: Tensor
    hidden_v: Tensor
    thinned_v: Tensor
    matched_v: Tensor


@dataclass(frozen=True, eq=False)
class Slots:
    """One view of every assay, standardised: window means, and 1 where there is anything; 0 where there is nothing."""

    feature_rqas: Tensor
    present_rqa: Tensor

    @property
    def packed_rqai(self) -> Tensor:
        """All numbers of an assay behind each other (i), as a linear layer takes them."""
        return torch.cat([self.feature_rqas, self.present_rqa.unsqueeze(-1)], dim=-1)


@dataclass(frozen=True, eq=False)
class Average:
    """One view of every assay in the other biosamples, as rates or signal; by assay (a) or by target (g).

    Parameters
    ----------
    windows_rqa
        Average over the windows, by learnt weights.
    region_rqa
        Average in the region itself.
    has_rqa
        1 where any other biosample has the assay.
    """

    windows_rqa: Tensor
    region_rqa: Tensor
    has_rqa: Tensor

    def where_any(self, other: Average) -> Average:
        """Itself, and another one where it has nothing."""
        has_rqa = self.has_rqa > 0
        return Average(
            torch.where(has_rqa, self.windows_rqa, other.windows_rqa),
            torch.where(has_rqa, self.region_rqa, other.region_rqa),
            torch.where(has_rqa, self.has_rqa, other.has_rqa),
        )

    def pick(self, queries: Queries) -> Average:
        """The same of each target's assay."""
        return Average(*map(queries.pick, (self.windows_rqa, self.region_rqa, self.has_rqa)))


@dataclass(frozen=True, eq=False)
class OwnCounts:
    """Visible counts of a biosample's own tracks; by assay (a) or by target (g).

    Parameters
    ----------
    reads_rqa, is_seen_rqa
        Reads in the region itself, and 1 where they are visible.
    log_exposure_rqa
        Log depth that these are at, less the centre, and log width of the region.
    windows_rqa, has_rqa
        Rate over the windows by learnt weights, and 1 where any of it is visible.
    """

    reads_rqa: Tensor
    is_seen_rqa: Tensor
    log_exposure_rqa: Tensor
    windows_rqa: Tensor
    has_rqa: Tensor

    @property
    def _every(self) -> tuple[Tensor, ...]:
        return self.reads_rqa, self.is_seen_rqa, self.log_exposure_rqa, self.windows_rqa, self.has_rqa

    def pick(self, queries: Queries) -> OwnCounts:
        """The same of each target's assay, as if nothing were visible where that is left out."""
        return OwnCounts(*(queries.pick(x) * queries.may_see_qg for x in self._every))

    def zeros(self) -> OwnCounts:
        """As if nothing were visible."""
        return OwnCounts(*map(torch.zeros_like, self._every))


@dataclass(frozen=True, eq=False)
class WindowMeans:
    """One view of all tracks around each region.

    Parameters
    ----------
    value_rts
        Mean over each window (s): rates, or signal.
    present_rt
        1 where a track is visible with any value, else 0.
    """

    value_rts: Tensor
    present_rt: Tensor


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """What is known of one view of some biosamples (q).

    Parameters
    ----------
    others_rqai, own_rqai
        Standardised features by assay: of the averages of the others, of all alike and weighted, and of the own tracks.
    average, weighted
        The averages.
    """

    others_rqai: Tensor
    own_rqai: Tensor
    average: Average
    weighted: Average

    @property
    def reference(self) -> Average:
        """The weighted average where there is one, or else that of all alike."""
        return self.weighted.where_any(self.average)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """All that is looked at around each region, once for whatever is asked of some biosamples (q).

    Parameters
    ----------
    visible
        What may be seen.
    means
        Window means of all tracks, by view.
    views
        What is known of the biosamples, by view.
    own_counts
        Visible counts of their own tracks; None for a model without counts.
    covariates_rc
        Standardised region covariates.
    log_width_r
        Log width of each region, in typical ones.
    """

    visible: Visible
    means: Mapping[ViewKind, WindowMeans]
    views: Mapping[ViewKind, ViewFeatures]
    own_counts: OwnCounts | None
    covariates_rc: Tensor
    log_width_r: Tensor

    def without_own(self) -> Surroundings:
        """The same without the biosamples' own tracks."""
        views = {k: replace(view, own_rqai=torch.zeros_like(view.own_rqai)) for k, view in self.views.items()}
        return replace(self, views=views, own_counts=None if self.own_counts is None else self.own_counts.zeros())


@dataclass(frozen=True, eq=False)
class Encoding:
    """What is known of each query in each region.

    Parameters
    ----------
    posterior
        Of the latent, shape (r, q, k).
    z_rqk
        A draw of it.
    around
        What the decoder may look up.
    """

    posterior: Normal
    z_rqk: Tensor
    around: Surroundings

    def with_latent(self, z_rqk: Tensor) -> Encoding:
        """The same with another draw of the latent."""
        return replace(self, z_rqk=z_rqk)

    def without_own(self) -> Encoding:
        """A biosample's own data known through the latent only, as a likelihood given it must."""
        return replace(self, around=self.around.without_own())


@dataclass(frozen=True, eq=False)
class HeadInputs:
    """What a head is given: the decoder's raw numbers (o), and where it starts.

    Parameters
    ----------
    raw_rqgo
        Decoder outputs.
    start_rqg
        Log of the mean count at the wanted depth, or mean of the signal, to start from.
    log_spread_rqg
        Log of the dispersion, or of the standard deviation, to start from.
    """

    raw_rqgo: Tensor
    start_rqg: Tensor
    log_spread_rqg: Tensor


@dataclass(frozen=True, eq=False)
class ViewPrediction:
    """Distribution of one view of the targets, shape (r, q, g), and what its head was given."""

    distribution: Distribution
    head_inputs: HeadInputs
