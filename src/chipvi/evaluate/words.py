"""Verdicts and advice in words, those of Python or of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from .._messages import Place, counted, listed
from .advice import Advice, Fault
from .swaps import Suspect, Suspicion
from .verdicts import Grade, Intervals, Level, Spread, Standing, TrackVerdict

_TOO_FEW = {"counts": "too few reads to judge", "signal": "too little signal to judge"}
_UNCERTAIN = "cannot be judged"
_SPREADS = {
    Spread.RIGHT: "right",
    Spread.NARROW: "too narrow",
    Spread.WIDE: "too wide",
    Spread.LOPSIDED: "lopsided",
    Spread.UNCLEAR: "unclear while the mean is off",
    Spread.UNCERTAIN: _UNCERTAIN,
}
_STANDINGS = {
    Standing.BEATS_BOTH: "beats both",
    Standing.BEATS_MARGINAL: "beats the marginal (no average to compare)",
    Standing.LEVEL_WITH_AVERAGE: "level with the average",
    Standing.BELOW_AVERAGE: "below the average",
    Standing.LEVEL_WITH_MARGINAL: "level with the marginal",
    Standing.BELOW_MARGINAL: "below the marginal",
    Standing.NOT_IMPUTABLE: "nothing to impute from",
}

_GRADES = {
    Grade.GOOD: "good",
    Grade.CARE: "to be used with care",
    Grade.POOR: "poor",
    Grade.UNKNOWN: "not judged, for lack of data",
}

GLOSSARY = {
    "R2": "share of a track's ups and downs along the regions that is explained. 1 is perfect, 0 no better than the "
    "track's mean, below 0 worse.",
    "Pearson": "correlation of imputed and measured values. 1 is perfect, 0 chance; blind to a factor between them.",
    "good": "better than average and marginal, at least half of what noise allows explained, the mean right, and "
    "intervals that hold what they claim. Poor: worse than one of the two, no better than the marginal, or less than a "
    "tenth of what noise allows. With care: all between.",
    "what noise allows": "R2 of the true rate at most, for reads alone scatter as Poisson counts; of signal, whose "
    "noise is not known, 1.",
    "average": "the same assay averaged over the other biosamples, at this track's depth: what one would guess "
    "without a model. Level with it: no better or worse than chance could make it. A dash: no other biosample has it.",
    "marginal": "one distribution for all regions of a track, with its mean and its best spread: what one would guess "
    "without looking at the region. The model is held against it by the likelihood of what was measured.",
    "mean": "right if all imputed values together are as much as was measured.",
    "spread": "right if values fall as often into each tenth of what was predicted for them as they should (the "
    "probability integral transform, PIT: chipvi.pl.calibration draws it). Too narrow: predictions claim more "
    "certainty than they have; too wide: less. Lopsided: values lie more often at one end, though the width is right.",
    "intervals": "right if as many values lie in their 95 % intervals (coverage) as the prediction itself expects: of "
    "whole counts that is more than 95 %.",
    _UNCERTAIN: "too few reads, or too different from one stretch of the genome to the next.",
}

# What is wrong and what to try; in braces, what is called otherwise from place to place.
_ADVICE = {
    Fault.NOT_LEARNT: "the imputation is no better than the marginal. Where R2 is well above 0, it is the spread that "
    "is wrong. Elsewhere the model has not learnt the track; look at {curves}: if the loss still falls, train for "
    "longer ({steps}); if it never fell, check that counts and labels belong together.",
    Fault.NOT_IMPUTABLE: "there was nothing to impute from: where the track was measured, neither another track of its "
    "biosample nor its assay in another biosample was. The imputation is no more than the level of the track; add such "
    "tracks, or denoise it{denoise}.",
    Fault.LEVEL_OFF: "the mean is off. If these are few tracks, each off by a factor, compare their reads with the "
    "column of depths ({depth_key}); if they are many, train for longer ({steps}).",
    Fault.BELOW_AVERAGE: "the average of the other biosamples is better: they are very alike, or the model has seen "
    "too little. Train on more regions or for longer ({steps}){or_average}.",
    Fault.LEVEL_WITH_AVERAGE: "the average of the other biosamples is as good: do not read differences between "
    "biosamples into them.",
    Fault.LITTLE_EXPLAINED: "less than half of what noise allows is explained: what the other tracks show hints at "
    "little of it. Train for longer ({steps}) or on more regions; more tracks of the biosample, or of the assay, help.",
    Fault.TOO_NARROW: "the spread is too narrow: take the intervals with care, and train on more regions.{refit}",
    Fault.TOO_WIDE: "the spread is too wide: the intervals are safe, but wider than need be. Training for longer "
    "({steps}) often narrows them; that of signal has a floor.",
    Fault.LOPSIDED: "the spread is lopsided: look at {calibration}. High bars on the right mean more high values than "
    "predicted, such as peaks that are missed; on the left, more low ones.",
    Fault.COVERAGE_OFF: "the intervals cover more or less than expected, though the spread is not found too narrow or "
    "too wide: take the share that they cover here for their true level.",
    Fault.UNDECIDED: "some verdict cannot be given, for too few reads or too uneven ones: diagnose on more regions.",
}
_NAMES = {
    Place.PYTHON: {
        "steps": "max_steps",
        "depth_key": "depth_key",
        "curves": "chipvi.pl.training(model)",
        "calibration": "chipvi.pl.calibration(diagnosis)",
        "denoise": " with get_normalized_expression",
        "or_average": ", or use the average there (chipvi.metrics.leave_one_out_average)",
        "refit": " For counts, one dispersion per track fitted on held-out regions (chipvi.metrics.fit_dispersion) "
        "gives wider intervals (chipvi.metrics.nb_quantile).",
    },
    Place.COMMAND_LINE: {
        "steps": "--steps",
        "depth_key": "--depth-key",
        "curves": "training.png",
        "calibration": "the calibration in the page that chipvi report writes",
        "denoise": "",
        "or_average": "",
        "refit": "",
    },
}


def describe(advice: Advice, place: Place) -> str:
    """A piece of advice as a sentence or more."""
    of_quantity = "" if advice.quantity is None else f" of {advice.quantity}"
    what = _ADVICE[advice.fault].format(**_NAMES[place])
    return f"In {advice.n_found:,} of {counted(advice.n_tracks, 'track')}{of_quantity} {what}"


def describe_suspect(suspect: Suspect) -> str:
    """A suspicion about labels as sentences."""
    names, sources = listed(suspect.biosamples), listed(suspect.sources)
    if suspect.suspicion is Suspicion.DUPLICATE:
        return (
            f"{names} have the same counts (correlation {suspect.correlation:.4f}) and are predicted from each other "
            f"(weight {100 * suspect.weight:.0f} %): the same data twice? Compare their files."
        )
    how = f"from {sources} alone" if suspect.has_one_source else f"mainly from {sources}"
    return (
        f"{names} is predicted {how} (weight {100 * suspect.weight:.0f} %), and hardly from its own group "
        f"({100 * suspect.own_weight:.0f} %): swapped? Compare its label and file with theirs."
    )


def sum_up(grades: Sequence[Grade]) -> str:
    """How many tracks are good, to be used with care, poor, and not judged, at least one."""
    numbers = {grade: grades.count(grade) for grade in _GRADES}
    return ", ".join(
        f"{number} {'is' if number == 1 else 'are'} {_GRADES[grade]}" for grade, number in numbers.items() if number
    )


def explained_words(verdict: TrackVerdict) -> str:
    """What is explained: a share of what noise allows, or of the signal, whose noise is not known."""
    of_what = "of what noise allows" if verdict.quantity == "counts" else "of the signal"
    return f"{100 * max(verdict.explained, 0):.0f} % {of_what}"


def level_words(verdict: TrackVerdict) -> str:
    """How far the imputed mean is off: "right", "20 % too high", "too low by a factor of 2.1", "0.30 too high"."""
    if verdict.level in (Level.HIGH, Level.LOW):
        direction = "high" if verdict.level is Level.HIGH else "low"
        if verdict.quantity == "signal":
            return f"{abs(verdict.difference):.2f} too {direction}"
        if 0.5 < verdict.ratio < 1.5:
            return f"{100 * abs(verdict.ratio - 1):.0f} % too {direction}"
        return f"too {direction} by a factor of {max(verdict.ratio, 1 / verdict.ratio):.1f}"
    words = {Level.RIGHT: "right", Level.UNCERTAIN: _UNCERTAIN}
    return words.get(verdict.level, _TOO_FEW[verdict.quantity])


def spread_words(verdict: TrackVerdict) -> str:
    """How wide the predicted distributions are."""
    return _SPREADS.get(verdict.spread, _TOO_FEW[verdict.quantity])


def standing_words(verdict: TrackVerdict) -> str:
    """How imputation compares with marginal and average."""
    return _STANDINGS.get(verdict.standing, _TOO_FEW[verdict.quantity])


def intervals_words(verdict: TrackVerdict) -> str:
    """Whether intervals cover what they should: "right", or "cover 90 % where 97 % was expected"."""
    off = f"cover {100 * verdict.coverage:.0f} % where {100 * verdict.expected_coverage:.0f} % was expected"
    words = {Intervals.RIGHT: "right", Intervals.OFF: off, Intervals.UNCERTAIN: _UNCERTAIN}
    return words.get(verdict.intervals, _TOO_FEW[verdict.quantity])


def table_words(verdict: TrackVerdict) -> dict[str, str]:
    """The columns of :attr:`Diagnosis.table` that are in words."""
    return {
        "mean": level_words(verdict),
        "spread": spread_words(verdict),
        "beats": standing_words(verdict),
        "intervals": intervals_words(verdict),
        "grade": verdict.grade.value,
    }
