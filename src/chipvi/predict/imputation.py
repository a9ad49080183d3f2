"""Imputing and denoising many regions: in stretches, which any process can do and no two write to one place."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from .. import _keys
from .._files import claimed, digest, naming, remove, require_writable, shard_of, unfinished_of, written_whole
from .._messages import counted, levels_to_caller
from .._workers import Task, Workers, choose_processes, progress_bar, report, require_shared
from ..data.fingerprint import identify
from ..data.minibatch import Minibatch
from ..data.track_data import ViewKind
from ..metrics import nb_quantile
from .predictor import Predictor, TargetQueries
from .quantiles import tails
from .request import LONG, Request
from .stream import Part, new_store, read_parts, write_h5ad, write_rows

_MOST_ENTRIES = 2**18  # regions x tracks of a stretch: some seconds of work, a megabyte of each layer
_MOST_ROWS = 2**15
_LARGE = 2**22  # regions x targets from which imputing takes longer than starting processes with what they import
_MEMORY = 3 * 2**29  # bytes that a process needs, the libraries included
_SECONDS = 600  # to wait for another shard that makes the store
_STORE, _DONE, _REQUEST = "result.zarr", "done", "request"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Imputer:
    """Imputes and denoises minibatches of regions; can be pickled.

    Parameters
    ----------
    predictor
        Of the targets.
    level
        Probability of the interval; None for no interval.
    views
        What the module predicts.
    denoised
        Whether counts are denoised, too.
    """

    predictor: Predictor
    level: float | None
    views: tuple[ViewKind, ...]
    denoised: bool = True

    @property
    def names(self) -> list[str]:
        """X and the layers of the result."""
        signal = [_keys.PVAL, _keys.PVAL_STD] if ViewKind.SIGNAL in self.views else []
        interval = [] if self.level is None else [_keys.LOWER, _keys.UPPER]
        counts = [*interval, _keys.DISPERSION, *([_keys.DENOISED] if self.denoised else [])]
        return ["X", *(counts if ViewKind.COUNTS in self.views else []), *signal]

    @cached_property
    def _asked(self) -> tuple[TargetQueries, TargetQueries]:
        return self.predictor.without_own_data(), self.predictor.with_own_data()

    def impute(self, minibatch: Minibatch) -> Part:
        """X and the layers of the regions of a minibatch."""
        without_own, with_own = self._asked
        around = self.predictor.see(minibatch)
        imputed, found = self.predictor.predict(around, without_own), {}
        if ViewKind.SIGNAL in imputed:
            signal = imputed[ViewKind.SIGNAL]
            found = {_keys.PVAL: only(signal.mean_srn), _keys.PVAL_STD: only(signal.spread_srn)}
        if ViewKind.COUNTS not in imputed:
            return {"X": found[_keys.PVAL]} | found
        counts = imputed[ViewKind.COUNTS]
        mean, dispersion = only(counts.mean_srn), only(counts.spread_srn)
        found |= {"X": mean, _keys.DISPERSION: dispersion}
        if self.level is not None:
            lower, upper = (nb_quantile(q, mean, dispersion).astype(np.float32) for q in tails(self.level))
            found |= {_keys.LOWER: lower, _keys.UPPER: upper}
        if self.denoised:
            found[_keys.DENOISED] = only(self.predictor.predict(around, with_own)[ViewKind.COUNTS].mean_srn)
        return found


def only(x_srn: Tensor) -> np.ndarray:
    """The only draw, on the CPU."""
    (x_rn,) = x_srn.cpu().numpy()
    return x_rn


@dataclass(frozen=True, eq=False)
class Stretch:
    """What is to be done with some consecutive regions; a call does it, on one thread.

    Parameters
    ----------
    imputer, minibatches
        By whom, and of what.
    number, start
        Which stretch it is, and its first row in the result.
    folder
        Where its rows are written to, and that they are; None to return them.
    """

    imputer: Imputer
    minibatches: tuple[Minibatch, ...]
    number: int
    start: int
    folder: Path | None

    def __reduce__(self) -> tuple[Any, ...]:
        # as bytes: torch would let processes share each tensor by an open file, of which there may be few
        parts = (self.imputer, self.minibatches, self.number, self.start, self.folder)
        return _unpickled, (pickle.dumps(parts),)

    def __call__(self) -> Part | None:
        """Impute; the rows, unless there is a folder for them."""
        if self.folder is not None:
            require_shared(self.folder)
        parts, n_done = [], 0
        with _one_thread():
            for minibatch in self.minibatches:
                parts.append(self.imputer.impute(minibatch))
                n_done += minibatch.n_regions
                report(n_done)
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if self.folder is None:
            return rows
        write_rows(self.folder / _STORE, self.start, rows)
        (self.folder / _DONE / str(self.number)).touch()
        return None


def _unpickled(parts: bytes) -> Stretch:
    return Stretch(*pickle.loads(parts))  # of a process of the same program, never of a file


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch work on one thread: sums are the same whatever the cores, and workers leave each other theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class Imputation:
    """All that is imputed and denoised on a request.

    Parameters
    ----------
    request
        What is asked.
    imputer
        Who answers.
    batch_size
        Regions in a minibatch; None chooses.
    frame
        Regions in ascending order, targets, and in `uns` where all of it comes from.
    workers
        Who does the stretches.
    """

    request: Request
    imputer: Imputer
    batch_size: int | None
    frame: AnnData
    workers: Workers

    @property
    def n_regions(self) -> int:
        """Number of rows."""
        return len(self.request.rows)

    @property
    def n_stretches(self) -> int:
        """In how many pieces the work is done."""
        return -(-self.n_regions // self._rows)

    @cached_property
    def _rows(self) -> int:
        """Rows of a stretch: whole minibatches, so that these are the same whoever does them."""
        batch = self.imputer.predictor.choose_batch_size(self.batch_size)
        return rows_of_stretch(batch, max(self.frame.n_vars, self.request.data.n_tracks))

    def compute(self) -> Part:
        """X and the layers, in memory."""
        found: dict[int, Part] = {}
        with self._bar(self.n_regions) as show:
            for task, rows in self.workers.run(self._tasks(range(self.n_stretches), None), show):
                assert isinstance(task.call, Stretch)
                found[task.call.number] = rows
        parts = [found.pop(number) for number in range(self.n_stretches)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.imputer.names}

    def write(self, out: Path, shard: tuple[int, int] | None = None) -> Path:
        """Write X and the layers to a file ending in `.h5ad` or `.zarr`; a shard is kept beside it.

        Raises
        ------
        ValueError, FileExistsError, FileNotFoundError, BlockingIOError, OSError
            As :func:`chipvi.predict.stream.write_h5ad`.
        ChildProcessError
            As :meth:`chipvi._workers.Workers.run`.
        """
        require_writable(out)
        with self.computed(out, shard) as store:
            if store is not None and out.suffix == ".zarr":
                with written_whole(out) as partial:
                    os.replace(store, partial)
            elif store is not None:
                write_h5ad(out, self.frame, read_parts(store, self.imputer.names))
        return out

    @contextmanager
    def computed(self, out: Path, shard: tuple[int, int] | None = None) -> Iterator[Path | None]:
        """Compute what is not done yet, beside the file or folder that it is for; yield the zarr store, whole.

        What is done stays where this is cut off, so that it can go on, and is removed at the end. Of a shard, such as
        (2, 4) for the second of four, nothing is yielded, and it stays.
        """
        folder = unfinished_of(out.parent.resolve() / out.name)
        with claimed(out if shard is None else shard_of(out, shard)), naming(out):
            self._prepare(folder)
            try:
                self._fill(folder, shard)
            except BaseException:
                if shard is None and not any((folder / _DONE).iterdir()):
                    remove(folder)
                raise
            yield folder / _STORE if shard is None else None
            if shard is None:
                remove(folder)

    def _prepare(self, folder: Path) -> None:
        """Make the store, unless it is there."""
        asked = self._digest()
        with claimed(folder, _SECONDS):  # other shards may be about to
            request = folder / _REQUEST
            if (folder / _STORE).is_dir() and request.is_file() and request.read_text() == asked:
                return
            if folder.exists():
                warnings.warn(
                    f"{folder} was begun by another model, on other data or with other options, and is begun anew.",
                    UserWarning,
                    stacklevel=levels_to_caller(),
                )
            with written_whole(folder) as partial:
                (partial / _DONE).mkdir(parents=True)
                new_store(partial / _STORE, self.frame, self.imputer.names, np.float32, self._rows)
                (partial / _REQUEST).write_text(asked)

    def _digest(self) -> str:
        request = self.request
        data = (identify(request.data), request.data.covariates_rc)
        options = repr(
            (
                version("chipvi"),
                self.imputer.level,
                self.imputer.names,
                self._rows,
                self.batch_size,
                self.frame.obs.columns.tolist(),
            )
        )
        return digest(self.imputer.predictor.digest(), *data, request.rows, options)

    def _fill(self, folder: Path, shard: tuple[int, int] | None) -> None:
        numbers = np.arange(self.n_stretches)
        if shard is not None:
            numbers = np.array_split(numbers, shard[1])[shard[0] - 1]
        done = {int(path.name) for path in (folder / _DONE).iterdir()}
        missing = [int(number) for number in numbers if int(number) not in done]
        if len(missing) < len(numbers):
            there = counted(len(numbers) - len(missing), "stretch was", "stretches were")
            _log.info("%s done before, of %s.", there, f"{len(numbers):,}")
        with self._bar(self._size(numbers), self._size(numbers) - self._size(missing)) as show:
            for _ in self.workers.run(self._tasks(missing, folder), show):
                pass

    def _size(self, numbers: Iterable[int]) -> int:
        return sum(min(self._rows, self.n_regions - int(number) * self._rows) for number in numbers)

    def _tasks(self, numbers: Iterable[int], folder: Path | None) -> Iterator[Task]:
        for number in numbers:
            start = number * self._rows
            rows = self.request.rows[start : start + self._rows]
            minibatches = tuple(self.imputer.predictor.minibatches(self.request.data, rows, self.batch_size))
            name = f"regions {start + 1:,} to {start + len(rows):,}"
            yield Task(name, len(rows), Stretch(self.imputer, minibatches, number, start, folder))

    def _bar(self, total: int, done: int = 0) -> Any:
        n_batches = self.n_regions / self.imputer.predictor.choose_batch_size(self.batch_size)
        return progress_bar("Imputing", total, "regions", done=done, shown=n_batches >= LONG)


def rows_of_stretch(batch_size: int, n_tracks: int) -> int:
    """Rows of a stretch, whole minibatches.

    >>> rows_of_stretch(batch_size=910, n_tracks=18), rows_of_stretch(batch_size=2_048, n_tracks=1_000)
    (14560, 2048)
    """
    return max(1, min(_MOST_ROWS, _MOST_ENTRIES // n_tracks) // batch_size) * batch_size


def choose_workers(processes: int | None, executor: Executor | None, request: Request, is_on_cpu: bool) -> Workers:
    """Who is to impute: where nothing is asked for, as many processes as there are cores and memory, if it is worth it.

    Parameters
    ----------
    processes, executor
        As asked for.
    request
        What is to be imputed.
    is_on_cpu
        Whether the module is there; what computes elsewhere is not shared.
    """
    n_entries = len(request.rows) * len(request.targets)
    if processes is None:
        is_worth_it = executor is None and is_on_cpu and n_entries >= _LARGE
        processes = choose_processes(-(-n_entries // _MOST_ENTRIES), _MEMORY) if is_worth_it else 1
    return Workers(processes, executor, __name__)
