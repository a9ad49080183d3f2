"""The command: open, judge, draw and write."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from .._quiet import quiet_lightning
from ..report.contents import make_page, require_path
from ..report.page import write_whole
from .open_model import find_held_out, find_validated, open_model


def run(folder: Path, out: Path, data: Path | None, split_key: str | None, console: Console) -> None:
    """Write a page about a saved model.

    Parameters
    ----------
    folder
        That `chipvi train` or `model.save` wrote.
    out
        File to write, `.html`.
    data
        AnnData of the model's tracks; None for the data of training.
    split_key
        Column of obs that labels regions to judge on "test", or else "valid"; None to judge on those that
        `chipvi train` held out, or else on all.
    console
        Where to print.

    Raises
    ------
    ValueError
        For a folder without a model, and data that do not fit it.
    OSError
        If the page cannot be written.
    """
    require_path(out)

    def tell(what: str) -> None:
        console.print(what, soft_wrap=True, highlight=False)

    tell(f"Opening {folder}.")
    model, settings = open_model(folder, data)
    if split_key is None:
        rows = find_validated(model, settings)
        where = None if rows is None else "held out from training, which only calibrated the spread on them"
    else:
        rows, where = find_held_out(model.adata, split_key)
    del settings["fingerprint"]  # of no use to a reader
    with quiet_lightning():
        page = make_page(model, folder.resolve().name, None, rows, where, settings, tell)
    write_whole(page, out)
    console.print(f"Wrote: {out}, {len(page) / 1e6:.1f} MB; open it in a browser.", soft_wrap=True)
