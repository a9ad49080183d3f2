"""What is learnt after training, by cell of the grid: corrections of known tracks, and how to treat unmeasured ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from ..nn import NegativeBinomial

Cells: TypeAlias = tuple[np.ndarray, ...] | tuple[int, int]  # biosamples and assays

# Weight of the average of the other biosamples in the mean of an experiment that training never saw, if nothing is
# known better: where one biosample at most taught its assay, and where more did, so that the network knows when to
# follow the average.
_BLEND, _BLEND_LEARNT = 0.5, 0.25

N_UNKNOWNS = 3  # of an experiment that training never saw


class Calibration(nn.Module):
    """Corrections of one view of imputed tracks, by cell of the grid; 0 changes nothing.

    Parameters
    ----------
    shape
        Biosamples and assays of the grid.
    """

    level_ba: Tensor
    log_spread_ba: Tensor
    is_frozen_ba: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("level_ba", torch.zeros(shape))
        self.register_buffer("log_spread_ba", torch.zeros(shape))
        self.register_buffer("is_frozen_ba", torch.zeros(shape, dtype=torch.bool))

    def correct(self, distribution: Distribution, level: Tensor, log_spread: Tensor) -> Distribution:
        """Correct a distribution by a level and the log factor of its spread."""
        raise NotImplementedError

    def forward(self, distribution: Distribution, cells: tuple[Tensor, Tensor], is_imputed: Tensor) -> Distribution:
        """Correct the distribution of targets, the last axis of which are these cells, where they are imputed."""
        level, log_spread = (torch.where(is_imputed, x_ba[cells], 0.0) for x_ba in (self.level_ba, self.log_spread_ba))
        return self.correct(distribution, level, log_spread)

    @torch.no_grad()
    def set(self, cells: Cells, level: float | None = None, log_spread: float | None = None) -> None:
        """Correct these cells by as much from now on; None leaves a number as it is, and frozen cells stay."""
        is_set_ba = torch.zeros_like(self.is_frozen_ba)
        is_set_ba[cells] = True
        is_set_ba &= ~self.is_frozen_ba
        for value, x_ba in ((level, self.level_ba), (log_spread, self.log_spread_ba)):
            if value is not None:
                x_ba[is_set_ba] = value

    @torch.no_grad()
    def reset(self) -> None:
        """Correct nothing, but for the frozen cells."""
        for x_ba in (self.level_ba, self.log_spread_ba):
            x_ba[~self.is_frozen_ba] = 0.0

    @torch.no_grad()
    def freeze(self, is_frozen_ba: Tensor) -> None:
        """Keep these cells as they are from now on, whatever is set or reset."""
        self.is_frozen_ba.copy_(is_frozen_ba)

    @torch.no_grad()
    def extend_from(self, known: Calibration) -> None:
        """Take the corrections of a smaller grid, the first biosamples and assays of this one."""
        corner = tuple(slice(size) for size in known.level_ba.shape)
        self.level_ba[corner], self.log_spread_ba[corner] = known.level_ba, known.log_spread_ba


class CountCalibration(Calibration):
    """Log factors of the mean and of the dispersion of negative binomials."""

    def correct(self, distribution: Distribution, level: Tensor, log_spread: Tensor) -> NegativeBinomial:
        """Multiply mean and dispersion."""
        assert isinstance(distribution, NegativeBinomial)
        return NegativeBinomial(distribution.mu * torch.exp(level), distribution.theta * torch.exp(log_spread))


class SignalCalibration(Calibration):
    """Shift of the mean, and log factor of the standard deviation, of normal distributions."""

    def correct(self, distribution: Distribution, level: Tensor, log_spread: Tensor) -> Normal:
        """Shift the mean, multiply the standard deviation."""
        return Normal(distribution.mean + level, distribution.stddev * torch.exp(log_spread), validate_args=False)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What trials show of the unknowns (u) of their cells (i), as deviations from the defaults.

    Parameters
    ----------
    biosample_i, assay_i
        Cells; each at most once.
    deviation_iu, variance_iu
        Mean and variance of the likelihood, taken as normal.
    """

    biosample_i: np.ndarray
    assay_i: np.ndarray
    deviation_iu: np.ndarray
    variance_iu: np.ndarray


