"""The plan of a comparison, checked before anything is trained: heads, seeds, steps, held-out regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .._messages import unknown
from ..data.splits import Split, draw_blocks, split_regions
from ..data.track_data import TrackData
from ..model.chipvi import ChipVI
from ..nn import COUNT_HEADS

SHARE_HELD_OUT = 0.2
_SPLIT_SEED = 0
_MOST_WATCHED = 2_048  # held-out regions to validate on while a model is trained
_MOST_JUDGED = 20_000


@dataclass(frozen=True, eq=False)
class ComparisonPlan:
    """What all heads of a comparison share.

    Parameters
    ----------
    adata, data
        What to train on, set up and opened.
    heads, seeds, steps
        Every head is trained once with every seed, for that many steps.
    split
        Rows to train on, and rows to validate on meanwhile.
    judged
        Held-out rows to judge on, ascending.
    n_held_out
        Number of regions held out.
    """

    adata: AnnData
    data: TrackData
    heads: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    split: Split
    judged: np.ndarray
    n_held_out: int

    @property
    def columns(self) -> np.ndarray:
        """Tracks to judge: all but the controls."""
        return np.flatnonzero(~self.data.tracks.is_control)

    def counts(self, rows: np.ndarray) -> pd.DataFrame:
        """Counts of the tracks to judge, regions x tracks, NaN where missing."""
        block = self.data.read_rows(rows)
        counts_rt = block.counts.measured_rt[:, self.columns]
        return pd.DataFrame(counts_rt, columns=[self.data.tracks.names[t] for t in self.columns])


def plan_comparison(adata: AnnData, heads: Sequence[str] | None, steps: int, seeds: Sequence[int]) -> ComparisonPlan:
    """Check everything, and hold out the regions to judge on."""
    names = list(COUNT_HEADS) if heads is None else [heads] if isinstance(heads, str) else list(heads)
    for name in names:
        if name not in COUNT_HEADS:
            raise ValueError(unknown("head", name, list(COUNT_HEADS), "chipvi.nn.COUNT_HEADS"))
    if not names:
        raise ValueError("heads must name at least one head; None compares all.")
    if not _is_whole(steps, least=1):
        raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}.")
    chosen = list(seeds) if isinstance(seeds, Sequence | np.ndarray) else []
    if not chosen or not all(_is_whole(seed, least=0) for seed in chosen):
        raise ValueError(f"seeds must be a list of whole numbers from 0 on, such as (0, 1, 2); got {seeds!r}.")
    data = ChipVI(adata).data
    _require_counts(data)
    held_out = split_regions(data.segments, None, SHARE_HELD_OUT, np.random.default_rng(_SPLIT_SEED))
    if not len(held_out.validation):
        raise ValueError(
            f"adata must have at least 200 regions, so that some can be held out; it has {data.n_regions}. "
            "Heads cannot be compared on so few: take the default."
        )
    bin_width = data.segments.bin_width
    return ComparisonPlan(
        adata=adata,
        data=data,
        heads=tuple(dict.fromkeys(names)),
        seeds=tuple(dict.fromkeys(map(int, chosen))),
        steps=int(steps),
        split=Split(held_out.train, draw_blocks(held_out.validation, _MOST_WATCHED, bin_width=bin_width)),
        judged=draw_blocks(held_out.validation, _MOST_JUDGED, bin_width=bin_width),
        n_held_out=len(held_out.validation),
    )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def _require_counts(data: TrackData) -> None:
    counted_t = (data.summary.counts.number_t > 0) & ~data.tracks.is_control
    if not counted_t.any():
        raise ValueError("there must be counts, for a count head to predict; all tracks but controls have signal only.")
    if data.measured_t.sum() < 2:
        raise ValueError("at least two tracks must have data, so that one can be imputed from the other; one has.")
