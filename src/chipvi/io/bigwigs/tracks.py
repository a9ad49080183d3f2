"""All tracks of a result to files that genome browsers open."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData

from ... import _keys
from ..._arguments import checked
from ..._files import claimed
from ..genomes import assembly_of, is_genome_name
from .browsers import COLUMNS, write_igv_session, write_track_hub
from .colors import IMPUTED
from .matrices import Matrices, open_matrices
from .write import write_bigwigs


@checked
def write_tracks(
    result: AnnData | str | PathLike,
    folder: str | PathLike,
    *,
    genome: str | Path | pd.Series | None = None,
    tracks: Sequence[str] | None = None,
    digits: int | None = 4,
    progress: bool = True,
) -> pd.DataFrame:
    """Write everything that a model predicts of tracks, for genome browsers.

    One bigWig file per track of each of: `imputed` (X), the ends of the interval `lower` and `upper`, `denoised` counts
    and, as -log10 p, `pval`, as far as the result has them. For a genome of a known name also a track hub (`hub.txt`)
    and a session of IGV (`igv_session.xml`), which show the interval behind the imputed counts. Without `genome` it is
    the assembly that the result names in `uns`, if it names one.

    Parameters
    ----------
    result
        What `model.impute()` returned, or the `.h5ad` or `.zarr` file that it wrote, which is read in pieces.
    folder, genome, tracks, digits, progress
        See :func:`write_bigwigs`.

    Returns
    -------
    A row per bigWig file: `track`, `kind`, `biosample`, `assay` and `file`, as :func:`write_track_hub` and
    :func:`write_igv_session` take it.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As :func:`write_bigwigs`.
    BlockingIOError
        If another process is writing to the folder with this function.

    Examples
    --------
    >>> files = write_tracks(model.impute(), "tracks", genome="hg38")  # doctest: +SKIP
    """
    folder = Path(folder)
    with claimed(folder):  # for the hub and the session list all files of one result
        return _write_tracks(result, folder, genome, tracks, digits, progress)


def _write_tracks(
    result: AnnData | str | PathLike,
    folder: Path,
    genome: str | Path | pd.Series | None,
    tracks: Sequence[str] | None,
    digits: int | None,
    progress: bool,
) -> pd.DataFrame:
    with open_matrices(result) as matrices:
        var = matrices.var
        options = _kinds(matrices)
        genome = assembly_of(matrices.uns) if genome is None else genome
    rows = []
    for kind, chosen in options.items():
        files = write_bigwigs(
            result, folder, genome=genome, tracks=tracks, digits=digits, suffix=f".{kind}", progress=progress, **chosen
        )
        for track, file in files.items():
            labels = [str(var[key][track]) if key in var else track for key in (_keys.BIOSAMPLE, _keys.ASSAY)]
            rows.append((track, kind, *labels, file))
    table = pd.DataFrame(rows, columns=COLUMNS)
    if is_genome_name(genome) and rows:
        write_track_hub(table, folder, str(genome), name=folder.resolve().name)
        write_igv_session(table, folder / "igv_session.xml", str(genome))
    return table


def _kinds(matrices: Matrices) -> dict[str, dict[str, Any]]:
    """What to write, and how."""
    kinds: dict[str, dict[str, Any]] = {}
    if matrices.x is not None and (_keys.LOWER in matrices.layers or _keys.PVAL not in matrices.layers):
        kinds[IMPUTED] = {}  # of a model without counts X is the signal again
    for layer in (_keys.LOWER, _keys.UPPER, _keys.DENOISED):
        if layer in matrices.layers:
            kinds[layer] = {"layer": layer}
    if _keys.PVAL in matrices.layers:
        kinds[_keys.PVAL] = {"layer": _keys.PVAL, "scale": "-log10p"}
    return kinds
