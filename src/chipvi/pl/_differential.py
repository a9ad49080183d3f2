"""What differs between two groups of biosamples."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from .. import _keys
from .._arguments import checked, require_whole
from .._messages import unknown
from ..io.genes import find_nearest
from ._style import (
    BLUE,
    DARK,
    GREY,
    LIGHT,
    ORANGE,
    Finish,
    Path,
    Size,
    canvas,
    documented,
    finished,
    legend_above,
    strip,
)

_MOST_POINTS = 20_000  # of each colour
_COLUMNS = 3
_MARGIN = 12  # widths of a region to either side of an interval
_CALLED = "is_de_fdr_"
_SMALLEST_P = 1e-300


@documented
@checked
def volcano(
    table: pd.DataFrame,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
) -> Figure:
    """Draw p-value over fold change, a panel per assay: regions that were called in colour, the others in grey.

    Parameters
    ----------
    table
        Of :meth:`chipvi.ChipVI.differential_signal`.
    %(figure)s

    Returns
    -------
    The figure. Of more than 20,000 regions of one colour, as many are drawn, spread over all.

    Raises
    ------
    ValueError
        For a table without a column that it needs.
    """

    def points(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        p_r = part["p_value"].to_numpy(np.float64)
        return part["lfc_mean"].to_numpy(np.float64), -np.log10(np.maximum(p_r, _SMALLEST_P))

    figure, axes = _scatter(table, points, ["lfc_mean", "p_value"], figsize)
    for ax in axes:
        ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        ax.set_ylim(0)
    figure.supxlabel(_fold_change(table), fontsize=8, color=DARK)
    figure.supylabel("-log10 p-value", fontsize=8, color=DARK)
    return finished(figure, Finish(title, save, show))


@documented
@checked
def ma(
    table: pd.DataFrame,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
) -> Figure:
    """Draw fold change over level, a panel per assay: regions that were called in colour, the others in grey.

    The grey ones should lie about 0 at every level. Where they do not, the groups differ in depth or enrichment in a
    way that was not taken out.

    Parameters
    ----------
    table
        Of :meth:`chipvi.ChipVI.differential_signal`.
    %(figure)s

    Returns
    -------
    The figure. Of more than 20,000 regions of one colour, as many are drawn, spread over all.

    Raises
    ------
    ValueError
        For a table without a column that it needs.
    """

    def points(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return np.sqrt(part["scale1"] * part["scale2"]).to_numpy(), part["lfc_mean"].to_numpy(np.float64)

    figure, axes = _scatter(table, points, ["lfc_mean", "scale1", "scale2"], figsize)
    for ax in axes:
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        ax.set_xscale("log")
    figure.supxlabel("denoised rate, mean of both groups (reads per region)", fontsize=8, color=DARK)
    figure.supylabel(_fold_change(table), fontsize=8, color=DARK)
    return finished(figure, Finish(title, save, show))


@documented
@checked
def differential_loci(
    table: pd.DataFrame,
    intervals: pd.DataFrame,
    n_loci: int = 6,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
    ax: Axes | None = None,
    gtf: Path | None = None,
) -> Figure:
    """Draw the intervals with the smallest p-values and what is around them.

    Lines are the denoised rates of the two groups, the pale areas their mean counts; the interval is shaded.

    Parameters
    ----------
    table
        Of :meth:`chipvi.ChipVI.differential_signal`, of regions with coordinates.
    intervals
        Of :func:`chipvi.differential.merge_regions`, one at least.
    n_loci
        How many to draw at most.
    %(figure)s
    ax
        Axes of a grid, such as of `subplots` (best with ``layout="constrained"``), whose place the panels take; by
        default a figure is made.
    gtf
        A GTF file, plain or compressed, of which the gene with the nearest start site is named at each interval.

    Returns
    -------
    The figure, that of `ax` if it is given, with a panel per interval, its own scale in each, and the false discovery
    rate of the interval if `intervals` has it.

    Raises
    ------
    ValueError
        For a table without a column that it needs, or no interval; for a `gtf` without genes; and for `figsize` with
        `ax`, which has a size.
    """
    require_whole("n_loci", n_loci, least=1)
    columns = [_keys.CHROM, _keys.START, _keys.END, _keys.ASSAY]
    _require(table, [*columns, "scale1", "scale2", "raw_mean1", "raw_mean2"], "table")
    _require(intervals, [*columns, "p_value"], "intervals")
    if not len(intervals):
        raise ValueError("intervals must hold at least one; nothing was called, so there is no locus to draw.")
    best = intervals.sort_values("p_value", kind="stable").head(n_loci)
    genes = _name_genes(best, gtf)
    figure, axes = _panels(len(best), 1.6, figsize, ax)
    for panel, interval, gene in zip(axes, best.itertuples(), genes, strict=True):
        here = table[(table[_keys.ASSAY] == interval.assay) & (table[_keys.CHROM] == interval.chrom)]
        margin = _MARGIN * (here[_keys.END] - here[_keys.START]).median()
        here = here[(here[_keys.START] < interval.end + margin) & (here[_keys.END] > interval.start - margin)]
        _draw_locus(panel, here, interval.start, interval.end)
        rate = f" (FDR {interval.fdr:.1g})" if "fdr" in intervals else ""
        panel.set_title(f"{interval.assay}, {interval.chrom}{rate}{gene}", fontsize=8, loc="left", color=DARK)
    first, second = _groups(table)
    figure.supxlabel("position (kb)", fontsize=8, color=DARK)
    figure.supylabel("reads per region", fontsize=8, color=DARK)
    legend_above(figure, [Patch(color=BLUE, label=first), Patch(color=ORANGE, label=second)])
    return finished(figure, Finish(title, save, show))


def _name_genes(intervals: pd.DataFrame, gtf: Path | None) -> list[str]:
    """A line for the title of each."""
    if gtf is None:
        return [""] * len(intervals)
    places = list(zip(*(intervals[name] for name in (_keys.CHROM, _keys.START, _keys.END)), strict=True))
    lines = []
    for gene, (_, start, end) in zip(find_nearest(pathlib.Path(gtf), places), places, strict=True):
        away = 0 if gene is None else gene.distance(start, end)
        place = f"{away / 1e3:,.1f} kb from the" if away else "the"
        lines.append("\nno gene on this chromosome" if gene is None else f"\n{place} start of {gene.name}")
    return lines


def _draw_locus(ax: Axes, here: pd.DataFrame, start: int, end: int) -> None:
    """Draw rates and counts of a stretch; where there is no region, nothing."""
    low, high = here[_keys.START].to_numpy() / 1e3, here[_keys.END].to_numpy() / 1e3
    x = np.stack([low, high, high], axis=1).ravel()
    ends = np.r_[low[1:] > high[:-1], True]  # before a gap
    for colour, rate, count in ((BLUE, "scale1", "raw_mean1"), (ORANGE, "scale2", "raw_mean2")):
        shown = {name: np.repeat(here[name].to_numpy(np.float64), 3) for name in (rate, count)}
        for values in shown.values():
            values[2::3][ends] = np.nan
        ax.fill_between(x, shown[count], color=colour, alpha=0.15, linewidth=0)
        ax.plot(x, shown[rate], color=colour, linewidth=1.2)
    ax.axvspan(start / 1e3, end / 1e3, color=LIGHT, zorder=0)
    ax.margins(x=0.02)  # an interval at the edge ends there
    ax.set_ylim(0)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def _scatter(
    table: pd.DataFrame,
    points: Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]],
    columns: list[str],
    figsize: Size | None,
) -> tuple[Figure | SubFigure, list[Axes]]:
    """A panel per assay with a point per region, by whether it was called and which group is higher."""
    called = next((name for name in table if str(name).startswith(_CALLED)), f"{_CALLED}0.05")
    _require(table, [_keys.ASSAY, called, *columns], "table")
    first, second = _groups(table)
    assays = list(dict.fromkeys(table[_keys.ASSAY]))
    figure, axes = _panels(len(assays), 2.4, figsize)
    handles: dict[str, Artist] = {}
    for ax, assay in zip(axes, assays, strict=True):
        part = table[(table[_keys.ASSAY] == assay) & table["lfc_mean"].notna()]
        x, y = points(part)
        is_called, is_up = part[called].to_numpy(bool), part["lfc_mean"].to_numpy() > 0
        kinds = (
            (~is_called, GREY, "not called"),
            (is_called & is_up, BLUE, f"higher in {first}"),
            (is_called & ~is_up, ORANGE, f"higher in {second}"),
        )
        for chosen, colour, label in kinds:
            rows = np.flatnonzero(chosen)
            rows = rows[:: -(-len(rows) // _MOST_POINTS) or 1]
            ax.scatter(x[rows], y[rows], s=3, c=colour, linewidth=0, rasterized=True)
            handles[label] = Patch(color=colour, label=label)
        up, down = int((is_called & is_up).sum()), int((is_called & ~is_up).sum())
        ax.set_title(f"{assay}: {up:,} up, {down:,} down", fontsize=8, loc="left", color=DARK)
    legend_above(figure, handles.values())
    return figure, axes


def _panels(
    number: int, height: float, figsize: Size | None, ax: Axes | None = None
) -> tuple[Figure | SubFigure, list[Axes]]:
    n_columns = min(_COLUMNS, number)
    n_rows = -(-number // n_columns)
    width = 0.8 + 2.9 * max(n_columns, 2 if number > 1 else 1.4)
    figure = canvas(ax, figsize, (width, 0.9 + height * n_rows))
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for one in axes[number:]:
        one.remove()
    for one in axes[:number]:
        strip(one)
    return figure, list(axes[:number])


def _groups(table: pd.DataFrame) -> tuple[str, str]:
    _require(table, ["group1", "group2"], "table")
    if not len(table):
        raise ValueError("table must have at least one row.")
    return str(table["group1"].iloc[0]), str(table["group2"].iloc[0])


def _fold_change(table: pd.DataFrame) -> str:
    first, second = _groups(table)
    return f"log2 fold change, {first} over {second}"


def _require(table: pd.DataFrame, columns: list[str], name: str) -> None:
    for column in columns:
        if column not in table:
            raise ValueError(unknown(f"{name}: column", column, list(table.columns), name))
