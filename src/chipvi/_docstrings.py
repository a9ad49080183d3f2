"""Descriptions of parameters that several functions share, written once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from inspect import cleandoc
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_PLACE = re.compile(r"%\((\w+)\)s")


def documented(shared: Mapping[str, str]) -> Callable[[F], F]:
    r"""Make a decorator that puts shared descriptions in the place of ``%(name)s`` in a docstring.

    >>> @documented({"seed": "seed\n    Of what is drawn."})
    ... def draw(seed):
    ...     '''Draw.
    ...
    ...     Parameters
    ...     ----------
    ...     %(seed)s
    ...     '''
    >>> draw.__doc__.splitlines()[-2:]
    ['seed', '    Of what is drawn.']
    """

    def decorate(function: F) -> F:
        function.__doc__ = _PLACE.sub(lambda found: shared[found[1]], cleandoc(function.__doc__ or ""))
        return function

    return decorate
