"""Denoising each biosample from its own tracks alone, so that replicates stay as independent as they were measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.grid import Grid
from ..data.track_data import TrackData, ViewKind
from ..data.tracks import parse_targets
from ..module.vae import ChipVAE
from .imputation import only
from .predictor import Predictor, TargetQueries


@dataclass(frozen=True, eq=False)
class LoneRates:
    """Tracks (n) in some regions (r), at the depths asked for; NaN where there is no count.

    Parameters
    ----------
    log_rate_rn
        Log2 of the denoised count.
    count_rn
        The count, at that depth.
    """

    log_rate_rn: np.ndarray
    count_rn: np.ndarray

    @property
    def present_rn(self) -> np.ndarray:
        """Where there is a count."""
        return ~np.isnan(self.count_rn)

    def of(self, tracks: slice) -> LoneRates:
        """Some of the tracks."""
        return LoneRates(self.log_rate_rn[:, tracks], self.count_rn[:, tracks])

    @classmethod
    def joined(cls, parts: Sequence[LoneRates]) -> LoneRates:
        """The regions of all parts."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([one.log_rate_rn for one in parts]), np.concatenate([one.count_rn for one in parts]))


@dataclass(frozen=True, eq=False)
class _Biosample:
    """Who denoises the tracks of one biosample, what is asked, where the results go, and which tracks are seen."""

    predictor: Predictor
    asked: TargetQueries
    place_n: np.ndarray
    is_own_t: Tensor


class LoneDenoiser:
    """Denoises measured tracks, each biosample by itself: of all tracks, those of the same biosample are seen.

    The average of the other biosamples, which :meth:`chipvi.ChipVI.get_normalized_expression` goes by, would carry the
    noise of one replicate into the rates of the next.

    Parameters
    ----------
    module, grid
        Trained, and its grid.
    data
        Where to predict.
    columns
        Tracks to denoise.
    log_depth_t
        Log depth of the tracks of the data less the module's centre.
    asked_n
        The same of the depth at which to denoise each.
    batch_size
        Regions at a time; None chooses.
    """

    def __init__(
        self,
        module: ChipVAE,
        grid: Grid,
        data: TrackData,
        columns: np.ndarray,
        log_depth_t: np.ndarray,
        asked_n: np.ndarray,
        batch_size: int | None,
    ) -> None:
        self._data, self._columns, self._batch_size = data, columns, batch_size
        self._log_factor_n = log_depth_t[columns] - asked_n
        self._biosamples = []
        for b in np.unique(grid.biosample_t[columns]):
            place_n = np.flatnonzero(grid.biosample_t[columns] == b)
            targets = parse_targets([data.tracks.names[t] for t in columns[place_n]], data.tracks)
            predictor = Predictor(module, grid, data, targets, log_depth_t, asked_n[place_n])
            is_own_t = torch.as_tensor(grid.biosample_t == b, device=module.known_ba.device)
            self._biosamples.append(_Biosample(predictor, predictor.with_own_data(), place_n, is_own_t))

    def n_batches(self, rows: np.ndarray) -> int:
        """In how many minibatches rows are denoised."""
        return len(self._biosamples[0].predictor.minibatches(self._data, rows, self._batch_size))

    def rates(self, rows: np.ndarray) -> Iterator[LoneRates]:
        """Rates in ascending rows, minibatch by minibatch."""
        first = self._biosamples[0].predictor
        for minibatch in first.minibatches(self._data, rows, self._batch_size):
            log_rate_rn = np.empty((minibatch.n_regions, len(self._columns)))
            for one in self._biosamples:
                around = one.predictor.see(minibatch, one.is_own_t)
                mean_rn = only(one.predictor.predict(around, one.asked)[ViewKind.COUNTS].mean_srn)
                log_rate_rn[:, one.place_n] = np.log2(mean_rn.astype(np.float64))
            own_r = minibatch.own_row_r.numpy()
            counts = minibatch.counts
            present_rn = counts.present_lt.numpy()[own_r][:, self._columns]
            count_rn = counts.value_lt.numpy()[own_r][:, self._columns] / np.exp(self._log_factor_n)
            yield LoneRates(np.where(present_rn, log_rate_rn, np.nan), np.where(present_rn, count_rn, np.nan))
