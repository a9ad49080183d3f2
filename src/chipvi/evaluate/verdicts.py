"""The check-up of one track: how good its imputation is, in numbers with their sampling errors, and in words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import norm

from ..metrics import coverage, fit_dispersion, nb_coverage, nb_nll, nb_pit, nb_quantile, pearson, r2

LEVEL = 0.95
BAR = 0.25  # by which a bar of the histogram may be off, however certain that is
N_BARS = 10
FEWEST = 100
RIGHT = "right"
TOO_FEW = {"counts": "too few reads to tell", "signal": "too little signal to tell"}
VAGUE = "cannot be told"
NARROW, WIDE, LOPSIDED, UNCLEAR = "too narrow", "too wide", "lopsided", "unclear while the mean is off"
BOTH, AVERAGE, MARGINAL = "beats both", "the average of the other biosamples", "the marginal"

_STRETCHES = 30
_ERRORS = 3  # standard errors within which nothing can be told
_MEAN, _SCORE, _COVERAGE = 0.1, 0.01, 0.02  # what does not matter, however certain
_MAJORITY = 22  # of the stretches: by chance so many or more agree in 2 of 100 cases
_VAGUE_MEAN, _VAGUE_BAR, _VAGUE_COVERAGE = 0.5, 0.75, 0.1  # beyond that, errors are too large for a verdict
_TAIL = (1 - LEVEL) / 2
_STEP = 0.1  # of the logarithm of the dispersion, for a slope
_MOST_DISPERSION = 1e4  # from here on it is a Poisson distribution, and slopes get lost in rounding
_LEAST_STD = 1e-3


@dataclass(frozen=True, eq=False)
class _Imputed(ABC):
    """The arguments of :func:`check`, and what differs between counts and signal."""

    truth: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    average: np.ndarray

    quantity = ""

    @abstractmethod
    def nll(self) -> np.ndarray:
        """Negative log-likelihood of each entry."""

    @abstractmethod
    def marginal_nll(self) -> np.ndarray:
        """The same under one distribution for all regions, fitted to them."""

    @abstractmethod
    def narrowness(self) -> np.ndarray:
        """Slope of each entry's likelihood: above 0 on average where a wider distribution would fit better."""

    @abstractmethod
    def pit(self, part: slice) -> np.ndarray:
        """Bars of the histogram of where some entries lie in what was predicted for them."""

    @abstractmethod
    def interval(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ends of the interval of each entry, and the probability that it has by the prediction itself."""

    @abstractmethod
    def mean_error(self) -> tuple[float, float]:
        """How far the imputed mean is off (log of the ratio, or in standard deviations), and the standard error."""

    @abstractmethod
    def mean_words(self) -> str:
        """How far the imputed mean is off, in words."""

    @property
    def is_enough(self) -> bool:
        """Whether there is anything to judge by."""
        return len(self.truth) >= FEWEST and np.ptp(self.truth) > 0


class _Counts(_Imputed):
    """Counts, and a negative binomial for each."""

    quantity = "counts"

    def nll(self) -> np.ndarray:
        return nb_nll(self.truth, self.mean, self.spread)

    def marginal_nll(self) -> np.ndarray:
        mean = np.full_like(self.truth, self.truth.mean())
        return nb_nll(self.truth, mean, fit_dispersion(self.truth[:, None], mean[:, None]))

    def narrowness(self) -> np.ndarray:
        spread = np.minimum(self.spread, _MOST_DISPERSION)
        up, down = (nb_nll(self.truth, self.mean, spread * np.exp(step)) for step in (_STEP, -_STEP))
        return up - down

    def pit(self, part: slice) -> np.ndarray:
        return nb_pit(self.truth[part], self.mean[part], self.spread[part], N_BARS)

    def interval(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lower, upper = (nb_quantile(q, self.mean, self.spread) for q in (_TAIL, 1 - _TAIL))
        return lower, upper, nb_coverage(self.mean, self.spread, lower, upper)

    def mean_error(self) -> tuple[float, float]:
        true = self.truth.mean()
        ratio = self.mean.mean() / true
        return np.log(ratio), standard_error((self.mean - ratio * self.truth) / (ratio * true))

    def mean_words(self) -> str:
        ratio = self.mean.mean() / self.truth.mean()
        direction = "high" if ratio > 1 else "low"
        if 0.5 < ratio < 1.5:
            return f"{100 * abs(ratio - 1):.0f} % too {direction}"
        return f"too {direction} by a factor of {max(ratio, 1 / ratio):.1f}"

    @property
    def is_enough(self) -> bool:
        """Whether there is anything to judge by."""
        return super().is_enough and self.truth.sum() >= FEWEST


class _Signal(_Imputed):
    """Signal, and a normal distribution for each."""

    quantity = "signal"

    def nll(self) -> np.ndarray:
        return -norm.logpdf(self.truth, self.mean, self.spread)

    def marginal_nll(self) -> np.ndarray:
        return -norm.logpdf(self.truth, self.truth.mean(), max(self.truth.std(), _LEAST_STD))

    def narrowness(self) -> np.ndarray:
        return ((self.truth - self.mean) / self.spread) ** 2 - 1

    def pit(self, part: slice) -> np.ndarray:
        transform = norm.cdf(self.truth[part], self.mean[part], self.spread[part])
        return np.histogram(transform, bins=N_BARS, range=(0, 1))[0] * N_BARS / len(transform)

    def interval(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lower, upper = (norm.ppf(q, self.mean, self.spread) for q in (_TAIL, 1 - _TAIL))
        return lower, upper, np.full_like(self.truth, LEVEL)

    def mean_error(self) -> tuple[float, float]:
        relative = (self.mean - self.truth) / self.truth.std()
        return relative.mean(), standard_error(relative)

    def mean_words(self) -> str:
        difference = (self.mean - self.truth).mean()
        return f"{abs(difference):.2f} too {'high' if difference > 0 else 'low'}"


def check(
    quantity: str, truth: np.ndarray, mean: np.ndarray, spread: np.ndarray, average: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Judge a track, imputed without its own data, at the entries where it was measured.

    Parameters
    ----------
    quantity
        "counts" or "signal".
    truth, mean
        What was measured, and what was imputed, in ascending order of the regions; at least one entry.
    spread
        What tells the width of the predicted distribution: dispersion of counts, standard deviation of signal.
    average
        Average of the other biosamples at the track's depth; NaN where there is none.

    Returns
    -------
    A row of the table of :class:`chipvi._checkup.Diagnosis`, and the bars of its histogram.
    """
    track = {"counts": _Counts, "signal": _Signal}[quantity](truth, mean, spread, average)
    lower, upper, expected = track.interval()
    parts = np.array_split(np.arange(len(track.truth)), min(_STRETCHES, len(track.truth)))
    bars_pk = np.array([track.pit(slice(part[0], part[-1] + 1)) for part in parts])
    pit = np.average(bars_pk, axis=0, weights=[len(part) for part in parts])
    nll, marginal_nll = track.nll(), track.marginal_nll()
    true, imputed = track.truth.mean(), track.mean.mean()
    row: dict[str, Any] = {
        "quantity": track.quantity,
        "regions": len(track.truth),
        "reads": track.truth.sum() if track.quantity == "counts" else np.nan,
        "mean_true": true,
        "mean_imputed": imputed,
        "ratio": imputed / true if true > 0 else np.nan,
        "r2": float(r2(track.truth, track.mean)),
        "pearson": float(pearson(track.truth, track.mean)),
        "nll": nll.mean(),
        "nll_marginal": marginal_nll.mean(),
        "r2_average": float(r2(track.truth, track.average)),
        "pearson_average": float(pearson(track.truth, track.average)),
        "pit_deviation": np.abs(pit - 1).max(),
        "coverage": float(coverage(track.truth, lower, upper)),
        "expected_coverage": expected.mean(),
    }
    if not track.is_enough:
        return row | dict.fromkeys(("mean", "spread", "beats", "intervals"), TOO_FEW[track.quantity]), pit
    inside = (lower <= track.truth) & (track.truth <= upper)
    mean_verdict = _judge_mean(track)
    return row | {
        "mean": mean_verdict,
        "spread": _judge_spread(track, mean_verdict, bars_pk, pit),
        "beats": _judge_gain(track, marginal_nll - nll),
        "intervals": _judge_intervals(row["coverage"], row["expected_coverage"], standard_error(inside - expected)),
    }, pit


def standard_error(values: np.ndarray) -> float:
    """Standard error of a mean over regions whose neighbours are alike: from the means of 30 stretches of them."""
    means = np.array([part.mean() for part in np.array_split(values, _STRETCHES)])
    return float(means.std(ddof=1) / np.sqrt(_STRETCHES))


def _judge_mean(track: _Imputed) -> str:
    off, error = track.mean_error()
    if not _ERRORS * error < _VAGUE_MEAN:
        return VAGUE
    return RIGHT if _direction(off, error, np.log1p(_MEAN)) == 0 else track.mean_words()


def _judge_spread(track: _Imputed, mean: str, bars_pk: np.ndarray, pit: np.ndarray) -> str:
    """The histogram tells whether something is off, and the likelihood in which direction."""
    error_k = bars_pk.std(axis=0, ddof=1) / np.sqrt(len(bars_pk))
    if not _ERRORS * error_k.max() < _VAGUE_BAR:
        return VAGUE
    if not any(_direction(height - 1, error, BAR) for height, error in zip(pit, error_k, strict=True)):
        return RIGHT
    if mean not in (RIGHT, VAGUE):
        return UNCLEAR
    narrowness = track.narrowness()
    return {1: NARROW, -1: WIDE, 0: LOPSIDED}[_direction(narrowness.mean(), standard_error(narrowness), 0)]


def _judge_gain(track: _Imputed, nll_gain: np.ndarray) -> str:
    against_marginal = _vote(lambda part: nll_gain[part].mean(), len(nll_gain), 0)
    if against_marginal < 1:
        return f"{'level with' if against_marginal == 0 else 'below'} {MARGINAL}"
    there = ~np.isnan(track.average)
    if there.sum() < FEWEST:
        return f"beats {MARGINAL} (no average to compare)"
    truth, mean, average = track.truth[there], track.mean[there], track.average[there]

    def gain(score: Callable, part: slice) -> float:  # a prediction that does not vary is not correlated with anything
        return float(np.nan_to_num(score(truth[part], mean[part])) - np.nan_to_num(score(truth[part], average[part])))

    votes = sum(_vote(partial(gain, score), len(truth), _SCORE) for score in (r2, pearson))
    return {1: BOTH, 0: f"level with {AVERAGE}", -1: f"below {AVERAGE}"}[int(np.sign(votes))]


def _vote(gain: Callable[[slice], float], n_entries: int, least: float) -> int:
    """Sign of a gain, or 0 if it is small, or not the same in most stretches: a few peaks may decide over the whole."""
    whole = gain(slice(None))
    edges = np.linspace(0, n_entries, _STRETCHES + 1).astype(np.int64)
    n_agree = sum(gain(slice(*pair)) * whole > 0 for pair in pairwise(edges))
    return int(np.sign(whole)) if abs(whole) > least and n_agree >= _MAJORITY else 0


def _judge_intervals(covered: float, expected: float, error: float) -> str:
    if not _ERRORS * error < _VAGUE_COVERAGE:
        return VAGUE
    if _direction(covered - expected, error, _COVERAGE) == 0:
        return RIGHT
    return f"cover {100 * covered:.0f} % where {100 * expected:.0f} % was expected"


def _direction(value: float, error: float, least: float) -> int:
    """Sign of a value that is neither too small to matter nor within its error, or else 0."""
    return 0 if not abs(value) > max(least, _ERRORS * error) else int(np.sign(value))
