"""The report of a check-up: a line per track, what to try, and what the words mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import pandas as pd

from .verdicts import AVERAGE, LOPSIDED, MARGINAL, N_BARS, NARROW, RIGHT, TOO_FEW, UNCLEAR, VAGUE, WIDE, check

_WIDTH = 110
_VERDICTS = ["mean", "spread", "beats", "intervals"]
_GLOSSARY = {
    "R2": "share of a track's ups and downs along the regions that is explained. 1 is perfect, 0 no better than the "
    "track's mean, below 0 worse.",
    "Pearson": "correlation of imputed and measured values. 1 is perfect, 0 chance; blind to a factor between them.",
    "average": "the same assay averaged over the other biosamples, at this track's depth: what one would guess "
    "without a model. Level with it: no better or worse than chance could make it. A dash: no other biosample has it.",
    "marginal": "one distribution for all regions of a track, with its mean and its best spread: what one would guess "
    "without looking at the region. The model is held against it by the likelihood of what was measured.",
    "mean": "right if all imputed values together are as much as was measured.",
    "spread": "right if values fall as often into each tenth of what was predicted for them as they should (the "
    "probability integral transform, PIT: chipvi.pl.calibration draws it). Too narrow: predictions claim to know "
    "more than they do; too wide: less. Lopsided: values lie more often at one end, though the width is right.",
    "intervals": "right if as many values lie in their 95 % intervals (coverage) as the prediction itself expects: of "
    "whole counts that is more than 95 %.",
    "cannot be told": "too few reads, or too different from one stretch of the genome to the next.",
}


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What :meth:`chipvi.ChipVI.diagnose` found. Print it to read the report.

    Parameters
    ----------
    table
        A row per judged track, and with counts and signal one for either (`quantity`). `regions` counts measured
        entries, `reads` their counts. `mean_true`, `mean_imputed` and their `ratio`, `r2`, `pearson` and `nll` (nat
        per entry) judge the imputation; `nll_marginal`, `r2_average` and `pearson_average` predictions without a
        model. `pit_deviation` is the largest distance from 1 of the bars in `pit`. `coverage` is the share of entries
        within their 95 % interval, and `expected_coverage` what the prediction itself gives that interval. `mean`,
        `spread`, `beats` and `intervals` say it in words.
    pit
        Ten bars for each row of the table: how often values fall into each tenth of what was predicted for them, as a
        multiple of how often they should.
    advice
        What to try, a paragraph for each kind of fault that was found.
    text
        The report.
    """

    table: pd.DataFrame
    pit: pd.DataFrame
    advice: list[str]
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def report(tracks: Iterable[tuple[str, str, np.ndarray]], intro: str, more_advice: Sequence[str]) -> Diagnosis:
    """Judge tracks and write the report.

    Parameters
    ----------
    tracks
        Name, quantity, and measured value, mean, spread and average of the others (the arguments of
        :func:`chipvi.evaluate.verdicts.check`) of each track, at least one.
    intro
        What was judged; `{tracks}` stands for the number of tracks.
    more_advice
        To put below what the tracks suggest.
    """
    names, results = [], []
    for name, quantity, columns in tracks:
        names.append(name)
        results.append(check(quantity, *columns))
    index = pd.Index(names, name="track", dtype=object)
    tenths = [f"{k / N_BARS:.1f}-{(k + 1) / N_BARS:.1f}" for k in range(N_BARS)]
    table = pd.DataFrame([row for row, _ in results], index)
    pit = pd.DataFrame([bars for _, bars in results], index, tenths)
    advice = [*_advise(table), *more_advice]
    n_tracks = table.index.nunique()
    intro = intro.format(tracks=f"{n_tracks} measured track{'s' * (n_tracks > 1)}")
    return Diagnosis(table, pit, advice, _write(intro, table, advice))


def _advise(table: pd.DataFrame) -> list[str]:
    parts = [(str(quantity), part) for quantity, part in table.groupby("quantity")]
    return [
        f"In {number} of {len(part)} tracks{f' of {quantity}' * (len(parts) > 1)} {what}"
        for quantity, part in parts
        for number, what in _find_faults(part)
    ]


