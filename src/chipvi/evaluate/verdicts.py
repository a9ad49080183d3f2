"""The verdict on one track: how good its imputation is, in numbers with their sampling errors, and what follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import norm

from ..metrics import coverage, nb_coverage, nb_nll, nb_pit, pearson, r2
from .references import fit_marginal
from .track_scores import LEVEL, TAIL, central_interval

BAR = 0.25  # by which a bar of the histogram may be off, however certain that is
N_BARS = 10
FEWEST = 100
_ENOUGH, _LITTLE = 0.5, 0.1  # of the R2 that noise allows: from here on good, and below poor


class Level(Enum):
    """How all imputed values together compare with what was measured."""

    RIGHT = "right"
    HIGH = "too high"
    LOW = "too low"
    UNCERTAIN = "errors too large for a verdict"
    TOO_FEW = "too few reads, or too little signal"


class Spread(Enum):
    """How wide the predicted distributions are for what was measured."""

    RIGHT = "right"
    NARROW = "too narrow"
    WIDE = "too wide"
    LOPSIDED = "values more often at one end, though the width is right"
    UNCLEAR = "not to be judged while the level is off"
    UNCERTAIN = "errors too large for a verdict"
    TOO_FEW = "too few reads, or too little signal"


class Standing(Enum):
    """How imputation compares with predictions without a model."""

    BEATS_BOTH = "beats marginal and average"
    BEATS_MARGINAL = "beats the marginal, and there is no average"
    LEVEL_WITH_AVERAGE = "beats the marginal, level with the average"
    BELOW_AVERAGE = "beats the marginal, below the average"
    LEVEL_WITH_MARGINAL = "level with the marginal"
    BELOW_MARGINAL = "below the marginal"
    NOT_IMPUTABLE = "not above the marginal, for there was nothing to impute from"
    TOO_FEW = "too few reads, or too little signal"

    @property
    def is_best(self) -> bool:
        """Whether nothing that needs no model is as good."""
        return self in (Standing.BEATS_BOTH, Standing.BEATS_MARGINAL)

    @property
    def is_worse(self) -> bool:
        """Whether something that needs no model is better."""
        return self in (Standing.BELOW_AVERAGE, Standing.BELOW_MARGINAL)

    @property
    def is_unlearnt(self) -> bool:
        """Whether imputation is no better than the marginal, though there was something to impute from."""
        return self in (Standing.LEVEL_WITH_MARGINAL, Standing.BELOW_MARGINAL)


class Grade(Enum):
    """What the imputation of a track is good for, from worst to best; the value is for people."""

    POOR = "poor"
    CARE = "with care"
    GOOD = "good"
    UNKNOWN = "not judged"


class Intervals(Enum):
    """Whether as many values lie in their intervals as the prediction itself expects."""

    RIGHT = "right"
    OFF = "off"
    UNCERTAIN = "errors too large for a verdict"
    TOO_FEW = "too few reads, or too little signal"


@dataclass(frozen=True)
class TrackVerdict:
    """What is right with the imputation of a track, and what is not.

    Parameters
    ----------
    quantity
        "counts" or "signal".
    level, spread, standing, intervals
        The verdicts.
    ratio, difference
        Imputed over measured mean, NaN without a read; imputed less measured mean.
    coverage, expected_coverage
        Share of the values that lie in their interval, and what the prediction itself expects.
    explained
        R2 as a share of the highest that noise allows; NaN where that is 0. Of signal, whose noise is not known, R2.
    """

    quantity: str
    level: Level
    spread: Spread
    standing: Standing
    intervals: Intervals
    ratio: float
    difference: float
    coverage: float
    expected_coverage: float
    explained: float = np.nan

    @property
    def is_judged(self) -> bool:
        """Whether there were enough data for any verdict."""
        return self.level is not Level.TOO_FEW

    @property
    def is_complete(self) -> bool:
        """Whether there were enough data for every verdict."""
        is_uncertain = (
            self.level is Level.UNCERTAIN or self.spread is Spread.UNCERTAIN or self.intervals is Intervals.UNCERTAIN
        )
        return self.is_judged and not is_uncertain

    @property
    def explains_little(self) -> bool:
        """Whether R2 is far from what noise allows."""
        return self.is_judged and self.explained < _ENOUGH

    @property
    def is_safe(self) -> bool:
        """Whether level and intervals claim no more than they hold: intervals may be wider than need be."""
        is_covered = self.intervals is not Intervals.OFF or self.coverage >= self.expected_coverage
        return self.level is Level.RIGHT and self.spread in (Spread.RIGHT, Spread.WIDE) and is_covered

    @property
    def grade(self) -> Grade:
        """All verdicts in one.

        Good: ahead of every prediction without a model, at least half of what noise allows, and safe. Poor: behind
        one of them, not better than the marginal, or less than a tenth of what noise allows.
        """
        if not self.is_judged:
            return Grade.UNKNOWN
        if self.standing.is_worse or self.standing.is_unlearnt or self.explained < _LITTLE:
            return Grade.POOR
        return Grade.GOOD if self.standing.is_best and not self.explains_little and self.is_safe else Grade.CARE


@dataclass(frozen=True, eq=False)
class Judgement:
    """A track that was judged: a row of numbers by name, the bars of its histogram, and the verdict."""

    numbers: dict[str, Any]
    pit: np.ndarray
    verdict: TrackVerdict


_STRETCHES = 30
_ERRORS = 3  # standard errors within which anything may be chance
_MEAN, _SCORE, _COVERAGE = 0.1, 0.01, 0.02  # what does not matter, however certain
_MAJORITY = 22  # of the stretches: by chance so many or more agree in 2 of 100 cases
_VAGUE_MEAN, _VAGUE_BAR, _VAGUE_COVERAGE = 0.5, 0.75, 0.1  # beyond that, errors are too large for a verdict
_STEP = 0.1  # of the logarithm of the dispersion, for a slope
_MOST_DISPERSION = 1e4  # from here on it is a Poisson distribution, and slopes get lost in rounding
_LEAST_STD = 1e-3


@dataclass(frozen=True, eq=False)
class _Imputed(ABC):
    """The arguments of :func:`judge_track`, and what differs between counts and signal."""

    truth: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    average: np.ndarray
    is_imputable: np.ndarray

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
    def r2_ceiling(self) -> float:
        """R2 that a prediction of the true rate would have, at most; NaN if that is not known."""

    @abstractmethod
    def mean_error(self) -> tuple[float, float]:
        """How far the imputed mean is off (log of the ratio, or in standard deviations), and the standard error."""

    @property
    def is_enough(self) -> bool:
        """Whether there is anything to judge by."""
        return len(self.truth) >= FEWEST and np.ptp(self.truth) > 0


class _Counts(_Imputed):
    """Counts, and a negative binomial for each."""

    def nll(self) -> np.ndarray:
        return nb_nll(self.truth, self.mean, self.spread)

    def marginal_nll(self) -> np.ndarray:
        mean = self.truth.mean(keepdims=True)
        return nb_nll(self.truth, mean, fit_marginal(self.truth[:, None], mean))

    def narrowness(self) -> np.ndarray:
        spread = np.minimum(self.spread, _MOST_DISPERSION)
        up, down = (nb_nll(self.truth, self.mean, spread * np.exp(step)) for step in (_STEP, -_STEP))
        return up - down

    def pit(self, part: slice) -> np.ndarray:
        return nb_pit(self.truth[part], self.mean[part], self.spread[part], N_BARS)

    def interval(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lower, upper = central_interval(self.mean, self.spread)
        return lower, upper, nb_coverage(self.mean, self.spread, lower, upper)

    def r2_ceiling(self) -> float:
        variance = self.truth.var()  # in which reads alone are Poisson, with a variance of their mean
        return max(0.0, 1 - self.truth.mean() / variance) if variance > 0 else 0.0

    def mean_error(self) -> tuple[float, float]:
        true = self.truth.mean()
        ratio = self.mean.mean() / true
        return np.log(ratio), standard_error((self.mean - ratio * self.truth) / (ratio * true))

    @property
    def is_enough(self) -> bool:
        """Whether there is anything to judge by."""
        return super().is_enough and self.truth.sum() >= FEWEST


class _Signal(_Imputed):
    """Signal, and a normal distribution for each."""

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
        lower, upper = (norm.ppf(q, self.mean, self.spread) for q in (TAIL, 1 - TAIL))
        return lower, upper, np.full_like(self.truth, LEVEL)

    def r2_ceiling(self) -> float:
        return np.nan

    def mean_error(self) -> tuple[float, float]:
        relative = (self.mean - self.truth) / self.truth.std()
        return relative.mean(), standard_error(relative)


def judge_track(
    quantity: str,
    truth: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    average: np.ndarray,
    is_imputable: np.ndarray,
) -> Judgement:
    """Judge a track, imputed without its own data, at the entries where it was measured.

    Parameters
    ----------
    quantity
        "counts" or "signal".
    truth, mean
        What was measured, and what was imputed, in ascending order of the regions; at least one entry.
    spread
        Width of the predicted distribution: dispersion of counts, standard deviation of signal.
    average
        Average of the other biosamples at the track's depth; NaN where there is none.
    is_imputable
        Whether another track of the biosample, or the assay in another biosample, was measured there.
    """
    track = {"counts": _Counts, "signal": _Signal}[quantity](truth, mean, spread, average, is_imputable.astype(bool))
    lower, upper, expected = track.interval()
    parts = np.array_split(np.arange(len(truth)), min(_STRETCHES, len(truth)))
    bars_pk = np.array([track.pit(slice(part[0], part[-1] + 1)) for part in parts])
    pit = np.average(bars_pk, axis=0, weights=[len(part) for part in parts])
    nll, marginal_nll = track.nll(), track.marginal_nll()
    true, imputed = truth.mean(), mean.mean()
    numbers: dict[str, Any] = {
        "quantity": quantity,
        "regions": len(truth),
        "reads": truth.sum() if quantity == "counts" else np.nan,
        "mean_true": true,
        "mean_imputed": imputed,
        "ratio": imputed / true if true > 0 else np.nan,
        "r2": float(r2(truth, mean)),
        "pearson": float(pearson(truth, mean)),
        "r2_ceiling": track.r2_ceiling(),
        "nll": nll.mean(),
        "nll_marginal": marginal_nll.mean(),
        "r2_average": float(r2(truth, average)),
        "pearson_average": float(pearson(truth, average)),
        "pit_deviation": np.abs(pit - 1).max(),
        "coverage": float(coverage(truth, lower, upper)),
        "expected_coverage": expected.mean(),
    }
    excess = ((lower <= truth) & (truth <= upper)) - expected
    verdict = TrackVerdict(
        quantity,
        *_decide(track, bars_pk, pit, marginal_nll - nll, excess),
        ratio=float(numbers["ratio"]),
        difference=float((mean - truth).mean()),
        coverage=numbers["coverage"],
        expected_coverage=float(numbers["expected_coverage"]),
        explained=_explained(numbers["r2"], numbers["r2_ceiling"]),
    )
    return Judgement(numbers, pit, verdict)


def _explained(r2: float, ceiling: float) -> float:
    if np.isnan(ceiling):
        return r2
    return r2 / ceiling if ceiling > 0 else np.nan


def _decide(
    track: _Imputed, bars_pk: np.ndarray, pit: np.ndarray, nll_gain: np.ndarray, excess: np.ndarray
) -> tuple[Level, Spread, Standing, Intervals]:
    """The verdicts, from the histograms of all stretches and of the whole, and the gain and coverage of each entry."""
    if not track.is_enough:
        return Level.TOO_FEW, Spread.TOO_FEW, Standing.TOO_FEW, Intervals.TOO_FEW
    level = _judge_level(track)
    return level, _judge_spread(track, level, bars_pk, pit), _judge_gain(track, nll_gain), _judge_intervals(excess)


def standard_error(values: np.ndarray) -> float:
    """Standard error of a mean over regions whose neighbours are alike: from the means of 30 stretches of them."""
    means = np.array([part.mean() for part in np.array_split(values, _STRETCHES)])
    return float(means.std(ddof=1) / np.sqrt(_STRETCHES))


def _judge_level(track: _Imputed) -> Level:
    off, error = track.mean_error()
    if not _ERRORS * error < _VAGUE_MEAN:
        return Level.UNCERTAIN
    return {0: Level.RIGHT, 1: Level.HIGH, -1: Level.LOW}[_direction(off, error, np.log1p(_MEAN))]


def _judge_spread(track: _Imputed, level: Level, bars_pk: np.ndarray, pit: np.ndarray) -> Spread:
    """The histogram shows whether something is off, and the likelihood in which direction."""
    error_k = bars_pk.std(axis=0, ddof=1) / np.sqrt(len(bars_pk))
    if not _ERRORS * error_k.max() < _VAGUE_BAR:
        return Spread.UNCERTAIN
    if not any(_direction(height - 1, error, BAR) for height, error in zip(pit, error_k, strict=True)):
        return Spread.RIGHT
    if level in (Level.HIGH, Level.LOW):
        return Spread.UNCLEAR
    narrowness = track.narrowness()
    direction = _direction(narrowness.mean(), standard_error(narrowness), 0)
    return {1: Spread.NARROW, -1: Spread.WIDE, 0: Spread.LOPSIDED}[direction]


def _judge_gain(track: _Imputed, nll_gain: np.ndarray) -> Standing:
    can_be_learnt = track.is_imputable.sum() >= FEWEST
    judged_gain = nll_gain[track.is_imputable] if can_be_learnt else nll_gain
    against_marginal = _vote(lambda part: judged_gain[part].mean(), len(judged_gain), 0)
    if against_marginal < 1 and not can_be_learnt:
        return Standing.NOT_IMPUTABLE
    if against_marginal < 1:
        return Standing.LEVEL_WITH_MARGINAL if against_marginal == 0 else Standing.BELOW_MARGINAL
    there = ~np.isnan(track.average)
    if there.sum() < FEWEST:
        return Standing.BEATS_MARGINAL
    truth, mean, average = track.truth[there], track.mean[there], track.average[there]

    def gain(score: Callable, part: slice) -> float:  # a prediction that does not vary is not correlated with anything
        return float(np.nan_to_num(score(truth[part], mean[part])) - np.nan_to_num(score(truth[part], average[part])))

    votes = sum(_vote(partial(gain, score), len(truth), _SCORE) for score in (r2, pearson))
    return {1: Standing.BEATS_BOTH, 0: Standing.LEVEL_WITH_AVERAGE, -1: Standing.BELOW_AVERAGE}[int(np.sign(votes))]


def _vote(gain: Callable[[slice], float], n_entries: int, least: float) -> int:
    """Sign of a gain, or 0 if it is small, or not the same in most stretches: a few peaks may decide over the whole."""
    whole = gain(slice(None))
    edges = np.linspace(0, n_entries, _STRETCHES + 1).astype(np.int64)
    n_agree = sum(gain(slice(*pair)) * whole > 0 for pair in pairwise(edges))
    return int(np.sign(whole)) if abs(whole) > least and n_agree >= _MAJORITY else 0


def _judge_intervals(excess: np.ndarray) -> Intervals:
    error = standard_error(excess)
    if not _ERRORS * error < _VAGUE_COVERAGE:
        return Intervals.UNCERTAIN
    return Intervals.RIGHT if _direction(excess.mean(), error, _COVERAGE) == 0 else Intervals.OFF


def _direction(value: float, error: float, least: float) -> int:
    """Sign of a value that is neither too small to matter nor within its error, or else 0."""
    return 0 if not abs(value) > max(least, _ERRORS * error) else int(np.sign(value))
