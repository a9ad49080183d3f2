"""The command: read, compare, print and write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from .._messages import Place
from ..compare.comparison import HeadComparison, carry_out
from ..compare.plan import plan_comparison
from ..compare.words import describe
from ..io.inputs import read_anndata
from ..model.chipvi import ChipVI
from .console import plain_table, tell_files

FILES = {
    "heads.csv": "a row per head: means over the seeds, and their spread",
    "runs.csv": "a row per head and seed",
    "heads.png": "both as a picture, and how training went",
}


def run(
    path: Path,
    setup: dict[str, Any],
    heads: Sequence[str] | None,
    steps: int,
    seeds: Sequence[int],
    out: Path,
    console: Console,
) -> None:
    """Compare the count heads on the data of a file; print table and verdict, and write them.

    Parameters
    ----------
    path
        AnnData to train on, ending in `.h5ad` or `.zarr`.
    setup
        Arguments of `setup_anndata`.
    heads, steps, seeds
        As in :func:`compare_heads`.
    out
        Folder to write to; made if need be.
    console
        Where to print.

    Raises
    ------
    ValueError
        As :func:`compare_heads`, and for a file that is no AnnData.
    OSError
        If `out` cannot be written to.
    """
    adata = read_anndata(path)
    ChipVI.setup_anndata(adata, **setup)
    plan = plan_comparison(adata, heads, steps, seeds)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"{path.name}: {adata.n_obs:,} regions x {adata.n_vars} tracks; {plan.n_held_out:,} are held out.")
    numbers = {"head": len(plan.heads), "seed": len(plan.seeds), "step": steps}
    console.print("To train:", " x ".join(f"{n:,} {what}{'' if n == 1 else 's'}" for what, n in numbers.items()))
    comparison = carry_out(plan)
    _print(comparison, console)
    comparison.table.to_csv(out / "heads.csv", float_format="%.6g")
    comparison.runs.to_csv(out / "runs.csv", index=False, float_format="%.6g")
    comparison.plot(save=out / "heads.png")
    tell_files(out, FILES, console)


def _print(comparison: HeadComparison, console: Console) -> None:
    table = comparison.table
    scores = {"R²": "r2", "Pearson": "pearson", "NLL": "nll", "CRPS": "crps"}
    cells = {title: [_with_spread(row, name) for _, row in table.iterrows()] for title, name in scores.items()}
    _print_table("Held-out regions, imputed without the track's own data", list(table.index), cells, console)
    trained = table[table["diverged"].notna()]
    formats = {
        "PIT dev.": ("pit_deviation", ".2f"),
        "coverage": ("coverage", ".3f"),
        "expected": ("expected_coverage", ".3f"),
        "gradient": ("grad_norm_count_head", ".2g"),
        "clamped": ("clamped", ".1%"),
        "steps/s": ("steps_per_second", ".1f"),
        "R² > 0 at": ("steps_to_r2_above_0", ".0f"),
    }
    cells = {title: [_plain(value, form) for value in trained[name]] for title, (name, form) in formats.items()}
    _print_table("Calibration, and how training went", list(trained.index), cells, console)
    for sentence in describe(comparison.findings, Place.COMMAND_LINE):
        console.print(f"- {sentence}", highlight=False, markup=False)


def _with_spread(row: pd.Series, name: str) -> str:
    spread = row[f"{name}_sd"]
    return _plain(row[name], ".3f") + ("" if np.isnan(spread) else f" ±{spread:.3f}")


def _plain(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _print_table(title: str, rows: list[str], cells: dict[str, list[str]], console: Console) -> None:
    table = plain_table(title, "head")
    for name in cells:
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(rows, *cells.values(), strict=True):
        table.add_row(*row)
    console.print(table)
