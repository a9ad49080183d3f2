"""One panel of a browser-like picture: the counts of a track, or its signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ._style import DARK, GREY, darker, strip

_DOTTED: dict[str, Any] = {"color": "black", "linewidth": 1.0, "linestyle": ":"}
_DASHED: dict[str, Any] = {"color": "#7f868d", "linewidth": 0.9, "linestyle": "--"}
_HATCHED: dict[str, Any] = {"facecolor": "#f4f5f6", "edgecolor": "#d5d9dd", "hatch": "////", "linewidth": 0}
# In the order of drawing: counts lie on the band, lines on both.
LEGEND = {
    "interval": Patch(color=DARK, alpha=0.15, linewidth=0, label="interval"),
    "observed": Patch(color=GREY, label="observed"),
    "imputed": Line2D([], [], color="#8b939b", linewidth=1.6, label="imputed"),
    "denoised": Line2D([], [], color=DARK, linewidth=1.0, label="denoised"),
    "true rate": Line2D([], [], **_DOTTED, label="true rate"),
    "average": Line2D([], [], **_DASHED, label="average of others"),
    "missing": Patch(**_HATCHED, label="not measured"),
}


@dataclass(frozen=True, eq=False)
class Panel:
    """What to draw of a track.

    Parameters
    ----------
    label
        Beside the panel, a line each.
    colour
        Of the assay.
    series
        Values of the regions by what they are: `observed`, `imputed`, `lower`, `upper`, `denoised`, `true rate`,
        `average`; NaN where there is none.
    is_signal
        Whether they are arcsinh(-log10 p) and not counts.
    """

    label: str
    colour: str
    series: Mapping[str, np.ndarray]
    is_signal: bool = False


def draw(ax: Axes, panel: Panel, edges: np.ndarray, places: np.ndarray) -> set[str]:
    """Fill a panel; returns what was drawn.

    Parameters
    ----------
    ax
        Where to draw.
    panel
        What to draw.
    edges
        Of the bins, which include the gaps between regions.
    places
        Bin of each region.
    """
    n_bins = len(edges) - 1
    series = {name: _spread(values, places, n_bins) for name, values in panel.series.items()}
    series = {name: values for name, values in series.items() if not np.isnan(values).all()}
    styles = _styles(panel.colour)
    if "lower" in series and "upper" in series:
        styles["interval"]["baseline"] = series["lower"]
        series["interval"] = series["upper"]
    drawn = [name for name in styles if name in series]
    for name in drawn:
        ax.stairs(series[name], edges, label=name, **styles[name])
    missing = _spread(np.where(np.isnan(panel.series["observed"]), 1.0, np.nan), places, n_bins)
    is_missing = not np.isnan(missing).all()
    if is_missing:
        ax.stairs(missing, edges, fill=True, zorder=0, label="missing", transform=ax.get_xaxis_transform(), **_HATCHED)
    aside = [name for name in ("interval", "average") if name in drawn]
    top = max(np.nanmax(series[name]) for name in drawn if name not in aside)
    if aside:  # as much of them as leaves the rest legible
        top = max(top, min(max(np.nanmax(series[name]) for name in aside), 1.4 * top))
    ax.set_ylim(0, 1.05 * top if top > 0 else 1)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    ax.set_ylabel(panel.label, rotation=0, ha="right", va="center", fontsize=8)
    strip(ax)
    if "observed" not in drawn:
        ax.set_title("not measured", loc="right", fontsize=7, color=DARK, pad=1)
    return {*drawn, "missing"} if is_missing else set(drawn)


def _styles(colour: str) -> dict[str, dict[str, Any]]:
    return {
        "interval": {"fill": True, "color": colour, "alpha": 0.15, "linewidth": 0},
        "observed": {"fill": True, "color": GREY},
        "imputed": {"baseline": None, "color": colour, "linewidth": 1.6},
        "denoised": {"baseline": None, "color": darker(colour), "linewidth": 1.0},
        "true rate": {"baseline": None, **_DOTTED},
        "average": {"baseline": None, **_DASHED},
    }


def _spread(values: np.ndarray, places: np.ndarray, n_bins: int) -> np.ndarray:
    """Values at the places of their regions; NaN, which is not drawn, in the gaps between regions."""
    spread = np.full(n_bins, np.nan)
    spread[places] = values
    return spread
