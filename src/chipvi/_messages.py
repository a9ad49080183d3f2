"""Wording that the errors about input data share."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import Enum


class Place(Enum):
    """Where a sentence is read: it names options and files as they are called there."""

    PYTHON = "Python"
    COMMAND_LINE = "command line"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and what it counts, in the singular for one.

    >>> counted(1, "stretch"), counted(1_200, "region"), counted(2, "stretch", "stretches")
    ('1 stretch', '1,200 regions', '2 stretches')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names for a message, cut off after a few.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = [str(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown) if rest <= 0 else f"{', '.join(shown[:most])} and {rest} more"


def and_more(number: int) -> str:
    """Text for the offenders that are not named, where `number` counts them all.

    >>> and_more(13), and_more(1)
    (' (and 12 more)', '')
    """
    return f" (and {number - 1} more)" if number > 1 else ""


def unknown(what: str, name: object, known: Sequence[object], where: str) -> str:
    """Message that a name is not known, with what was probably meant, and the known names.

    >>> unknown("layer", "count", ["counts", "pval"], "adata.layers")
    "layer 'count' is not in adata.layers; did you mean 'counts'? There is: counts, pval."
    """
    by_lower_case = {str(one).lower(): str(one) for one in known}
    near = [by_lower_case[match] for match in get_close_matches(str(name).lower(), by_lower_case, n=3)]
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"{what} {name!r} is not in {where}{guess} There is: {listed(known, most=20) or 'nothing'}."


def levels_to_caller() -> int:
    """Stack level, seen from where a warning is raised, of the line that called chipvi.

    It is the first one outside above the outermost function of this package: Lightning, which chipvi calls and which
    calls chipvi, is not the caller.
    """
    frame, level, last = sys._getframe(1), 1, 1
    while frame.f_back is not None:
        frame, level = frame.f_back, level + 1
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "chipvi":
            last = level
    return last + 1
