"""One picture of all tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .jobs import BASELINES
from .tables import TITLES, methods_with_scores, over_seeds, per_track

COLOURS = {"chipvi": "#2f6db3", "baseline": "#7b858f", "peer": "#d9722e"}
LOWEST = {"r2": -0.5}  # worse scores stand at the edge, as arrows
LABELS = {"r2": "R²", "crps": "CRPS (less is better)"}


def draw(raw: pd.DataFrame) -> Figure:
    """A panel per task: a dot per track, a diamond with bars for the mean over tracks and its spread over seeds."""
    titles = [title for title in TITLES if methods_with_scores(raw, title)]
    n_rows = -(-len(titles) // 2)
    figure = Figure(figsize=(10, 0.5 + 2.2 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, 2, squeeze=False).ravel()
    for ax, title in zip(axes, titles, strict=False):
        draw_task(ax, raw, title, "crps" if title == "calibration" else "r2")
    for ax in axes[len(titles) :]:
        ax.axis("off")
    figure.legend(handles=legend(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def kind(method: str) -> str:
    return "chipvi" if method == "chipvi" else "baseline" if method in BASELINES else "peer"


def draw_task(ax: Axes, raw: pd.DataFrame, title: str, metric: str) -> None:
    tracks, means = per_track(raw, title, metric), over_seeds(raw, title, metric)
    lowest = LOWEST.get(metric, -np.inf)
    for place, method in enumerate(tracks):
        colour = COLOURS[kind(method)]
        values = tracks[method].dropna().to_numpy()
        inside = values >= lowest
        ax.scatter(values[inside], np.full(inside.sum(), place), s=16, color=colour, alpha=0.45, linewidths=0)
        if not inside.all():
            ax.scatter(lowest, place, s=26, marker="<", color=colour, alpha=0.45, linewidths=0)
        mean, spread = means.loc[method]
        if mean < lowest:
            ax.text(1.02, place, f"mean\n{mean:.2f}", va="center", fontsize=7, color=colour)
            continue
        ax.errorbar(mean, place, xerr=0 if np.isnan(spread) else spread, color=colour, capsize=3, linewidth=1.5)
        ax.scatter(mean, place, s=44, marker="D", color=colour, edgecolors="white", linewidths=0.8, zorder=3)
    ax.set_yticks(range(tracks.shape[1]), list(tracks), fontsize=8)
    ax.set_ylim(tracks.shape[1] - 0.5, -0.5)
    if metric == "r2":
        ax.set_xlim(lowest - 0.06, 1)
        ax.axvline(0, color="#c6ccd2", linewidth=0.8, zorder=0)
    ax.grid(axis="x", color="#eceef0")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_title(title, fontsize=9, loc="left", fontweight="bold")
    ax.set_xlabel(LABELS[metric], fontsize=8)


def legend() -> list[Line2D]:
    """What dot, diamond, arrow and colours mean."""
    grey, none = "#444444", {"linestyle": "none"}
    kinds = [Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in COLOURS.items()]
    return [
        *kinds,
        Line2D([], [], color=grey, marker="o", markersize=4, alpha=0.5, label="a track", **none),
        Line2D([], [], color=grey, marker="D", markersize=6, label="mean ± s.d. over seeds", **none),
        Line2D([], [], color=grey, marker="<", markersize=5, alpha=0.5, label="off the scale", **none),
    ]
