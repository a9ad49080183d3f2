"""The data contract: an AnnData is checked in one pass, before anything is changed."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from .._messages import and_more, levels_to_caller, listed, unknown
from .annotation import RegionNames, load_annotation, region_names
from .segments import Segments, Widths, find_overlaps, find_segments, name_region
from .setup_keys import SetupKeys
from .survey import PLAUSIBLE_SIGNAL, Findings, Survey, survey
from .track_data import Block, Matrix, Moments, Summary, TrackData, names_of_columns, names_of_layers
from .tracks import Tracks, read_tracks

__all__ = ["Block", "Moments", "SetupKeys", "Summary", "TrackData", "check_anndata", "open_track_data", "surveyed_once"]

_Opened = tuple[TrackData, Callable[[], Survey]]
_opened: ContextVar[list[tuple[AnnData, SetupKeys, Widths | None, _Opened]] | None] = ContextVar("opened", default=None)
# of an AnnData by its identity: the matrices in files, which nobody changes, and what its survey depends on and found
_surveyed: dict[int, tuple[list[object], np.ndarray | None, np.ndarray, Survey]] = {}


@contextmanager
def surveyed_once() -> Iterator[None]:
    """Check and survey an AnnData once within, however often it is opened: nobody changes it meanwhile."""
    if _opened.get() is not None:
        yield
        return
    token = _opened.set([])
    try:
        yield
    finally:
        _opened.reset(token)


def check_anndata(
    adata: AnnData,
    keys: SetupKeys = SetupKeys(),  # noqa: B008 - it is frozen
    widths: Widths | None = None,
) -> TrackData:
    """Check an AnnData to train on, in one pass over its data, and open it.

    Counts are whole numbers from 0; NaN, or 0 in the observed layer, marks a missing entry, whose stored number is
    never looked at. Signal is arcsinh(-log10 p), NaN where missing. The AnnData is not changed, but that `obs` and
    `var` of a lazily opened one are read into memory.

    Parameters
    ----------
    adata
        Regions x tracks.
    keys
        Where it keeps what.
    widths
        Those of the data of the model that these are to join; None: of these.

    Raises
    ------
    ValueError
        For whatever breaks the contract, unknown keys included: one error, that names the track and the region.

    Warns
    -----
    UserWarning
        If signal is so high that it looks like -log10 p without arcsinh, and if regions overlap.
    """
    data, look = _open(adata, keys, widths)
    too_high = look().too_high
    _require_something_to_learn(data)
    overlaps = find_overlaps(adata.obs) if keys.segment_key is None else np.arange(0)
    if len(overlaps):
        first = name_region(adata.obs, int(overlaps[0]))
        warnings.warn(
            f"regions that overlap the one before share reads with it; region {first}{and_more(len(overlaps))}. "
            "Each begins a new stretch, and context never crosses from one to the next.",
            UserWarning,
            stacklevel=levels_to_caller(),
        )
    if too_high.number:
        warnings.warn(
            f"layer {keys.signal_layer!r} should hold arcsinh(-log10 p), which rarely exceeds {PLAUSIBLE_SIGNAL:g}; "
            f"{too_high.describe(data.region_names, data.tracks)}. If it holds -log10 p, transform it with np.arcsinh.",
            UserWarning,
            stacklevel=levels_to_caller(),
        )
    return data


def open_track_data(
    adata: AnnData,
    keys: SetupKeys,
    reference: Tracks,
    widths: Widths | None = None,
) -> TrackData:
    """Check and open an AnnData to predict on.

    What is in memory is surveyed at once. What is in files is surveyed when moments are asked for, and before that
    checked as it is read.

    Parameters
    ----------
    adata, keys
        As for :func:`check_anndata`. Any track may be without data here.
    reference
        The tracks that the model was set up with; `adata` must have the same, in the same order.
    widths
        Those of the regions that the model was set up with; None: of these.

    Raises
    ------
    ValueError
        As :func:`check_anndata`, and if the tracks are others, or in another order, or the regions of another width.
    """
    data, _ = _open(adata, keys, widths, reference)
    found, bin_width = data.segments.bin_width, None if widths is None else widths.bins
    has_neighbours = data.segments.n_segments < data.n_regions  # the last bins of chromosomes alone are shorter
    if bin_width is not None and found is not None and found != bin_width and has_neighbours:
        raise ValueError(
            f"regions must be as wide as those that the model was set up with, {bin_width} bp; those of adata are "
            f"{found} bp. Count the reads in bins of {bin_width} bp, or train a model on these."
        )
    return data


def _open(adata: AnnData, keys: SetupKeys, widths: Widths | None, reference: Tracks | None = None) -> _Opened:
    known = _opened.get()
    found = next((found for seen, *asked, found in known or () if seen is adata and asked == [keys, widths]), None)
    if found is None:
        load_annotation(adata)
        found = _read(adata, keys, widths, reference)
        if known is not None and not adata.is_view:  # a view becomes an AnnData of its own as it is set up
            known.append((adata, keys, widths, found))
    data, _ = found
    if reference is not None:
        reference.require_same(data.tracks)
    return found


def _read(adata: AnnData, keys: SetupKeys, widths: Widths | None, reference: Tracks | None) -> _Opened:
    """Open the data, which are not surveyed yet, and what surveys them."""
    if not adata.n_obs or not adata.n_vars:
        raise ValueError(
            f"adata must hold regions (rows) and tracks (columns); it has {adata.n_obs} and {adata.n_vars}. "
            "Look for a filter that left nothing."
        )
    condition_key = keys.condition_key if reference is None else None  # only training asks who are replicates
    tracks = read_tracks(adata.var, keys.biosample_key, keys.assay_key, keys.depth_key, keys.control_key, condition_key)
    if reference is not None:
        reference.require_same(tracks)
    _require_unique_regions(adata.obs_names)
    segments, names = find_segments(adata.obs, keys.segment_key, widths), region_names(adata.obs)
    counts, observed, signal = _matrices(adata, keys)
    is_in_file = any(matrix is not None and not matrix.in_memory for matrix in (counts, observed, signal))
    adata_id = id(adata) if is_in_file else None
    if adata_id is not None:
        weakref.finalize(adata, _forget, adata_id)

    @cache
    def look() -> Survey:
        found = _survey(adata_id, counts, observed, signal, segments, tracks.is_control)
        _refuse_broken(found, keys, names, tracks, (counts, observed, signal))
        return found

    covariates_rc = _covariates(adata, keys.covariate_keys)
    data = TrackData(tracks, segments, names, counts, observed, signal, lambda: look().summary, covariates_rc)
    if not is_in_file or _recall(adata_id, (counts, observed, signal), segments, tracks.is_control) is not None:
        _ = data.summary  # which raises what is wrong
    return data, look


def _survey(
    adata_id: int | None,
    counts: Matrix | None,
    observed: Matrix | None,
    signal: Matrix | None,
    segments: Segments,
    is_control_t: np.ndarray,
) -> Survey:
    """Survey the matrices, or recall what an earlier survey found in the same files."""
    matrices = (counts, observed, signal)
    if (known := _recall(adata_id, matrices, segments, is_control_t)) is not None:
        return known
    found = survey(counts, observed, signal, segments, is_control_t)
    if adata_id is not None:
        _surveyed[adata_id] = _sources(matrices), segments.relative_width_r, is_control_t, found
    return found


def _recall(
    adata_id: int | None, matrices: Sequence[Matrix | None], segments: Segments, is_control_t: np.ndarray
) -> Survey | None:
    """What an earlier survey found, if it was of the same files and depends on nothing else."""
    if adata_id is None or adata_id not in _surveyed:
        return None
    sources, width_r, controls_t, found = _surveyed[adata_id]
    same = all(one is two or _is_same_file(one, two) for one, two in zip(_sources(matrices), sources, strict=True))
    same = same and _equal(segments.relative_width_r, width_r) and _equal(is_control_t, controls_t)
    return found if same else None


def _sources(matrices: Sequence[Matrix | None]) -> list[object]:
    return [None if matrix is None else matrix.source for matrix in matrices]


def _forget(adata_id: int) -> None:
    _surveyed.pop(adata_id, None)


def _is_same_file(one: object, other: object) -> bool:
    """Whether two handles, which backed AnnData makes anew at each access, are of one part of an HDF5 file."""
    one, other = (getattr(handle, "group", handle) for handle in (one, other))
    return isinstance(one, h5py.HLObject) and one == other


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _refuse_broken(
    found: Survey,
    keys: SetupKeys,
    names: RegionNames,
    tracks: Tracks,
    matrices: tuple[Matrix | None, Matrix | None, Matrix | None],
) -> None:
    """Refuse entries that break the contract."""
    counts, observed, signal = matrices

    def refuse(matrix: Matrix | None, broken: Findings, expected: str, advice: str) -> None:
        if matrix is not None and broken.number:
            raise ValueError(f"{matrix.label} {expected}; {broken.describe(names, tracks)}. {advice}")

    refuse(observed, found.not_flags, "must be 1 where counts were measured and 0 where not", "Correct the layer.")
    advice = "Count reads with chipvi.io.count_reads, or choose another layer."
    if keys.layer is None and signal is None:
        advice += (
            " If X is signal, move it: `adata.layers['signal'] = adata.X; adata.X = None`, with signal_layer='signal'."
        )
    refuse(counts, found.not_counts, "must hold whole counts", advice)
    advice = "Put NaN where there is no signal, or choose another layer."
    refuse(signal, found.not_signal, "must hold arcsinh(-log10 p), finite and not negative", advice)
    if keys.depth_key is not None:
        assert tracks.depth is not None
        _refuse_tracks(
            tracks,
            (found.summary.counts.number_t > 0) & np.isnan(tracks.depth),
            f"column {keys.depth_key!r} must hold the reads of every track with counts",
            "has none",
            "Fill it in, or leave out depth_key to add up the counts.",
        )


def _covariates(adata: AnnData, names: Sequence[str]) -> np.ndarray:
    """Columns of obs with a finite number for every region, regions x columns, float32."""
    for name in names:
        if name not in adata.obs:
            raise ValueError(unknown("covariate_keys", name, names_of_columns(adata), "adata.obs"))
        if not is_numeric_dtype(adata.obs[name]) or is_bool_dtype(adata.obs[name]):
            raise ValueError(
                f"covariate {name!r} must hold real numbers; its dtype is {adata.obs[name].dtype}. Convert the column "
                "with .astype(float), or give categories a column of 0 and 1 each."
            )
        values_r = adata.obs[name].to_numpy(dtype=np.float64, na_value=np.nan)
        if (broken := np.flatnonzero(~np.isfinite(values_r))).size:
            raise ValueError(
                f"covariate {name!r} must be known for every region; region {adata.obs_names[broken[0]]} has "
                f"{values_r[broken[0]]:g}{and_more(len(broken))}. Fill it in, or leave those regions out."
            )
    return np.array([adata.obs[name] for name in names], dtype=np.float32).reshape(len(names), adata.n_obs).T


def _require_unique_regions(names: pd.Index) -> None:
    if not names.is_unique:
        repeated = names.duplicated()
        raise ValueError(
            f"obs_names must be unique; {names[repeated][0]} comes back{and_more(int(repeated.sum()))}. "
            "Rename the regions with adata.obs_names_make_unique()."
        )


def _matrices(adata: AnnData, keys: SetupKeys) -> tuple[Matrix | None, Matrix | None, Matrix | None]:
    """Find counts, mask and signal, each of a kind that can be read."""
    layers = [name for name in (keys.layer, keys.observed_layer, keys.signal_layer) if name is not None]
    if len(set(layers)) < len(layers):
        raise ValueError(f"counts, mask and signal must be different layers; got {listed(layers)}. Name each once.")
    observed, signal = _layer(adata, "observed_layer", keys), _layer(adata, "signal_layer", keys)
    if keys.layer is not None:
        counts = _layer(adata, "layer", keys)
    else:
        counts = None if adata.X is None else _matrix("adata.X", adata.X)
    if counts is None and observed is not None:
        raise ValueError(
            f"{observed.label} marks which counts were measured, but adata.X is None. "
            "Name the counts with layer, or leave out observed_layer."
        )
    if counts is None and signal is None:
        raise ValueError(
            "adata must hold counts or signal; adata.X is None. Name the layer with counts (layer) or with signal "
            f"(signal_layer). There is: {listed(names_of_layers(adata)) or 'no layer'}."
        )
    return counts, observed, signal


def _layer(adata: AnnData, argument: str, keys: SetupKeys) -> Matrix | None:
    name = getattr(keys, argument)
    if name is None:
        return None
    if name not in adata.layers:
        raise ValueError(unknown(argument, name, names_of_layers(adata), "adata.layers"))
    return _matrix(f"layer {name!r}", adata.layers[name])


def _matrix(label: str, values: object) -> Matrix:
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{label} is a masked array. Convert it with .filled(np.nan), or give the mask as a layer.")
    if getattr(values, "format", "csr") != "csr":
        raise ValueError(
            f"{label} is read by region, so it must be dense or CSR; it is {values.format.upper()}. "  # type: ignore[attr-defined]
            "Convert it with .tocsr()."
        )
    matrix = Matrix(label, values)
    if matrix.dtype.kind not in "buif":
        raise ValueError(
            f"{label} must hold numbers; its dtype is {matrix.dtype}. Convert it with .astype(np.float32)."
        )
    return matrix


def _require_something_to_learn(data: TrackData) -> None:
    """Refuse data without a target to train on, and tracks about which nothing could be learnt."""
    tracks, counts = data.tracks, data.summary.counts
    observed = (counts.number_t > 0) | (data.summary.signal.number_t > 0)
    if tracks.is_control.all():
        raise ValueError(
            f"at least one track must be no control; all {tracks.n_tracks} are. Correct the column of control_key."
        )
    if not observed[~tracks.is_control].any():
        raise ValueError(
            "at least one track that is no control must have data; all entries are missing. "
            "Check the NaN entries and the observed layer, where 1 means measured."
        )
    biosamples, assays = np.array(tracks.biosamples), np.array(tracks.assays)
    related = np.isin(biosamples, biosamples[observed]) | np.isin(assays, assays[observed])
    _refuse_tracks(
        tracks,
        ~related,
        "a track must have data, or share its biosample or its assay with one that has",
        "does not",
        "Leave it out, or check its NaN entries and its observed layer.",
    )
    _refuse_tracks(
        tracks,
        (counts.number_t > 0) & np.isnan(data.depth_t),
        "without depth_key a counted track must have reads",
        "has none in any region, so its depth is unknown",
        "Mark it as missing (NaN, or 0 in the observed layer), leave it out, or give depths with depth_key.",
    )


def _refuse_tracks(tracks: Tracks, broken_t: np.ndarray, expected: str, found: str, advice: str) -> None:
    columns = np.flatnonzero(broken_t)
    if len(columns):
        track = tracks.names[columns[0]]
        raise ValueError(f"{expected}; track {track} {found}{and_more(len(columns))}. {advice}")
