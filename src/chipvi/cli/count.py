"""chipvi count: from a sample sheet to counts of regions x tracks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import _keys
from .._messages import counted, listed
from .cluster import connected, read_shard
from .console import open_console, plain_table, print_line
from .options import DryRun, Genome, Out, Scheduler, Shard, Workers

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from rich.console import Console

    from ..io.sheets.assemble import SheetPlan


_ENTRIES = 2**22  # of a matrix that are looked at together


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    sheet: Annotated[
        Path,
        typer.Argument(
            help="CSV or TSV with the columns biosample, assay, file, and perhaps kind, control, replicate.",
            show_default=False,
        ),
    ]
    out: Out
    genome: Genome = None
    bin_size: Annotated[int | None, typer.Option("--bin", help="Width of the bins, in bp.", min=1)] = None
    chromosomes: Annotated[
        str | None, typer.Option(help="Names or patterns, by commas; by default autosomes and sex chromosomes.")
    ] = None
    regions: Annotated[Path | None, typer.Option(help="BED file of regions; with --bin each is cut into bins.")] = None
    blacklist: Annotated[Path | None, typer.Option(help="BED file; regions that overlap it are left out.")] = None
    rule: Annotated[str, typer.Option(help="Where a read counts: shifted, five_prime, center or overlap.")] = "shifted"
    fragment_length: Annotated[int, typer.Option(help="Of single-end reads, in bp, for shifted.", min=1)] = 150
    min_mapq: Annotated[int, typer.Option(help="Lowest mapping quality that counts.", min=0)] = 0
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Count reads marked as duplicates, too.")] = False
    strand_shift: Annotated[
        tuple[int, int], typer.Option(help="Added to 5' ends on + and - strand, in bp; 4 -5 for ATAC.")
    ] = (0, 0)
    merge_replicates: Annotated[
        bool, typer.Option("--merge-replicates", help="Add up replicates, instead of keeping them apart.")
    ] = False
    uncovered_zero: Annotated[
        bool, typer.Option("--uncovered-zero", help="Take what a bigWig file does not cover as 0, not as missing.")
    ] = False
    append: Annotated[bool, typer.Option("--append", help="Add the tracks to a .zarr store that is there.")] = False
    fasta: Annotated[
        Path | None, typer.Option(help="Sequence of the genome, for columns of obs: gc, cpg_ratio and n_share.")
    ] = None
    mappability: Annotated[
        Path | None, typer.Option(help="bigWig of the mappability, for a column of obs; bases it lacks count as 0.")
    ] = None
    workers: Workers = None
    scheduler: Scheduler = None
    shard: Shard = None
    dry_run: DryRun = False


def run(options: Options) -> None:
    """Count the alignments of a sample sheet into regions x tracks, and read its bigWig files to the same regions."""
    from .. import io
    from .._files import require_writable
    from ..io.counting.alignments import ReadFilters
    from ..io.counting.rules import CountingRule
    from ..io.sheets.assemble import plan_sheet, refuse_regions
    from ..io.sheets.pieces import Store

    out, console = options.out, open_console()
    if options.append:
        of_regions = {"--regions": options.regions, "--bin": options.bin_size, "--chromosomes": options.chromosomes}
        refuse_regions(of_regions | {"--fasta": options.fasta, "--mappability": options.mappability})
    else:
        require_writable(out)
    shard = read_shard(options.shard)
    common: dict[str, Any] = {
        "genome": options.genome,
        "bin_size": options.bin_size,
        "chromosomes": options.chromosomes,
        "blacklist": options.blacklist,
        "merge_replicates": options.merge_replicates,
        "fasta": options.fasta,
        "mappability": options.mappability,
    }
    if options.dry_run:
        ReadFilters(options.min_mapq, options.duplicates)  # refuses what is wrong, as counting does
        plan = plan_sheet(
            options.sheet,
            regions=Store.read(out).obs if options.append else options.regions,
            rule=CountingRule(options.rule, options.fragment_length, options.strand_shift),
            **common,
        )
        _print_plan(plan, out, console)
        return
    with connected(options.scheduler, options.workers) as executor:
        adata = io.count_sheet(
            options.sheet,
            regions=options.regions,
            uncovered="zero" if options.uncovered_zero else "missing",
            rule=options.rule,
            fragment_length=options.fragment_length,
            min_mapq=options.min_mapq,
            duplicates=options.duplicates,
            strand_shift=options.strand_shift,
            processes=options.workers,
            executor=executor,
            out=out,
            append=options.append,
            shard=shard,
            **common,
        )
    if adata is None:
        print_line(f"Shard {options.shard} of {out} is done. Once all are, run the same without --shard.", console)
        return
    _print_tracks(describe(adata), console)
    _print_formats(adata.var, console)
    print_line(f"Wrote: {out}, {counted(adata.n_obs, 'region')} x {counted(adata.n_vars, 'track')}.", console)


def describe(adata: AnnData) -> pd.DataFrame:
    """What came of each track.

    Parameters
    ----------
    adata
        As :func:`chipvi.io.count_sheet` returns it.

    Returns
    -------
    One row per track, NaN where it has no such data: `reads` of its files, those `kept` by the filters, the sum of
    counts `in_regions`, and the shares of regions without a count (`zero`) and with a p-value (`signal`).
    """
    import numpy as np
    import pandas as pd

    from ..data.track_data import Matrix

    is_counted = adata.var[_keys.DEPTH].notna()
    matrix, signal = Matrix("X", adata.X), None
    if _keys.SIGNAL in adata.layers:
        signal = Matrix(_keys.SIGNAL, adata.layers[_keys.SIGNAL])
    total_t, n_nonzero_t, n_signal_t = (np.zeros(adata.n_vars, dtype=np.int64) for _ in range(3))
    step = max(1, _ENTRIES // adata.n_vars)
    for start in range(0, adata.n_obs, step):
        stop = min(start + step, adata.n_obs)
        counts_rt = matrix.read(start, stop)
        total_t += counts_rt.sum(axis=0, dtype=np.int64)
        n_nonzero_t += np.count_nonzero(counts_rt, axis=0)
        if signal is not None:
            n_signal_t += np.isfinite(signal.read(start, stop)).sum(axis=0)
    table = pd.DataFrame(index=adata.var_names)
    table["reads"] = adata.var["n_records"] if "n_records" in adata.var else np.nan
    table["kept"] = adata.var[_keys.DEPTH]
    table["in_regions"] = np.where(is_counted, total_t, np.nan)
    table["zero"] = np.where(is_counted, 1 - n_nonzero_t / adata.n_obs, np.nan)
    if signal is not None:
        table["signal"] = n_signal_t / adata.n_obs
    return table


def _print_tracks(table: pd.DataFrame, console: Console) -> None:
    shown = plain_table("Counts by track", "track")
    for name in ("reads", "kept", "in regions", "zero bins", "with signal")[: len(table.columns)]:
        shown.add_column(name, justify="right")
    for track, row in table.iterrows():
        numbers = [f"{row[name]:,.0f}" for name in ("reads", "kept", "in_regions")]
        shares = [f"{row[name]:.1%}" for name in table.columns[3:]]
        shown.add_row(str(track), *("-" if "nan" in cell else cell for cell in numbers + shares))
    console.print(shown)


def _print_formats(var: pd.DataFrame, console: Console) -> None:
    """What the files of reads were read as, so that fragments that were taken for reads are seen."""
    for name, tracks in var.groupby("format", sort=False, observed=True).groups.items() if "format" in var else ():
        if name:
            print_line(f"Read as {name}: {listed(tracks)}.", console)


def _print_plan(plan: SheetPlan, out: Path, console: Console) -> None:
    shown = plain_table("Would read", "track")
    shown.add_column("files", overflow="fold")
    for track in plan.tracks:
        control = " (control)" if track.is_control else ""
        shown.add_row(f"{track.name}{control}", "\n".join(track.files))
    console.print(shown)
    regions = counted(len(plan.regions), "region")
    chromosomes = counted(plan.regions[_keys.CHROM].nunique(), "chromosome")
    print_line(f"Would write: {out}, {regions} on {chromosomes} x {counted(len(plan.tracks), 'track')}.", console)
