"""The diagnosis of a trained model: a line per track, what to try, and what the words mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import pandas as pd

from .._messages import Place, counted
from .advice import Advice, advise
from .verdicts import N_BARS, Grade, Intervals, Level, Spread, TrackVerdict, judge_track
from .words import (
    GLOSSARY,
    describe,
    explained_words,
    intervals_words,
    level_words,
    spread_words,
    standing_words,
    sum_up,
    table_words,
)

_WIDTH = 110


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What :meth:`chipvi.ChipVI.diagnose` found. Print it to read the report.

    Parameters
    ----------
    table
        A row per judged track, and with counts and signal one for either (`quantity`). `regions` counts measured
        entries, `reads` their counts. `mean_true`, `mean_imputed` and their `ratio`, `r2`, `pearson` and `nll` (nat
        per entry) judge the imputation; `nll_marginal`, `r2_average` and `pearson_average` predictions without a
        model. `r2_ceiling` is the R2 that a prediction of the true rate would have at most: 1 less the mean over the
        variance of the counts, for reads alone are Poisson; NaN for signal, whose noise is not known. `pit_deviation`
        is the largest distance from 1 of the bars in `pit`. `coverage` is the share of entries within their 95 %
        interval, and `expected_coverage` what the prediction itself gives that interval. `mean`, `spread`, `beats` and
        `intervals` are the verdicts in words, and `grade` all of them in one ("good", "with care", "poor", "not
        judged"), to be read; programs take `verdicts`.
    pit
        Ten bars for each row of the table: how often values fall into each tenth of what was predicted for them, as a
        multiple of how often they should.
    advice
        What to try, a paragraph for each kind of fault that was found.
    text
        The report.
    verdicts
        The verdicts as such, one for each row of the table.
    suggestions
        What `advice` is made of, but for the advice of training.
    """

    table: pd.DataFrame
    pit: pd.DataFrame
    advice: list[str]
    text: str
    verdicts: tuple[TrackVerdict, ...]
    suggestions: tuple[Advice, ...]

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def report(tracks: Iterable[tuple[str, str, np.ndarray]], intro: str, more_advice: Sequence[str]) -> Diagnosis:
    """Judge tracks and write the report.

    Parameters
    ----------
    tracks
        Name, quantity, and measured value, mean, spread, average of the others and whether there was something to
        impute from (the arguments of :func:`chipvi.evaluate.verdicts.judge_track`) of each track, at least one.
    intro
        What was judged; `{tracks}` stands for the number of tracks.
    more_advice
        To put below what the tracks suggest.
    """
    names, judged = [], []
    for name, quantity, columns in tracks:
        names.append(name)
        judged.append(judge_track(quantity, *columns))
    verdicts = tuple(one.verdict for one in judged)
    index = pd.Index(names, name="track", dtype=object)
    tenths = [f"{k / N_BARS:.1f}-{(k + 1) / N_BARS:.1f}" for k in range(N_BARS)]
    table = pd.DataFrame([one.numbers | table_words(one.verdict) for one in judged], index)
    pit = pd.DataFrame([one.pit for one in judged], index, tenths)
    suggestions = tuple(advise(verdicts))
    advice = [*(describe(one, Place.PYTHON) for one in suggestions), *more_advice]
    intro = intro.format(tracks=counted(table.index.nunique(), "measured track"))
    return Diagnosis(table, pit, advice, _write(intro, table, verdicts, advice), verdicts, suggestions)


def _write(intro: str, table: pd.DataFrame, verdicts: Sequence[TrackVerdict], advice: list[str]) -> str:
    sections = [_paragraph(intro)]
    quantities = [verdict.quantity for verdict in verdicts]
    for quantity in sorted(set(quantities)):
        rows = [i for i, other in enumerate(quantities) if other == quantity]
        judged = [verdicts[i] for i in rows]
        grades = sum_up([verdict.grade for verdict in judged])
        heading = f"{quantity.capitalize()}, worst track first; of {counted(len(judged), 'track')} {grades}:"
        sections.append(f"{heading}\n{_write_tracks(table.iloc[rows], judged)}")
    sections.append("What to try:\n" + _write_list(advice or ["Nothing: no fault was found."]))
    sections.append("Words:\n" + _write_list([f"{word}: {meaning}" for word, meaning in GLOSSARY.items()]))
    return "\n\n".join(sections)


def _write_list(points: Iterable[str]) -> str:
    return "\n".join(_paragraph(f"* {point}", indent="  ") for point in points)


def _paragraph(text: str, indent: str = "") -> str:
    return fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _write_tracks(table: pd.DataFrame, verdicts: Sequence[TrackVerdict]) -> str:
    width = max(map(len, [*table.index, "track"]))
    lines = [f"  {'track':{width}}    R2 (average)  Pearson (average)"]
    for i in order_by_grade(table, verdicts):
        row = table.iloc[i]
        scores = [f"{_number(row[score])}   ({_number(row[f'{score}_average'])})" for score in ("r2", "pearson")]
        lines.append(f"  {table.index[i]:{width}} {'    '.join(scores)}  {_summary(verdicts[i])}")
    return "\n".join(lines)


def order_by_grade(table: pd.DataFrame, verdicts: Sequence[TrackVerdict]) -> list[int]:
    """Rows of a table from poor to good, then those not judged; within a grade by R2."""
    grades = list(Grade)
    return [int(i) for i in np.lexsort([table["r2"], [grades.index(verdict.grade) for verdict in verdicts]])]


def _summary(verdict: TrackVerdict) -> str:
    """Grade and verdicts of a track, what is right left out."""
    standing = f"{verdict.grade.value}: {standing_words(verdict)}"
    if not verdict.is_judged:
        return standing
    parts = [
        (verdict.level is Level.RIGHT, "mean", level_words),
        (verdict.spread is Spread.RIGHT, "spread", spread_words),
        (verdict.intervals is Intervals.RIGHT, "intervals", intervals_words),
    ]
    faults = [f"{explained_words(verdict)} explained"] if verdict.explains_little else []
    faults += [f"{what} {words(verdict)}" for is_right, what, words in parts if not is_right]
    return "; ".join([standing, *(faults or ["all else right"])])


def _number(value: float) -> str:
    return f"{value:5.2f}" if np.isfinite(value) else "    -"
