"""Where a gene lies, by a GTF file."""

from __future__ import annotations

import re
from collections.abc import Collection
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
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    names: set[str] = set()
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for number, line in read_lines(path, "a GTF file"):
        cells = line.split("\t")
        start, end = (as_whole(cells[3]), as_whole(cells[4])) if len(cells) > 8 else (None, None)
        if start is None or end is None:
            raise ValueError(f"line {number} of {path.name} is no line of GTF: nine columns, with start and end.")
        found = {match[1] for match in (_NAME.search(cells[8]), _ID.search(cells[8])) if match}
        names |= found
        if name in found or name in {one.partition(".")[0] for one in found}:
            spans.setdefault(cells[0], []).append((start - 1, end, cells[6]))
    if not spans:
        raise ValueError(unknown("gene", name, sorted(names), path.name))
    matched = match_contigs(chroms, spans)
    if not matched:
        where = ", ".join(f"{chrom}:{min(one[0] for one in some) + 1:,}" for chrom, some in spans.items())
        raise ValueError(f"gene {name} lies at {where}, where the result has no region.")
    chrom, here = next((matched[found], some) for found, some in spans.items() if found in matched)
    return Gene(name, chrom, min(one[0] for one in here), max(one[1] for one in here), here[0][2])
