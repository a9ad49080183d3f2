"""What known data add to the log of a mean: a ratio to the average, and the update by a region's own reads."""

from __future__ import annotations

import torch
from torch import Tensor

_RATE_FLOOR = 0.15  # of the mean rate of an assay: keeps the log finite where there are no reads
_LEAST_PRIOR = 1e-3  # of the variance of a rate that replicates may share, where they differ by all of it


def log_ratio(rate_rqg: Tensor, mean_qg: Tensor) -> Tensor:
    """Log of rates to the mean rate of their assay, bounded where there are no reads."""
    floor_qg = _RATE_FLOOR * mean_qg
    return torch.log((rate_rqg + floor_qg) / (mean_qg + floor_qg))


def log_update(
    reads_rqg: Tensor, log_expected_rqg: Tensor, log_shape_rqg: Tensor, noise_rqg: Tensor | None = None
) -> Tensor:
    """What a target's own reads add to the log of its expected rate.

    For a rate with a gamma prior of shape s and Poisson reads y, of which m are expected, the posterior mean is the
    prior mean times (s + y) / (s + m) (Gelman et al., Bayesian Data Analysis, section 2.6).

    That is the rate of this experiment. Where replicates differ by a variance of c m^2 beyond the m of Poisson reads,
    the rate that they share varies by c less, 1 / s - c, and the reads are worth 1 / (1 + c m) times as many Poisson
    reads of it.

    Parameters
    ----------
    reads_rqg, log_expected_rqg
        Reads, and the log of how many are expected.
    log_shape_rqg
        Log of the shape of the prior.
    noise_rqg
        Variance between replicates beyond Poisson, over the square of the mean, from 0; None for 0.
    """
    shape_rqg, expected_rqg = torch.exp(log_shape_rqg.clamp(-7, 12)), torch.exp(log_expected_rqg.clamp(-16, 16))
    if noise_rqg is not None:
        shape_rqg = shape_rqg / (1 - noise_rqg * shape_rqg).clamp_min(_LEAST_PRIOR)
        worth_rqg = 1 / (1 + noise_rqg * expected_rqg)
        reads_rqg, expected_rqg = worth_rqg * reads_rqg, worth_rqg * expected_rqg
    return torch.log((shape_rqg + reads_rqg) / (shape_rqg + expected_rqg))
