"""Denoised rates of every assay in every biosample, some regions at a time, of a model or of a result of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from .._messages import listed, unknown
from ..data.segments import Segments, find_segments
from ..data.track_data import Matrix, ViewKind, names_of_layers
from ..model.chipvi import ChipVI


@dataclass(frozen=True, eq=False)
class Rates:
    """Where denoised rates come from.

    Parameters
    ----------
    adata
        Whose regions they are of.
    segments
        Which of these are neighbours.
    biosamples, assays
        Of the rates.
    read
        Gives the rates of ascending rows, regions x biosamples x assays; of a model of signal alone, -log10 p.
    """

    adata: AnnData
    segments: Segments
    biosamples: tuple[str, ...]
    assays: tuple[str, ...]
    read: Callable[[np.ndarray], np.ndarray]


def open_rates(source: ChipVI | AnnData, biosamples: Sequence[str] | None) -> Rates:
    """Rates of a model, or of what its `impute` returned.

    Raises
    ------
    ValueError
        For unknown biosamples, a model that is not trained, or an AnnData without denoised rates of the same assays in
        all biosamples.
    """
    return _of_result(source, biosamples) if isinstance(source, AnnData) else _of_model(source, biosamples)


def _of_model(model: ChipVI, biosamples: Sequence[str] | None) -> Rates:
    if not model.is_trained_:
        raise ValueError("the model is not trained yet. Call its train() first.")
    grid = model.grid
    assays = [a for a in range(len(grid.assays)) if (grid.is_target_t & (grid.assay_t == a)).any()]
    chosen = _choose(biosamples, grid.biosamples)
    pairs = [(biosample, grid.assays[a]) for biosample in chosen for a in assays]
    table = pd.DataFrame(pairs, columns=[_keys.BIOSAMPLE, _keys.ASSAY])

    def read(rows: np.ndarray) -> np.ndarray:
        if grid.has_counts:
            rate_rn = model.get_normalized_expression(indices=rows, tracks=table, return_numpy=True)
        else:
            rate_rn = _signal(model, table, rows)
        return np.asarray(rate_rn).reshape(len(rows), len(chosen), len(assays))

    return Rates(model.adata, model.data.segments, chosen, tuple(grid.assays[a] for a in assays), read)


def _signal(model: ChipVI, table: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """-log10 p as it was measured, and imputed where it was not."""
    signal_rn = np.full((len(rows), len(table)), np.nan, dtype=np.float32)
    entries, tracks = model.data.read_rows(rows).view(ViewKind.SIGNAL), model.data.tracks
    column = {pair: t for t, pair in enumerate(zip(tracks.biosamples, tracks.assays, strict=True))}
    for n, pair in enumerate(table.itertuples(index=False, name=None)):
        if entries is not None and pair in column:
            value_r, present_r = entries.value_rt[:, column[pair]], entries.present_rt[:, column[pair]]
            signal_rn[present_r, n] = np.sinh(value_r[present_r])
    is_missing_rn = np.isnan(signal_rn)
    if (lacking_n := is_missing_rn.any(axis=0)).any():
        asked = table[lacking_n].reset_index(drop=True)
        imputed_rn = np.empty_like(signal_rn)
        imputed_rn[:, lacking_n] = model.get_imputed_pvalues(
            indices=rows, tracks=asked, scale="-log10p", return_numpy=True
        )
        signal_rn[is_missing_rn] = imputed_rn[is_missing_rn]
    return signal_rn


def _of_result(adata: AnnData, biosamples: Sequence[str] | None) -> Rates:
    layers = names_of_layers(adata)
    is_of_signal = _keys.PVAL in layers and _keys.DISPERSION not in layers  # which results of counts have
    kind = _keys.PVAL if is_of_signal else _keys.DENOISED
    if kind not in layers or not {_keys.BIOSAMPLE, _keys.ASSAY} <= set(adata.var):
        raise ValueError(
            "model_or_adata must be a model or what its impute() returned, with the layer denoised (or pval, "
            "of a model of signal alone) and the columns biosample and assay of var; its layers are "
            f"{listed(layers) or 'none'}."
        )
    columns = {
        pair: column for column, pair in enumerate(zip(adata.var[_keys.BIOSAMPLE], adata.var[_keys.ASSAY], strict=True))
    }
    chosen = _choose(biosamples, tuple(dict.fromkeys(map(str, adata.var[_keys.BIOSAMPLE]))))
    every = dict.fromkeys(map(str, adata.var[_keys.ASSAY]))
    assays = tuple(assay for assay in every if all((biosample, assay) in columns for biosample in chosen))
    if not assays:
        raise ValueError(f"{listed(chosen)} must share an assay; they share none. Impute the same assays in all.")
    column_ba = np.array([[columns[biosample, assay] for assay in assays] for biosample in chosen])
    has_places = {_keys.CHROM, _keys.START, _keys.END} <= set(adata.obs)
    segments = find_segments(adata.obs) if has_places else Segments(np.array([0, adata.n_obs]))
    matrix = Matrix(kind, adata.layers[kind])

    def read(rows: np.ndarray) -> np.ndarray:
        value_rba = matrix.read_rows(rows)[:, column_ba]
        return np.sinh(value_rba) if is_of_signal else value_rba

    return Rates(adata, segments, chosen, assays, read)


def _choose(asked: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if asked is None:
        return known
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        if name not in known:
            raise ValueError(unknown("biosample", name, list(known), "biosamples"))
    if not names:
        raise ValueError("biosamples names none; leave it out for all.")
    return tuple(dict.fromkeys(names))
