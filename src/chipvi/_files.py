"""What is written: whole or not at all, and by one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from filelock import FileLock, SoftFileLock, Timeout

from ._signals import deferred, raise_swallowed

_PREFIX = ".chipvi-"  # of files that are not for users
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PAUSES = (0.0, 0.1, 0.5)  # seconds before each attempt to remove a folder
_SHOWN = 40  # letters of a name in that of its partial file: names may be as long as names can be
_LONGEST_NAME = 255  # bytes, on most file systems
_ENOUGH = 2**20  # bytes that a disk with space left takes

_held: dict[Path, int] = {}  # thread by lock file: who has claimed a path may claim it again


def _beside(path: Path, ending: str) -> Path:
    digest = blake2b(path.name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return path.with_name(f"{_PREFIX}{digest}{ending}")


def partial_of(path: Path, ending: str = "") -> Path:
    """Where a file or folder is until it is whole: hidden, beside the path, with its ending or another one.

    Only one process at a time may claim the path, so the name need not differ between processes, and what is there
    when a path is claimed was left by one that is dead.
    """
    return _beside(path, f"-{path.name[-_SHOWN:]}{ending}")


def unfinished_of(path: Path) -> Path:
    """Folder beside a path for what is done of it so far, with which a later run goes on: hidden, and never cleared."""
    named = path.with_name(f".{path.name}.unfinished")
    return named if len(os.fsencode(named.name)) <= _LONGEST_NAME else _beside(path, ".unfinished")


def shard_of(path: Path, shard: tuple[int, int]) -> Path:
    """What stands for a part of a file, such as (2, 4) for the second of four, where it is claimed."""
    return path.with_name(f"{path.name}.{shard[0]}-of-{shard[1]}")


def digest(*parts: Any) -> str:
    """Short text that differs for other texts, bytes or arrays, whatever the order in which these lie in memory."""
    found = blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            part = np.ascontiguousarray(part)
        data = memoryview(part.encode() if isinstance(part, str) else part)
        found.update(f"{data.nbytes}:".encode())
        found.update(data)
    return found.hexdigest()


@contextmanager
def claimed(path: Path, seconds: float = 0) -> Iterator[None]:
    """Keep other processes and threads from writing to a path meanwhile, and remove what a killed one has left.

    The folder that it lies in is made if need be, and removed again if it stays empty. The lock is a file in it; that
    of a dead process does not count, and the same thread may claim a path several times.

    Parameters
    ----------
    path
        Where to write.
    seconds
        How long to wait for another process to end.

    Raises
    ------
    BlockingIOError
        If another process or thread is writing there.
    OSError
        If the folder cannot be written to.
    """
    path = path.parent.resolve() / path.name
    lock_file = _beside(path, ".lock")
    if _held.get(lock_file) == threading.get_ident():
        yield
        return
    made = [folder for folder in path.parents if not folder.exists()]
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(lock_file, path, seconds)
    try:
        _held[lock_file] = threading.get_ident()
        _clear(path)
        yield
    finally:
        with suppress(OSError):
            lock_file.unlink()  # still locked: whoever has opened it meanwhile finds out, and takes a new one
        _held.pop(lock_file, None)
        lock.release()
        for folder in made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _acquire(lock_file: Path, path: Path, seconds: float) -> Any:
    lock: Any = FileLock(lock_file)  # where a file system has no locks, it becomes another one
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about that
            lock.acquire(timeout=seconds)
    except Timeout as error:
        raise BlockingIOError(
            f"another process{_holder(lock_file)} is writing {path}. Wait until it has ended, or write elsewhere."
        ) from error
    if not isinstance(lock, SoftFileLock):  # which names the process by itself
        with suppress(OSError):
            lock_file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
    return lock


def _holder(lock_file: Path) -> str:
    with suppress(OSError, ValueError):
        pid, host, *_ = lock_file.read_text().split()
        return f" ({int(pid)} on {host})"
    return ""


def _clear(path: Path) -> None:
    """Remove what a process left that was killed while it wrote to the path; put back a folder that it moved away."""
    old = _beside(path, ".old")
    if old.exists() and not path.exists():
        os.replace(old, path)
    for left in (old, *path.parent.glob(f"{_beside(path, '-').name}*")):
        remove(left)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        for pause in _PAUSES:  # a thread of zarr that was cut off may still write to it
            time.sleep(pause)
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
    else:
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make errors of the disk name the path that is written, in a sentence.

    Raises
    ------
    OSError
        With `errno`, if the disk is full, a quota is used up, or a file would be larger than is allowed.
    """
    try:
        yield
    except BlockingIOError:
        raise
    except Exception as error:
        number = _full(error)
        if number is not None:
            found = OSError(
                f"{os.strerror(number).lower()} while writing {path}; what was there before is as it was. Free some "
                "space, or write elsewhere."
            )
            found.errno = number
            raise found from error
        if isinstance(error, PermissionError) and _PREFIX in str(error.filename):
            raise PermissionError(f"{path} cannot be written: {error.strerror or error}.") from error
        raise


