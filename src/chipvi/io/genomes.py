"""Genomes by name or by file: chromosome sizes, bins, and blacklists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import _keys
from .._messages import and_more, listed
from .inputs import read_bed
from .places import PLACE, check_places
from .text import as_whole, read_rows

# Their sizes ship with bioframe, so no network is needed.
GENOMES = ("hg19", "hg38", "mm10", "mm39")
# Autosomes and sex chromosomes: no chrM, no unplaced, alternative or decoy sequence.
MAIN_CHROMOSOMES = "chr[0-9]+|chr[XY]"
_BLACKLISTS = "https://github.com/Boyle-Lab/Blacklist/tree/master/lists"
_WITH_BLACKLIST = ("hg19", "hg38", "mm10")


def chrom_sizes(genome: str | Path | pd.Series) -> pd.Series:
    """Length of every sequence of a genome.

    Parameters
    ----------
    genome
        ``"hg19"``, ``"hg38"``, ``"mm10"`` or ``"mm39"``, whose sizes need no network; or a file whose first two columns
        are name and length, such as ``chrom.sizes`` or the ``.fai`` of a FASTA file; or lengths with names as index.

    Returns
    -------
    Lengths in bp, int64, by name, in the order of the genome. A named genome has all its sequences, also chrM and the
    unplaced ones.

    Raises
    ------
    ValueError
        If the genome is not known, or a file holds anything but names and lengths; the message names the line.

    Examples
    --------
    >>> chrom_sizes("hg38")["chr21"]
    np.int64(46709983)
    """
    if isinstance(genome, pd.Series):
        return _checked(genome, "the genome")
    if isinstance(genome, str) and genome in GENOMES:
        return _shipped(genome)
    path = Path(genome)
    if not path.is_file():
        raise ValueError(
            f"genome must be {', '.join(GENOMES)} or a file of chromosome sizes; {str(genome)!r} is neither. "
            "`samtools faidx genome.fa` makes such a file, genome.fa.fai."
        )
    return _checked(_read_sizes(path), path.name)


def choose_chromosomes(names: Sequence[str], chromosomes: str) -> list[str]:
    """Names that a selection asks for, in the order of `names`.

    Parameters
    ----------
    names
        Sequences of the genome.
    chromosomes
        Names or regular expressions that match a whole name, separated by commas.

    Raises
    ------
    ValueError
        If one of them matches nothing, so that a slip of the pen leaves no chromosome out in silence.

    Examples
    --------
    >>> choose_chromosomes(["chr1", "chr2", "chrX", "chrM", "chr1_random"], "chrX, chr[0-9]+")
    ['chr1', 'chr2', 'chrX']
    """
    chosen: set[str] = set()
    for pattern in filter(None, (part.strip() for part in chromosomes.split(","))):
        try:
            found = {name for name in names if name == pattern or re.fullmatch(pattern, name)}
        except re.error as error:
            raise ValueError(
                f"chromosomes must be names or regular expressions; {pattern!r} is none: {error}."
            ) from error
        if not found:
            raise ValueError(
                f"chromosomes: {pattern!r} matches no whole name of the genome, which has {listed(names)}. "
                "Give names or regular expressions by commas, such as chr1,chrX or chr[0-9]+."
            )
        chosen |= found
    if not chosen:
        raise ValueError("chromosomes must name at least one chromosome; it names none.")
    return [name for name in names if name in chosen]


def make_bins(genome: str | Path | pd.Series, bin_size: int, chromosomes: str | None = None) -> pd.DataFrame:
    """Cut a genome into bins of one width.

    Parameters
    ----------
    genome
        As in :func:`chrom_sizes`.
    bin_size
        Width in bp. Only whole bins are made: what is left at the end of a chromosome is dropped.
    chromosomes
        Names or regular expressions that match a whole name, separated by commas. By default the autosomes and sex
        chromosomes of a named genome, and all sequences of a file.

    Returns
    -------
    `chrom` (categorical), `start` and `end` (int64, 0-based, half-open), in the order of the genome, with the row's
    number as index.

    Raises
    ------
    ValueError
        If the genome is not known, a chromosome is not in it, or no bin fits.

    Examples
    --------
    >>> make_bins(pd.Series({"chr1": 110, "chr2": 60}), bin_size=50)
      chrom  start  end
    0  chr1      0   50
    1  chr1     50  100
    2  chr2      0   50
    """
    if bin_size < 1:
        raise ValueError(f"bin_size must be at least 1 bp; it is {bin_size}.")
    sizes = chrom_sizes(genome)
    if chromosomes is None and isinstance(genome, str) and genome in GENOMES:
        chromosomes = MAIN_CHROMOSOMES
    names = list(sizes.index) if chromosomes is None else choose_chromosomes(list(sizes.index), chromosomes)
    number = sizes[names].to_numpy() // bin_size
    if not number.any():
        raise ValueError(f"bin_size must fit into a chromosome; {bin_size} bp is longer than each of {listed(names)}.")
    first = np.repeat(np.cumsum(number) - number, number)
    start = (np.arange(number.sum()) - first) * bin_size
    chrom = pd.Categorical.from_codes(np.repeat(np.arange(len(names)), number), categories=names)
    return pd.DataFrame({_keys.CHROM: chrom, _keys.START: start, _keys.END: start + bin_size})


def cut_regions(regions: pd.DataFrame, bin_size: int) -> pd.DataFrame:
    """Cut regions into bins of one width, from the start of each; what is left at the end of a region is dropped.

    Parameters
    ----------
    regions
        With `chrom`, `start` and `end`.
    bin_size
        Width in bp.

    Returns
    -------
    Bins in the order of the regions, with the row's number as index.

    Raises
    ------
    ValueError
        If no bin fits into any region.

    Examples
    --------
    >>> cut_regions(pd.DataFrame({"chrom": ["chr1"], "start": [30], "end": [110]}), bin_size=25)["start"].tolist()
    [30, 55, 80]
    """
    length = (regions[_keys.END] - regions[_keys.START]).to_numpy()
    number = np.maximum(length, 0) // bin_size
    if not number.any():
        raise ValueError(
            f"bin_size must fit into a region; {bin_size} bp is longer than each of {len(regions)} regions."
        )
    within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    start = np.repeat(regions[_keys.START].to_numpy(), number) + within * bin_size
    chrom = regions[_keys.CHROM].repeat(number).to_numpy()
    return pd.DataFrame({_keys.CHROM: chrom, _keys.START: start, _keys.END: start + bin_size})


def read_blacklist(path: str | Path) -> pd.DataFrame:
    """Read the intervals of a blacklist: places where reads pile up whatever the experiment.

    Parameters
    ----------
    path
        A BED file, plain or compressed with gzip. Lists are not shipped or downloaded; the usual ones are those of the
        Boyle lab [1]_.

    Returns
    -------
    `chrom`, `start` and `end` (0-based, half-open), as in the file.

    Raises
    ------
    ValueError
        If there is no such file, it holds no interval, or an interval ends before it starts. For the name of a genome,
        the message names where to get its list.

    References
    ----------
    .. [1] Amemiya, Kundaje, Boyle 2019. The ENCODE Blacklist. Scientific Reports 9:9354.
    """
    if str(path) in GENOMES:
        where = f"Get {path}-blacklist.v2.bed.gz from {_BLACKLISTS}" if str(path) in _WITH_BLACKLIST else "Make one"
        raise ValueError(f"blacklist must be a BED file; {str(path)!r} is a genome. {where} and give its path.")
    path = Path(path)
    return check_places(read_bed(path)[PLACE], f"intervals of the blacklist {path.name}")


def _shipped(name: str) -> pd.Series:
    import bioframe  # takes a second to import, which only a named genome needs

    return bioframe.assembly_info(name, roles="all", units="all").chromsizes.astype(np.int64).rename("length")


def _read_sizes(path: Path) -> pd.Series:
    sizes: dict[str, int] = {}
    for number, cells in read_rows(path, "chromosome sizes"):
        name, length = cells[0].strip(), as_whole(cells[1]) if len(cells) > 1 else None
        if length is None or not name:
            raise ValueError(
                f"line {number} of {path.name} must begin with a name and a length in bp; it is "
                f"{' '.join(cells)[:60]!r}."
            )
        if name in sizes:
            raise ValueError(f"line {number} of {path.name} names {name} again; each sequence may stand once.")
        sizes[name] = length
    return pd.Series(sizes, dtype=np.int64)


def _checked(sizes: pd.Series, where: str) -> pd.Series:
    if sizes.empty:
        raise ValueError(f"{where} must hold a sequence and its length a line; it holds none.")
    if sizes.index.has_duplicates:
        raise ValueError(
            f"{where} must name each sequence once; {sizes.index[sizes.index.duplicated()][0]} is there twice."
        )
    lengths = pd.to_numeric(sizes, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~(lengths >= 1) | (lengths != np.floor(lengths)))
    if len(wrong):
        name = sizes.index[wrong[0]]
        raise ValueError(
            f"{where} must give lengths of whole bp above 0; {name} has {sizes.iloc[wrong[0]]}{and_more(len(wrong))}."
        )
    index = pd.Index([str(name) for name in sizes.index], name="name")
    return pd.Series(lengths.astype(np.int64), index=index, name="length")
