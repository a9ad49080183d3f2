"""Predictions and truths that are bigWig files, of any tool, brought to regions."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from anndata import AnnData

from ... import _keys
from ..._messages import listed
from ...data.check import SetupKeys
from ...io import bigwig_sizes, make_bins, read_bigwigs
from ...io.bigwigs.colors import OBSERVED, OBSERVED_PVAL
from ...io.bigwigs.write import file_stems
from ...io.inputs import is_bigwig, read_anndata, read_bed

_PLACE = [_keys.CHROM, _keys.START, _keys.END]
_COUNTS, _SIGNAL = "imputed", _keys.PVAL  # what the files of imputed tracks end in, when chipvi wrote them
_OF_A_RESULT = (_COUNTS, _SIGNAL, _keys.LOWER, _keys.UPPER, _keys.DENOISED, OBSERVED, OBSERVED_PVAL)


def is_bigwigs(path: Path) -> bool:
    """Whether this is a bigWig file or a folder that may hold some."""
    return is_bigwig(path) or (path.is_dir() and path.suffix != ".zarr")


def read_pair(
    prediction: Path, truth: Path, keys: SetupKeys, regions: Path | None, bin_size: int | None, counts: bool
) -> tuple[AnnData, AnnData, SetupKeys]:
    """Read prediction and truth, either of which may be bigWig files.

    Parameters
    ----------
    prediction, truth
        An AnnData, a bigWig file, or a folder of them, one per track and named as the track.
    keys
        Where the truth keeps what, if it is an AnnData.
    regions, bin_size
        A BED file, or the width of bins, where neither file is an AnnData, which has regions.
    counts
        Whether a truth of bigWig files holds counts. Otherwise it holds -log10 p, of which the inverse hyperbolic sine
        is scored.

    Returns
    -------
    Prediction, truth, and where the truth keeps what.

    Raises
    ------
    ValueError
        If files cannot be read, or the regions to score are given not at all, or twice.
    """
    if not (is_bigwigs(prediction) or is_bigwigs(truth)):
        if regions is not None or bin_size is not None or counts:
            raise ValueError("--regions, --bin and --counts are for bigWig files, and neither PRED nor TRUTH is.")
        return read_anndata(prediction), read_anndata(truth), keys
    if is_bigwigs(truth):
        _require_no_layers(keys, truth)
        keys = replace(keys, signal_layer=None if counts else _keys.SIGNAL)
    elif counts:
        raise ValueError(f"--counts is for bigWig files of TRUTH; {truth.name} has layers.")
    of_signal = keys.signal_layer is not None
    read = {path: read_anndata(path) for path in (prediction, truth) if not is_bigwigs(path)}
    files = {path: _find_tracks(path, of_signal) for path in (prediction, truth) if is_bigwigs(path)}
    places = _regions(read, files, regions, bin_size)
    for path, tracks in files.items():
        known = [name for adata in read.values() for name in adata.var_names]
        read[path] = _read(_by_known_names(tracks, known), places, of_signal)
    predicted, measured = read[prediction], read[truth]
    if truth in files:
        measured.var = _labels(measured.var_names, predicted.var, keys)
        if of_signal:
            measured.layers[_keys.SIGNAL] = measured.X
    return predicted, measured, keys


def _require_no_layers(keys: SetupKeys, truth: Path) -> None:
    named = [name for name in ("layer", "observed_layer", "signal_layer", "depth_key") if getattr(keys, name)]
    if named:
        options = listed(f"--{name.replace('_', '-')}" for name in named)
        raise ValueError(f"bigWig files have no layers or columns; leave out {options} for {truth.name}.")


def _find_tracks(path: Path, of_signal: bool) -> dict[str, Path]:
    """File of each track; of those that chipvi has imputed, only what is scored."""
    found = sorted(filter(is_bigwig, path.iterdir())) if path.is_dir() else [path]
    if not found:
        raise ValueError(f"{path} must hold bigWig files, ending in .bw or .bigWig; it holds none.")
    kinds = {file: file.stem.rpartition(".")[2] for file in found}
    wanted = _SIGNAL if of_signal else _COUNTS
    if wanted in kinds.values():
        chosen = {file.stem.rpartition(".")[0]: file for file, kind in kinds.items() if kind == wanted}
        return chosen | {file.stem: file for file, kind in kinds.items() if kind not in _OF_A_RESULT}
    return {file.stem: file for file in found}


def _by_known_names(tracks: dict[str, Path], known: Iterable[str]) -> dict[str, Path]:
    """Tracks by the names of the other side, some letters of which cannot stand in a file name."""
    names = list(known)
    by_stem = dict(zip(file_stems(names), names, strict=True))
    return {name if name in names else by_stem.get(name, name): file for name, file in tracks.items()}


def _regions(
    read: dict[Path, AnnData], files: dict[Path, dict[str, Path]], regions: Path | None, bin_size: int | None
) -> pd.DataFrame:
    given = [name for name, value in (("--regions", regions), ("--bin", bin_size)) if value is not None]
    for path, adata in read.items():
        if given:
            raise ValueError(f"the regions are those of {path.name}; leave out {listed(given)}.")
        if not set(_PLACE) <= set(adata.obs):
            raise ValueError(f"{path.name} must place its regions with chrom, start and end, to read bigWig files at.")
        return adata.obs[_PLACE]
    if len(given) != 1:
        raise ValueError("bigWig files have no regions; name them with --regions BED, or with --bin, one of both.")
    if regions is not None:
        return read_bed(regions)[_PLACE]
    assert bin_size is not None
    sizes = pd.concat([bigwig_sizes(file) for tracks in files.values() for file in tracks.values()], axis=1)
    shared = sizes.dropna().min(axis=1)
    if shared.empty:
        raise ValueError("no chromosome is in all bigWig files; compare its names, such as chr1 and 1.")
    return make_bins(shared, bin_size)


def _read(tracks: dict[str, Path], places: pd.DataFrame, of_signal: bool) -> AnnData:
    adata = read_bigwigs(tracks, places, arcsinh=of_signal, processes=1, progress=sys.stderr.isatty())
    adata.var = adata.var[[]]
    return adata


def _labels(names: pd.Index, predicted: pd.DataFrame, keys: SetupKeys) -> pd.DataFrame:
    """Biosample and assay of each track, as the prediction has them or by the last dot of the name."""
    columns = [keys.biosample_key, keys.assay_key]
    rows = [(name.rpartition(".")[0] or name, name.rpartition(".")[2]) for name in names]
    var = pd.DataFrame(rows, columns=columns, index=names)
    if set(columns) <= set(predicted):
        var.update(predicted[columns].astype(str))
    return var