def _find_faults(table: pd.DataFrame) -> list[tuple[int, str]]:
    """In how many tracks each fault was found and what to do, faults of the most consequence first."""
    mean, spread, beats, intervals = (table[verdict] for verdict in _VERDICTS)
    untold = [*TOO_FEW.values(), VAGUE]
    found = [
        (
            beats.str.endswith(MARGINAL),
            "the imputation is no better than the marginal. Where R2 is well above 0, it is the spread that is wrong. "
            "Elsewhere the model has not learnt the track; look at chipvi.pl.training(model): if the loss still falls, "
            "train for longer (max_steps); if it never fell, check that counts and labels belong together.",
        ),
        (
            ~mean.isin([RIGHT, *untold]),
            "the mean is off. If these are few tracks, each off by a factor, compare their reads with the column of "
            "depths (depth_key); if they are many, train for longer (max_steps).",
        ),
        (
            beats == f"below {AVERAGE}",
            "the average of the other biosamples is better: they are very alike, or the model has seen too little. "
            "Train on more regions or for longer (max_steps), or use the average there "
            "(chipvi.metrics.leave_one_out_average).",
        ),
        (
            beats == f"level with {AVERAGE}",
            "the average of the other biosamples is as good: do not read differences between biosamples into them.",
        ),
        (
            spread == NARROW,
            "the spread is too narrow: take the intervals with care, and train on more regions. For counts, one "
            "dispersion per track fitted on held-out regions (chipvi.metrics.fit_dispersion) gives wider intervals "
            "(chipvi.metrics.nb_quantile).",
        ),
        (
            spread == WIDE,
            "the spread is too wide: the intervals are safe, but say less than they could. Training for longer "
            "(max_steps) often narrows them; that of signal has a floor.",
        ),
        (
            spread == LOPSIDED,
            "the spread is lopsided: look at chipvi.pl.calibration(diagnosis). High bars on the right mean more high "
            "values than predicted, such as peaks that are missed; on the left, more low ones.",
        ),
        (
            intervals.str.startswith("cover") & spread.isin([RIGHT, LOPSIDED, UNCLEAR, VAGUE]),
            "the intervals cover more or less than expected, though the spread is not found too narrow or too wide: "
            "take the share that they cover here for their true level.",
        ),
        (
            table[_VERDICTS].isin(untold).any(axis=1),
            "some verdict cannot be given, for too few reads or too uneven ones: diagnose on more regions.",
        ),
    ]
    return [(int(is_found.sum()), what) for is_found, what in found if is_found.any()]


def _write(intro: str, table: pd.DataFrame, advice: list[str]) -> str:
    sections = [_paragraph(intro)]
    for quantity, part in table.groupby("quantity"):
        n_good = sum(_severity(row) == 0 for _, row in part.iterrows())
        heading = f"{str(quantity).capitalize()}, worst track first ({n_good} of {len(part)} without a fault):"
        sections.append(f"{heading}\n{_write_tracks(part)}")
    sections.append("What to try:\n" + _write_list(advice or ["Nothing: no fault was found."]))
    sections.append("Words:\n" + _write_list([f"{word}: {meaning}" for word, meaning in _GLOSSARY.items()]))
    return "\n\n".join(sections)


def _write_list(points: Iterable[str]) -> str:
    return "\n".join(_paragraph(f"* {point}", indent="  ") for point in points)


def _paragraph(text: str, indent: str = "") -> str:
    return fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _write_tracks(table: pd.DataFrame) -> str:
    width = max(map(len, [*table.index, "track"]))
    lines = [f"  {'track':{width}}    R2 (average)  Pearson (average)"]
    order = np.lexsort([table["r2"], [-_severity(row) for _, row in table.iterrows()]])
    for name, row in table.iloc[order].iterrows():
        scores = [f"{_number(row[score])}   ({_number(row[f'{score}_average'])})" for score in ("r2", "pearson")]
        lines.append(f"  {name:{width}} {'    '.join(scores)}  {_summary(row)}")
    return "\n".join(lines)


def _severity(row: pd.Series) -> int:
    """Number of verdicts that are not good, more for what makes imputation useless; below 0 where nothing is told."""
    if row["mean"] in TOO_FEW.values():
        return -1
    n_faults = sum(row[verdict] not in (RIGHT, VAGUE) for verdict in ("mean", "spread", "intervals"))
    return n_faults + (not row["beats"].startswith("beats")) + row["beats"].startswith("below")


def _summary(row: pd.Series) -> str:
    """The verdicts of a track, what is right left out."""
    if row["mean"] in TOO_FEW.values():
        return row["mean"]
    faults = [f"{what} {row[what]}" for what in ("mean", "spread", "intervals") if row[what] != RIGHT]
    return "; ".join([row["beats"], *(faults or ["all else right"])])


def _number(value: float) -> str:
    return f"{value:5.2f}" if np.isfinite(value) else "    -"
