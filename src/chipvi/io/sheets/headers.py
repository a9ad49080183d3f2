"""Whether the files of a sheet are of the genome that they should be of, by their headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ..assembly import require_one_assembly
from ..bigwigs.read import bigwig_sizes
from ..counting.alignments import SUFFIXES, contig_lengths
from ..genomes import chrom_sizes
from ..inputs import is_url
from .sheet import BIGWIG


def require_assembly(files: Iterable[str], regions: pd.DataFrame, genome: str | Path | pd.Series | None) -> None:
    """Compare the lengths of chromosomes that files state with each other, with the regions and with a genome.

    Only headers are read, of BAM, CRAM, SAM and bigWig files on this computer; other files state no lengths.

    Parameters
    ----------
    files
        Paths or URLs.
    regions
        With `chrom`, `start` and `end`.
    genome
        As in :func:`chrom_sizes`, or None if it is not known.

    Raises
    ------
    ValueError
        If a file cannot be read or is of another assembly; the message names it.
    """
    stated = {file: _stated_lengths(Path(file)) for file in dict.fromkeys(files) if not is_url(file)}
    bigwigs = {file for file in stated if file.lower().endswith(BIGWIG)}  # name only chromosomes with data
    sizes = None if genome is None else chrom_sizes(genome)
    require_one_assembly({file: lengths for file, lengths in stated.items() if lengths}, regions, sizes, bigwigs)


def _stated_lengths(path: Path) -> Mapping[str, int]:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return contig_lengths(path)
    if suffix not in BIGWIG:
        return {}
    return dict(bigwig_sizes(path))
