"""Files read side by side, by this process or others; what was read of each may be kept until all are."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._files import digest, naming, unfinished_of, written_whole
from .._messages import counted
from .._workers import Task, Workers, choose_processes, progress_bar, require_shared
from .inputs import is_url

_LARGE = 50_000_000  # bytes from which reading a file takes longer than starting a process with what it imports
_MEMORY = 2**28  # bytes that a process needs before it reads
_MEMORY_OF_REGION = 64
_log = logging.getLogger(__name__)

Arrays: TypeAlias = Mapping[str, Any]
"""What is read of a file: arrays of numbers and texts by name."""

STRETCH = 2**18
"""Regions that are kept, and written, together."""


def cut(values: np.ndarray) -> dict[str, np.ndarray]:
    """Values of all regions as arrays of stretches of them, each of which can be loaded by itself."""
    return {f"stretch{n}": values[start : start + STRETCH] for n, start in enumerate(range(0, len(values), STRETCH))}


def joined(arrays: Arrays) -> np.ndarray:
    """The values that :func:`cut` has cut."""
    numbers = sorted(int(name.removeprefix("stretch")) for name in arrays if name.startswith("stretch"))
    return np.concatenate([stretch_of(arrays, number) for number in numbers])


def stretch_of(arrays: Arrays, number: int) -> np.ndarray:
    """The values of a stretch."""
    values: np.ndarray = arrays[f"stretch{number}"]
    return values


@dataclass(frozen=True, eq=False)
class Reading:
    """How files are read.

    Parameters
    ----------
    processes, executor
        As for :func:`chipvi.io.count_reads`.
    progress
        Whether to show a bar.
    folder
        Where what was read of a file is kept, so that another run need not read it again; None for nowhere.
    shard
        Which part of the files is read, such as (2, 4) for the second of four; None for all.
    """

    processes: int | None = None
    executor: Executor | None = None
    progress: bool = True
    folder: Path | None = None
    shard: tuple[int, int] | None = None

    @contextmanager
    def beside(self, out: Path) -> Iterator[Reading]:
        """The same, with what was read kept beside a file to be written, and removed once that is done.

        What is kept stays where it is not done, unless it is nothing.
        """
        folder = unfinished_of(out.parent.resolve() / out.name)
        folder.mkdir(exist_ok=True)
        try:
            with naming(out):
                yield replace(self, folder=folder)
        except BaseException:
            if not any(folder.iterdir()):
                folder.rmdir()
            raise
        if self.shard is None:
            shutil.rmtree(folder)

    def read(self, files: Sequence[FileToRead], verb: str, noun: str, n_regions: int) -> Iterator[Arrays] | None:
        """Read files side by side; the result is in their order, whichever ends first, or None for a shard.

        Parameters
        ----------
        files
            Each with what to do.
        verb, noun
            What the bar says is done to what.
        n_regions
            Regions that are read of each file, by which the memory goes that a process needs.

        Raises
        ------
        Exception
            Of the first file that cannot be read; the others are then given up.
        """
        pieces = [None if self.folder is None else self.folder / f"{file.key()}.npz" for file in files]
        numbers = list(range(len(files)))
        if self.shard is not None:
            part, n_parts = self.shard
            numbers = sorted(numbers, key=lambda number: -files[number].n_bytes)[part - 1 :: n_parts]
        missing = [number for number in numbers if (piece := pieces[number]) is None or not piece.exists()]
        if len(missing) < len(numbers):
            _log.info("%s read before.", counted(len(numbers) - len(missing), "file was", "files were"))
        tasks = [Task(files[n].source, files[n].n_bytes, partial(_read, files[n].call, pieces[n])) for n in missing]
        found: dict[int, Arrays] = {}
        number_of = dict(zip(map(id, tasks), missing, strict=True))
        total, left = (sum(files[n].n_bytes for n in some) for some in (numbers, missing))
        text = f"{verb} {counted(len(numbers), noun)}"
        with progress_bar(text, total, "bytes", done=total - left, shown=self.progress) as show:
            for task, arrays in self._workers([files[n] for n in missing], n_regions).run(tasks, show):
                if arrays is not None:
                    found[number_of[id(task)]] = arrays
        if self.shard is not None:
            return None
        return (_Kept(piece) if piece is not None else found.pop(number) for number, piece in enumerate(pieces))

    def _workers(self, files: Sequence[FileToRead], n_regions: int) -> Workers:
        processes = self.processes
        if processes is None:
            n_large = sum(file.n_bytes >= _LARGE for file in files)
            processes = choose_processes(n_large, _MEMORY + _MEMORY_OF_REGION * n_regions)
        return Workers(max(1, min(processes, len(files))), self.executor, "chipvi.io")


@dataclass(frozen=True, eq=False)
class FileToRead:
    """A file, and what to do with it.

    Parameters
    ----------
    source
        Path, or URL.
    call
        Reads it; can be pickled.
    asked
        Digest of what is asked of every file alike: what was kept is of use for the same alone.
    """

    source: str
    call: Callable[[], Arrays]
    asked: str

    @property
    def n_bytes(self) -> int:
        """Its size; of a URL a guess."""
        return _LARGE if is_url(self.source) else os.path.getsize(self.source)

    def key(self) -> str:
        """A text that differs where what is read does, as far as size and time of the file show."""
        if is_url(self.source):
            return digest(self.asked, version("chipvi"), self.source)
        path, found = Path(self.source).resolve(), os.stat(self.source)
        return digest(self.asked, version("chipvi"), str(path), f"{found.st_size} {found.st_mtime_ns}")


def _read(call: Callable[[], Arrays], piece: Path | None) -> Arrays | None:
    """Read a file; what was read is returned, or else kept."""
    if piece is None:
        return call()
    require_shared(piece.parent)
    arrays = call()
    with written_whole(piece) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return None


class _Kept(Mapping[str, Any]):
    """Arrays that were kept in a file, each loaded when it is asked for."""

    def __init__(self, piece: Path) -> None:
        self._piece = piece

    def __getitem__(self, name: str) -> Any:
        with self._open() as arrays:
            return arrays[name]

    def __iter__(self) -> Iterator[str]:
        with self._open() as arrays:
            return iter(arrays.files)

    def __len__(self) -> int:
        with self._open() as arrays:
            return len(arrays.files)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with np.load(self._piece, allow_pickle=False) as arrays:
                yield arrays
        except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{self._piece} is damaged ({' '.join(str(error).split())}). Remove it, and run again."
            ) from error
