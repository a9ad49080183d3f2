"""chipvi compare-heads: the count heads side by side on one's own data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._messages import Place, counted
from .console import open_console, plain_table, print_files, print_line
from .options import Keys, require_folder
from .settings import setup_keys

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from ..compare.comparison import HeadComparison

FILES = {
    "heads.csv": "a row per head: means over the seeds, and their spread",
    "runs.csv": "a row per head and seed",
    "heads.png": "both as a picture, and how training went",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    data: Annotated[Path, typer.Argument(help="Regions x tracks, .h5ad or .zarr.", show_default=False)]
    keys: Keys
    heads: Annotated[str | None, typer.Option(help="Heads, by commas; by default all.")] = None
    steps: Annotated[int, typer.Option(help="Training steps of each run.", min=1)] = 1_000
    seeds: Annotated[int, typer.Option(help="Runs of each head; their spread shows what is chance.", min=1)] = 3
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("chipvi-heads")


def run(options: Options) -> None:
    """Compare the count heads on your own data, on held-out regions."""
    from .._files import claimed, naming

    require_folder(options.out)
    with claimed(options.out), naming(options.out):
        _run(options, open_console())


def _run(options: Options, console: Console) -> None:
    from .._files import written_whole
    from ..compare.comparison import carry_out
    from ..compare.plan import plan_comparison
    from ..io.inputs import read_anndata
    from ..model.chipvi import ChipVI

    out = options.out
    adata = read_anndata(options.data)
    ChipVI.setup_anndata(adata, **asdict(setup_keys(options.keys)))
    heads = None if options.heads is None else [name.strip() for name in options.heads.split(",")]
    plan = plan_comparison(adata, heads, options.steps, range(options.seeds))
    out.mkdir(exist_ok=True)
    size = f"{counted(adata.n_obs, 'region')} x {counted(adata.n_vars, 'track')}"
    held_out = f"{plan.n_held_out:,} {'is' if plan.n_held_out == 1 else 'are'} held out"
    print_line(f"{options.data.name}: {size}; {held_out}.", console)
    numbers = {"head": len(plan.heads), "seed": len(plan.seeds), "step": options.steps}
    print_line(f"To train: {' x '.join(counted(number, what) for what, number in numbers.items())}", console)
    comparison = carry_out(plan)
    _print(comparison, console)
    with written_whole(out / "heads.csv") as partial:
        comparison.table.to_csv(partial, float_format="%.6g")
    with written_whole(out / "runs.csv") as partial:
        comparison.runs.to_csv(partial, index=False, float_format="%.6g")
    comparison.plot(save=out / "heads.png")
    print_files(out, FILES, console)


def _print(comparison: HeadComparison, console: Console) -> None:
    from ..compare.words import describe

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
        print_line(f"- {sentence}", console)


def _with_spread(row: pd.Series, name: str) -> str:
    spread = row[f"{name}_sd"]
    return _plain(row[name], ".3f") + ("" if math.isnan(spread) else f" ±{spread:.3f}")


def _plain(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _print_table(title: str, rows: list[str], cells: dict[str, list[str]], console: Console) -> None:
    table = plain_table(title, "head")
    for name in cells:
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(rows, *cells.values(), strict=True):
        table.add_row(*row)
    console.print(table)
