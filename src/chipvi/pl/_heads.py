"""Count heads side by side."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .._arguments import checked
from ._style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PURPLE,
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

_COLOURS = {
    "mean_dispersion": BLUE,
    "count_logits": GREEN,
    "zero_inflated": PURPLE,
    "poisson": ORANGE,
    "clamped_np": "#c8322b",
}
_OTHER_HEAD, _NO_MODEL = "#5d6d7e", "#7f868d"
_SCORES = {
    "r2": "R²",
    "pearson": "Pearson",
    "nll": "NLL (nat), lower is better",
    "crps": "CRPS (reads), lower is better",
}
_LEAST_WIDTH = 0.05  # of an axis, as a share of the score, so that nothing small looks large


@runtime_checkable
class Comparison(Protocol):
    """What is drawn of a :class:`chipvi.compare.HeadComparison`."""

    @property
    def table(self) -> pd.DataFrame:
        """A row per head, and the references."""

    @property
    def runs(self) -> pd.DataFrame:
        """A row per head and seed."""

    @property
    def curves(self) -> pd.DataFrame:
        """Held-out R2 by head, seed and step."""


@documented
@checked
def heads(
    comparison: Comparison,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
) -> Figure:
    """Draw a comparison of count heads.

    Above: R2 on held-out regions by step, a line per seed. Below: each score of each head, a small dot per seed, a
    large one for their mean, with a bar of one standard deviation to either side; `marginal` and `average`, which need
    no model, are hollow. The axes are as wide as the heads need; what lies beyond has
    its value at the edge.

    Parameters
    ----------
    comparison
        Of :func:`chipvi.compare_heads`.
    %(figure)s

    Returns
    -------
    The figure.
    """
    table, names = comparison.table, list(comparison.table.index)
    figure = Figure(figsize=sized(figsize, (10, 4.4 + 0.3 * len(names))), layout="constrained")
    axes = figure.subplot_mosaic([["curves"] * len(_SCORES), list(_SCORES)], height_ratios=[3.2, 1 + 0.3 * len(names)])
    _draw_curves(axes["curves"], comparison)
    for name, score in _SCORES.items():
        ax = axes[name]
        _draw_score(ax, name, comparison)
        ax.set_title(score, fontsize=9, loc="left")
        ax.set_yticks(range(len(names)), [_label(table, head) if name == "r2" else "" for head in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.tick_params(axis="y", labelsize=8, length=0)
    trained = list(dict.fromkeys(comparison.runs["head"]))
    legend_above(figure, [Line2D([], [], color=_colour(head), linewidth=1.6, label=head) for head in trained])
    return finished(figure, Finish(title, save, show))


def _draw_curves(ax: Axes, comparison: Comparison) -> None:
    curves = comparison.curves
    for (head, _), curve in curves.groupby(["head", "seed"], sort=False):
        ax.plot(curve["step"], curve["r2"], color=_colour(head), linewidth=1.0, alpha=0.8)
    ax.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, WORST_R2), max(high, 0.1))
    ax.set_title("R² on held-out regions while training, several tracks hidden at a time", fontsize=9, loc="left")
    ax.set_xlabel("step", fontsize=8)
    ax.grid(axis="y", color=LIGHT)
    ax.set_axisbelow(True)
    strip(ax)


def _draw_score(ax: Axes, name: str, comparison: Comparison) -> None:
    table = comparison.table
    low, high = _limits(comparison, name)
    ax.set_xlim(low, high)
    for y, (head, row) in enumerate(table.iterrows()):
        runs = comparison.runs[comparison.runs["head"] == head]
        mean, colour = row[name], _colour(head) if len(runs) else _NO_MODEL
        if np.isnan(mean):
            continue
        if not low <= mean <= high:
            _point_beyond(ax, y, mean, colour)
            continue
        ax.hlines(y, mean - row[f"{name}_sd"], mean + row[f"{name}_sd"], color=colour, linewidth=1.6)
        ax.scatter(runs[name], np.full(len(runs), y + 0.25), s=7, color=colour, linewidth=0)
        face = colour if len(runs) else "white"
        ax.scatter(mean, y, s=28, c=face, edgecolor=colour, marker="o" if len(runs) else "D", zorder=3)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.grid(axis="y", color=LIGHT)
    ax.set_axisbelow(True)
    strip(ax)


def _point_beyond(ax: Axes, y: int, value: float, colour: str) -> None:
    """Draw a triangle at the edge towards a value that is off the axis, and write the value."""
    is_left = value < ax.get_xlim()[0]
    ax.annotate(
        f"◂ {value:.2f}" if is_left else f"{value:.2f} ▸",
        (0 if is_left else 1, y),
        xytext=(3 if is_left else -1, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="center",
        fontsize=7,
        color=colour,
    )


def _limits(comparison: Comparison, name: str) -> tuple[float, float]:
    """Limits that show how the heads differ: not wider for what no model is needed for, or for a head that is worse."""
    values, marginal = comparison.runs[name], comparison.table.loc["marginal", name]
    better = values[values > 0 if name in ("r2", "pearson") else values < marginal]
    values = (better if len(better) else values).dropna()
    if not len(values):
        return 0.0, 1.0
    middle, width = (values.max() + values.min()) / 2, values.max() - values.min()
    half = 0.6 * max(width, _LEAST_WIDTH * abs(middle))
    return middle - half, middle + half


def _label(table: pd.DataFrame, head: str) -> str:
    return f"{head} (diverged)" if table.loc[head, "diverged"] > 0 else head


def _colour(head: str) -> str:
    return _COLOURS.get(head, _OTHER_HEAD)
