"""Tracks along the genome."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from .. import _keys
from .._arguments import checked
from .._messages import unknown
from ..data.annotation import find_rows
from ..data.track_data import Matrix, find_present, names_of_layers
from ..io.contigs import match_contigs
from ..io.genes import Gene, find_gene
from ._panels import LEGEND, Panel, draw
from ._style import (
    Finish,
    Path,
    Size,
    assay_colour,
    documented,
    figure_of,
    finished,
    finished_within,
    legend_above,
    require_one_size,
    sized,
)

_STRETCH = re.compile(r"([^:]+):([\d,]+)-([\d,]+)")
_LEAST_MARGIN = 2_000  # bp to either side of a gene
_GAP = 0.25  # between panels in given axes, in panels
_HALF = 1.96  # standard deviations to either side, for 95 % of a normal distribution


@documented
@checked
def tracks(
    adata: AnnData,
    result: AnnData,
    tracks: Iterable[str] | None = None,
    rows: slice | None = None,
    region: str | None = None,
    layer: str | None = None,
    observed_layer: str = _keys.OBSERVED,
    signal_layer: str | None = _keys.SIGNAL,
    save: Path | None = None,
    figsize: Size | None = None,
    title: str | None = None,
    show: bool = False,
    ax: Axes | None = None,
    gtf: Path | None = None,
) -> Figure:
    """Draw counts, and what the model makes of them, along a stretch of the genome.

    A panel per track shows the observed counts in grey, the imputed counts with their interval in the colour of the
    assay, the denoised rate in a darker one, and the true rate (layer ``rate``, as simulated data have it) dotted. A
    layer ``average`` of `result`, with the average of the other biosamples, is drawn dashed.
    Where `result` has p-values, a lower panel shows those of a track that has any, as arcsinh(-log10 p), with their
    95 % interval. What is missing is hatched, never drawn as zero; where there are no regions, all is blank.

    Parameters
    ----------
    adata
        The data that went in.
    result
        What :meth:`chipvi.ChipVI.impute` made of them.
    tracks
        Names out of ``result.var_names``, from top to bottom; by default all.
    rows, region
        Which regions of `result` to draw: a slice of its rows, or all that touch a stretch such as
        ``"chr1:10,000-20,000"`` (bp, 0-based, half-open). With `gtf` it may be a gene, which is drawn with what is
        around it. By default all.
    layer
        Layer of `adata` with the counts; by default ``X``.
    observed_layer
        Layer of `adata` that is 0 where counts are missing, if it has one of that name.
    signal_layer
        Layer of `adata` with arcsinh(-log10 p), NaN where missing, if it has one of that name.
    %(figure)s
    ax
        Axes whose place the panels take, for pictures of several parts; by default a figure is made.
    gtf
        A GTF file in which `region` is looked up if it is a gene: its name or identifier.

    Returns
    -------
    The figure, that of `ax` if it is given; in genome coordinates if ``result.obs`` has them, and by row of `result`
    otherwise.

    Raises
    ------
    ValueError
        For an unknown track, a stretch without regions, or regions of more than one chromosome; for a gene that is not
        in `gtf`; and for `figsize` with `ax`, which has a size.
    """
    require_one_size(figsize, ax)
    names = list(result.var_names) if tracks is None else [tracks] if isinstance(tracks, str) else list(tracks)
    for name in names:
        if name not in result.var_names:
            raise ValueError(unknown("track", name, list(result.var_names), "the result"))
    gene = _find_gene(region, gtf, result.obs)
    chosen = _choose(result.obs, rows, region if gene is None else _around(gene))
    edges, places, x_label = _axis(result.obs.iloc[chosen], chosen)
    part = result[chosen, names].to_memory()
    labels = _labels(part)
    has_counts = _keys.PVAL not in part.layers or not {_keys.DISPERSION, _keys.LOWER}.isdisjoint(part.layers)
    counts = _counts_panels(adata, part, labels, layer, observed_layer) if has_counts else [None] * len(labels)
    signal = _signal_panels(adata, part, labels, signal_layer, has_counts)
    panels = [panel for row in zip(counts, signal, strict=True) for panel in row if panel is not None]
    heights = [0.6 if panel.is_signal and has_counts else 1.0 for panel in panels]

    if ax is None:
        figure = Figure(figsize=sized(figsize, (9, 0.9 + 0.75 * sum(heights))), layout="constrained")
        axes = list(figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    else:
        figure, axes = figure_of(ax), _insets(ax, heights)
    drawn = set().union(*(draw(one, panel, edges, places) for one, panel in zip(axes, panels, strict=True)))
    axes[-1].set_xlim(edges[0], edges[-1])
    axes[-1].set_xlabel(x_label if gene is None else f"{x_label}, {describe_gene(gene)}", fontsize=8)
    width = figure.get_figwidth() * (1 if ax is None else ax.get_position().width)
    axes[-1].xaxis.set_major_locator(MaxNLocator(max(2, min(9, int(width))), steps=[1, 2, 2.5, 5, 10]))
    axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    handles = [handle for key, handle in LEGEND.items() if key in drawn]
    if ax is None:
        figure.align_ylabels(axes)
        legend_above(figure, handles)
        return finished(figure, Finish(title, save, show))
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=7)
    return finished_within(ax, Finish(title, save, show))


def _insets(ax: Axes, heights: list[float]) -> list[Axes]:
    """Panels from top to bottom in the place of the axes, which are hidden; they share their horizontal axis."""
    ax.set_axis_off()
    height_n = np.array(heights) / (sum(heights) + _GAP * (len(heights) - 1))
    bottom_n = 1 - np.cumsum(height_n) - _GAP / sum(heights) * np.arange(len(heights))
    found: list[Axes] = []
    for bottom, height in zip(np.maximum(bottom_n, 0), height_n, strict=True):
        found.append(ax.inset_axes((0, bottom, 1, height), sharex=found[0] if found else None))
    for one in found[:-1]:
        one.tick_params(labelbottom=False)
    return found


def _find_gene(region: str | None, gtf: Path | None, obs: pd.DataFrame) -> Gene | None:
    """The gene that a region is, if it is no stretch and there is a file of genes."""
    if gtf is None:
        return None
    if region is None:
        raise ValueError("gtf names genes for region; name the gene to draw as region.")
    if _STRETCH.fullmatch(region.strip()):
        return None
    if not _has_coordinates(obs):
        raise ValueError(f"gene {region!r} needs the columns chrom, start and end of obs; choose rows instead.")
    return find_gene(pathlib.Path(gtf), region.strip(), obs[_keys.CHROM].astype(str).unique())


def _around(gene: Gene) -> str:
    """The stretch of a gene, and a fifth of it or 2 kb to either side."""
    margin = max(_LEAST_MARGIN, (gene.end - gene.start) // 5)
    return f"{gene.chrom}:{max(gene.start - margin, 0)}-{gene.end + margin}"


def describe_gene(gene: Gene) -> str:
    """Name, place and direction."""
    arrow = {"+": " →", "-": " ←"}.get(gene.strand, "")
    return f"{gene.name} {gene.start / 1e3:,.1f}–{gene.end / 1e3:,.1f} kb{arrow}"


def _counts_panels(
    adata: AnnData, part: AnnData, labels: list[str], layer: str | None, observed_layer: str
) -> list[Panel]:
    counts_rt = _entries(adata, layer, part, observed_layer)
    rate_rt = _entries(adata, _keys.RATE, part) if _keys.RATE in adata.layers else np.full(part.shape, np.nan)
    layers = {"lower": _keys.LOWER, "upper": _keys.UPPER, "denoised": _keys.DENOISED, "average": _keys.AVERAGE}
    panels = []
    for t, label in enumerate(labels):
        series = {"observed": counts_rt[:, t], "imputed": _column(part.X, t), "true rate": rate_rt[:, t]}
        series |= {name: _column(part.layers[key], t) for name, key in layers.items() if key in part.layers}
        if "denoised" in series:  # without own data it is the imputation once more
            series["denoised"] = np.where(np.isnan(series["observed"]), np.nan, series["denoised"])
        panels.append(Panel(label, _colour(part, t), series))
    return panels


def _signal_panels(
    adata: AnnData, part: AnnData, labels: list[str], signal_layer: str | None, has_counts: bool
) -> list[Panel | None]:
    """A panel for each track with signal; None where one is drawn with counts, and has no signal of its own."""
    if _keys.PVAL not in part.layers:
        return [None] * len(labels)
    there = signal_layer in names_of_layers(adata)
    signal_rt = _entries(adata, signal_layer, part) if there else np.full(part.shape, np.nan)
    panels: list[Panel | None] = []
    for t, label in enumerate(labels):
        if has_counts and np.isnan(signal_rt[:, t]).all():
            panels.append(None)
            continue
        imputed = _column(part.layers[_keys.PVAL], t)
        series = {"observed": signal_rt[:, t], "imputed": imputed}
        if _keys.PVAL_STD in part.layers:
            half = _HALF * _column(part.layers[_keys.PVAL_STD], t)
            series |= {"lower": np.maximum(imputed - half, 0), "upper": imputed + half}
        if not has_counts and _keys.AVERAGE in part.layers:
            series["average"] = _column(part.layers[_keys.AVERAGE], t)
        panels.append(Panel("p-value" if has_counts else label, _colour(part, t), series, is_signal=True))
    return panels


def _labels(part: AnnData) -> list[str]:
    keys = [key for key in (_keys.BIOSAMPLE, _keys.ASSAY) if key in part.var]
    if not keys:
        return [str(name) for name in part.var_names]
    return ["\n".join(map(str, row)) for row in part.var[keys].itertuples(index=False)]


def _colour(part: AnnData, t: int) -> str:
    return assay_colour(str(part.var[_keys.ASSAY].iloc[t]) if _keys.ASSAY in part.var else "")


def _choose(obs: pd.DataFrame, rows: slice | None, region: str | None) -> np.ndarray:
    """Numbers of the rows to draw, along the genome if they have a place there."""
    if rows is not None and region is not None:
        raise ValueError("rows and region both choose what to draw; give one of them.")
    chosen = np.arange(len(obs))[rows or slice(None)]
    if region is not None:
        parts = _STRETCH.fullmatch(region.strip())
        if parts is None:
            raise ValueError(
                f"region must look like 'chr1:10,000-20,000', got {region!r}. A gene needs a GTF file (gtf)."
            )
        if not _has_coordinates(obs):
            raise ValueError(f"region {region!r} needs the columns chrom, start and end of obs; choose rows instead.")
        start, end = (int(text.replace(",", "")) for text in parts.groups()[1:])
        names = obs[_keys.CHROM].astype(str)
        chrom = next(iter(match_contigs(names.unique(), [parts[1]]).values()), None)  # with or without "chr"
        touches = (obs[_keys.START] < end) & (obs[_keys.END] > start) & (names == chrom)
        chosen = np.flatnonzero(touches)
    if not len(chosen):
        raise ValueError(f"the result has no region in {region if region is not None else rows or 'it'}.")
    if _has_coordinates(obs):
        chosen = chosen[np.argsort(obs[_keys.START].to_numpy()[chosen], kind="stable")]
    return chosen


def _axis(obs: pd.DataFrame, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Edges of the bins to draw, gaps between regions included; the bin of each region; what the axis shows."""
    if not _has_coordinates(obs):
        start, end, label, unit = chosen, chosen + 1, "region", 1
    else:
        chroms = obs[_keys.CHROM].astype(str).unique()
        if len(chroms) > 1:
            raise ValueError(f"regions must lie on one chromosome to be drawn; got {', '.join(chroms)}.")
        start, end = obs[_keys.START].to_numpy(), obs[_keys.END].to_numpy()
        unit, name = next(u for u in ((10**6, "Mb"), (10**3, "kb"), (1, "bp")) if end[-1] - start[0] >= 2 * u[0])
        label = f"{chroms[0]} ({name})"
    places = np.arange(len(chosen)) + np.r_[0, np.cumsum(start[1:] > end[:-1])]
    edges = np.empty(places[-1] + 2)
    edges[places + 1], edges[places] = end, start
    return edges / unit, places, label


