"""Alignments and fragments to an AnnData of counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique
from pandas.api.types import is_integer_dtype

from ... import _keys
from ..._messages import and_more
from ..arguments import require_processes
from ..assembly import lengths_by_chrom, require_one_assembly
from ..contigs import log_renamed
from ..genomes import chrom_sizes, make_bins, read_blacklist
from .alignments import DROPPED, ReadFilters, contig_lengths
from .files import FileCounts, Plan, count_files, file_kind
from .regions import Intervals, Regions
from .rules import CountingRule, Reads

# Key of uns under which the rule and the filters are kept with the counts.
COUNTING = "chipvi_counting"
_log = logging.getLogger(__name__)
_MANY_LONE_MATES = 0.01
_MOSTLY_ZERO = 0.5
_INT32_MAX = np.iinfo(np.int32).max
_Files = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Sequence[str | Path]]


def count_reads(
    files: _Files,
    regions: pd.DataFrame | None = None,
    *,
    genome: str | Path | pd.Series | None = None,
    bin_size: int | None = None,
    chromosomes: str | None = None,
    rule: str = "shifted",
    fragment_length: int = 150,
    min_mapq: int = 0,
    duplicates: bool = False,
    secondary: bool = False,
    supplementary: bool = False,
    strand_shift: tuple[int, int] = (0, 0),
    blacklist: pd.DataFrame | str | Path | None = None,
    names: Sequence[str] | None = None,
    processes: int | None = None,
    progress: bool = True,
) -> AnnData:
    """Count the reads or fragments of alignments per region.

    Every file is read once from start to end, so it needs no index and no sorting, and the depth is that of the whole
    file. A chromosome that a file calls `1` and the regions `chr1`, or the other way round, is taken to be the same,
    and a line of the log says so.

    Parameters
    ----------
    files
        One path, several, or a mapping from the track's name to its path, or to a list of paths, replicates, that are
        added up. BAM, CRAM (the reference is not needed) and SAM; or lines of chromosome, start and end (BED, tagAlign,
        fragments.tsv; each perhaps with ``.gz``), of which those with a strand in the sixth column are reads and those
        without are fragments.
    regions
        With `chrom`, `start` and `end` (0-based, half-open), in any order, perhaps with gaps, overlaps or repeats. The
        result keeps their order and their further columns. Instead, or to have the lengths of chromosomes checked:
    genome
        Name or file of a genome, as in :func:`make_bins`.
    bin_size
        Width in bp of the bins that are made of the genome, where no `regions` are given.
    chromosomes
        Which chromosomes to make bins of, as in :func:`make_bins`.
    rule
        Where a read counts. Of a proper pair the whole fragment counts, once.

        * ``"shifted"``: its 5' end, moved by half of `fragment_length` towards its 3' end: about the middle of the
          fragment. Of a fragment whose both ends are known, its middle. For ChIP-seq.
        * ``"five_prime"``: its 5' end; of a pair, that of the first read. For DNase, and ATAC with single reads.
        * ``"center"``: the middle of the read itself, or of the fragment.
        * ``"overlap"``: every region that it touches, from its first to its last base on the genome, as
          ``bedtools multicov`` and ``multiBamSummary`` count (which count the two reads of a pair each). Neighbouring
          regions then share reads, and the counts of the regions add up to more than the depth.
    fragment_length
        Of fragments of which only one end is known, in bp.
    min_mapq
        Lowest mapping quality that counts, 0 to 255, in alignments only. By default all do, since aligners differ in
        what they mean by it; 30 is usual for BWA and Bowtie 2.
    duplicates, secondary, supplementary
        Whether alignments that are flagged so count. Unmapped reads, reads that failed the quality control, and pairs
        that are not proper never count.
    strand_shift
        Added to the 5' ends on the plus and on the minus strand before the rule, in bp: (4, -5) for the ATAC reads of
        an aligner. Makers of fragments.tsv files have mostly done so already.
    blacklist
        Intervals, or the path of a BED file. Regions that overlap it are left out of the result, and reads whose place
        overlaps it count neither in regions nor in the depth.
    names
        Of the tracks, where `files` is no mapping; by default those of the files, without the ending.
    processes
        How many files are read at a time, each in a process of its own; by default as many as there are cores, but
        small files are read here, since a process takes some seconds to start.
    progress
        Whether to show a bar.

    Returns
    -------
    Regions x tracks with the counts in `X`: int32, a CSR matrix where more than half are zero, else an array.

    * `obs`: `chrom`, `start`, `end`; names as those of `regions`, or else like `chr1:0-200`.
    * `var`: `depth`, the number of reads (of fragments, for pairs) that passed, over the whole file; `file`, its path
      (joined by ";" for replicates); `n_records` of the file, and as `dropped_...` how many of them did not pass, each
      under the first reason that holds. One mate of each pair is among these, as `dropped_second_mate`, since the other
      stands for both: depth and dropped add up to `n_records`. `n_lone_mates` is the number of proper pairs of which
      the file lacks a mate; where there are many, a line of the log says so.
    * `uns["chipvi_counting"]`: the rule and the filters.

    The result does not depend on `processes`.

    Raises
    ------
    ValueError
        If a file is missing, damaged, truncated, of another assembly or without a chromosome of the regions, or if
        nothing in it passes; and if the regions or the options are not as said above. Nothing is then returned.
    """
    counting = CountingRule(rule, fragment_length, strand_shift)
    filters = ReadFilters(min_mapq, duplicates, secondary, supplementary)
    require_processes(processes)
    tracks = _tracks(files, names)
    obs, sizes = _regions(regions, genome, bin_size, chromosomes)
    listed_intervals = _blacklist(blacklist)
    n_listed = 0
    if listed_intervals is not None:
        free = ~touch_intervals(obs, listed_intervals)
        n_listed = int((~free).sum())
        if not free.any():
            raise ValueError(f"the blacklist must leave a region; all {len(obs):,} overlap it.")
        obs = obs[free]
    paths = [path for of_track in tracks.values() for path in of_track]
    headers = {str(path): contig_lengths(path) for path in paths if file_kind(path) == "alignments"}
    require_one_assembly(headers, obs, sizes)
    lengths = None if sizes is None else lengths_by_chrom(obs[_keys.CHROM].unique(), sizes)
    plan = Plan(Regions.from_frame(obs), listed_intervals, counting, filters, lengths)
    results = count_files(paths, plan, processes, progress)
    for path, result in zip(paths, results, strict=True):
        log_renamed(path, result.renamed)
        _log_lone_mates(path, result)
    columns, names_r = _by_track(tracks, results), _region_names(obs)
    adata = AnnData(
        _matrix(columns, names_r, list(tracks)),
        obs=obs.set_axis(names_r),
        var=pd.DataFrame([_describe(of_track, columns[name]) for name, of_track in tracks.items()], index=list(tracks)),
    )
    adata.uns[COUNTING] = {
        "rule": counting.name,
        **({"fragment_length": counting.fragment_length} if rule == "shifted" else {}),
        "strand_shift": np.array(counting.strand_shift),
        "min_mapq": min_mapq,
        "duplicates": duplicates,
        "secondary": secondary,
        "supplementary": supplementary,
        "blacklisted_regions_left_out": n_listed,
    }
    return adata


def _tracks(files: _Files, names: Sequence[str] | None) -> dict[str, list[Path]]:
    """Paths of each track, by its name."""
    if isinstance(files, Mapping):
        if names is not None:
            raise ValueError("names must not be given beside a mapping of files, which has them already.")
        tracks = {str(name): _paths(paths) for name, paths in files.items()}
    else:
        paths = _paths(files)
        names = [_stem(path) for path in paths] if names is None else [str(name) for name in names]
        if len(names) != len(paths):
            raise ValueError(f"names must name every file; there are {len(names)} names and {len(paths)} files.")
        tracks = {name: [path] for name, path in zip(names, paths, strict=True)}
        if len(tracks) < len(names):
            twice = pd.Series(names)[pd.Series(names).duplicated()].iloc[0]
            raise ValueError(f"two tracks would be called {twice!r}; give files as a mapping from names to paths.")
    if not tracks or not all(tracks.values()):
        raise ValueError("files must hold at least one path for every track; one has none, or there is no track.")
    for path in (path for of_track in tracks.values() for path in of_track):
        file_kind(path)
    return tracks


def _paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _stem(path: Path) -> str:
    name = path.stem if path.suffix.lower() in (".gz", ".bgz") else path.name
    return Path(name).stem


def _regions(
    regions: pd.DataFrame | None, genome: str | Path | pd.Series | None, bin_size: int | None, chromosomes: str | None
) -> tuple[pd.DataFrame, pd.Series | None]:
    """Regions of the result, and the sizes of the chromosomes where they are known."""
    sizes = None if genome is None else chrom_sizes(genome)
    if regions is None:
        if genome is None or bin_size is None:
            raise ValueError("give either regions, or genome and bin_size.")
        return make_bins(genome, bin_size, chromosomes), sizes
    if bin_size is not None or chromosomes is not None:
        raise ValueError("bin_size and chromosomes make bins of a genome; they must not be given beside regions.")
    absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in regions]
    if absent:
        raise ValueError(f"regions must have the columns chrom, start and end; {', '.join(absent)} not found.")
    if not len(regions):
        raise ValueError("regions must hold at least one region; there is none.")
    return _checked(regions), sizes


def _checked(regions: pd.DataFrame) -> pd.DataFrame:
    if len(absent := np.flatnonzero(regions[_keys.CHROM].isna())):
        raise ValueError(f"regions must each have a chromosome; row {absent[0]} has none{and_more(len(absent))}.")
    for key in (_keys.START, _keys.END):
        if not is_integer_dtype(regions[key]):
            raise ValueError(
                f"column {key!r} of regions must hold whole base pairs; its dtype is {regions[key].dtype}. "
                "Convert it with .astype(int)."
            )
    broken = np.flatnonzero((regions[_keys.START] < 0) | (regions[_keys.END] <= regions[_keys.START]))
    if len(broken):
        chrom, start, end = regions.iloc[broken[0]][[_keys.CHROM, _keys.START, _keys.END]]
        raise ValueError(
            f"regions must start at 0 or later and end after they start; row {broken[0]} is {chrom}:{start}-{end}"
            f"{and_more(len(broken))}."
        )
    return regions


def _blacklist(blacklist: pd.DataFrame | str | Path | None) -> Intervals | None:
    if blacklist is None:
        return None
    intervals = read_blacklist(blacklist) if isinstance(blacklist, str | Path) else blacklist
    return Intervals.from_frame(intervals) if len(intervals) else None


def touch_intervals(regions: pd.DataFrame, intervals: Intervals) -> np.ndarray:
    """Which regions share a base with any of the intervals, bool."""
    codes, chroms = pd.factorize(regions[_keys.CHROM])
    start, end = regions[_keys.START].to_numpy(np.int64), regions[_keys.END].to_numpy(np.int64)
    places = Reads(tuple(map(str, chroms)), codes, start, end, np.zeros(len(codes), np.int8), np.ones(len(codes), bool))
    return intervals.touched(places, start, end)


def _log_lone_mates(path: Path, result: FileCounts) -> None:
    if result.n_lone_mates > _MANY_LONE_MATES * result.n_pairs:
        _log.warning(
            "%s lacks a mate of %s of its %s proper pairs. Their fragments were taken from the template length of the "
            "other mate, and some may be lost; filter whole pairs rather than single mates.",
            path,
            f"{result.n_lone_mates:,}",
            f"{result.n_pairs:,}",
        )


def _by_track(tracks: Mapping[str, list[Path]], results: Sequence[FileCounts]) -> dict[str, list[FileCounts]]:
    left = iter(results)
    return {name: [next(left) for _ in paths] for name, paths in tracks.items()}


def _matrix(
    columns: Mapping[str, list[FileCounts]], regions: pd.Index, names: Sequence[str]
) -> sp.csr_matrix | np.ndarray:
    """Counts of the files, added up over the replicates of each track."""
    rows = [file.rows for name in names for file in columns[name]]
    values = [file.values for name in names for file in columns[name]]
    track = [np.full(len(file.rows), at) for at, name in enumerate(names) for file in columns[name]]
    counts = sp.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(track))), shape=(len(regions), len(names))
    ).tocsr()  # which adds up what stands in one place, as int64
    if counts.nnz and counts.data.max() > _INT32_MAX:
        row, column = (places[counts.data.argmax()] for places in counts.nonzero())
        raise ValueError(
            f"a region must hold at most {_INT32_MAX:,} reads, which int32 can hold; region {regions[row]}, track "
            f"{names[column]} holds {counts.data.max():,}. Make smaller regions."
        )
    counts = counts.astype(np.int32)
    return counts if counts.nnz < (1 - _MOSTLY_ZERO) * len(regions) * len(names) else counts.toarray()


def _region_names(obs: pd.DataFrame) -> pd.Index:
    if not is_integer_dtype(obs.index):
        return make_index_unique(obs.index.astype(str))
    chrom, start, end = (obs[key].astype(str) for key in (_keys.CHROM, _keys.START, _keys.END))
    return make_index_unique(pd.Index(chrom + ":" + start + "-" + end))


def _describe(paths: Sequence[Path], results: Sequence[FileCounts]) -> dict[str, int | str]:
    dropped = {reason: sum(result.dropped[reason] for result in results) for reason in DROPPED}
    depth = sum(result.depth for result in results)
    return {
        _keys.DEPTH: depth,
        "file": ";".join(map(str, paths)),
        "n_records": depth + sum(dropped.values()),
        **{f"dropped_{reason}": number for reason, number in dropped.items()},
        "n_lone_mates": sum(result.n_lone_mates for result in results),
    }
