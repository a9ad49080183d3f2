"""Whether regions, files and a genome are of one assembly, by the lengths of the chromosomes that have regions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from .. import _keys
from .._messages import and_more, listed
from .contigs import match_contigs
from .genomes import COMMON_GENOMES, chrom_sizes, main_chromosomes


def lengths_by_chrom(chroms: Iterable[str], sizes: pd.Series) -> dict[str, int]:
    """Length of each of the chromosomes that a genome has, whether it names them with "chr" or without."""
    known = dict(zip(sizes.index, sizes.tolist(), strict=True))
    return {chrom: known[name] for name, chrom in match_contigs(chroms, known).items()}


def require_one_assembly(
    lengths_by_file: Mapping[str, Mapping[str, int]],
    regions: pd.DataFrame,
    sizes: pd.Series | None,
    partial: Collection[str] = (),
) -> None:
    """Refuse files whose headers are not of the regions' genome, or not of one genome.

    Chromosomes without a region do not matter: mitochondria, decoys and spike-ins differ between files of one assembly.

    Parameters
    ----------
    lengths_by_file
        Length in bp of every contig in the header of each file.
    regions
        With `chrom`, `start` and `end`.
    sizes
        Length of every chromosome of the genome, where it is known; without it no region may end beyond its contig.
    partial
        Those of the files that may lack a chromosome.

    Raises
    ------
    ValueError
        If regions do not lie within the genome, or a file lacks one of their chromosomes, or gives it another length
        than the genome or than another file.
    """
    chrom = regions[_keys.CHROM].astype("category")
    ends = regions.groupby(chrom, observed=True, sort=False)[_keys.END].max().to_dict()
    known = {} if sizes is None else _known_lengths(ends, sizes)
    first: dict[str, tuple[str, int]] = {}
    for file, lengths in lengths_by_file.items():
        for chrom, length in _checked_lengths(file, lengths, ends, known, file in partial).items():
            other, expected = first.setdefault(chrom, (file, length))
            if length != expected:
                raise ValueError(
                    f"files must be of one assembly; {chrom} has {expected:,} bp in {other} and {length:,} bp in "
                    f"{file}. Align them to one genome."
                )


def _known_lengths(ends: Mapping[str, int], sizes: pd.Series) -> dict[str, int]:
    """Length in the genome of every chromosome with regions, which must lie within it."""
    known = lengths_by_chrom(ends, sizes)
    if absent := [chrom for chrom in ends if chrom not in known]:
        raise ValueError(
            f"regions must lie on chromosomes of the genome, which has no {listed(absent, 3)}; it has "
            f"{listed(sizes.index, 3)}. Are they named as in the genome?"
        )
    for chrom, end in ends.items():
        if end > known[chrom]:
            raise ValueError(
                f"regions must lie within the genome; one ends at {chrom}:{end:,}, {chrom} at {known[chrom]:,}. "
                "Are they of another assembly?"
            )
    return known


def _checked_lengths(
    file: str, lengths: Mapping[str, int], ends: Mapping[str, int], known: Mapping[str, int], is_partial: bool
) -> dict[str, int]:
    """Length in one file of every chromosome with regions."""
    matched = match_contigs(ends, lengths)
    found = {chrom: lengths[contig] for contig, chrom in matched.items()}
    if (absent := [chrom for chrom in ends if chrom not in found]) and not is_partial:
        raise ValueError(
            f"{file} has no {absent[0]}{and_more(len(absent))}, where there are regions; its header names "
            f"{listed(lengths)}. Count it over chromosomes that it has, or align it to the genome of the regions."
        )
    for contig, chrom in matched.items():
        length = lengths[contig]
        if known.get(chrom, length) != length:
            raise ValueError(
                f"{file} is of another assembly: its {contig} has {length:,} bp, that of the genome asked for "
                f"{known[chrom]:,} bp. {_guess(lengths)}"
            )
        if ends[chrom] > length:
            raise ValueError(
                f"{file} is of another assembly than the regions, or they run off the chromosome: {contig} has "
                f"{length:,} bp there, and a region ends at {ends[chrom]:,}. {_guess(lengths)}"
            )
    return found


def _guess(lengths: Mapping[str, int]) -> str:
    """What to do about a file of another assembly."""
    for genome in COMMON_GENOMES:
        known = chrom_sizes(genome)[main_chromosomes(genome)]
        matched = match_contigs(known.index, lengths)
        if matched and all(known[chrom] == lengths[contig] for contig, chrom in matched.items()):
            return f"Its header has the lengths of {genome}: give bins of {genome}, or another file."
    return "Give the genome that it was aligned to, or another file."
