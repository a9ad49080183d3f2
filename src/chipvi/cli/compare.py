"""chipvi compare: what differs between two groups of biosamples."""

from __future__ import annotations

import math
from collections.abc import Iterator
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

FILES = {
    "regions.tsv.gz": "a row per assay and region: fold change, p-value, false discovery rate",
    "volcano.png": "p-value over fold change",
    "ma.png": "fold change over level",
}
INTERVAL_FILES = {
    "intervals.tsv": "neighbouring regions that change alike, tested together",
    "intervals.bed": "the same for a genome browser, blue where group 1 is higher, orange where group 2 is",
    "loci.png": "the best of them",
}
_BLUE, _ORANGE = "47,109,179", "217,114,46"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    model: Model
    group1: Annotated[
        str, typer.Option(help="Biosamples of the first group, by commas; with --groupby, values of that column.")
    ]
    group2: Annotated[str | None, typer.Option(help="Those of the second group; by default all others.")] = None
    groupby: Annotated[
        str | None,
        typer.Option(
            help="Column of var that replicates share, also those of other groups, whose spread serves; by default the "
            "biosample itself."
        ),
    ] = None
    assay: Annotated[str | None, typer.Option(help="Assays, by commas; by default all that both groups have.")] = None
    delta: Annotated[float, typer.Option(help="Log2 fold change that does not matter; 0: any counts.", min=0)] = 0.1
    fdr: Annotated[float, typer.Option(help="Share of false discoveries to allow.")] = 0.05
    gap: Annotated[int, typer.Option(help="Most bp between two regions of one interval.", min=0)] = 0
    gtf: Annotated[Path | None, typer.Option(help="Genes (GTF), of which the nearest is named at each locus.")] = None
    data: Annotated[
        Path | None, typer.Option(help="Regions x tracks, .h5ad or .zarr; by default those of training.")
    ] = None
    accelerator: Accelerator = "auto"
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("chipvi-compare")


def run(options: Options) -> None:
    """Find what differs between two groups of biosamples: tables, a BED file, and pictures.

    The groups are the replicates of two conditions. Every biosample is denoised from its own tracks alone, and what
    replicates differ by is in the spread.
    """
    from .._files import claimed, naming

    require_folder(options.out)
    with claimed(options.out), naming(options.out):
        _run(options, open_console())


def _run(options: Options, console: Console) -> None:
    from .._files import written_whole
    from ..differential import merge_regions
    from ..io.inputs import read_anndata
    from ..pl import differential_loci, ma, volcano

    out = options.out
    data = None if options.data is None else read_anndata(options.data)
    model = load_saved(find_saved(options.model), data, options.accelerator)
    table = model.differential_signal(
        _names(options.group1),
        None if options.group2 is None else _names(options.group2),
        assay=None if options.assay is None else _names(options.assay),
        groupby=options.groupby,
        mode="change" if options.delta else "vanilla",
        delta=options.delta,
        fdr_target=options.fdr,
    )
    has_places = _keys.CHROM in table
    intervals = merge_regions(table, gap=options.gap, fdr_target=options.fdr) if has_places else None
    _print(table, intervals, options.fdr, console)
    out.mkdir(exist_ok=True)
    files = dict(FILES)
    with written_whole(out / "regions.tsv.gz") as partial:
        table.to_csv(partial, sep="\t", index_label="region", float_format="%.6g", compression="gzip")
    volcano(table, save=out / "volcano.png")
    ma(table, save=out / "ma.png")
    if intervals is not None:
        files |= {name: what for name, what in INTERVAL_FILES.items() if name != "loci.png"}
        with written_whole(out / "intervals.tsv") as partial:
            intervals.to_csv(partial, sep="\t", index=False, float_format="%.6g")
        with written_whole(out / "intervals.bed") as partial:
            partial.write_text("".join(bed_lines(intervals)))
        if len(intervals):
            differential_loci(table, intervals, save=out / "loci.png", gtf=options.gtf)
            files["loci.png"] = INTERVAL_FILES["loci.png"]
    print_files(out, files, console)


def bed_lines(intervals: pd.DataFrame) -> Iterator[str]:
    """Lines of a BED file with nine columns, in the order of the genome.

    Parameters
    ----------
    intervals
        Of :func:`chipvi.differential.merge_regions`. A line's name is the assay and the log2 fold change, its score
        -100 log10 of the false discovery rate, from 0 to 1,000.
    """
    ordered = intervals.sort_values([_keys.CHROM, _keys.START], kind="stable")
    for one in ordered.itertuples():
        score = int(-100 * math.log10(max(one.fdr, 1e-10)))
        colour = _BLUE if one.lfc_mean > 0 else _ORANGE
        name = f"{one.assay}:{one.lfc_mean:+.2f}".replace(" ", "_")
        yield f"{one.chrom}\t{one.start}\t{one.end}\t{name}\t{score}\t.\t{one.start}\t{one.end}\t{colour}\n"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _print(table: pd.DataFrame, intervals: pd.DataFrame | None, fdr: float, console: Console) -> None:
    for name in ("group1", "group2"):  # on lines of their own, for they may name many replicates
        print_line(f"{name}: {table[name].iloc[0]}", console)
    print_line(f"At a false discovery rate of {fdr:g}:", console)
    shown = plain_table("", "assay")
    columns = ("regions", "called", "higher in group1", "higher in group2")
    for name in (*columns, *(["intervals"] if intervals is not None else [])):
        shown.add_column(name, justify="right")
    for assay, part in table.groupby(_keys.ASSAY, sort=False, observed=True):
        called = part[part[f"is_de_fdr_{fdr:g}"]]
        numbers = [
            part["p_value"].notna().sum(),
            len(called),
            (called["lfc_mean"] > 0).sum(),
            (called["lfc_mean"] < 0).sum(),
        ]
        if intervals is not None:
            numbers.append((intervals[_keys.ASSAY] == assay).sum())
        shown.add_row(str(assay), *(f"{number:,}" for number in numbers))
    console.print(shown)
    if intervals is None:
        print_line("The regions have no coordinates, so that there are no intervals of them.", console)
