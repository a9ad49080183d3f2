"""A query: biosamples and assays that a trained model has not seen, beside those that it has."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from .._arguments import checked
from .._messages import and_more, levels_to_caller, listed, unknown
from ..calibrate.hierarchy import learn_from_given
from ..data.check import SetupKeys, check_anndata, surveyed_once
from ..data.grid import (
    CellStart,
    Grid,
    Initialisation,
    TrackMoments,
    count_moments,
    fill_cells,
    fill_depths,
    signal_moments,
)
from ..data.track_data import TrackData, ViewKind, names_of_layers
from ..data.tracks import Tracks
from ..io.genomes import assembly_of
from ..module.vae import ChipVAE
from .field import TRACKS_FIELD, TracksField

_ROWS = 16_384  # joined together


@dataclass(frozen=True)
class ReferenceSize:
    """How many of a query's biosamples, assays and tracks, the first ones, are those of its reference."""

    n_biosamples: int
    n_assays: int
    n_tracks: int


class QueryMixin:
    """How :class:`chipvi.ChipVI` takes up what it has not been trained on."""

    if TYPE_CHECKING:

        def __init__(self, adata: AnnData, **options: Any) -> None: ...

        load: Callable[..., Any]

        @classmethod
        def setup_anndata(cls, adata: AnnData, **kwargs: Any) -> None: ...  # noqa: D102

    @classmethod
    @checked
    def load_query_data(cls, adata: AnnData, model: Any) -> Any:
        """A model of new biosamples or assays beside those of a trained model, which stays as it is.

        It predicts at once: the query's own tracks and, in regions that the trained model's data have as well, the
        average of these are its input. How far to follow that average, and how uncertain to be, it takes from imputing
        the new biosample's own tracks from each other, if there are two. :meth:`train` then learns the vectors of new
        biosamples and the weights of new assays, and nothing else.

        Parameters
        ----------
        adata
            The query: regions x new tracks, on the same keys as the data of the trained model, in any regions of the
            same genome. A signal layer, a column of controls, or the counts may be absent. Regions are identified by
            their coordinates, or with a `segment_key` by their names.
        model
            The trained model, or the folder that one was saved to together with its data.

        Returns
        -------
        A model whose `adata` has the regions of the query, and the tracks of both. Without a `depth_key`, the depth of
        a new track is its count in a region of typical width times the width of all regions, in typical ones, that
        the trained model was first set up with.

        Raises
        ------
        ValueError
            For an untrained model, for tracks that it has already, for a query that has nothing in common with it, and
            for data that break the contract or keep to other keys.

        Warns
        -----
        UserWarning
            If no region of the query is one of the trained model's data.

        Examples
        --------
        >>> import chipvi
        >>> import pandas as pd
        >>> data = chipvi.datasets.simulate(n_regions=1_000)
        >>> is_new = (data.var["biosample"] == "cell3").to_numpy()
        >>> old, new = data[:, ~is_new].copy(), data[:, is_new][:, :2].copy()
        >>> chipvi.ChipVI.setup_anndata(old, observed_layer="observed", depth_key="depth")
        >>> model = chipvi.ChipVI(old)
        >>> model.train(max_steps=20, enable_progress_bar=False)
        >>> query = chipvi.ChipVI.load_query_data(new, model)
        >>> wanted = pd.DataFrame({"biosample": ["cell3"], "assay": [old.var["assay"].iloc[-1]]})
        >>> query.get_imputed_counts(tracks=wanted).shape
        (1000, 1)
        """
        if isinstance(model, str | PathLike):
            _require_saved_data(Path(model))
            model = cls.load(model)
        reference = model
        is_model = isinstance(reference, cls)
        if not is_model:
            raise TypeError(f"model must be a {cls.__name__} or the folder of one; it is a {type(model).__name__}.")
        if not reference.is_trained_:
            raise ValueError("the model of the reference is not trained yet. Call its train() first.")
        with surveyed_once():
            return cls._join_query(adata, reference)

    @classmethod
    def _join_query(cls, adata: AnnData, reference: Any) -> Any:
        """The model of :meth:`load_query_data`."""
        keys = replace(reference.setup_keys, condition_key=None)  # what replicates differ by is the reference's to know
        known, grid = reference.data, reference.grid
        new = open_query(adata, keys, known, grid)
        joined = join(adata.obs, new, reference.adata.obs, known, keys, grid.has_counts)
        if (assembly := assembly_of(adata.uns) or assembly_of(reference.adata.uns)) is not None:
            joined.uns[_keys.ASSEMBLY] = assembly
        field = TracksField(keys, grid.seen, grid.views, known.segments.widths)
        source = {"field_registries": {TRACKS_FIELD: {"state_registry": field.register_field(joined)}}}
        cls.setup_anndata(joined, source_registry=source, **asdict(keys))
        query: Any = cls(joined, **asdict(reference.module_options))
        size = ReferenceSize(len(grid.biosamples), len(grid.assays), known.n_tracks)
        data = query.data
        module = query._make_module(data, start=extend_start(reference.module, query.grid, new))
        module.extend_from(reference.module)
        module = module.to(reference.device).eval()
        learn_from_given(module, query.grid, data, size.n_biosamples, size.n_assays)
        module.freeze_calibration(module.tracks.track_ba < size.n_tracks)
        query.module, query.reference_size_, query.is_trained_ = module, size, True
        return query


