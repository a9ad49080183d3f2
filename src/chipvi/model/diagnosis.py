"""A check-up of a trained model: what is right with its imputation, track by track, what is not, and what to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from torch import Tensor

from ..data.segments import Segments
from ..data.track_data import Block
from ..data.tracks import parse_targets
from ..evaluate.diagnosis import Diagnosis, report
from ..evaluate.references import average_of_others
from ..predict.predictor import Predictor
from ..predict.request import Indices, Request, RequestMixin, stack

MOST_REGIONS = 20_000
_BLOCK = 64  # neighbouring regions that are judged together: fewer would need much context for each


class DiagnosisMixin(RequestMixin):
    """The check-up of :class:`chipvi.ChipVI`."""

    if TYPE_CHECKING:

        @property
        def advice(self) -> list[str]:
            """Of training, in sentences."""

    def diagnose(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> Diagnosis:
        """Check the imputation of every measured track, and say in words what is right, what is not and what to try.

        Each track is imputed without its own data, and compared with what was measured. Of more than 20,000 regions
        it takes blocks of neighbours from all over, always the same ones.

        A verdict allows for what does not matter and for chance. The mean may be off by 10 % (signal: a tenth of its
        standard deviation), a bar of the PIT histogram by 0.25, coverage by 2 points, and each by three standard
        errors. These come from 30 stretches of regions, because neighbours are alike. A track is better or worse than
        something else if it is so in 22 of these stretches, too; than the average, if R2 or Pearson say so, by more
        than 0.01, and do not disagree. A track with fewer than 100 reads or 100 measured regions has "too few reads to
        tell"; a verdict "cannot be told" where three standard errors are more than 50 % of the mean, 0.75 of a bar or
        10 points of coverage.

        Parameters
        ----------
        adata
            Another AnnData with the same tracks, best with regions held out from training; None: that of the model.
        indices
            Regions to judge, row numbers or a boolean mask; None: all.
        batch_size
            Regions at a time; None chooses.

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
        asked = self._request(adata, indices, None, None)
        rows = choose_blocks(asked.rows, asked.data.segments)
        request = replace(asked, rows=rows, back=np.arange(len(rows)))
        block = request.data.read_rows(rows)
        measured = parse_targets(_require_measured(request, block), request.data.tracks)
        self._require_others(replace(request, targets=measured))

        def imputed(predictor: Predictor, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
            predicted = predictor.predict(tensors, predictor.without_own_data())
            return {name: values.cpu().numpy() for name, values in predicted.items()}

        predicted = stack(self._run(request, imputed, batch_size), request.back)
        where = f"{len(rows):,} regions"
        if len(rows) < len(asked.rows):
            where += f" (blocks of neighbours from all over the {len(asked.rows):,} asked for)"
        intro = (
            f"{{tracks}} judged on {where}, imputed without the track's own data. "
            f"{_say_which_regions(adata is None or adata is self.adata, indices is None)}"
        )
        more_advice = [f"From training: {one}" for one in self.advice]
        return report(self._measured(request, block, predicted), intro, more_advice)

    def _measured(
        self, request: Request, block: Block, predicted: dict[str, np.ndarray]
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        """Name, quantity, and measured value, mean, spread and average of the others, for each track measured here."""
        depth_t: np.ndarray | None = np.exp(self._log_depths(request.data))
        views = [("counts", block.counts_rt, block.counted_rt, "mean", "dispersion", depth_t)]
        if block.signal_rt is not None and block.signalled_rt is not None:
            views += [("signal", block.signal_rt, block.signalled_rt, "signal", "signal_std", None)]
        for quantity, value_rt, there_rt, mean, spread, depth_t in views:
            if mean not in predicted:
                continue
            average_rt = average_of_others(request.data.tracks, value_rt, there_rt, depth_t)
            for n, (name, t) in enumerate(zip(request.targets.names, request.targets.columns, strict=True)):
                there = there_rt[:, t]
                if there.any():
                    columns = (value_rt[:, t], predicted[mean][:, n], predicted[spread][:, n], average_rt[:, t])
                    yield name, quantity, np.array([column[there] for column in columns], dtype=np.float64)


def choose_blocks(rows: np.ndarray, segments: Segments) -> np.ndarray:
    """About as many of these ascending rows as are to be judged: all, or whole blocks of neighbours from all over."""
    if len(rows) <= MOST_REGIONS:
        return rows
    low_r, _ = segments.bounds(rows)
    is_first_r = np.r_[True, (np.diff(low_r) != 0) | (np.diff((rows - low_r) // _BLOCK) != 0)]
    blocks = np.split(rows, np.flatnonzero(is_first_r)[1:])
    # drawn, for at equal steps they could fall on the same part of every gene; the seed makes it the same draw always
    order = np.random.default_rng(0).permutation(len(blocks))
    n_chosen = np.searchsorted(np.cumsum([len(blocks[i]) for i in order]), MOST_REGIONS) + 1
    return np.concatenate([blocks[i] for i in np.sort(order[:n_chosen])])


def _require_measured(request: Request, block: Block) -> list[str]:
    """Names of the tracks that were measured here; refused if there is none."""
    is_measured_t = np.zeros(request.data.n_tracks, dtype=bool)
    for there_rt in (block.counted_rt, block.signalled_rt):
        if there_rt is not None:
            is_measured_t |= there_rt.any(axis=0)
    targets = request.targets
    names = [name for name, t in zip(targets.names, targets.columns, strict=True) if is_measured_t[t]]
    if not names:
        raise ValueError(
            f"no track, controls aside, was measured in the {len(request.rows):,} regions asked for, so there is "
            "nothing to hold imputation against. Ask for other regions, or pass an AnnData with counts or signal there."
        )
    return names


def _say_which_regions(is_own: bool, is_all: bool) -> str:
    if is_own and is_all:
        return (
            "These are regions that the model was trained on, so expect somewhat less elsewhere; for an honest "
            "judgement pass regions held out from training."
        )
    where = "belong to the data that the model was set up with" if is_own else "are of the AnnData that you passed"
    return f"The regions {where}: if it was trained on them, expect somewhat less elsewhere."
