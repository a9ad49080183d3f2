"""Checks of arguments, made before any file is opened."""

from __future__ import annotations

from numbers import Integral

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


def require_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False, such as "no", which Python takes for true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; it is {value!r}.")


def require_processes(processes: object) -> None:
    """Refuse a number of processes that is none; None leaves it to the reader."""
    if processes is not None:
        require_whole("processes", processes, least=1)
