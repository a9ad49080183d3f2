"""What the pictures share. They are made without pyplot, so that none is left open behind the caller's back."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from .._files import written_whole
from ..io.bigwigs.colors import assay_color

LIGHT, GREY, DARK = "#eceef0", "#c6ccd2", "#3c4248"
BLUE, ORANGE, GREEN, PURPLE = "#2f6db3", "#d9722e", "#3a8f4b", "#7d5ba6"
WORST_R2 = -0.5  # further down, only that it is bad matters

Path = str | os.PathLike[str]


def assay_colour(assay: str) -> str:
    """Colour of an assay, that of the files for genome browsers."""
    red, green, blue = assay_color(assay)
    return to_hex((red / 255, green / 255, blue / 255))


def darker(colour: str) -> str:
    """Half of the light of a colour."""
    red, green, blue = to_rgb(colour)
    return to_hex((red / 2, green / 2, blue / 2))


def strip(ax: Axes) -> None:
    """Leave of the frame what is read: the axes below and on the left."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(DARK)
    ax.tick_params(labelsize=7, color=DARK, labelcolor=DARK, length=2.5)


def legend_above(figure: Figure, handles: Iterable[Artist]) -> None:
    """One legend for all panels, above them."""
    handles = list(handles)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)


def saved(figure: Figure, path: Path | None) -> Figure:
    """Write the figure, if a path is given, so that the file appears only once it is whole."""
    if path is not None:
        file = pathlib.Path(path)
        if not file.parent.is_dir():
            raise FileNotFoundError(f"save must name a file in a folder that is there; there is no {file.parent}.")
        with written_whole(file if file.suffix else file.with_name(f"{file.name}.png")) as partial:
            figure.savefig(partial, dpi=160)
    return figure
