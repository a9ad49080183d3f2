"""Checks of arguments, made before any work: a type, a range and one sentence each."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np

# In bp: longer than any chromosome, and so small that sums of several fit int64.
LONGEST = 2**40


def require_whole(name: str, value: object, *, least: int, most: int = LONGEST, unit: str = "") -> None:
    """Refuse what is no whole number within a range; neither True nor 150.0 is one.

    >>> require_whole("bin_size", 12.5, least=1, unit="bp")
    Traceback (most recent call last):
        ...
    ValueError: bin_size must be a whole number of bp; it is 12.5.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number{unit and f' of {unit}'}; it is {value!r}.")
    if not least <= int(value) <= most:
        bound = f"at least {least}" if int(value) < least else f"at most {most}"
        raise ValueError(f"{name} must be {bound}{unit and f' {unit}'}; it is {value}.")


def require_real(name: str, value: object, *, least: float = -math.inf, below: float = math.inf) -> None:
    """Refuse what is no finite number from `least` up to but not including `below`; True is none.

    >>> require_real("dropout", 1.0, least=0, below=1)
    Traceback (most recent call last):
        ...
    ValueError: dropout must be at least 0 and below 1; it is 1.0.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; it is {value!r}.")
    if not least <= float(value) < below:
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"below {below:g}"] * (below < math.inf)
        raise ValueError(f"{name} must be {' and '.join(bounds)}; it is {value}.")


def require_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False, such as "no", which Python takes for true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; it is {value!r}.")


def require_processes(processes: object) -> None:
    """Refuse a number of processes that is none; None leaves it to the reader."""
    if processes is not None:
        require_whole("processes", processes, least=1)
