"""Rows of counts and signal, read the same way from dense, sparse and backed data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .segments import Segments
from .tracks import Tracks

_CHUNK_ROWS = 16_384  # read together
SCVI_COLUMNS = ("_scvi_batch", "_indices")  # what scvi-tools adds to obs


class ViewKind(StrEnum):
    """The two views of an experiment: reads, and the p-value signal made of them."""

    COUNTS = "counts"
    SIGNAL = "signal"


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of one view in some regions; read only, for they may share memory with the AnnData.

    Parameters
    ----------
    value_rt
        Reads, or arcsinh(-log10 p); float32, 0 where missing.
    present_rt
        Where they were measured, bool.
    """

    value_rt: np.ndarray
    present_rt: np.ndarray

    def without(self, missing_t: np.ndarray) -> Entries:
        """A copy in which some tracks were not measured."""
        return Entries(self.value_rt * ~missing_t, self.present_rt & ~missing_t)

    @property
    def measured_rt(self) -> np.ndarray:
        """The values, NaN where missing."""
        return np.where(self.present_rt, self.value_rt, np.float32(np.nan))


@dataclass(frozen=True, eq=False)
class Block:
    """Some regions of all tracks: their counts, and their signal if there is a signal layer."""

    counts: Entries
    signal: Entries | None = None

    def view(self, kind: ViewKind) -> Entries | None:
        """Entries of one view."""
        return self.counts if kind is ViewKind.COUNTS else self.signal

    def without(self, missing_t: np.ndarray) -> Block:
        """A copy in which nothing of some tracks was measured."""
        return Block(self.counts.without(missing_t), None if self.signal is None else self.signal.without(missing_t))


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the measured entries of each track.

    Parameters
    ----------
    number_t
        Measured entries, int64.
    total_t, squares_t
        Their sum and the sum of their squares, float64.
    width_t, width_squares_t
        The same of the widths of their regions, in typical ones.
    """

    number_t: np.ndarray
    total_t: np.ndarray
    squares_t: np.ndarray
    width_t: np.ndarray
    width_squares_t: np.ndarray

    @classmethod
    def none(cls, n_tracks: int) -> Moments:
        """Of no entry yet."""
        return cls(np.zeros(n_tracks, dtype=np.int64), *(np.zeros(n_tracks) for _ in range(4)))

    def add(self, values_rt: np.ndarray, present_rt: np.ndarray, width_r: np.ndarray) -> None:
        """Include the entries that are present, in place, of regions of these widths."""
        values_rt = values_rt.astype(np.float64)
        if not present_rt.all():
            values_rt[~present_rt] = 0
        self.number_t[:] += np.count_nonzero(present_rt, axis=0)
        self.total_t[:] += values_rt.sum(axis=0)
        self.squares_t[:] += np.einsum("rt,rt->t", values_rt, values_rt)
        self.width_t[:] += width_r.astype(np.float64) @ present_rt
        self.width_squares_t[:] += width_r.astype(np.float64) ** 2 @ present_rt

    def without(self, missing_t: np.ndarray) -> Moments:
        """A copy in which nothing of some tracks was measured."""
        return Moments(*(np.where(missing_t, 0, getattr(self, field.name)) for field in fields(self)))

    @property
    def rate_t(self) -> np.ndarray:
        """Counts in a region of typical width; NaN for a track without any."""
        return self.total_t / np.where(self.number_t > 0, self.width_t, np.nan)

    @property
    def excess_t(self) -> np.ndarray:
        """Variance of counts beyond that of a Poisson distribution of this rate, in a region of typical width.

        By the method of moments for counts of mean w rate and variance w rate + w² excess in a region of width w.
        """
        number_t = np.where(self.number_t > 0, self.width_squares_t, np.nan)
        return np.maximum(self.squares_t / number_t - self.rate_t**2, 0) - self.total_t / number_t

    @property
    def mean_t(self) -> np.ndarray:
        """Mean of the measured entries; NaN for a track without any."""
        return self.total_t / np.where(self.number_t > 0, self.number_t, np.nan)

    @property
    def variance_t(self) -> np.ndarray:
        """Population variance of the measured entries; NaN for a track without any."""
        mean_square_t = self.squares_t / np.where(self.number_t > 0, self.number_t, np.nan)
        return np.maximum(mean_square_t - self.mean_t**2, 0)


@dataclass(frozen=True)
class Summary:
    """Moments of counts and signal per track, over all regions."""

    counts: Moments
    signal: Moments

    def view(self, kind: ViewKind) -> Moments:
        """Moments of one view."""
        return self.counts if kind is ViewKind.COUNTS else self.signal


class Matrix:
    """One regions x tracks matrix of an AnnData, whatever its storage, read row by row.

    Parameters
    ----------
    label
        What to call it in messages, such as `layer 'counts'`.
    values
        NumPy array, CSR matrix or array, HDF5 dataset, backed CSR, or anything else that slices to one of these.
    """

    def __init__(self, label: str, values: Any) -> None:
        self.label = label
        self._values = np.asarray(values) if isinstance(values, np.ndarray) else values
        self._in_memory = isinstance(values, np.ndarray) or sp.issparse(values)

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored entries."""
        return np.dtype(self._values.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from start to stop, dense, in the stored type."""
        return _dense(self._values[start:stop])

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Take rows in any order, as often as asked, dense, in the stored type."""
        if self._in_memory:
            return _dense(self._values[rows])
        distinct, back = np.unique(rows, return_inverse=True)  # files give rows once, and in order
        return _dense(self._values[distinct])[back]


class TrackData:
    """Counts and signal of an AnnData that has passed the check of :mod:`chipvi.data.check`.

    Made by `check_anndata` and `open_track_data`; reads from the AnnData's own arrays, without a copy of the whole.

    Parameters
    ----------
    tracks, segments, region_names
        What the columns and rows are.
    counts, observed, signal
        The matrices; None where there is none.
    summary
        Moments of the data.
    covariates_rc
        Region covariates (c), float32; no column for none.
    missing_t
        Tracks to take for missing, bool; None for none.
    """

    def __init__(
        self,
        tracks: Tracks,
        segments: Segments,
        region_names: pd.Index,
        counts: Matrix | None,
        observed: Matrix | None,
        signal: Matrix | None,
        summary: Summary,
        covariates_rc: np.ndarray,
        missing_t: np.ndarray | None = None,
    ) -> None:
        self.tracks = tracks
        self.segments = segments
        self.region_names = region_names
        self.summary = summary
        self.covariates_rc = covariates_rc
        self._counts = counts
        self._observed = observed
        self._signal = signal
        self._missing_t = missing_t

    @property
    def n_regions(self) -> int:
        """Number of rows."""
        return self.segments.n_regions

    @property
    def n_tracks(self) -> int:
        """Number of columns, controls included."""
        return self.tracks.n_tracks

    @property
    def seen(self) -> tuple[ViewKind, ...]:
        """Views of which any track has an entry, counts first."""
        return tuple(kind for kind in ViewKind if self.summary.view(kind).number_t.any())

    @property
    def views(self) -> tuple[ViewKind, ...]:
        """Those of which any track that is no control has an entry, and which can be predicted."""
        is_target_t = ~self.tracks.is_control
        return tuple(kind for kind in self.seen if self.summary.view(kind).number_t[is_target_t].any())

    @property
    def measured_t(self) -> np.ndarray:
        """Which tracks have any count or signal, bool."""
        return (self.summary.counts.number_t > 0) | (self.summary.signal.number_t > 0)

    @property
    def counted_share_t(self) -> np.ndarray:
        """Share of the regions in which each track is counted."""
        return self.summary.counts.number_t / self.n_regions

    @property
    def signalled_share_t(self) -> np.ndarray:
        """Share of the regions in which each track has signal."""
        return self.summary.signal.number_t / self.n_regions

    @property
    def depth_t(self) -> np.ndarray:
        """Reads of each track, float64, NaN where unknown.

        As given by `depth_key`; without it the counted reads, scaled up to all regions of this AnnData by their width.
        Then a track without a single read has no known depth.
        """
        if self.tracks.depth is not None:
            return self.tracks.depth
        depth_t = self.summary.counts.rate_t * self.segments.total_width
        return np.where(depth_t > 0, depth_t, np.nan)

    def read(self, start: int, stop: int) -> Block:
        """Regions from start to stop, 0-based, stop excluded."""
        if not 0 <= start <= stop <= self.n_regions:
            raise IndexError(f"rows {start} to {stop} are not within the {self.n_regions} regions.")
        return self._block(stop - start, lambda matrix: matrix.read(start, stop))

    def read_rows(self, rows: np.ndarray) -> Block:
        """Regions by row number, 0-based, in any order; where rows follow each other `read` is quicker."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (0 <= rows.min() and rows.max() < self.n_regions):
            raise IndexError(f"rows {rows.min()} to {rows.max()} are not within the {self.n_regions} regions.")
        return self._block(len(rows), lambda matrix: matrix.read_rows(rows))

    def within(self, segments: Segments, rows: np.ndarray) -> TrackData:
        """The same data, neighbours as in these segments, moments over these ascending rows alone."""
        summary = self.summary
        if len(rows) < self.n_regions:
            summary = Summary(Moments.none(self.n_tracks), Moments.none(self.n_tracks))
            for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
                for start in range(int(run[0]), int(run[-1]) + 1, _CHUNK_ROWS):
                    stop = min(start + _CHUNK_ROWS, int(run[-1]) + 1)
                    block, width_r = self.read(start, stop), segments.relative_widths(start, stop)
                    for kind in ViewKind:
                        if (entries := block.view(kind)) is not None:
                            summary.view(kind).add(entries.value_rt, entries.present_rt, width_r)
        return self._changed(segments, summary, self._missing_t)

    def without(self, columns: np.ndarray) -> TrackData:
        """The same data as if some tracks had never been measured."""
        missing_t = np.isin(np.arange(self.n_tracks), columns)
        summary = Summary(self.summary.counts.without(missing_t), self.summary.signal.without(missing_t))
        return self._changed(self.segments, summary, missing_t)

    def _changed(self, segments: Segments, summary: Summary, missing_t: np.ndarray | None) -> TrackData:
        """The same matrices, looked at in another way."""
        matrices = (self._counts, self._observed, self._signal)
        return TrackData(self.tracks, segments, self.region_names, *matrices, summary, self.covariates_rc, missing_t)

    def _block(self, n_rows: int, read: Any) -> Block:
        block = self._read_block(n_rows, read)
        return block if self._missing_t is None else block.without(self._missing_t)

    def _read_block(self, n_rows: int, read: Any) -> Block:
        if self._counts is None:
            shape = (n_rows, self.n_tracks)
            counts = Entries(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool))
        else:
            observed_rt = None if self._observed is None else read(self._observed) != 0
            counts = Entries(*split_missing(read(self._counts), observed_rt))
        return Block(counts, None if self._signal is None else Entries(*split_missing(read(self._signal))))


def names_of_layers(adata: Any) -> list[str]:
    """Names of the layers of an AnnData, without None, by which anndata lists X from version 0.13 on."""
    return [name for name in adata.layers if name is not None]


def names_of_columns(adata: Any) -> list[str]:
    """Names of the columns of obs, without those that scvi-tools adds."""
    return [name for name in adata.obs if name not in SCVI_COLUMNS]


def split_missing(values_rt: np.ndarray, observed_rt: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Part values from where they are missing: NaN, or not observed.

    Returns
    -------
    The values as float32, 0 where missing, and a bool array that is true where they are not.

    Examples
    --------
    >>> split_missing(np.array([[1.0, np.nan]]))
    (array([[1., 0.]], dtype=float32), array([[ True, False]]))
    """
    present_rt = find_present(values_rt, observed_rt)
    if not present_rt.all():
        values_rt = np.where(present_rt, values_rt, 0)
    return np.ascontiguousarray(values_rt, dtype=np.float32), present_rt


def find_present(values_rt: np.ndarray, observed_rt: np.ndarray | None = None) -> np.ndarray:
    """Where values are present: not NaN, and observed where an observed layer is given."""
    is_number_rt = ~np.isnan(values_rt) if values_rt.dtype.kind == "f" else np.ones(values_rt.shape, dtype=bool)
    return is_number_rt if observed_rt is None else is_number_rt & observed_rt


def _dense(rows: Any) -> np.ndarray:
    if hasattr(rows, "compute"):  # dask
        rows = rows.compute()
    return rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
