"""Calibration per track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from .._arguments import checked
from .._messages import counted
from ..evaluate.diagnosis import Diagnosis
from ..evaluate.verdicts import BAR, Level, Spread, TrackVerdict
from ..evaluate.words import level_words, spread_words
from ._style import BLUE, DARK, GREY, LIGHT, ORANGE, Finish, Path, Size, documented, finished, fitting, sized, strip

_COLUMNS = 5
_MOST = 2.5  # height from which on bars are cut off, so that the others can be read
_LEAST = 1.6  # to which the axis reaches, so that what is flat looks flat


@documented
@checked
def calibration(
    diagnosis: Diagnosis,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
) -> Figure:
    """Draw how often measured values fall into each tenth of what was predicted for them, track by track.

    This is the histogram of the probability integral transform (PIT). Bars are as high as the line where predictions
    are calibrated. High on both sides, predictions claim too little spread; high in the middle, too much; high on the
    left, they are too high, on the right, too low. The shaded band is what is taken for
    right; orange marks a track whose mean or spread is not, grey one that cannot be judged.

    Parameters
    ----------
    diagnosis
        Of :meth:`chipvi.ChipVI.diagnose`.
    %(figure)s

    Returns
    -------
    The figure, with a panel per row of the table. A bar above 2.5 is cut off, with its height written on it.
    """
    return finished(draw_calibration(diagnosis, together=False, figsize=figsize), Finish(title, save, show))


@dataclass(frozen=True, eq=False)
class _Panel:
    """A panel: its title, the colour of its bars, and bars of a track or of several, tracks x tenths."""

    title: str
    colour: str
    bars_tk: np.ndarray


def draw_calibration(diagnosis: Diagnosis, together: bool, figsize: Size | None = None) -> Figure:
    """As :func:`calibration`; `together` draws all tracks that are right in one panel, if there are several."""
    panels = _find_panels(diagnosis, together)
    size = None if figsize is None else sized(figsize, (0, 0))
    n_columns = fitting(1.9, size, min(_COLUMNS, len(panels)))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=sized(figsize, (0.6 + 1.9 * max(n_columns, 2), 0.5 + 1.45 * n_rows)), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _draw(ax, panel)
    highest = max(panel.bars_tk.max() for panel in panels)
    axes[0].set_ylim(0, min(_MOST, max(_LEAST, 1.1 * highest)))
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax in axes[len(panels) - n_columns : len(panels)]:  # also above what was removed
        ax.tick_params(labelbottom=True)
    figure.supxlabel("where a value lies in what was predicted for it, from lowest to highest", fontsize=8, color=DARK)
    figure.supylabel("how often (1: as it should)", fontsize=8, color=DARK)
    return figure


def _find_panels(diagnosis: Diagnosis, together: bool) -> list[_Panel]:
    table, bars = diagnosis.table, diagnosis.pit.to_numpy()
    has_both, right, panels = table["quantity"].nunique() > 1, [], []
    for name, verdict, heights in zip(table.index, diagnosis.verdicts, bars, strict=True):
        if together and verdict.level is Level.RIGHT and verdict.spread is Spread.RIGHT:
            right.append(heights)
        else:
            title = f"{name}, {verdict.quantity}" if has_both else str(name)
            panels.append(_Panel(f"{title}\n{_words(verdict)}", _colour(verdict), heights[None]))
    if right:
        panels.append(_Panel(f"{counted(len(right), 'track')}\nright", BLUE, np.array(right)))
    return panels


def _draw(ax: Axes, panel: _Panel) -> None:
    edges = np.linspace(0, 1, panel.bars_tk.shape[1] + 1)
    ax.axhspan(1 - BAR, 1 + BAR, color=LIGHT, linewidth=0)
    is_one = len(panel.bars_tk) == 1
    if is_one:
        ax.stairs(panel.bars_tk[0], edges, fill=True, color=panel.colour, alpha=0.75)
    else:
        for heights in panel.bars_tk:
            ax.stairs(heights, edges, baseline=None, color=panel.colour, alpha=0.6, linewidth=0.9)
    ax.axhline(1, color=DARK, linewidth=0.8)
    for height, left in zip(panel.bars_tk.max(axis=0), edges, strict=False):
        if height > _MOST:
            ax.text(
                left + 0.05,
                _MOST,
                f"{height:.1f}",
                fontsize=6,
                ha="center",
                va="top",
                color="white" if is_one else DARK,
            )
    ax.set_title(panel.title, fontsize=7.5, loc="left", color=DARK)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.yaxis.set_major_locator(MultipleLocator(1))
    strip(ax)


def _words(verdict: TrackVerdict) -> str:
    """What is off: the mean, and where it is not, the spread."""
    return f"mean {level_words(verdict)}" if verdict.level in (Level.HIGH, Level.LOW) else spread_words(verdict)


def _colour(verdict: TrackVerdict) -> str:
    if verdict.level in (Level.HIGH, Level.LOW):
        return ORANGE
    return {Spread.RIGHT: BLUE, Spread.UNCERTAIN: GREY, Spread.TOO_FEW: GREY}.get(verdict.spread, ORANGE)