def _full(error: BaseException | None) -> int | None:
    """Why there is no space, if that is the reason: libraries hide the number in a text, or in the cause."""
    while error is not None:
        for number in _FULL:
            if getattr(error, "errno", None) == number or os.strerror(number).lower() in str(error).lower():
                return number
        error = error.__cause__ or error.__context__
    return None


def require_space(path: Path) -> None:
    """Raise what the system raises when more is written to a file, after a library failed to without a reason."""
    with path.open("ab") as file:
        file.write(bytes(_ENOUGH))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside the one given, to write a file or a folder to, which takes its place at the end.

    An error or an interrupt leaves nothing behind, and what was there as it was.

    Raises
    ------
    BlockingIOError
        If another process is writing there.
    OSError
        If it cannot be written, as where the disk is full.
    """
    with claimed(path), naming(path):
        partial, old = partial_of(path), _beside(path, ".old")
        try:
            yield partial
            raise_swallowed()
            if partial.is_dir() and path.is_dir():
                os.replace(path, old)  # a folder cannot take the place of another one
            os.replace(partial, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            remove(partial)
            raise
        remove(old)


def require_new(path: Path) -> None:
    """Refuse, before any work, what cannot become the file of an AnnData.

    Raises
    ------
    ValueError
        For another ending than `.h5ad` or `.zarr`.
    FileExistsError
        If there is such a file.
    """
    if path.suffix not in (".h5ad", ".zarr"):
        raise ValueError(f"out must end in .h5ad or .zarr; got {path.name!r}.")
    if path.exists():
        raise FileExistsError(f"{path} exists already. Remove it, or write elsewhere.")


def require_writable(path: Path) -> None:
    """As :func:`require_new`, and in a folder that is there.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    require_new(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder. Make it first.")


class _Sink(FileIO):
    """A file of which HDF5, which crashes where writing fails, sees no write fail: the first error is kept.

    What comes after it stays in memory, for HDF5 reads parts of it again: it is at most what is written in one go.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        view, start = memoryview(data).cast("B"), self.tell()
        if self._error is None:
            try:
                done = 0
                while done < len(view):
                    done += super().write(view[done:]) or 0
                return done
            except OSError as error:
                self._error = error
        self._unwritten.append((start, bytes(view)))
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view, start = memoryview(buffer).cast("B"), self.tell()
        size = super().readinto(view) or 0
        if self._error is None:
            return size
        view[size:] = bytes(len(view) - size)
        for place, data in self._unwritten:
            first, last = max(place, start), min(place + len(data), start + len(view))
            if first < last:
                view[first - start : last - start] = data[first - place : last - place]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def require_written(self) -> None:
        """Raise the error that HDF5 has not seen."""
        if self._error is not None:
            raise self._error


@contextmanager
def new_h5ad(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """An empty HDF5 file for an AnnData, which a full disk does not make crash, nor a signal leave half-written.

    Returns
    -------
    The file, and what to call between two parts: it raises what went wrong, and interrupts, as does the end.
    """
    with deferred() as deliver, _Sink(path) as sink:

        def check() -> None:
            deliver()
            sink.require_written()

        try:
            with h5py.File(sink, "w") as file:
                yield file, check
        finally:
            sink.require_written()


def new_zarr(path: Path) -> Any:
    """An empty zarr group for an AnnData."""
    # anndata before 0.12, which comes with zarr 2, reads this format only
    version: dict[str, Any] = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}
    return zarr.open_group(str(path), mode="w", **version)
