"""Advice on an imputation: which faults its tracks have, those of the most consequence first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from .verdicts import Intervals, Level, Spread, Standing, TrackVerdict


class Fault(Enum):
    """What can be wrong with the imputation of tracks, in the order in which it is reported."""

    NOT_LEARNT = "no better than the marginal"
    NOT_IMPUTABLE = "there was nothing to impute from"
    LEVEL_OFF = "the mean is off"
    BELOW_AVERAGE = "the average of the other biosamples is better"
    LEVEL_WITH_AVERAGE = "the average of the other biosamples is as good"
    LITTLE_EXPLAINED = "R2 is less than half of what noise allows"
    TOO_NARROW = "the spread is too narrow"
    TOO_WIDE = "the spread is too wide"
    LOPSIDED = "the spread is lopsided"
    COVERAGE_OFF = "intervals cover more or less than expected, though the spread is neither too narrow nor too wide"
    UNDECIDED = "a verdict could not be given"


@dataclass(frozen=True)
class Advice:
    """A fault, and in how many tracks it was found.

    Parameters
    ----------
    fault
        What is wrong.
    n_found, n_tracks
        Tracks with the fault, and all that were judged.
    quantity
        "counts" or "signal"; None if only one of the two was judged.
    """

    fault: Fault
    n_found: int
    n_tracks: int
    quantity: str | None = None


_SIGNS: dict[Fault, Callable[[TrackVerdict], bool]] = {
    Fault.NOT_LEARNT: lambda verdict: verdict.standing.is_unlearnt,
    Fault.NOT_IMPUTABLE: lambda verdict: verdict.standing is Standing.NOT_IMPUTABLE,
    Fault.LEVEL_OFF: lambda verdict: verdict.level in (Level.HIGH, Level.LOW),
    Fault.BELOW_AVERAGE: lambda verdict: verdict.standing is Standing.BELOW_AVERAGE,
    Fault.LEVEL_WITH_AVERAGE: lambda verdict: verdict.standing is Standing.LEVEL_WITH_AVERAGE,
    Fault.LITTLE_EXPLAINED: lambda verdict: (
        verdict.explains_little and not verdict.standing.is_unlearnt and verdict.standing is not Standing.NOT_IMPUTABLE
    ),
    Fault.TOO_NARROW: lambda verdict: verdict.spread is Spread.NARROW,
    Fault.TOO_WIDE: lambda verdict: verdict.spread is Spread.WIDE,
    Fault.LOPSIDED: lambda verdict: verdict.spread is Spread.LOPSIDED,
    Fault.COVERAGE_OFF: lambda verdict: (
        verdict.intervals is Intervals.OFF and verdict.spread not in (Spread.NARROW, Spread.WIDE)
    ),
    Fault.UNDECIDED: lambda verdict: not verdict.is_complete,
}


def advise(verdicts: Sequence[TrackVerdict]) -> list[Advice]:
    """What is wrong, first with counts, then with signal."""
    quantities = sorted({verdict.quantity for verdict in verdicts})
    found = []
    for quantity in quantities:
        judged = [verdict for verdict in verdicts if verdict.quantity == quantity]
        for fault, has_fault in _SIGNS.items():
            n_found = sum(map(has_fault, judged))
            if n_found:
                found.append(Advice(fault, n_found, len(judged), quantity if len(quantities) > 1 else None))
    return found
