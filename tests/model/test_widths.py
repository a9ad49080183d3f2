"""Regions of unequal width, such as peaks: a count is proportional to width, whatever is predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import stats

import chipvi
from chipvi.data.check import SetupKeys, check_anndata
from chipvi.data.grid import Grid, Initialisation
from chipvi.data.segments import Widths
from chipvi.data.track_data import ViewKind
from chipvi.metrics import pearson
from chipvi.model.query import open_query

KEYS = {"observed_layer": "observed", "depth_key": "depth"}
UNSEEN = "cell2.H3K4me3"
LONELY = 3  # a region without neighbours


def peaks(n_peaks: int = 900, seed: int = 0, **options) -> AnnData:
    """Bins of 100 bp put together to regions of 1 to 9, of which every third is left out; the rates with them."""
    random = np.random.default_rng(seed)
    n_bins_p = random.integers(1, 10, 3 * n_peaks // 2)
    edges = np.r_[0, np.cumsum(n_bins_p)]
    defaults = {"n_biosamples": 3, "n_assays": 4, "n_chromosomes": 1, "mean_count": 1.5, "missing": [UNSEEN]}
    bins = chipvi.datasets.simulate(n_regions=int(edges[-1]), bin_size=100, seed=seed, **(defaults | options))
    keep = np.flatnonzero(np.arange(len(n_bins_p)) % 3 != 1)
    start = 100 * edges[:-1][keep] + np.where(keep > keep[LONELY], 500_000, 0)
    start += np.where(keep >= keep[LONELY], 500_000, 0)
    obs = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 100 * n_bins_p[keep]})
    obs.index = [f"peak{i}" for i in range(len(obs))]
    counts, rate = (np.add.reduceat(x, edges[:-1], axis=0)[keep] for x in (bins.X, bins.layers["rate"]))
    observed = np.repeat(bins.layers["observed"][:1], len(keep), axis=0)
    return AnnData(counts, obs, bins.var.copy(), layers={"observed": observed, "rate": rate})


@pytest.fixture(scope="module")
def data():
    return peaks()


@pytest.fixture(scope="module")
def model(kit, data):
    return kit.train(kit.model(data.copy(), KEYS), max_steps=150, validation_size=0, batch_size=128)


@pytest.fixture(scope="module")
def twice(data):
    """The same, but for one region without neighbours, which is twice as wide and has twice the reads."""
    twice = data.copy()
    middle = (data.obs["start"] + data.obs["end"]).iloc[LONELY] // 2
    width = (data.obs["end"] - data.obs["start"]).iloc[LONELY]
    twice.obs.iloc[LONELY, [1, 2]] = [middle - width, middle + width]
    twice.X[LONELY] *= 2
    return twice


# twice the width


@pytest.mark.parametrize("tracks", [["cell1.H3K4me3", "cell3.H3K36me3"], [UNSEEN]], ids=["measured", "never run"])
def test_a_region_twice_as_wide_has_twice_the_mean(model, twice, tracks):
    def lonely(adata, function):
        return function(adata, indices=[LONELY], tracks=tracks, return_numpy=True, depth=5_000.0)

    once, two = (lonely(adata, model.get_imputed_counts) for adata in (None, twice))
    np.testing.assert_allclose(two, 2 * once, rtol=2e-6)
    if tracks == [UNSEEN]:
        once, two = (lonely(adata, model.get_normalized_expression) for adata in (None, twice))
        np.testing.assert_allclose(two, 2 * once, rtol=2e-6)


def test_twice_the_width_changes_no_other_region(model, data, twice):
    others = np.setdiff1d(np.arange(data.n_obs), [LONELY])
    once, two = (model.get_imputed_counts(adata, indices=others, return_numpy=True) for adata in (None, twice))
    np.testing.assert_array_equal(once, two)


def test_likelihood_and_intervals_are_those_of_the_wider_region(model, twice):
    asked = {"adata": twice, "indices": [LONELY], "tracks": ["cell1.H3K4me1"], "return_numpy": True}
    mean, dispersion = (x.item() for x in model.get_likelihood_parameters(**asked).values())
    lower, upper = (x.item() for x in model.get_prediction_interval(**asked))
    expected = stats.nbinom(dispersion, dispersion / (dispersion + mean)).ppf([0.025, 0.975])
    np.testing.assert_array_equal([lower, upper], expected)
    quantiles = model.get_quantiles([0.5], **asked, n_samples=4)
    draws = model.posterior_predictive_sample(twice, [LONELY], ["cell1.H3K4me1"], n_samples=2_000)
    assert abs(draws.mean() / mean - 1) < 0.15 and abs(np.median(draws) - quantiles.item()) <= 1


def test_what_counts_are_held_against_grows_with_the_width(kit, model, data):
    minibatch = kit.take(model, [LONELY])
    wider = replace(minibatch, width_l=2 * minibatch.width_l)
    assert (wider.log_width_r - minibatch.log_width_r).item() == pytest.approx(np.log(2))
    module, n_tracks = model.module, data.n_vars
    visible = chipvi.module.inputs.Visible.everything(minibatch, module.log_depth_t)
    queries = chipvi.module.inputs.Queries(*(torch.tensor(x) for x in ([0], [0], [-1], [[0, 1]])))
    with torch.no_grad():
        encoding = module.inference(visible, queries, torch.Generator().manual_seed(0)).without_own()
        of_wider = replace(encoding, around=replace(encoding.around, log_width_r=wider.log_width_r))
        once, two = (
            module.generative(e, queries, torch.zeros(1, 1, 2))[ViewKind.COUNTS].distribution.mean
            for e in (encoding, of_wider)
        )
    torch.testing.assert_close(two, 2 * once, rtol=2e-6, atol=0)
    noise = [
        module.view(ViewKind.COUNTS).noise(torch.ones(1, n_tracks), replace(visible, minibatch=one), window=-3)
        for one in (minibatch, wider)
    ]
    depth_t = np.exp(module.log_depth_t.numpy())
    for factor, found in zip((1, 2), noise, strict=True):
        per_read_t = 1 / depth_t / (factor * minibatch.width_l[minibatch.own_row_r].item())
        np.testing.assert_allclose(found[0], (1 + 0.5 * per_read_t) * per_read_t / 4, rtol=1e-5)


# what it looks at


def test_windows_hold_reads_per_base_of_what_lies_within(kit, model, data):
    rows = np.array([0, 1, 2, LONELY, 100, 101, 500])
    minibatch = kit.take(model, rows)
    visible = chipvi.module.inputs.Visible.everything(minibatch, model.module.log_depth_t)
    means = model.module.view(ViewKind.COUNTS).means(visible)
    middle_r = (data.obs["start"] + data.obs["end"]).to_numpy() / 2
    width_r = (data.obs["end"] - data.obs["start"]).to_numpy()
    typical = np.median(width_r)
    assert model.module.half_widths == tuple(int(typical) * n for n in (0, 1, 3, 10, 30))
    measured_t = data.layers["observed"][0] == 1
    for r, row in enumerate(rows):
        for s, half_width in enumerate(model.module.half_widths):
            held = np.abs(middle_r - middle_r[row]) <= half_width
            rate_t = data.X[held].sum(axis=0) / (width_r[held].sum() / typical)
            expected_t = np.where(measured_t, rate_t / np.exp(model.module.log_depth_t.numpy()), 0)
            np.testing.assert_allclose(means.value_rts[r, :, s], expected_t, rtol=1e-5)
    assert (minibatch.high_rs - minibatch.low_rs)[:, -1].min() == 1  # the lonely one


def test_signal_over_a_window_is_its_mean_over_base_pairs():
    adata = peaks(30)
    adata.layers["signal"] = np.random.default_rng(1).random(adata.shape)
    chipvi.ChipVI.setup_anndata(adata, **KEYS, signal_layer="signal")
    model = chipvi.ChipVI(adata, n_latent=4, n_hidden=8)
    minibatch = chipvi.data.minibatch.take_regions(model.data, np.arange(20, 25), model.module.half_widths)
    visible = chipvi.module.inputs.Visible.everything(minibatch, model.module.log_depth_t)
    means = model.module.view(ViewKind.SIGNAL).means(visible)
    middle_r = (adata.obs["start"] + adata.obs["end"]).to_numpy() / 2
    width_r = (adata.obs["end"] - adata.obs["start"]).to_numpy()
    for r, row in enumerate(range(20, 25)):
        held = np.abs(middle_r - middle_r[row]) <= model.module.half_widths[2]
        expected_t = np.average(adata.layers["signal"][held], axis=0, weights=width_r[held])
        np.testing.assert_allclose(means.value_rts[r, :, 2], expected_t, rtol=1e-5)


def test_numbers_do_not_depend_on_which_other_regions_the_data_hold(model, data):
    """The typical width is that of training, whatever the regions asked about."""
    width_r = (data.obs["end"] - data.obs["start"]).to_numpy()
    kept = np.flatnonzero((np.arange(900) < 60) | (width_r > 700))
    part = data[kept].copy()
    assert np.median(width_r[kept]) > np.median(width_r)
    inner = np.arange(LONELY, 24)  # beyond the reach of what was left out
    once = model.get_imputed_counts(indices=inner, return_numpy=True)
    np.testing.assert_allclose(model.get_imputed_counts(part, indices=inner, return_numpy=True), once, rtol=1e-6)


# where it starts, and what it learns


def test_means_and_dispersions_start_from_rates_per_base():
    """Counts of one rate and dispersion per width: the moments find both, whatever the widths."""
    random = np.random.default_rng(2)
    n = 200_000
    width = random.integers(1, 20, n) * 100
    end = np.cumsum(width)
    relative = width / np.median(width)
    rate, dispersion = np.array([3.0, 0.7]), np.array([2.0, 0.5])
    mean = relative[:, None] * rate
    counts = random.negative_binomial(dispersion, dispersion / (dispersion + mean)).astype(np.float32)
    counts[: n // 2, 1] = np.nan
    obs = pd.DataFrame({"chrom": "chr1", "start": end - width, "end": end}, index=[str(i) for i in range(n)])
    var = pd.DataFrame({"biosample": ["a", "b"], "assay": "c", "depth": 1e6}, index=["a.c", "b.c"])
    data = check_anndata(AnnData(counts, obs, var), SetupKeys(depth_key="depth"))
    start = Initialisation.of(data, Grid.of(data.tracks, data.seen, data.views))
    np.testing.assert_allclose(np.exp(start.counts.level_ba[:, 0]), rate, rtol=0.02)
    np.testing.assert_allclose(np.exp(start.counts.log_spread_ba[:, 0]), dispersion, rtol=0.06)
    seen = data.summary.counts
    np.testing.assert_allclose(seen.rate_t, [np.nansum(y) / relative[~np.isnan(y)].sum() for y in counts.T], rtol=1e-5)
    added_up = check_anndata(AnnData(counts, obs, var))
    np.testing.assert_allclose(added_up.depth_t, seen.rate_t * relative.sum(), rtol=1e-5)


def test_narrow_and_wide_regions_are_imputed_at_their_level(model, data):
    measured = data.layers["observed"][0] == 1
    imputed = model.get_imputed_counts(tracks=list(data.var_names[measured]), return_numpy=True)
    truth = data.layers["rate"][:, measured]
    n_bins = ((data.obs["end"] - data.obs["start"]) // 100).to_numpy()
    for part in (n_bins <= 2, (n_bins > 2) & (n_bins < 8), n_bins >= 8):
        ratio_t = imputed[part].sum(axis=0) / truth[part].sum(axis=0)
        assert abs(np.log(ratio_t)).mean() < 0.15
    assert (pearson(truth, imputed) > np.corrcoef(truth.T, n_bins)[-1, :-1]).all()


def test_a_query_keeps_the_typical_width_of_its_reference(model, data):
    new = peaks(400, seed=1, n_biosamples=4, missing=0.0)
    new = new[(new.obs["end"] - new.obs["start"] > 300).to_numpy(), (new.var["biosample"] == "cell4").to_numpy()].copy()
    typical = model.data.segments.typical_width
    assert int(np.median(new.obs["end"] - new.obs["start"])) != typical
    assert open_query(new, model.setup_keys, model.data, model.grid).segments.widths == Widths(None, typical)
    query = chipvi.ChipVI.load_query_data(new, model)
    assert query.module.half_widths == model.module.half_widths and query.data.segments.typical_width == typical
    rate_t = new.X.sum(axis=0) / ((new.obs["end"] - new.obs["start"]).sum() / typical)
    depth_t = new.var["depth"].to_numpy() / np.exp(float(model.module.log_center))
    level_t = query.module.view(ViewKind.COUNTS).level_ba[-1, : new.n_vars].numpy()
    np.testing.assert_allclose(np.exp(level_t), rate_t / depth_t, rtol=1e-5)


def test_a_model_of_peaks_is_saved_with_its_typical_width(model, data, tmp_path):
    model.save(tmp_path / "model")
    wide = data[data.obs["end"] - data.obs["start"] > 300].copy()
    loaded = chipvi.ChipVI.load(tmp_path / "model", wide, accelerator="cpu")
    assert loaded.data.segments.typical_width == model.data.segments.typical_width
    assert loaded.context == model.context == f"{30 * model.data.segments.typical_width / 1_000:g} kb to either side"


# overlaps


def test_peaks_with_overlaps_train_and_predict_and_are_not_looked_at_across_them(kit, data):
    overlapping = data[:300].copy()
    first = overlapping.obs.index[101]
    overlapping.obs.loc[first, "start"] = overlapping.obs["end"].iloc[100] - 10
    with pytest.warns(UserWarning, match=f"{first} is chr1:"):
        model = kit.model(overlapping, KEYS)
    kit.train(model, max_steps=5)
    assert 101 in model.data.segments.offsets
    minibatch = kit.take(model, [100, 101])
    assert minibatch.high_rs[0].max() <= minibatch.low_rs[1].min()
    other = overlapping.copy()
    other.X[101:] += 7
    once, changed = (model.get_imputed_counts(adata, indices=[99, 100], return_numpy=True) for adata in (None, other))
    np.testing.assert_array_equal(once, changed)
    assert (model.get_imputed_counts(other, indices=[101], return_numpy=True) > 0).all()


def test_no_bigwig_file_of_overlapping_regions_is_written(data, tmp_path):
    overlapping = data[:20].copy()
    overlapping.obs.iloc[7, 1] = overlapping.obs["end"].iloc[6] - 10
    with pytest.raises(ValueError, match="cannot hold regions that overlap; region peak7 is chr1"):
        chipvi.io.write_bigwigs(overlapping, tmp_path / "tracks")