def default_weights(known_ba: np.ndarray) -> np.ndarray:
    """Blend weight of each assay before anything is known better, given which cells of the grid have data."""
    return np.where(known_ba.sum(axis=0) >= 2, _BLEND_LEARNT, _BLEND)


class Unseen(nn.Module):
    """What is expected of one view of the experiments that training never saw, by cell of the grid.

    Three unknowns (u): the weight of the average of the other biosamples in the mean; the log of the amplitude, by
    which what is left of the mean above a level is multiplied; the log factor of the spread. They are independent and
    normal.

    Parameters
    ----------
    known_ba
        Which cells of the grid have data.
    """

    mean_bau: Tensor
    std_bau: Tensor
    evidence_bau: Tensor
    precision_bau: Tensor

    def __init__(self, known_ba: np.ndarray) -> None:
        super().__init__()
        mean_bau = np.zeros((*known_ba.shape, N_UNKNOWNS))
        mean_bau[..., 0] = default_weights(known_ba)
        self.register_buffer("mean_bau", torch.tensor(mean_bau, dtype=torch.float32))
        self.register_buffer("std_bau", torch.zeros(mean_bau.shape))
        # of trials, from which it is inferred anew once new biosamples bring their own
        self.register_buffer("evidence_bau", torch.zeros(mean_bau.shape))
        self.register_buffer("precision_bau", torch.zeros(mean_bau.shape))

    def points(self, cells_n: tuple[Tensor, Tensor]) -> Iterator[Tensor]:
        """Equally likely values of the unknowns (u, n) that have their mean and variance: a cubature of degree three.

        It is that of Arasaratnam and Haykin (2009).
        """
        mean_un, std_un = self.mean_bau[cells_n].T, self.std_bau[cells_n].T
        if not std_un.any():
            yield mean_un
            return
        for step_un in torch.diag_embed(std_un.T).permute(1, 2, 0) * N_UNKNOWNS**0.5:
            yield mean_un + step_un
            yield mean_un - step_un

    @torch.no_grad()
    def record(self, cell: tuple[int, int], deviation_u: np.ndarray, variance_u: np.ndarray) -> None:
        """Note what a trial in a cell shows, as deviation from the default."""
        self.evidence_bau[cell] = torch.as_tensor(deviation_u).to(self.evidence_bau)
        self.precision_bau[cell] = torch.as_tensor(1 / variance_u).to(self.precision_bau)

    def evidence(self) -> Evidence:
        """What all trials show."""
        evidence_bau, precision_bau = (x.double().cpu().numpy() for x in (self.evidence_bau, self.precision_bau))
        b, a = np.nonzero(precision_bau.any(axis=-1))
        return Evidence(b, a, evidence_bau[b, a], 1 / precision_bau[b, a])

    @torch.no_grad()
    def set(self, is_set_ba: np.ndarray, mean_bau: np.ndarray, std_bau: np.ndarray) -> None:
        """Expect this of these cells from now on."""
        cells = np.nonzero(is_set_ba)
        for ours_bau, given_bau in ((self.mean_bau, mean_bau), (self.std_bau, std_bau)):
            ours_bau[cells] = torch.as_tensor(given_bau[cells]).to(ours_bau)

    @torch.no_grad()
    def extend_from(self, known: Unseen) -> None:
        """Take what is known of a smaller grid, the first biosamples and assays of this one."""
        corner = tuple(slice(size) for size in known.mean_bau.shape)
        for name, buffer_bau in known.named_buffers():
            self.get_buffer(name)[corner] = buffer_bau
