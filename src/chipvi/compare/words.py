"""What follows from a comparison, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from .._messages import Place, counted, listed
from .runs import Ending, Outcome
from .verdict import Beside, Diverging, Gap, Ranking, Scarcity, Verdict, Win

_SCORES = {"nll": "NLL", "crps": "CRPS", "r2": "R2", "pearson": "Pearson"}
_UNITS = {"nll": " nat per entry", "crps": " reads per entry"}
_AVERAGE = "the average of the other biosamples"
_SEE_ADVICE = {Place.PYTHON: "`advice` of the runs", Place.COMMAND_LINE: "column advice of runs.csv"}
_SEEDS = {Place.PYTHON: "give three or more", Place.COMMAND_LINE: "give three or more (--seeds)"}
_STEPS = {Place.PYTHON: "train for more steps", Place.COMMAND_LINE: "train for more steps (--steps)"}


def describe(verdict: Verdict, place: Place) -> list[str]:
    """A verdict as sentences, most important first."""
    if verdict.rankings:
        sentences = [
            *map(_rank, verdict.rankings),
            *_explain_spread(verdict, place),
            _against_marginal(verdict, place),
            _against_average(verdict),
        ]
    else:
        sentences = ["No head came through all of its runs."]
    advised = verdict.advised.items()
    return [
        *sentences,
        *(f"{head}: training gave advice in {counted(n, 'run')}; see {_SEE_ADVICE[place]}." for head, n in advised),
        *map(_diverging, verdict.diverging),
        *_unmeasured(verdict.unmeasured),
        *map(_scarcity, verdict.scarcities),
    ]


def outcome_words(outcome: Outcome) -> str:
    """How a run ended: "ok", or what went wrong."""
    if outcome.ending is Ending.DIVERGED:
        return f"diverged at step {outcome.step}: not finite are {listed(outcome.names, most=20)}"
    if outcome.ending is Ending.BROKEN:
        verb = "is" if outcome.n_broken == 1 else "are"
        shares = f"{outcome.n_broken:,} of {counted(outcome.n_predicted, 'prediction')}"
        return f"diverged by step {outcome.step}: {shares} {verb} not finite"
    return "ok"


def _rank(ranking: Ranking) -> str:
    name, unit = _SCORES[ranking.score], _UNITS.get(ranking.score, "")
    sentence = f"By {name}, {ranking.best} is best: {ranking.mean:.3f}{unit}."
    level = [_gap(gap) for gap in ranking.gaps if not gap.is_apart]
    worse = [_gap(gap) for gap in ranking.gaps if gap.is_apart]
    if level:
        sentence += f" It cannot be distinguished from {_joined(level)}."
    if worse:
        sentence += f" It is better than {_joined(worse)}."
    return sentence


def _gap(gap: Gap) -> str:
    times = f", {gap.n_spreads:.1f} spreads" if gap.n_spreads == gap.n_spreads else ""
    return f"{gap.head} ({gap.difference:+.3g}{times})"


def _explain_spread(verdict: Verdict, place: Place) -> list[str]:
    if not verdict.rankings[0].gaps:
        return []
    if verdict.n_seeds == 1:
        return [f"One seed shows no spread, so any difference may be chance: {_SEEDS[place]}."]
    return [
        f"A spread is the standard deviation of a score over the seeds; with {verdict.n_seeds} of them it takes "
        f"{verdict.least_gap:.1f} spreads to distinguish two heads."
    ]


def _against_marginal(verdict: Verdict, place: Place) -> str:
    head, win = verdict.rankings[0].best, verdict.marginal[0].win
    numbers = ", ".join(map(_beside, verdict.marginal))
    if win is Win.ALL:
        return f"{head} beats the marginal, every track at its training mean: {numbers}."
    often = "does not beat" if win is Win.NONE else "does not beat in every run"
    return (
        f"{head}, the best by NLL, {often} the marginal, every track at its training mean: {numbers}. Nothing useful "
        f"was learnt: {_STEPS[place]}, or look whether the tracks have anything in common."
    )


def _against_average(verdict: Verdict) -> str:
    if not verdict.n_averaged:
        return "No track was measured in another biosample, so there is no average to compare with."
    wins = [_SCORES[beside.score] for beside in verdict.average if beside.win is Win.ALL]
    beats = {0: "does not beat", 1: f"beats, but only by {''.join(wins)},", 2: "beats"}[len(wins)]
    tracks = f"{counted(verdict.n_averaged, 'track')} that {'has' if verdict.n_averaged == 1 else 'have'} one"
    numbers = _joined([_beside(beside) for beside in verdict.average])
    return f"{verdict.rankings[0].best} {beats} {_AVERAGE}, on the {tracks}: {numbers}."


def _beside(beside: Beside) -> str:
    return f"{_SCORES[beside.score]} {beside.mean:.3f} against {beside.reference:.3f}"


def _diverging(diverging: Diverging) -> str:
    shares = f"{diverging.n_failed} of {counted(diverging.n_runs, 'run')}"
    return f"{diverging.head}: {shares} diverged; seed {diverging.seed} {outcome_words(diverging.outcome)}."


def _unmeasured(names: Sequence[str]) -> list[str]:
    return [f"Without a count on held-out regions, and so not judged: {listed(names)}."] if names else []


def _scarcity(scarcity: Scarcity) -> str:
    shares = f"{scarcity.n_tracks} of {counted(scarcity.n_all, 'track')}"
    verb = "has" if scarcity.n_tracks == 1 else "have"
    return (
        f"Too little for a firm verdict: {shares} {verb} fewer than {scarcity.least:,} held-out {scarcity.what} "
        f"(fewest: {scarcity.track}, {scarcity.fewest:,.0f}). The order of the heads may be chance of these regions."
    )


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
