"""From the rows around a region to what the network looks at: window means of own tracks, and of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .inputs import Average, OwnCounts, Queries, Visible


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
class AssayMeans:
    """The same by assay: of a biosample's own tracks, or the average of the others."""

    value_rqas: Tensor
    present_rqa: Tensor


@dataclass(frozen=True, eq=False)
class OthersMeans:
    """Averages of the other biosamples.

    Parameters
    ----------
    equal, weighted
        Of all alike, and by how much they have to say.
    trust_rqa
        Share of the weights that is of visible tracks, 0 to 1.
    """

    equal: AssayMeans
    weighted: AssayMeans
    trust_rqa: Tensor

    def times(self, is_of_use: Tensor) -> OthersMeans:
        """The same, without the weighted average if that is of no use."""
        weighted = replace(self.weighted, present_rqa=self.weighted.present_rqa * is_of_use)
        return replace(self, weighted=weighted, trust_rqa=self.trust_rqa * is_of_use)


class TrackGrid(nn.Module):
    """Which track is which cell of the grid, where the network runs.

    Parameters
    ----------
    biosample_t, assay_t, track_ba, target_bg
        As in :class:`chipvi.data.grid.Grid`.
    """

    biosample_t: Tensor
    assay_t: Tensor
    track_ba: Tensor
    target_bg: Tensor

    def __init__(self, biosample_t: Tensor, assay_t: Tensor, track_ba: Tensor, target_bg: Tensor) -> None:
        super().__init__()
        self.register_buffer("biosample_t", biosample_t)
        self.register_buffer("assay_t", assay_t)
        self.register_buffer("track_ba", track_ba)
        self.register_buffer("target_bg", target_bg)

    @property
    def is_target_t(self) -> Tensor:
        """Tracks that may be predicted, bool: all but the controls."""
        is_target_t = torch.zeros(len(self.assay_t), dtype=torch.bool, device=self.assay_t.device)
        is_target_t[self.target_bg[self.target_bg >= 0]] = True
        return is_target_t

    def own(self, means: WindowMeans, queries: Queries) -> AssayMeans:
        """A biosample's own tracks by assay, less the assay to leave out."""
        track_qa = self.track_ba[queries.biosample_q]
        assay_a = torch.arange(track_qa.shape[1], device=track_qa.device)
        may_see_qa = (track_qa >= 0) & (assay_a != queries.leave_out_q[:, None])
        track_qa = track_qa.clamp_min(0)
        present_rqa = means.present_rt[:, track_qa] * may_see_qa
        return AssayMeans(means.value_rts[:, track_qa] * present_rqa.unsqueeze(-1), present_rqa)

    def cells(self, means: WindowMeans) -> tuple[Tensor, Tensor]:
        """Means of every cell of the grid, (r, b, a, s), 0 where there is none, and 1 where there is any, (r, b, a)."""
        cell_ba = self.track_ba.clamp_min(0)
        present_rba = means.present_rt[:, cell_ba] * (self.track_ba >= 0)
        return means.value_rts[:, cell_ba] * present_rba.unsqueeze(-1), present_rba

    def averages_of_others(self, means: WindowMeans, queries: Queries, log_weight_qab: Tensor) -> OthersMeans:
        """Means of each assay over the other biosamples in which it is visible: of all alike, and weighted."""
        value_rbas, present_rba = self.cells(means)
        biosample_b = torch.arange(len(self.track_ba), device=self.track_ba.device)
        # summed over the others, never as a difference, so that not even rounding depends on the biosample's own track
        is_other_qab = (biosample_b != queries.biosample_q[:, None])[:, None] & (self.track_ba >= 0).T
        weight_qab = torch.softmax(log_weight_qab.masked_fill(~is_other_qab, -torch.inf), dim=-1).nan_to_num()
        both_pqab = torch.stack([is_other_qab.float(), weight_qab * is_other_qab])
        weight_prqa = torch.einsum("rba,pqab->prqa", present_rba, both_pqab)
        total_prqas = torch.einsum("rbas,pqab->prqas", value_rbas, both_pqab)
        mean_prqas = total_prqas / torch.where(weight_prqa > 0, weight_prqa, 1.0).unsqueeze(-1)
        has_rqa = (weight_prqa[0] > 0).float()
        return OthersMeans(AssayMeans(mean_prqas[0], has_rqa), AssayMeans(mean_prqas[1], has_rqa), weight_prqa[1])

    def own_counts(self, visible: Visible, queries: Queries, windows_rqa: Tensor, has_rqa: Tensor) -> OwnCounts:
        """Reads of a biosample's own tracks in the region itself, beside their rate over the windows."""
        minibatch, own_row_r = visible.minibatch, visible.minibatch.own_row_r
        seen_rt = (minibatch.counts.present_lt[own_row_r] & visible.visible_rt).float()
        reads = self.own(WindowMeans(minibatch.counts.value_lt[own_row_r].unsqueeze(-1), seen_rt), queries)
        log_depth_t = visible.log_depth_t + visible.log_keep
        log_depth_qa = log_depth_t[self.track_ba[queries.biosample_q].clamp_min(0)]
        log_exposure_rqa = log_depth_qa + minibatch.log_width_r[:, None, None]
        return OwnCounts(
            reads_rqa=reads.value_rqas.squeeze(-1),
            is_seen_rqa=reads.present_rqa,
            log_exposure_rqa=log_exposure_rqa,
            windows_rqa=windows_rqa,
            has_rqa=has_rqa,
        )


class WindowOffsets(nn.Module):
    """Weights with which known data enter a mean as an offset: of the windows (softmax), and of the whole.

    For the average of the other biosamples there are weights for each view (v), in the order of
    :class:`chipvi.data.track_data.ViewKind`; for a target's own counts there is one set.

    Parameters
    ----------
    n_windows
        Number of windows.
    """

    def __init__(self, n_windows: int) -> None:
        super().__init__()
        self.others_windows_vs = nn.Parameter(torch.zeros(2, n_windows))
        self.others_weight_v = nn.Parameter(torch.zeros(2))
        self.relatives_windows_vs = nn.Parameter(torch.zeros(2, n_windows))
        self.relatives_weight_v = nn.Parameter(torch.zeros(2))
        self.own_windows_s = nn.Parameter(torch.zeros(n_windows))
        self.own_weight = nn.Parameter(torch.zeros(()))

    def average(self, others: AssayMeans, view: int) -> Average:
        """Average of the others over the windows, and in the region itself."""
        return _over_windows(others, self.others_windows_vs[view])

    def relatives(self, others: AssayMeans, view: int) -> Average:
        """The same of the weighted average."""
        return _over_windows(others, self.relatives_windows_vs[view])

    def own_over_windows(self, own: AssayMeans) -> Tensor:
        """Own rate over the windows, shape (r, q, a)."""
        return (own.value_rqas * torch.softmax(self.own_windows_s, dim=-1)).sum(-1)


def _over_windows(others: AssayMeans, log_weight_s: Tensor) -> Average:
    windows_rqa = (others.value_rqas * torch.softmax(log_weight_s, dim=-1)).sum(-1)
    return Average(windows_rqa, others.value_rqas.select(-1, 0), others.present_rqa)