def _has_coordinates(obs: pd.DataFrame) -> bool:
    return {_keys.CHROM, _keys.START, _keys.END} <= set(obs.columns)


def _entries(adata: AnnData, layer: str | None, part: AnnData, observed_layer: str | None = None) -> np.ndarray:
    """Entries of adata for the regions and tracks of a result; NaN where missing, or where adata has no such track."""
    rows, columns = find_rows(adata.obs, part.obs), adata.var_names.get_indexer(part.var_names)
    if (rows < 0).any():
        raise ValueError(f"region {part.obs_names[rows < 0][0]} of the result is not in adata. Pass what was imputed.")
    if layer is not None and layer not in adata.layers:
        raise ValueError(unknown("layer", layer, names_of_layers(adata), "adata.layers"))
    values_rt = Matrix("counts", adata.X if layer is None else adata.layers[layer]).read_rows(rows)
    has_mask = observed_layer in names_of_layers(adata)
    observed_rt = Matrix("observed", adata.layers[observed_layer]).read_rows(rows) != 0 if has_mask else None
    entries_rt = np.where(find_present(values_rt, observed_rt), values_rt, np.nan)[:, columns]
    entries_rt[:, columns < 0] = np.nan
    return entries_rt


def _column(matrix: np.ndarray, t: int) -> np.ndarray:
    return np.asarray(matrix[:, t], dtype=np.float64)
