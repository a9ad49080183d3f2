"""A request for predictions: what is asked, checked, and answered batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from .. import _keys
from .._arguments import LARGEST_DEPTH
from .._messages import listed
from .._workers import progress_bar
from ..data.grid import Grid
from ..data.track_data import TrackData
from ..data.tracks import Targets, parse_targets
from ..module.inputs import Surroundings
from ..module.vae import ChipVAE
from .predictor import Predictor

LONG = 20  # batches from which on a progress bar is shown

TracksArgument: TypeAlias = Sequence[str] | pd.DataFrame | None
Indices: TypeAlias = Sequence[int] | np.ndarray | None
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Request:
    """A prediction to be made.

    Parameters
    ----------
    data, targets, predictor
        Where, what, and by whom.
    depth_n
        Reads that each target is predicted at.
    rows, back
        Ascending regions without repeats, and the position of each region asked for among them.
    """

    data: TrackData
    targets: Targets
    predictor: Predictor
    depth_n: np.ndarray
    rows: np.ndarray
    back: np.ndarray

    @classmethod
    def of(
        cls,
        module: ChipVAE,
        grid: Grid,
        data: TrackData,
        log_depth_t: np.ndarray,
        indices: Indices,
        tracks: TracksArgument,
        depth: float | None,
    ) -> Request:
        """Check what is asked of a trained module.

        Parameters
        ----------
        module, grid
            Trained, and its grid.
        data, log_depth_t
            Where to predict, and the log depth of its tracks less the module's centre.
        indices, tracks, depth
            As of :class:`chipvi.model.imputation.ImputationMixin`.
        """
        targets = parse_targets(tracks, data.tracks)
        log_center = float(module.log_center)
        log_depth_n = _target_depths(targets, grid, log_depth_t, log_center)
        if depth is not None:
            log_depth_n = np.full(len(targets), np.log(require_depth(depth)) - log_center)
        predictor = Predictor(module, grid, data, targets, log_depth_t, log_depth_n)
        rows, back = np.unique(asked_rows(indices, data.n_regions), return_inverse=True)
        return cls(data, targets, predictor, np.exp(log_depth_n + log_center), rows, back)

    def require_others(self) -> None:
        """Refuse targets that no other track with data could be imputed from."""
        measured_t, columns = self.data.measured_t, self.targets.columns
        others_n = measured_t.sum() - np.where(columns >= 0, measured_t[columns], False)
        if not others_n.any():
            raise ValueError(
                f"no track but {listed(self.targets.names)} has data, so there is nothing to go by in imputation. "
                "Add other tracks, or denoise with get_normalized_expression."
            )

    def run(self, answer: Callable[[Surroundings], T], batch_size: int | None) -> Iterator[T]:
        """Answer batch by batch, in ascending order of the regions."""
        batches = self.predictor.minibatches(self.data, self.rows, batch_size)
        n_batches = len(batches)
        with progress_bar("Predicting", n_batches, "batches", shown=n_batches >= LONG, transient=True) as show:
            for done, minibatch in enumerate(batches, 1):
                yield answer(self.predictor.see(minibatch))
                show(done)

    def collect(self, answer: Callable[[Surroundings], np.ndarray], batch_size: int | None) -> np.ndarray:
        """Arrays of all batches below each other, in the order asked for."""
        return np.concatenate(list(self.run(answer, batch_size)))[self.back]

    def frame(self, values: np.ndarray, return_numpy: bool) -> Any:
        """Values as a table, regions x targets, unless an array is wanted."""
        if return_numpy:
            return values
        names = self.data.region_names[self.rows[self.back]]
        return pd.DataFrame(values, index=names, columns=list(self.targets.names))

    def target_table(self, with_depth: bool) -> pd.DataFrame:
        """A row for each target: biosample, assay, and the depth it is predicted at."""
        targets = self.targets
        columns: dict[str, Any] = {_keys.BIOSAMPLE: list(targets.biosamples), _keys.ASSAY: list(targets.assays)}
        if with_depth:
            columns[_keys.DEPTH] = self.depth_n
        return pd.DataFrame(columns, index=list(targets.names))


def _target_depths(targets: Targets, grid: Grid, log_depth_t: np.ndarray, log_center: float) -> np.ndarray:
    """Log depth of each target less the centre: as asked, else its own, else the median of its assay."""
    own_n = log_depth_t[targets.columns]
    for n in np.flatnonzero(targets.columns < 0):
        same_assay_t = grid.assay_t == grid.assays.index(targets.assays[n])
        own_n[n] = np.log(np.median(np.exp(log_depth_t[same_assay_t])))
    return np.where(np.isnan(targets.depth), own_n, np.log(targets.depth) - log_center)


def asked_rows(indices: Indices, n_regions: int) -> np.ndarray:
    """Row numbers of the regions asked for, in the order asked for."""
    if indices is None:
        return np.arange(n_regions)
    try:
        rows = np.asarray(indices)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError("indices must be a list of row numbers, or a boolean mask; they are nested lists.") from error
    if rows.dtype == bool:
        if rows.shape != (n_regions,):
            raise ValueError(
                f"indices as a boolean mask must have an entry for each of the {n_regions} regions; "
                f"got shape {rows.shape}."
            )
        rows = np.flatnonzero(rows)
    if not rows.size:
        raise ValueError("indices choose no region; name at least one, or pass indices=None for all.")
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            "indices must be a list of row numbers, or a boolean mask; "
            f"got shape {rows.shape} of dtype {rows.dtype}. For names, use adata.obs_names.get_indexer(names)."
        )
    lowest, highest = int(rows.min()), int(rows.max())
    if lowest < -n_regions or highest >= n_regions:
        raise IndexError(f"indices reach from {lowest} to {highest}, but there are {n_regions} regions.")
    rows = rows.astype(np.int64)  # in a narrow type, the number of regions would not fit
    return np.where(rows < 0, rows + n_regions, rows)


def require_depth(depth: Any) -> float:
    """Depth as a number, refused unless positive."""
    if not isinstance(depth, int | float | np.number) or isinstance(depth, bool) or not 0 < depth < np.inf:
        raise ValueError(
            f"depth must be one positive number of reads, got {depth!r}. "
            "For a depth per track, pass tracks as a table with a column 'depth'."
        )
    if depth > LARGEST_DEPTH:
        raise ValueError(f"depth must be at most {LARGEST_DEPTH:g} reads; it is {depth}.")
    return float(depth)


def require_level(level: float) -> None:
    """Refuse what is no probability."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.95; got {level}.")


def require_samples(n_samples: Any) -> None:
    """Refuse a number of draws that is none."""
    if n_samples is None or (isinstance(n_samples, int | np.integer) and n_samples >= 1):
        return
    raise ValueError(
        f"n_samples must be a whole number of at least 1, or None for the latent's posterior mean; got {n_samples!r}."
    )
