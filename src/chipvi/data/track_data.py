"""Rows of counts and signal, read the same way from memory, files and dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from .._messages import and_more
from .annotation import RegionNames
from .segments import Segments
from .tracks import Tracks

LOWEST_SIGNAL = -1e-3
"""Signal is not negative, but for rounding."""

_CHUNK_ROWS = 16_384  # read together
_NEAR = 64  # rows that are read though nobody asks for them, rather than from the file a second time
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
        NumPy array, CSR matrix or array, array or CSR matrix in an HDF5 file or zarr store, or an array of dask.
    """

    def __init__(self, label: str, values: Any) -> None:
        self.label = label
        if hasattr(values, "__dask_graph__"):
            # what dask only cuts into pieces is read without it
            values = values.__dask_graph__().get(f"original-{values.name}", values)
        self.source = values
        self._values = np.asarray(values) if isinstance(values, np.ndarray) else values
        self.in_memory = isinstance(values, np.ndarray) or sp.issparse(values)

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored entries."""
        return np.dtype(self._values.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from start to stop, dense, in the stored type.

        Raises
        ------
        ValueError
            If they cannot be read from the file.
        """
        if self.in_memory:
            return _dense(self._values[start:stop])
        with self._naming(start):
            return _dense(self._pieces.read(start, stop) if self._pieces else self._values[start:stop])

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Take rows in any order, as often as asked, dense, in the stored type.

        Raises
        ------
        ValueError
            If they cannot be read from the file.
        """
        if self.in_memory:
            return _dense(self._values[rows])
        distinct, back = np.unique(rows, return_inverse=True)  # files are quickest where rows follow each other
        if hasattr(self._values, "oindex"):  # zarr has a long way to its first chunk, and a short one to further ones
            with self._naming(int(distinct[0]) if len(distinct) else 0):
                return np.asarray(self._values.oindex[distinct])[back]
        runs = np.split(distinct, np.flatnonzero(np.diff(distinct) > _NEAR) + 1) if len(distinct) else []
        parts = [self.read(int(run[0]), int(run[-1]) + 1)[run - run[0]] for run in runs]
        return np.concatenate([self.read(0, 0), *parts])[back]

    @contextmanager
    def _naming(self, row: int) -> Iterator[None]:
        """Name matrix and row in the errors of reading from files."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever h5py, zarr, dask and codecs raise for damaged files
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{self.label} cannot be read at region {row:,} and after: {reason}") from error

    @cached_property
    def _pieces(self) -> _Pieces | None:
        return _Pieces(self._values) if hasattr(self._values, "__dask_graph__") else None


