"""Names of chromosomes: spelled with or without "chr" they are the same, everywhere in this room."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from os import PathLike

import numpy as np

from .._messages import and_more, listed

_log = logging.getLogger(__name__)


def bare_name(name: str) -> str:
    """Name without "chr", alike for every spelling of a chromosome.

    >>> [bare_name(name) for name in ("chr1", "Chr1", "1", "chrM", "MT", "GL000191.1")]
    ['1', '1', '1', 'MT', 'MT', 'GL000191.1']
    """
    bare = name[3:] if name[:3].lower() == "chr" else name
    return "MT" if bare == "M" else bare


def match_contigs(wanted: Iterable[str], found: Iterable[str]) -> dict[str, str]:
    """Which of the wanted chromosomes each found one is, with or without "chr"; the same name goes first.

    Examples
    --------
    >>> match_contigs(["chr1", "chr2", "chrM"], ["1", "chr2", "2", "MT", "GL000191.1"])
    {'1': 'chr1', 'chr2': 'chr2', 'MT': 'chrM'}
    """
    here = list(found)
    spellings, is_here, taken = _spellings(tuple(wanted)), set(here), set()
    matched = {}
    for name in here:
        same = spellings.get(bare_name(name), ())
        other = name if name in same else next((one for one in same if one not in is_here and one not in taken), None)
        if other is not None:
            matched[name] = other
            taken.add(other)
    return matched


# A file has the same contigs in every batch, or some of them, and a draft genome has hundreds of thousands.
@lru_cache(maxsize=8)
def _spellings(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Names by their bare name."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(bare_name(name), []).append(name)
    return spellings


@lru_cache(maxsize=8)
def _places(names: tuple[str, ...]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


@lru_cache(maxsize=8)
def contig_numbers(chroms: tuple[str, ...], contigs: tuple[str, ...]) -> np.ndarray:
    """Place in `chroms` of each contig, -1 where it is none of them: int64, not to be written to."""
    matched, place = match_contigs(chroms, contigs), _places(chroms)
    numbers = np.array([place[matched[name]] if name in matched else -1 for name in contigs], dtype=np.int64)
    numbers.setflags(write=False)
    return numbers


def choose_chromosomes(names: Sequence[str], chromosomes: str) -> list[str]:
    """Names that a selection asks for, in the order of `names`.

    Parameters
    ----------
    names
        Sequences of the genome.
    chromosomes
        Names, with or without "chr", or regular expressions that match a whole name, separated by commas.

    Raises
    ------
    ValueError
        If one of them matches nothing, so that a slip of the pen leaves no chromosome out in silence.

    Examples
    --------
    >>> choose_chromosomes(["chr1", "chr2", "chrX", "chrM", "chr1_random"], "X, chr[0-9]+")
    ['chr1', 'chr2', 'chrX']
    """
    known = set(names)
    spellings = _spellings(tuple(names))
    chosen: set[str] = set()
    for pattern in filter(None, (part.strip() for part in chromosomes.split(","))):
        same = [pattern] if pattern in known else spellings.get(bare_name(pattern), [])[:1]
        found = set(same) or _matched_by(pattern, names)
        if not found:
            raise ValueError(
                f"chromosomes: {pattern!r} matches no whole name of the genome, which has {listed(names)}. "
                "Give names or regular expressions by commas, such as chr1,chrX or chr[0-9]+."
            )
        chosen |= found
    if not chosen:
        raise ValueError("chromosomes must name at least one chromosome; it names none.")
    return [name for name in names if name in chosen]


def _matched_by(pattern: str, names: Sequence[str]) -> set[str]:
    """Names that a regular expression matches as they are, or else without "chr" or with it."""
    try:
        whole = re.compile(pattern).fullmatch
    except re.error as error:
        raise ValueError(
            f"chromosomes must be names or regular expressions; {pattern!r} is neither: {error}."
        ) from error
    found = {name for name in names if whole(name)}
    return found or {name for name in names if whole(bare_name(name)) or whole(f"chr{bare_name(name)}")}


def renamed_contigs(matched: Mapping[str, str]) -> dict[str, str]:
    """Those of the matched that have another name in the file."""
    return {name: wanted for name, wanted in matched.items() if name != wanted}


def log_renamed(file: str | PathLike, renamed: Mapping[str, str]) -> None:
    """Log that a file names chromosomes otherwise, if it does."""
    if renamed:
        contig, chrom = next(iter(renamed.items()))
        _log.warning(
            "%s calls chromosomes otherwise than the regions, such as %s for %s%s; they were taken to be the same.",
            file,
            contig,
            chrom,
            and_more(len(renamed)),
        )
