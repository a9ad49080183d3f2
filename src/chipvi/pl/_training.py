"""Training curves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from .._arguments import WrongArgument, checked
from ._style import (
    BLUE,
    DARK,
    GREEN,
    LIGHT,
    ORANGE,
    PURPLE,
    Finish,
    Path,
    Size,
    documented,
    finished,
    fitting,
    sized,
    strip,
)

if TYPE_CHECKING:
    from ..model.chipvi import ChipVI

_PANELS = {
    "Loss (nat per entry)": r"^(validation_)?(imp|obs)_.*_loss$",
    "R²": r"_r2$",
    "Pearson": r"_pcc$",
    "Gradient norm": r"^grad_norm",
    "Mean of the hidden counts": r"^(predicted|true)_mean$",
    "Share at a clamp or floor": r"^(clamped|floored)_",
    "Active latents": r"^active_latents$",
}
_BY_TRACK = "Predicted over true mean, by track"
_FAINT = "#9aa3ab"
_CURVES = {
    "imp_count": ("hidden counts", BLUE),
    "obs_count": ("visible counts", ORANGE),
    "imp_pval": ("hidden signal", GREEN),
    "imp_signal": ("hidden signal", GREEN),
    "grad_norm": ("all", DARK),
    "grad_norm_trunk": ("trunk", BLUE),
    "grad_norm_count_head": ("count head", ORANGE),
    "grad_norm_signal_head": ("signal head", GREEN),
    "true_mean": ("true", _FAINT),
    "predicted_mean": ("predicted", BLUE),
    "clamped_mean": ("mean", BLUE),
    "clamped_dispersion": ("dispersion", ORANGE),
    "clamped_logit": ("logit", DARK),
    "clamped_count": ("count", _FAINT),
    "clamped_zero_logit": ("zero logit", PURPLE),
    "floored_std": ("spread of the signal", GREEN),
    "active_latents": ("active latents", PURPLE),
}


@documented
@checked
def training(
    model_or_history: ChipVI | Mapping[str, pd.DataFrame],
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
) -> Figure:
    """Draw how training went, by step.

    Panels show the loss, R2 and Pearson correlation of hidden and of visible entries, the norms of the gradients, the
    predicted beside the true mean count, the share of entries at a clamp or floor, the number of active latents, and
    the predicted over the true mean of each track, the one that ends farthest off by name. Validation is drawn with
    dots. What was not recorded is left out; an R2 below -1 that is far below most others is cut off.

    Parameters
    ----------
    model_or_history
        A trained :class:`chipvi.ChipVI`, or its `history`.
    %(figure)s

    Returns
    -------
    The figure.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not isinstance(model_or_history, Mapping) and not hasattr(model_or_history, "history"):
        raise WrongArgument(
            f"model_or_history must be a ChipVI or its history; it is a {type(model_or_history).__name__}."
        )
    given = model_or_history if isinstance(model_or_history, Mapping) else model_or_history.history
    history: Mapping[str, pd.DataFrame] = given or {}
    wrong = next((name for name, table in history.items() if not isinstance(table, pd.DataFrame)), None)
    if wrong is not None:
        raise WrongArgument(f"model_or_history must hold tables; {wrong!r} is a {type(history[wrong]).__name__}.")
    names = sorted(history, key=lambda name: list(_CURVES).index(_quantity(name)) if _quantity(name) in _CURVES else 99)
    panels = {
        panel: {name: history[name].iloc[:, 0].dropna() for name in names if re.search(pattern, name)}
        for panel, pattern in _PANELS.items()
    }
    panels[_BY_TRACK] = _ratios(history)
    panels = {panel: curves for panel, curves in panels.items() if any(map(len, curves.values()))}
    if not panels:
        raise ValueError("the history holds no training curve; train the model first.")
    n_columns = fitting(3.4, None if figsize is None else sized(figsize, (0, 0)), min(3, len(panels)))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=sized(figsize, (3.6 * n_columns, 3.0 * n_rows)), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, (panel, curves) in zip(axes, panels.items(), strict=False):
        (_draw_ratios if panel == _BY_TRACK else _draw)(ax, panel, curves)
    for ax in axes[len(panels) :]:
        ax.remove()
    return finished(figure, Finish(title, save, show))


def _draw(ax: Axes, title: str, curves: dict[str, pd.Series]) -> None:
    if title == "Gradient norm":  # zero where a layer starts at zero
        curves = {name: curve[curve > 0] for name, curve in curves.items()}
    for name, curve in curves.items():
        is_validation = name.startswith("validation_")
        label, colour = _CURVES.get(_quantity(name), (_quantity(name).replace("_", " "), PURPLE))
        style: dict[str, Any]
        if is_validation:
            style = {"linewidth": 1.2, "label": f"{label}, validation"}
        else:
            style = {"linewidth": 1.0, "alpha": 0.6 if f"validation_{name}" in curves else 1.0, "label": label}
        if is_validation or len(curve) == 1:  # a line needs two points
            style |= {"marker": "o", "markersize": 3}
        ax.plot(curve.index, curve, color=colour, **style)
    if title == "Gradient norm" and any(map(len, curves.values())):
        ax.set_yscale("log")
        ax.tick_params(which="minor", labelsize=7)
    if title == "R²":  # the first steps may be so bad that nothing else could be made out
        low, high = ax.get_ylim()
        median = float(pd.concat(list(curves.values())).median())
        ax.set_ylim(max(low, min(-1.0, median - 0.1)), high)
    if title in ("Share at a clamp or floor", "Active latents"):
        high = max(0.1, ax.dataLim.y1)
        ax.set_ylim(-0.03 * high, 1.08 * high)  # what stays at 0 is to be seen
    _finish(ax, title)


def _draw_ratios(ax: Axes, title: str, curves: dict[str, pd.Series]) -> None:
    worst = max(curves, key=lambda track: abs(float(np.log(curves[track].iloc[-1]))))
    for track, curve in curves.items():
        is_worst = track == worst
        ax.plot(
            curve.index,
            curve,
            color=ORANGE if is_worst else _FAINT,
            linewidth=1.2 if is_worst else 0.6,
            zorder=3 if is_worst else 2,
            label=track if is_worst else "_",
        )
    ax.axhline(1, color=DARK, linewidth=0.8, linestyle=":")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.5), max(high, 2.0))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    _finish(ax, title)


def _finish(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=9, loc="left")
    ax.set_xlabel("step", fontsize=8)
    ax.grid(axis="y", color=LIGHT)
    ax.set_axisbelow(True)
    strip(ax)
    ax.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _ratios(history: Mapping[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Predicted over true mean of each track, where both are above 0, but for the first step: one minibatch only."""
    if "predicted_mean_by_track" not in history:
        return {}
    predicted, true = history["predicted_mean_by_track"], history["true_mean_by_track"]
    curves = {}
    for column in predicted:
        track = column.partition(".")[2]
        means = pd.concat([predicted[column], true[f"true_mean_by_track.{track}"]], axis=1).iloc[1:]
        means = means[(means > 0).all(axis=1)]
        if len(means):
            curves[track] = means.iloc[:, 0] / means.iloc[:, 1]
    return curves


def _quantity(name: str) -> str:
    return re.sub(r"^validation_|_(loss|r2|pcc)$", "", name)