def _require_saved_data(folder: Path) -> None:
    if (folder / _keys.MODEL_FILE).is_file() and not (folder / _keys.DATA_FILE).is_file():
        raise ValueError(
            f"a query needs the data of the trained model beside its own, and {folder} was saved without them. Load "
            "the model on them first: ChipVI.load_query_data(query, ChipVI.load(folder, adata))."
        )


def open_query(adata: AnnData, keys: SetupKeys, reference: TrackData, grid: Grid) -> TrackData:
    """Check and open the AnnData of a query.

    Parameters
    ----------
    adata
        The query alone.
    keys
        Where the reference keeps what. The query may do without a signal layer, without controls, and, where it has
        no counts, without the observed layer.
    reference, grid
        Data of the reference, and the grid of their tracks.

    Raises
    ------
    ValueError
        For data that break the contract or keep to other keys, for tracks that the reference has already, and for a
        query that shares nothing with it.
    """
    data = check_anndata(adata, _keys_of_query(adata, keys), reference.segments.widths)
    tracks = data.tracks
    _refuse_known(tracks, reference.tracks)
    if not set(grid.seen) & set(data.seen):
        kind = "counts" if grid.has_counts else "signal"
        raise ValueError(f"the query has no {kind}, which the reference was trained on. Add them under the same key.")
    if not set(tracks.assays) & set(grid.assays) and not set(tracks.biosamples) & set(grid.biosamples):
        raise ValueError(
            f"the query must share an assay with the reference; it has {listed(dict.fromkeys(tracks.assays))}, and "
            f"the reference {listed(grid.assays)}. Label them alike, or train a model on both."
        )
    return data


def _keys_of_query(adata: AnnData, keys: SetupKeys) -> SetupKeys:
    """The keys of the reference, less those that the query may do without; another that is absent is an error."""
    has_counts = keys.layer is not None or adata.X is not None
    if has_counts and keys.signal_layer not in adata.layers:
        keys = replace(keys, signal_layer=None)
    if not has_counts and keys.observed_layer not in adata.layers:
        keys = replace(keys, observed_layer=None)
    if keys.control_key not in adata.var:
        keys = replace(keys, control_key=None)
    for names, there, where in (
        (("layer", "observed_layer", "signal_layer"), names_of_layers(adata), "adata.layers"),
        (("biosample_key", "assay_key", "depth_key"), adata.var, "adata.var"),
        (("segment_key",), adata.obs, "adata.obs"),
    ):
        for name in names:
            key = getattr(keys, name)
            if key is not None and key not in there:
                raise ValueError(
                    f"the query must keep its data where the reference does; {unknown(name, key, list(there), where)}"
                )
    return keys


