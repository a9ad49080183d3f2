"""From the rows around a region to what the network looks at: window means of own tracks, and of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .inputs import Average, OwnCounts, Visible, WindowMeans


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

    def own(self, means: WindowMeans, biosample_q: Tensor) -> AssayMeans:
        """A biosample's own tracks by assay."""
        track_qa = self.track_ba[biosample_q]
        present_rqa = means.present_rt[:, track_qa.clamp_min(0)] * (track_qa >= 0)
        return AssayMeans(means.value_rts[:, track_qa.clamp_min(0)] * present_rqa.unsqueeze(-1), present_rqa)

    def cells(self, means: WindowMeans) -> tuple[Tensor, Tensor]:
        """Means of every cell of the grid, (r, b, a, s), 0 where there is none, and 1 where there is any, (r, b, a)."""
        every_b = torch.arange(len(self.track_ba), device=self.track_ba.device)
        cells = self.own(means, every_b)
        return cells.value_rqas, cells.present_rqa

    def averages_of_others(self, means: WindowMeans, biosample_q: Tensor, log_weight_qab: Tensor) -> OthersMeans:
        """Means of each assay over the other biosamples in which it is visible: of all alike, and weighted."""
        n_biosamples, n_assays = self.track_ba.shape
        biosample_b = torch.arange(n_biosamples, device=self.track_ba.device)
        is_other_qab = (biosample_b != biosample_q[:, None])[:, None] & (self.track_ba >= 0).T
        weight_qab = torch.softmax(log_weight_qab.masked_fill(~is_other_qab, -torch.inf), dim=-1).nan_to_num()
        both_pqab = torch.stack([is_other_qab.float(), weight_qab * is_other_qab])
        both_aub = both_pqab.permute(2, 0, 1, 3).flatten(1, 2)  # both kinds of weights of all queries (u) at once

        # summed over the others, never as a difference, so that not even rounding depends on the biosample's own track
        def totals(x_lt: Tensor) -> Tensor:
            """Sums by assay (a), kind of weight and query (u), and row (l)."""
            cell_lab = x_lt.index_select(1, self.track_ba.T.clamp_min(0).flatten()).view(-1, n_assays, n_biosamples)
            return torch.bmm(both_aub, cell_lab.permute(1, 2, 0))

        present_rt, n_regions = means.present_rt, len(means.present_rt)
        value_rst = means.value_rts.transpose(1, 2) * present_rt.unsqueeze(1)
        weight_aur = totals(present_rt)
        total_aurs = totals(value_rst.flatten(0, 1)).view(*weight_aur.shape, -1)
        mean_aurs = total_aurs / torch.where(weight_aur > 0, weight_aur, 1.0).unsqueeze(-1)
        shape = (n_assays, 2, len(biosample_q), n_regions)
        weight_prqa = weight_aur.view(shape).permute(1, 3, 2, 0)
        mean_prqas = mean_aurs.view(*shape, -1).permute(1, 3, 2, 0, 4)
        has_rqa = (weight_prqa[0] > 0).float()
        return OthersMeans(AssayMeans(mean_prqas[0], has_rqa), AssayMeans(mean_prqas[1], has_rqa), weight_prqa[1])

    def own_counts(self, visible: Visible, biosample_q: Tensor, own: AssayMeans, windows_rqa: Tensor) -> OwnCounts:
        """Reads of a biosample's own tracks in the region itself, beside their rate over the windows."""
        minibatch, own_row_r = visible.minibatch, visible.minibatch.own_row_r
        seen_rt = (minibatch.counts.present_lt[own_row_r] & visible.visible_rt).float()
        reads = self.own(WindowMeans(minibatch.counts.value_lt[own_row_r].unsqueeze(-1), seen_rt), biosample_q)
        log_depth_t = visible.log_depth_t + visible.log_keep
        log_depth_qa = log_depth_t[self.track_ba[biosample_q].clamp_min(0)]
        return OwnCounts(
            reads_rqa=reads.value_rqas.squeeze(-1),
            is_seen_rqa=reads.present_rqa,
            log_exposure_rqa=log_depth_qa + minibatch.log_width_r[:, None, None],
            windows_rqa=windows_rqa,
            has_rqa=own.present_rqa,
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
