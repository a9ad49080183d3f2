"""Reads and fragments of texts, BED, BEDPE, tagAlign and fragments.tsv, in batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..text import is_for_browsers, numbered_lines, open_bytes
from .alignments import Batch
from .formats import PAIRS, READS, WHAT, Source, TextFormat, first_line, refused
from .rules import Reads

_BATCH = 1 << 18
# Lines that are no data, and a byte without which no such line is there: to look for one byte takes next to no time.
_NO_DATA = ((b"#", b"\n#"), (b"k", b"\ntrack"), (b"w", b"\nbrowser"))
_NO_DATA_LINES = re.compile(rb"^(?:#|(?:track|browser)\s).*\n?", re.MULTILINE)
_TAB, _LINE_FEED = b"\t\n"
# Names as text: of categories pandas 3 makes numbers, and one of 1 and 01.
_COLUMN_TYPES: dict[int, Any] = {0: str, 1: np.int64, 2: np.int64}
_MATE_TYPES: dict[int, Any] = {3: str, 4: np.int64, 5: np.int64}
_STRAND_TYPES: dict[int, Any] = {5: "category"}


def read_fragments(source: Source, contigs: Sequence[str] = ()) -> Iterator[Batch]:
    """Read all lines once, each of which must be what the first one is.

    Parameters
    ----------
    source
        A text, with its format.
    contigs
        Names of chromosomes that are known to be in it. Each batch has these, and all that came up to its end.

    Raises
    ------
    ValueError
        If a line is something else, which the message names, or a compressed file is truncated.
    """
    assert source.text is not None
    path, text = source.path, source.text
    number, _, _ = first_line(path)
    names = {name: place for place, name in enumerate(contigs)}
    with open_bytes(path, WHAT) as (file, on_disk):
        for _ in range(number - 1):
            file.readline()
        try:
            for table in _tables(_DataLines(file, text.most), text):
                reads, n_broken = _pairs(table, names) if text == PAIRS else (_reads(table, text, names), 0)
                yield Batch(reads, {"improper_pair": n_broken} if text == PAIRS else {}, on_disk.tell())
        except (ValueError, OverflowError) as error:  # also ParserError, none of which names a line of the file
            raise ValueError(_first_fault(path, text) or refused(path, str(error).strip())) from error


class _DataLines:
    """The bytes of a text for pandas, without lines that are no data, such as those between two files that were joined.

    Parameters
    ----------
    file
        Opened at the first line of data.
    most
        Columns that a line may have, if there is a limit; pandas does not look at those that it does not read.
    """

    def __init__(self, file: Any, most: int | None):
        self._file = file
        self._most = most

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)  # pandas asks for it, and reads

    def read(self, size: int) -> bytes:
        """About so many bytes, in whole lines."""
        while block := self._file.read(size):
            block += self._file.readline()
            if b"\r" in block:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if any(byte in block and (start in block or block.startswith(start[1:])) for byte, start in _NO_DATA):
                block = _NO_DATA_LINES.sub(b"", block)
            if not block.isascii():
                block.decode()  # which raises the error of a text that is none, also for columns that pandas skips
            if b"\0" in block or (self._most is not None and _most_columns(block) > self._most):
                raise ValueError("a line is no line of the format")
            if block:
                return block
        return b""


def _most_columns(block: bytes) -> int:
    values = np.frombuffer(block, dtype=np.uint8)
    marks = values[values - _TAB <= _LINE_FEED - _TAB]  # tabs and line feeds follow each other; below 9 it wraps around
    ends = np.append(np.flatnonzero(marks == _LINE_FEED), len(marks))
    return int(np.diff(ends, prepend=-1).max())


def _tables(file: _DataLines, text: TextFormat) -> Iterator[pd.DataFrame]:
    types = _COLUMN_TYPES | (_MATE_TYPES if text == PAIRS else _STRAND_TYPES)
    yield from pd.read_csv(
        file,
        sep="\t",
        header=None,
        usecols=list(text.columns),
        dtype={column: types[column] for column in text.columns},
        na_filter=False,
        quoting=3,  # a quotation mark in a name is a character like any other
        chunksize=_BATCH,
    )


def _reads(table: pd.DataFrame, text: TextFormat, names: dict[str, int]) -> Reads:
    start, end = table[1].to_numpy(), table[2].to_numpy()
    contig = _contig(table[0], names)
    strand = np.zeros(len(table), dtype=np.int8)
    if text.strands:
        _require(set(table[5].cat.categories) <= set(text.strands))
    if text == READS:
        strand = np.where(table[5].to_numpy() == "+", 1, -1).astype(np.int8)
    _require(bool(np.all((start >= 0) & (end > start))))
    return Reads(tuple(names), contig, start, end, strand, strand == 0)


def _pairs(table: pd.DataFrame, names: dict[str, int]) -> tuple[Reads, int]:
    """Fragments from the first base of one mate to the last one of the other, and the number of lines that are none."""
    contig, mate_contig = _contig(table[0], names), _contig(table[3], names)
    start, end, mate_start, mate_end = (table[column].to_numpy() for column in (1, 2, 4, 5))
    no_name = names.get(".", -1)
    whole = (contig == mate_contig) & (contig != no_name) & (start != -1) & (mate_start != -1)
    contig, start, end, mate_start, mate_end = (column[whole] for column in (contig, start, end, mate_start, mate_end))
    _require(bool(np.all((start >= 0) & (mate_start >= 0) & (end > start) & (mate_end > mate_start))))
    strand = np.zeros(len(contig), dtype=np.int8)
    first, last = np.minimum(start, mate_start), np.maximum(end, mate_end)
    return Reads(tuple(names), contig, first, last, strand, strand == 0), len(whole) - len(contig)


def _contig(column: pd.Series, names: dict[str, int]) -> np.ndarray:
    """Place of each name among all names of the file, to which new ones are added in the order of the lines."""
    codes, found = pd.factorize(column)
    _require("" not in found)
    for name in found:
        names.setdefault(name, len(names))
    return np.array([names[name] for name in found], dtype=np.int64)[codes]


def _require(is_so: bool) -> None:
    if not is_so:
        raise ValueError("a line is no line of the format")


def _first_fault(path: Path, text: TextFormat) -> str | None:
    """Message for the first line that is not what it should be; it is looked for only once a batch has failed."""
    first, _, _ = first_line(path)
    for number, line in numbered_lines(path, WHAT):
        if number < first or line.startswith("#") or is_for_browsers(line) or not line.strip(" "):
            continue
        if fault := text.fault(line.split("\t")):
            return (
                f"{path} must hold {text.name}, one a line, as line {first} does; line {number} is {line[:60]!r}: "
                f"{fault}. Correct the line, or keep different formats in files of their own."
            )
    return None
