"""A sample sheet becomes one AnnData: counts, signal, and what each track is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

from ... import _keys
from ..._arguments import checked, require_processes, require_shard, require_whole
from ..._files import claimed, new_h5ad, new_zarr, require_writable, shard_of, written_whole
from ..._messages import and_more, listed
from ..bigwigs.read import read_columns, read_means, require_uncovered
from ..contigs import choose_chromosomes
from ..counting.alignments import ReadFilters
from ..counting.blacklist import Kept, leave_out
from ..counting.count import (
    COUNTING,
    count_sources,
    count_tracks,
    describe_counting,
    describe_tracks,
    require_strands,
)
from ..counting.covariates import region_covariates, require_files_of
from ..counting.formats import Source, find_source
from ..counting.rules import CountingRule
from ..genomes import chrom_sizes, cut_regions, is_genome_name, make_bins
from ..inputs import open_anndata, read_bed
from ..places import PLACE, check_regions
from ..reading import Reading
from .headers import require_assembly
from .pieces import Pieces, Store
from .sheet import FILE, FOLD_CHANGE, check_sheet, read_sheet
from .tracks import Track, plan_tracks

_LEFT_OUT = "blacklisted_regions_left_out"


def choose_regions(
    regions: pd.DataFrame | str | Path | None,
    genome: str | Path | pd.Series | None,
    bin_size: int | None,
    chromosomes: str | None,
) -> pd.DataFrame:
    """Regions to read: bins of a genome, or given ones, whole or cut into bins.

    Returns
    -------
    `chrom`, `start` and `end`, sorted by start within a chromosome.

    Raises
    ------
    ValueError
        If there is neither, both are incomplete, or the regions overlap.
    """
    if regions is None:
        if genome is None or bin_size is None:
            raise ValueError("say where to count: give regions, or a genome and a bin size.")
        return make_bins(genome, bin_size, chromosomes)
    table = check_regions(regions if isinstance(regions, pd.DataFrame) else read_bed(Path(regions)))[PLACE]
    order = list(pd.unique(table[_keys.CHROM]))
    if chromosomes is not None:
        order = choose_chromosomes(order, chromosomes)
    chrom = pd.Categorical(table[_keys.CHROM], categories=order)
    table = table.assign(**{_keys.CHROM: chrom}).dropna(subset=[_keys.CHROM])
    table = table.sort_values([_keys.CHROM, _keys.START, _keys.END], kind="stable", ignore_index=True)
    _refuse_overlaps(table)
    return table if bin_size is None else cut_regions(table, bin_size)


@dataclass(frozen=True, eq=False)
class SheetPlan:
    """What a sheet asks for: its tracks, the files of reads of each, and the regions that the blacklist leaves."""

    tracks: list[Track]
    sources: dict[str, list[Source]]
    kept: Kept

    @property
    def regions(self) -> pd.DataFrame:
        """Where to count."""
        return self.kept.regions


def plan_sheet(
    sheet: str | Path | pd.DataFrame,
    *,
    regions: pd.DataFrame | str | Path | None,
    genome: str | Path | pd.Series | None,
    bin_size: int | None,
    chromosomes: str | None,
    blacklist: pd.DataFrame | str | Path | None,
    merge_replicates: bool,
    rule: CountingRule,
    fasta: str | Path | None = None,
    mappability: str | Path | None = None,
) -> SheetPlan:
    """Check all that can be checked before a read is counted; arguments and errors as :func:`count_sheet`."""
    table = check_sheet(sheet) if isinstance(sheet, pd.DataFrame) else read_sheet(sheet)
    tracks = plan_tracks(table, merge_replicates)
    places = choose_regions(regions, genome, bin_size, chromosomes)
    sources = {
        track.name: [find_source(Path(file), kind) for file, kind in track.counted.items()]
        for track in tracks
        if track.counted
    }
    require_strands((source for of_track in sources.values() for source in of_track), rule)
    require_assembly([file for track in tracks for file in track.files], places, genome)
    require_files_of(places, fasta, mappability)
    kept = leave_out(places, blacklist)
    return SheetPlan(tracks, sources, replace(kept, regions=kept.regions.reset_index(drop=True)))


def refuse_regions(given: Mapping[str, object]) -> None:
    """Refuse arguments, by name, of regions where tracks are appended to a store, which has its own.

    Raises
    ------
    ValueError
        Which names those that are given.
    """
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ValueError(f"tracks are appended in the regions of the store; leave out {listed(names)}.")


@checked
def count_sheet(
    sheet: str | Path | pd.DataFrame,
    *,
    regions: pd.DataFrame | str | Path | None = None,
    genome: str | Path | pd.Series | None = None,
    bin_size: int | None = None,
    chromosomes: str | None = None,
    blacklist: pd.DataFrame | str | Path | None = None,
    merge_replicates: bool = False,
    uncovered: Literal["missing", "zero"] = "missing",
    rule: str = "shifted",
    fragment_length: int = 150,
    min_mapq: int = 0,
    duplicates: bool = False,
    secondary: bool = False,
    supplementary: bool = False,
    strand_shift: tuple[int, int] = (0, 0),
    fasta: str | Path | None = None,
    mappability: str | Path | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    out: str | Path | None = None,
    append: bool = False,
    shard: tuple[int, int] | None = None,
) -> AnnData | None:
    """Read all files of a sample sheet into one AnnData, ready for `ChipVI.setup_anndata`.

    Parameters
    ----------
    sheet
        As for :func:`read_sheet`, or such a table.
    regions
        Where to count: a table with `chrom`, `start` and `end`, or a BED file; sorted here, and without overlaps. With
        `bin_size` each is cut into bins.
    genome, bin_size, chromosomes
        Without regions: bins of a genome, as in :func:`make_bins`. With regions the genome is only compared.
    blacklist, rule, fragment_length, min_mapq, duplicates, secondary, supplementary, strand_shift
        As in :func:`count_reads`.
    merge_replicates
        Add up the counts of all lines with one biosample and assay. Otherwise each replicate is a biosample of its own,
        such as ``K562_rep1``, in every biosample that has more than one.
    uncovered
        What regions are that a bigWig file does not cover, as in :func:`read_bigwigs`.
    fasta, mappability
        Sequence of the genome, and a bigWig of its mappability, for covariates of the regions, as in
        :func:`region_covariates`.
    processes, executor
        Files to read at the same time, or who reads them, as in :func:`count_reads`.
    progress
        Show progress bars.
    out
        File to write, ``.h5ad`` or ``.zarr``, which must not exist; it appears only once it is whole. What was read of
        a file is kept beside it meanwhile, in a hidden folder, so that after an error or an interrupt the same call
        reads only the files that are missing. A ``.zarr`` store is written some regions at a time, so that memory does
        not grow with the tracks: whole numbers of the narrowest type, chunks of consecutive regions of all tracks.
    append
        Whether `out` is a ``.zarr`` store that is there, to which the tracks of the sheet are added. It has its
        regions; rule and filters must be those that it was counted by. Tracks that it has already are left out. Until
        all is written it stays as it is.
    shard
        With (2, 4), only the second of four parts of the files is read, kept beside `out`, and nothing is returned.
        The parts may be read at the same time, on several machines with one file system; the same call without `shard`
        then reads what is missing, if anything is, and writes `out`.

    Returns
    -------
    Regions x tracks, named ``biosample.assay``; of a ``.zarr`` store opened lazily if it is large.

    - ``X``: counts; 0 where the layer ``observed`` is 0, which marks tracks without alignments.
    - layer ``signal``: arcsinh(-log10 p), NaN where missing; only if the sheet has p-values.
    - layer ``fold_change``: NaN where missing; only if the sheet has any.
    - ``obs``: ``chrom``, ``start``, ``end``, and the covariates of `fasta` and `mappability`.
    - ``var``: ``biosample``, ``assay``, ``is_control``, ``depth`` (reads that passed the filters, over the whole file;
      NaN without alignments), the other columns of :func:`count_reads`, and the sheet's covariates.

    Raises
    ------
    ValueError
        If the sheet, the regions or a file is wrong, or a file is of another assembly than the genome.
    FileExistsError
        If `out` is there already.
    BlockingIOError
        If another process is writing to `out`.
    ChildProcessError
        If a worker died over one file three times, or the executor lost one.
    OSError
        If `out` cannot be written, as where the disk is full.
    """
    # they refuse what is wrong before a file is opened
    counting = CountingRule(rule, fragment_length, strand_shift)
    filters = ReadFilters(min_mapq, duplicates, secondary, supplementary)
    require_uncovered(uncovered)
    require_processes(processes)
    if bin_size is not None:
        require_whole("bin_size", bin_size, least=1, unit="bp")
    require_shard(shard)
    if shard is not None and out is None:
        raise ValueError("a shard is kept beside the file that it becomes part of; name the file with out.")
    if append and (out is None or Path(out).suffix != ".zarr"):
        raise ValueError("tracks are appended to a .zarr store; name it with out.")
    if append:
        of_regions = {"regions": regions, "bin_size": bin_size, "chromosomes": chromosomes, "fasta": fasta}
        refuse_regions(of_regions | {"mappability": mappability})
    reading = Reading(processes, executor, progress, shard=shard)
    with ExitStack() as stack:
        store = None
        if out is not None:
            out = Path(out)
            stack.enter_context(claimed(out if shard is None else shard_of(out, shard)))
            if append:
                store = Store.read(out)
                regions = store.obs
            else:
                require_writable(out)
        plan = plan_sheet(
            sheet,
            regions=regions,
            genome=genome,
            bin_size=bin_size,
            chromosomes=chromosomes,
            blacklist=blacklist,
            merge_replicates=merge_replicates,
            rule=counting,
            fasta=fasta,
            mappability=mappability,
        )

        def add_covariates(obs: pd.DataFrame) -> pd.DataFrame:
            if fasta is None and mappability is None:
                return obs
            return obs.join(region_covariates(obs, fasta=fasta, mappability=mappability, progress=progress))

        if store is not None:
            plan = leave_known(plan, store, describe_counting(counting, filters, plan.kept))
        if out is not None:
            reading = stack.enter_context(reading.beside(out))
        sizes = None if genome is None else chrom_sizes(genome)
        uns: dict[str, Any] = {"assembly": genome} if is_genome_name(genome) else {}
        if bin_size is not None:
            uns["bin_size"] = bin_size
        files = {
            _keys.SIGNAL: {track.name: track.pvalue for track in plan.tracks if track.pvalue},
            FOLD_CHANGE: {track.name: track.fold_change for track in plan.tracks if track.fold_change},
        }
        if out is not None and out.suffix == ".zarr":
            columns = {}
            if plan.sources:
                columns = count_sources(plan.sources, plan.kept, sizes, counting, filters, reading) or {}
            means = {
                name: read_means(sources, plan.regions[PLACE], uncovered, name == _keys.SIGNAL, reading)
                for name, sources in files.items()
                if sources
            }
            if shard is not None:
                return None
            if columns:
                uns[COUNTING] = describe_counting(counting, filters, plan.kept)
            var = describe(plan.tracks, describe_tracks(plan.sources, columns) if columns else None, files)
            layers = {name: dict(zip(files[name], found or (), strict=True)) for name, found in means.items()}
            obs = plan.regions[PLACE] if append else add_covariates(plan.regions[PLACE])
            Pieces(list(var.index), columns, layers).write(out, obs, var, uns, store)
            return open_anndata(out)
        counts = None
        if plan.sources:
            counts = count_tracks(plan.sources, plan.kept, sizes, counting, filters, reading)
        signal = {
            name: read_columns(sources, plan.regions, uncovered, name == _keys.SIGNAL, None, reading)
            if sources
            else None
            for name, sources in files.items()
        }
        if shard is not None:
            return None
        adata = assemble(plan.tracks, counts, signal)
        adata.obs = add_covariates(adata.obs)
        adata.uns.update(uns)
        if out is not None:
            write_whole(adata, out)
        return adata


def leave_known(plan: SheetPlan, store: Store, counting: dict[str, Any]) -> SheetPlan:
    """The plan without tracks that a store has already, of the same files.

    Raises
    ------
    ValueError
        If a track is there of other files, none is left, or the store was counted by other rules.
    """
    known: dict[str, Any] = store.uns.get(COUNTING, {})
    differ = [name for name in known if name != _LEFT_OUT and str(known[name]) != str(counting.get(name))]
    if plan.sources and differ:
        raise ValueError(
            f"the store was counted with {differ[0]} {known[differ[0]]}, and is to be appended to with "
            f"{counting.get(differ[0])}. Count by the same rule and filters."
        )
    if plan.kept.n_left_out or (known.get(_LEFT_OUT) and plan.kept.blacklist is None):
        raise ValueError("the store was counted with another blacklist. Name the same one.")
    new = []
    for track in plan.tracks:
        if track.name not in store.var.index:
            new.append(track)
        elif ";".join(str(source.path) for source in plan.sources.get(track.name, ())) != store.var[FILE][track.name]:
            raise ValueError(
                f"track {track.name} is in the store already, of other files: {store.var[FILE][track.name]}. Give it "
                "another name, or count to another store."
            )
    if not new:
        raise ValueError("the store has all tracks of the sheet already; there is nothing to append.")
    names = {track.name for track in new}
    return replace(plan, tracks=new, sources={name: found for name, found in plan.sources.items() if name in names})


def assemble(tracks: Sequence[Track], counts: AnnData | None, layers: Mapping[str, AnnData | None]) -> AnnData:
    """Put the counts of some tracks and the signals of some into one AnnData that has all tracks.

    Parameters
    ----------
    tracks
        In the order of the result.
    counts
        Regions x those tracks that have alignments.
    layers
        By name; the same regions x those tracks that have such a file, NaN where nothing is known.
    """
    names = [track.name for track in tracks]
    first = next(part for part in (counts, *layers.values()) if part is not None)
    shape = (first.n_obs, len(names))
    files = {name: {} if part is None else part.var[FILE].to_dict() for name, part in layers.items()}
    var = describe(tracks, None if counts is None else counts.var, files)
    adata = AnnData(obs=first.obs[[_keys.CHROM, _keys.START, _keys.END]], var=var)
    adata.X, adata.layers[_keys.OBSERVED] = _counts_and_mask(counts, names, shape)
    if counts is not None:
        adata.uns.update(counts.uns)
    for layer, part in layers.items():
        if part is not None:
            values_rt = np.full(shape, np.nan, dtype=np.float32)
            values_rt[:, var.index.get_indexer(part.var_names)] = part.X
            adata.layers[layer] = values_rt
    return adata


def describe(
    tracks: Sequence[Track], counted: pd.DataFrame | None, files: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """`var` of the result.

    Parameters
    ----------
    tracks
        In its order.
    counted
        What :func:`chipvi.io.counting.count.describe_tracks` says of those with alignments.
    files
        bigWig file of each track that has one, by layer.
    """
    names = [track.name for track in tracks]
    var = pd.DataFrame(
        {
            _keys.BIOSAMPLE: [track.biosample for track in tracks],
            _keys.ASSAY: [track.assay for track in tracks],
            _keys.IS_CONTROL: [track.is_control for track in tracks],
            _keys.DEPTH: np.nan,
        },
        index=pd.Index(names),
    )
    for name, cells in pd.DataFrame([track.covariates for track in tracks], index=var.index).items():
        var[name] = _as_numbers(cells)
    if counted is not None:
        for name in counted:
            var[name] = counted[name].reindex(names)
    for layer, file_of in files.items():
        if file_of:
            var[f"{layer}_{FILE}"] = pd.Series(dict(file_of)).reindex(names)
    texts = [name for name in (FILE, "format", *(f"{layer}_{FILE}" for layer in files)) if name in var]
    return var.assign(**{name: var[name].fillna("") for name in texts})


def write_whole(adata: AnnData, path: Path) -> Path:
    """Write an AnnData so that the file appears only once it is whole; errors as :func:`require_writable`."""
    require_writable(path)
    with written_whole(path) as partial:
        if path.suffix == ".h5ad":
            adata.strings_to_categoricals()  # as adata.write_h5ad does
            with new_h5ad(partial) as (file, _):
                write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip"})
        else:
            write_elem(new_zarr(partial), "/", adata)
    return path


def _refuse_overlaps(regions: pd.DataFrame) -> None:
    start, end = regions[_keys.START].to_numpy(), regions[_keys.END].to_numpy()
    same = regions[_keys.CHROM].cat.codes.diff().eq(0).to_numpy()
    broken = np.flatnonzero(same & (start < np.r_[0, end[:-1]]))
    if len(broken):
        chrom, start_bp, end_bp = regions.iloc[broken[0]]
        raise ValueError(
            f"regions must not overlap; {chrom}:{start_bp}-{end_bp} does{and_more(len(broken))}. Merge them, or make "
            "bins."
        )


def _counts_and_mask(counts: AnnData | None, names: list[str], shape: tuple[int, int]) -> tuple[Any, Any]:
    """X and the mask of what was measured: 0 in both for tracks without alignments."""
    if counts is None:
        return sparse.csr_matrix(shape, dtype=np.int32), sparse.csr_matrix(shape, dtype=np.uint8)
    columns = pd.Index(names).get_indexer(counts.var_names)
    observed_rt = np.zeros(shape, dtype=np.uint8)
    observed_rt[:, columns] = 1
    if len(columns) == len(names):
        return counts.X, observed_rt  # count_reads keeps the order
    if sparse.issparse(counts.X):
        rows = np.arange(len(columns))
        place = sparse.csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(rows), len(names)))
        return sparse.csr_matrix(counts.X @ place), observed_rt
    counts_rt = np.zeros(shape, dtype=counts.X.dtype)
    counts_rt[:, columns] = counts.X
    return counts_rt, observed_rt


def _as_numbers(cells: pd.Series) -> pd.Series:
    """A covariate as numbers, if all that is filled in are some."""
    filled = cells.replace("", np.nan)
    numbers = pd.to_numeric(filled, errors="coerce")
    return numbers if numbers.notna().eq(filled.notna()).all() else filled
