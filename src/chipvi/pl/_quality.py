"""Quality per track."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._arguments import checked
from ._style import (
    BLUE,
    DARK,
    GREY,
    LIGHT,
    WORST_R2,
    Finish,
    Path,
    Size,
    documented,
    finished,
    legend_above,
    sized,
    strip,
)

_SCORES = {"pearson": "Pearson", "r2": "R²"}
_MEAN = "macro_mean"


@documented
@checked
def quality(
    table: pd.DataFrame,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
) -> Figure:
    """Draw how well each track is imputed, beside the average of the other biosamples.

    Parameters
    ----------
    table
        A row per track, with `pearson` and `r2` of the imputation and, for the average of the other biosamples,
        `average_pearson` and `average_r2`. What is absent, or NaN, is not drawn; a row `macro_mean` is set apart.
    %(figure)s

    Returns
    -------
    The figure. A score below -0.5 is drawn as a triangle at the edge.

    Raises
    ------
    ValueError
        If the table has neither score.
    """
    scores = [name for name in _SCORES if name in table]
    if not scores:
        raise ValueError(f"the table must have a column pearson or r2; it has {', '.join(map(str, table.columns))}.")
    is_mean = table.index.to_numpy() == _MEAN
    y = np.arange(len(table)) + 0.5 * is_mean
    figure = Figure(figsize=sized(figsize, (1.8 + 3.0 * len(scores), 1.2 + 0.24 * len(table))), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    handles: dict[str, Artist] = {}
    for ax, name in zip(axes, scores, strict=True):
        model = table[name].to_numpy(dtype=np.float64)
        average = table.get(f"average_{name}", pd.Series(np.nan, table.index)).to_numpy(dtype=np.float64)
        ax.hlines(y, *np.maximum([average, model], WORST_R2), color=GREY, linewidth=2, zorder=1)
        _dots(ax, average, y, "average of the other biosamples", "white", "#7f868d")
        _dots(ax, model, y, "imputed", BLUE, BLUE)
        ax.set_title(_SCORES[name], fontsize=9, loc="left")
        ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        ax.grid(axis="y", color=LIGHT)
        ax.set_axisbelow(True)
        strip(ax)
        artists, labels = ax.get_legend_handles_labels()
        handles |= dict(zip(labels, artists, strict=True))
    names = ["mean over tracks" if mean else str(name) for name, mean in zip(table.index, is_mean, strict=True)]
    axes[0].set_yticks(y, names, fontsize=8, color=DARK)
    axes[0].set_ylim(y.max() + 0.7, -0.7)
    legend_above(figure, handles.values())
    return finished(figure, Finish(title, save, show))


def _dots(ax: Axes, x: np.ndarray, y: np.ndarray, label: str, face: str, edge: str) -> None:
    """Draw a dot per track, or a triangle at the edge for what lies beyond it; nothing where there is no score."""
    for chosen, marker, name in ((x >= WORST_R2, "o", label), (x < WORST_R2, "<", None)):
        if chosen.any():
            x_shown = np.maximum(x[chosen], WORST_R2)
            ax.scatter(x_shown, y[chosen], s=34, c=face, marker=marker, edgecolor=edge, zorder=2, label=name)
