"""Lines of text files, whoever wrote them: plain or gzip, a byte order mark, either line end, comments anywhere."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

_GZIP = b"\x1f\x8b"
_FOR_BROWSERS = re.compile(r"(track|browser)\s")
_WHOLE = re.compile(r" *-?[0-9]{1,18} *")


@contextmanager
def open_bytes(path: Path, what: str) -> Iterator[tuple[Any, Any]]:
    """Open a text that may be compressed, by its first bytes and not by its name.

    Parameters
    ----------
    path
        Of the file.
    what
        What it should be, for the message.

    Yields
    ------
    The uncompressed bytes behind the byte order mark, and the file on disk, whose ``tell`` is how far it was read.

    Raises
    ------
    ValueError
        If it is no text in UTF-8, truncated or damaged, also while it is read.
    """
    try:
        with path.open("rb") as on_disk:
            is_packed = on_disk.peek(len(_GZIP)).startswith(_GZIP)
            with closing(gzip.GzipFile(fileobj=on_disk) if is_packed else on_disk) as file:
                if file.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8):
                    file.read(len(codecs.BOM_UTF8))
                yield file, on_disk
    except UnicodeDecodeError as error:
        raise ValueError(_no_text(path, what)) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}. Copy or make the file again.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read as {what}: {error.strerror or error}.") from error


@contextmanager
def open_text(path: Path, what: str) -> Iterator[TextIOWrapper]:
    """As :func:`open_bytes`, decoded, with every line end as a line feed."""
    with open_bytes(path, what) as (file, _):
        yield TextIOWrapper(file, "utf-8")


def numbered_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Every line without its end, after its number, from 1; errors as :func:`open_bytes`."""
    with open_text(path, what) as file:
        for number, line in enumerate(file, start=1):
            if "\0" in line:
                raise ValueError(_no_text(path, what))
            yield number, line.rstrip("\n")


def read_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Lines that are neither blank nor a comment, which begins with ``#``."""
    for number, line in numbered_lines(path, what):
        if line[:1] != "#" and line.strip():
            yield number, line


def read_rows(path: Path, what: str) -> Iterator[tuple[int, list[str]]]:
    """Cells of the lines that hold data: by tabs, or by blanks where a line has no tab, for a name may hold blanks."""
    for number, line in read_lines(path, what):
        if not is_for_browsers(line):
            yield number, line.split("\t") if "\t" in line else line.split()


def is_for_browsers(line: str) -> bool:
    """Whether a line of a BED file is no data, but how a genome browser is to draw the others.

    >>> is_for_browsers("track name=reads"), is_for_browsers("track7 0 100")
    (True, False)
    """
    return _FOR_BROWSERS.match(line) is not None


def is_header(cells: Sequence[str]) -> bool:
    """Whether a row names the columns of an interval.

    >>> is_header(["chrom", "chromStart", "chromEnd"]), is_header(["chr1", "0", "100"])
    (True, False)
    """
    return len(cells) > 2 and "start" in cells[1].lower() and cells[2].lower().endswith(("end", "end1", "stop"))


def as_whole(cell: str) -> int | None:
    """A whole number, or None if the cell holds none that fits into 64 bits.

    >>> as_whole("-1"), as_whole("1.5"), as_whole("1_000")
    (-1, None, None)
    """
    return int(cell) if _WHOLE.fullmatch(cell) else None


def _no_text(path: Path, what: str) -> str:
    return f"{path} cannot be read as {what}: it is no text in UTF-8, plain or compressed with gzip."
