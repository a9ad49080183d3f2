"""Alignments of BAM, CRAM and SAM files, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from ..._arguments import require_flag, require_whole
from .rules import Reads

SUFFIXES = (".bam", ".cram", ".sam")
BATCH = 1 << 17
# A record counts under the first of these that is true of it; the caller adds the last one.
DROPPED = (
    "unmapped",
    "qc_fail",
    "secondary",
    "supplementary",
    "duplicate",
    "low_mapq",
    "improper_pair",
    "second_mate",
    "blacklisted",
)
# Pairs whose first read is on the plus strand and the second on the minus strand; the reverse; both on one strand.
KINDS_OF_PAIRS = ("plus", "minus", "same")
# The mate on the minus strand stands for its pair if there are at least this many for each on the plus strand. Below 1,
# since a batch parts some pairs.
_NEARLY_ALL = 0.9
# Everything of a CRAM record but the bases, their qualities and the tags: so that the reference is never looked for.
_CRAM_FIELDS: Any = [b"required_fields=0x1ff", b"decode_md=0"]  # pysam's stub asks for str, and its code for bytes


@dataclass(frozen=True)
class ReadFilters:
    """Which alignments count; unmapped ones, and those that failed the sequencer's control, never do.

    Raises
    ------
    ValueError
        If the quality is no whole number from 0 to 255, or a flag is neither True nor False.
    """

    min_mapq: int = 0
    duplicates: bool = False
    secondary: bool = False
    supplementary: bool = False

    def __post_init__(self) -> None:
        require_whole("min_mapq", self.min_mapq, least=0, most=255)
        for name in ("duplicates", "secondary", "supplementary"):
            require_flag(name, getattr(self, name))


@dataclass(frozen=True, eq=False)
class Batch:
    """Some records of a file.

    Parameters
    ----------
    reads
        Those that passed.
    dropped
        How many did not, by reason.
    n_bytes
        Of the file, read so far.
    n_mates
        First and second mates (columns) of proper pairs, for each of `KINDS_OF_PAIRS` (rows).
    """

    reads: Reads
    dropped: dict[str, int]
    n_bytes: int
    n_mates: np.ndarray = field(default_factory=lambda: np.zeros((len(KINDS_OF_PAIRS), 2), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class _Records:
    """Fields of mapped records, an int64 array each, as the format defines them; positions are 0-based."""

    flag: np.ndarray
    mapq: np.ndarray
    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    template: np.ndarray
    mate_contig: np.ndarray
    mate_start: np.ndarray

    def has(self, bit: int) -> np.ndarray:
        """Whether a bit of the flag is set, bool."""
        return (self.flag & bit) > 0


def contig_lengths(path: Path) -> dict[str, int]:
    """Length of every sequence in the header, in bp.

    Raises
    ------
    ValueError
        If the file cannot be read as alignments, or its end is missing.
    """
    with _opened(path) as file:
        return dict(zip(file.references, file.lengths, strict=True))


def read_alignments(path: Path, filters: ReadFilters) -> Iterator[Batch]:
    """Read all alignments once, in the order of the file, which needs neither an index nor sorting.

    Of a proper pair one mate passes, as the fragment between the 5' ends of both, with the strand of the first read. It
    is the mate on the minus strand, whose record holds both: its own end, and where its mate starts. A 5' end is that
    of the aligned bases. So nothing depends on the template length, whose sign and extent differ between aligners. Only
    where a file lacks mates on the minus strand do the others stand for their pairs, over the template length. The
    quality and the flags of the mate that stands for both decide.

    Raises
    ------
    ValueError
        If the file cannot be read as alignments, or is truncated.
    """
    with _opened(path) as file:
        contigs = tuple(file.references)
        records = iter(file)
        standing = np.full(len(KINDS_OF_PAIRS), -1)
        while True:
            table, n_read = _next_records(path, records)
            if n_read:
                n_mates = _count_mates(table, filters)
                standing = np.where(standing < 0, _standing_mates(n_mates), standing)
                reads, dropped = _filtered(contigs, table, filters, standing)
                dropped["unmapped"] += n_read - len(table.flag)
                n_bytes = file.tell() >> 16 if file.is_bam else 0  # the upper bits are the place in the file
                yield Batch(reads, dropped, n_bytes, n_mates)
            if n_read < BATCH:
                return


def _next_records(path: Path, records: Iterator[Any]) -> tuple[_Records, int]:
    """The next mapped records, and how many were read."""
    # one list each: quicker than tuples, and the reading of a record is what takes the time
    columns: tuple[list[int], ...] = tuple([] for _ in fields(_Records))
    flags, qualities, contigs, starts, ends, templates, mate_contigs, mate_starts = columns
    n_read = 0
    try:
        for read in islice(records, BATCH):
            n_read += 1
            end = read.reference_end
            if end is not None:  # None: unmapped, or without a CIGAR and so without an end
                flags.append(read.flag)
                qualities.append(read.mapping_quality)
                contigs.append(read.reference_id)
                starts.append(read.reference_start)
                ends.append(end)
                templates.append(read.template_length)
                mate_contigs.append(read.next_reference_id)
                mate_starts.append(read.next_reference_start)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated or damaged: reading it stopped with {str(error)!r}. Copy or make the file again; "
            "`samtools quickcheck` and `samtools view -c` test it."
        ) from error
    return _Records(*np.array(columns, dtype=np.int64)), n_read


def _left_out(table: _Records, filters: ReadFilters) -> dict[str, np.ndarray]:
    """Records that are no reads to count, whatever their quality, by reason; bool."""
    return {
        "unmapped": table.has(pysam.FUNMAP),
        "qc_fail": table.has(pysam.FQCFAIL),
        "secondary": table.has(pysam.FSECONDARY) & (not filters.secondary),
        "supplementary": table.has(pysam.FSUPPLEMENTARY) & (not filters.supplementary),
    }


def _is_proper_pair(table: _Records) -> np.ndarray:
    is_near = ~table.has(pysam.FMUNMAP) & (table.mate_contig == table.contig) & (table.mate_start >= 0)
    return table.has(pysam.FPAIRED) & table.has(pysam.FPROPER_PAIR) & is_near


def _kind_of_pair(table: _Records) -> np.ndarray:
    """Place in `KINDS_OF_PAIRS` of each mate's pair."""
    reverse, mate_reverse = table.has(pysam.FREVERSE), table.has(pysam.FMREVERSE)
    return np.where(reverse == mate_reverse, 2, np.where(table.has(pysam.FREAD1), reverse, mate_reverse))


