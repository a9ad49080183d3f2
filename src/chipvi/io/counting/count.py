"""Alignments and fragments to an AnnData of counts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique
from pandas.api.types import is_integer_dtype

from ... import _keys
from ..._arguments import checked, require_processes, require_whole
from ..assembly import lengths_by_chrom, require_one_assembly
from ..contigs import log_renamed
from ..genomes import chrom_sizes, make_bins
from ..places import check_regions
from ..reading import Reading, joined
from .alignments import DROPPED, ReadFilters, contig_lengths
from .blacklist import Kept, leave_out
from .files import FileCounts, Plan, count_files
from .formats import READS, Source, find_source
from .regions import Regions
from .rules import CountingRule

# Key of uns under which the rule and the filters are kept with the counts.
COUNTING = "chipvi_counting"
_log = logging.getLogger(__name__)
_MANY_LONE_MATES = 0.01
_MOSTLY_ZERO = 0.5
_INT32_MAX = np.iinfo(np.int32).max
_Files = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Sequence[str | Path]]


@checked
def count_reads(
    files: _Files,
    regions: pd.DataFrame | None = None,
    *,
    genome: str | Path | pd.Series | None = None,
    bin_size: int | None = None,
    chromosomes: str | None = None,
    kind: str | None = None,
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
    executor: Executor | None = None,
    progress: bool = True,
) -> AnnData:
    """Count the reads or fragments of alignments per region.

    Every file is read once from start to end, so it needs no index and no sorting, and the depth is that of the whole
    file. A chromosome that a file calls `1` and the regions `chr1`, or the other way round, is taken to be the same,
    and a line of the log reports it. A file that has both names means two chromosomes.

    Parameters
    ----------
    files
        One path, several, or a mapping from the track's name to its path, or to a list of paths, replicates, that are
        added up. BAM, CRAM (the reference is not needed) and SAM; or texts, plain or compressed with gzip: reads with a
        strand in the sixth column (BED, tagAlign), fragments (BED of 3 to 5 columns, fragments.tsv), or pairs (BEDPE).
        What a text holds is decided by `kind`, its name and its first line, and a later line that is anything else is
        refused.
    regions
        With `chrom`, `start` and `end` (0-based, half-open), in any order, perhaps with gaps, overlaps or repeats. The
        result keeps their order and their further columns. Instead, or to have the lengths of chromosomes checked:
    genome
        Name or file of a genome, as in :func:`make_bins`.
    bin_size
        Width in bp of the bins that are made of the genome, where no `regions` are given.
    chromosomes
        Which chromosomes to make bins of, as in :func:`make_bins`.
    kind
        What all `files` hold: "alignments", reads, or "fragments", whose lines are whole fragments whatever stands in
        the sixth column. By default a text called "...fragments..." holds these, and the first line of others decides.
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
        overlaps it count neither in regions nor in the depth. A warning follows if it has no chromosome of the regions.
    names
        Of the tracks, where `files` is no mapping; by default those of the files, without the ending.
    processes
        How many files are read at a time, each in a process of its own; by default as many as there are cores and
        memory for, but small files are read here, since a process takes some seconds to start. A file whose process
        dies is read again, twice at most.
    executor
        Reads the files in place of such processes: any of :mod:`concurrent.futures`, or what
        `dask.distributed.Client.get_executor` returns. Its workers see the files by the same paths.
    progress
        Whether to show a bar.

    Returns
    -------
    Regions x tracks with the counts in `X`: int32, a CSR matrix where more than half are zero, else an array.

    * `obs`: `chrom`, `start`, `end`; names as those of `regions`, or else like `chr1:0-200`.
    * `var`: `depth`, the number of reads (of fragments, for pairs) that passed, over the whole file; `file`, its path,
      and `format`, what it was read as: BAM, CRAM, SAM, reads, fragments or pairs (both joined by ";" for
      replicates); `n_records` of the file, and as `dropped_...` how many of them did not pass, each under the first
      reason that holds. One mate of each pair is among these, as `dropped_second_mate`, since the other stands for
      both: depth and dropped add up to `n_records`. `n_lone_mates` is the number of proper pairs of which the file
      lacks a mate; where there are many, a line of the log says so.
    * `uns["chipvi_counting"]`: the rule and the filters.

    The result does not depend on `processes` and `executor`.

    Raises
    ------
    ValueError
        If a file is missing, damaged, truncated, of another assembly or without a chromosome of the regions, or if
        nothing in it passes; and if the regions or the options are not as above. Nothing is then returned.
    ChildProcessError
        If a worker died over one file three times, or the executor lost one.
    """
    counting = CountingRule(rule, fragment_length, strand_shift)
    filters = ReadFilters(min_mapq, duplicates, secondary, supplementary)
    if bin_size is not None:
        require_whole("bin_size", bin_size, least=1, unit="bp")
    require_processes(processes)
    tracks = _tracks(files, names, kind)
    places, sizes = _regions(regions, genome, bin_size, chromosomes)
    kept = leave_out(places, blacklist)
    paths = [source.path for sources in tracks.values() for source in sources if source.text is None]
    require_one_assembly({str(path): contig_lengths(path) for path in paths}, kept.regions, sizes)
    require_strands((source for sources in tracks.values() for source in sources), counting)
    counts = count_tracks(tracks, kept, sizes, counting, filters, Reading(processes, executor, progress))
    assert counts is not None  # it is no shard
    return counts


def count_tracks(
    tracks: Mapping[str, Sequence[Source]],
    kept: Kept,
    sizes: pd.Series | None,
    rule: CountingRule,
    filters: ReadFilters,
    reading: Reading,
) -> AnnData | None:
    """Count tracks at regions, by a rule, that have been checked; None for a shard.

    Parameters
    ----------
    tracks
        The files of each, by its name.
    kept
        Regions and blacklist.
    sizes
        Lengths of the chromosomes of the genome, where it is known.
    rule, filters
        Where reads count, and which.
    reading
        By whom the files are read. :func:`count_reads` describes the result and the errors.
    """
    columns = count_sources(tracks, kept, sizes, rule, filters, reading)
    if columns is None:
        return None
    names_r = _region_names(kept.regions)
    adata = AnnData(
        _matrix(columns, names_r, list(tracks)),
        obs=kept.regions.set_axis(names_r),
        var=describe_tracks(tracks, columns),
    )
    adata.uns[COUNTING] = describe_counting(rule, filters, kept)
    return adata


def count_sources(
    tracks: Mapping[str, Sequence[Source]],
    kept: Kept,
    sizes: pd.Series | None,
    rule: CountingRule,
    filters: ReadFilters,
    reading: Reading,
) -> dict[str, list[FileCounts]] | None:
    """Count the files of each track; as :func:`count_tracks`."""
    sources = [source for of_track in tracks.values() for source in of_track]
    obs = kept.regions
    lengths = None if sizes is None else lengths_by_chrom(obs[_keys.CHROM].unique(), sizes)
    plan = Plan(Regions.from_frame(obs), kept.blacklist, rule, filters, lengths)
    results = count_files(sources, plan, reading)
    if results is None:
        return None
    for source, result in zip(sources, results, strict=True):
        log_renamed(source.path, result.renamed)
        _log_lone_mates(source.path, result)
    return _by_track(tracks, results)


def describe_tracks(
    tracks: Mapping[str, Sequence[Source]], columns: Mapping[str, Sequence[FileCounts]]
) -> pd.DataFrame:
    """`var` of :func:`count_reads`."""
    return pd.DataFrame([_describe(of_track, columns[name]) for name, of_track in tracks.items()], index=list(tracks))


def describe_counting(rule: CountingRule, filters: ReadFilters, kept: Kept) -> dict[str, Any]:
    """`uns["chipvi_counting"]` of :func:`count_reads`."""
    return {
        "rule": rule.name,
        **({"fragment_length": rule.fragment_length} if rule.name == "shifted" else {}),
        "strand_shift": np.array(rule.strand_shift),
        "min_mapq": filters.min_mapq,
        "duplicates": filters.duplicates,
        "secondary": filters.secondary,
        "supplementary": filters.supplementary,
        "blacklisted_regions_left_out": kept.n_left_out,
    }


def _tracks(files: _Files, names: Sequence[str] | None, kind: str | None) -> dict[str, list[Source]]:
    """Files of each track, by its name."""
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
    return {name: [find_source(path, kind) for path in paths] for name, paths in tracks.items()}


def _paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    listed = [paths] if isinstance(paths, str | Path) else paths
    if not isinstance(listed, Sequence) or not all(isinstance(path, str | Path) for path in listed):
        raise TypeError(f"files must be a path, a list of paths, or a mapping from names to either; found {listed!r}.")
    return [Path(path) for path in listed]


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
    return check_regions(regions), sizes


def require_strands(sources: Iterable[Source], rule: CountingRule) -> None:
    """Refuse to count 5' ends in texts without a strand.

    Raises
    ------
    ValueError
        Which names the file.
    """
    for source in sources:
        if rule.name == "five_prime" and source.text not in (None, READS):
            raise ValueError(
                f"{source.path} gives no strand in its sixth column, and rule 'five_prime' needs it: its lines are "
                f"{source.format}. Count it with rule 'center' or 'overlap'."
            )


def _log_lone_mates(path: Path, result: FileCounts) -> None:
    if result.n_lone_mates > _MANY_LONE_MATES * result.n_pairs:
        _log.warning(
            "%s lacks a mate of %s of its %s proper pairs. Their fragments were taken from the template length of the "
            "other mate, and some may be lost; filter whole pairs rather than single mates.",
            path,
            f"{result.n_lone_mates:,}",
            f"{result.n_pairs:,}",
        )


def _by_track(tracks: Mapping[str, Sequence[Source]], results: Sequence[FileCounts]) -> dict[str, list[FileCounts]]:
    left = iter(results)
    return {name: [next(left) for _ in sources] for name, sources in tracks.items()}


def _matrix(
    columns: Mapping[str, list[FileCounts]], regions: pd.Index, names: Sequence[str]
) -> sp.csr_matrix | np.ndarray:
    """Counts of the files, added up over the replicates of each track."""
    rows, values, track = [], [], []
    for at, name in enumerate(names):
        for file in columns[name]:
            counts_r = joined(file.counts)
            rows.append(np.flatnonzero(counts_r))
            values.append(counts_r[rows[-1]].astype(np.int64))
            track.append(np.full(len(rows[-1]), at))
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


def _describe(sources: Sequence[Source], results: Sequence[FileCounts]) -> dict[str, int | str]:
    dropped = {reason: sum(result.dropped[reason] for result in results) for reason in DROPPED}
    depth = sum(result.depth for result in results)
    return {
        _keys.DEPTH: depth,
        "file": ";".join(str(source.path) for source in sources),
        "format": ";".join(source.format for source in sources),
        "n_records": depth + sum(dropped.values()),
        **{f"dropped_{reason}": number for reason, number in dropped.items()},
        "n_lone_mates": sum(result.n_lone_mates for result in results),
    }
