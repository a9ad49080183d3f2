"""What known data add to the log of a mean: a ratio to the average, and the update by a region's own reads."""

from __future__ import annotations

import torch
from torch import Tensor

_RATE_FLOOR = 0.15  # of the mean rate of an assay: keeps the log finite where there are no reads


def log_ratio(rate_rqg: Tensor, mean_qg: Tensor) -> Tensor:
    """Log of rates to the mean rate of their assay, bounded where there are no reads."""
    floor_qg = _RATE_FLOOR * mean_qg
    return torch.log((rate_rqg + floor_qg) / (mean_qg + floor_qg))


def log_update(reads_rqg: Tensor, log_expected_rqg: Tensor, log_shape_rqg: Tensor) -> Tensor:
    """What a target's own reads add to the log of its expected rate.

    For a rate with a gamma prior of shape s and Poisson reads y, of which m are expected, the posterior mean is the
    prior mean times (s + y) / (s + m) (Gelman et al., Bayesian Data Analysis, section 2.6).
    """
    shape_rqg = torch.exp(log_shape_rqg.clamp(-7, 12))
    return torch.log((shape_rqg + reads_rqg) / (shape_rqg + torch.exp(log_expected_rqg.clamp(-16, 16))))
