"""What regions are like apart from any experiment: their bases, and how well reads can be placed there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pysam

from ... import _keys
from ..._arguments import checked
from ..._messages import counted
from ..._workers import progress_bar
from ..assembly import require_one_assembly
from ..bigwigs.read import read_columns
from ..contigs import log_renamed, match_contigs, renamed_contigs
from ..places import check_regions
from ..reading import Reading

GC, CPG, N, MAPPABILITY = "gc", "cpg_ratio", "n_share", "mappability"
_log = logging.getLogger(__name__)
_MOST_BASES = 2**24  # held at a time, but at least one region
_CODES = np.full(256, 4, dtype=np.uint8)  # A, C, G, T as 0 to 3, all else as 4
for _code, _bases in enumerate(("Aa", "Cc", "Gg", "Tt")):
    _CODES[list(_bases.encode())] = _code


@checked
def region_covariates(
    regions: pd.DataFrame,
    *,
    fasta: str | Path | None = None,
    mappability: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Describe regions by their bases and by how well reads can be placed there, as covariates of a model.

    Parameters
    ----------
    regions
        With `chrom`, `start` and `end` (0-based, half-open), in any order.
    fasta
        Sequence of the genome: FASTA, plain or compressed with bgzip. Without an index (.fai) beside it, one is made
        there. Upper and lower case are alike.
    mappability
        bigWig of the mappability, 0 to 1 by base, such as Umap's [1]_. What it does not cover counts as 0.
    progress
        Whether to show a bar.

    Returns
    -------
    One row per region, with its index, float64:

    - ``gc``: share of G and C among its A, C, G and T, 0 to 1;
    - ``cpg_ratio``: number of CG times number of bases, divided by number of C times number of G [2]_, 0 without any
      CG; a pair counts where both of its bases lie in the region;
    - ``n_share``: share of its bases that are none of A, C, G and T, 0 to 1;
    - ``mappability``: mean over its bases.

    Where no base is known (``n_share`` 1), ``gc`` and ``cpg_ratio`` are the means over all other regions, since a model
    needs a number for every region.

    Raises
    ------
    ValueError
        If neither file is given, one cannot be read or is of another assembly than the regions, or no base is known.
    FileNotFoundError
        If there is no such file.

    References
    ----------
    .. [1] Karimzadeh et al. 2018. Umap and Bismap: quantifying genome and methylome mappability. Nucleic Acids Research
       46:e120.
    .. [2] Gardiner-Garden, Frommer 1987. CpG islands in vertebrate genomes. Journal of Molecular Biology 196:261.

    Examples
    --------
    >>> adata.obs = adata.obs.join(region_covariates(adata.obs, fasta="hg38.fa"))  # doctest: +SKIP
    """
    if fasta is None and mappability is None:
        raise ValueError("give fasta, mappability or both; neither is given.")
    places = check_regions(regions)
    require_files_of(places, fasta, mappability)
    found = pd.DataFrame(index=regions.index)
    if fasta is not None:
        found[[GC, CPG, N]] = _composition(Path(fasta), places, progress)
    if mappability is not None:
        reading = Reading(progress=progress)
        column = read_columns({MAPPABILITY: mappability}, places, "zero", False, None, reading)
        assert column is not None  # it is no shard
        found[MAPPABILITY] = column.X[:, 0].astype(np.float64)
    return found


def require_files_of(regions: pd.DataFrame, fasta: str | Path | None, mappability: str | Path | None) -> None:
    """Refuse files that are missing, or a sequence of another assembly than the regions, before anything is read.

    Raises
    ------
    ValueError, FileNotFoundError
        As :func:`region_covariates`.
    """
    for file in (fasta, mappability):
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f"there is no file {file}.")
    if fasta is not None:
        with _opened(Path(fasta)) as genome:
            lengths = dict(zip(genome.references, genome.lengths, strict=True))
        require_one_assembly({str(fasta): lengths}, regions, None)


