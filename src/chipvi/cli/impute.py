"""chipvi impute: tracks from a saved model, to a file, to bigWig files, or both."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _keys
from .._messages import and_more, counted, listed, unknown
from .._quiet import quiet_lightning
from .cluster import connected, read_shard
from .console import open_console, print_files, print_line
from .options import (
    Accelerator,
    Chromosomes,
    DryRun,
    Genome,
    Model,
    Regions,
    Scheduler,
    Shard,
    Workers,
    require_folder,
)
from .places import find_rows, read_place, require_places
from .saved import find_saved, load_saved

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from ..model.chipvi import ChipVI
    from ..predict.imputation import Imputation


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    model: Model
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, .h5ad or .zarr.", show_default=False)
    ] = None
    bigwig: Annotated[Path | None, typer.Option(help="Folder for a bigWig file of each track.")] = None
    chromhmm: Annotated[
        Path | None, typer.Option(help="Folder for the input of ChromHMM: what was measured, imputed where it was not.")
    ] = None
    genome: Genome = None
    email: Annotated[
        str, typer.Option(help="Contact address of the track hub, which UCSC requires.", metavar="ADDRESS")
    ] = "nobody@example.org"
    locus: Annotated[
        str | None, typer.Option(help="Where the session of IGV opens, chr1:1,001-2,000; by default the whole genome.")
    ] = None
    data: Annotated[Path | None, typer.Option(help="Regions x tracks to impute in; by default those of training.")] = (
        None
    )
    tracks: Annotated[
        str | None, typer.Option(help="By commas: names, or biosample.assay for what nobody has run; by default all.")
    ] = None
    regions: Regions = None
    chromosomes: Chromosomes = None
    depth: Annotated[float | None, typer.Option(help="Reads to impute at; by default each track's own.", min=1)] = None
    level: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.95
    intervals: Annotated[bool, typer.Option(help="Intervals as well.")] = True
    denoised: Annotated[bool, typer.Option(help="Denoised counts as well.")] = True
    accelerator: Accelerator = "auto"
    workers: Workers = None
    scheduler: Scheduler = None
    shard: Shard = None
    dry_run: DryRun = False


def run(options: Options) -> None:
    """Impute tracks with a model: expected counts, intervals and denoised counts, to a file, bigWig files or both.

    With a --genome that UCSC has, such as hg38 or mm10, or where the data name such an assembly, the bigWig files come
    with a track hub and a session of IGV.

    Tracks in --data that the model has not seen are taken as input, and imputed too.
    """
    from .._files import claimed, shard_of
    from ..data.check import surveyed_once
    from ..predict.request import require_level

    _require_writable(options)
    require_level(options.level)
    shard = read_shard(options.shard)
    with ExitStack() as stack:
        for path in () if options.dry_run else _asked(options):
            stack.enter_context(claimed(path if shard is None else shard_of(path, shard)))
        stack.enter_context(surveyed_once())
        _impute(options, shard, open_console())


def _impute(options: Options, shard: tuple[int, int] | None, console: Console) -> None:
    from ..data.segments import refuse_overlaps

    model, lines = _open(options.model, options.data, options.accelerator)
    for line in lines:
        print_line(line, console)
    targets = _default_targets(model) if options.tracks is None else find_tracks(options.tracks, model)
    rows = find_rows(model.adata.obs, options.chromosomes, options.regions)
    if options.bigwig is not None or options.chromhmm is not None:
        require_places(model.adata.obs)
        refuse_overlaps(model.adata.obs if rows is None else model.adata.obs.iloc[rows])
    verb = "Would impute" if options.dry_run else "Imputing"
    regions = counted(model.adata.n_obs if rows is None else len(rows), "region")
    at = "" if options.depth is None else f" at a depth of {counted(round(options.depth), 'read')}"
    print_line(f"{verb} {regions} x {listed(targets.index)}{at}.", console)
    if options.dry_run:
        for path in _asked(options):
            print_line(f"Would write: {path}", console)
        return
    with connected(options.scheduler, options.workers) as executor:
        work = model.plan_imputation(
            None,
            rows,
            targets,
            options.depth,
            options.level,
            processes=options.workers,
            executor=executor,
            intervals=options.intervals,
            denoised=options.denoised,
        )
        with quiet_lightning():
            _write(model, work, shard, options, console)


def _asked(options: Options) -> list[Path]:
    """All that is to be written."""
    return [path for path in (options.out, options.bigwig, options.chromhmm) if path is not None]


def _write(model: ChipVI, work: Imputation, shard: tuple[int, int] | None, options: Options, console: Console) -> None:
    what = _asked(options)[0]
    if options.out is not None:
        path = work.write(options.out, shard)
        if shard is None:
            more = ["intervals"] * options.intervals + ["denoised counts"] * options.denoised
            print_line(f"Wrote: {path}, {listed(['imputed counts', *more])}.", console)
            _write_folders(path, model, options, console)
    else:
        with work.computed(what, shard) as store:
            if store is not None:
                _write_folders(store, model, options, console)
    if shard is not None:
        print_line(f"Shard {options.shard} of {what} is done. Once all are, run the same without --shard.", console)


def _write_folders(result: Path, model: ChipVI, options: Options, console: Console) -> None:
    """Write what other programs read, of a result in a file."""
    if options.bigwig is not None:
        _write_bigwigs(result, model, options, options.bigwig, console)
    if options.chromhmm is not None:
        _write_chromhmm(result, model, options, options.chromhmm, console)


def _write_chromhmm(result: Path, model: ChipVI, options: Options, folder: Path, console: Console) -> None:
    from .. import io

    keys = model.setup_keys
    files = io.write_chromhmm(
        result,
        folder,
        model.adata,
        layer=keys.layer,
        observed_layer=keys.observed_layer,
        genome=options.genome,
    )
    marks = f"binarised marks of {counted(len(files), 'biosample')}, for LearnModel"
    print_files(folder, {"binary": marks, "signal": "the counts that they are made of"}, console)


def _write_bigwigs(result: Path, model: ChipVI, options: Options, folder: Path, console: Console) -> None:
    from .. import io
    from ..io.genomes import assembly_of, is_genome_name

    keys = model.setup_keys
    has_hub = is_genome_name(options.genome or assembly_of(model.adata.uns))
    files = io.write_tracks(
        result,
        folder,
        genome=options.genome,
        measured=model.adata if has_hub else None,
        layer=keys.layer,
        observed_layer=keys.observed_layer,
        signal_layer=keys.signal_layer,
        email=options.email,
        locus=options.locus,
    )
    _print_bigwigs(files, folder, console)


def _print_bigwigs(files: pd.DataFrame, folder: Path, console: Console) -> None:
    names = {f"*.{kind}.bw": counted(len(part), "track") for kind, part in files.groupby("kind", sort=False)}
    more = {"hub.txt": "a track hub for UCSC", "igv_session.xml": "a session for IGV"}
    print_files(folder, names | {name: what for name, what in more.items() if (folder / name).exists()}, console)
    if not any((folder / name).exists() for name in more):
        print_line("No track hub, no session: the data name no assembly of UCSC. Name it by --genome.", console)


def _require_writable(options: Options) -> None:
    from .. import io
    from .._files import require_new

    if not _asked(options):
        raise ValueError(
            "name what to write: --out with a file that ends in .h5ad or .zarr, --bigwig or --chromhmm with a folder, "
            "or several of them."
        )
    if options.genome is not None and options.bigwig is None and options.chromhmm is None:
        raise ValueError("--genome is for bigWig files and ChromHMM; name a folder with --bigwig or --chromhmm.")
    if options.locus is not None:
        read_place(options.locus)
    if options.out is not None:
        require_new(options.out)
        require_folder(options.out.parent)
    for folder in filter(None, (options.bigwig, options.chromhmm)):
        require_folder(folder)
    if options.genome is not None:
        io.chrom_sizes(options.genome)


def _open(folder: Path, path: Path | None, accelerator: str) -> tuple[ChipVI, list[str]]:
    """The model on the data to impute in, and what to print about it."""
    from ..io.inputs import open_anndata
    from ..model.chipvi import ChipVI

    saved = find_saved(folder)
    if path is None:
        return load_saved(saved, None, accelerator), []
    adata = open_anndata(path)
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
        query = ChipVI.load_query_data(adata[:, new].to_memory(), reference)
    lines = [f"New to the model: {listed(new)}. They are input and may be imputed; the model itself was not changed."]
    return query, lines + [f"Warning: {one.message}" for one in caught if "of the query" in str(one.message)]


def _label_tracks(model: ChipVI) -> pd.DataFrame:
    """Biosample and assay of every track, by name."""
    import pandas as pd

    grid = model.grid
    labels = {
        _keys.BIOSAMPLE: [grid.biosamples[b] for b in grid.biosample_t],
        _keys.ASSAY: [grid.assays[a] for a in grid.assay_t],
    }
    return pd.DataFrame(labels, index=list(map(str, model.adata.var_names)))


def _default_targets(model: ChipVI) -> pd.DataFrame:
    """All tracks but the controls; of a query, those of the biosamples that it brought."""
    tracks = _label_tracks(model)
    first = 0 if model.reference_size_ is None else model.reference_size_.n_tracks
    is_new_t = tracks[_keys.BIOSAMPLE].isin(tracks[_keys.BIOSAMPLE].iloc[first:])
    return tracks[model.grid.is_target_t & is_new_t]


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
    import pandas as pd

    tracks = _label_tracks(model)
    labels = dict(zip(tracks.index, tracks.itertuples(index=False, name=None), strict=True))
    names = {pair: name for name, pair in labels.items()}
    grid = [(b, a) for b in model.grid.biosamples for a in model.grid.assays]
    pairs = {f"{b}{mark}{a}": (b, a) for mark in ".:" for b, a in grid} | labels
    rows = {}
    for one in filter(None, (part.strip() for part in asked.split(","))):
        if one not in pairs:
            near = [*labels, *(f"{b}.{a}" for b, a in grid if (b, a) not in names)]
            raise ValueError(unknown("track", one, near, "the model's tracks and combinations of biosample and assay"))
        rows[names.get(pairs[one], ".".join(pairs[one]))] = pairs[one]
    controls = [name for name in rows if name in tracks.index[~model.grid.is_target_t]]
    if controls:
        raise ValueError(
            f"track {controls[0]} is a control, which is input only; leave it out of the tracks to impute."
        )
    if not rows:
        raise ValueError("tracks name no track; leave the option out for all.")
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=[_keys.BIOSAMPLE, _keys.ASSAY])
