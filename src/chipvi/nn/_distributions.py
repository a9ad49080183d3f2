"""Count distributions whose log-probabilities hold in every corner, for float32 parameters.

All three are subclasses of their scvi-tools namesakes, so whatever knows those knows these. What differs: the
log-probability is worked out, and returned, in float64, and samples can be drawn from a generator.
"""

from __future__ import annotations

import warnings
from typing import Any

import scvi.distributions
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints

_SERIES_FROM = 50.0  # the dispersion from which Stirling's series is exact to float64 rounding
_POISSON_UP_TO = 1e8  # above, Poisson noise is below 1e-4 of the rate, and some samplers overflow their integers
_LEAST_EXCESS = 1e-6  # excess variance over the mean that float32 moments can still show


class _CountDistribution:
    """What the three share: counts in, float64 out, randomness as an argument. To be mixed into a Distribution."""

    def log_prob(self: Any, value: Tensor) -> Tensor:
        """Log-probability of counts, in nats and float64; gradients return in the parameters' own type.

        Parameters
        ----------
        value
            Whole counts >= 0, any shape that broadcasts with the parameters. Others give a meaningless number, and a
            warning with ``validate_args=True``.
        """
        if self._validate_args:
            try:
                self._validate_sample(value)
            except ValueError as error:
                warnings.warn(f"counts outside the support of the distribution: {error}", UserWarning, stacklevel=2)
        return self._log_prob(value.double())

    @torch.no_grad()
    def sample(
        self: Any, sample_shape: torch.Size | tuple | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw counts of shape `(*sample_shape, *batch_shape)`, in the mean's type; the same from equal generators."""
        return self._draw(self._extended_shape(sample_shape or torch.Size()), generator).to(self.mean.dtype)

    def _log_prob(self, counts: Tensor) -> Tensor:
        """Log-probability of float64 counts."""
        raise NotImplementedError

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Counts of that shape."""
        raise NotImplementedError


class NegativeBinomial(_CountDistribution, scvi.distributions.NegativeBinomial):
    """Negative binomial with a mean and a dispersion: variance = mean + mean^2 / dispersion.

    Parameters
    ----------
    mean
        Mean, >= 0; any shape that broadcasts with `dispersion`. Types below float32 are cast up.
    dispersion
        Number of failures, or inverse overdispersion, > 0. The Poisson distribution is its limit at infinity.
    scale
        Normalised mean to carry along for ``get_normalized``; used in no formula.
    validate_args
        Check parameters (error) and counts (warning, as scvi-tools does), at the price of a device synchronisation.

    Notes
    -----
    Accurate to 1e-4 nat, gradients included, for means 1e-6 to 1e6, dispersions 1e-4 to 1e6 and counts up to 1e6.

    Examples
    --------
    >>> counts = NegativeBinomial(mean=torch.tensor([1.0, 20.0]), dispersion=torch.tensor(5.0))
    >>> counts.variance
    tensor([  1.2000, 100.0000])
    >>> counts.log_prob(torch.tensor([0.0, 20.0])).dtype
    torch.float64
    """

    arg_constraints = {**scvi.distributions.NegativeBinomial.arg_constraints, "theta": constraints.positive}

    def __init__(
        self, mean: Tensor, dispersion: Tensor, scale: Tensor | None = None, validate_args: bool = False
    ) -> None:
        mean, dispersion = _at_least_float32(mean), _at_least_float32(dispersion)
        super().__init__(mu=mean, theta=dispersion, scale=scale, validate_args=validate_args)
        self._batch_shape = self.mu.shape

    @classmethod
    def from_failures(cls, n: Tensor, p: Tensor) -> NegativeBinomial:
        """`n` failures, each trial failing with probability `p` (scipy's convention): mean = n (1 - p) / p."""
        return cls(mean=n * (1 - p) / p, dispersion=n)

    @classmethod
    def from_logits(cls, total_count: Tensor, logits: Tensor) -> NegativeBinomial:
        """`total_count` failures and log odds of a success (torch's convention): mean = total_count exp(logits)."""
        return cls(mean=total_count * torch.exp(logits), dispersion=total_count)

    @classmethod
    def from_moments(cls, mean: Tensor, variance: Tensor) -> NegativeBinomial:
        """Match a mean and a variance: dispersion = mean^2 / (variance - mean).

        A variance below ``mean * (1 + 1e-6)`` is out of a negative binomial's reach, or in float32 the same as one that
        is: it is raised to that, so that the dispersion is 1e6 * mean and the distribution as good as Poisson.
        (A bound on the dispersion itself would not do: 1e6 doubles the variance at mean 1e6.) Where the mean is 0 the
        dispersion is 1.
        """
        mean, variance = torch.broadcast_tensors(_at_least_float32(mean), _at_least_float32(variance))
        ratio = mean / torch.maximum(variance - mean, _LEAST_EXCESS * mean)
        return cls(mean=mean, dispersion=torch.where(mean > 0, mean * ratio, 1.0))

    def _log_prob(self, counts: Tensor) -> Tensor:
        return _NegativeBinomialLogProb.apply(*torch.broadcast_tensors(counts, self.mu.double(), self.theta.double()))

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        dispersion = self.theta.double().expand(shape).contiguous()
        return _draw_poisson(torch._standard_gamma(dispersion, generator) * (self.mu / dispersion), generator)


class Poisson(_CountDistribution, scvi.distributions.Poisson):
    """Poisson, for rates and counts of any size.

    Parameters
    ----------
    rate
        Mean, >= 0; any shape. Types below float32 are cast up.
    scale, validate_args
        As in :class:`NegativeBinomial`.
    """

    def __init__(self, rate: Tensor, scale: Tensor | None = None, validate_args: bool = False) -> None:
        super().__init__(rate=_at_least_float32(rate), scale=scale, validate_args=validate_args)

    def _log_prob(self, counts: Tensor) -> Tensor:
        rate = self.rate.double()
        return torch.xlogy(counts, rate) - rate - torch.lgamma(counts + 1)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return _draw_poisson(self.rate.double().expand(shape), generator)


class ZeroInflatedNegativeBinomial(_CountDistribution, scvi.distributions.ZeroInflatedNegativeBinomial):
    """Zero with probability sigmoid(zi_logits), a negative binomial otherwise.

    Parameters
    ----------
    mean, dispersion
        Of the negative binomial part, kept as `mu` and `theta`. The mean of the whole, :attr:`mean`, is smaller.
    zi_logits
        Log odds of an extra zero; any shape that broadcasts with the others.
    scale, validate_args
        As in :class:`NegativeBinomial`.
    """

    arg_constraints = {**scvi.distributions.ZeroInflatedNegativeBinomial.arg_constraints, "theta": constraints.positive}

    def __init__(
        self,
        mean: Tensor,
        dispersion: Tensor,
        zi_logits: Tensor,
        scale: Tensor | None = None,
        validate_args: bool = False,
    ) -> None:
        mean, dispersion, zi_logits = (_at_least_float32(x) for x in (mean, dispersion, zi_logits))
        super().__init__(mu=mean, theta=dispersion, zi_logits=zi_logits, scale=scale, validate_args=validate_args)
        self._batch_shape = self.mu.shape

    @property
    def mean(self) -> Tensor:
        """Mean of the whole, (1 - zi_probs) mu; no cancellation where zi_probs is near 1."""
        return torch.sigmoid(-self.zi_logits) * self.mu

    def _log_prob(self, counts: Tensor) -> Tensor:
        logits = self.zi_logits.double()
        part = NegativeBinomial(self.mu, self.theta).log_prob(counts) + F.logsigmoid(-logits)
        return torch.where(counts == 0, torch.logaddexp(F.logsigmoid(logits), part), part)

    def _draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        counts = NegativeBinomial(self.mu, self.theta).sample(shape[: len(shape) - self.mu.ndim], generator)
        return counts * torch.bernoulli(torch.sigmoid(-self.zi_logits).expand(shape), generator=generator)


class _NegativeBinomialLogProb(torch.autograd.Function):
    """log P(k) = k log m - k - log k! + (t + k) log((t + k) / (t + m)) + R(k, t), for mean m and dispersion t.

    R is what Stirling's formula leaves of lgamma(k + t) - lgamma(t), and vanishes for large t: what remains is the
    Poisson. The derivatives are written out because autograd would subtract digammas: at dispersion 1e6 their rounding,
    1e-15, buries the derivative in the dispersion, which can be 1e-18.
    """

    @staticmethod
    def forward(ctx: Any, counts: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
        # log((t + k) / (t + m)), without cancellation near 0 and without overflow far from it
        gap = counts - mean
        log_ratio = gap.sign() * torch.log1p(gap.abs() / (dispersion + torch.minimum(counts, mean)))
        log_growth = torch.log1p(counts / dispersion)
        ctx.save_for_backward(counts, mean, dispersion, log_ratio, log_growth)
        poisson_like = torch.xlogy(counts, mean) - counts - torch.lgamma(counts + 1)
        return poisson_like + (dispersion + counts) * log_ratio + _stirling_rest(counts, dispersion, log_growth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        counts, mean, dispersion, log_ratio, log_growth = ctx.saved_tensors
        d_mean = (counts - mean) / (mean.clamp_min(torch.finfo(mean.dtype).tiny) * (1 + mean / dispersion))

        step = (counts - mean) / (mean + dispersion)  # exp(log_ratio) - 1
        small = step.clamp(-0.01, 0.01)
        series = torch.full_like(small, 1 / 7)
        for i in range(6, 1, -1):  # log(1 + x) - x = x^2 (-1/2 + x (1/3 + x (-1/4 + ...)))
            series = series * small + (-1) ** (i + 1) / i
        curve = torch.where(step == small, series * small.square(), log_ratio - step)
        return None, grad * d_mean, grad * (curve + _stirling_rest_slope(counts, dispersion, log_growth))


def _stirling_rest(k: Tensor, t: Tensor, log_growth: Tensor) -> Tensor:
    """lgamma(k + t) - lgamma(t) - [(t + k) log(1 + k/t) + k log t - k], given log(1 + k/t)."""
    direct = torch.lgamma(k + t) - torch.lgamma(t) - (t + k) * log_growth - torch.xlogy(k, t) + k
    large = t.clamp_min(_SERIES_FROM)
    series = _stirling_series(k + large) - _stirling_series(large) - 0.5 * log_growth
    return torch.where(t < _SERIES_FROM, direct, series)


def _stirling_rest_slope(k: Tensor, t: Tensor, log_growth: Tensor) -> Tensor:
    """Derivative of `_stirling_rest` in t: digamma(k + t) - digamma(t) - log(1 + k/t)."""
    direct = torch.digamma(k + t) - torch.digamma(t) - log_growth
    large = t.clamp_min(_SERIES_FROM)
    series = _stirling_series_slope(k + large) - _stirling_series_slope(large) + 0.5 * k / (large * (k + large))
    return torch.where(t < _SERIES_FROM, direct, series)


def _stirling_series(x: Tensor) -> Tensor:
    """Tail of Stirling's series for lgamma (Abramowitz and Stegun 6.1.41)."""
    inverse = 1 / x.square()
    return (1 / 12 - inverse * (1 / 360 - inverse / 1260)) / x


def _stirling_series_slope(x: Tensor) -> Tensor:
    inverse = 1 / x.square()
    return -inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))


def _draw_poisson(rate: Tensor, generator: torch.Generator | None) -> Tensor:
    draw = torch.poisson(rate.clamp_max(_POISSON_UP_TO), generator=generator)
    return torch.where(rate < _POISSON_UP_TO, draw, rate.round())


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
