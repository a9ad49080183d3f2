"""What the pictures share. They are made without pyplot, so that none is left open behind the caller's back."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties

from .._docstrings import documented as documented_with
from .._files import written_whole
from ..io.bigwigs.colors import assay_color

LIGHT, GREY, DARK = "#eceef0", "#c6ccd2", "#3c4248"
BLUE, ORANGE, GREEN, PURPLE = "#2f6db3", "#d9722e", "#3a8f4b", "#7d5ba6"
WORST_R2 = -0.5  # further down, only that it is bad matters

_LEGEND_WIDTH = 1.4  # inches of an entry

Path = str | os.PathLike[str]
Size = tuple[float, float]

documented = documented_with(
    {
        "figure": """save
    Path to write the figure to.
figsize
    Width and height in inches; by default what the panels need.
title
    Above the figure.
show
    Open the figure by pyplot. A notebook shows what is returned, if it is the last value of a cell."""
    }
)


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


def legend_above(figure: Figure | SubFigure, handles: Iterable[Artist]) -> None:
    """One legend for all panels, above them, in as many lines as the width of the figure needs."""
    handles = list(handles)
    n_columns = max(1, min(len(handles), int(figure.bbox.width / figure.dpi / _LEGEND_WIDTH)))
    figure.legend(handles=handles, loc="outside upper center", ncols=n_columns, frameon=False, fontsize=8)


@dataclass(frozen=True)
class Finish:
    """What becomes of a figure that is drawn.

    Parameters
    ----------
    title
        A line above it, if any.
    save
        Path to write it to, if any.
    show
        Whether pyplot opens it.
    """

    title: str | None
    save: Path | None
    show: bool


def sized(figsize: Size | None, default: Size) -> Size:
    """Width and height that are asked for, or else the default."""
    size = default if figsize is None else tuple(figsize)
    if len(size) != 2 or not all(isinstance(inches, int | float) and 0 < inches < 1_000 for inches in size):
        raise ValueError(f"figsize must be width and height in inches, such as (9, 4); got {figsize!r}.")
    return size


def canvas(ax: Axes | None, figsize: Size | None, default: Size) -> Figure | SubFigure:
    """A figure of its own, of a size asked for or the default, or one in the place that axes have in a grid."""
    if ax is None:
        return Figure(figsize=sized(figsize, default), layout="constrained")
    require_one_size(figsize, ax)
    spec = ax.get_subplotspec()
    if spec is None:
        raise ValueError("ax must be axes of a grid, as subplots makes them, for several panels take its place.")
    ax.set_axis_off()
    return ax.figure.add_subfigure(spec)


def fitting(width: float, figsize: Size | None, most: int) -> int:
    """Columns of panels that are so many inches wide: as many as a size asked for has room for, and no more."""
    return most if figsize is None else max(1, min(most, int(figsize[0] / width)))


def require_one_size(figsize: Size | None, ax: Axes | None) -> None:
    """Refuse a size for axes that are given, and have one."""
    if figsize is not None and ax is not None:
        raise ValueError("figsize is that of a figure of its own, and ax has a figure; give one of them.")


def figure_of(part: Axes | SubFigure | Figure) -> Figure:
    """The whole figure that axes or a part of it belong to."""
    figure = part.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def finished_within(ax: Axes, finish: Finish) -> Figure:
    """Finish what was drawn into given axes, of whose figure pyplot may know already."""
    if finish.title is not None:
        ax.set_title(finish.title, fontsize=10, color=DARK, pad=22)
    return finished(figure_of(ax), replace(finish, title=None))


def finished(figure: Figure | SubFigure, finish: Finish) -> Figure:
    """Finish a figure, or one within a figure. A file appears only once it is whole."""
    if finish.title is not None and figure.legends:  # which stands where a title would
        figure.legends[0].set_title(finish.title, prop=FontProperties(size=10))
    elif finish.title is not None:
        figure.suptitle(finish.title, fontsize=10, color=DARK)
    whole = figure_of(figure)
    _save(whole, finish.save)
    if finish.show:
        _show(whole)
    return whole


def _save(figure: Figure, path: Path | None) -> None:
    if path is not None:
        file = pathlib.Path(path)
        if not file.parent.is_dir():
            raise FileNotFoundError(f"save must name a file in a folder that is there; there is no {file.parent}.")
        with written_whole(file if file.suffix else file.with_name(f"{file.name}.png")) as partial:
            figure.savefig(partial, dpi=160)


def _show(figure: Figure) -> None:
    """Open a figure by pyplot, which does not know it if it was made here."""
    from matplotlib import pyplot

    if figure.canvas.manager is None:
        manager = pyplot.figure(figsize=figure.get_size_inches()).canvas.manager
        assert manager is not None
        manager.canvas.figure = figure
        figure.set_canvas(manager.canvas)
    pyplot.show()
