"""Alignments of BAM, CRAM and SAM files, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from .rules import Reads

SUFFIXES = (".bam", ".cram", ".sam")
BATCH = 1 << 17
# A record counts under the first of these that is true of it; the last one is told by the caller.
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
# Everything of a CRAM record but the bases, their qualities and the tags: so that the reference is never looked for.
_CRAM_FIELDS: Any = [b"required_fields=0x1ff", b"decode_md=0"]  # pysam's stub asks for str, and its code for bytes


@dataclass(frozen=True)
class ReadFilters:
    """Which alignments count; unmapped ones, and those that failed the sequencer's control, never do."""

    min_mapq: int = 0
    duplicates: bool = False
    secondary: bool = False
    supplementary: bool = False


@dataclass(frozen=True, eq=False)
class Batch:
    """Reads that passed, how many records did not and why, and the bytes of the file read so far."""

    reads: Reads
    dropped: dict[str, int]
    n_bytes: int


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

    Of a pair only the leftmost mate passes, as the fragment from its start over its template length, and only if the
    aligner calls the pair proper. Its own mapping quality and flags decide; the strand is that of the first read.

    Raises
    ------
    ValueError
        If the file cannot be read as alignments, or is truncated.
    """
    with _opened(path) as file:
        contigs = tuple(file.references)
        records = iter(file)
        while True:
            table, n_read = _next_records(path, records)
            if n_read:
                n_bytes = file.tell() >> 16 if file.is_bam else 0  # the upper bits are the place in the file
                yield _filtered(contigs, table, n_read, filters, n_bytes)
            if n_read < BATCH:
                return


def _next_records(path: Path, records: Iterator[Any]) -> tuple[np.ndarray, int]:
    """Flag, MAPQ, contig, start, end, template length of the next mapped records, int64, and how many were read."""
    # one list each: quicker than tuples, and the reading of a record is what takes the time
    flags: list[int] = []
    qualities: list[int] = []
    contigs: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    templates: list[int] = []
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
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated or damaged: reading it stopped with {str(error)!r}. Copy or make the file again; "
            "`samtools quickcheck` and `samtools view -c` test it."
        ) from error
    return np.array([flags, qualities, contigs, starts, ends, templates], dtype=np.int64), n_read


def _filtered(contigs: tuple[str, ...], table: np.ndarray, n_read: int, filters: ReadFilters, n_bytes: int) -> Batch:
    flag, mapq, contig, start, end, template = table
    is_pair = (flag & pysam.FPAIRED) > 0
    tests = {
        "unmapped": (flag & pysam.FUNMAP) > 0,
        "qc_fail": (flag & pysam.FQCFAIL) > 0,
        "secondary": ((flag & pysam.FSECONDARY) > 0) & (not filters.secondary),
        "supplementary": ((flag & pysam.FSUPPLEMENTARY) > 0) & (not filters.supplementary),
        "duplicate": ((flag & pysam.FDUP) > 0) & (not filters.duplicates),
        "low_mapq": mapq < filters.min_mapq,
        "improper_pair": is_pair & (((flag & pysam.FPROPER_PAIR) == 0) | (template == 0)),
        "second_mate": is_pair & (template < 0),
    }
    kept = np.ones(len(flag), dtype=bool)
    dropped = {}
    for reason, is_so in tests.items():
        dropped[reason] = int((kept & is_so).sum())
        kept &= ~is_so
    dropped["unmapped"] += n_read - len(flag)
    flag, contig, start, end, template, is_pair = (
        column[kept] for column in (flag, contig, start, end, template, is_pair)
    )
    # the mate's strand is that of the first read where this is the second
    reverse = np.where(is_pair & ((flag & pysam.FREAD1) == 0), flag & pysam.FMREVERSE, flag & pysam.FREVERSE) > 0
    end = np.where(is_pair, start + template, end)
    reads = Reads(contigs, contig, start, end, np.where(reverse, -1, 1).astype(np.int8), is_pair)
    return Batch(reads, dropped, n_bytes)


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
            with suppress(OSError):  # closing a damaged file says again what reading it said
                file.close()
    finally:
        pysam.set_verbosity(loudness)


def _cannot_open(path: Path, error: Exception) -> str:
    if "truncated" in str(error):
        return f"{path} is truncated: its end-of-file marker is missing. Copy or make the file again."
    if "no sequences" in str(error):
        return f"{path} must hold aligned reads; its header names no chromosome. Align the reads first."
    return f"{path} cannot be read as {path.suffix[1:].upper()}: {error}."
