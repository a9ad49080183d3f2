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
from ..nn import CountHead, GaussianHead, NegativeBinomial, log_ratio, log_update, window_means, window_sums
from .calibration import Calibration, CountCalibration, SignalCalibration, Unseen
from .features import AssayMeans, WindowOffsets
from .inputs import Average, HeadInputs, OwnCounts, Queries, Slots, Truth, ViewPrediction, Visible, WindowMeans

_CAUTION = 2.0  # log of how much narrower the prior of a rate starts than its track: own reads are noise at first
_LEAST_SCALE = 0.05  # of a standardised input
LEAST_SHARE = 0.01  # of the network's mean that a mean of counts may be, blended with an average of weight below 0


@dataclass(frozen=True)
class HistoryNames:
    """What the history calls the scores and losses of a view; None where there is none."""

    imputed: str
    imputed_loss: str
    denoised: str | None = None
    denoised_loss: str | None = None


@dataclass(frozen=True, eq=False)
class TargetInputs:
    """What is known of one view of the targets beside the latent: the averages of others, own counts, log exposure.

    The latter is the depth to predict at times the width of the region.
    """

    average: Average
    weighted: Average
    own: OwnCounts | None
    log_exposure_rqg: Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """What is known of experiments that training never saw, beside what the network makes of them.

    Parameters
    ----------
    average_rn
        Average of the other biosamples.
    may_blend_rn
        1 where there is such an average, and no visible reads of the target that would say more.
    is_imputed_n
        Whether they are predicted without their own data.
    """

    average_rn: Tensor
    may_blend_rn: Tensor
    is_imputed_n: Tensor


