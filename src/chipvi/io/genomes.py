"""Genomes by name or by file: chromosome sizes, bins, and blacklists."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import _keys
from .._arguments import checked, require_whole
from .._messages import and_more, listed
from .contigs import choose_chromosomes
from .inputs import read_bed
from .places import PLACE, check_places
from .text import as_whole, read_rows

# Those that a file of another assembly is compared with.
COMMON_GENOMES = ("hg38", "hg19", "hs1", "mm10", "mm39", "mm9")
_BLACKLISTS = "https://github.com/Boyle-Lab/Blacklist/tree/master/lists"
_WITH_BLACKLIST = ("ce10", "ce11", "dm3", "dm6", "hg19", "hg38", "mm10")
_SEQUENCES = ".seqinfo.tsv"


def genome_names() -> tuple[str, ...]:
    """Genomes that are known by UCSC's name without a network: those whose sequences ship with bioframe.

    >>> {"dm6", "hg38", "mm10", "sacCer3"} <= set(genome_names())
    True
    """
    return tuple(sorted(_shipped()))


def is_genome_name(genome: object) -> bool:
    """Whether it is one of :func:`genome_names`, rather than a file or lengths."""
    return isinstance(genome, str) and genome in _shipped()


def assembly_of(uns: Mapping[str, Any]) -> str | None:
    """UCSC's name of the assembly that data or a result of a model name in `uns`, if it is one of :func:`genome_names`.

    >>> assembly_of({"assembly": "hg19"}), assembly_of({"chipvi": {"assembly": "mm10"}}), assembly_of({})
    ('hg19', 'mm10', None)
    """
    provenance = uns.get(_keys.PROVENANCE)
    named = provenance.get(_keys.ASSEMBLY) if isinstance(provenance, Mapping) else None
    name = uns.get(_keys.ASSEMBLY, named)
    return name if is_genome_name(name) else None


def main_chromosomes(name: str) -> list[str]:
    """Autosomes and sex chromosomes of a named genome: no chrM, no unplaced, alternative or decoy sequence."""
    sequences = _sequences(name)
    return sequences.index[(sequences["role"] == "assembled") & (sequences["unit"] == "primary")].tolist()


@checked
def chrom_sizes(genome: str | Path | pd.Series) -> pd.Series:
    """Length of every sequence of a genome.

    Parameters
    ----------
    genome
        UCSC's name of a genome that bioframe ships, such as ``"hg38"``, ``"hs1"``, ``"mm10"``, ``"dm6"`` or
        ``"sacCer3"``, which needs no network; or a file whose first two columns are name and length, such as
        ``chrom.sizes`` or the ``.fai`` of a FASTA file; or lengths with names as index.

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
    if is_genome_name(genome):
        return _sequences(str(genome))["length"].copy()
    path = Path(genome)
    if not path.is_file():
        raise ValueError(
            f"genome must be {', '.join(genome_names())} or a file of chromosome sizes; {str(genome)!r} is neither. "
            "`samtools faidx genome.fa` makes such a file, genome.fa.fai."
        )
    return _checked(_read_sizes(path), path.name)


@checked
def make_bins(genome: str | Path | pd.Series, bin_size: int, chromosomes: str | None = None) -> pd.DataFrame:
    """Cut a genome into bins of one width.

    Parameters
    ----------
    genome
        As in :func:`chrom_sizes`.
    bin_size
        Width in bp. Only whole bins are made: what is left at the end of a chromosome is dropped.
    chromosomes
        Names, with or without "chr", or regular expressions that match a whole name, separated by commas. By default
        the autosomes and sex chromosomes of a named genome, and all sequences of a file.

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
    require_whole("bin_size", bin_size, least=1, unit="bp")
    sizes = chrom_sizes(genome)
    if chromosomes is not None:
        names = choose_chromosomes(list(sizes.index), chromosomes)
    else:
        names = main_chromosomes(str(genome)) if is_genome_name(genome) else list(sizes.index)
    number = sizes[names].to_numpy() // bin_size
    if not number.any():
        raise ValueError(f"bin_size must fit into a chromosome; {bin_size} bp is longer than each of {listed(names)}.")
    first = np.repeat(np.cumsum(number) - number, number)
    start = (np.arange(number.sum(), dtype=np.int64) - first) * bin_size
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
        If the width is no whole number of bp, or no bin fits into any region.

    Examples
    --------
    >>> cut_regions(pd.DataFrame({"chrom": ["chr1"], "start": [30], "end": [110]}), bin_size=25)["start"].tolist()
    [30, 55, 80]
    """
    require_whole("bin_size", bin_size, least=1, unit="bp")
    starts, ends = (regions[key].to_numpy(np.int64) for key in (_keys.START, _keys.END))
    number = np.maximum(ends - starts, 0) // bin_size
    if not number.any():
        raise ValueError(
            f"bin_size must fit into a region; {bin_size} bp is longer than each of {len(regions)} regions."
        )
    within = np.arange(number.sum(), dtype=np.int64) - np.repeat(np.cumsum(number) - number, number)
    start = np.repeat(starts, number) + within * bin_size
    chrom = regions[_keys.CHROM].repeat(number).to_numpy()
    return pd.DataFrame({_keys.CHROM: chrom, _keys.START: start, _keys.END: start + bin_size})


@checked
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
    if is_genome_name(str(path)):
        where = f"Get {path}-blacklist.v2.bed.gz from {_BLACKLISTS}" if str(path) in _WITH_BLACKLIST else "Make one"
        raise ValueError(f"blacklist must be a BED file; {str(path)!r} is a genome. {where} and give its path.")
    path = Path(path)
    return check_places(read_bed(path)[PLACE], f"intervals of the blacklist {path.name}")


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Path]:
    """File of the sequences of each genome that ships with bioframe, which takes a second to import and is not."""
    package = find_spec("bioframe")
    folders = [Path(folder, "io", "data") for folder in (package and package.submodule_search_locations) or ()]
    return {file.name.removesuffix(_SEQUENCES): file for folder in folders for file in folder.glob(f"*{_SEQUENCES}")}


@lru_cache(maxsize=4)
def _sequences(name: str) -> pd.DataFrame:
    """Length, role and unit of every sequence of a named genome; not to be written to."""
    # bioframe's own assembly_info (0.7, 0.8) fails for all sequences of mm9, and gives danRer10 for danRer11
    table = pd.read_csv(_shipped()[name], sep="\t", index_col="name", usecols=["name", "length", "role", "unit"])
    return table.astype({"length": np.int64})


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
