"""The command line: parsing only.

Each command imports what carries it out when it is called, so that the others and --help need not wait for torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .. import __version__, _keys
from . import options

_debug = ContextVar("debug", default=False)  # set by every call, before its command

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
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error was raised.")] = False,
) -> None:
    """Impute, denoise and embed ChIP-seq, ATAC-seq and DNase-seq counts."""
    _debug.set(debug)


@app.command()
def count(
    sheet: Annotated[
        Path,
        typer.Argument(
            help="CSV or TSV with the columns biosample, assay, file, and perhaps kind, control, replicate.",
            show_default=False,
        ),
    ],
    out: options.Out,
    genome: options.Genome = None,
    bin_size: Annotated[
        int | None, typer.Option("--bin", help="Width of the bins, in bp.", min=1, show_default=False)
    ] = None,
    chromosomes: Annotated[
        str | None,
        typer.Option(
            help="Names or patterns, by commas; by default autosomes and sex chromosomes.", show_default=False
        ),
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="BED file of regions; with --bin each is cut into bins.", show_default=False)
    ] = None,
    blacklist: Annotated[
        Path | None, typer.Option(help="BED file; regions that overlap it are left out.", show_default=False)
    ] = None,
    rule: Annotated[str, typer.Option(help="Where a read counts: shifted, five_prime, center or overlap.")] = "shifted",
    fragment_length: Annotated[int, typer.Option(help="Of single-end reads, in bp, for shifted.", min=1)] = 150,
    min_mapq: Annotated[int, typer.Option(help="Lowest mapping quality that counts.", min=0)] = 0,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Count reads marked as duplicates, too.")] = False,
    strand_shift: Annotated[
        tuple[int, int], typer.Option(help="Added to 5' ends on + and - strand, in bp; 4 -5 for ATAC.")
    ] = (0, 0),
    merge_replicates: Annotated[
        bool, typer.Option("--merge-replicates", help="Add up replicates, instead of keeping them apart.")
    ] = False,
    uncovered_zero: Annotated[
        bool, typer.Option("--uncovered-zero", help="Take what a bigWig file does not cover as 0, not as missing.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="Files to read at a time; by default one per core.", min=1, show_default=False)
    ] = None,
    dry_run: options.DryRun = False,
) -> None:
    """Count the alignments of a sample sheet into regions x tracks, and read its bigWig files to the same regions."""
    from . import count as command

    places = {"genome": genome, "bin_size": bin_size, "chromosomes": chromosomes, "regions": regions}
    counting = {
        "blacklist": blacklist,
        "rule": rule,
        "fragment_length": fragment_length,
        "min_mapq": min_mapq,
        "duplicates": duplicates,
        "strand_shift": strand_shift,
        "uncovered": "zero" if uncovered_zero else "missing",
        "processes": processes,
    }
    with _errors_in_one_line():
        command.run(sheet, places, counting, merge_replicates, out, dry_run, Console())


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the model to.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Argument(help="Regions x tracks, .h5ad or .zarr, such as chipvi count writes.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps; by default 3,000, or one pass if that is more.", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model; by default 0.", min=0)] = None,
    head: Annotated[str | None, typer.Option(help="Count head; by default mean_dispersion.")] = None,
    early_stopping: Annotated[
        bool | None,
        typer.Option("--early-stopping", help="Stop when the loss on held-out regions no longer falls."),
    ] = None,
    validation_size: Annotated[
        float | None,
        typer.Option(help="Share of the regions to hold out; by default 0, with early stopping 0.1."),
    ] = None,
    accelerator: options.Accelerator = None,
    layer: options.Layer = None,
    observed_layer: options.ObservedLayer = None,
    signal_layer: options.SignalLayer = None,
    biosample_key: options.BiosampleKey = None,
    assay_key: options.AssayKey = None,
    depth_key: options.DepthKey = None,
    control_key: options.ControlKey = None,
    segment_key: options.SegmentKey = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings, named as these options; options win.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was cut off.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Train a model, and write it with its settings, training curves and quality.

    Layers observed and signal, columns depth and is_control are used where they are there; `none` leaves one out.
    """
    from . import train as command

    given = {
        "steps": steps,
        "seed": seed,
        "head": head,
        "early_stopping": early_stopping,
        "validation_size": validation_size,
        "accelerator": accelerator,
        "layer": layer,
        "observed_layer": observed_layer,
        "signal_layer": signal_layer,
        "biosample_key": biosample_key,
        "assay_key": assay_key,
        "depth_key": depth_key,
        "control_key": control_key,
        "segment_key": segment_key,
    }
    with _errors_in_one_line():
        command.run(data, out, given, config, resume, overwrite, dry_run, Console())


