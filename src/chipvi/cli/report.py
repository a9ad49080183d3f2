"""chipvi report: a page about a saved model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._messages import listed, unknown
from .._quiet import quiet_lightning
from .console import open_console, print_line
from .options import Model
from .saved import Saved, find_saved, load_saved
from .train import draw_validation

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from rich.console import Console

    from ..model.chipvi import ChipVI

_JUDGED = ("test", "valid", "validation", "val")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    model: Model
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .html.")] = Path("report.html")
    data: Annotated[
        Path | None, typer.Option(help="Regions x tracks, .h5ad or .zarr; by default those of training.")
    ] = None
    split_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs that labels regions to judge on test, or else valid; by default those that training "
            "held out, or else all."
        ),
    ] = None
    multiqc: Annotated[
        Path | None, typer.Option(help="File for MultiQC as well, ..._mqc.json: the quality of each track.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that is there.")] = False


def run(options: Options) -> None:
    """Write a page for a lab meeting: data, training, quality by track, best and worst loci, what to beware of.

    It is one file with all that it shows inside, a genome browser too, and opens anywhere. Name regions that were held
    out from training with --split-key for an honest judgement.
    """
    from .._files import claimed
    from ..data.check import surveyed_once
    from ..report.contents import require_path
    from ..report.multiqc import require_multiqc

    require_path(options.out, options.overwrite, "--overwrite")
    if options.multiqc is not None:
        require_multiqc(options.multiqc, options.overwrite)
    with claimed(options.out), surveyed_once():
        _report(options, open_console())


def _report(options: Options, console: Console) -> None:
    from ..io.inputs import open_anndata
    from ..report.contents import make_page
    from ..report.multiqc import multiqc_content
    from ..report.page import write_whole

    folder = options.model
    print_line(f"Opening {folder}.", console)
    saved = find_saved(folder)
    model = load_saved(saved, None if options.data is None else open_anndata(options.data), accelerator="cpu")
    if options.split_key is None:
        rows = find_validated(saved, model)
        where = None if rows is None else "held out from training, which only calibrated the spread on them"
    else:
        rows, where = find_held_out(model.adata, options.split_key)
    settings = saved.settings | {"model": folder.resolve().name}
    if saved.made is not None:
        settings = settings | {"data": Path(saved.made.data).name, "trained with chipvi": saved.made.chipvi}
    if options.data is not None:
        settings = settings | {"data": options.data.name}
    name = Path(settings["data"]).stem if "data" in settings else None
    with quiet_lightning():
        page = make_page(model, name, None, rows, where, settings, lambda line: print_line(line, console))
    write_whole(page.text, options.out)
    print_line(f"Wrote: {options.out}, {len(page.text) / 1e6:.1f} MB; open it in a browser.", console)
    if options.multiqc is not None:
        write_whole(multiqc_content(page.diagnosis), options.multiqc)
        print_line(f"Wrote: {options.multiqc}; MultiQC finds it.", console)


def find_validated(saved: Saved, model: ChipVI) -> np.ndarray | None:
    """Rows that `chipvi train` held out of these data, drawn once more with its seed; None if it held out none.

    Of other data than those of training nothing was held out.
    """
    size, seed = saved.settings.get("validation_size"), saved.settings.get("seed")
    if not size or seed is None or saved.made is None or not saved.made.is_of(model.data):
        return None
    rows = draw_validation(model, size, seed)
    return rows if len(rows) else None


def find_held_out(adata: AnnData, key: str) -> tuple[np.ndarray, str]:
    """Rows labelled "test", or else those to validate on, and what they are, in words.

    Raises
    ------
    ValueError
        If there is no such column, or no such label in it.
    """
    import numpy as np

    from ..data.splits import check_labels
    from ..data.track_data import names_of_columns

    if key not in adata.obs:
        raise ValueError(unknown("column", key, names_of_columns(adata), "the data's obs"))
    check_labels(adata.obs[key])
    label_r = adata.obs[key].astype(str).to_numpy()
    label = next((label for label in _JUDGED if (label_r == label).any()), None)
    if label is None:
        raise ValueError(
            f"column {key!r} of obs must label regions test or valid, to judge on; "
            f"it holds {listed(np.unique(label_r))}."
        )
    rows = np.flatnonzero(label_r == label)
    return rows, f"regions that column {key} labels {label}, held out if that column was the split of training"
