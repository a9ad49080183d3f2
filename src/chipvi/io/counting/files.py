"""Counts of whole files, several at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..._files import digest
from ..._workers import report
from ..contigs import bare_name, match_contigs, renamed_contigs
from ..reading import Arrays, FileToRead, Reading, cut
from .alignments import DROPPED, KINDS_OF_PAIRS, Batch, ReadFilters, read_alignments
from .formats import Source
from .fragments import read_fragments
from .regions import Intervals, RegionCounter, Regions
from .rules import CountingRule, Reads


@dataclass(frozen=True, eq=False)
class Plan:
    """What to count, for every file alike; `sizes` are those of the genome in bp, where it is known."""

    regions: Regions
    blacklist: Intervals | None
    rule: CountingRule
    filters: ReadFilters
    sizes: Mapping[str, int] | None

    def digest(self) -> str:
        """Short text that differs for other counts of a file."""
        tables = [self.regions.intervals, *([] if self.blacklist is None else [self.blacklist])]
        ranks = [rank for rank in (self.regions.start_rank, self.regions.end_rank) if not isinstance(rank, slice)]
        arrays = [array for table in tables for array in (table.offsets, table.starts, table.ends)]
        sizes = None if self.sizes is None else sorted((name, int(size)) for name, size in self.sizes.items())
        return digest(*arrays, *ranks, repr(([table.chroms for table in tables], self.rule, self.filters, sizes)))


@dataclass(frozen=True, eq=False)
class FileCounts:
    """Counts of one file, and what became of its records and proper pairs.

    Parameters
    ----------
    counts
        Per region, whole numbers of the narrowest type, as :func:`chipvi.io.reading.cut` cuts them.
    largest
        The largest of them.
    depth, dropped, renamed, n_pairs, n_lone_mates
        Records that passed and those that did not, chromosomes by another name, proper pairs and those without a mate.
    """

    counts: Arrays
    largest: int
    depth: int
    dropped: dict[str, int]
    renamed: dict[str, str]
    n_pairs: int
    n_lone_mates: int

    def arrays(self) -> Arrays:
        """The same as plain arrays; :meth:`of` turns them back."""
        rest = (self.largest, self.depth, self.dropped, self.renamed, self.n_pairs, self.n_lone_mates)
        return {**self.counts, "rest": np.array(json.dumps(rest))}

    @classmethod
    def of(cls, arrays: Arrays) -> FileCounts:
        """From what :meth:`arrays` made; counts are loaded when they are asked for."""
        return cls(arrays, *json.loads(str(arrays["rest"])))


def count_file(source: Source, plan: Plan, report: Callable[[int], None]) -> FileCounts:
    """Count one file; `report` is called with the bytes read so far.

    Which chromosome of the regions a name of the file is depends on all names of the file: `X` is not `chrX` where both
    occur. A text has no list of them, so where a name comes up late that changes what an earlier one was taken for, the
    file is counted again from its start.

    Raises
    ------
    ValueError
        If the file is damaged, is of another genome, or nothing in it passes the filters.
    """
    contigs: tuple[str, ...] = ()
    while True:
        tally = _Tally(source, plan)
        for batch in _batches(source, plan.filters, contigs):
            if not tally.keeps_names(batch.reads.contigs):
                contigs = batch.reads.contigs
                break
            tally.add(batch)
            report(batch.n_bytes)
        else:
            return tally.result()


class _Tally:
    """Counts of the batches of one file so far."""

    def __init__(self, source: Source, plan: Plan):
        self._source, self._plan = source, plan
        self._counter = RegionCounter(plan.regions)
        self._dropped: Counter[str] = Counter(dict.fromkeys(DROPPED, 0))
        self._depth = 0
        self._n_mates = np.zeros((len(KINDS_OF_PAIRS), 2), dtype=np.int64)
        self._beyond: str | None = None
        self._contigs: tuple[str, ...] = ()
        self._bare: set[str] = set()
        # of the regions, the genome and the blacklist: which of their chromosomes each name of the file is
        self._known = [plan.regions.intervals.chroms, plan.sizes or {}, plan.blacklist.chroms if plan.blacklist else ()]
        self._matched: list[dict[str, str]] = [{}, {}, {}]

    def keeps_names(self, contigs: tuple[str, ...]) -> bool:
        """Take up the names of the next batch, unless one changes what an earlier name was taken for."""
        new = contigs[len(self._contigs) :]
        if not new:
            return True
        bare, before, self._contigs = {bare_name(name) for name in new}, self._matched, contigs
        if self._bare.isdisjoint(bare):  # then no earlier name is another spelling of a new one
            found = [match_contigs(known, new) for known in self._known]
            self._matched = [old | late for old, late in zip(before, found, strict=True)]
        else:
            self._matched = [match_contigs(known, contigs) for known in self._known]
        self._bare |= bare
        return all(old.items() <= now.items() for old, now in zip(before, self._matched, strict=True))

    def add(self, batch: Batch) -> None:
        """Count the reads of a batch."""
        plan, reads = self._plan, batch.reads
        # only the last batch brings the last name, so what is beyond its chromosome may turn out to be on another one
        self._beyond = self._beyond or self._find_beyond(reads)
        start, end = plan.rule.place(reads)
        if plan.blacklist is not None:
            listed = plan.blacklist.touched(reads, start, end)
            self._dropped["blacklisted"] += int(listed.sum())
            reads, start, end = _without(reads, listed), start[~listed], end[~listed]
        self._dropped.update(batch.dropped)
        self._depth += len(start)
        self._n_mates += batch.n_mates
        self._counter.add(reads, start, end)

    def result(self) -> FileCounts:
        """Counts of the whole file; errors as :func:`count_file`."""
        path, matched = self._source.path, self._matched[0]
        if self._beyond is not None:
            raise ValueError(self._beyond)
        if not self._depth:
            raise ValueError(_nothing_passed(path, self._dropped))
        if not matched:
            first = self._plan.regions.intervals.chroms[0]
            raise ValueError(
                f"{path} has no line on any chromosome of the regions, such as {first}; give regions on the genome of "
                "the file."
            )
        counts = self._counter.counts()
        largest = int(counts.max())
        return FileCounts(
            cut(counts.astype(np.min_scalar_type(largest))),
            largest,
            self._depth,
            dict(self._dropped),
            renamed_contigs(matched),
            n_pairs=int(np.max(self._n_mates, axis=1).sum()),
            n_lone_mates=int(np.ptp(self._n_mates, axis=1).sum()),
        )

    def _find_beyond(self, reads: Reads) -> str | None:
        """Message for the first line of a text that ends beyond its chromosome; a header has been compared already."""
        sizes, matched = self._plan.sizes, self._matched[1]
        if sizes is None or self._source.text is None or not len(reads.end):
            return None
        length = np.array([sizes[matched[name]] if name in matched else np.inf for name in reads.contigs])
        beyond = np.flatnonzero(reads.end > length[reads.contig])
        if not len(beyond):
            return None
        row = beyond[0]
        contig = reads.contigs[reads.contig[row]]
        place = f"{contig}:{reads.start[row]}-{reads.end[row]}"
        return (
            f"{self._source.path} is of another assembly than the genome asked for: it has {place}, where the "
            f"chromosome has {sizes[matched[contig]]:,} bp. Give the genome to which it was aligned."
        )


def count_files(sources: Sequence[Source], plan: Plan, reading: Reading) -> list[FileCounts] | None:
    """Count files side by side; the result is in their order, whichever ends first, or None for a shard.

    Raises
    ------
    ValueError
        As :func:`count_file`, for the first file that cannot be counted; the others are then given up.
    """
    asked = plan.digest()
    files = [
        FileToRead(str(source.path), partial(_count, source, plan), f"{asked} {source.text}") for source in sources
    ]
    found = reading.read(files, "Counting", "file", len(plan.regions.intervals.starts))
    return None if found is None else [FileCounts.of(arrays) for arrays in found]


def _count(source: Source, plan: Plan) -> Arrays:
    return count_file(source, plan, report).arrays()


def _batches(source: Source, filters: ReadFilters, contigs: tuple[str, ...]) -> Iterator[Batch]:
    return read_alignments(source.path, filters) if source.text is None else read_fragments(source, contigs)


def _without(reads: Reads, dropped: np.ndarray) -> Reads:
    kept = ~dropped
    return Reads(
        reads.contigs,
        reads.contig[kept],
        reads.start[kept],
        reads.end[kept],
        reads.strand[kept],
        reads.is_fragment[kept],
    )


def _nothing_passed(path: Path, dropped: Mapping[str, int]) -> str:
    total = sum(dropped.values())
    if not total:
        return f"{path} must hold reads; it holds none."
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items() if number)
    return f"{path}: none of its {total:,} records passed the filters ({reasons}). Loosen them, or leave the file out."
