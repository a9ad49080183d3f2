"""What the numbers mean, for those who have not read the methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._messages import listed
from ..evaluate.verdicts import AVERAGE, LOPSIDED, MARGINAL, NARROW, RIGHT, TOO_FEW, UNCLEAR, VAGUE, WIDE
from .overview import IMPUTABLE, MEASURED, PART, Track

GOOD, CARE, POOR, UNTOLD = "no fault", "with care", "poor", "cannot be told"

_FEWEST_REGIONS = 5_000
_FEWEST_STEPS = 1_000
_ODD_DEPTH = 5.0  # factor to the median depth of the tracks
_SHALLOW = 0.1  # reads per region

_SPREADS = {
    NARROW: "It claims to be surer than it is, so intervals are too narrow.",
    WIDE: "It comes closer than it claims, so intervals are wider than need be.",
    LOPSIDED: "Values lie at one end of what was predicted too often or too seldom (spread lopsided).",
    UNCLEAR: "While the level is off, the spread cannot be judged.",
    VAGUE: "Whether the spread is right cannot be told: the data are too few or too uneven.",
}


@dataclass(frozen=True)
class Verdict:
    """A track in words: its grade (one of the constants of this file), and sentences."""

    grade: str
    text: str


def judge(row: pd.Series) -> Verdict:
    """Put a row of the table of :meth:`chipvi.ChipVI.diagnose` into words."""
    if row["mean"] in TOO_FEW.values():
        return Verdict(UNTOLD, f"{str(row['mean']).capitalize()}.")
    beats = str(row["beats"])
    words = [_compare(beats)]
    faults = [*_level(str(row["mean"])), *_spread(str(row["spread"]), str(row["intervals"]))]
    if not faults:
        words.append("Level, spread and intervals are right.")
    if beats.startswith("below") or beats.endswith(MARGINAL) and not beats.startswith("beats"):
        grade = POOR
    else:
        grade = GOOD if beats.startswith("beats") and not faults else CARE
    return Verdict(grade, " ".join([*words, *faults]))


def _compare(beats: str) -> str:
    if beats == f"below {AVERAGE}":
        return "Worse than the average of the other biosamples: use that instead."
    if beats == f"level with {AVERAGE}":
        return "No better than the average of the other biosamples: do not read differences between them into it."
    if beats.startswith("beats"):
        if "no average" in beats:
            return "Better than the track's overall level; no other biosample has this assay to compare with."
        return "Better than the average of the other biosamples."
    how = "worse than" if beats.startswith("below") else "no better than"
    return f"By likelihood {how} the track's overall level: not learnt, or with the wrong spread."


def _level(mean: str) -> list[str]:
    if mean == RIGHT:
        return []
    if mean == VAGUE:
        return ["Whether the level is right cannot be told: the data are too few or too uneven."]
    return [f"The imputed level is {mean}."]


def _spread(spread: str, intervals: str) -> list[str]:
    words = [_SPREADS[spread]] if spread in _SPREADS else []
    if intervals.startswith("cover"):
        words.append(f"95 % intervals {intervals}.")
    return words


def grades(table: pd.DataFrame) -> list[Verdict]:
    """A verdict for each row of the table."""
    return [judge(row) for _, row in table.iterrows()]


def order_by_grade(table: pd.DataFrame, verdicts: list[Verdict]) -> list[int]:
    """Rows from poor to good, within a grade by R2."""
    rank = [(POOR, CARE, GOOD, UNTOLD).index(verdict.grade) for verdict in verdicts]
    return [int(i) for i in np.lexsort([table["r2"], rank])]


def sum_up(table: pd.DataFrame, verdicts: list[Verdict]) -> str:
    """The quality of all tracks in a sentence or two."""
    number = {grade: sum(verdict.grade == grade for verdict in verdicts) for grade in (GOOD, CARE, POOR, UNTOLD)}
    what = "judged tracks" if table["quantity"].nunique() < 2 else "checks, of counts and of p-values,"
    parts = [f"In {number[GOOD]} of {len(verdicts)} {what} no fault was found"]
    for grade, words in (
        (CARE, "to be used with care"),
        (POOR, "poor"),
        (UNTOLD, "beyond judgement, for lack of data"),
    ):
        if number[grade]:
            parts.append(f"{number[grade]} {'is' if number[grade] == 1 else 'are'} {words}")
    return f"{'; '.join(parts)}. The median is R² {_median(table['r2'])}, Pearson {_median(table['pearson'])}."


def _median(scores: pd.Series) -> str:
    middle = scores.median()
    return "–" if np.isnan(middle) else f"{middle:.2f}".replace("-", "−")


def warn(
    tracks: list[Track],
    assays: list[str],
    table: pd.DataFrame,
    n_regions: int,
    n_steps: int,
    is_held_out: bool,
) -> list[str]:
    """What a reader should know before using the numbers, most important first.

    Parameters
    ----------
    tracks, assays
        Every track, and its assay.
    table
        Of the check-up.
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
    below = table.index[(table["beats"] == f"below {AVERAGE}").to_numpy()].unique()
    if len(below):
        found.append(
            f"Below the average of the other biosamples: {listed(below)}. There the plain average is the better guess."
        )
    unlearnt = table.index[
        (table["beats"].str.endswith(MARGINAL) & ~table["beats"].str.startswith("beats")).to_numpy()
    ].unique()
    if len(unlearnt):
        found.append(f"Not better than the track's overall level: {listed(unlearnt)}. Do not use these imputations.")
    found += _warn_of_depths(tracks)
    if n_regions < _FEWEST_REGIONS:
        found.append(
            f"There are {n_regions:,} regions only. Below some {_FEWEST_REGIONS:,} the model has little to learn from: "
            "add chromosomes, or use smaller bins."
        )
    if 0 < n_steps < _FEWEST_STEPS:
        found.append(f"Training was short ({n_steps:,} steps; 3,000 are the default). Longer training may help.")
    return found + _warn_of_gaps(tracks, assays)


def _warn_of_depths(tracks: list[Track]) -> list[str]:
    found = []
    targets = [track for track in tracks if track.kind in (MEASURED, PART) and np.isfinite(track.depth)]
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
        if t.kind == PART and max(t.counted, t.signalled) < 0.5
    ]
    if partly:
        found.append(f"Measured in less than half of the regions: {listed(partly)}.")
    there = [a for t, a in zip(tracks, assays, strict=True) if t.kind in (MEASURED, PART)]
    once = [a for a in dict.fromkeys(there) if there.count(a) == 1]
    if once and len(set(assays)) < len(tracks):
        found.append(
            f"Measured in one biosample only: {listed(once)}. In other biosamples their imputation rests on that one."
        )
    empty = [t.name for t in tracks if t.kind == IMPUTABLE]
    if empty:
        found.append(f"Never measured, so their imputation cannot be judged here: {listed(empty)}.")
    return found
