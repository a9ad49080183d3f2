"""Chromatin states: what they are enriched in, how much of the genome they are, and where they lie."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from .._arguments import checked
from ._style import BLUE, DARK, GREY, ORANGE, Finish, Path, Size, canvas, documented, finished, strip
from ._tracks import _around, _axis, _choose, _find_gene, describe_gene

_KEY = "states"
_FOLD = 4.0  # enrichment at which the colours end
_SHOWN = 400  # regions of a strip, where none are asked for
_NOT_ASSAYS = ["kind", "color", "regions", "share"]
_COLOURS = LinearSegmentedColormap.from_list(
    "enrichment", [(0.0, BLUE), (0.5, "white"), (0.75, ORANGE), (1.0, "#7a2d08")]
)


@runtime_checkable
class Model(Protocol):
    """The part of a :class:`chipvi.ChipVI` that is used here."""

    adata: AnnData


@documented
@checked
def states(
    model_or_adata: Model | AnnData,
    region: str | None = None,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
    ax: Axes | None = None,
    gtf: Path | None = None,
) -> Figure:
    """Draw chromatin states: the enrichment of each assay in each state, their shares, and a strip of the genome.

    Parameters
    ----------
    model_or_adata
        What :func:`chipvi.tl.states` was called with.
    region
        Stretch of the strip, such as ``"chr1:10,000-90,000"`` (bp, 0-based, half-open). With `gtf` it may be a gene,
        which is drawn with what is around it. By default the 400 neighbouring regions with the most states, and of
        these with the most changes of state.
    %(figure)s
    ax
        Axes of a grid, such as of `subplots` (best with ``layout="constrained"``), whose place the panels take; by
        default a figure is made.
    gtf
        A GTF file in which `region` is looked up if it is a gene: its name or identifier.

    Returns
    -------
    The figure, that of `ax` if it is given. Enrichment is in means of the track, on a log scale: white is average,
    orange above it, blue below. The share is that of all regions in all biosamples. The strip has a row for each
    biosample, in their colours.

    Raises
    ------
    ValueError
        Where no states were found yet, for a stretch without regions, for a gene that is not in `gtf`, and for
        `figsize` with `ax`, which has a size.
    """
    adata = model_or_adata if isinstance(model_or_adata, AnnData) else model_or_adata.adata
    if _KEY not in adata.uns or _KEY not in adata.obsm:
        raise ValueError("model_or_adata has no states yet; find them with chipvi.tl.states first.")
    table, state_rb = adata.uns[_KEY]["table"], adata.obsm[_KEY]
    gene = _find_gene(region, gtf, adata.obs)
    if region is None:
        chosen = _stretch(state_rb)
    else:
        chosen = _choose(adata.obs, None, region if gene is None else _around(gene))
    n_states, n_biosamples = len(table), state_rb.shape[1]
    enrichment_ka = table.drop(columns=_NOT_ASSAYS).to_numpy(dtype=np.float64)
    widths = [0.42 * enrichment_ka.shape[1], 1.5]
    ratios = [1.0 + 0.3 * n_states, 0.7 + 0.26 * n_biosamples]  # in inches
    figure = canvas(ax, figsize, (max(7.5, 3.4 + sum(widths)), 0.2 + sum(ratios)))
    grid = figure.add_gridspec(2, 1, height_ratios=ratios)
    upper, lower = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    heat, shares = upper.subplots(1, 2, sharey=True, width_ratios=widths)
    _draw_enrichment(heat, table, enrichment_ka)
    _draw_shares(shares, table)
    strip_ax = lower.subplots()
    _draw_strip(strip_ax, adata.obs.iloc[chosen], state_rb.iloc[chosen], list(table["color"]), chosen)
    if gene is not None:
        strip_ax.set_xlabel(f"{strip_ax.get_xlabel()}, {describe_gene(gene)}", fontsize=8)
    return finished(figure, Finish(title, save, show))


def _stretch(state_rb: pd.DataFrame) -> np.ndarray:
    """Neighbouring rows with many states."""
    code_rb = np.stack([state_rb[name].cat.codes for name in state_rb], axis=1)
    starts = np.arange(0, max(1, len(code_rb) - _SHOWN + 1), _SHOWN)
    parts = [code_rb[start : start + _SHOWN] for start in starts]
    score = [(len(np.unique(part)), int((np.diff(part, axis=0) != 0).sum())) for part in parts]
    start = starts[max(range(len(score)), key=lambda number: score[number])]
    return np.arange(start, min(start + _SHOWN, len(code_rb)))


def _draw_enrichment(ax: Axes, table: pd.DataFrame, enrichment_ka: np.ndarray) -> None:
    log_ka = np.log2(np.maximum(enrichment_ka, 1e-3))
    most = np.log2(_FOLD)
    ax.imshow(log_ka, cmap=_COLOURS, norm=TwoSlopeNorm(0, -most, 1.5 * most), aspect="auto", interpolation="none")
    ax.set_yticks(range(len(table)), table.index)
    ax.set_xticks(range(log_ka.shape[1]), table.columns.drop(_NOT_ASSAYS), rotation=90)
    ax.tick_params(labelsize=8, color=DARK, labelcolor=DARK, length=0)
    ax.spines[:].set_color(GREY)
    for (row, column), fold in np.ndenumerate(enrichment_ka):
        colour = "white" if log_ka[row, column] > 1.6 or log_ka[row, column] < -1.6 else DARK
        ax.text(column, row, f"{fold:.1f}", fontsize=6.5, ha="center", va="center", color=colour)
    ax.set_title("mean of the assay, in means of the track", fontsize=8, loc="left", color=DARK)


def _draw_shares(ax: Axes, table: pd.DataFrame) -> None:
    ax.barh(range(len(table)), table["share"], height=0.7, color=table["color"], edgecolor=GREY, linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(axis="y", labelleft=False, length=0)
    ax.set_title("share", fontsize=8, loc="left", color=DARK)
    strip(ax)
    ax.tick_params(axis="y", length=0)


def _draw_strip(ax: Axes, obs: pd.DataFrame, state_rb: pd.DataFrame, colors: list[str], chosen: np.ndarray) -> None:
    chroms = obs["chrom"].astype(str) if "chrom" in obs else pd.Series("", index=obs.index)
    is_first = (chroms == chroms.iloc[0]).to_numpy()  # a strip has one axis
    edges, places, label = _axis(obs[is_first], chosen[is_first])
    code_bp = np.full((state_rb.shape[1], len(edges) - 1), np.nan)
    for b, name in enumerate(state_rb):
        code_bp[b, places] = state_rb[name].cat.codes[is_first]
    rows = np.arange(len(code_bp) + 1)
    ax.pcolormesh(
        edges, rows, np.ma.masked_invalid(code_bp), cmap=ListedColormap(colors), vmin=-0.5, vmax=len(colors) - 0.5
    )
    ax.hlines(rows, edges[0], edges[-1], color="white", linewidth=2)
    ax.set_facecolor("#f4f5f6")
    ax.set_ylim(len(code_bp), 0)
    ax.set_yticks(rows[:-1] + 0.5, list(state_rb))
    strip(ax)
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.set_xlabel(label, fontsize=8)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
