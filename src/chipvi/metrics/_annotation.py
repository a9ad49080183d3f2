"""Which regions an annotation covers, by the rules of the ENCODE Imputation Challenge."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._arguments import checked

_PLACE = ("chrom", "start", "end")
_UPSTREAM = 2_000  # bp of a promoter: 80 bins of 25 bp


@checked
def count_intervals(regions: pd.DataFrame, intervals: pd.DataFrame) -> np.ndarray:
    """In how many intervals, such as genes or enhancers, each region is.

    The rule of the challenge's scorer for bins, in base pairs: a region counts if it overlaps the interval, and also
    if it begins where the interval ends.

    Parameters
    ----------
    regions
        With `chrom`, `start` and `end`, 0-based and half-open, in any order.
    intervals
        With the same columns, as in a BED file.

    Returns
    -------
    int64, one per region.

    Examples
    --------
    >>> regions = pd.DataFrame({"chrom": "chr1", "start": [0, 25, 50, 75], "end": [25, 50, 75, 100]})
    >>> count_intervals(regions, pd.DataFrame({"chrom": ["chr1"], "start": [30], "end": [50]}))
    array([0, 1, 1, 0])
    """
    _require_columns("regions", regions, _PLACE)
    _require_columns("intervals", intervals, _PLACE)
    # an interval that ends before a region also starts before its end, so the one count may be taken from the other
    start_below = _count_below(regions["end"], regions["chrom"], intervals["start"], intervals["chrom"])
    return start_below - _count_below(regions["start"], regions["chrom"], intervals["end"], intervals["chrom"])


@checked
def count_promoters(regions: pd.DataFrame, genes: pd.DataFrame) -> np.ndarray:
    """In how many promoters each region is: the 2,000 bp upstream of genes.

    The rule of the challenge's scorer for bins, in base pairs. On the plus strand a region counts if it ends at the
    start of the gene or before, and after 2,000 bp less; a gene that starts in the first 2,000 bp has no promoter. On
    any other strand it counts if it begins after the end of the gene, and at most 2,000 bp after. So the region with
    the start of transcription does not count.

    Parameters
    ----------
    regions
        With `chrom`, `start` and `end`, 0-based and half-open, in any order.
    genes
        With the same columns and `strand`.

    Returns
    -------
    int64, one per region.
    """
    _require_columns("regions", regions, _PLACE)
    _require_columns("genes", genes, (*_PLACE, "strand"))
    plus = (genes["strand"] == "+").to_numpy()
    forward, backward = genes[plus & (genes["start"] >= _UPSTREAM).to_numpy()], genes[~plus]
    chrom, ends, starts = regions["chrom"], regions["end"], regions["start"]
    return (
        _count_below(ends + _UPSTREAM, chrom, forward["start"], forward["chrom"])
        - _count_below(ends, chrom, forward["start"], forward["chrom"])
        + _count_below(starts, chrom, backward["end"], backward["chrom"])
        - _count_below(starts - _UPSTREAM, chrom, backward["end"], backward["chrom"])
    )


def _require_columns(name: str, table: pd.DataFrame, wanted: tuple[str, ...]) -> None:
    absent = [column for column in wanted if column not in table]
    if absent:
        raise ValueError(f"{name} must have the columns {', '.join(wanted)}; it has no {', '.join(absent)}.")


def _count_below(limits: pd.Series, limit_chroms: pd.Series, positions: pd.Series, chroms: pd.Series) -> np.ndarray:
    """For each limit, number of positions on its chromosome that are lower."""
    number = np.zeros(len(limits), dtype=np.int64)
    here, there = limit_chroms.astype(str).to_numpy(), chroms.astype(str).to_numpy()
    for chrom in np.unique(here):
        rows = here == chrom
        sorted_positions = np.sort(positions.to_numpy()[there == chrom])
        number[rows] = np.searchsorted(sorted_positions, limits.to_numpy()[rows], side="left")
    return number
