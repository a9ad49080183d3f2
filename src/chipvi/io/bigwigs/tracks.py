"""All tracks of a result to files that genome browsers open."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from ... import _keys
from ..._arguments import checked
from ..._files import claimed
from ..._messages import counted, levels_to_caller, listed
from ..genomes import assembly_of, is_genome_name
from .browsers import COLUMNS, write_igv_session, write_track_hub
from .colors import IMPUTED, OBSERVED, OBSERVED_PVAL
from .matrices import Matrices, open_matrices
from .write import Source, Written, choose_columns, require_options, require_places, write_matrix

_log = logging.getLogger(__name__)


@checked
def write_tracks(
    result: AnnData | str | PathLike,
    folder: str | PathLike,
    *,
    genome: str | Path | pd.Series | None = None,
    tracks: Sequence[str] | None = None,
    digits: int | None = 4,
    progress: bool = True,
    measured: AnnData | None = None,
    layer: str | None = None,
    observed_layer: str | None = _keys.OBSERVED,
    signal_layer: str | None = _keys.SIGNAL,
    email: str = "nobody@example.org",
    locus: str | None = None,
) -> pd.DataFrame:
    """Write everything that a model predicts of tracks, for genome browsers.

    One bigWig file per track of each of: `imputed` (X), the ends of the interval `lower` and `upper`, `denoised` counts
    and, as -log10 p, `pval`, as far as the result has them; with `measured` also `observed` counts and `observed_pval`.
    Lower ends that are 0 everywhere are logged. For a genome of a known name also a track hub (`hub.txt`) and a session
    of IGV (`igv_session.xml`), which show the interval behind the imputed counts and the measured tracks above them.
    Without `genome` it is the assembly that the result names in `uns`, if it names one.

    Parameters
    ----------
    result
        What `model.impute()` returned, or the `.h5ad` or `.zarr` file that it wrote, which is read in pieces.
    folder, genome, tracks, digits, progress
        See :func:`write_bigwigs`.
    measured
        The data that were imputed. Of their tracks those of the result are written, from its first region to its last,
        where they were measured.
    layer, observed_layer, signal_layer
        Layers of `measured`: the counts, by default X; what is 0 where counts are missing, if there is one of that
        name; and arcsinh(-log10 p), if there is one of that name.
    email, locus
        For :func:`write_track_hub` and :func:`write_igv_session`.

    Returns
    -------
    A row per bigWig file: `track`, `kind`, `biosample`, `assay` and `file`, as :func:`write_track_hub` and
    :func:`write_igv_session` take it.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As :func:`write_bigwigs`; ValueError also if the result has regions that `measured` has not.
    BlockingIOError
        If another process is writing to the folder with this function.

    Examples
    --------
    >>> files = write_tracks(model.impute(), "tracks", genome="hg38", measured=adata)  # doctest: +SKIP
    """
    require_options("stored", digits, "bigwig")
    if measured is None and layer is not None:
        raise ValueError(f"layer is one of measured, which is not given; got {layer!r}.")
    folder = Path(folder)
    with claimed(folder), open_matrices(result) as matrices:  # for the hub and the session list all files of one result
        genome = assembly_of(matrices.uns) if genome is None else genome
        labels = _labels(matrices.var)
        rows = []
        for part in _plan(matrices, tracks, measured, (layer, observed_layer, signal_layer)):
            files = write_matrix(
                part.matrices,
                folder,
                part.source,
                genome=genome,
                columns=part.columns,
                digits=digits,
                suffix=f".{part.kind}",
                progress=progress,
            )
            _report(part, files)
            rows += [(track, part.kind, *labels[track], one.file) for track, one in files.items()]
        table = pd.DataFrame(rows, columns=COLUMNS)
        if is_genome_name(genome) and rows:
            write_track_hub(table, folder, str(genome), name=folder.resolve().name, email=email)
            write_igv_session(table, folder / "igv_session.xml", str(genome), locus=locus)
    return table


@dataclass(frozen=True, eq=False)
class _Part:
    """What is written of one kind: from which matrices, what of them, and the column of each track."""

    kind: str
    matrices: Matrices
    source: Source
    columns: Mapping[str, int]


def _plan(
    result: Matrices,
    tracks: Sequence[str] | None,
    measured: AnnData | None,
    layers: tuple[str | None, str | None, str | None],
) -> list[_Part]:
    columns = choose_columns(result.var.index, tracks)
    predicted = [_Part(kind, result, source, columns) for kind, source in _predicted(result).items()]
    if measured is None:
        return predicted
    with open_matrices(measured) as given:
        there = {name: n for name, n in choose_columns(given.var.index, None).items() if name in columns}
        sources = _measured(given, [part.kind for part in predicted], layers, _find_rows(given.obs, result.obs))
    return [*(_Part(kind, given, source, there) for kind, source in sources.items()), *predicted]


def _report(part: _Part, files: Mapping[str, Written]) -> None:
    """Report what is missing, or 0."""
    zero = [name for name, one in files.items() if one.is_zero]
    if zero and part.kind == _keys.LOWER:
        line = "The lower end of the interval is 0 everywhere for %s: %s."
        _log.warning(line, counted(len(zero), "track"), listed(zero, 3))
    lacking = [name for name in part.columns if name not in files]
    if lacking and part.kind not in (OBSERVED, OBSERVED_PVAL):
        what = f"{part.kind} holds no value of {counted(len(lacking), 'track')}, {listed(lacking, 3)}"
        warnings.warn(f"{what}; no file is written.", stacklevel=levels_to_caller())


def _labels(var: pd.DataFrame) -> dict[str, list[str]]:
    """Biosample and assay by track; the track's name where there is no such column."""
    keys = (_keys.BIOSAMPLE, _keys.ASSAY)
    return {str(name): [str(var.loc[name, key]) if key in var else str(name) for key in keys] for name in var.index}


