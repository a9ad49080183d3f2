"""What every question to a trained model shares: is it trained, on which data is it asked, at which depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from ..data.grid import Grid
from ..data.track_data import TrackData
from ..predict.predictor import log_depths
from ..predict.request import Indices, Request, TracksArgument

if TYPE_CHECKING:
    from ..module.vae import ChipVAE


class RequestMixin:
    """What :class:`chipvi.ChipVI` does with a request, whatever the question."""

    if TYPE_CHECKING:
        adata: AnnData
        module: ChipVAE
        _model_summary_string: str

        @property
        def grid(self) -> Grid: ...  # noqa: D102
        def open_data(self, adata: AnnData | None = None) -> TrackData: ...  # noqa: D102
        def _check_if_trained(self, warn: bool = True) -> None: ...

    def _request(
        self,
        adata: AnnData | None,
        indices: Indices,
        tracks: TracksArgument = None,
        depth: float | None = None,
        module: ChipVAE | None = None,
    ) -> Request:
        """Any request, to the model's module unless another is given."""
        self._check_if_trained(warn=False)
        data = self.open_data(adata)
        module = self.module if module is None else module
        module.eval()
        return Request.of(module, self.grid, data, self.log_depths(data), indices, tracks, depth)

    def _counts_request(
        self, adata: AnnData | None, indices: Indices, tracks: TracksArgument, depth: float | None
    ) -> Request:
        """A request for imputed counts."""
        self._require_counts()
        request = self._request(adata, indices, tracks, depth)
        request.require_others()
        return request

    def _require_counts(self) -> None:
        if not self.grid.has_counts:
            raise ValueError("the model was trained on signal only; use get_imputed_pvalues, or give it counts.")

    def log_depths(self, data: TrackData) -> np.ndarray:
        """Log depth of each track less the model's centre: of the data if they give depth, else as in training.

        Parameters
        ----------
        data
            Of :meth:`chipvi.ChipVI.open_data`.
        """
        return self.module.log_depth_array_t if data.tracks.depth is None else log_depths(self.module, data)
