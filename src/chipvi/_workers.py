"""Tasks side by side: in processes of this computer, or wherever an executor runs them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_all_start_methods, get_context, parent_process, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as Shown
from rich.table import Column
from rich.text import Text

from ._quiet import is_silenced, print_aside
from ._signals import deferred

_TRIES = 3  # of a task whose worker dies
_AT_ONCE = 128  # tasks that an executor is given before one of them is done: they may hold data
_SECONDS = 0.2  # between two looks at how far the processes are
_LINE_SECONDS = 30.0  # between two lines on progress where there is no terminal
_BAR_WIDTH = 40
_LARGEST_KEPT = 2**25 - 2**16  # bytes: just below the largest block that glibc may keep
_MEMORY_FILE = Path("/proc/meminfo")
_GROUP_FILE = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")

_hook: ContextVar[Callable[[int], None] | None] = ContextVar("hook", default=None)  # of the task that is running


@dataclass(frozen=True, eq=False)
class Task:
    """A piece of work that any process can do.

    Parameters
    ----------
    name
        What an error calls it.
    size
        How much of the whole it is, such as its bytes or regions.
    call
        What to call. It can be pickled, and so can what it returns.
    """

    name: str
    size: int
    call: Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Workers:
    """Who does the tasks: an executor, or so many processes of this computer; one is this process itself.

    Parameters
    ----------
    processes
        How many, if there is no executor.
    executor
        Any of :mod:`concurrent.futures`, of dask, MPI, ...
    module
        What the tasks need: it is imported once for all processes, where the system can.
    """

    processes: int = 1
    executor: Executor | None = None
    module: str = "chipvi"

    @property
    def are_here(self) -> bool:
        """Whether this process does the tasks itself."""
        return self.executor is None and self.processes == 1

    def run(self, tasks: Iterable[Task], show: Callable[[int], None]) -> Iterator[tuple[Task, Any]]:
        """Do tasks, and yield each with what it returned, in the order in which they are done.

        Parameters
        ----------
        tasks
            Asked for one after the other, as workers become free.
        show
            Called now and then with how much is done, over all workers.

        Raises
        ------
        ChildProcessError
            If a worker died three times over one task, or an executor says that it lost one.
        Exception
            Whatever a task raises; the others are given up.
        """
        if self.are_here:
            yield from _run_here(tasks, show)
            return
        crew: _Crew = (
            _Elsewhere(self.executor) if self.executor else _Processes(self.processes, clean_context(self.module))
        )
        with closing(crew):
            yield from _run_by(crew, tasks, show)


def report(done: int) -> None:
    """Let the bar show how much of the present task is done, and end the task if it is of no use any more."""
    if (hook := _hook.get()) is not None:
        hook(done)


def choose_processes(n_tasks: int, memory: int) -> int:
    """How many processes there are cores and memory for, each of which needs so many bytes."""
    return max(1, min(n_tasks, n_cores(), free_memory() // memory))


def keep_freed_memory() -> None:
    """Let the memory of freed arrays be used again in this process.

    glibc gives it back to the system, and takes it anew page by page, until a block as large was freed once (see
    M_MMAP_THRESHOLD in mallopt(3)); that can take a third of the time.
    """
    np.empty(_LARGEST_KEPT, dtype=np.uint8)


def n_cores() -> int:
    """Cores that this process may use: fewer than the machine has where a scheduler lends only some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that are free, of the machine and of what a scheduler lends; without bound where the system has no word."""
    free = [sys.maxsize]
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMORY_FILE.read_text().splitlines() if line.startswith("MemAvailable:"))
        free.append(int(line.split()[1]) * 1024)
    with suppress(OSError):
        for line in _GROUP_FILE.read_text().splitlines():
            if line.startswith("0::"):  # version 2, which has one tree
                group = _GROUPS / line[3:].lstrip("/")
                for place in (group, *group.parents):
                    with suppress(OSError, ValueError):  # of "max", too
                        limit, used = (int((place / f"memory.{name}").read_text()) for name in ("max", "current"))
                        free.append(max(0, limit - used))
    return min(free)


@contextmanager
def progress_bar(
    text: str,
    total: int,
    unit: str,
    *,
    done: int = 0,
    shown: bool = True,
    transient: bool = False,
    file: IO[str] | None = None,
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, over all workers, with the rate and the time left; yields what moves it.

    Without a terminal or notebook it is a line every half minute. Neither is wider than the terminal. All bars are made
    here.

    Parameters
    ----------
    text
        What is done.
    total, done
        How much there is, and how much of it was there before, which is not counted again by what moves the bar.
    unit
        "bytes", or what else is counted.
    shown
        Whether there is a bar; where chipvi is silenced (:func:`chipvi._quiet.is_silenced`) there is none.
    transient
        Whether it goes when it has ended.
    file
        Where a terminal is written to, if not to standard error.
    """
    console = Console(stderr=True, file=file)  # standard output belongs to results
    if not shown or is_silenced():
        yield lambda number: None
        return
    if not (console.is_terminal or console.is_jupyter):
        yield _Lines(text, total, unit, done).show
        return
    count = DownloadColumn() if unit == "bytes" else TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit)
    bar = BarColumn(None, table_column=Column(max_width=_BAR_WIDTH))  # which alone gives way on a narrow terminal
    columns = (TextColumn(text, markup=False), bar, count, _Rate(unit), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=transient) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda number: progress.update(task, completed=done + number)


