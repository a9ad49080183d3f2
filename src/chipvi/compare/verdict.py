"""What a comparison says, in plain sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t as student

from .._messages import listed
from .runs import OK

FEWEST_ENTRIES, FEWEST_READS = 1_000, 200  # held out, per track
_CERTAINTY = 0.95
_RANKED: tuple[tuple[str, str, str, int], ...] = (
    ("nll", "NLL", " nat per entry", -1),
    ("crps", "CRPS", " reads per entry", -1),
    ("r2", "R2", "", 1),
)


def verdict(runs: pd.DataFrame, tracks: pd.DataFrame) -> list[str]:
    """Which head is best, by how much, and whether that can be told at all.

    Two heads are told apart by a t-test on their seeds: the difference of the means is held against the spread of the
    seeds, pooled over the two.

    Parameters
    ----------
    runs, tracks
        As in :class:`HeadComparison`.
    """
    sentences = []
    sound = sound_heads(runs)
    if sound:
        by_head = {head: runs[runs["head"] == head] for head in sound}
        for score, name, unit, sign in _RANKED:
            values = {head: rows[score].to_numpy() for head, rows in by_head.items()}
            sentences.append(rank(values, name, unit, sign))
        n_seeds = runs["seed"].nunique()
        if len(sound) > 1 and n_seeds == 1:
            sentences.append("One seed shows no spread, so no difference can be told from chance: give three or more.")
        elif len(sound) > 1:
            sentences.append(
                f"A spread is the standard deviation of a score over the seeds; with {n_seeds} of them it takes "
                f"{_least_gap(n_seeds):.1f} spreads to tell two heads apart."
            )
        sentences += [_against_marginal(sound[0], tracks), _against_average(sound[0], tracks)]
    else:
        sentences.append("No head came through all of its runs.")
    advised = runs[runs["advice"] != ""]["head"].value_counts(sort=False)
    sentences += [f"{head}: training gave advice in {n} runs; see `advice` of the runs." for head, n in advised.items()]
    return sentences + _diverged(runs) + _too_small(tracks)


def sound_heads(runs: pd.DataFrame) -> list[str]:
    """Heads of which no run diverged, lowest mean NLL first."""
    heads = runs.groupby("head", sort=False).agg(
        ok=("outcome", lambda outcomes: (outcomes == OK).all()), nll=("nll", "mean")
    )
    return list(heads[heads["ok"]].sort_values("nll", kind="stable").index)


def rank(values: dict[str, np.ndarray], name: str, unit: str, sign: int) -> str:
    """Best first: what cannot be told from it, and what is worse; `sign` is -1 where lower is better."""
    best, *others = sorted(values, key=lambda head: -sign * values[head].mean())
    level: list[str] = []
    worse: list[str] = []
    for head in others:
        gap = values[head].mean() - values[best].mean()
        n_seeds = len(values[best])
        spread = np.sqrt((values[head].var(ddof=1) + values[best].var(ddof=1)) / 2) if n_seeds > 1 else np.nan
        times = f", {abs(gap) / spread:.1f} spreads" if spread > 0 else ""
        is_apart = abs(gap) > _least_gap(n_seeds) * spread
        (worse if is_apart else level).append(f"{head} ({gap:+.3g}{times})")
    sentence = f"By {name}, {best} is best: {values[best].mean():.3f}{unit}."
    if level:
        sentence += f" It cannot be told from {_joined(level)}."
    if worse:
        sentence += f" It is better than {_joined(worse)}."
    return sentence


def _least_gap(n_seeds: int) -> float:
    """Least difference of two means, in spreads of the seeds, that a t-test does not put down to the seeds."""
    return student.ppf((1 + _CERTAINTY) / 2, 2 * (n_seeds - 1)) * np.sqrt(2 / n_seeds) if n_seeds > 1 else np.inf


def _against_marginal(head: str, tracks: pd.DataFrame) -> str:
    (nll, marginal_nll, _), (r2, marginal_r2, _) = (_beside(head, "marginal", name, tracks) for name in ("nll", "r2"))
    numbers = f"NLL {nll.mean():.3f} against {marginal_nll:.3f}, R2 {r2.mean():.3f} against {marginal_r2:.3f}"
    if nll.max() < marginal_nll:
        return f"{head} beats the marginal, every track at its training mean: {numbers}."
    often = "does not beat" if nll.min() >= marginal_nll else "does not beat in every run"
    return (
        f"{head}, the best by NLL, {often} the marginal, every track at its training mean: {numbers}. "
        "Nothing useful was learnt: train for more steps, or look whether the tracks have anything in common."
    )


def _against_average(head: str, tracks: pd.DataFrame) -> str:
    beside = {label: _beside(head, "average", name, tracks) for name, label in (("r2", "R2"), ("pearson", "Pearson"))}
    n_tracks = beside["R2"][2]
    if not n_tracks:
        return "No track was measured in another biosample, so there is no average to compare with."
    numbers = [f"{label} {own.mean():.3f} against {average:.3f}" for label, (own, average, _) in beside.items()]
    wins = [label for label, (own, average, _) in beside.items() if own.min() > average]
    ends = {0: "does not beat", 1: f"beats, but only by {''.join(wins)},", 2: "beats"}
    return (
        f"{head} {ends[len(wins)]} the average of the other biosamples, "
        f"on the {n_tracks} tracks that have one: {_joined(numbers)}."
    )


def _beside(head: str, reference: str, score: str, tracks: pd.DataFrame) -> tuple[pd.Series, float, int]:
    """A score of a head by seed, and of a reference, over the tracks that have both; how many these are."""
    expected = tracks[tracks["head"] == reference].set_index("track")[score].dropna()
    own = tracks[(tracks["head"] == head) & tracks["track"].isin(expected.index)].dropna(subset=score)
    expected = expected[expected.index.isin(own["track"])]
    return own.groupby("seed")[score].mean(), expected.mean(), len(expected)


def _diverged(runs: pd.DataFrame) -> list[str]:
    sentences = []
    for head, rows in runs.groupby("head", sort=False):
        broken = rows[rows["outcome"] != OK]
        if len(broken):
            first = broken.iloc[0]
            sentences.append(
                f"{head}: {len(broken)} of {len(rows)} runs diverged; seed {first['seed']} {first['outcome']}."
            )
    return sentences


def _too_small(tracks: pd.DataFrame) -> list[str]:
    """What there is too little of to tell heads apart."""
    held_out = tracks[tracks["head"] == "marginal"].set_index("track")
    sentences = []
    if (held_out["entries"] == 0).any():
        names = held_out.index[held_out["entries"] == 0]
        sentences.append(f"Without a count on held-out regions, and so not judged: {listed(names)}.")
    for name, fewest in (("entries", FEWEST_ENTRIES), ("reads", FEWEST_READS)):
        few = held_out[name][(held_out["entries"] > 0) & (held_out[name] < fewest)].sort_values()
        if len(few):
            sentences.append(
                f"Too little to tell: {len(few)} of {len(held_out)} tracks have fewer than {fewest:,} held-out {name} "
                f"(fewest: {few.index[0]}, {few.iloc[0]:,.0f}). The order of the heads may be chance of these regions."
            )
    return sentences


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
