"""Checks of arguments, made before any work: a type, a range and one sentence each."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from numbers import Integral, Real
from os import PathLike
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from ._messages import unknown

P = ParamSpec("P")
R = TypeVar("R")

# In bp: longer than any chromosome, and so small that sums of several fit int64.
LONGEST = 2**40
# Of depths: float32, in which the network works, ends at 3e38.
LARGEST_DEPTH = 1e18
LARGEST_SEED = 2**63 - 1
_NUMBERS: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
}
_WORDS = {NoneType: "None", str: "text", PathLike: "a path"}


class WrongArgument(TypeError, ValueError):
    """An argument of the wrong type, or one that there is not; whoever expects either error catches it."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse, in a sentence, arguments that there are not, are lacking or are not of the type that is annotated.

    Ranges, and names that must be among others, are for the function itself. Text may stand where a list is asked for.

    >>> @checked
    ... def count(number: int) -> int:
    ...     return number
    >>> count("3")
    Traceback (most recent call last):
        ...
    chipvi._arguments.WrongArgument: number must be a whole number; it is '3'.
    """
    signature = inspect.signature(function)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    hints = cache(lambda: get_type_hints(function, localns=_Names(function)))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        known = [name for name in signature.parameters if name not in ("self", "cls")]
        if not takes_any:
            refuse_unknown(kwargs, known, f"the arguments of {function.__name__}")
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise WrongArgument(f"{function.__name__}: {error}; its arguments are {', '.join(known)}.") from None
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if name in hints() and kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
                require_type(name, value, hints()[name])
        return function(*args, **kwargs)

    return call


class _Names(dict):
    """Names that annotations use; any type stands for one that is imported for type checkers only."""

    def __init__(self, function: Callable) -> None:
        super().__init__(vars(__import__("builtins")) | function.__globals__)

    def __missing__(self, name: str) -> Any:
        return Any


def refuse_unknown(given: Iterable[str], known: list[str], where: str) -> None:
    """Refuse the first name that is not known, with what was probably meant."""
    for name in given:
        if name not in known:
            raise WrongArgument(unknown("argument", name, known, where))


def require_type(name: str, value: object, hint: Any) -> None:
    """Refuse what is not of an annotated type, whose parts need not be looked at one by one."""
    if not _fits(value, hint):
        wanted = " or ".join(dict.fromkeys(_describe(one) for one in _alternatives(hint)))
        raise WrongArgument(f"{name} must be {wanted}; it is {_shown(value)}.")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) and not _wants_array(hint) else (hint,)


def _fits(value: object, hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if hint is Any:
        return True
    if _wants_array(hint):
        return _is_array(value)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if kind is Literal:
        return isinstance(value, str)
    if kind in _NUMBERS:
        return _is_flag(value) if kind is bool else isinstance(value, _NUMBERS[kind][0]) and not isinstance(value, bool)
    if not isinstance(kind, type) or kind.__module__.startswith("numpy"):
        return True
    if kind is not str and issubclass(kind, Iterable) and not issubclass(kind, Mapping) and get_args(hint):
        items = value if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes) else None
        is_text = get_args(hint)[0] is str and isinstance(items, list | tuple)
        return items is not None and (not is_text or all(isinstance(item, str) for item in items))
    return isinstance(value, kind)


def _wants_array(hint: Any) -> bool:
    """Whether an annotation is of NumPy's arrays: NumPy is imported then, and not here, where `--help` would wait."""
    numpy, typing = sys.modules.get("numpy"), sys.modules.get("numpy.typing")
    if typing is not None and hint == typing.ArrayLike:
        return True
    return numpy is not None and (get_origin(hint) or hint) is numpy.ndarray


def _is_flag(value: object) -> bool:
    """Whether it is a bool, be it Python's or NumPy's."""
    kind = type(value)
    return kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"))


def _is_array(value: object) -> bool:
    """Whether numbers, or names, can be read from it as an array."""
    import numpy as np

    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # lists of unequal lengths
        return False
    return array.dtype.kind in "buif" or (array.ndim > 0 and array.dtype.kind in "OUT")


def _describe(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if _wants_array(hint):
        return "an array"
    if kind is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if kind in _NUMBERS:
        return _NUMBERS[kind][1]
    if kind in _WORDS or not isinstance(kind, type):
        return _WORDS.get(kind, str(kind))
    if issubclass(kind, PathLike):
        return "a path"
    if issubclass(kind, Mapping):
        return "a mapping"
    if get_args(hint) and issubclass(kind, Iterable):
        return "a list"
    return f"{'an' if kind.__name__[0] in 'AEIOaeio' else 'a'} {kind.__name__}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text and " at 0x" not in text else f"of type {type(value).__name__}"


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
    if not _is_flag(value):
        raise ValueError(f"{name} must be True or False; it is {value!r}.")


def require_processes(processes: object) -> None:
    """Refuse a number of processes that is none; None leaves it to the reader."""
    if processes is not None:
        require_whole("processes", processes, least=1)
