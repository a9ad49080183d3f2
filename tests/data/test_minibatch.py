"""Minibatches hold the regions asked for and their surroundings, and window means are means of what is there."""

from __future__ import annotations

import numpy as np
import pytest

from chipvi.data.check import SetupKeys, check_anndata
from chipvi.data.loader import FixedMinibatches, RegionLoader
from chipvi.data.minibatch import take_regions
from chipvi.data.track_data import ViewKind
from chipvi.nn import window_means

HALF_WIDTHS = (0, 400, 1_000)  # bp: 2 and 5 bins of 200 bp
N_BINS = (0, 2, 5)


@pytest.fixture(scope="module")
def holey(kit):
    """Data with missing entries, in segments of 70 regions."""
    adata, random = kit.data(), np.random.default_rng(4)
    adata.layers["observed"][random.random(adata.shape) < 0.4] = 0
    adata.layers["observed"][75:100, 2] = 0
    adata.layers["signal"][random.random(adata.shape) < 0.3] = np.nan
    return adata


@pytest.fixture(scope="module")
def data(holey):
    return check_anndata(holey, SetupKeys(observed_layer="observed", signal_layer="signal"))


def brute_force(values_rt, segment_r, row, half_width):
    """Mean over the window of what is not NaN, in the segment of the row; NaN if nothing is."""
    window = [i for i in range(row - half_width, row + half_width + 1) if 0 <= i < len(values_rt)]
    values = values_rt[[i for i in window if segment_r[i] == segment_r[row]]]
    number = (~np.isnan(values)).sum(axis=0)
    return np.where(number > 0, np.nansum(values, axis=0) / np.maximum(number, 1), np.nan)


ROWS = {
    "a run": np.arange(20, 31),
    "across a border of segments": np.arange(66, 74),
    "at both ends": np.array([0, 1, 278, 279]),
    "far apart": np.array([3, 90, 91, 200]),
    "overlapping windows": np.array([10, 14, 22, 23]),
    "one": np.array([85]),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_window_means_are_those_of_the_definition(holey, data, rows):
    minibatch = take_regions(data, rows, HALF_WIDTHS)
    segment_r = np.arange(280) // 70
    for kind, table in (
        (ViewKind.COUNTS, np.where(holey.layers["observed"] == 1, holey.X, np.nan)),
        (ViewKind.SIGNAL, holey.layers["signal"]),
    ):
        view = minibatch.view(kind)
        windows = minibatch.low_rs, minibatch.high_rs
        means, has_any = window_means(view.value_lt, view.present_lt, minibatch.width_l, *windows)
        for r, row in enumerate(rows):
            expected = np.stack([brute_force(table, segment_r, row, number) for number in N_BINS], axis=-1)
            np.testing.assert_array_equal(has_any[r], ~np.isnan(expected[:, -1]))
            for s in (1, 0):  # an empty window takes the mean of the next wider one
                expected[:, s] = np.where(np.isnan(expected[:, s]), expected[:, s + 1], expected[:, s])
            np.testing.assert_allclose(means[r], np.nan_to_num(expected), rtol=1e-5)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_narrowest_window_is_the_region_itself(holey, data, rows):
    minibatch = take_regions(data, rows, HALF_WIDTHS)
    own = minibatch.own_row_r
    np.testing.assert_array_equal(minibatch.high_rs[:, 0], own + 1)
    np.testing.assert_array_equal(minibatch.counts.value_lt[own], holey.X[rows] * holey.layers["observed"][rows])
    np.testing.assert_array_equal(minibatch.counts.present_lt[own], holey.layers["observed"][rows] == 1)


def test_no_more_is_read_than_the_windows_reach(data):
    assert len(take_regions(data, np.array([100]), HALF_WIDTHS).counts.value_lt) == 11
    assert len(take_regions(data, np.array([100, 101]), HALF_WIDTHS).counts.value_lt) == 12
    assert len(take_regions(data, np.array([70, 200]), HALF_WIDTHS).counts.value_lt) == 6 + 11


@pytest.mark.parametrize("rows", [[3, 2], [4, 4]], ids=["descending", "repeated"])
def test_rows_that_do_not_ascend_are_refused(data, rows):
    with pytest.raises(ValueError, match="ascend without repeats"):
        take_regions(data, np.array(rows), HALF_WIDTHS)


@pytest.fixture(scope="module")
def numbered(kit):
    """Data in which the first track is the number of the region."""
    adata = kit.data()
    adata.X[:, 0] = np.arange(280)
    return check_anndata(adata, SetupKeys(observed_layer="observed"))


def regions_of(minibatch):
    return minibatch.counts.value_lt[minibatch.own_row_r, 0].int().tolist()


def test_a_pass_of_the_loader_covers_every_row_once(numbered):
    rows = np.r_[0:70, 150:280]
    loader = RegionLoader(numbered, rows, HALF_WIDTHS, batch_size=32, n_steps=60, random=np.random.default_rng(0))
    minibatches = [regions_of(minibatch) for minibatch in loader]
    assert len(minibatches) == len(loader) == 60
    seen = np.bincount(np.concatenate(minibatches), minlength=280)
    assert set(np.flatnonzero(seen)) == set(rows)
    assert seen[rows].max() - seen[rows].min() <= 2
    assert len({tuple(minibatch) for minibatch in minibatches}) > 50


def test_the_loader_follows_its_random_numbers(numbered):
    first, again, other = (
        [regions_of(m) for m in RegionLoader(numbered, np.arange(280), HALF_WIDTHS, 64, 9, np.random.default_rng(seed))]
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_fixed_minibatches_are_the_rows_in_order(numbered):
    rows = np.r_[2:40, 99:103]
    loader = FixedMinibatches(numbered, rows, HALF_WIDTHS, 16)
    minibatches = [regions_of(minibatch) for minibatch in loader]
    assert [len(minibatch) for minibatch in minibatches] == [16, 16, 10]
    assert len(loader) == 3
    assert sum(minibatches, []) == rows.tolist()
