"""The command line itself: which commands it has, its version, and how errors and warnings look."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated

import typer

from .. import __version__
from .._signals import take
from . import compare, compare_heads, count, demo, impute, report, score, states, train
from .options import takes_options

_debug = ContextVar("debug", default=False)  # set by every call, before its command

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"chipvi {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error was raised.")] = False,
) -> None:
    """Impute, denoise and embed ChIP-seq, ATAC-seq and DNase-seq counts."""
    _debug.set(debug)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Print warnings, and what is wrong with the input (exit code 2) or the outside world (1), without code.

    A command that is interrupted ends as shells have it, with 128 and the number of the signal; whatever a library has
    made of the interrupt.
    """
    try:
        with warnings.catch_warnings():  # at its end, warnings are shown as before
            if not _debug.get():
                warnings.showwarning = _print_warning
            yield
    except typer.Exit:
        raise
    except BaseException as error:
        number = take() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
        if _debug.get() or not (number or isinstance(error, ValueError | OSError | FloatingPointError)):
            raise
        if number:
            typer.echo(f"Error: interrupted by {number.name}.", err=True)
            raise typer.Exit(128 + number) from error
        _print_line(f"Error: {error}")
        raise typer.Exit(2 if isinstance(error, ValueError | BlockingIOError) else 1) from error


def _print_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    _print_line(f"Warning: {message}")


def _print_line(text: str) -> None:
    typer.echo(" ".join(text.splitlines()), err=True)


for _name, _run in {
    "count": takes_options(count.run),
    "train": takes_options(train.run),
    "impute": takes_options(impute.run),
    "demo": takes_options(demo.run),
    "compare": takes_options(compare.run),
    "compare-heads": takes_options(compare_heads.run),
    "score": takes_options(score.run),
    "report": takes_options(report.run),
    "states": takes_options(states.run),
}.items():
    app.command(_name)(_in_one_line()(_run))
