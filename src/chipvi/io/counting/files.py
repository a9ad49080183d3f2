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

from ..contigs import match_contigs, renamed_contigs
from ..processes import clean_context, script_not_run_again
from . import alignments, fragments
from .alignments import DROPPED, KINDS_OF_PAIRS, Batch, ReadFilters, read_alignments
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


def file_kind(path: Path) -> str:
    """Either "alignments" or "fragments", by the end of the name.

    Raises
    ------
    ValueError
        If there is no such file, or its name ends otherwise.
    """
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in alignments.SUFFIXES:
        return "alignments"
    if suffixes and suffixes[-1] in (".gz", ".bgz"):
        suffixes.pop()
    if suffixes and suffixes[-1] in fragments.SUFFIXES:
        return "fragments"
    raise ValueError(
        f"{path} must end in {', '.join(alignments.SUFFIXES + fragments.SUFFIXES)}, the last four perhaps with .gz, "
        "so that its format is known."
    )


def count_file(path: Path, plan: Plan, report: Callable[[int], None]) -> FileCounts:
    """Count one file in one pass; `report` is called with the bytes read so far.

    Raises
    ------
    ValueError
        If the file is damaged, is of another genome, or nothing in it passes the filters.
    """
    counter = RegionCounter(plan.regions)
    dropped: Counter[str] = Counter(dict.fromkeys(DROPPED, 0))
    depth, contigs, seen = 0, {}, None
    n_mates = np.zeros((len(KINDS_OF_PAIRS), 2), dtype=np.int64)
    for batch in _batches(path, plan.filters):
        reads = batch.reads
        _check_reads(path, reads, plan)
        if reads.contigs is not seen:  # those of an alignment file stay, and may be many
            contigs.update(match_contigs(plan.regions.intervals.chroms, reads.contigs))
            seen = reads.contigs
        start, end = plan.rule.place(reads)
        if plan.blacklist is not None:
            listed = plan.blacklist.touched(reads, start, end)
            dropped["blacklisted"] += int(listed.sum())
            reads, start, end = _without(reads, listed), start[~listed], end[~listed]
        dropped.update(batch.dropped)
        depth += len(start)
        n_mates += batch.n_mates
        counter.add(reads, start, end)
        report(batch.n_bytes)
    if not depth:
        raise ValueError(_nothing_passed(path, dropped))
    if not contigs:
        raise ValueError(
            f"{path} has no line on any chromosome of the regions, such as {plan.regions.intervals.chroms[0]}; "
            "give regions on the genome of the file."
        )
    counts = counter.counts()
    rows = np.flatnonzero(counts)
    return FileCounts(
        rows,
        counts[rows],
        depth,
        dict(dropped),
        renamed_contigs(contigs),
        n_pairs=int(np.max(n_mates, axis=1).sum()),
        n_lone_mates=int(np.ptp(n_mates, axis=1).sum()),
    )


def count_files(paths: Sequence[Path], plan: Plan, processes: int | None, progress: bool) -> list[FileCounts]:
    """Count files side by side; the result is in their order, whichever ends first.

    Raises
    ------
    ValueError
        As :func:`count_file`, for the first file that cannot be counted; the others are then given up.
    """
    if processes is None:
        processes = min(_n_cores(), sum(path.stat().st_size > _LARGE for path in paths))
    n_workers = min(processes, len(paths))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        sizes = [path.stat().st_size for path in paths]
        task = bar.add_task(f"Counting {len(paths)} file{'s' * (len(paths) > 1)}", total=sum(sizes))

        def show(n_bytes: int) -> None:
            bar.update(task, completed=n_bytes)

        if n_workers > 1:
            return _in_processes(paths, plan, n_workers, show)
        results = []
        for number, path in enumerate(paths):
            results.append(count_file(path, plan, partial(_show_after, show, sum(sizes[:number]))))
            show(sum(sizes[: number + 1]))
        return results


def _show_after(show: Callable[[int], None], before: int, n_bytes: int) -> None:
    show(before + n_bytes)


def _n_cores() -> int:
    # fewer than the machine has where a scheduler lends only some; macOS and Windows do not report that
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(paths: Sequence[Path], plan: Plan, processes: int, show: Callable[[int], None]) -> list[FileCounts]:
    context = clean_context(__name__)
    done = context.Array("Q", len(paths) + 1)  # bytes read of every file; the last one asks the workers to stop
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(plan, done)) as pool:
        try:
            with script_not_run_again():
                futures = [pool.submit(_count_in_worker, path, number) for number, path in enumerate(paths)]
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
    _shared.update(plan=plan, done=done)


def _count_in_worker(path: Path, number: int) -> FileCounts:
    done = _shared["done"]

    def report(n_bytes: int) -> None:
        if done[-1]:
            raise _Stopped
        done[number] = n_bytes

    result = count_file(path, _shared["plan"], report)
    done[number] = path.stat().st_size
    return result


def _batches(path: Path, filters: ReadFilters) -> Iterator[Batch]:
    return read_alignments(path, filters) if file_kind(path) == "alignments" else read_fragments(path)


def _check_reads(path: Path, reads: Reads, plan: Plan) -> None:
    if plan.rule.name == "five_prime" and not reads.strand.all():
        raise ValueError(
            f"{path} gives no strand in its sixth column, and rule 'five_prime' needs it; "
            "count it with rule 'center' or 'overlap'."
        )
    if plan.sizes is None or not len(reads.end) or file_kind(path) == "alignments":  # whose header has been compared
        return
    matched = match_contigs(plan.sizes, reads.contigs)
    length = np.array([plan.sizes[matched[name]] if name in matched else np.inf for name in reads.contigs])
    beyond = np.flatnonzero(reads.end > length[reads.contig])
    if len(beyond):
        row = beyond[0]
        contig = reads.contigs[reads.contig[row]]
        raise ValueError(
            f"{path} is of another assembly than the genome asked for: it has {contig}:{reads.start[row]}-"
            f"{reads.end[row]}, where the chromosome has {plan.sizes[matched[contig]]:,} bp. Give the genome to which "
            "it was aligned."
        )


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