def _count_mates(table: _Records, filters: ReadFilters) -> np.ndarray:
    counted = _is_proper_pair(table) & ~np.logical_or.reduce(list(_left_out(table, filters).values()))
    cell = 2 * _kind_of_pair(table) + ~table.has(pysam.FREAD1)
    return np.bincount(cell[counted], minlength=2 * len(KINDS_OF_PAIRS)).reshape(-1, 2)


def _standing_mates(n_mates: np.ndarray) -> np.ndarray:
    """Which mate stands for the pairs of each kind: 0 the first, 1 the second, -1 where there are no such pairs."""
    kinds = np.arange(len(KINDS_OF_PAIRS))
    best = np.array([1, 0, 0])  # on the minus strand; of mates on one strand, the first
    is_there = n_mates[kinds, best] >= _NEARLY_ALL * n_mates[kinds, 1 - best]
    return np.where(n_mates.any(axis=1), np.where(is_there, best, 1 - best), -1)


def _fragments(table: _Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end of the fragment of each mate, and whether they are known."""
    reverse, mate_reverse = table.has(pysam.FREVERSE), table.has(pysam.FMREVERSE)
    knows_both = reverse & ~mate_reverse
    length = np.abs(table.template)
    # a mate on the plus strand begins the fragment, unless its partner lies to the left of it, out of its reach
    begins = ~reverse & mate_reverse & (table.mate_start > table.start - (table.end - table.start))
    left = np.where(begins, table.start, np.minimum(table.start, table.mate_start))
    start = np.where(knows_both, np.minimum(table.mate_start, table.end), left)
    end = np.where(knows_both, np.maximum(table.mate_start, table.end), left + length)
    return start, np.maximum(end, start + 1), knows_both | (length > 0)


def _filtered(
    contigs: tuple[str, ...], table: _Records, filters: ReadFilters, standing: np.ndarray
) -> tuple[Reads, dict[str, int]]:
    """Reads that pass, and how many records do not, by reason."""
    is_pair, is_first = table.has(pysam.FPAIRED), table.has(pysam.FREAD1)
    stands = ~is_first == standing[_kind_of_pair(table)]
    start, end, is_known = _fragments(table)
    tests = {
        **_left_out(table, filters),
        "duplicate": table.has(pysam.FDUP) & (not filters.duplicates),
        "low_mapq": table.mapq < filters.min_mapq,
        "improper_pair": is_pair & ~(_is_proper_pair(table) & (is_known | ~stands)),
        "second_mate": is_pair & ~stands,
    }
    kept = np.ones(len(table.flag), dtype=bool)
    dropped = {}
    for reason, is_so in tests.items():
        dropped[reason] = int((kept & is_so).sum())
        kept &= ~is_so
    # the mate's strand is that of the first read where this is the second
    reverse = np.where(is_pair & ~is_first, table.has(pysam.FMREVERSE), table.has(pysam.FREVERSE))
    start, end = np.where(is_pair, start, table.start), np.where(is_pair, end, table.end)
    columns = table.contig, start, end, np.where(reverse, -1, 1), is_pair
    return Reads(contigs, *(column[kept] for column in columns)), dropped


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    loudness = pysam.set_verbosity(0)  # what htslib prints is raised as an error here
    try:
        options = _CRAM_FIELDS if path.suffix.lower() == ".cram" else None
        try:
            file = pysam.AlignmentFile(str(path), format_options=options)
        except (OSError, ValueError) as error:
            raise ValueError(_cannot_open(path, error)) from error
        try:
            yield file
        finally:
            with suppress(OSError):  # closing a damaged file raises again what reading it raised
                file.close()
    finally:
        pysam.set_verbosity(loudness)


def _cannot_open(path: Path, error: Exception) -> str:
    if "truncated" in str(error):
        return f"{path} is truncated: its end-of-file marker is missing. Copy or make the file again."
    if "no sequences" in str(error):
        return f"{path} must hold aligned reads; its header names no chromosome. Align the reads first."
    return f"{path} cannot be read as {path.suffix[1:].upper()}: {error}."
