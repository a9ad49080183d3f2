"""The two views of an experiment, counts and p-value signal: each with its transform, head, start and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from ..data.grid import CellStart
from ..data.track_data import ViewKind
from ..nn import (
    CountHead,
    GaussianHead,
    NegativeBinomial,
    TwoStateNegativeBinomial,
    log_ratio,
    log_update,
    window_means,
)
from .calibration import Calibration, CountCalibration, SignalCalibration
from .features import AssayMeans, WindowMeans, WindowOffsets
from .inputs import Average, HeadInputs, OwnCounts, Queries, Slots, Truth, ViewPrediction, Visible

_CAUTION = 2.0  # log of how much narrower the prior of a rate starts than its track: own reads are noise at first
_LEAST_SCALE = 0.05  # of a standardised input


@dataclass(frozen=True)
class HistoryNames:
    """What the history calls the scores and losses of a view; None where there is none."""

    imputed: str
    imputed_loss: str
    denoised: str | None = None
    denoised_loss: str | None = None


@dataclass(frozen=True, eq=False)
class TargetInputs:
    """What is known of one view of the targets beside the latent: the average of others, own counts, depth wanted."""

    average: Average
    weighted: Average
    own: OwnCounts | None
    log_depth_rqg: Tensor


class View(nn.Module):
    """One view of all tracks.

    Parameters
    ----------
    head
        From raw numbers to a distribution.
    start
        Where the head starts in each cell.
    """

    kind: ClassVar[ViewKind]
    names: ClassVar[HistoryNames]
    head: CountHead | GaussianHead
    calibration: Calibration
    level_ba: Tensor
    log_spread_ba: Tensor
    shift_a: Tensor
    scale_a: Tensor

    def __init__(self, head: CountHead | GaussianHead, start: CellStart, calibration: Calibration) -> None:
        super().__init__()
        self.head, self.calibration = head, calibration
        self.register_buffer("level_ba", torch.as_tensor(start.level_ba))
        self.register_buffer("log_spread_ba", torch.as_tensor(start.log_spread_ba))
        n_assays = start.level_ba.shape[1]
        self.register_buffer("shift_a", torch.zeros(n_assays))
        self.register_buffer("scale_a", torch.ones(n_assays))

    @property
    def number(self) -> int:
        """Position among all views that a model may have."""
        return list(ViewKind).index(self.kind)

    @property
    def n_outputs(self) -> int:
        """Raw numbers that the decoder gives for each target."""
        return self.head.n_outputs

    def transform(self, value: Tensor) -> Tensor:
        """On the scale of the encoder's inputs, before they are standardised."""
        return value

    def at_depth(self, value: Tensor, log_depth: Tensor) -> Tensor:
        """What is known as a rate, at a depth."""
        return value

    def noise(self, value_rt: Tensor, visible: Visible, window: int) -> Tensor:
        """Variance of transformed means over one window by chance alone, as far as it is known."""
        return torch.zeros_like(value_rt)

    def means(self, visible: Visible) -> WindowMeans:
        """Window means of all tracks, and whether any of it is visible."""
        minibatch = visible.minibatch
        rows = minibatch.view(self.kind)
        value_rts, any_rt = window_means(rows.value_lt, rows.present_lt, minibatch.low_rs, minibatch.high_rs)
        return WindowMeans(value_rts, (any_rt & visible.visible_rt).float())

    @torch.no_grad()
    def standardise(self, visible: Visible, assay_t: Tensor) -> None:
        """Standardise the inputs of each assay by what they are in these regions, at the scale of single regions."""
        means = self.means(visible)
        value_rt = self.transform(means.value_rts).select(-1, 0).double()
        for a in range(len(self.shift_a)):
            entries = value_rt[(means.present_rt > 0) & (assay_t == a)]
            if len(entries) > 1:
                self.shift_a[a] = entries.mean()
                self.scale_a[a] = entries.std().clamp_min(_LEAST_SCALE)

    def slots(self, means: AssayMeans) -> Slots:
        """Standardised features and their presence; all 0 where there is nothing."""
        feature_rqas = (self.transform(means.value_rqas) - self.shift_a[:, None]) / self.scale_a[:, None]
        return Slots(feature_rqas * means.present_rqa.unsqueeze(-1), means.present_rqa)

    @torch.no_grad()
    def extend_from(self, known: View) -> None:
        """Take what a trained view knows of the first biosamples and assays, but for where its head starts."""
        n_assays = len(known.shift_a)
        self.shift_a[:n_assays], self.scale_a[:n_assays] = known.shift_a, known.scale_a
        self.calibration.extend_from(known.calibration)

    def predict(
        self, raw_rqgo: Tensor, queries: Queries, target: TargetInputs, offsets: WindowOffsets
    ) -> ViewPrediction:
        """Distribution of the targets."""
        raise NotImplementedError

    def losses(
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_depth_rqg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each entry, and how far its mean is off."""
        raise NotImplementedError

    def side_loss(self, prediction: ViewPrediction, truth: Truth) -> Tensor | None:
        """What is learnt beside the distribution, per entry; None if nothing."""
        return None

    def collect(self, distribution: Distribution, query_n: Tensor, place_n: Tensor) -> Distribution:
        """Distribution of targets that stand at these queries and places, shape (r, n)."""
        raise NotImplementedError

    def spread(self, distribution: Distribution) -> Tensor:
        """Dispersion of counts, standard deviation of signal."""
        raise NotImplementedError

    def shape_p(self, distribution: Distribution) -> Tensor:
        """What else there is to the distribution of a target, in the last axis."""
        raise NotImplementedError


class CountView(View):
    """Reads. They enter as rates, and are predicted at a depth.

    Parameters
    ----------
    head, start
        As in :class:`View`.
    """

    kind = ViewKind.COUNTS
    names = HistoryNames("imp_count", "imp_count_loss", "obs_count", "obs_count_loss")
    head: CountHead
    rate_a: Tensor

    def __init__(self, head: CountHead, start: CellStart) -> None:
        super().__init__(head, start, CountCalibration(start.level_ba.shape))
        self.register_buffer("rate_a", torch.as_tensor(np.exp(start.level_ba).mean(axis=0)))

    @property
    def n_outputs(self) -> int:
        """Those of the head, and how far a target's own reads are believed."""
        return self.head.n_outputs + 1

    def transform(self, value: Tensor) -> Tensor:
        """log(1 + rate)."""
        return torch.log1p(value)

    def at_depth(self, value: Tensor, log_depth: Tensor) -> Tensor:
        """Rate times depth."""
        return value * torch.exp(log_depth)

    def noise(self, value_rt: Tensor, visible: Visible, window: int) -> Tensor:
        """Variance of log(1 + rate) by that of Poisson reads, to first order; half a read is added to each."""
        n_rows_r1 = (visible.minibatch.high_rs - visible.minibatch.low_rs)[:, window, None]
        per_read_rt = torch.exp(-visible.log_depth_t - visible.log_keep) / n_rows_r1
        return (value_rt + 0.5 * per_read_rt) * per_read_rt / (1 + value_rt).square()

    def means(self, visible: Visible) -> WindowMeans:
        """Window means of all tracks as rates, and whether any of it is visible."""
        means = super().means(visible)
        scale_t = torch.exp(-visible.log_depth_t - visible.log_keep)
        return WindowMeans(means.value_rts * scale_t[:, None], means.present_rt)

    @torch.no_grad()
    def extend_from(self, known: View) -> None:
        """As of any view, and the mean rates of the known assays."""
        super().extend_from(known)
        assert isinstance(known, CountView)
        self.rate_a[: len(known.rate_a)] = known.rate_a

    def predict(
        self, raw_rqgo: Tensor, queries: Queries, target: TargetInputs, offsets: WindowOffsets
    ) -> ViewPrediction:
        """Distribution of the counts of the targets: the start, two offsets, and the update by own reads."""
        assert target.own is not None
        average, own, rate_qg = target.average, target.own, self.rate_a[queries.assay_qg]
        raw_head_rqgo, raw_belief_rqg = raw_rqgo[..., :-1], raw_rqgo[..., -1]  # the decoder's last number is the belief
        log_rate_rqg = (
            self.level_ba[queries.cell_qg]
            + offsets.others_weight_v[self.number] * average.has_rqa * log_ratio(average.windows_rqa, rate_qg)
            + offsets.relatives_weight_v[self.number]
            * target.weighted.has_rqa
            * log_ratio(target.weighted.windows_rqa, rate_qg)
            + offsets.own_weight * own.has_rqa * log_ratio(own.windows_rqa, rate_qg)
        )
        log_dispersion_rqg = self.log_spread_ba[queries.cell_qg].expand_as(log_rate_rqg)
        update_rqg = own.is_seen_rqa * log_update(
            own.reads_rqa,
            log_rate_rqg + raw_head_rqgo[..., 0] + own.log_depth_rqa,
            log_dispersion_rqg + _CAUTION + raw_belief_rqg,
        )
        log_mean_rqg = target.log_depth_rqg + log_rate_rqg + update_rqg
        inputs = HeadInputs(raw_head_rqgo, log_mean_rqg, log_dispersion_rqg)
        return ViewPrediction(self.head(raw_head_rqgo, log_mean_rqg, log_dispersion_rqg), inputs)

    def losses(
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_depth_rqg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each entry, and how far its mean is off.

        The latter is quasi-Poisson: the likelihood hardly cares about the height of peaks where dispersion is low.
        """
        counts, target_rqg, cell = prediction.distribution, truth.value_rqg, queries.cell_qg
        excess_rqg = torch.exp(self.level_ba[cell] + log_depth_rqg - self.log_spread_ba[cell])
        mismatch_rqg = (counts.mean - target_rqg * torch.log(counts.mean)) / (1 + excess_rqg)
        return -counts.log_prob(target_rqg), mismatch_rqg

    def side_loss(self, prediction: ViewPrediction, truth: Truth) -> Tensor | None:
        """Negative log-likelihood of the single negative binomial beside two states; it moves its dispersion only."""
        counts = prediction.distribution
        if not isinstance(counts, TwoStateNegativeBinomial):
            return None
        return -NegativeBinomial(counts.mu.detach(), counts.theta).log_prob(truth.value_rqg)

    def collect(self, distribution: Distribution, query_n: Tensor, place_n: Tensor) -> NegativeBinomial:
        """Those of the head, or where it has none, the negative binomials with the same moments."""
        if isinstance(distribution, TwoStateNegativeBinomial):
            parts = (distribution.mu, distribution.theta, distribution.shape_p)
            return NegativeBinomial.with_shape(*(x[:, query_n, place_n] for x in parts))
        mean_rn, variance_rn = (x[:, query_n, place_n] for x in (distribution.mean, distribution.variance))
        return NegativeBinomial.from_moments(mean_rn, variance_rn)

    def spread(self, distribution: Distribution) -> Tensor:
        """Dispersion."""
        assert isinstance(distribution, NegativeBinomial)
        return distribution.theta

    def shape_p(self, distribution: Distribution) -> Tensor:
        """Numbers beyond mean and dispersion, see :meth:`chipvi.nn.NegativeBinomial.with_shape`."""
        assert isinstance(distribution, NegativeBinomial)
        return distribution.shape_p


class SignalView(View):
    """p-value signal, arcsinh(-log10 p); depth means nothing to it.

    Parameters
    ----------
    start
        As in :class:`View`.
    """

    kind = ViewKind.SIGNAL
    names = HistoryNames("imp_pval", "imp_signal_loss")
    head: GaussianHead

    def __init__(self, start: CellStart) -> None:
        super().__init__(GaussianHead(), start, SignalCalibration(start.level_ba.shape))

    def predict(
        self, raw_rqgo: Tensor, queries: Queries, target: TargetInputs, offsets: WindowOffsets
    ) -> ViewPrediction:
        """Distribution of the signal of the targets: the start, moved towards the average of the others."""
        average, start_qg = target.average, self.level_ba[queries.cell_qg]
        weight = offsets.others_weight_v[self.number]
        mean_rqg = start_qg + weight * average.has_rqa * (average.windows_rqa - start_qg)
        weighted, weight = target.weighted, offsets.relatives_weight_v[self.number]
        mean_rqg = mean_rqg + weight * weighted.has_rqa * (weighted.windows_rqa - start_qg)
        inputs = HeadInputs(raw_rqgo, mean_rqg, self.log_spread_ba[queries.cell_qg])
        return ViewPrediction(self.head(inputs.raw_rqgo, inputs.start_rqg, inputs.log_spread_rqg), inputs)

    def losses(
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_depth_rqg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each entry, and the squared error in variances of the track."""
        signal, std_qg = prediction.distribution, torch.exp(self.log_spread_ba[queries.cell_qg])
        return -signal.log_prob(truth.value_rqg), ((truth.value_rqg - signal.mean) / std_qg).square()

    def collect(self, distribution: Distribution, query_n: Tensor, place_n: Tensor) -> Normal:
        """The normal distributions of the targets."""
        mean_rn, std_rn = (x[:, query_n, place_n] for x in (distribution.mean, distribution.stddev))
        return Normal(mean_rn, std_rn, validate_args=False)

    def spread(self, distribution: Distribution) -> Tensor:
        """Standard deviation."""
        return distribution.stddev

    def shape_p(self, distribution: Distribution) -> Tensor:
        """Nothing."""
        return distribution.mean.new_empty(*distribution.mean.shape, 0)