def _refuse_known(tracks: Tracks, reference: Tracks) -> None:
    known = set(zip(reference.biosamples, reference.assays, strict=True))
    pairs = zip(tracks.names, tracks.biosamples, tracks.assays, strict=True)
    again = [name for name, biosample, assay in pairs if (biosample, assay) in known]
    if again:
        raise ValueError(
            f"the query must bring experiments that the reference does not have; biosample and assay of {again[0]} are "
            f"there already{and_more(len(again))}. Leave it out, or predict with the reference itself: "
            "model.impute(adata)."
        )
    taken = [name for name in tracks.names if name in reference.names]
    if taken:
        raise ValueError(
            f"var_names of the query must differ from those of the reference; {taken[0]} is taken"
            f"{and_more(len(taken))}. Rename them, as to 'biosample.assay'."
        )


def join(
    obs: pd.DataFrame,
    query: TrackData,
    reference_obs: pd.DataFrame,
    reference: TrackData,
    keys: SetupKeys,
    has_counts: bool,
) -> AnnData:
    """Put the reference's tracks beside the query's, over the query's regions; missing where it knows no such region.

    Parameters
    ----------
    obs, query
        Regions and data of the query.
    reference_obs, reference
        Of the reference.
    keys
        Where to keep what.
    has_counts
        Whether the reference was trained on counts.

    Warns
    -----
    UserWarning
        If no region of the query is one of the reference.
    """
    row_r = _places(reference_obs, keys.segment_key).get_indexer(_places(obs, keys.segment_key))
    is_shared_r = row_r >= 0
    if not is_shared_r.any():
        warnings.warn(
            "no region of the query is a region of the reference, so that nothing is known there of other biosamples: "
            "predictions have only the query's own tracks to go by. Use the regions of the reference if you can.",
            UserWarning,
            stacklevel=levels_to_caller(),
        )
    n_known, n_tracks = reference.n_tracks, reference.n_tracks + query.n_tracks
    is_wanted = {ViewKind.COUNTS: has_counts or keys.layer is not None, ViewKind.SIGNAL: keys.signal_layer is not None}
    joined = {
        kind: np.full((query.n_regions, n_tracks), np.nan, dtype=np.float32) for kind in ViewKind if is_wanted[kind]
    }
    for start in range(0, query.n_regions, _ROWS):  # beside the result, a piece of either at a time
        rows = np.arange(start, min(start + _ROWS, query.n_regions))
        shared = rows[is_shared_r[rows]]
        for block, rows_of_block, columns in (
            (reference.read_rows(row_r[shared]), shared, slice(n_known)),
            (query.read_rows(rows), rows, slice(n_known, None)),
        ):
            for kind, value_rt in joined.items():
                if (entries := block.view(kind)) is not None:
                    value_rt[rows_of_block, columns] = entries.measured_rt
    counts_rt = joined.get(ViewKind.COUNTS)
    layers = {}
    if counts_rt is not None and keys.layer is not None:
        layers[keys.layer] = counts_rt
    if counts_rt is not None and keys.observed_layer is not None:
        layers[keys.observed_layer] = np.isfinite(counts_rt).astype(np.uint8)
    if keys.signal_layer is not None:
        layers[keys.signal_layer] = joined[ViewKind.SIGNAL]
    x_rt = counts_rt if keys.layer is None else None
    return AnnData(X=x_rt, obs=obs.copy(), var=_join_var(reference.tracks, query.tracks, keys), layers=layers)


