"""Regions that change alike, merged into intervals that are tested as such."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import _keys
from .._arguments import checked, require_real, require_whole
from .._messages import unknown
from .discovery import adjusted

LFC, P_VALUE, FDR = "lfc_mean", "p_value", "fdr"


@checked
def merge_regions(table: pd.DataFrame, gap: int = 0, fdr_target: float = 0.05) -> pd.DataFrame:
    """Merge neighbouring regions whose rate changes in the same direction, and test the intervals.

    Runs of neighbours of one assay are made by the sign of their fold change alone, whatever their p-values, and each
    has one p-value (Simes, Biometrika 73:751, 1986): that nothing in it changes. False discovery rates are over runs,
    so that of the intervals returned a share of `fdr_target` at most should be false. To merge regions that were called
    one by one would not do, for false ones stand alone and true ones are many in one interval (Lun & Smyth, Nucleic
    Acids Research 42:e95, 2014). An interval reaches from the first to the last region of the run whose own p-value is
    at most `fdr_target`.

    Parameters
    ----------
    table
        Of :meth:`chipvi.ChipVI.differential_signal`, regions with coordinates and in the order of the genome.
    gap
        Most bp between two neighbours.
    fdr_target
        Share of false intervals to allow, above 0 and below 1.

    Returns
    -------
    A row per interval: `chrom`, `start`, `end`, `assay`, `n_regions` within, `lfc_mean` (mean over its regions, log2),
    `p_value` and `fdr`.

    Raises
    ------
    ValueError
        For a table without a column that it needs, and sizes out of range.

    Examples
    --------
    >>> start = np.arange(5) * 200
    >>> regions = {"chrom": "chr1", "start": start, "end": start + 200, "assay": "H3K27ac"}
    >>> table = pd.DataFrame(regions | {"lfc_mean": [0.1, 2, 1.5, -0.1, 0.2], "p_value": [0.7, 1e-6, 1e-5, 0.8, 0.6]})
    >>> merge_regions(table)[["chrom", "start", "end", "n_regions", "lfc_mean"]].values.tolist()
    [['chr1', 200, 600, 2, 1.75]]
    """
    require_whole("gap", gap, least=0, unit="bp")
    require_real("fdr_target", fdr_target, least=0, below=1)
    columns = [_keys.CHROM, _keys.START, _keys.END, _keys.ASSAY, LFC, P_VALUE]
    for column in columns:
        if column not in table:
            raise ValueError(
                f"{unknown('column', column, list(table.columns), 'table')} Intervals need regions with coordinates."
            )
    parts = [_merge_assay(part, gap, fdr_target) for _, part in table.groupby(_keys.ASSAY, sort=False, observed=True)]
    return pd.concat(parts, ignore_index=True)


def _merge_assay(table: pd.DataFrame, gap: int, fdr_target: float) -> pd.DataFrame:
    table = table[table[P_VALUE].notna()]
    lfc_r, p_r = table[LFC].to_numpy(np.float64), table[P_VALUE].to_numpy(np.float64)
    start_r, end_r = table[_keys.START].to_numpy(), table[_keys.END].to_numpy()
    chrom_r = pd.factorize(table[_keys.CHROM])[0]
    distance_r = start_r[1:] - end_r[:-1]
    follows_r = (chrom_r[1:] == chrom_r[:-1]) & (distance_r >= 0) & (distance_r <= gap)
    follows_r &= (lfc_r[1:] > 0) == (lfc_r[:-1] > 0)
    run_r = np.cumsum(np.r_[True, ~follows_r][: len(table)]) - 1
    n_runs = int(run_r[-1]) + 1 if len(table) else 0
    first_m = np.searchsorted(run_r, np.arange(n_runs))
    size_m = np.bincount(run_r, minlength=n_runs)

    order = np.lexsort((p_r, run_r))
    rank_r = np.arange(len(table)) - np.repeat(first_m, size_m) + 1
    bound_r = p_r[order] * size_m[run_r] / rank_r
    p_m = np.minimum.reduceat(bound_r, first_m) if n_runs else np.zeros(0)
    fdr_m = adjusted(p_m)

    called_r = (fdr_m <= fdr_target)[run_r] & (p_r <= fdr_target)
    rows = np.flatnonzero(called_r)
    runs, inverse = np.unique(run_r[rows], return_inverse=True)
    low_m, high_m = np.full(len(runs), len(table)), np.zeros(len(runs), dtype=np.int64)
    np.minimum.at(low_m, inverse, rows)
    np.maximum.at(high_m, inverse, rows)
    total_r = np.r_[0, np.cumsum(lfc_r)]
    return pd.DataFrame(
        {
            _keys.CHROM: table[_keys.CHROM].to_numpy()[low_m],
            _keys.START: start_r[low_m],
            _keys.END: end_r[high_m],
            _keys.ASSAY: table[_keys.ASSAY].to_numpy()[low_m],
            "n_regions": high_m - low_m + 1,
            LFC: (total_r[high_m + 1] - total_r[low_m]) / (high_m - low_m + 1),
            P_VALUE: p_m[runs],
            FDR: fdr_m[runs],
        }
    )
