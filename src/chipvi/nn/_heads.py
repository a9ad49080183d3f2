"""Heads: from the decoder's raw numbers and a starting point to a distribution.

A head has nothing to learn. ``raw = 0`` gives the starting point itself, so that training starts from the data whatever
the head, and heads differ only in how `raw` moves away from there. All work in float32 or more, under autocast as well.
"""

from __future__ import annotations

import math
from inspect import signature
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from .._arguments import refuse_unknown, require_real
from ._distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial, _at_least_float32

_LOG_MEAN = (-16.0, 16.0)  # means from 1e-7 to 9e6
_LOG_DISPERSION = (math.log(1e-3), math.log(1e4))
_PRE_DISPERSION = (math.log(math.expm1(1e-3)), 1e4)  # the same range before softplus
_ZERO_LOGIT = (-16.0, 16.0)
_PRE_STD = (math.log(math.expm1(1e-3)), 1e3)


class CountHead(nn.Module):
    """What every count head promises.

    * ``raw = 0`` gives mean ``exp(log_mean)`` and, where there is one, dispersion ``exp(log_dispersion)``.
    * ``log_mean + log 2`` doubles the mean: depth enters there.
    * Whatever `raw`, parameters, log-probabilities and gradients are finite: beyond the working range (log mean within
      +-16, dispersion 1e-3 to 1e4, zero-inflation logit within +-16) a coordinate grows only logarithmically, with a
      gradient that still leads back.

    A subclass gives the coordinates; this class bounds them and builds the distribution from them.
    """

    n_outputs: ClassVar[int]
    _ranges: ClassVar[tuple[tuple[float, float], ...]]

    def forward(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> Distribution:
        """Distribution of the counts at each entry.

        Parameters
        ----------
        raw_qo
            Decoder outputs, shape `(*q, n_outputs)`, any floating type.
        log_mean_q
            Natural log of the mean to start from, at the wanted depth; broadcasts with q.
        log_dispersion_q
            Natural log of the dispersion to start from; broadcasts with q. Heads without a dispersion ignore it.

        Returns
        -------
        Distribution of shape q, with `mean`, `variance`, `log_prob` (float64) and ``sample(shape, generator)``.

        Raises
        ------
        ValueError
            If the last dimension of `raw_qo` is not `n_outputs`.
        """
        coordinates = self._coordinates(*self._prepare(raw_qo, log_mean_q, log_dispersion_q))
        return self._distribution(*(_bounded(x, *range_) for x, range_ in zip(coordinates, self._ranges, strict=True)))

    def at_bounds(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> dict[str, Tensor]:
        """Where a bound or a clamp is active, by the coordinate that it holds: boolean, each of shape q.

        The mean of one is the share of entries to worry about.
        """
        coordinates = self._coordinates(*self._prepare(raw_qo, log_mean_q, log_dispersion_q))
        names = ("mean", "dispersion", "zero_logit")
        return {
            name: _outside(x, *range_).expand(raw_qo.shape[:-1])
            for name, x, range_ in zip(names, coordinates, self._ranges, strict=False)
        }

    def _prepare(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _check_outputs(self, raw_qo)
        log_dispersion_q = _bounded(_at_least_float32(log_dispersion_q), *_LOG_DISPERSION)
        return _at_least_float32(raw_qo), _at_least_float32(log_mean_q), log_dispersion_q

    def _coordinates(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, ...]:
        """Log mean and, as far as the head has them, dispersion before softplus and zero logit: all unbounded."""
        raise NotImplementedError

    def _distribution(self, *coordinates: Tensor) -> Distribution:
        log_mean, pre_dispersion = coordinates
        return NegativeBinomial(torch.exp(log_mean), F.softplus(pre_dispersion))


class MeanDispersion(CountHead):
    """Negative binomial: ``raw[0]`` moves the log mean, ``raw[1]`` the dispersion before softplus."""

    n_outputs = 2
    _ranges = (_LOG_MEAN, _PRE_DISPERSION)

    def _coordinates(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, ...]:
        return log_mean_q + raw_qo[..., 0], _inverse_softplus(log_dispersion_q.exp()) + raw_qo[..., 1]


class CountLogits(CountHead):
    """Negative binomial by total count and logits, as in torch: mean = total_count exp(logits).

    ``raw[0]`` moves the logits, ``raw[1]`` the total count before softplus, and the mean with it.
    """

    n_outputs = 2
    _ranges = (_LOG_MEAN, _PRE_DISPERSION)

    def _coordinates(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, ...]:
        pre_count = _inverse_softplus(log_dispersion_q.exp()) + raw_qo[..., 1]
        logits = log_mean_q - log_dispersion_q + raw_qo[..., 0]
        return _log_softplus(pre_count) + logits, pre_count


class ClampedNP(CountHead):
    """Negative binomial by failures and their probability, with hard clamps: the form that is known to fail.

    n = softplus(clamp(.)), p = sigmoid(clamp(.)), mean = n (1 - p) / p. ``raw[0]`` lowers the logit of p (and so raises
    the mean), ``raw[1]`` moves n before softplus. Past a clamp the gradient is zero, and the contract of
    :class:`CountHead` holds only as far as the clamps allow: log mean - log n within +-`logit_clamp`.

    Parameters
    ----------
    logit_clamp
        Bound on the absolute logit of p; None for no clamp.
    count_floor
        Least value of n before softplus; None for no clamp.
    """

    n_outputs = 2
    _ranges = (_LOG_MEAN, _PRE_DISPERSION)

    def __init__(self, logit_clamp: float | None = 10.0, count_floor: float | None = -5.0) -> None:
        super().__init__()
        self.logit_clamp = math.inf if logit_clamp is None else logit_clamp
        self.count_floor = -math.inf if count_floor is None else count_floor

    def at_bounds(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> dict[str, Tensor]:
        """Where a bound or a clamp is active, by the coordinate that it holds: boolean, each of shape q."""
        pre_n, logit = self._unclamped(*self._prepare(raw_qo, log_mean_q, log_dispersion_q))
        clamped = {"count": pre_n < self.count_floor, "logit": logit.abs() > self.logit_clamp}
        return super().at_bounds(raw_qo, log_mean_q, log_dispersion_q) | clamped

    def _unclamped(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, Tensor]:
        pre_n = _inverse_softplus(log_dispersion_q.exp()) + raw_qo[..., 1]
        return pre_n, log_dispersion_q - log_mean_q - raw_qo[..., 0]

    def _coordinates(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, ...]:
        pre_n, logit = self._unclamped(raw_qo, log_mean_q, log_dispersion_q)
        pre_n = pre_n.clamp(min=self.count_floor)
        # log of n (1 - p) / p: forming 1 - p itself would lose digits near p = 1
        return _log_softplus(pre_n) - logit.clamp(-self.logit_clamp, self.logit_clamp), pre_n


class PoissonHead(CountHead):
    """Poisson: ``raw[0]`` moves the log mean. No dispersion."""

    n_outputs = 1
    _ranges = (_LOG_MEAN,)

    def _coordinates(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, ...]:
        return (log_mean_q + raw_qo[..., 0],)

    def _distribution(self, *coordinates: Tensor) -> Distribution:
        (log_mean,) = coordinates
        return Poisson(torch.exp(log_mean))


class ZeroInflated(CountHead):
    """Zero-inflated negative binomial: :class:`MeanDispersion` and, by ``raw[2]``, the log odds of an extra zero.

    The negative binomial part starts a little above ``exp(log_mean)``, so that the mean of the whole is that.

    Parameters
    ----------
    start_logit
        Log odds of an extra zero to start from: -4 is 1.8 % of the entries.
    """

    n_outputs = 3
    _ranges = (_LOG_MEAN, _PRE_DISPERSION, _ZERO_LOGIT)

    def __init__(self, start_logit: float = -4.0) -> None:
        super().__init__()
        self.start_logit = start_logit

    def _coordinates(self, raw_qo: Tensor, log_mean_q: Tensor, log_dispersion_q: Tensor) -> tuple[Tensor, ...]:
        log_mean = log_mean_q + math.log1p(math.exp(self.start_logit)) + raw_qo[..., 0]
        pre_dispersion = _inverse_softplus(log_dispersion_q.exp()) + raw_qo[..., 1]
        return log_mean, pre_dispersion, self.start_logit + raw_qo[..., 2]

    def _distribution(self, *coordinates: Tensor) -> Distribution:
        log_mean, pre_dispersion, zero_logit = coordinates
        return ZeroInflatedNegativeBinomial(torch.exp(log_mean), F.softplus(pre_dispersion), zero_logit)


class GaussianHead(nn.Module):
    """Normal distribution of the signal, arcsinh(-log10 p): ``raw[0]`` moves the mean, ``raw[1]`` the spread.

    std = sqrt(floor^2 + softplus(.)^2): without the floor the variance of easy tracks collapses and they take over.

    Parameters
    ----------
    floor
        Least standard deviation, in arcsinh units, > 0.
    """

    n_outputs: ClassVar[int] = 2

    def __init__(self, floor: float = 0.1) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}; 0.1 arcsinh units is a fair choice")
        self.floor = floor

    def forward(self, raw_qo: Tensor, mean_q: Tensor, log_std_q: Tensor) -> Normal:
        """Distribution of the signal at each entry, shape q.

        Parameters
        ----------
        raw_qo
            Decoder outputs, shape `(*q, 2)`, any floating type; 0 gives `mean_q` and ``exp(log_std_q)``.
        mean_q
            Mean to start from, in arcsinh units; broadcasts with q.
        log_std_q
            Natural log of the standard deviation to start from; broadcasts with q. The start is never below 1.005
            times the floor.

        Raises
        ------
        ValueError
            If the last dimension of `raw_qo` is not 2.
        """
        mean = _at_least_float32(mean_q) + _at_least_float32(raw_qo)[..., 0]
        spread = F.softplus(_bounded(self._pre_spread(raw_qo, log_std_q), *_PRE_STD))
        std = torch.sqrt(spread.square() + self.floor**2)
        return Normal(mean, std, validate_args=False)

    def at_bounds(self, raw_qo: Tensor, mean_q: Tensor, log_std_q: Tensor) -> dict[str, Tensor]:
        """Where the floor makes up more than half of the variance, or a bound is active: `std`, boolean, shape q."""
        pre_spread = self._pre_spread(raw_qo, log_std_q)
        return {"std": _outside(pre_spread, *_PRE_STD) | (F.softplus(pre_spread) < self.floor)}

    def _pre_spread(self, raw_qo: Tensor, log_std_q: Tensor) -> Tensor:
        _check_outputs(self, raw_qo)
        std = torch.exp(_bounded(_at_least_float32(log_std_q), math.log(self.floor), math.log(1e3)))
        # not from zero, where the gradient in raw would vanish
        spread = torch.sqrt((std.square() - self.floor**2).clamp_min((self.floor / 10) ** 2))
        return _inverse_softplus(spread) + _at_least_float32(raw_qo)[..., 1]


COUNT_HEADS: dict[str, type[CountHead]] = {
    "mean_dispersion": MeanDispersion,
    "count_logits": CountLogits,
    "clamped_np": ClampedNP,
    "poisson": PoissonHead,
    "zero_inflated": ZeroInflated,
}


def make_count_head(name: str, **options: float | None) -> CountHead:
    """Count head by name; `options` go to its constructor.

    Raises
    ------
    ValueError
        If there is no head of that name; the message lists those there are.

    Examples
    --------
    >>> make_count_head("clamped_np", logit_clamp=None).count_floor
    -5.0
    """
    if name not in COUNT_HEADS:
        raise ValueError(f"no count head is called {name!r}; choose one of {', '.join(map(repr, COUNT_HEADS))}")
    parameters = signature(COUNT_HEADS[name]).parameters.values()
    known = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    refuse_unknown(options, known, f"head_options of {name}")
    for option, value in options.items():
        if value is not None:
            require_real(option, value)
    return COUNT_HEADS[name](**options)


def _bounded(x: Tensor, low: float, high: float) -> Tensor:
    """`x` itself inside [low, high]; outside, logarithmic growth: smooth, never flat, never large."""
    return x.clamp(low, high) + torch.log1p((x - high).clamp_min(0)) - torch.log1p((low - x).clamp_min(0))


def _outside(x: Tensor, low: float, high: float) -> Tensor:
    return (x < low) | (x > high)


def _inverse_softplus(y: Tensor) -> Tensor:
    """The x with softplus(x) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


def _log_softplus(pre_dispersion: Tensor) -> Tensor:
    """Log of the dispersion that the bounded coordinate gives."""
    return torch.log(F.softplus(_bounded(pre_dispersion, *_PRE_DISPERSION)))


def _check_outputs(head: CountHead | GaussianHead, raw_qo: Tensor) -> None:
    if raw_qo.shape[-1] != head.n_outputs:
        raise ValueError(
            f"{type(head).__name__} takes {head.n_outputs} raw numbers per entry, in the last dimension; "
            f"got raw of shape {tuple(raw_qo.shape)}"
        )
