"""Whether the files of a sheet are of the genome that they should be of, by their headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ... import _keys
from ..bigwigs.read import bigwig_sizes
from ..contigs import check_contigs, check_same_assembly, match_contigs
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
    sizes = None if genome is None else chrom_sizes(genome)
    last = regions.groupby(regions[_keys.CHROM].astype("category"), observed=True, sort=False)[_keys.END].max()
    if sizes is not None:
        _require_known(last, sizes)
    here = {}
    for file in dict.fromkeys(files):
        lengths = {} if is_url(file) else _stated_lengths(Path(file))
        if not lengths:
            continue
        names = last.index
        if file.lower().endswith(BIGWIG):  # names only chromosomes with data
            names = [chrom for chrom in names if chrom in set(match_contigs(names, lengths).values())]
        ends = pd.DataFrame({_keys.CHROM: names, _keys.END: last[names].to_numpy()})
        matched = check_contigs(file, lengths, ends, sizes)
        here[file] = {chrom: lengths[contig] for contig, chrom in matched.items()}
    check_same_assembly(here)


def _require_known(last: pd.Series, sizes: pd.Series) -> None:
    for chrom, end in last.items():
        if chrom not in sizes.index:
            raise ValueError(
                f"regions must be on chromosomes of the genome; {chrom} is none. Are they named as in the genome?"
            )
        if end > sizes[chrom]:
            raise ValueError(
                f"regions must lie within the genome; one ends at {chrom}:{end:,}, {chrom} at {sizes[chrom]:,}. "
                "Are they of another assembly?"
            )


def _stated_lengths(path: Path) -> Mapping[str, int]:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return contig_lengths(path)
    if suffix not in BIGWIG:
        return {}
    return dict(bigwig_sizes(path))