def _composition(path: Path, regions: pd.DataFrame, progress: bool) -> np.ndarray:
    """GC, CpG ratio and share of other bases of each region (regions, 3)."""
    chrom_r = regions[_keys.CHROM].astype(str).to_numpy(dtype=object)
    start_r, end_r = (regions[key].to_numpy(np.int64) for key in (_keys.START, _keys.END))
    bases_r5, cpg_r = np.zeros((len(regions), 5), dtype=np.int64), np.zeros(len(regions), dtype=np.int64)
    with (
        _opened(path) as genome,
        progress_bar("Reading the sequence", len(regions), "regions", shown=progress) as advance,
    ):
        matched = match_contigs(pd.unique(chrom_r), genome.references)
        log_renamed(path, renamed_contigs(matched))
        contigs = {chrom: contig for contig, chrom in matched.items()}
        for rows in _stretches(chrom_r, start_r, end_r):
            first = int(start_r[rows].min())
            sequence = genome.fetch(contigs[chrom_r[rows[0]]], first, int(end_r[rows].max()))
            code_b = _CODES[np.frombuffer(sequence.encode(), dtype=np.uint8)]
            start, end = start_r[rows] - first, end_r[rows] - first
            for code in range(5):
                bases_r5[rows, code] = _number_within(code_b == code, start, end)
            is_pair_b = (code_b[:-1] == 1) & (code_b[1:] == 2)
            cpg_r[rows] = _number_within(is_pair_b, start, end - 1)
            advance(len(rows))
    n_known_r = bases_r5[:, :4].sum(axis=1)
    if not n_known_r.any():
        raise ValueError(f"{path} must hold A, C, G or T in some region; in all {len(regions):,} it holds none.")
    n_c_r, n_g_r = bases_r5[:, 1], bases_r5[:, 2]
    gc_r = np.divide(n_c_r + n_g_r, n_known_r, where=n_known_r > 0, out=np.full(len(regions), np.nan))
    both_r = n_c_r * n_g_r
    cpg_ratio_r = np.divide(cpg_r * n_known_r, both_r, where=both_r > 0, out=np.zeros(len(regions)))
    is_unknown_r = n_known_r == 0
    if is_unknown_r.any():
        unknown = counted(int(is_unknown_r.sum()), "region")
        _log.info("%s has no base of %s; gc and cpg_ratio are the means of the others there.", path, unknown)
        gc_r[is_unknown_r] = gc_r[~is_unknown_r].mean()
        cpg_ratio_r[is_unknown_r] = cpg_ratio_r[~is_unknown_r].mean()
    return np.column_stack([gc_r, cpg_ratio_r, bases_r5[:, 4] / (end_r - start_r)])


def _stretches(chrom_r: np.ndarray, start_r: np.ndarray, end_r: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of regions of one chromosome that lie within so many bases that these can be held."""
    for chrom in pd.unique(chrom_r):
        rows = np.flatnonzero(chrom_r == chrom)
        rows = rows[np.argsort(start_r[rows], kind="stable")]
        while len(rows):
            furthest = np.maximum.accumulate(end_r[rows]) - start_r[rows[0]]
            stop = max(1, int(np.searchsorted(furthest, _MOST_BASES, side="right")))
            yield rows[:stop]
            rows = rows[stop:]


def _number_within(is_there_b: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """How many of the bases from start to before end are marked."""
    up_to = np.concatenate([[0], np.cumsum(is_there_b, dtype=np.int64)])
    return up_to[end] - up_to[start]


@contextmanager
def _opened(path: Path) -> Iterator[pysam.FastaFile]:
    """Open a FASTA file; an error is one sentence."""
    try:
        with pysam.FastaFile(str(path)) as genome:
            yield genome
    except OSError as error:
        raise ValueError(
            f"{path} must be a FASTA file, plain or compressed with bgzip, with its index (.fai) beside it or in a "
            "folder where one can be written; it cannot be read."
        ) from error
