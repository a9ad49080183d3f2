"""Reads and fragments of BED, tagAlign and fragments.tsv files, in batches."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .alignments import Batch
from .rules import Reads

SUFFIXES = (".bed", ".tagalign", ".tsv", ".txt")
_BATCH = 1 << 18
_HEADERS = ("#", "track", "browser")
_STRAND_COLUMN = 5


def read_fragments(path: Path) -> Iterator[Batch]:
    """Read all lines once: chromosome, start, end, and perhaps name, score and strand.

    A line with a strand, "+" or "-" in its sixth column, is a read, as in tagAlign; one without is a fragment whose
    both ends are known, as in the fragments.tsv of single cells, which counts once whatever its further columns say.

    Raises
    ------
    ValueError
        If a line holds no interval, no line does, or a compressed file is truncated.
    """
    n_headers, n_columns = _first_line(path)
    columns = [0, 1, 2, *([_STRAND_COLUMN] if n_columns > _STRAND_COLUMN else [])]
    with path.open("rb") as compressed, closing(_text(path, compressed)) as file:
        for table in _tables(path, file, n_headers, columns):
            yield Batch(_reads(path, table), {}, compressed.tell())


def _tables(path: Path, file: Any, n_headers: int, columns: list[int]) -> Iterator[pd.DataFrame]:
    try:
        yield from pd.read_csv(
            file,
            sep="\t",
            header=None,
            skiprows=n_headers,
            usecols=columns,
            dtype={0: "category", 1: np.int64, 2: np.int64, _STRAND_COLUMN: "category"},
            na_filter=False,
            quoting=3,  # a quotation mark in a name is a character like any other
            chunksize=_BATCH,
        )
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}. Copy or make the file again.") from error
    except (ValueError, OverflowError) as error:  # also ParserError and UnicodeDecodeError
        raise ValueError(_no_intervals(path, str(error).strip())) from error


def _text(path: Path, file: Any) -> Any:
    return gzip.GzipFile(fileobj=file) if path.suffix.lower() in (".gz", ".bgz") else file


def _first_line(path: Path) -> tuple[int, int]:
    """How many lines stand before the first interval, and how many columns that has."""
    with path.open("rb") as compressed, closing(_text(path, compressed)) as file:
        try:
            for number, line in enumerate(file):
                text = line.decode().rstrip("\r\n")
                if text.strip() and not text.startswith(_HEADERS):
                    fields = text.split("\t")
                    if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
                        raise ValueError(_no_intervals(path, f"line {number + 1} is {text[:60]!r}"))
                    return number, len(fields)
        except (gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise ValueError(_no_intervals(path, "it is no text")) from error
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{path} is truncated or damaged: {error}. Copy or make the file again.") from error
    raise ValueError(_no_intervals(path, "it holds none"))


def _reads(path: Path, table: pd.DataFrame) -> Reads:
    contig, start, end = table[0], table[1].to_numpy(), table[2].to_numpy()
    broken = np.flatnonzero((start < 0) | (end <= start))
    if len(broken):
        row = broken[0]
        found = f"{contig.iloc[row]}:{start[row]}-{end[row]}"
        raise ValueError(_no_intervals(path, f"{found} does not start at 0 or later and end after its start"))
    strand = np.zeros(len(table), dtype=np.int8)
    if _STRAND_COLUMN in table:
        signs = table[_STRAND_COLUMN]
        strand[(signs == "+").to_numpy()] = 1
        strand[(signs == "-").to_numpy()] = -1
    names = tuple(contig.cat.categories)
    return Reads(names, contig.cat.codes.to_numpy(np.int64), start, end, strand, strand == 0)


def _no_intervals(path: Path, found: str) -> str:
    return (
        f"{path} must hold chromosome, start, end and perhaps name, score, strand, separated by tabs; {found}. "
        "Give BAM, CRAM, BED, tagAlign or fragments.tsv, each perhaps with .gz."
    )
