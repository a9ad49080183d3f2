"""chipvi score: imputed counts or signal of any tool, against what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _keys
from .._messages import counted
from ..data.setup_keys import SetupKeys
from .console import open_console, plain_table, print_line
from .options import KEY_HELP, Given, require_folder
from .settings import setup_keys

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_NAMES = {
    "r2": "R²",
    "r2_arcsinh": "R² arcsinh",
    "pearson": "Pearson",
    "c_index": "C-index",
    "mse": "MSE",
    "nll": "NLL",
    "crps": "CRPS",
    "crps_scale": "CRPS scale",
    "deviance_explained": "deviance explained",
    "pit_deviation": "PIT dev.",
    "coverage": "coverage",
    "expected_coverage": "expected coverage",
}
_PER_TRACK = ("r2", "c_index", "nll", "mse", "gwcorr", "mse1obs")
_WIDEST = 6  # columns that fit side by side


_KEYS = Given(
    SetupKeys,
    {
        "layer": "Layer of TRUTH with counts; by default X.",
        "observed_layer": "Layer of TRUTH that is 0 where counts are missing.",
        "signal_layer": "Layer of TRUTH with arcsinh(-log10 p), to score signal instead of counts.",
        **{name: KEY_HELP[name] for name in ("biosample_key", "assay_key", "depth_key")},
    },
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    prediction: Annotated[
        Path,
        typer.Argument(
            metavar="PRED",
            help="Regions x tracks, .h5ad or .zarr, a bigWig file or a folder of them, of any tool.",
            show_default=False,
        ),
    ]
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="What was measured, in the same forms.", show_default=False)
    ]
    keys: Annotated[Mapping[str, str], _KEYS]
    promoters: Annotated[
        Path | None,
        typer.Option(help="BED file of promoters; by default the 2 kb before --genes, if these have strands."),
    ] = None
    genes: Annotated[Path | None, typer.Option(help="BED file of genes.")] = None
    enhancers: Annotated[Path | None, typer.Option(help="BED file of enhancers.")] = None
    regions: Annotated[Path | None, typer.Option(help="BED file of regions to read bigWig files at.")] = None
    bin_size: Annotated[
        int | None, typer.Option("--bin", help="Width of bins to read bigWig files at, in bp.", min=1)
    ] = None
    counts: Annotated[
        bool, typer.Option("--counts", help="The bigWig files of TRUTH hold counts; by default -log10 p.")
    ] = False
    out: Annotated[Path | None, typer.Option(help="Table to write, .csv.")] = None


def run(options: Options) -> None:
    """Score imputed counts or signal of any tool, beside each track's mean and the average of other biosamples.

    PRED holds expected counts in X; with the layers dispersion, lower and upper, their distribution is scored too: the
    negative binomial that chipvi impute writes, with mean and variance of the model's count head, whatever that is.

    bigWig files are called as their tracks, such as K562.H3K27ac.bw, and read at the regions of the other file. If
    both PRED and TRUTH are bigWig, name --regions or --bin. What a file does not cover is not scored.
    """
    from .._files import written_whole
    from ..evaluate.score.bigwigs import read_pair
    from ..evaluate.score.match import match_anndata
    from ..evaluate.score.scores import score
    from ..evaluate.score.task import open_truth, prepare
    from ..io.inputs import read_bed

    out, truth, console = options.out, options.truth, open_console()
    if out is not None:
        if out.suffix != ".csv" or out.is_dir():
            raise ValueError(f"out must be a file that ends in .csv; got {out.name!r}.")
        require_folder(out.parent)
    beds = {"promoters": options.promoters, "genes": options.genes, "enhancers": options.enhancers}
    intervals = {name: read_bed(path) for name, path in beds.items() if path is not None}
    predicted, measured, keys = read_pair(
        options.prediction, truth, setup_keys(options.keys), options.regions, options.bin_size, options.counts
    )
    data = open_truth(measured, keys)
    match = match_anndata(predicted, measured)
    print_line(f"{options.prediction.name} against {truth.name}. {match.describe()}", console)
    if _keys.OBSERVED in measured.layers and keys.observed_layer is None and keys.signal_layer is None:
        print_line(
            f"Note: layer {_keys.OBSERVED!r} of {truth.name} is not looked at. If it marks what was measured, name it "
            f"with --observed-layer {_keys.OBSERVED}; else missing counts may be scored as zeros.",
            console,
        )
    scores = score(prepare(predicted, measured, data, match, keys, **intervals))
    _print(scores, console)
    if out is not None:
        with written_whole(out) as partial:
            scores.to_csv(partial, float_format="%.6g")
        print_line(f"Wrote {out}", console)


def _print(scores: pd.DataFrame, console: Console) -> None:
    predicted, average, marginal = (scores.loc[by] for by in ("prediction", "average", "marginal"))
    tracks = predicted.index[:-1][predicted["entries"].iloc[:-1] > 0]
    averaged = tracks[average.loc[tracks, "entries"] > 0]
    means = {"PRED": predicted.loc["macro_mean"], "average": average.loc["macro_mean"]}
    if 0 < len(averaged) < len(tracks):
        means["PRED, same tracks"] = predicted.loc[averaged].mean()
    means["marginal"] = marginal.loc["macro_mean"]
    columns = [name for name in scores if name != "entries"]
    for start in range(0, len(columns), _WIDEST):
        part = columns[start : start + _WIDEST]
        _print_table("Mean over tracks", part, {by: list(row[part]) for by, row in means.items()}, console)
    of_all = f"{len(averaged)} of {counted(len(tracks), 'track')}"
    console.print(f"average: of the other biosamples, for {of_all}. marginal: of the track.")
    shown = [name for name in _PER_TRACK if name in columns][: _WIDEST // 2]
    rows = {str(t): [table.loc[t, name] for name in shown for table in (predicted, average)] for t in tracks}
    heads = [f"{_NAMES.get(name, name)}\n{by}" for name in shown for by in ("PRED", "average")]
    _print_table("Track by track", heads, rows, console)


def _print_table(title: str, columns: list[str], rows: dict[str, list[float]], console: Console) -> None:
    table = plain_table(title, "")
    for name in columns:
        table.add_column(_NAMES.get(name, name), justify="right")
    for name, values in rows.items():
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.3f}" for value in values))
    console.print(table)
