"""The command line: parsing only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import __version__, _compare, _demo, _keys, _score

_BiosampleKey = Annotated[str, typer.Option(help="Column of var with the biosample.")]
_AssayKey = Annotated[str, typer.Option(help="Column of var with the assay.")]
_DepthKey = Annotated[
    str | None, typer.Option(help="Column of var with reads per track; by default counts are added up.")
]

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


@app.command()
def compare_heads(
    data: Annotated[Path, typer.Argument(help="Regions x tracks, .h5ad or .zarr.", show_default=False)],
    layer: Annotated[str | None, typer.Option(help="Layer with counts; by default X.")] = None,
    observed_layer: Annotated[str | None, typer.Option(help="Layer that is 0 where counts are missing.")] = None,
    signal_layer: Annotated[
        str | None, typer.Option(help="Layer with arcsinh(-log10 p), to learn from as well.")
    ] = None,
    biosample_key: _BiosampleKey = _keys.BIOSAMPLE,
    assay_key: _AssayKey = _keys.ASSAY,
    depth_key: _DepthKey = None,
    control_key: Annotated[str | None, typer.Option(help="Column of var that is true for controls.")] = None,
    segment_key: Annotated[
        str | None, typer.Option(help="Column of obs whose equal values mark neighbours; by default chrom, start, end.")
    ] = None,
    heads: Annotated[str | None, typer.Option(help="Heads, by commas; by default all.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps of each run.", min=1)] = 1_000,
    seeds: Annotated[int, typer.Option(help="Runs of each head; their spread tells what is chance.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("chipvi-heads"),
) -> None:
    """Compare the count heads on your own data, on held-out regions."""
    setup = {
        "layer": layer,
        "observed_layer": observed_layer,
        "signal_layer": signal_layer,
        "biosample_key": biosample_key,
        "assay_key": assay_key,
        "depth_key": depth_key,
        "control_key": control_key,
        "segment_key": segment_key,
    }
    names = None if heads is None else [name.strip() for name in heads.split(",")]
    with _errors_in_one_line():
        _compare.run(data, setup, names, steps, range(seeds), out, Console())


@app.command()
def score(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="Regions x tracks, .h5ad or .zarr, of any tool.", show_default=False)
    ],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="What was measured, .h5ad or .zarr.", show_default=False)
    ],
    layer: Annotated[str | None, typer.Option(help="Layer of TRUTH with counts; by default X.")] = None,
    observed_layer: Annotated[
        str | None, typer.Option(help="Layer of TRUTH that is 0 where counts are missing.")
    ] = None,
    signal_layer: Annotated[
        str | None, typer.Option(help="Layer of TRUTH with arcsinh(-log10 p), to score signal instead of counts.")
    ] = None,
    biosample_key: _BiosampleKey = _keys.BIOSAMPLE,
    assay_key: _AssayKey = _keys.ASSAY,
    depth_key: _DepthKey = None,
    promoters: Annotated[
        Path | None,
        typer.Option(help="BED file of promoters; by default the 2 kb before --genes, if these have strands."),
    ] = None,
    genes: Annotated[Path | None, typer.Option(help="BED file of genes.")] = None,
    enhancers: Annotated[Path | None, typer.Option(help="BED file of enhancers.")] = None,
    out: Annotated[Path | None, typer.Option(help="Table to write, .csv.")] = None,
) -> None:
    """Score imputed counts or signal of any tool, beside each track's mean and the average of other biosamples.

    PRED holds expected counts in X; with the layers dispersion, lower and upper, their distribution is scored too.
    """
    setup = {
        "layer": layer,
        "observed_layer": observed_layer,
        "signal_layer": signal_layer,
        "biosample_key": biosample_key,
        "assay_key": assay_key,
        "depth_key": depth_key,
    }
    beds = {"promoters": promoters, "genes": genes, "enhancers": enhancers}
    with _errors_in_one_line():
        _score.run(prediction, truth, setup, beds, out, Console())


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input (exit code 2) or the outside world (1), without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ValueError) else 1) from error