def _predicted(matrices: Matrices) -> dict[str, Source]:
    """What to write of a result, by kind."""
    kinds = {}
    if matrices.x is not None and (_keys.DISPERSION in matrices.layers or _keys.PVAL not in matrices.layers):
        kinds[IMPUTED] = Source()  # of a model without counts X is the signal again
    for kind in (_keys.LOWER, _keys.UPPER, _keys.DENOISED):
        if kind in matrices.layers:
            kinds[kind] = Source(kind)
    if _keys.PVAL in matrices.layers:
        kinds[_keys.PVAL] = Source(_keys.PVAL, scale="-log10p")
    return kinds


def _measured(
    given: Matrices, predicted: Sequence[str], layers: tuple[str | None, str | None, str | None], rows: tuple[int, int]
) -> dict[str, Source]:
    """What to write of the measured data: counts, signal or both, as they are predicted."""
    layer, observed_layer, signal_layer = layers
    kinds = {}
    if IMPUTED in predicted:
        observed = observed_layer if observed_layer in given.layers else None
        kinds[OBSERVED] = Source(layer, observed, rows=rows)
    if _keys.PVAL in predicted and signal_layer in given.layers:
        kinds[OBSERVED_PVAL] = Source(signal_layer, scale="-log10p", rows=rows)
    return kinds


def _find_rows(measured: pd.DataFrame, result: pd.DataFrame) -> tuple[int, int]:
    """First row of the measured data that is in a result, and the row after the last."""
    for obs in (measured, result):
        require_places(obs)
    ends = []
    for row in (0, -1):
        place = result[[_keys.CHROM, _keys.START, _keys.END]].iloc[row]
        is_here_r = np.all([measured[name].to_numpy() == place[name] for name in place.index], axis=0)
        if not is_here_r.any():
            region = f"{place[_keys.CHROM]}:{place[_keys.START]}-{place[_keys.END]}"
            raise ValueError(f"region {region} of the result is not in measured. Pass the data that were imputed.")
        ends.append(int(np.flatnonzero(is_here_r)[row]))
    return ends[0], ends[1] + 1