class _Lines:
    """What stands in for a bar in a log: a line now and then."""

    def __init__(self, text: str, total: int, unit: str, done: int) -> None:
        self._text, self._total, self._unit, self._before = text, total, unit, done
        self._begun = self._last = time.monotonic()

    def show(self, number: int) -> None:
        """Print how much is done, and how long it may still take, unless it was printed lately."""
        now = time.monotonic()
        if now - self._last < _LINE_SECONDS or number == 0:
            return
        self._last = now
        done = self._before + number
        left = (self._total - done) * (now - self._begun) / number
        done_total = [done / 1e6, self._total / 1e6] if self._unit == "bytes" else [done, self._total]
        amount = " of ".join(f"{x:,.0f}" for x in done_total)
        unit = "MB" if self._unit == "bytes" else self._unit
        print_aside(f"{self._text}: {amount} {unit}, {_duration(left)} left")


def _duration(seconds: float) -> str:
    """A time to wait, roughly.

    >>> _duration(44.0), _duration(150.0), _duration(9_000.0)
    ('44 s', '2 min', '2 h 30 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class _Rate(ProgressColumn):
    """How much is done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Shown) -> Text:
        """As megabytes, or in the unit."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        return Text(f"{speed / 1e6:,.1f} MB/s" if self._unit == "bytes" else f"{speed:,.0f} {self._unit}/s")


def require_shared(folder: Path) -> None:
    """Refuse to work where the folder is not seen that all workers write to.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"a worker on {socket.gethostname()} has no {folder}. What is written must lie where all workers see it by "
            "the same path."
        )


class _Crew(Protocol):
    """Those who do tasks."""

    may_try_again: bool

    def has_room(self) -> bool:
        """Whether another task may be given to them."""

    def submit(self, call: Callable[[], Any]) -> Future:
        """Give them a task."""

    def release(self, future: Future) -> None:
        """Take note that a task is done, or lost."""

    def n_reported(self) -> int:
        """How much of the tasks at work is done."""

    def close(self) -> None:
        """Give up what is not done."""


def _run_here(tasks: Iterable[Task], show: Callable[[int], None]) -> Iterator[tuple[Task, Any]]:
    done = 0
    for task in tasks:
        token = _hook.set(partial(_show_after, show, done))
        try:
            result = task.call()
        finally:
            _hook.reset(token)
        done += task.size
        show(done)
        yield task, result


def _show_after(show: Callable[[int], None], before: int, done: int) -> None:
    show(before + done)


def _run_by(crew: _Crew, tasks: Iterable[Task], show: Callable[[int], None]) -> Iterator[tuple[Task, Any]]:
    waiting, lost = iter(tasks), list[tuple[Task, int]]()
    running: dict[Future, tuple[Task, int]] = {}
    done = 0
    while True:
        while crew.has_room():
            task, n_tries = lost.pop() if lost else (next(waiting, None), 0)
            if task is None:
                break
            try:
                running[crew.submit(task.call)] = task, n_tries + 1
            except BrokenExecutor as error:
                raise _died(task, 1) from error
        if not running:
            return
        ended, _ = wait(running, timeout=_SECONDS, return_when=FIRST_COMPLETED)
        for future in ended:
            task, n_tries = running.pop(future)
            crew.release(future)
            try:
                result = future.result()
            except Exception as error:
                if not _is_of_a_dead_worker(error):
                    raise
                if not crew.may_try_again or n_tries == _TRIES:
                    raise _died(task, n_tries) from error
                lost.append((task, n_tries))
            else:
                done += task.size
                yield task, result
        show(done + crew.n_reported())