@app.command()
def impute(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that chipvi train wrote.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .h5ad or .zarr.", show_default=False)
    ] = None,
    bigwig: Annotated[
        Path | None, typer.Option(help="Folder for a bigWig file of each track.", show_default=False)
    ] = None,
    genome: options.Genome = None,
    data: Annotated[
        Path | None, typer.Option(help="Regions x tracks to impute in; by default those of training.")
    ] = None,
    tracks: Annotated[
        str | None,
        typer.Option(help="By commas: names, or biosample.assay for what nobody has run; by default all."),
    ] = None,
    regions: Annotated[
        str | None, typer.Option(help="chr1:1,001-2,000 as in a browser, or a BED file; by default all.")
    ] = None,
    depth: Annotated[float | None, typer.Option(help="Reads to impute at; by default each track's own.", min=1)] = None,
    level: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.95,
    accelerator: options.Accelerator = "auto",
    dry_run: options.DryRun = False,
) -> None:
    """Impute tracks with a model: expected counts, intervals and denoised counts, to a file, bigWig files or both.

    With --genome hg19, hg38, mm10 or mm39 the bigWig files come with a track hub and a session of IGV.

    Tracks in --data that the model has not seen are taken as input, and imputed too.
    """
    from . import impute as command

    output = command.Output(out, bigwig, genome)
    with _errors_in_one_line():
        command.run(model, data, tracks, regions, depth, level, accelerator or "auto", output, dry_run, Console())


@app.command()
def demo(
    data: Annotated[
        str,
        typer.Option(help=f"Data to train on: {' or '.join(options.DEMO_DATA)}."),
    ] = options.DEMO_DATA[0],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("chipvi-demo"),
    steps: Annotated[
        int | None, typer.Option(help="Training steps; by default 2,000, for a minute or two.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of the training.", min=0)] = 0,
) -> None:
    """Train on example data, impute held-out regions, and judge the result."""
    from . import demo as command

    with _errors_in_one_line():
        command.run(data, out, steps, seed, Console())


@app.command()
def compare_heads(
    data: Annotated[Path, typer.Argument(help="Regions x tracks, .h5ad or .zarr.", show_default=False)],
    layer: options.Layer = None,
    observed_layer: options.ObservedLayer = None,
    signal_layer: options.SignalLayer = None,
    biosample_key: options.BiosampleKey = _keys.BIOSAMPLE,
    assay_key: options.AssayKey = _keys.ASSAY,
    depth_key: options.DepthKey = None,
    control_key: options.ControlKey = None,
    segment_key: options.SegmentKey = None,
    heads: Annotated[str | None, typer.Option(help="Heads, by commas; by default all.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps of each run.", min=1)] = 1_000,
    seeds: Annotated[int, typer.Option(help="Runs of each head; their spread tells what is chance.", min=1)] = 3,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("chipvi-heads"),
) -> None:
    """Compare the count heads on your own data, on held-out regions."""
    from . import compare_heads as command

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
        command.run(data, setup, names, steps, range(seeds), out, Console())


@app.command()
def score(
    prediction: Annotated[
        Path,
        typer.Argument(
            metavar="PRED",
            help="Regions x tracks, .h5ad or .zarr, a bigWig file or a folder of them, of any tool.",
            show_default=False,
        ),
    ],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="What was measured, in the same forms.", show_default=False)
    ],
    layer: Annotated[str | None, typer.Option(help="Layer of TRUTH with counts; by default X.")] = None,
    observed_layer: Annotated[
        str | None, typer.Option(help="Layer of TRUTH that is 0 where counts are missing.")
    ] = None,
    signal_layer: Annotated[
        str | None, typer.Option(help="Layer of TRUTH with arcsinh(-log10 p), to score signal instead of counts.")
    ] = None,
    biosample_key: options.BiosampleKey = _keys.BIOSAMPLE,
    assay_key: options.AssayKey = _keys.ASSAY,
    depth_key: options.DepthKey = None,
    promoters: Annotated[
        Path | None,
        typer.Option(help="BED file of promoters; by default the 2 kb before --genes, if these have strands."),
    ] = None,
    genes: Annotated[Path | None, typer.Option(help="BED file of genes.")] = None,
    enhancers: Annotated[Path | None, typer.Option(help="BED file of enhancers.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED file of regions to read bigWig files at.")] = None,
    bin_size: Annotated[
        int | None, typer.Option("--bin", help="Width of bins to read bigWig files at, in bp.", min=1)
    ] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="The bigWig files of TRUTH hold counts; by default -log10 p.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Table to write, .csv.")] = None,
) -> None:
    """Score imputed counts or signal of any tool, beside each track's mean and the average of other biosamples.

    PRED holds expected counts in X; with the layers dispersion, lower and upper, their distribution is scored too.

    bigWig files are called as their tracks, such as K562.H3K27ac.bw, and read at the regions of the other file. If
    both PRED and TRUTH are bigWig, name --regions or --bin. What a file does not cover is not scored.
    """
    from . import score as command

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
        command.run(prediction, truth, setup, beds, out, Console(), regions, bin_size, counts)


@app.command()
def report(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that chipvi train wrote.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .html.")] = Path("report.html"),
    data: Annotated[
        Path | None, typer.Option(help="Regions x tracks, .h5ad or .zarr; by default those of training.")
    ] = None,
    split_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs that labels regions to judge on test, or else valid; by default those that training "
            "held out, or else all."
        ),
    ] = None,
) -> None:
    """Write a page for a lab meeting: data, training, quality by track, best and worst loci, what to beware of.

    It is one file with all pictures inside, and opens in any browser. Name regions that were held out from training
    with --split-key for an honest judgement.
    """
    from . import report as command

    with _errors_in_one_line():
        command.run(model, out, data, split_key, Console())


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input (exit code 2) or the outside world (1), without a traceback."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if _debug.get():
            raise
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ValueError) else 1) from error
