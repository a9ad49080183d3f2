"""Diagnosis of a trained model: how well each track is imputed, what is wrong with it, and what to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from .._arguments import checked
from ..data.splits import MOST_DIAGNOSED, draw_blocks
from ..data.track_data import Block, TrackData, ViewKind
from ..data.tracks import parse_targets
from ..evaluate.diagnosis import Diagnosis, report
from ..evaluate.references import average_of_others, is_imputable
from ..evaluate.words import describe_suspect
from ..predict.predictor import ImputedTrack, impute_measured
from ..predict.request import Indices, Request
from .affinity import AffinityMixin
from .parameters import documented


class DiagnosisMixin(AffinityMixin):
    """The diagnosis of :class:`chipvi.ChipVI`."""

    if TYPE_CHECKING:

        @property
        def advice(self) -> list[str]:
            """Of training, in sentences."""

    @documented
    @checked
    def diagnose(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> Diagnosis:
        """Check the imputation of every measured track: what is right, what is not and what to try.

        Each track is imputed without its own data, and compared with what was measured. Of more than 20,000 regions
        it takes blocks of neighbours from all over, always the same ones.

        A verdict allows for what does not matter and for chance. The mean may be off by 10 % (signal: a tenth of its
        standard deviation), a bar of the PIT histogram by 0.25, coverage by 2 points, and each by three standard
        errors. These come from 30 stretches of regions, because neighbours are alike. A track is better or worse than
        something else if it is so in 22 of these stretches, too; than the average, if R2 or Pearson say so, by more
        than 0.01, and do not disagree. A track with fewer than 100 reads or 100 measured regions has "too few reads to
        judge"; one that is not better than its marginal where neither another track of its biosample nor its assay in
        another biosample was measured has "nothing to impute from"; a verdict "cannot be judged" where three standard
        errors are more than 50 % of the mean, 0.75 of a bar or 10 points of coverage.

        Biosamples that seem swapped (predicted from another cell type than the replicates that share their name, such
        as `neuron_1` and `neuron_2`) or to be there twice are named: see :meth:`get_biosample_affinity`.

        Parameters
        ----------
        adata
            Another AnnData with the same tracks, best with regions held out from training; None: that of the model.
        indices
            Regions to judge, row numbers or a boolean mask; None: all.
        %(batch_size)s

        Returns
        -------
        The report, which prints itself, and the numbers under it.

        Raises
        ------
        ValueError
            If no track, controls aside, was measured in these regions, or one alone, which has nothing to go by.

        Examples
        --------
        >>> import chipvi
        >>> adata = chipvi.datasets.simulate(n_regions=500)
        >>> chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
        >>> model = chipvi.ChipVI(adata)
        >>> model.train(max_steps=5, enable_progress_bar=False)
        >>> diagnosis = model.diagnose()
        >>> int(diagnosis.table.loc["cell1.H3K4me3", "regions"])
        500
        """
        request = self._request(adata, indices)
        segments = request.data.segments
        rows = draw_blocks(request.rows, MOST_DIAGNOSED, segments, segments.bin_width)
        block = request.data.read_rows(rows)
        _require_measured(request, block)
        log_depth_t = self.log_depths(request.data)
        imputed = impute_measured(
            self.module, self.grid, request.data, rows, log_depth_t=log_depth_t, batch_size=batch_size
        )
        where = f"{len(rows):,} regions"
        if len(rows) < len(request.rows):
            where += f" (blocks of neighbours from all over the {len(request.rows):,} asked for)"
        intro = (
            f"{{tracks}} judged on {where}, imputed without the track's own data. "
            f"{_describe_regions(adata is None or adata is self.adata, indices is None)}"
        )
        more_advice = [describe_suspect(suspect) for suspect in self._find_swaps(block)]
        more_advice += [f"From training: {one}" for one in self.advice]
        return report(_beside_average(imputed, request.data, block, rows, np.exp(log_depth_t)), intro, more_advice)


def _beside_average(
    imputed: list[ImputedTrack], data: TrackData, block: Block, rows: np.ndarray, depth_t: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, quantity, and the columns that :func:`chipvi.evaluate.verdicts.judge_track` takes, of each track."""
    average_rt = {}
    views = [entries for kind in ViewKind if (entries := block.view(kind)) is not None]
    imputable_rt = is_imputable(data.tracks, np.any([entries.present_rt for entries in views], axis=0))
    for kind in ViewKind:
        if (entries := block.view(kind)) is not None:
            scale_t = depth_t if kind is ViewKind.COUNTS else None
            average_rt[kind] = average_of_others(data.tracks, entries, scale_t)
    for track in imputed:
        place = np.searchsorted(rows, track.rows), track.column
        average_r, imputable_r = average_rt[track.kind][place], imputable_rt[place]
        columns = (track.measured_r, track.mean_r, track.spread_r, average_r, imputable_r)
        yield data.tracks.names[track.column], str(track.kind), np.array(columns, dtype=np.float64)


def _require_measured(request: Request, block: Block) -> None:
    """Refuse if no track was measured here, or one alone, which there is nothing to impute from."""
    is_measured_t = np.zeros(request.data.n_tracks, dtype=bool)
    for kind in ViewKind:
        if (entries := block.view(kind)) is not None:
            is_measured_t |= entries.present_rt.any(axis=0)
    columns = request.targets.columns[is_measured_t[request.targets.columns]]
    if not len(columns):
        raise ValueError(
            f"no track, controls aside, was measured in the {len(request.rows):,} regions asked for, so there is "
            "nothing to hold imputation against. Ask for other regions, or pass an AnnData with counts or signal there."
        )
    names = [request.data.tracks.names[t] for t in columns]
    replace(request, targets=parse_targets(names, request.data.tracks)).require_others()


def _describe_regions(is_own: bool, is_all: bool) -> str:
    if is_own and is_all:
        return (
            "These are regions that the model was trained on, so expect somewhat less elsewhere; for an honest "
            "judgement pass regions held out from training."
        )
    where = "belong to the data that the model was set up with" if is_own else "are of the AnnData that you passed"
    return f"The regions {where}: if it was trained on them, expect somewhat less elsewhere."
