"""The command that turns a sample sheet into counts: plan, read, tell and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.console import Console
from scipy import sparse

from .. import _keys, io
from .._files import require_writable
from .._messages import listed
from ..io.sheets import assemble
from .console import plain_table


def run(
    sheet: Path,
    places: dict[str, Any],
    counting: dict[str, Any],
    merge_replicates: bool,
    out: Path,
    dry_run: bool,
    console: Console,
) -> None:
    """Count the files of a sample sheet, print what came of each track, and write the result.

    Parameters
    ----------
    sheet
        CSV or TSV.
    places
        Arguments `genome`, `bin_size`, `chromosomes` and `regions` of :func:`chipvi.io.count_sheet`.
    counting
        Its further arguments.
    merge_replicates
        Whether to add up replicates.
    out
        File to write, `.h5ad` or `.zarr`.
    dry_run
        Only check, and print what would be read and written.
    console
        Where to print.
    """
    require_writable(out)
    if dry_run:
        plan = assemble.plan_sheet(sheet, merge_replicates=merge_replicates, blacklist=counting["blacklist"], **places)
        _print_plan(plan, out, console)
        return
    adata = io.count_sheet(sheet, merge_replicates=merge_replicates, **places, **counting)
    _print_tracks(describe(adata), console)
    _print_formats(adata.var, console)
    assemble.write_whole(adata, out)
    console.print(f"Wrote: {out}, {adata.n_obs:,} regions x {adata.n_vars} tracks.", soft_wrap=True)


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
    counted = adata.var[_keys.DEPTH].notna()
    n_nonzero = adata.X.getnnz(axis=0) if sparse.issparse(adata.X) else np.count_nonzero(adata.X, axis=0)
    table = pd.DataFrame(index=adata.var_names)
    table["reads"] = adata.var["n_records"] if "n_records" in adata.var else np.nan
    table["kept"] = adata.var[_keys.DEPTH]
    in_regions = np.asarray(adata.X.sum(axis=0, dtype=np.int64)).ravel()
    table["in_regions"] = np.where(counted, in_regions, np.nan)
    table["zero"] = np.where(counted, 1 - n_nonzero / adata.n_obs, np.nan)
    if _keys.SIGNAL in adata.layers:
        table["signal"] = np.isfinite(adata.layers[_keys.SIGNAL]).mean(axis=0)
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
    for name, tracks in var.groupby("format", sort=False).groups.items() if "format" in var else ():
        if name:
            console.print(f"Read as {name}: {listed(tracks)}.", highlight=False, soft_wrap=True)


def _print_plan(plan: assemble.SheetPlan, out: Path, console: Console) -> None:
    shown = plain_table("Would read", "track")
    shown.add_column("files", overflow="fold")
    for track in plan.tracks:
        control = " (control)" if track.is_control else ""
        shown.add_row(f"{track.name}{control}", "\n".join(track.files))
    console.print(shown)
    chroms = plan.regions[_keys.CHROM].nunique()
    console.print(
        f"Would write: {out}, {len(plan.regions):,} regions on {chroms} chromosomes x {len(plan.tracks)} tracks.",
        soft_wrap=True,
    )
