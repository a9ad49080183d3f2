"""What the records of a file are, decided once: by its kind, its name and its first line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..text import as_whole, is_for_browsers, is_header, numbered_lines
from . import alignments

# Kinds that a sample sheet or a caller may give.
ALIGNMENTS, FRAGMENTS = "alignments", "fragments"
SUFFIXES = (".bed", ".bedpe", ".tagalign", ".tsv", ".txt")
WHAT = "reads or fragments"
_COMPRESSED = (".gz", ".bgz")
_STRANDS = ("+", "-", ".")
_STRAND = 5
_PLACES_OF_PAIR = (1, 2, 4, 5)
# 10x Genomics begins its fragments with such comments.
_CELL_RANGER = ("# primary_contig=", "# pipeline_name=cellranger")
_BARCODE = re.compile(r"(?<![A-Za-z])[ACGT]{10,}(?![A-Za-z])")


@dataclass(frozen=True)
class TextFormat:
    """What every line of a text is.

    Parameters
    ----------
    name
        "reads", "fragments" or "pairs".
    columns
        Those that are read, counted from 0.
    strands
        What the sixth column must hold, where it is read.
    most
        Columns that a line may have, where more would make it something else.
    """

    name: str
    columns: tuple[int, ...]
    strands: tuple[str, ...] = ()
    most: int | None = None

    def fault(self, cells: Sequence[str]) -> str | None:
        """What is wrong with the cells of a line, or None."""
        if len(cells) <= self.columns[-1]:
            return f"it has {_columns(cells)}, and {self.name} need {self.columns[-1] + 1}"
        if self.most is not None and len(cells) > self.most:
            return f"it has {_columns(cells)}, where the first line had none for a strand"
        if self.strands and cells[_STRAND] not in self.strands:
            return f"column 6 must be {' or '.join(self.strands)}, as in the first line"
        if self.name != PAIRS.name:
            return _fault_of_place(cells)
        if None in [as_whole(cells[column]) for column in _PLACES_OF_PAIR]:
            return "it does not hold chromosome, start and end twice"
        if "." in (cells[0], cells[3]) or "-1" in (cells[1], cells[4]) or cells[0] != cells[3]:
            return None  # it is dropped and counted
        return _fault_of_place(cells) or _fault_of_place(cells[3:])


READS = TextFormat("reads", (0, 1, 2, _STRAND), ("+", "-"))
PAIRS = TextFormat("pairs", (0, 1, 2, 3, 4, 5))
# Of a file that is known to hold fragments nothing but the place is looked at, whatever else a line has.
KNOWN_FRAGMENTS = TextFormat("fragments", (0, 1, 2))
_INTERVALS = TextFormat("fragments", (0, 1, 2), most=_STRAND)
_WITHOUT_STRAND = TextFormat("fragments", (0, 1, 2, _STRAND), (".",))


@dataclass(frozen=True)
class Source:
    """A file of reads.

    Parameters
    ----------
    path
        Of the file.
    text
        What its lines are; None for BAM, CRAM and SAM.
    """

    path: Path
    text: TextFormat | None

    @property
    def format(self) -> str:
        """BAM, CRAM or SAM; or what the lines of a text are."""
        return self.path.suffix[1:].upper() if self.text is None else self.text.name


def find_source(path: Path, kind: str | None = None) -> Source:
    """Decide what a file holds.

    Parameters
    ----------
    path
        Of the file.
    kind
        "alignments" or "fragments", or None where nobody knows.

    Raises
    ------
    ValueError
        If there is no such file, its name ends otherwise, its first line is neither a read nor a fragment, or kind,
        name and content contradict each other.
    """
    if kind not in (None, ALIGNMENTS, FRAGMENTS):
        raise ValueError(f"kind must be {ALIGNMENTS} or {FRAGMENTS}; it is {kind!r}.")
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    ending = file_ending(path)
    if ending in alignments.SUFFIXES:
        if kind == FRAGMENTS:
            raise ValueError(f"{path} holds alignments, not fragments; leave its kind empty, or give {ALIGNMENTS}.")
        return Source(path, None)
    if ending not in SUFFIXES:
        raise ValueError(
            f"{path} must end in {', '.join(alignments.SUFFIXES + SUFFIXES)}, the last five perhaps with .gz, so that "
            "its format is known."
        )
    return Source(path, _decide(path, ending, kind))


def file_ending(path: Path) -> str:
    """Ending of the name in lower case, without that of a compressed file.

    >>> file_ending(Path("a.tagAlign.gz"))
    '.tagalign'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_named_fragments(path: Path) -> bool:
    """Whether the name of a text is one of fragments, such as `atac_fragments.tsv.gz`."""
    return FRAGMENTS in path.name.lower() and file_ending(path) in SUFFIXES


