"""Chromosomes of a file against those of the regions: names and lengths."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike

import pandas as pd

from .. import _keys
from .._messages import and_more, listed
from .genomes import GENOMES, chrom_sizes

_log = logging.getLogger(__name__)


def match_contigs(wanted: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """Which of the wanted chromosomes each found one is, with or without "chr"; the same name goes first.

    Examples
    --------
    >>> match_contigs(["chr1", "chr2", "chrM"], ["1", "chr2", "2", "MT", "GL000191.1"])
    {'1': 'chr1', 'chr2': 'chr2', 'MT': 'chrM'}
    """
    names, here = set(wanted), list(found)
    exact = names.intersection(here)
    matched = {}
    for name in here:
        if name in exact:
            matched[name] = name
        elif (other := _other_name(name)) in names and other not in exact:
            matched[name] = other
    return matched


def _other_name(name: str) -> str:
    if name in ("MT", "chrM"):
        return "chrM" if name == "MT" else "MT"
    return name.removeprefix("chr") if name.startswith("chr") else f"chr{name}"


def renamed_contigs(matched: Mapping[str, str]) -> dict[str, str]:
    """Those of the matched that are called otherwise in the file."""
    return {name: wanted for name, wanted in matched.items() if name != wanted}


def log_renamed(file: str | PathLike, renamed: Mapping[str, str]) -> None:
    """Say that a file calls chromosomes otherwise, if it does."""
    if renamed:
        contig, chrom = next(iter(renamed.items()))
        _log.warning(
            "%s calls chromosomes otherwise than the regions, such as %s for %s%s; they were taken to be the same.",
            file,
            contig,
            chrom,
            and_more(len(renamed)),
        )


def check_contigs(
    file: str, lengths: Mapping[str, int], regions: pd.DataFrame, sizes: pd.Series | None
) -> dict[str, str]:
    """Refuse a file whose header is not of the regions' genome.

    Parameters
    ----------
    file
        Name for the message.
    lengths
        Of the header, in bp.
    regions
        With `chrom`, `start` and `end`.
    sizes
        Length of every chromosome of the genome, where it is known; without it no region may end beyond its contig.

    Returns
    -------
    Which chromosome of the regions each contig is.

    Raises
    ------
    ValueError
        If a chromosome of the regions is not in the header, or has another length there.
    """
    ends = regions.groupby(regions[_keys.CHROM].astype("category"), observed=True, sort=False)[_keys.END].max()
    matched = match_contigs(ends.index, lengths)
    if absent := [chrom for chrom in ends.index if chrom not in matched.values()]:
        raise ValueError(_absent(file, absent, list(lengths)))
    for contig, chrom in matched.items():
        if sizes is not None and sizes.get(chrom, lengths[contig]) != lengths[contig]:
            raise ValueError(
                f"{file} is of another assembly: its {contig} has {lengths[contig]:,} bp, that of the genome asked for "
                f"{sizes[chrom]:,} bp. {_guess(lengths)}"
            )
        if ends[chrom] > lengths[contig]:
            raise ValueError(
                f"{file} is of another assembly than the regions, or they run off the chromosome: {contig} has "
                f"{lengths[contig]:,} bp there, and a region ends at {ends[chrom]:,}. {_guess(lengths)}"
            )
    return matched


def _absent(file: str, absent: list[str], contigs: list[str]) -> str:
    return (
        f"{file} has no {absent[0]}{and_more(len(absent))}, where there are regions; its header names "
        f"{listed(contigs)}. Count it over chromosomes that it has, or align it to the genome of the regions."
    )


def _guess(lengths: Mapping[str, int]) -> str:
    for genome in GENOMES:
        known = chrom_sizes(genome)
        matched = match_contigs(known.index, lengths)
        if matched and all(known[chrom] == lengths[contig] for contig, chrom in matched.items() if chrom != "chrM"):
            return f"Its header has the lengths of {genome}: give bins of {genome}, or another file."
    return "Give the genome that it was aligned to, or another file."


def check_same_assembly(lengths_by_file: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse files whose headers give one chromosome two lengths.

    Raises
    ------
    ValueError
        Which names both files.
    """
    seen: dict[str, tuple[str, int]] = {}
    for file, lengths in lengths_by_file.items():
        for contig, length in lengths.items():
            first, expected = seen.setdefault(contig, (file, length))
            if length != expected:
                raise ValueError(
                    f"files must be of one assembly; {contig} has {expected:,} bp in {first} and {length:,} bp in "
                    f"{file}. Align them to one genome."
                )
