"""What the numbers mean, for those who have not read the methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .._messages import counted, listed
from ..data.tracks import Tracks
from ..evaluate.diagnosis import Diagnosis
from ..evaluate.verdicts import Intervals, Level, Spread, Standing, TrackVerdict
from ..evaluate.words import explained_words, intervals_words, level_words, standing_words, sum_up
from .overview import Kind, Track

_FEWEST_REGIONS = 5_000
_FEWEST_STEPS = 1_000
_ODD_DEPTH = 5.0  # factor to the median depth of the tracks
_SHALLOW = 0.1  # reads per region

_STANDINGS = {
    Standing.BEATS_BOTH: "Better than the average of the other biosamples.",
    Standing.BEATS_MARGINAL: "Better than the track's overall level; no other biosample has this assay to compare "
    "with.",
    Standing.LEVEL_WITH_AVERAGE: "No better than the average of the other biosamples: do not read differences between "
    "them into it.",
    Standing.BELOW_AVERAGE: "Worse than the average of the other biosamples: use that instead.",
    Standing.LEVEL_WITH_MARGINAL: "By likelihood no better than the track's overall level: not learnt, or with the "
    "wrong spread.",
    Standing.NOT_IMPUTABLE: "Where the track was measured, neither another track of its biosample nor its assay in "
    "another biosample was: there was nothing to impute from but the track's overall level.",
    Standing.BELOW_MARGINAL: "By likelihood worse than the track's overall level: not learnt, or with the wrong "
    "spread.",
}
_SPREADS = {
    Spread.NARROW: "It claims to be surer than it is, so intervals are too narrow.",
    Spread.WIDE: "It comes closer than it claims: intervals are safe, and wider than need be.",
    Spread.LOPSIDED: "Values lie at one end of what was predicted too often or too seldom (spread lopsided).",
    Spread.UNCLEAR: "While the level is off, the spread cannot be judged.",
    Spread.UNCERTAIN: "Whether the spread is right cannot be judged: the data are too few or too uneven.",
}
_HEADS = {
    "poisson": "Counts are predicted as Poisson, with no more spread than reads have by chance.",
    "zero_inflated": "Counts are predicted, and judged here, as negative binomials with the mean and the variance of "
    "the head's zero-inflated ones; intervals come from these, too.",
}


def assess(verdict: TrackVerdict) -> str:
    """Put a verdict of :meth:`chipvi.ChipVI.diagnose` into sentences."""
    if not verdict.is_judged:
        return f"{standing_words(verdict).capitalize()}."
    remarks = [*_level(verdict), *_spread(verdict)] or ["Level, spread and intervals are right."]
    little = [f"It explains {explained_words(verdict)}."] if verdict.explains_little else []
    return " ".join([_STANDINGS[verdict.standing], *little, *remarks])


def _level(verdict: TrackVerdict) -> list[str]:
    if verdict.level is Level.RIGHT:
        return []
    if verdict.level is Level.UNCERTAIN:
        return ["Whether the level is right cannot be judged: the data are too few or too uneven."]
    return [f"The imputed level is {level_words(verdict)}."]


def _spread(verdict: TrackVerdict) -> list[str]:
    remarks = [_SPREADS[verdict.spread]] if verdict.spread in _SPREADS else []
    if verdict.intervals is Intervals.OFF:
        remarks.append(f"95 % intervals {intervals_words(verdict)}.")
    return remarks


def summarise(diagnosis: Diagnosis) -> str:
    """The quality of all tracks in a sentence or two."""
    table = diagnosis.table
    all_of_them = (
        counted(len(table), "judged track")
        if table["quantity"].nunique() < 2
        else f"{counted(len(table), 'check')}, of counts and of p-values,"
    )
    grades = sum_up([verdict.grade for verdict in diagnosis.verdicts])
    return f"Of {all_of_them} {grades}. The median is R² {_median(table['r2'])}, Pearson {_median(table['pearson'])}."


def name_data(name: str | None, tracks: Tracks) -> str:
    """A title: what the data are called, if that is known, and which assays and biosamples they hold."""
    assays, biosamples = (listed(dict.fromkeys(labels), 3) for labels in (tracks.assays, tracks.biosamples))
    return f"{name}: {assays} in {biosamples}" if name else f"{assays} in {biosamples}"


def describe_head(name: str) -> str:
    """What the predictions of counts are, by the head that the model learnt with."""
    return _HEADS.get(name, "Counts are predicted as negative binomials.")


def _median(scores: pd.Series) -> str:
    middle = scores.dropna().median()
    return "–" if np.isnan(middle) else f"{middle:.2f}".replace("-", "−")


def warn(
    tracks: list[Track],
    assays: list[str],
    judged: Sequence[tuple[str, TrackVerdict]],
    n_regions: int,
    n_steps: int,
    is_held_out: bool,
) -> list[str]:
    """What a reader should know before using the numbers, most important first.

    Parameters
    ----------
    tracks, assays
        Every track, and its assay.
    judged
        Name and verdict of each track that was judged.
    n_regions
        In the data.
    n_steps
        Of training.
    is_held_out
        Whether the model is judged on regions that it was not trained on.
    """
    found = []
    if not is_held_out:
        found.append(
            "The model is judged on regions that it may have been trained on, so expect somewhat less elsewhere. For "
            "an honest judgement hold regions out of training."
        )
    below = dict.fromkeys(name for name, verdict in judged if verdict.standing is Standing.BELOW_AVERAGE)
    if below:
        found.append(
            f"Below the average of the other biosamples: {listed(below)}. There the plain average is the better guess."
        )
    unlearnt = dict.fromkeys(name for name, verdict in judged if verdict.standing.is_unlearnt)
    if unlearnt:
        found.append(f"Not better than the track's overall level: {listed(unlearnt)}. Do not use these imputations.")
    found += _warn_of_depths(tracks)
    if n_regions < _FEWEST_REGIONS:
        found.append(
            f"There {'is' if n_regions == 1 else 'are'} {counted(n_regions, 'region')} only. Below some "
            f"{_FEWEST_REGIONS:,} the model has little to learn from: add chromosomes, or use smaller bins."
        )
    if 0 < n_steps < _FEWEST_STEPS:
        found.append(
            f"Training was short ({counted(n_steps, 'step')}; 3,000 are the default). Longer training may help."
        )
    return found + _warn_of_gaps(tracks, assays)


def _warn_of_depths(tracks: list[Track]) -> list[str]:
    found = []
    targets = [track for track in tracks if track.kind.is_target and np.isfinite(track.depth)]
    middle = float(np.median([track.depth for track in targets])) if targets else np.nan
    for what, odd in (
        ("fewer", [t for t in targets if t.depth * _ODD_DEPTH < middle]),
        ("more", [t for t in targets if t.depth > _ODD_DEPTH * middle]),
    ):
        if odd:
            found.append(
                f"{listed([t.name for t in odd])}: more than {_ODD_DEPTH:.0f} times {what} reads than the median "
                "track. Check that the depth is right, and that the experiment worked."
            )
    shallow = [t.name for t in targets if t.mean < _SHALLOW]
    if shallow:
        found.append(
            f"Less than {_SHALLOW} reads per region: {listed(shallow)}. So little can hardly be judged; wider bins "
            "help."
        )
    return found


def _warn_of_gaps(tracks: list[Track], assays: list[str]) -> list[str]:
    found = []
    partly = [
        f"{t.name} ({max(t.counted, t.signalled):.0%})"
        for t in tracks
        if t.kind is Kind.PART and max(t.counted, t.signalled) < 0.5
    ]
    if partly:
        found.append(f"Measured in less than half of the regions: {listed(partly)}.")
    there = [a for t, a in zip(tracks, assays, strict=True) if t.kind.is_target]
    once = [a for a in dict.fromkeys(there) if there.count(a) == 1]
    if once and len(set(assays)) < len(tracks):
        found.append(
            f"Measured in one biosample only: {listed(once)}. In other biosamples their imputation rests on that one."
        )
    empty = [t.name for t in tracks if t.kind is Kind.IMPUTABLE]
    if empty:
        found.append(f"Never measured, so their imputation cannot be judged here: {listed(empty)}.")
    return found
