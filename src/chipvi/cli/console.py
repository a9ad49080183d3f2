"""What the commands print alike: tables without lines, and the files that were written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table


def plain_table(title: str, first: str) -> Table:
    """A table without lines, whose first column names the rows."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def tell_files(folder: Path, files: Mapping[str, str], console: Console) -> None:
    """Say which files were written, and what each holds."""
    console.print("Wrote:")
    for name, what in files.items():
        console.print(f"  {folder / name}: {what}", soft_wrap=True)