def _places(obs: pd.DataFrame, segment_key: str | None) -> pd.Index:
    """What identifies a region: its coordinates, or its name where there are none."""
    if segment_key is not None:
        return obs.index
    bounds = [obs[name].astype(np.int64) for name in (_keys.START, _keys.END)]
    return pd.MultiIndex.from_arrays([obs[_keys.CHROM].astype(str), *bounds])


def _join_var(reference: Tracks, query: Tracks, keys: SetupKeys) -> pd.DataFrame:
    columns: dict[str, object] = {
        keys.biosample_key: reference.biosamples + query.biosamples,
        keys.assay_key: reference.assays + query.assays,
    }
    if reference.depth is not None and query.depth is not None and keys.depth_key is not None:
        columns[keys.depth_key] = np.r_[reference.depth, query.depth]
    if keys.control_key is not None:
        columns[keys.control_key] = np.r_[reference.is_control, query.is_control]
    return pd.DataFrame(columns, index=pd.Index(reference.names + query.names))


def extend_start(reference: ChipVAE, grid: Grid, query: TrackData) -> Initialisation:
    """Where the heads start: old cells as in the reference, measured ones of the query by its data, others by both.

    Rates stay at the central depth of the reference. No new cell is known, since none was trained on.

    Parameters
    ----------
    reference, grid
        The trained module, and the grid with the query's tracks last.
    query
        Data of the query alone.
    """
    known_ba = reference.known_array_ba
    n_biosamples, n_assays = known_ba.shape
    n_known = len(reference.log_depth_t)
    log_center = float(reference.log_center)
    if query.tracks.depth is None:  # where the reference added up its counts, all its tracks have one rate
        log_rate = float(reference.view(ViewKind.COUNTS).level_ba.mean()) if ViewKind.COUNTS in grid.seen else 0.0
        new_log_depth_t = np.log(query.summary.counts.rate_t) - log_rate
    else:
        new_log_depth_t = np.log(query.depth_t) - log_center
    log_depth_t = np.r_[reference.log_depth_t.cpu().numpy(), new_log_depth_t]
    log_depth_t = fill_depths(log_depth_t, grid.assay_t)
    cell_t = (grid.biosample_t[:n_known], grid.assay_t[:n_known])
    measured_t = np.flatnonzero(query.measured_t) + n_known
    is_old_ba = np.ones((n_biosamples, n_assays), dtype=bool)
    is_inside_t = (grid.biosample_t[measured_t] < n_biosamples) & (grid.assay_t[measured_t] < n_assays)
    inside_t = measured_t[is_inside_t]
    is_old_ba[grid.biosample_t[inside_t], grid.assay_t[inside_t]] = False

    def extended(old_ba: np.ndarray, value_t: np.ndarray) -> np.ndarray:
        old_t = np.where(known_ba[cell_t], old_ba[cell_t], np.nan)
        cells_ba = fill_cells(np.r_[old_t, value_t], grid)
        cells_ba[:n_biosamples, :n_assays][is_old_ba] = old_ba[is_old_ba]
        return cells_ba

    def start(kind: ViewKind, moments: TrackMoments) -> CellStart:
        if kind not in grid.seen:
            level_ba = np.zeros((len(grid.biosamples), len(grid.assays)), dtype=np.float32)
            return CellStart(level_ba, level_ba)
        view = reference.view(kind)
        return CellStart(
            extended(view.level_ba.cpu().numpy(), moments.level_t),
            extended(view.log_spread_ba.cpu().numpy(), moments.log_spread_t),
        )

    extended_known_ba = np.zeros((len(grid.biosamples), len(grid.assays)), dtype=bool)
    extended_known_ba[:n_biosamples, :n_assays] = known_ba
    return Initialisation(
        log_center=log_center,
        log_depth_t=log_depth_t.astype(np.float32),
        known_ba=extended_known_ba,
        counts=start(ViewKind.COUNTS, count_moments(query, log_depth_t[n_known:])),
        signal=start(ViewKind.SIGNAL, signal_moments(query)),
    )
