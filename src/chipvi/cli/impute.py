"""The command that imputes with a saved model, to a file, to bigWig files, or both."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
from rich.console import Console

from .. import _keys, io
from .._files import require_new
from .._messages import and_more, listed, unknown
from .._quiet import quiet_lightning
from ..io.inputs import read_anndata, read_bed
from ..model.chipvi import ChipVI
from .console import tell_files
from .saved import find_saved, load_saved

_PLACE = re.compile(r"(?P<chrom>[^:]+)(:(?P<start>[\d,]+)-(?P<end>[\d,]+))?")


@dataclass(frozen=True)
class Output:
    """What to write.

    Parameters
    ----------
    file
        `.h5ad` or `.zarr` to stream to, or None.
    bigwigs
        Folder for bigWig files, or None.
    genome
        Name or file of chromosome sizes for them.
    """

    file: Path | None
    bigwigs: Path | None
    genome: str | None


def run(
    folder: Path,
    data: Path | None,
    tracks: str | None,
    regions: str | None,
    depth: float | None,
    level: float,
    accelerator: str,
    output: Output,
    dry_run: bool,
    console: Console,
) -> None:
    """Impute tracks with a model, and write them.

    Parameters
    ----------
    folder
        That `chipvi train` wrote, or `model.save`.
    data
        AnnData to impute in; None for that of training. Tracks that the model has not seen make a query of it.
    tracks
        Names, or biosamples and assays as `biosample.assay` or `biosample:assay`, by commas; None for all.
    regions
        A place as genome browsers write it, several by blanks, or a BED file; None for all.
    depth
        Reads to impute at; None for each track's own.
    level
        Probability of the interval.
    accelerator
        Where to compute.
    output
        What to write.
    dry_run
        Only tell what would be done.
    console
        Where to print.

    Raises
    ------
    ValueError
        For a folder that holds no model, data that do not fit it, and tracks or regions that are not there.
    OSError
        If the output is there already or cannot be written.
    """
    _require_writable(output)
    model, told = _open(folder, data, accelerator)
    for line in told:
        console.print(line, soft_wrap=True, highlight=False)
    targets = find_tracks(tracks, model) if tracks is not None else _default_targets(model)
    rows = None if regions is None else find_regions(regions, model.adata.obs)
    if output.bigwigs is not None:
        _require_places(model.adata.obs)
    n_regions = model.adata.n_obs if rows is None else len(rows)
    verb = "Would impute" if dry_run else "Imputing"
    at = "" if depth is None else f" at a depth of {depth:,.0f} reads"
    console.print(f"{verb} {n_regions:,} regions x {listed(targets.index)}{at}.", soft_wrap=True, highlight=False)
    if dry_run:
        for path in filter(None, (output.file, output.bigwigs)):
            console.print(f"Would write: {path}", soft_wrap=True)
        return
    options: dict[str, Any] = {"indices": rows, "tracks": targets, "depth": depth, "level": level}
    _write(model, options, output, console)


def _write(model: ChipVI, options: dict[str, Any], output: Output, console: Console) -> None:
    scratch = None
    if output.file is None:
        assert output.bigwigs is not None
        scratch = output.bigwigs.with_name(f".{output.bigwigs.name}.{uuid4().hex[:8]}.h5ad")
    path = output.file or scratch
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with quiet_lightning():
            model.impute(out=path, **options)
        if output.file is not None:
            console.print(f"Wrote: {path}, imputed counts, intervals and denoised counts.", soft_wrap=True)
        if output.bigwigs is not None:
            files = io.write_tracks(path, output.bigwigs, genome=output.genome)
            _tell_bigwigs(files, output.bigwigs, console)
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def _tell_bigwigs(files: pd.DataFrame, folder: Path, console: Console) -> None:
    names = {f"*.{kind}.bw": f"{len(part)} tracks" for kind, part in files.groupby("kind", sort=False)}
    more = {"hub.txt": "a track hub for UCSC", "igv_session.xml": "a session for IGV"}
    tell_files(folder, names | {name: what for name, what in more.items() if (folder / name).exists()}, console)


def _require_writable(output: Output) -> None:
    if output.file is None and output.bigwigs is None:
        raise ValueError("say where to write: --out with a file that ends in .h5ad or .zarr, --bigwig with a folder.")
    if output.genome is not None and output.bigwigs is None:
        raise ValueError("--genome is for bigWig files; name their folder with --bigwig.")
    if output.file is not None:
        require_new(output.file)
    if output.bigwigs is not None and output.bigwigs.exists() and not output.bigwigs.is_dir():
        raise FileExistsError(f"{output.bigwigs} is no folder. Name another for the bigWig files.")
    if output.genome is not None:
        io.chrom_sizes(output.genome)


def _require_places(obs: pd.DataFrame) -> None:
    absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in obs]
    if absent:
        raise ValueError(
            f"bigWig files and places need the columns chrom, start and end of obs; {', '.join(absent)} not found."
        )


def _open(folder: Path, path: Path | None, accelerator: str) -> tuple[ChipVI, list[str]]:
    """The model on the data to impute in, and what to say about it."""
    saved = find_saved(folder)
    if path is None:
        return load_saved(saved, None, accelerator), []
    adata = read_anndata(path)
    new = [name for name in adata.var_names if name not in saved.tracks]
    if not new:
        return load_saved(saved, adata, accelerator), []
    lacking = [name for name in saved.tracks if name not in adata.var_names]
    if len(new) < adata.n_vars and lacking:
        # neither the data of the model with more beside, nor data of new tracks alone
        raise ValueError(
            f"{path.name} must hold all tracks of the model, or new ones only; it holds {new[0]}{and_more(len(new))}, "
            f"which the model has not seen, and lacks {listed(lacking)}."
        )
    reference = load_saved(saved, None, accelerator)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        query = ChipVI.load_query_data(adata[:, new].copy(), reference)
    told = [
        f"New to the model: {listed(new)}. They are input and may be imputed; what the model knows was not changed."
    ]
    told += [f"Warning: {one.message}" for one in caught if "of the query" in str(one.message)]
    return query, told


def _default_targets(model: ChipVI) -> pd.DataFrame:
    """All tracks but the controls; of a query, those of the biosamples that it brought."""
    tracks = model.data.tracks
    first = 0 if model.reference_size_ is None else model.reference_size_.n_tracks
    new = set(tracks.biosamples[first:])
    chosen = [t for t in range(len(tracks)) if not tracks.is_control[t] and tracks.biosamples[t] in new]
    labels = {_keys.BIOSAMPLE: tracks.biosamples, _keys.ASSAY: tracks.assays}
    return pd.DataFrame(
        {key: [values[t] for t in chosen] for key, values in labels.items()}, [tracks.names[t] for t in chosen]
    )


def find_tracks(asked: str, model: ChipVI) -> pd.DataFrame:
    """The tracks that a text asks for, by name or as `biosample.assay` or `biosample:assay`.

    Returns
    -------
    `biosample` and `assay`, by name.

    Raises
    ------
    ValueError
        For what is neither, with the nearest name.
    """
    tracks = model.data.tracks
    labels = dict(zip(tracks.names, zip(tracks.biosamples, tracks.assays, strict=True), strict=True))
    names = {pair: name for name, pair in labels.items()}
    grid = [(b, a) for b in dict.fromkeys(tracks.biosamples) for a in dict.fromkeys(tracks.assays)]
    pairs = {f"{b}{mark}{a}": (b, a) for mark in ".:" for b, a in grid} | labels
    rows = {}
    for one in filter(None, (part.strip() for part in asked.split(","))):
        if one not in pairs:
            near = [*labels, *(f"{b}.{a}" for b, a in grid if (b, a) not in names)]
            raise ValueError(unknown("track", one, near, "the model's tracks and combinations of biosample and assay"))
        rows[names.get(pairs[one], ".".join(pairs[one]))] = pairs[one]
    if not rows:
        raise ValueError("tracks name no track; leave the option out for all.")
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=[_keys.BIOSAMPLE, _keys.ASSAY])


def find_regions(asked: str, obs: pd.DataFrame) -> np.ndarray:
    """Rows that touch a place, such as `chr1:1,001-2,000` (as browsers count: from 1, the end included) or a BED file.

    Raises
    ------
    ValueError
        If a place cannot be read, or no region lies there.
    """
    _require_places(obs)
    path = Path(asked)
    if path.exists():
        bed = read_bed(path)
        places = list(zip(bed[_keys.CHROM].astype(str), bed[_keys.START], bed[_keys.END], strict=True))
    elif path.suffix in (".bed", ".gz"):
        raise ValueError(f"there is no {path}.")
    else:
        places = [_read_place(one) for one in asked.split()]
    chrom, start, end = obs[_keys.CHROM].astype(str).to_numpy(), obs[_keys.START], obs[_keys.END]
    known = list(dict.fromkeys(chrom))
    is_chosen_r = np.zeros(len(obs), dtype=bool)
    rows_of = {name: np.flatnonzero(chrom == name) for name in known}
    start_r, end_r = start.to_numpy(), end.to_numpy()
    for name, low, high in places:
        rows = rows_of.get(name, np.arange(0))
        is_chosen_r[rows[(end_r[rows] > low) & (start_r[rows] < high)]] = True
    if not is_chosen_r.any():
        first = places[0][0]
        if first not in known:
            raise ValueError(unknown("chromosome", first, known, "the data"))
        there = rows_of[first]
        raise ValueError(
            f"no region of the data lies in {asked}; on {first} they lie between {start_r[there].min() + 1:,} and "
            f"{end_r[there].max():,}."
        )
    return np.flatnonzero(is_chosen_r)


def _read_place(text: str) -> tuple[str, int, float]:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"regions must be a BED file, or a place such as chr1:1,001-2,000 or chr1; got {text!r}.")
    if found["start"] is None:
        return found["chrom"], 0, np.inf
    start, end = (int(found[name].replace(",", "") or 0) for name in ("start", "end"))
    if not 0 < start <= end:
        raise ValueError(f"a place counts from 1 and ends where it starts or later; got {text!r}.")
    return found["chrom"], start - 1, end