def _is_of_a_dead_worker(error: Exception) -> bool:
    # dask, which has tried again by itself, is not imported for its name
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__name__ == "KilledWorker"


def _died(task: Task, n_tries: int) -> ChildProcessError:
    times = f" {n_tries} times" if n_tries > 1 else ""
    return ChildProcessError(
        f"a worker died{times} while it did {task.name}: was it out of memory, or killed? With fewer workers, each has "
        "more memory."
    )


class _Processes:
    """Pools of one process each, so that one that dies takes along nothing but its own task."""

    may_try_again = True

    def __init__(self, number: int, context: BaseContext) -> None:
        self._context = context
        # how much each has done of its task; the last one asks all to stop
        self._done = context.Array("Q", number + 1)
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._idle = list(range(number))
        self._places: dict[Future, int] = {}

    def has_room(self) -> bool:
        return bool(self._idle)

    def submit(self, call: Callable[[], Any]) -> Future:
        place = self._idle.pop()
        with script_not_run_again():  # for a process may start
            try:
                future = self._pool(place).submit(call)
            except BrokenExecutor:  # it died since its last task
                self._drop(place)
                future = self._pool(place).submit(call)
        self._places[future] = place
        return future

    def release(self, future: Future) -> None:
        place = self._places.pop(future)
        self._done[place] = 0
        if future.exception() is not None and isinstance(future.exception(), BrokenExecutor):
            self._drop(place)
        self._idle.append(place)

    def n_reported(self) -> int:
        return sum(self._done[:-1])

    def close(self) -> None:
        self._done[-1] = 1
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, place: int) -> ProcessPoolExecutor:
        if place not in self._pools:
            start = partial(_begin, self._done, place)
            self._pools[place] = ProcessPoolExecutor(1, self._context, initializer=start)
        return self._pools[place]

    def _drop(self, place: int) -> None:
        self._pools.pop(place).shutdown(wait=True)


class _Elsewhere:
    """The workers of an executor."""

    may_try_again = False  # a pool with a dead process is of no use, and dask tries again by itself

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._running: set[Future] = set()

    def has_room(self) -> bool:
        return len(self._running) < _AT_ONCE

    def submit(self, call: Callable[[], Any]) -> Future:
        future = self._executor.submit(call)
        self._running.add(future)
        return future

    def release(self, future: Future) -> None:
        self._running.remove(future)

    def n_reported(self) -> int:
        return 0

    def close(self) -> None:
        for future in self._running:
            future.cancel()


class _Stopped(Exception):
    """Another task failed, so this one is of no use."""


def _begin(done: Any, place: int) -> None:
    """Make this process a worker, which reports there."""

    def hook(number: int) -> None:
        if done[-1]:
            raise _Stopped
        done[place] = number

    begin_worker()
    _hook.set(hook)


def clean_context(module: str) -> BaseContext:
    """Processes that inherit no thread or lock of this one, for a fork of a process that has run torch may hang.

    Parameters
    ----------
    module
        Where the work is: it is imported once for all workers, where the system can.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def begin_worker() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one at work, and end when it has ended.

    A worker whose parent was killed would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def script_not_run_again() -> Iterator[None]:
    """Keep processes that start meanwhile from importing the user's script, of which they need nothing.

    It would run from its top in each of them unless it has an ``if __name__ == "__main__"``. They inherit that Ctrl-C,
    which a terminal sends to all, is blocked, and so print no traceback; here it waits until they are known.
    """
    resource_tracker.ensure_running()  # its start would unblock it
    blocks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
    main: Any = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if hasattr(main, name)]
    saved = {name: getattr(main, name) for name in names}
    try:
        for name in names:
            setattr(main, name, None)
        with deferred():
            yield
    finally:
        for name, value in saved.items():
            setattr(main, name, value)
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
