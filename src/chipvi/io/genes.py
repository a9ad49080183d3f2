"""Where a gene lies, and which gene is near, by a GTF file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._messages import unknown
from .contigs import match_contigs
from .text import as_whole, read_lines

_NAME = re.compile(r'gene_name "([^"]+)"')
_ID = re.compile(r'gene_id "([^"]+)"')


@dataclass(frozen=True)
class Gene:
    """A gene on a chromosome, called as where it is looked for; bp, 0-based, half-open."""

    name: str
    chrom: str
    start: int
    end: int
    strand: str

    @property
    def start_site(self) -> int:
        """Its first base in the direction of transcription."""
        return self.end - 1 if self.strand == "-" else self.start

    def distance(self, start: int, end: int) -> int:
        """Bases between its start site and a stretch, 0 within."""
        return max(start - self.start_site, self.start_site - (end - 1), 0)


def find_gene(path: Path, name: str, chroms: Collection[str]) -> Gene:
    """Find a gene by its name or its identifier, with or without a version.

    Parameters
    ----------
    path
        A GTF file, plain or compressed with gzip.
    name
        As in `gene_name` or `gene_id`, upper and lower case distinguished.
    chroms
        Names of the chromosomes on which to look, with or without "chr".

    Raises
    ------
    ValueError
        If it cannot be read as GTF, there is no such gene, or it lies elsewhere.
    """
    names: set[str] = set()
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for cells, start, end in _lines(path):
        found = {match[1] for match in (_NAME.search(cells[8]), _ID.search(cells[8])) if match}
        names |= found
        if name in found or name in {one.partition(".")[0] for one in found}:
            spans.setdefault(cells[0], []).append((start, end, cells[6]))
    if not spans:
        raise ValueError(unknown("gene", name, sorted(names), path.name))
    matched = match_contigs(chroms, spans)
    if not matched:
        where = ", ".join(f"{chrom}:{min(one[0] for one in some) + 1:,}" for chrom, some in spans.items())
        raise ValueError(f"gene {name} lies at {where}, where the result has no region.")
    chrom, here = next((matched[found], some) for found, some in spans.items() if found in matched)
    return Gene(name, chrom, min(one[0] for one in here), max(one[1] for one in here), here[0][2])


def find_nearest(path: Path, places: Sequence[tuple[str, int, int]]) -> list[Gene | None]:
    """The gene of the nearest start site for each place; None where its chromosome has no gene.

    Parameters
    ----------
    path
        A GTF file, plain or compressed with gzip; its lines of the kind ``gene`` count.
    places
        Chromosome, with or without "chr", start and end; bp, 0-based, half-open.

    Raises
    ------
    ValueError
        If it cannot be read as GTF, or has no such line.
    """
    genes: dict[str, list[Gene]] = {}
    for cells, start, end in _lines(path):
        if cells[2] == "gene":
            match = _NAME.search(cells[8]) or _ID.search(cells[8])
            genes.setdefault(cells[0], []).append(Gene(match[1] if match else "", cells[0], start, end, cells[6]))
    if not genes:
        raise ValueError(f"{path.name} has no line of a gene, with gene in the third column.")
    of_chrom = {chrom: found for found, chrom in match_contigs({place[0] for place in places}, genes).items()}
    return [
        min(genes[of_chrom[chrom]], key=lambda gene: gene.distance(start, end)) if chrom in of_chrom else None
        for chrom, start, end in places
    ]


def _lines(path: Path) -> Iterator[tuple[list[str], int, int]]:
    """Columns of each line, its start and its end (0-based, half-open)."""
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    for number, line in read_lines(path, "a GTF file"):
        cells = line.split("\t")
        start, end = (as_whole(cells[3]), as_whole(cells[4])) if len(cells) > 8 else (None, None)
        if start is None or end is None:
            raise ValueError(f"line {number} of {path.name} is no line of GTF: nine columns, with start and end.")
        yield cells, start - 1, end
