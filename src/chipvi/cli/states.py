"""chipvi states: the chromatin state of each region in each biosample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _keys
from .console import open_console, plain_table, print_files, print_line
from .options import Accelerator, Model, require_folder
from .saved import find_saved, load_saved

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_SHOWN = 3  # assays of a state that are printed
_RESOLUTION = 0.25  # that of chipvi.tl.states


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    model: Model
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("chipvi-states")
    n_states: Annotated[
        int | None, typer.Option(help="Number of states; by default as many as there are clusters.", min=2, max=100)
    ] = None
    resolution: Annotated[float, typer.Option(help="Of the clusters: the higher, the more states.")] = _RESOLUTION
    biosamples: Annotated[str | None, typer.Option(help="Biosamples, by commas; by default all.")] = None
    region: Annotated[
        str | None, typer.Option(help="Stretch of the picture, chr1:10,000-90,000 (from 0); by default a varied one.")
    ] = None
    data: Annotated[
        Path | None, typer.Option(help="Regions x tracks, .h5ad or .zarr; by default those of training.")
    ] = None
    seed: Annotated[int, typer.Option(help="The same seed gives the same states.", min=0)] = 0
    accelerator: Accelerator = "auto"


def run(options: Options) -> None:
    """Find chromatin states: a BED file of each biosample, a table of what is enriched in each state, a picture.

    Every assay counts in every biosample, imputed where it was not measured. The names of states are suggestions, by
    the marks that they are enriched in.
    """
    from .._files import claimed, naming

    require_folder(options.out)
    with claimed(options.out), naming(options.out):
        _run(options, open_console())


def _run(options: Options, console: Console) -> None:
    from .. import io, pl, tl
    from .._files import written_whole
    from ..io.inputs import read_anndata

    data = None if options.data is None else read_anndata(options.data)
    model = load_saved(find_saved(options.model), data, options.accelerator)
    chosen = None if options.biosamples is None else [name.strip() for name in options.biosamples.split(",")]
    tl.states(model, options.n_states, options.resolution, chosen, options.seed)
    adata, out = model.adata, options.out
    table = adata.uns["states"]["table"]
    _print(table, console)
    out.mkdir(exist_ok=True)
    with written_whole(out / "states.tsv") as partial:
        table.to_csv(partial, sep="\t", float_format="%.4g")
    pl.states(adata, options.region, save=out / "states.png")
    files = {"states.tsv": "share and mean enrichment of each state", "states.png": "the same, and a stretch of it"}
    if {_keys.CHROM, _keys.START, _keys.END} <= set(adata.obs):
        beds = io.write_states(adata, out)
        files |= {path.name: f"states of {biosample}, for a genome browser" for biosample, path in beds.items()}
    else:
        print_line("No BED files: the regions have no columns chrom, start and end.", console)
    print_files(out, files, console)


def _print(table: pd.DataFrame, console: Console) -> None:
    shown = plain_table("", "state")
    shown.add_column("share", justify="right")
    shown.add_column("highest, in means of the track")
    for state, row in table.iterrows():
        highest = row.drop(["kind", "color", "regions", "share"]).sort_values(ascending=False)[:_SHOWN]
        marks = ", ".join(f"{assay} {fold:.1f}" for assay, fold in highest.items())
        shown.add_row(str(state), f"{row['share']:.1%}", marks)
    console.print(shown)
