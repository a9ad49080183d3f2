"""How far a region looks: lengths in base pairs where bins are narrow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import chipvi
from chipvi.data.check import SetupKeys, check_anndata
from chipvi.data.context import choose_half_widths, count_at_window_bin, describe_context
from chipvi.data.loader import BLOCK, RegionLoader
from chipvi.data.segments import find_segments


@pytest.mark.parametrize("bin_width", [25, 40, 50, 100, 200])
def test_windows_of_narrow_bins_span_what_200_bp_bins_span(bin_width):
    spans = {2 * half_width + bin_width for half_width in choose_half_widths(bin_width)}
    for wanted in (200, 600, 1_400, 4_200, 12_200):
        assert min(abs(span - wanted) for span in spans) <= 200


def test_narrow_bins_look_at_their_nearest_neighbours_too():
    assert choose_half_widths(25)[:3] == (0, 25, 75)


@pytest.mark.parametrize("width", [200, 689, 5_000])
def test_windows_grow_with_the_width_of_wide_regions(width):
    assert choose_half_widths(width) == (0, width, 3 * width, 10 * width, 30 * width)


def test_without_coordinates_windows_are_so_many_rows():
    assert choose_half_widths(None) == (0, 1, 3, 10, 30)
    assert describe_context(choose_half_widths(None), None) == "30 regions to either side"
    assert describe_context(choose_half_widths(689), 689) == "20.67 kb to either side"


def bins(width, n=12):
    start = width * np.arange(n)
    return pd.DataFrame({"chrom": "chr1", "start": start, "end": start + width})


def test_the_width_of_bins_is_that_of_nearly_all():
    obs = bins(50)
    assert find_segments(obs).bin_width == 50
    obs.loc[11, "end"] -= 13  # the end of a chromosome
    assert find_segments(obs).bin_width == 50
    obs.loc[[2, 5], "end"] -= 7
    assert find_segments(obs).bin_width is None
    assert find_segments(bins(50).assign(gene="a"), "gene").bin_width is None


def test_as_many_bins_of_200_bp_are_what_little_data_means():
    assert [count_at_window_bin(8_000, width) for width in (25, 100, 200, 1_000, None)] == [
        1_000,
        4_000,
        8_000,
        8_000,
        8_000,
    ]


def test_blocks_of_narrow_bins_span_as_many_base_pairs_and_a_pass_covers_all():
    adata = chipvi.datasets.simulate(n_regions=1_100, n_biosamples=2, n_assays=2, bin_size=50, n_chromosomes=1)
    adata.X[:, 0] = np.arange(1_100)
    data = check_anndata(adata, SetupKeys(observed_layer="observed"))
    loader = RegionLoader(data, np.arange(1_100), (0, 100), BLOCK, 200, np.random.default_rng(2))
    minibatches = [m.counts.value_lt[m.own_row_r, 0].int().numpy() for m in loader]
    full = [rows for rows in minibatches if len(rows) == BLOCK]
    assert len(full) > 100 and all((np.diff(rows) == 4).all() for rows in full)
    number = np.bincount(np.concatenate(minibatches), minlength=1_100)
    assert number.min() >= 1 and number.max() - number.min() <= 2


def test_a_model_refuses_bins_of_another_width(kit):
    model = kit.train(kit.model(kit.data(bin_size=100)), max_steps=2)
    assert model.module.half_widths == (0, 100, 200, 300, 600, 2_000, 6_000)
    assert model.context == "6 kb to either side" and "context: 6 kb to either side" in model._model_summary_string
    with pytest.raises(ValueError, match="set up with, 100 bp; those of adata are 200 bp"):
        model.get_imputed_counts(kit.data(bin_size=200))
    assert model.get_imputed_counts(kit.data(bin_size=100), indices=[0, 5]).shape[0] == 2
