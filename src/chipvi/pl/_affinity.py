"""Which biosamples are predicted from which."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from .._arguments import checked
from ._style import BLUE, DARK, Finish, Path, Size, documented, finished, finished_within, require_one_size, sized

_MOST_WITH_VALUES = 15  # biosamples; with more, numbers would be too small to read
_COLOURS = LinearSegmentedColormap.from_list("affinity", ["white", BLUE, "#16304f"])


@runtime_checkable
class Model(Protocol):
    """The part of a :class:`chipvi.ChipVI` that is used here."""

    def get_biosample_affinity(self) -> pd.DataFrame:
        """Weights, biosamples x biosamples."""


@documented
@checked
def affinity(
    model_or_table: Model | pd.DataFrame,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the weights with which each biosample is predicted from the others, relatives beside each other.

    A row is a biosample that is predicted, a column one that it is predicted from. Biosamples are ordered by average
    linkage of the mean of both directions. Replicates are pairs of dark squares beside the diagonal, families are
    blocks; rows of one shade are biosamples without relatives. The shade goes with the root of the weight, so that
    small weights can be distinguished.

    Parameters
    ----------
    model_or_table
        A trained :class:`chipvi.ChipVI`, or what its `get_biosample_affinity` returns: weights from 0 to 1, with the
        same biosamples as rows and columns.
    %(figure)s
    ax
        Axes to draw into; by default a figure is made.

    Returns
    -------
    The figure, that of `ax` if it is given. Up to 15 biosamples have their weights written, in percent.

    Raises
    ------
    ValueError
        If rows and columns are not the same biosamples, or there is a weight that is no number from 0 to 1; and for
        `figsize` with `ax`, which has a size.

    Examples
    --------
    >>> import pandas as pd
    >>> names = ["neuron_1", "neuron_2", "oligo_1"]
    >>> table = pd.DataFrame([[0, 0.9, 0.1], [0.8, 0, 0.2], [0.5, 0.5, 0]], index=names, columns=names)
    >>> figure = affinity(table)
    """
    require_one_size(figsize, ax)
    given = model_or_table
    table = _checked(given if isinstance(given, pd.DataFrame) else given.get_biosample_affinity())
    order = _order(table.to_numpy())
    names, weight_bb = table.index[order].astype(str), table.to_numpy()[np.ix_(order, order)]
    if ax is not None:
        _draw(ax, names, weight_bb)
        return finished_within(ax, Finish(title, save, show))
    n = len(names)
    side = n * (0.34 if n <= _MOST_WITH_VALUES else 0.16)  # of the squares, in inches
    reach = 0.075 * max(map(len, names))  # of the labels
    figure = Figure(
        figsize=sized(figsize, (2.2 + reach + max(side, 1.7), 0.5 + reach + max(side, 1.7))), layout="compressed"
    )
    _draw(figure.add_subplot(), names, weight_bb)
    return finished(figure, Finish(title, save, show))


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """The table in float64, its columns in the order of its rows."""
    if set(table.index) != set(table.columns) or not table.index.is_unique or not table.columns.is_unique:
        raise ValueError(
            "the table must have the same biosamples as rows and as columns, each once; got "
            f"{table.shape[0]} rows and {table.shape[1]} columns. Pass what get_biosample_affinity returns."
        )
    table = table[list(table.index)].astype(np.float64)
    off = ~((table >= 0) & (table <= 1 + 1e-6))
    if off.any(axis=None):
        row, column = (int(place) for place in np.argwhere(off.to_numpy())[0])
        raise ValueError(
            f"weights must be numbers from 0 to 1; that of {table.columns[column]} in the row {table.index[row]} is "
            f"{table.iat[row, column]}."
        )
    return table


def _order(weight_bb: np.ndarray) -> np.ndarray:
    """Order in which close relatives follow each other."""
    if len(weight_bb) < 3:
        return np.arange(len(weight_bb))
    distance_bb = 1 - (weight_bb + weight_bb.T) / 2
    np.fill_diagonal(distance_bb, 0)
    return leaves_list(linkage(squareform(distance_bb), "average", optimal_ordering=True))


def _draw(ax: Axes, names: pd.Index, weight_bb: np.ndarray) -> None:
    n = len(names)
    image = ax.imshow(weight_bb, cmap=_COLOURS, norm=PowerNorm(0.5, 0, 1), interpolation="none")
    ax.set_xticks(range(n), names, rotation=90)
    ax.set_yticks(range(n), names)
    ax.tick_params(labelsize=8 if n <= _MOST_WITH_VALUES else 6.5, color=DARK, labelcolor=DARK, length=0)
    ax.spines[:].set_color(DARK)
    ax.set_xlabel("predicted from", fontsize=8, color=DARK)
    ax.set_ylabel("predicted biosample", fontsize=8, color=DARK)
    if n <= _MOST_WITH_VALUES:
        for (row, column), weight in np.ndenumerate(weight_bb):
            if row != column:
                colour = "white" if weight > 0.15 else DARK
                ax.text(column, row, f"{100 * weight:.0f}", fontsize=7, ha="center", va="center", color=colour)
    bar = ax.figure.colorbar(
        image,
        ax=ax,
        aspect=30,
        pad=0.02,
        ticks=[0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1],
        format=lambda share, _: f"{100 * share:.0f} %",
    )
    bar.ax.tick_params(labelsize=7, color=DARK, labelcolor=DARK, length=2.5)
    bar.outline.set_visible(False)
    bar.set_label("weight", fontsize=8, color=DARK)
