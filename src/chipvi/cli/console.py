"""What the commands print alike, and on what: names of tracks and files are text, whatever brackets they hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def open_console() -> Console:
    """Standard output, on which no text is markup, in tables as elsewhere."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


def plain_table(title: str, first: str) -> Table:
    """A table without lines, whose first column names the rows."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def print_line(text: str, console: Console) -> None:
    """Print a line that the terminal breaks, so that a path in it can be copied."""
    console.print(text, soft_wrap=True)


def print_files(folder: Path, files: Mapping[str, str], console: Console) -> None:
    """Print which files were written, and what each holds."""
    console.print("Wrote:")
    for name, what in files.items():
        print_line(f"  {folder / name}: {what}", console)
