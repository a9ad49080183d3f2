"""A request for predictions: what is asked, checked, and answered batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.console import Console
from rich.progress import track
from torch import Tensor

from .. import _keys
from .._messages import listed
from ..data.grid import has_data
from ..data.track_data import TrackData
from ..data.tracks import Targets, parse_targets
from .predictor import Predictor

if TYPE_CHECKING:
    from ..data.grid import Layout
    from ..module.vae import ChipVAE

_LONG = 20  # batches from which on a progress bar is shown

TracksArgument: TypeAlias = Sequence[str] | pd.DataFrame | None
Indices: TypeAlias = Sequence[int] | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Request:
    """A prediction to be made.

    Parameters
    ----------
    data, targets, predictor
        Where, what, and by whom.
    rows, back
        Ascending regions without repeats, and the position of each region asked for among them.
    """

    data: TrackData
    targets: Targets
    predictor: Predictor
    rows: np.ndarray
    back: np.ndarray


class RequestMixin:
    """What :class:`chipvi.ChipVI` does with a request, whatever the question."""

    if TYPE_CHECKING:
        adata: AnnData
        module: ChipVAE
        _layout: Layout

        def _check_if_trained(self, warn: bool = True) -> None: ...
        def _open_data(self, adata: AnnData | None) -> TrackData: ...
        def _log_depths(self, data: TrackData) -> np.ndarray: ...

    def _request(self, adata: AnnData | None, indices: Indices, tracks: TracksArgument, depth: float | None) -> Request:
        self._check_if_trained(warn=False)
        data = self._open_data(adata)
        targets = parse_targets(tracks, data.tracks)
        if depth is not None:
            depth = require_depth(depth)
        log_depth_t = self._log_depths(data)
        log_depth_n = self._target_depths(targets, log_depth_t, depth)
        self.module.eval()
        predictor = Predictor(self.module, self._layout, data, targets, log_depth_t, log_depth_n)
        rows, back = np.unique(asked_rows(indices, data.n_regions), return_inverse=True)
        return Request(data, targets, predictor, rows, back)

    def _counts_request(self, *arguments: Any) -> Request:
        self._require_counts()
        request = self._request(*arguments)
        self._require_others(request)
        return request

    def _target_depths(self, targets: Targets, log_depth_t: np.ndarray, depth: float | None) -> np.ndarray:
        """Log depth of each target less the centre."""
        log_center = float(self.module.log_center)
        own_n = log_depth_t[targets.columns]
        for n in np.flatnonzero(targets.columns < 0):
            same_assay_t = self._layout.assay_t == self._layout.assays.index(targets.assays[n])
            own_n[n] = np.log(np.median(np.exp(log_depth_t[same_assay_t])))
        asked_n = np.where(np.isnan(targets.depth), own_n, np.log(targets.depth) - log_center)
        return asked_n if depth is None else np.full(len(targets), np.log(depth) - log_center)

    def _require_counts(self) -> None:
        if not self._layout.has_counts:
            raise ValueError("the model was trained on signal only; use get_imputed_pvalues, or give it counts.")

    def _require_others(self, request: Request) -> None:
        has_data_t, columns = has_data(request.data), request.targets.columns
        others_n = has_data_t.sum() - np.where(columns >= 0, has_data_t[columns], False)
        if not others_n.any():
            raise ValueError(
                f"no track but {listed(request.targets.names)} has data, so there is nothing to go by in imputation. "
                "Add other tracks, or denoise with get_normalized_expression."
            )

    def _run(
        self,
        request: Request,
        answer: Callable[[Predictor, dict[str, Tensor]], dict[str, np.ndarray]],
        batch_size: int | None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Answer batch by batch, in ascending order of the regions."""
        require_batch_size(batch_size)
        n_batches = request.predictor.n_batches(len(request.rows), batch_size)
        batches = request.predictor.batches(request.rows, batch_size)
        console = Console(stderr=True)  # standard output belongs to results
        hidden = n_batches < _LONG
        for tensors in track(batches, "Predicting", total=n_batches, console=console, disable=hidden, transient=True):
            yield answer(request.predictor, tensors)

    def _frame(self, request: Request, values: np.ndarray, return_numpy: bool) -> pd.DataFrame | np.ndarray:
        if return_numpy:
            return values
        names = request.data.region_names[request.rows[request.back]]
        return pd.DataFrame(values, index=names, columns=list(request.targets.names))

    def _target_table(self, request: Request) -> pd.DataFrame:
        targets = request.targets
        depth = np.exp(request.predictor.log_depth_n + float(self.module.log_center))
        columns: dict[str, Any] = {_keys.BIOSAMPLE: list(targets.biosamples), _keys.ASSAY: list(targets.assays)}
        if self._layout.has_counts:
            columns[_keys.DEPTH] = depth
        return pd.DataFrame(columns, index=list(targets.names))


def asked_rows(indices: Indices, n_regions: int) -> np.ndarray:
    """Row numbers of the regions asked for, in the order asked for."""
    if indices is None:
        return np.arange(n_regions)
    rows = np.asarray(indices)
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
    if rows.min() < -n_regions or rows.max() >= n_regions:
        raise IndexError(f"indices reach from {rows.min()} to {rows.max()}, but there are {n_regions} regions.")
    return np.where(rows < 0, rows + n_regions, rows)


def require_depth(depth: Any) -> float:
    """Depth as a number, refused unless positive."""
    if not isinstance(depth, int | float | np.number) or isinstance(depth, bool) or not 0 < depth < np.inf:
        raise ValueError(
            f"depth must be one positive number of reads, got {depth!r}. "
            "For a depth per track, pass tracks as a table with a column 'depth'."
        )
    return float(depth)


def require_batch_size(batch_size: int | None) -> None:
    """Refuse batches of less than one region."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}. None chooses one.")


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


def to_numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Arrays in place of tensors, wherever these are."""
    return {name: values.cpu().numpy() for name, values in tensors.items()}


def stack(parts: Iterator[dict[str, np.ndarray]], back: np.ndarray) -> dict[str, np.ndarray]:
    """Put batches below each other, in the order asked for."""
    collected = list(parts)
    return {name: np.concatenate([part[name] for part in collected])[back] for name in collected[0]}