class _Pieces:
    """An array of dask, of which only the pieces that hold the rows asked for are computed.

    To slice the array would take a time that grows with the number of its pieces.
    """

    def __init__(self, values: Any) -> None:
        self._graph = values.__dask_graph__().to_dict()
        self._name, self._n_columns = values.name, len(values.chunks[1])
        self._edges = np.cumsum([0, *values.chunks[0]])
        self._empty = np.zeros((0, values.shape[1]), dtype=values.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        if start == stop:
            return self._empty
        from dask import get
        from dask.optimization import cull

        first, last = np.searchsorted(self._edges, [start, stop - 1], side="right") - 1
        keys: Any = [[(self._name, int(i), j) for j in range(self._n_columns)] for i in range(first, last + 1)]
        graph, _ = cull(self._graph, [key for row in keys for key in row])
        rows = [np.concatenate([_dense(piece) for piece in row], axis=1) for row in get(graph, keys)]
        return np.concatenate(rows)[start - self._edges[first] : stop - self._edges[first]]


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
        Moments of the data, or what finds them, and whatever breaks the contract, when they are first asked for.
    covariates_rc
        Region covariates (c), float32; no column for none.
    missing_t
        Tracks to take for missing, bool; None for none.
    """

    def __init__(
        self,
        tracks: Tracks,
        segments: Segments,
        region_names: RegionNames,
        counts: Matrix | None,
        observed: Matrix | None,
        signal: Matrix | None,
        summary: Summary | Callable[[], Summary],
        covariates_rc: np.ndarray,
        missing_t: np.ndarray | None = None,
    ) -> None:
        self.tracks = tracks
        self.segments = segments
        self.region_names = region_names
        self._summary = summary
        self.covariates_rc = covariates_rc
        self._counts = counts
        self._observed = observed
        self._signal = signal
        self._missing_t = missing_t

    @property
    def summary(self) -> Summary:
        """Moments of the data."""
        if not isinstance(self._summary, Summary):
            self._summary = self._summary()
        return self._summary

    @property
    def in_memory(self) -> bool:
        """Whether no file is read."""
        return all(matrix.in_memory for matrix in self.matrices)

    @property
    def matrices(self) -> list[Matrix]:
        """Those that there are."""
        return [matrix for matrix in (self._counts, self._observed, self._signal) if matrix is not None]

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

    @cached_property
    def measured_t(self) -> np.ndarray:
        """Which tracks have any count or signal, bool; found without reading all, where nothing else is asked of it."""
        if isinstance(self._summary, Summary):
            return (self._summary.counts.number_t > 0) | (self._summary.signal.number_t > 0)
        measured_t = np.zeros(self.n_tracks, dtype=bool)
        for start in range(0, self.n_regions, _CHUNK_ROWS):
            block = self.read(start, min(start + _CHUNK_ROWS, self.n_regions))
            for kind in ViewKind:
                if (entries := block.view(kind)) is not None:
                    measured_t |= entries.present_rt.any(axis=0)
            if measured_t.all():
                break
        return measured_t

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
        return self._block(range(start, stop), lambda matrix: matrix.read(start, stop))

    def read_rows(self, rows: np.ndarray) -> Block:
        """Regions by row number, 0-based, in any order; of a stretch `read` is quicker."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (0 <= rows.min() and rows.max() < self.n_regions):
            raise IndexError(f"rows {rows.min()} to {rows.max()} are not within the {self.n_regions} regions.")
        return self._block(rows, lambda matrix: matrix.read_rows(rows))

    def within(self, segments: Segments, rows: np.ndarray) -> TrackData:
        """The same data, neighbours as in these segments, moments over these ascending rows alone."""
        summary = self._summary
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

    def _changed(
        self, segments: Segments, summary: Summary | Callable[[], Summary], missing_t: np.ndarray | None
    ) -> TrackData:
        """The same matrices, looked at in another way."""
        matrices = (self._counts, self._observed, self._signal)
        return TrackData(self.tracks, segments, self.region_names, *matrices, summary, self.covariates_rc, missing_t)

    def _block(self, rows: Sequence[int] | np.ndarray, read: Any) -> Block:
        block = self._read_block(rows, read)
        return block if self._missing_t is None else block.without(self._missing_t)

    def _read_block(self, rows: Sequence[int] | np.ndarray, read: Any) -> Block:
        if self._counts is None:
            shape = (len(rows), self.n_tracks)
            counts = Entries(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool))
        else:
            observed_rt = None if self._observed is None else read(self._observed) != 0
            values_rt = read(self._counts)
            if not self._is_surveyed and (is_right_rt := are_counts(values_rt)) is not None:
                is_right_rt |= ~find_present(values_rt, observed_rt)
                self._require(is_right_rt, values_rt, f"{self._counts.label} must hold whole counts", rows)
            counts = Entries(*split_missing(values_rt, observed_rt))
        if self._signal is None:
            return Block(counts)
        values_rt = read(self._signal)
        if not self._is_surveyed:
            is_right_rt = are_signal(values_rt, self.tracks.is_control)
            self._require(is_right_rt, values_rt, f"{self._signal.label} must hold arcsinh(-log10 p)", rows)
        return Block(counts, Entries(*split_missing(values_rt)))

    def _require(
        self, is_right_rt: np.ndarray, values_rt: np.ndarray, expected: str, rows: Sequence[int] | np.ndarray
    ) -> None:
        """Refuse entries that break the contract, of data that were not surveyed before."""
        if not is_right_rt.all():
            row, column = np.unravel_index(int(np.argmin(is_right_rt)), is_right_rt.shape)
            raise ValueError(
                f"{expected}; region {self.region_names[int(rows[int(row)])]}, track {self.tracks.names[column]} is "
                f"{values_rt[row, column]:g}{and_more(int((~is_right_rt).sum()))}."
            )

    @property
    def _is_surveyed(self) -> bool:
        return isinstance(self._summary, Summary)


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


def are_counts(values_rt: np.ndarray) -> np.ndarray | None:
    """Where values are whole numbers from 0, also as floats; None for a type that holds no others."""
    if values_rt.dtype.kind == "f":
        return (values_rt >= 0) & (values_rt < np.inf) & (values_rt == np.floor(values_rt))
    return None if values_rt.dtype.kind in "bu" else values_rt >= 0


def are_signal(values_rt: np.ndarray, is_control_t: np.ndarray) -> np.ndarray:
    """Where values are finite and not negative, or NaN; those of controls are any real numbers."""
    return ~np.isinf(values_rt) & ~((values_rt < LOWEST_SIGNAL) & ~is_control_t)


def _dense(rows: Any) -> np.ndarray:
    return rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
