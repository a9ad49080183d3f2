"""Gather what the page shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from .. import _keys, pl
from .._arguments import checked
from .._messages import counted
from ..data.track_data import TrackData
from ..evaluate.diagnosis import Diagnosis, order_by_grade
from ..io.genomes import assembly_of
from ..model.chipvi import ChipVI
from ..pl._calibration import draw_calibration
from ..predict.request import Indices, asked_rows
from . import loci, words
from .browser import LACKING, embed, find_library, has_places, link_to_ucsc, locus_of
from .overview import Kind, describe_tracks, fill_matrix, short
from .page import Picture, render

_MOST_DRAWN = 40  # tracks in a picture of quality or calibration


@dataclass(frozen=True, eq=False)
class Page:
    """A page as text, and the diagnosis that it shows."""

    text: str
    diagnosis: Diagnosis


def require_path(path: Path, overwrite: bool, how: str) -> Path:
    """Refuse what cannot be the file of a page, before any work; `how` is the way to replace one that is there."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report must be a file that ends in .html, got {path.name!r}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to. Make it first.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder. Name a file for the report.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already. Name another file, or replace it with {how}.")
    return path


@checked
def make_page(
    model: ChipVI,
    name: str | None,
    adata: AnnData | None,
    indices: Indices,
    where: str | None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Page:
    """The page, not written yet.

    Parameters
    ----------
    model, adata, indices
        As for :func:`report`.
    name
        What the data are called, if that is known.
    where
        What the regions are that it is judged on, in words; None for those of training.
    settings
        What else is known of the training, by name.
    progress
        Called with what is being done.
    """
    if not model.is_trained_:
        raise ValueError("the model is not trained, so there is nothing to report. Call model.train first.")
    source = model.adata if adata is None else adata
    data = model.open_data(adata)
    tracks = describe_tracks(data)
    rows, stretches, is_scattered = _choose_rows(source, data, indices)
    progress(f"Judging {len(rows):,} of {counted(data.n_regions, 'region')}.")
    diagnosis = model.diagnose(adata, rows)
    result = model.impute(adata, rows)
    assert isinstance(result, AnnData)  # without `out`
    progress("Drawing.")
    truth_rn = loci.add_average(model, data, rows, result)
    values = (truth_rn, result.X, result.layers[_keys.AVERAGE])
    judged = loci.judge_stretches(*values, [len(part) for part in stretches], model.grid.has_counts)
    shown = loci.choose_shown(judged, len(stretches))
    drawer = _LocusDrawer(model, source, result, truth_rn, is_scattered)
    drawn = [drawer.draw(heading, number, stretch) for heading, number, stretch in _numbered(shown)]
    browser = embed(model, adata, data, [rows[one.rows] for one in drawn], _all_tracks(drawn))
    if find_library() is None:
        progress(f"No genome browser in the page: {LACKING}.")
    settings = settings or {}
    order = order_by_grade(diagnosis.table, diagnosis.verdicts)
    names = _row_names(diagnosis.table)
    content = {
        "title": words.name_data(name, data.tracks),
        "version": version("chipvi"),
        "today": date.today().isoformat(),
        "summary": words.summarise(diagnosis),
        "warnings": words.warn(
            tracks,
            list(data.tracks.assays),
            list(zip(map(str, diagnosis.table.index), diagnosis.verdicts, strict=True)),
            data.n_regions,
            model.n_steps_,
            where is not None,
        ),
        "overview": _overview(model, data, tracks),
        "training": _training(model, settings),
        "quality": _quality(diagnosis, order),
        "rows": [
            (names[i], diagnosis.table.iloc[i], (one := diagnosis.verdicts[i]).grade, words.assess(one)) for i in order
        ],
        "judged": {"n_regions": len(rows), "where": where or "regions that the model may have been trained on"},
        "loci": drawn,
        "browser": browser,
        "n_stretches": len(stretches),
        "n_judged": len(judged),
        "fewest": loci.FEWEST,
        "length": loci.LENGTH,
        "has_counts": model.grid.has_counts,
    }
    return Page(render(content), diagnosis)


def _numbered(shown: Mapping[str, list[loci.Stretch]]) -> Iterator[tuple[str, int, loci.Stretch]]:
    for heading, some in shown.items():
        for number, stretch in enumerate(some, start=1):
            yield heading, number, stretch


def _all_tracks(drawn: Sequence[Locus]) -> list[str]:
    """Tracks of all loci, those first that are first in any."""
    ranks = [(rank, name) for one in drawn for rank, name in enumerate(one.tracks)]
    return list(dict.fromkeys(name for _, name in sorted(ranks, key=lambda pair: pair[0])))


def _choose_rows(source: AnnData, data: TrackData, indices: Indices) -> tuple[np.ndarray, list[np.ndarray], bool]:
    rows = np.unique(asked_rows(indices, data.n_regions))
    chrom = source.obs[_keys.CHROM].astype(str).to_numpy() if _keys.CHROM in source.obs else None
    stretches, is_scattered = loci.cut_stretches(rows, data.segments, chrom)
    chosen = loci.choose_stretches(stretches)
    return np.concatenate(chosen), chosen, is_scattered


def _overview(model: ChipVI, data: TrackData, tracks: Sequence[Any]) -> dict[str, Any]:
    layout, largest = model.grid, max((t.depth for t in tracks if np.isfinite(t.depth)), default=np.nan)
    n_measured = sum(track.kind.is_target for track in tracks)
    cells = fill_matrix(layout, list(tracks))
    return {
        "assays": layout.assays,
        "matrix": list(zip(layout.biosamples, cells, strict=True)),
        "tracks": [(track, 100 * track.depth / largest, short(track.depth)) for track in tracks],
        "n_regions": data.n_regions,
        "n_segments": data.segments.n_segments,
        "n_measured": n_measured,
        "n_controls": sum(track.kind is Kind.CONTROL for track in tracks),
        "kinds": {cell.kind for row in cells for cell in row},
        "n_imputable": sum(cell.kind is Kind.IMPUTABLE for row in cells for cell in row),
        "has_signal": layout.has_signal,
        "has_counts": layout.has_counts,
    }


def _training(model: ChipVI, settings: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in asdict(model.module_options).items() if value is not None}
    setup = {name: value for name, value in model.registry_["setup_args"].items() if value is not None}
    # what the model itself knows wins over what it was asked for
    known = {name: value for name, value in settings.items() if value is not None} | options | setup
    shown = {name: known[name] for name in sorted(known) if name not in ("steps", "seed") and known[name] != ()}
    picture = None
    if model.history:
        alt = "Training curves: loss, R², Pearson correlation and further quantities by step."
        caption = (
            "Hidden: values that the model had to impute, for the track was hidden from it. Visible: values that it "
            "saw. Validation: regions held out from training, if any were. The loss should fall and level off; R² and "
            "Pearson should rise."
        )
        picture = Picture.of(
            lambda figsize: pl.training(model, figsize=figsize), lambda wide: 2.9 * len(wide.axes), alt, caption
        )
    return {
        "steps": f"{model.n_steps_:,}" if model.n_steps_ else "none recorded",
        "seed": ", then ".join(map(str, model.seeds_)) or "none recorded",
        "settings": [(name.replace("_", " "), value) for name, value in shown.items()],
        "advice": model.advice,
        "picture": picture,
        "head": words.describe_head(model.module_options.head) if model.grid.has_counts else None,
        "weights": sum(parameter.numel() for parameter in model.module.parameters()),
    }


def _row_names(table: pd.DataFrame) -> list[str]:
    """A name for each row of a diagnosis, which may have two for a track."""
    if table["quantity"].nunique() < 2:
        return [str(name) for name in table.index]
    return [f"{name}, {quantity}" for name, quantity in zip(table.index, table["quantity"], strict=True)]


def _quality(diagnosis: Diagnosis, order: list[int]) -> list[Picture]:
    """Pictures of the scores and the calibration, of the worst tracks if there are many."""
    chosen = sorted(order[:_MOST_DRAWN])
    table, pit = diagnosis.table.iloc[chosen], diagnosis.pit.iloc[chosen]
    part = replace(diagnosis, table=table, pit=pit, verdicts=tuple(diagnosis.verdicts[i] for i in chosen))
    only = f"The {_MOST_DRAWN} worst of {len(order)} tracks. " if len(order) > _MOST_DRAWN else ""
    scores = pd.DataFrame(
        {
            "pearson": table["pearson"].to_numpy(),
            "r2": table["r2"].to_numpy(),
            "average_pearson": table["pearson_average"].to_numpy(),
            "average_r2": table["r2_average"].to_numpy(),
        },
        index=_row_names(table),
    )
    return [
        Picture.of(
            lambda figsize: pl.quality(scores, figsize=figsize),
            lambda wide: wide.get_figheight() + 0.3,
            "Pearson correlation and R² of each track, imputed and by the average of the other biosamples.",
            f"{only}Further right is better. Pearson correlation: how alike imputed and measured values go up and "
            "down. R²: the share of the ups and downs that is explained; 0 is no better than the track's mean.",
        ),
        Picture.of(
            lambda figsize: draw_calibration(part, together=True, figsize=figsize),
            lambda wide: 0.7 + 1.45 * ceil(len(wide.axes) / 2),
            "Calibration: how often values fall into each tenth of what was predicted for them.",
            f"{only}Calibration: if predictions claim just as much certainty as they have, all bars reach the line at "
            "1. Bars high at both ends: too sure; high in the middle: too cautious; high on the left: predicted too "
            "high; on the right: too low. Tracks that are right share a panel, with a line each.",
        ),
    ]


@dataclass(frozen=True, eq=False)
class Locus:
    """A stretch that is shown.

    Parameters
    ----------
    heading, place
        What it is, and where, in words.
    stretch
        How well it is imputed.
    tracks
        Those drawn.
    picture
        Of them.
    locus, ucsc
        As browsers name the place, and its address in the UCSC browser; None without places or a known assembly.
    """

    heading: str
    place: str
    stretch: loci.Stretch
    tracks: list[str]
    picture: Picture
    locus: str | None
    ucsc: str | None

    @property
    def rows(self) -> slice:
        """Of the regions judged."""
        return slice(self.stretch.start, self.stretch.stop)


class _LocusDrawer:
    """Draws stretches of a result."""

    def __init__(
        self, model: ChipVI, source: AnnData, result: AnnData, truth_rn: np.ndarray, is_scattered: bool
    ) -> None:
        self._keys, self._source, self._result = model.setup_keys, source, result
        self._is_measured_n, self._is_scattered = ~np.isnan(truth_rn).all(axis=0), is_scattered

    def draw(self, heading: str, number: int, stretch: loci.Stretch) -> Locus:
        part = self._result[stretch.start : stretch.stop].copy()
        place, obs = loci.name_place(part.obs, self._keys.segment_key), part.obs
        if self._is_scattered:  # far apart on the genome, so they are drawn side by side
            part.obs = part.obs[[]].copy()
        columns = loci.choose_tracks(stretch, self._is_measured_n, is_worst=heading == loci.WORST)
        tracks = [str(part.var_names[n]) for n in columns]

        def draw(figsize: tuple[float, float] | None) -> Figure:
            return pl.tracks(
                self._source,
                part,
                tracks,
                layer=self._keys.layer,
                observed_layer=self._keys.observed_layer or "",  # no layer is called so
                signal_layer=self._keys.signal_layer,
                figsize=figsize,
            )

        alt = f"Tracks along {place}: measured, imputed and denoised."
        return Locus(
            heading=f"{heading} {number}",
            place=place,
            stretch=stretch,
            tracks=tracks,
            picture=Picture.of(draw, lambda wide: wide.get_figheight() + 0.4, alt),
            locus=locus_of(obs) if has_places(obs) else None,
            ucsc=link_to_ucsc(assembly_of(self._source.uns), obs),
        )
