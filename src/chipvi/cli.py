"""The command line: parsing only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import __version__, _demo

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"chipvi {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Impute, denoise and embed ChIP-seq, ATAC-seq and DNase-seq counts."""


@app.command()
def demo(
    data: Annotated[str, typer.Option(help=f"Data to train on: {' or '.join(_demo.DATA)}.")] = _demo.DATA[0],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("chipvi-demo"),
    steps: Annotated[
        int | None, typer.Option(help="Training steps; by default 2,000, for a minute or two.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.", min=0)] = 0,
) -> None:
    """Train on example data, impute held-out regions, and judge the result."""
    with _errors_in_one_line():
        _demo.run(data, out, steps, seed, Console())


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input (exit code 2) or the outside world (1), without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ValueError) else 1) from error
