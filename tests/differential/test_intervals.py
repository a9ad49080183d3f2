"""Merging regions: against a plain loop, and how often it is wrong where nothing changes."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from chipvi.differential import merge_regions
from chipvi.differential.discovery import adjusted


def make_table(n_regions: int, seed: int, share: float = 0.1) -> pd.DataFrame:
    """Regions of two chromosomes with gaps and an overlap; some stretches change."""
    random = np.random.default_rng(seed)
    start = np.cumsum(random.choice([200, 200, 200, 260, 190], n_regions))
    start[n_regions // 2 :] -= start[n_regions // 2]
    chrom = np.where(np.arange(n_regions) < n_regions // 2, "chr1", "chr2")
    changed = np.repeat(random.random(-(-n_regions // 6)) < share, 6)[:n_regions]
    p = np.where(changed, random.random(n_regions) ** 8, random.random(n_regions))
    lfc = np.where(changed, random.normal(2, 0.5, n_regions), random.normal(0, 0.5, n_regions))
    p[::17] = np.nan
    return pd.DataFrame(
        {"chrom": chrom, "start": start, "end": start + 200, "assay": "CTCF", "lfc_mean": lfc, "p_value": p}
    )


def merged_by_a_loop(table: pd.DataFrame, gap: int, target: float) -> list[tuple]:
    runs: list[list] = []
    for row in table[table["p_value"].notna()].itertuples():
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.chrom == row.chrom
            and 0 <= row.start - last.end <= gap
            and (last.lfc_mean > 0) == (row.lfc_mean > 0)
        ):
            runs[-1].append(row)
        else:
            runs.append([row])
    simes = []
    for run in runs:
        ordered = sorted(row.p_value for row in run)
        simes.append(min(p * len(run) / (i + 1) for i, p in enumerate(ordered)))
    rates = false_discovery_control(simes)
    found = []
    for run, p, rate in zip(runs, simes, rates, strict=True):
        if rate <= target:
            inside = [i for i, row in enumerate(run) if row.p_value <= target]
            kept = run[inside[0] : inside[-1] + 1]
            lfc = sum(row.lfc_mean for row in kept) / len(kept)
            found.append((kept[0].chrom, kept[0].start, kept[-1].end, len(kept), lfc, p, rate))
    return found


@pytest.mark.parametrize("gap", [0, 60])
def test_intervals_are_those_of_a_plain_loop(gap):
    table = make_table(900, seed=gap)
    expected = merged_by_a_loop(table, gap, 0.05)
    columns = ["chrom", "start", "end", "n_regions", "lfc_mean", "p_value", "fdr"]
    found = merge_regions(table, gap=gap)[columns].values.tolist()
    assert len(found) == len(expected) > 5 and any(row[3] > 2 for row in expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine[:4] == list(theirs[:4])
        np.testing.assert_allclose(mine[4:], theirs[4:], rtol=1e-9)


def test_where_nothing_changes_intervals_are_as_rare_as_promised():
    numbers = [len(merge_regions(make_table(600, seed, share=0.0), fdr_target=0.2)) for seed in range(100)]
    assert np.mean(np.array(numbers) > 0) < 0.3


def test_assays_are_merged_one_by_one():
    first, second = make_table(300, seed=1), make_table(300, seed=2).assign(assay="ATAC")
    both = merge_regions(pd.concat([first, second]))
    expected = pd.concat([merge_regions(first), merge_regions(second)], ignore_index=True)
    pd.testing.assert_frame_equal(both, expected)


def test_no_test_and_no_call_give_no_interval():
    table = make_table(60, seed=0).assign(p_value=1.0)
    assert merge_regions(table).empty and merge_regions(table.assign(p_value=np.nan)).empty


def test_a_table_without_coordinates_is_refused():
    with pytest.raises(ValueError, match="column 'chrom' is not in table.*regions with coordinates"):
        merge_regions(make_table(9, seed=0).drop(columns="chrom"))


def test_false_discovery_rates_are_those_of_the_definition():
    p_r = np.r_[np.random.default_rng(0).random(40) ** 2, np.nan]
    n = 40
    expected = [min(q * n / np.sum(p_r <= q) for q in p_r[:-1] if q >= p) for p in p_r[:-1]]
    np.testing.assert_allclose(adjusted(p_r)[:-1], np.minimum(expected, 1))
    assert np.isnan(adjusted(p_r)[-1]) and np.isnan(adjusted(np.full(3, np.nan))).all()
