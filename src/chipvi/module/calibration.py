"""What is learnt after training, by cell of the grid: corrections of known tracks, and how to treat unmeasured ones."""

from __future__ import annotations

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
        return distribution.scaled(level, log_spread)


class SignalCalibration(Calibration):
    """Shift of the mean, and log factor of the standard deviation, of normal distributions."""

    def correct(self, distribution: Distribution, level: Tensor, log_spread: Tensor) -> Normal:
        """Shift the mean, multiply the standard deviation."""
        return Normal(distribution.mean + level, distribution.stddev * torch.exp(log_spread), validate_args=False)


class BlendWeights(nn.Module):
    """Weight of the average of the other biosamples in the mean of experiments that training never saw.

    Parameters
    ----------
    known_ba
        Which cells of the grid have data.
    """

    weight_ba: Tensor

    def __init__(self, known_ba: np.ndarray) -> None:
        super().__init__()
        weight_a = np.where(known_ba.sum(axis=0) >= 2, _BLEND_LEARNT, _BLEND)
        weight_ba = np.broadcast_to(weight_a, known_ba.shape)
        self.register_buffer("weight_ba", torch.tensor(weight_ba, dtype=torch.float32))

    @property
    def array_ba(self) -> np.ndarray:
        """The weights, float64."""
        return self.weight_ba.double().cpu().numpy()

    @torch.no_grad()
    def set(self, biosamples: np.ndarray, weight_ba: np.ndarray) -> None:
        """Take these rows of the weights, 0 to 1."""
        self.weight_ba[biosamples] = torch.as_tensor(weight_ba[biosamples]).to(self.weight_ba)

    @torch.no_grad()
    def extend_from(self, known: BlendWeights) -> None:
        """Take the weights of a smaller grid; new biosamples take the mean over the known ones."""
        n_biosamples, n_assays = known.weight_ba.shape
        self.weight_ba[:n_biosamples, :n_assays] = known.weight_ba
        self.weight_ba[n_biosamples:, :n_assays] = known.weight_ba.mean(dim=0)
