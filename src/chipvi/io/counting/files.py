"""Counts of whole files, several at a time in processes of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ..contigs import bare_name, match_contigs, renamed_contigs
from ..processes import begin_worker, clean_context, script_not_run_again
from .alignments import DROPPED, KINDS_OF_PAIRS, Batch, ReadFilters, read_alignments
from .formats import Source
from .fragments import read_fragments
from .regions import Intervals, RegionCounter, Regions
from .rules import CountingRule, Reads

_LARGE = 50_000_000  # bytes from which reading a file takes longer than starting a process with what it imports
_SECONDS = 0.2  # between two looks at how far the processes are


@dataclass(frozen=True, eq=False)
class Plan:
    """What to count, for every file alike; `sizes` are those of the genome in bp, where it is known."""

    regions: Regions
    blacklist: Intervals | None
    rule: CountingRule
    filters: ReadFilters
    sizes: Mapping[str, int] | None


@dataclass(frozen=True, eq=False)
class FileCounts:
    """Counts of one file: `values` in `rows`, zero elsewhere, and what became of its records and proper pairs."""

    rows: np.ndarray
    values: np.ndarray
    depth: int
    dropped: dict[str, int]
    renamed: dict[str, str]
    n_pairs: int
    n_lone_mates: int


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
        rows = np.flatnonzero(counts)
        return FileCounts(
            rows,
            counts[rows],
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


def count_files(sources: Sequence[Source], plan: Plan, processes: int | None, progress: bool) -> list[FileCounts]:
    """Count files side by side; the result is in their order, whichever ends first.

    Raises
    ------
    ValueError
        As :func:`count_file`, for the first file that cannot be counted; the others are then given up.
    """
    if processes is None:
        processes = min(_n_cores(), sum(source.path.stat().st_size > _LARGE for source in sources))
    n_workers = min(processes, len(sources))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        sizes = [source.path.stat().st_size for source in sources]
        task = bar.add_task(f"Counting {len(sources)} file{'s' * (len(sources) > 1)}", total=sum(sizes))

        def show(n_bytes: int) -> None:
            bar.update(task, completed=n_bytes)

        if n_workers > 1:
            return _in_processes(sources, plan, n_workers, show)
        results = []
        for number, source in enumerate(sources):
            results.append(count_file(source, plan, partial(_show_after, show, sum(sizes[:number]))))
            show(sum(sizes[: number + 1]))
        return results


def _show_after(show: Callable[[int], None], before: int, n_bytes: int) -> None:
    show(before + n_bytes)


def _n_cores() -> int:
    # fewer than the machine has where a scheduler lends only some; macOS and Windows do not report that
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(
    sources: Sequence[Source], plan: Plan, processes: int, show: Callable[[int], None]
) -> list[FileCounts]:
    context = clean_context(__name__)
    done = context.Array("Q", len(sources) + 1)  # bytes read of every file; the last one asks the workers to stop
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(plan, done)) as pool:
        try:
            with script_not_run_again():
                futures = [pool.submit(_count_in_worker, source, number) for number, source in enumerate(sources)]
            waiting = set(futures)
            while waiting and not any(future.done() and future.exception() for future in futures):
                _, waiting = wait(waiting, timeout=_SECONDS, return_when=FIRST_EXCEPTION)
                show(sum(done[:-1]))
            for future in futures:
                if future.done():
                    future.result()
            return [future.result() for future in futures]
        finally:
            done[-1] = 1
            pool.shutdown(wait=True, cancel_futures=True)


class _Stopped(Exception):
    """Another file could not be counted, so this one is of no use."""


_shared: dict[str, Any] = {}  # of a worker process: what every file needs is sent once


def _begin(plan: Plan, done: Any) -> None:
    begin_worker()
    _shared.update(plan=plan, done=done)


def _count_in_worker(source: Source, number: int) -> FileCounts:
    done = _shared["done"]

    def report(n_bytes: int) -> None:
        if done[-1]:
            raise _Stopped
        done[number] = n_bytes

    result = count_file(source, _shared["plan"], report)
    done[number] = source.path.stat().st_size
    return result


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
