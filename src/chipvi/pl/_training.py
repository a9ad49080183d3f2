"""Training curves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._style import BLUE, DARK, GREEN, LIGHT, ORANGE, PURPLE, Path, saved, strip

if TYPE_CHECKING:
    from ..model import ChipVI

_PANELS = {
    "Loss (nat per entry)": r"^(validation_)?(imp|obs)_.*_loss$",
    "R²": r"_r2$",
    "Pearson": r"_pcc$",
    "Gradient norm": r"^grad_norm",
    "Mean of the hidden counts": r"^(predicted|true)_mean$",
}
_CURVES = {
    "imp_count": ("hidden counts", BLUE),
    "obs_count": ("visible counts", ORANGE),
    "imp_pval": ("hidden signal", GREEN),
    "imp_signal": ("hidden signal", GREEN),
    "grad_norm": ("all", DARK),
    "grad_norm_trunk": ("trunk", BLUE),
    "grad_norm_count_head": ("count head", ORANGE),
    "grad_norm_signal_head": ("signal head", GREEN),
    "true_mean": ("true", "#9aa3ab"),
    "predicted_mean": ("predicted", BLUE),
}


def training(model_or_history: ChipVI | Mapping[str, pd.DataFrame], save: Path | None = None) -> Figure:
    """Draw how training went, by step.

    Panels show the loss, R2 and Pearson correlation of hidden and of visible entries, the norms of the gradients, and
    the predicted beside the true mean count. Validation is drawn with dots. What was not recorded is left out; an R2
    below -1 that is far below most others is cut off.

    Parameters
    ----------
    model_or_history
        A trained :class:`chipvi.ChipVI`, or its `history`.
    save
        Path to write the figure to.

    Returns
    -------
    The figure.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    given = model_or_history if isinstance(model_or_history, Mapping) else model_or_history.history
    history: Mapping[str, pd.DataFrame] = given or {}
    names = sorted(history, key=lambda name: list(_CURVES).index(_quantity(name)) if _quantity(name) in _CURVES else 99)
    panels = {
        title: {name: history[name].iloc[:, 0].dropna() for name in names if re.search(pattern, name)}
        for title, pattern in _PANELS.items()
    }
    panels = {title: curves for title, curves in panels.items() if any(map(len, curves.values()))}
    if not panels:
        raise ValueError("the history holds no training curve; train the model first.")
    n_columns = min(3, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(3.6 * n_columns, 3.0 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, (title, curves) in zip(axes, panels.items(), strict=False):
        _draw(ax, title, curves)
    for ax in axes[len(panels) :]:
        ax.remove()
    return saved(figure, save)


def _draw(ax: Axes, title: str, curves: dict[str, pd.Series]) -> None:
    if title == "Gradient norm":  # zero where a layer starts at zero
        curves = {name: curve[curve > 0] for name, curve in curves.items()}
    for name, curve in curves.items():
        is_validation = name.startswith("validation_")
        label, colour = _CURVES.get(_quantity(name), (_quantity(name).replace("_", " "), PURPLE))
        style: dict[str, Any]
        if is_validation:
            style = {"marker": "o", "markersize": 3, "linewidth": 1.2, "label": f"{label}, validation"}
        else:
            style = {"linewidth": 1.0, "alpha": 0.6 if f"validation_{name}" in curves else 1.0, "label": label}
        ax.plot(curve.index, curve, color=colour, **style)
    ax.set_title(title, fontsize=9, loc="left")
    ax.set_xlabel("step", fontsize=8)
    ax.grid(axis="y", color=LIGHT)
    ax.set_axisbelow(True)
    strip(ax)
    if title == "Gradient norm" and any(map(len, curves.values())):
        ax.set_yscale("log")
    if title == "R²":  # the first steps may be so bad that nothing else could be told apart
        low, high = ax.get_ylim()
        median = float(pd.concat(list(curves.values())).median())
        ax.set_ylim(max(low, min(-1.0, median - 0.1)), high)
    ax.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _quantity(name: str) -> str:
    return re.sub(r"^validation_|_(loss|r2|pcc)$", "", name)
