"""What follows from a comparison: which head is best, by how much, and whether that is more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd
from scipy.stats import t as student

from .runs import Outcome, Run

FEWEST_ENTRIES, FEWEST_READS = 1_000, 200  # held out, per track
_CERTAINTY = 0.95
_RANKED = ("nll", "crps", "r2")
_SIGNS = {"nll": -1, "crps": -1, "r2": 1, "pearson": 1}  # -1 where lower is better


class Win(Enum):
    """In which runs a head beats something."""

    ALL = "in all"
    SOME = "in some"
    NONE = "in none"


@dataclass(frozen=True)
class Gap:
    """How far a head is from the best.

    Parameters
    ----------
    head
        Its name.
    difference
        Of the mean scores.
    n_spreads
        The same by the spread of the seeds; NaN where there is none.
    is_apart
        Whether it is more than the seeds explain.
    """

    head: str
    difference: float
    n_spreads: float
    is_apart: bool


@dataclass(frozen=True)
class Ranking:
    """The best head by a score, its mean, and how far the others are from it, next best first."""

    score: str
    best: str
    mean: float
    gaps: tuple[Gap, ...]


@dataclass(frozen=True)
class Beside:
    """A score of a head beside that of a reference: means over seeds and tracks, and in which runs it is better."""

    score: str
    mean: float
    reference: float
    win: Win


@dataclass(frozen=True)
class Diverging:
    """A head of which some runs came to nothing: how many, of how many, and how the first of them ended."""

    head: str
    n_failed: int
    n_runs: int
    seed: int
    outcome: Outcome


@dataclass(frozen=True)
class Scarcity:
    """Tracks with too little held out, of how many: fewer than `least` `what`; and the one with fewest."""

    what: str
    least: int
    n_tracks: int
    n_all: int
    track: str
    fewest: float


@dataclass(frozen=True)
class Verdict:
    """What follows from a comparison.

    Parameters
    ----------
    n_seeds
        Runs of each head.
    least_gap
        Spreads of the seeds by which two heads must differ to be distinguished.
    rankings
        Of the heads that finished all runs, by each score; none if there is none.
    marginal
        The best head by NLL beside the marginal, in NLL and R2.
    average
        The same beside the average of the other biosamples, in R2 and Pearson.
    n_averaged
        Tracks that have such an average.
    advised
        Runs of each head in which training gave advice.
    diverging
        Heads of which some run did not finish.
    unmeasured
        Tracks without a count on held-out regions.
    scarcities
        What there is too little of for a firm order.
    """

    n_seeds: int
    least_gap: float
    rankings: tuple[Ranking, ...]
    marginal: tuple[Beside, ...]
    average: tuple[Beside, ...]
    n_averaged: int
    advised: Mapping[str, int]
    diverging: tuple[Diverging, ...]
    unmeasured: tuple[str, ...]
    scarcities: tuple[Scarcity, ...]


def judge_heads(runs: Sequence[Run], tracks: pd.DataFrame) -> Verdict:
    """Compare the heads with each other and with what needs no model.

    Two heads are distinguished by a t-test on their seeds: the difference of the means is held against the spread of
    the seeds, pooled over the two.

    Parameters
    ----------
    runs
        All of them.
    tracks
        As in :class:`HeadComparison`.
    """
    n_seeds, sound = len({run.seed for run in runs}), sound_heads(runs)
    marginal, _ = _beside(sound, "marginal", ("nll", "r2"), tracks)
    average, n_averaged = _beside(sound, "average", ("r2", "pearson"), tracks)
    return Verdict(
        n_seeds=n_seeds,
        least_gap=_least_gap(n_seeds),
        rankings=tuple(rank(score, _by_head(runs, sound, score)) for score in _RANKED) if sound else (),
        marginal=marginal,
        average=average,
        n_averaged=n_averaged,
        advised=Counter(run.head for run in runs if run.findings),
        diverging=_diverging(runs),
        unmeasured=_unmeasured(tracks),
        scarcities=_scarcities(tracks),
    )


def sound_heads(runs: Sequence[Run]) -> list[str]:
    """Heads all of whose runs finished, lowest mean NLL first."""
    heads = list(dict.fromkeys(run.head for run in runs))
    sound = [head for head in heads if all(run.outcome.is_ok for run in runs if run.head == head)]
    nll = {head: values.mean() for head, values in _by_head(runs, sound, "nll").items()}
    return sorted(sound, key=lambda head: nll[head])


def _by_head(runs: Sequence[Run], heads: Sequence[str], score: str) -> dict[str, np.ndarray]:
    """A score of these heads, seed by seed."""
    return {head: np.array([run.scores[score] for run in runs if run.head == head]) for head in heads}


def rank(score: str, values: Mapping[str, np.ndarray]) -> Ranking:
    """Put heads in order, best first, by a score of each seed."""
    best, *others = sorted(values, key=lambda head: -_SIGNS[score] * values[head].mean())
    n_seeds = len(values[best])
    gaps = []
    for head in others:
        difference = values[head].mean() - values[best].mean()
        spread = np.sqrt((values[head].var(ddof=1) + values[best].var(ddof=1)) / 2) if n_seeds > 1 else np.nan
        n_spreads = abs(difference) / spread if spread > 0 else np.nan
        gaps.append(Gap(head, difference, n_spreads, bool(abs(difference) > _least_gap(n_seeds) * spread)))
    return Ranking(score, best, values[best].mean(), tuple(gaps))


def _least_gap(n_seeds: int) -> float:
    """Least difference of two means, in spreads of the seeds, that a t-test does not put down to the seeds."""
    return student.ppf((1 + _CERTAINTY) / 2, 2 * (n_seeds - 1)) * np.sqrt(2 / n_seeds) if n_seeds > 1 else np.inf


def _beside(
    heads: Sequence[str], reference: str, scores: Sequence[str], tracks: pd.DataFrame
) -> tuple[tuple[Beside, ...], int]:
    """Scores of the first head and of a reference, over the tracks that have both; how many these are."""
    found, n_tracks = [], 0
    for score in scores if heads else ():
        expected = tracks[tracks["head"] == reference].set_index("track")[score].dropna()
        own = tracks[(tracks["head"] == heads[0]) & tracks["track"].isin(expected.index)].dropna(subset=score)
        expected = expected[expected.index.isin(own["track"])]
        value = own.groupby("seed")[score].mean()
        is_better = _SIGNS[score] * (value - expected.mean()) > 0
        win = Win.NONE if not is_better.any() else Win.ALL if is_better.all() else Win.SOME
        found.append(Beside(score, float(value.mean()), float(expected.mean()), win))
        n_tracks = n_tracks or len(expected)
    return tuple(found), n_tracks


def _diverging(runs: Sequence[Run]) -> tuple[Diverging, ...]:
    found = []
    for head in dict.fromkeys(run.head for run in runs if not run.outcome.is_ok):
        own = [run for run in runs if run.head == head]
        failed = [run for run in own if not run.outcome.is_ok]
        found.append(Diverging(head, len(failed), len(own), failed[0].seed, failed[0].outcome))
    return tuple(found)


def _held_out(tracks: pd.DataFrame) -> pd.DataFrame:
    """What is held out of each track, once."""
    return tracks[tracks["head"] == "marginal"].set_index("track")


def _unmeasured(tracks: pd.DataFrame) -> tuple[str, ...]:
    entries = _held_out(tracks)["entries"]
    return tuple(map(str, entries.index[entries == 0]))


def _scarcities(tracks: pd.DataFrame) -> tuple[Scarcity, ...]:
    held_out = _held_out(tracks)
    found = []
    for what, least in (("entries", FEWEST_ENTRIES), ("reads", FEWEST_READS)):
        few = held_out[what][(held_out["entries"] > 0) & (held_out[what] < least)].sort_values()
        if len(few):
            found.append(Scarcity(what, least, len(few), len(held_out), str(few.index[0]), float(few.iloc[0])))
    return tuple(found)
