"""Tracks along the genome."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from .. import _keys
from .._messages import unknown
from .._track_data import Matrix, find_present
from ._style import DARK, GREY, Path, assay_colour, darker, legend_above, saved, strip

_DOTTED: dict[str, Any] = {"color": "black", "linewidth": 1.0, "linestyle": ":"}
# In the order of drawing: counts lie on the band, lines on both.
_LEGEND = {
    "interval": Patch(color=DARK, alpha=0.15, linewidth=0, label="interval"),
    "observed": Patch(color=GREY, label="observed"),
    "imputed": Line2D([], [], color="#8b939b", linewidth=1.6, label="imputed"),
    "denoised": Line2D([], [], color=DARK, linewidth=1.0, label="denoised"),
    "true rate": Line2D([], [], **_DOTTED, label="true rate"),
}


def tracks(
    adata: AnnData,
    result: AnnData,
    tracks: Iterable[str] | None = None,
    rows: slice | None = None,
    region: str | None = None,
    layer: str | None = None,
    observed_layer: str = _keys.OBSERVED,
    save: Path | None = None,
) -> Figure:
    """Draw counts, and what the model makes of them, along a stretch of the genome.

    A panel per track shows the observed counts in grey, the imputed counts with their interval in the colour of the
    assay, the denoised rate in a darker one, and the true rate (layer ``rate``, as simulated data have it) dotted.
    What is missing is left open, never drawn as zero.

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
        ``"chr1:10,000-20,000"`` (bp, 0-based, half-open). By default all.
    layer
        Layer of `adata` with the counts; by default ``X``.
    observed_layer
        Layer of `adata` that is 0 where counts are missing, if it has one of that name.
    save
        Path to write the figure to.

    Returns
    -------
    The figure; in genome coordinates if ``result.obs`` has them, and by row of `result` otherwise.

    Raises
    ------
    ValueError
        For an unknown track, a stretch without regions, or regions of more than one chromosome.
    """
    names = list(result.var_names) if tracks is None else [tracks] if isinstance(tracks, str) else list(tracks)
    for name in names:
        if name not in result.var_names:
            raise ValueError(unknown("track", name, list(result.var_names), "the result"))
    chosen = _choose(result.obs, rows, region)
    edges, places, x_label = _axis(result.obs.iloc[chosen], chosen)
    part = result[chosen, names].to_memory()
    counts_rt = _entries(adata, layer, part, observed_layer)
    rate_rt = _entries(adata, _keys.RATE, part) if _keys.RATE in adata.layers else np.full(part.shape, np.nan)

    figure = Figure(figsize=(9, 0.9 + 0.75 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    drawn = set()
    for t, (ax, name) in enumerate(zip(axes, names, strict=True)):
        series = {"observed": counts_rt[:, t], "imputed": _column(part.X, t), "true rate": rate_rt[:, t]}
        layers = {"lower": _keys.LOWER, "upper": _keys.UPPER, "denoised": _keys.DENOISED}
        series |= {key: _column(part.layers[layer], t) for key, layer in layers.items() if layer in part.layers}
        if "denoised" in series:  # without own data it is the imputation once more
            series["denoised"] = np.where(np.isnan(series["observed"]), np.nan, series["denoised"])
        spread = {key: _spread(values, places, len(edges) - 1) for key, values in series.items()}
        spread = {key: values for key, values in spread.items() if not np.isnan(values).all()}
        label = [str(part.var[key].iloc[t]) for key in (_keys.BIOSAMPLE, _keys.ASSAY) if key in part.var]
        drawn |= _draw(ax, edges, spread, assay_colour(label[-1] if label else ""))
        ax.set_ylabel("\n".join(label) or name, rotation=0, ha="right", va="center", fontsize=8)
    figure.align_ylabels(axes)
    axes[-1].set_xlim(edges[0], edges[-1])
    axes[-1].set_xlabel(x_label, fontsize=8)
    axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    legend_above(figure, [handle for key, handle in _LEGEND.items() if key in drawn])
    return saved(figure, save)


def _draw(ax: Axes, edges: np.ndarray, series: dict[str, np.ndarray], colour: str) -> set[str]:
    """Fill one panel; returns what was drawn."""
    styles: dict[str, dict[str, Any]] = {
        "interval": {"fill": True, "color": colour, "alpha": 0.15, "linewidth": 0},
        "observed": {"fill": True, "color": GREY},
        "imputed": {"baseline": None, "color": colour, "linewidth": 1.6},
        "denoised": {"baseline": None, "color": darker(colour), "linewidth": 1.0},
        "true rate": {"baseline": None, **_DOTTED},
    }
    if "lower" in series and "upper" in series:
        styles["interval"]["baseline"] = series["lower"]
        series = series | {"interval": series["upper"]}
    drawn = {key for key in styles if key in series}
    for key, style in styles.items():
        if key in drawn:
            ax.stairs(series[key], edges, label=key, **style)
    top = max(np.nanmax(series[key]) for key in drawn - {"interval"})
    if "interval" in drawn:  # as much of it as leaves the rest legible
        top = max(top, min(np.nanmax(series["interval"]), 1.4 * top))
    ax.set_ylim(0, 1.05 * top if top > 0 else 1)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    strip(ax)
    if "observed" not in drawn:
        ax.set_title("not measured", loc="right", fontsize=7, color=DARK, pad=1)
    return drawn


def _choose(obs: pd.DataFrame, rows: slice | None, region: str | None) -> np.ndarray:
    """Numbers of the rows to draw, along the genome if they have a place there."""
    if rows is not None and region is not None:
        raise ValueError("rows and region both choose what to draw; give one of them.")
    chosen = np.arange(len(obs))[rows or slice(None)]
    if region is not None:
        parts = re.fullmatch(r"([^:]+):([\d,]+)-([\d,]+)", region.strip())
        if parts is None:
            raise ValueError(f"region must look like 'chr1:10,000-20,000', got {region!r}.")
        if not _has_coordinates(obs):
            raise ValueError(f"region {region!r} needs the columns chrom, start and end of obs; choose rows instead.")
        start, end = (int(text.replace(",", "")) for text in parts.groups()[1:])
        touches = (obs[_keys.START] < end) & (obs[_keys.END] > start) & (obs[_keys.CHROM].astype(str) == parts[1])
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
    rows, columns = adata.obs_names.get_indexer(part.obs_names), adata.var_names.get_indexer(part.var_names)
    if (rows < 0).any():
        raise ValueError(f"region {part.obs_names[rows < 0][0]} of the result is not in adata. Pass what was imputed.")
    if layer is not None and layer not in adata.layers:
        raise ValueError(unknown("layer", layer, list(adata.layers), "adata.layers"))
    values_rt = Matrix("counts", adata.X if layer is None else adata.layers[layer]).read_rows(rows)
    has_mask = observed_layer in adata.layers
    observed_rt = Matrix("observed", adata.layers[observed_layer]).read_rows(rows) != 0 if has_mask else None
    entries_rt = np.where(find_present(values_rt, observed_rt), values_rt, np.nan)[:, columns]
    entries_rt[:, columns < 0] = np.nan
    return entries_rt


def _column(matrix: np.ndarray, t: int) -> np.ndarray:
    return np.asarray(matrix[:, t], dtype=np.float64)


def _spread(values: np.ndarray, places: np.ndarray, n_bins: int) -> np.ndarray:
    """Values at the places of their regions; NaN, which is not drawn, in the gaps between regions."""
    spread = np.full(n_bins, np.nan)
    spread[places] = values
    return spread