def first_line(path: Path) -> tuple[int, list[str], bool]:
    """Number of the first line of data, its cells, and whether a comment of Cell Ranger stands before it.

    Raises
    ------
    ValueError
        If there is none, or it is no text.
    """
    of_cell_ranger = False
    for number, line in numbered_lines(path, WHAT):
        cells = line.split("\t")
        if line.startswith("#"):
            of_cell_ranger |= line.startswith(_CELL_RANGER)
        elif line.strip() and not is_for_browsers(line) and not is_header(cells):
            return number, cells, of_cell_ranger
    raise ValueError(refused(path, "it holds none"))


def refused(path: Path, found: str) -> str:
    """Message for a file whose lines are not what they should be."""
    return (
        f"{path} must hold chromosome, start, end and perhaps name, score, strand, separated by tabs; {found}. "
        "Give BAM, CRAM, BED, BEDPE, tagAlign or fragments.tsv."
    )


def _decide(path: Path, ending: str, kind: str | None) -> TextFormat:
    number, cells, of_cell_ranger = first_line(path)
    found = f"line {number} is {_shown(cells)}"
    is_pair = _is_pair(cells, ending)
    if not is_pair and (fault := _fault_of_place(cells)):
        raise ValueError(refused(path, f"{found}: {fault}"))
    if is_pair:
        return PAIRS
    if _is_peak(cells):
        raise ValueError(f"{path} holds peaks, which are no reads: {found}. Give the alignments or fragments.")
    is_named = is_named_fragments(path) or of_cell_ranger
    if kind == ALIGNMENTS and is_named:
        raise ValueError(
            f"{path} holds fragments by its name or header, but its kind is {kind}. Give kind {FRAGMENTS}, or rename."
        )
    if kind == FRAGMENTS or (kind is None and is_named):
        return KNOWN_FRAGMENTS
    strand = cells[_STRAND] if len(cells) > _STRAND else None
    if strand not in (None, *_STRANDS):
        raise ValueError(refused(path, f"{found}, whose column 6 is no strand"))
    if strand in READS.strands:
        if kind is None and (ending == ".tsv" or (ending != ".tagalign" and _is_barcode(cells))):
            raise ValueError(
                f"{path} may hold reads or fragments of single cells, which may have a strand in column 6: {found}. "
                f"Give its kind: {ALIGNMENTS} for reads, or {FRAGMENTS}."
            )
        return READS
    if kind == ALIGNMENTS or ending == ".tagalign":
        raise ValueError(
            f"{path} must have a strand, + or -, in column 6, as reads have; {found}. If each line is a fragment whose "
            f"both ends are known, give kind {FRAGMENTS}."
        )
    if len(cells) == 4 and re.fullmatch(r"-?[0-9]*\.[0-9]+(e-?[0-9]+)?", cells[3]):
        raise ValueError(f"{path} holds a signal, as bedGraph files do, and no reads: {found}.")
    return _INTERVALS if strand is None else _WITHOUT_STRAND


def _fault_of_place(cells: Sequence[str]) -> str | None:
    if len(cells) < 3:
        return f"it has {_columns(cells)}"
    start, end = as_whole(cells[1]), as_whole(cells[2])
    if not cells[0] or start is None or end is None:
        return "it holds no chromosome, start and end"
    if start < 0 or end <= start:
        return f"{cells[0]}:{start}-{end} does not start at 0 or later and end after its start"
    return None


def _is_pair(cells: Sequence[str], ending: str) -> bool:
    """Whether a line is one of BEDPE: a second place in columns 4 to 6, which no other format has."""
    if len(cells) < 6 or None in [as_whole(cells[column]) for column in _PLACES_OF_PAIR]:
        return False
    has_strands = len(cells) >= 10 and cells[8] in _STRANDS and cells[9] in _STRANDS
    return ending == ".bedpe" or has_strands or cells[0] == cells[3] or "." in (cells[0], cells[3])


def _is_peak(cells: Sequence[str]) -> bool:
    """Whether a line is one of narrowPeak or broadPeak: three numbers after the strand, which place no thick part."""
    if len(cells) not in (9, 10) or not all(
        re.fullmatch(r"-?[0-9.]+(e[-+]?[0-9]+)?", cell, re.I) for cell in cells[6:9]
    ):
        return False
    places = [as_whole(cells[column]) for column in (1, 6, 7, 2)]
    return any(low is None or high is None or low > high for low, high in pairwise(places))


def _is_barcode(cells: Sequence[str]) -> bool:
    """Whether column 4 looks like the barcode of a cell, and not like the bases of the read, as in tagAlign."""
    is_sequence = len(cells[3]) == int(cells[2]) - int(cells[1])
    return _BARCODE.search(cells[3]) is not None and not is_sequence


def _columns(cells: Sequence[str]) -> str:
    return f"{len(cells)} column{'s' * (len(cells) > 1)}"


def _shown(cells: Sequence[str]) -> str:
    return repr("\t".join(cells)[:60])