class View(nn.Module):
    """One view of all tracks.

    Parameters
    ----------
    head
        From raw numbers to a distribution.
    start
        Where the head starts in each cell.
    calibration
        Corrections of tracks that training has seen.
    known_ba
        Which cells of the grid have data.
    """

    kind: ClassVar[ViewKind]
    names: ClassVar[HistoryNames]
    head: CountHead | GaussianHead
    calibration: Calibration
    level_ba: Tensor
    log_spread_ba: Tensor
    shift_a: Tensor
    scale_a: Tensor

    def __init__(
        self, head: CountHead | GaussianHead, start: CellStart, calibration: Calibration, known_ba: np.ndarray
    ) -> None:
        super().__init__()
        self.head, self.calibration, self.unseen = head, calibration, Unseen(known_ba)
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
    def strength_ba(self) -> Tensor:
        """How much a track has of what its assay shows, on a log scale."""
        raise NotImplementedError

    @property
    def n_outputs(self) -> int:
        """Raw numbers that the decoder gives for each target."""
        return self.head.n_outputs

    def transform(self, value: Tensor) -> Tensor:
        """On the scale of the encoder's inputs, before they are standardised."""
        return value

    def total(self, value_lt: Tensor, width_l1: Tensor) -> Tensor:
        """What the values of regions add up to over their widths, of which window means are made."""
        return value_lt * width_l1

    def at_exposure(self, value: Tensor, log_exposure: Tensor) -> Tensor:
        """What is known as a rate, at a depth and width."""
        return value

    def noise(self, value_rt: Tensor, visible: Visible, window: int) -> Tensor:
        """Variance of transformed means over one window by chance alone, as far as it is known."""
        return torch.zeros_like(value_rt)

    def means(self, visible: Visible) -> WindowMeans:
        """Window means of all tracks, and whether any of it is visible."""
        minibatch = visible.minibatch
        rows, width_l = minibatch.view(self.kind), minibatch.width_l
        total_lt = self.total(rows.value_lt, width_l[:, None])
        value_rts, any_rt = window_means(total_lt, rows.present_lt, width_l, minibatch.low_rs, minibatch.high_rs)
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
        self.unseen.extend_from(known.unseen)

    def predict(
        self, raw_rqgo: Tensor, queries: Queries, target: TargetInputs, offsets: WindowOffsets
    ) -> ViewPrediction:
        """Distribution of the targets."""
        raise NotImplementedError

    def losses(
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_exposure_rqg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each entry, and how far its mean is off."""
        raise NotImplementedError

    def collect(self, distribution: Distribution, query_n: Tensor, place_n: Tensor) -> Distribution:
        """Distribution of targets that stand at these queries and places, shape (r, n)."""
        raise NotImplementedError

    def spread(self, distribution: Distribution) -> Tensor:
        """Dispersion of counts, standard deviation of signal."""
        raise NotImplementedError

    def expect(
        self, network_rn: Tensor, spread_rn: Tensor, reference: Reference, cells_n: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Mean and spread of experiments that training never saw, over all that may be expected of their cells.

        Parameters
        ----------
        network_rn, spread_rn
            Mean and spread by the network alone.
        reference
            What else is known.
        cells_n
            Their cells.
        """
        means, variances = [], []
        for weight_n, log_amplitude_n, log_factor_n in self.unseen.points(cells_n):
            log_amplitude_n, log_factor_n = (x * reference.is_imputed_n for x in (log_amplitude_n, log_factor_n))
            blended_rn = torch.lerp(network_rn, reference.average_rn, weight_n * reference.may_blend_rn)
            means.append(self.amplify(blended_rn, log_amplitude_n, network_rn, cells_n))
            variances.append(self.variance(means[-1], spread_rn * torch.exp(log_factor_n)))
        mean_srn = torch.stack(means)
        mean_rn = mean_srn.mean(dim=0)
        variance_rn = torch.stack(variances).mean(dim=0) + (mean_srn - mean_rn).square().mean(dim=0)
        return mean_rn, self.spread_at(mean_rn, variance_rn)

    def amplify(
        self, mean_rn: Tensor, log_amplitude_n: Tensor, network_rn: Tensor, cells_n: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Mean at another amplitude; the network's alone bounds it."""
        raise NotImplementedError

    def variance(self, mean_rn: Tensor, spread_rn: Tensor) -> Tensor:
        """Variance, without that of the reads by chance."""
        raise NotImplementedError

    def spread_at(self, mean_rn: Tensor, variance_rn: Tensor) -> Tensor:
        """Spread that has such a variance."""
        raise NotImplementedError

    def move(
        self, distribution: Distribution, towards_rn: Tensor, weight_rn: Tensor, log_exposure_rn: Tensor
    ) -> Distribution:
        """Move the mean towards what trees predict, by a weight of 0 to 1; the spread stays."""
        raise NotImplementedError


class CountView(View):
    """Reads. They enter as rates, and are predicted at a depth.

    Parameters
    ----------
    head, start, known_ba
        As in :class:`View`.
    """

    kind = ViewKind.COUNTS
    names = HistoryNames("imp_count", "imp_count_loss", "obs_count", "obs_count_loss")
    head: CountHead
    rate_a: Tensor
    noise_a: Tensor

    def __init__(self, head: CountHead, start: CellStart, known_ba: np.ndarray) -> None:
        super().__init__(head, start, CountCalibration(start.level_ba.shape), known_ba)
        self.register_buffer("rate_a", torch.as_tensor(np.exp(start.level_ba).mean(axis=0)))
        self.register_buffer(
            "noise_a", torch.zeros(start.level_ba.shape[1])
        )  # between replicates, learnt after training

    @property
    def strength_ba(self) -> Tensor:
        """Log standard deviation of the rate: of the mean rate, times what it varies by beyond Poisson noise."""
        return self.level_ba - 0.5 * self.log_spread_ba

    @property
    def n_outputs(self) -> int:
        """Those of the head, and how far a target's own reads are believed."""
        return self.head.n_outputs + 1

    def transform(self, value: Tensor) -> Tensor:
        """log(1 + rate)."""
        return torch.log1p(value)

    def total(self, value_lt: Tensor, width_l1: Tensor) -> Tensor:
        """Reads are a total already."""
        return value_lt

    def at_exposure(self, value: Tensor, log_exposure: Tensor) -> Tensor:
        """Rate times exposure."""
        return value * torch.exp(log_exposure)

    def noise(self, value_rt: Tensor, visible: Visible, window: int) -> Tensor:
        """Variance of log(1 + rate) by that of Poisson reads, to first order; half a read is added to each."""
        minibatch = visible.minibatch
        width_rs1 = window_sums(minibatch.width_l[:, None], minibatch.low_rs, minibatch.high_rs).float()
        per_read_rt = torch.exp(-visible.log_depth_t - visible.log_keep) / width_rs1[:, window]
        return (value_rt + 0.5 * per_read_rt) * per_read_rt / (1 + value_rt).square()

    def means(self, visible: Visible) -> WindowMeans:
        """Window means of all tracks as rates, and whether any of it is visible."""
        means = super().means(visible)
        scale_t = torch.exp(-visible.log_depth_t - visible.log_keep)
        return WindowMeans(means.value_rts.mul_(scale_t[:, None]), means.present_rt)  # they are nobody else's

    @torch.no_grad()
    def extend_from(self, known: View) -> None:
        """As of any view, and what is known of the known assays: mean rates, and the noise between replicates."""
        super().extend_from(known)
        assert isinstance(known, CountView)
        n_assays = len(known.rate_a)
        self.rate_a[:n_assays], self.noise_a[:n_assays] = known.rate_a, known.noise_a

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
            log_rate_rqg + raw_head_rqgo[..., 0] + own.log_exposure_rqa,
            log_dispersion_rqg + _CAUTION + raw_belief_rqg,
            self._noise(queries, target),
        )
        log_mean_rqg = target.log_exposure_rqg + log_rate_rqg + update_rqg
        inputs = HeadInputs(raw_head_rqgo, log_mean_rqg, log_dispersion_rqg)
        return ViewPrediction(self.head(raw_head_rqgo, log_mean_rqg, log_dispersion_rqg), inputs)

    def _noise(self, queries: Queries, target: TargetInputs) -> Tensor | None:
        """Noise between replicates to take out of the targets' own reads; None for none.

        Training predicts reads of the same experiment, and from neighbours alone a prior is too wide to gain by it.
        """
        if self.training or not self.noise_a.any():
            return None
        return self.noise_a[queries.assay_qg] * target.weighted.has_rqa

    def losses(
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_exposure_rqg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each entry, and how far its mean is off.

        The latter is quasi-Poisson: the likelihood hardly cares about the height of peaks where dispersion is low.
        """
        counts, target_rqg, cell = prediction.distribution, truth.value_rqg, queries.cell_qg
        excess_rqg = torch.exp(self.level_ba[cell] + log_exposure_rqg - self.log_spread_ba[cell])
        mismatch_rqg = (counts.mean - target_rqg * torch.log(counts.mean)) / (1 + excess_rqg)
        return -counts.log_prob(target_rqg), mismatch_rqg

    def collect(self, distribution: Distribution, query_n: Tensor, place_n: Tensor) -> NegativeBinomial:
        """The negative binomials with the moments of the head's distributions."""
        mean_rn, variance_rn = (x[:, query_n, place_n] for x in (distribution.mean, distribution.variance))
        return NegativeBinomial.from_moments(mean_rn, variance_rn)

    def spread(self, distribution: Distribution) -> Tensor:
        """Dispersion."""
        assert isinstance(distribution, NegativeBinomial)
        return distribution.theta

    def amplify(
        self, mean_rn: Tensor, log_amplitude_n: Tensor, network_rn: Tensor, cells_n: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Times a factor; where the average has a weight below 0, something of the network's mean is left."""
        return torch.maximum(mean_rn, LEAST_SHARE * network_rn) * torch.exp(log_amplitude_n)

    def variance(self, mean_rn: Tensor, spread_rn: Tensor) -> Tensor:
        """Square of the mean over the dispersion."""
        return mean_rn.square() / spread_rn

    def spread_at(self, mean_rn: Tensor, variance_rn: Tensor) -> Tensor:
        """Dispersion."""
        return mean_rn.square() / variance_rn

    def move(
        self, distribution: Distribution, towards_rn: Tensor, weight_rn: Tensor, log_exposure_rn: Tensor
    ) -> Distribution:
        """Move the log of the mean; trees predict the log of a rate."""
        assert isinstance(distribution, NegativeBinomial)
        log_mean_rn = torch.lerp(torch.log(distribution.mu), (towards_rn + log_exposure_rn).float(), weight_rn)
        return NegativeBinomial(torch.where(weight_rn > 0, torch.exp(log_mean_rn), distribution.mu), distribution.theta)


class SignalView(View):
    """p-value signal, arcsinh(-log10 p); depth means nothing to it.

    Parameters
    ----------
    start, known_ba
        As in :class:`View`.
    """

    kind = ViewKind.SIGNAL
    names = HistoryNames("imp_pval", "imp_signal_loss")
    head: GaussianHead

    def __init__(self, start: CellStart, known_ba: np.ndarray) -> None:
        super().__init__(GaussianHead(), start, SignalCalibration(start.level_ba.shape), known_ba)

    @property
    def strength_ba(self) -> Tensor:
        """Log standard deviation."""
        return self.log_spread_ba

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
        self, prediction: ViewPrediction, truth: Truth, queries: Queries, log_exposure_rqg: Tensor
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

    def amplify(
        self, mean_rn: Tensor, log_amplitude_n: Tensor, network_rn: Tensor, cells_n: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Times a factor, about the mean that the cell starts from."""
        level_n = self.level_ba[cells_n]
        return level_n + (mean_rn - level_n) * torch.exp(log_amplitude_n)

    def variance(self, mean_rn: Tensor, spread_rn: Tensor) -> Tensor:
        """Square of the standard deviation."""
        return spread_rn.square()

    def spread_at(self, mean_rn: Tensor, variance_rn: Tensor) -> Tensor:
        """Standard deviation."""
        return variance_rn.sqrt()

    def move(
        self, distribution: Distribution, towards_rn: Tensor, weight_rn: Tensor, log_exposure_rn: Tensor
    ) -> Distribution:
        """Move the mean; exposure means nothing to it."""
        mean_rn = torch.lerp(distribution.mean, towards_rn.float(), weight_rn)
        return Normal(mean_rn, distribution.stddev, validate_args=False)
