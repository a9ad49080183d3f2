"""Recalibration: imputed means and spreads end where they are most likely, and nothing else moves."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.stats
import torch

import chipvi
from chipvi.calibrate.recalibration import fit_factors, fit_shift
from chipvi.data.splits import draw_blocks
from chipvi.data.track_data import ViewKind
from chipvi.nn import NegativeBinomial

HELD_OUT_KEYS = {"observed_layer": "observed", "depth_key": "depth"}


def nll(counts, mean, dispersion):
    """By scipy, mean over entries."""
    return -scipy.stats.nbinom.logpmf(counts, dispersion, dispersion / (dispersion + mean)).mean()


@pytest.fixture(scope="module")
def trained(kit):
    """A model with all of its regions to learn from, counts and signal."""
    return kit.train(kit.model(kit.data(n_regions=1_200)), max_steps=60, validation_size=0.0)


def without_calibration(model):
    """The same calls on the same model, calibration left out."""
    kept = copy.deepcopy(model.module.state_dict())
    for view in model.module.views:
        view.calibration.reset()
    try:
        return model.impute()
    finally:
        model.module.load_state_dict(kept)


@pytest.fixture(scope="module")
def with_held_out(kit):
    """Two models with a chromosome of their own to go by, where the second has seen three times as many reads."""
    models = []
    for factor in (1, 3):
        adata = kit.data(n_regions=9_000, signal=False)
        adata.obs["fold"] = np.where(adata.obs["chrom"] == "chr4", "valid", "train")
        adata.X[adata.obs["fold"] == "valid"] *= factor
        models.append(kit.train(kit.model(adata, HELD_OUT_KEYS), split_key="fold"))
    return models


def test_no_other_factors_make_the_held_out_counts_more_likely(with_held_out):
    model = with_held_out[0]
    held_out = np.flatnonzero(model.adata.obs["fold"] == "valid")
    assert len(held_out) >= 2_000
    measured = model.adata.var_names[(model.adata.layers["observed"] == 1).any(axis=0)]
    found = model.get_likelihood_parameters(indices=held_out, tracks=list(measured))
    for name in measured:
        counts = model.adata[held_out, name].X.ravel()
        mean, dispersion = found["mean"][name], found["dispersions"][name]
        best = nll(counts, mean, dispersion)
        for factor in (0.95, 1.05):
            # the prior holds the factors back by next to nothing
            assert nll(counts, factor * mean, dispersion) > best - 1e-4
            assert nll(counts, mean, factor**2 * dispersion) > best - 1e-4


def test_held_out_regions_are_what_it_goes_by_where_there_are_enough(with_held_out):
    first, second = (model.module.view(ViewKind.COUNTS).calibration.level_ba.numpy() for model in with_held_out)
    np.testing.assert_allclose((second - first)[first != 0], np.log(3), atol=0.4)


def test_regions_of_training_set_the_mean_and_leave_the_draw_blocks(trained):
    for name in ("cell1.H3K4me3", "cell3.H3K4me1"):
        t = trained.adata.var_names.get_loc(name)
        cell = int(trained.grid.biosample_t[t]), int(trained.grid.assay_t[t])
        counts, before = trained.adata.to_df()[name].to_numpy(), without_calibration(trained)[:, name]
        mean, dispersion = before.X.ravel(), before.layers["dispersion"].ravel()
        log_mean_factor, log_dispersion_factor = fit_factors(counts, mean, dispersion)
        assert abs(log_dispersion_factor) > 0.01
        counts_ba, signal_ba = (trained.module.view(kind).calibration for kind in ViewKind)
        assert float(counts_ba.level_ba[cell]) == pytest.approx(log_mean_factor, abs=1e-3)
        assert not counts_ba.log_spread_ba[cell]
        assert not signal_ba.log_spread_ba[cell]


def test_counts_of_known_distribution_give_the_factors_back():
    random = np.random.default_rng(3)
    mean, dispersion = random.gamma(2.0, 2.0, 30_000), 4.0
    counts = random.negative_binomial(dispersion, dispersion / (dispersion + mean))
    log_factors = fit_factors(counts, 1.6 * mean, np.full(len(mean), 1.0))
    np.testing.assert_allclose(np.exp(log_factors), [1 / 1.6, 4.0], rtol=0.05)


def test_counts_of_two_states_give_the_factors_back():
    mean, shape = torch.full((40_000,), 4.0), torch.tensor([-0.7, 1.0, -0.5]).expand(40_000, 3)
    counts = NegativeBinomial.with_shape(mean, mean, shape).sample(generator=torch.Generator().manual_seed(0)).numpy()
    started = shape.clone()
    started[:, 0] += np.log(2.0)
    log_factors = fit_factors(counts, mean.numpy() / 1.6, mean.numpy(), started.numpy())
    np.testing.assert_allclose(np.exp(log_factors), [1.6, 0.5], rtol=0.05)


def test_a_track_with_hardly_a_read_stays_nearly_as_it_is():
    log_factors = fit_factors(np.array([0.0, 1.0, 0.0]), np.full(3, 0.9), np.full(3, 2.0))
    assert np.abs(log_factors).max() < 0.3


def test_signal_gets_the_weighted_mean_and_spread_of_its_residuals():
    random = np.random.default_rng(5)
    mean, std = random.normal(size=20_000), random.uniform(0.2, 2.0, 20_000)
    signal = mean + 0.3 + 1.7 * std * random.normal(size=20_000)
    shift, log_factor = fit_shift(signal, mean, std)
    assert (shift, np.exp(log_factor)) == (pytest.approx(0.3, abs=0.02), pytest.approx(1.7, rel=0.02))


def test_imputed_signal_is_right_on_average(trained):
    adata, result = trained.adata, trained.impute()
    signal_rt = adata[:, result.var_names].layers["signal"]
    measured = ~np.isnan(signal_rt).all(axis=0)
    weight_rt = 1 / result.layers["pval_std"][:, measured] ** 2
    off_t = (weight_rt * (signal_rt - result.layers["pval"])[:, measured]).sum(axis=0) / weight_rt.sum(axis=0)
    np.testing.assert_allclose(off_t, 0, atol=1e-3)


def test_what_sees_its_own_data_or_was_never_seen_is_left_alone(kit, trained):
    now, before = trained.impute(), without_calibration(trained)
    np.testing.assert_array_equal(now.layers["denoised"], before.layers["denoised"])
    unseen = now.var_names == kit.unseen
    np.testing.assert_array_equal(now.X[:, unseen], before.X[:, unseen])
    assert (np.abs(now.X[:, ~unseen] / before.X[:, ~unseen] - 1).max(axis=0) > 1e-4).all()


def test_depth_still_scales_the_mean(trained):
    once, twice = (trained.get_imputed_counts(depth=depth, return_numpy=True) for depth in (1e4, 2e4))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


def test_calibration_is_saved_with_the_model(trained, tmp_path):
    trained.save(tmp_path / "model", save_anndata=False)
    loaded = chipvi.ChipVI.load(tmp_path / "model", trained.adata, accelerator="cpu")
    np.testing.assert_array_equal(loaded.impute().X, trained.impute().X)
    assert all(view.calibration.level_ba.any() for view in loaded.module.views)


def test_drawing_takes_whole_blocks_from_all_over_and_no_more_than_asked():
    rows = np.arange(100, 5_000)
    chosen = draw_blocks(rows, most=1_000)
    assert 900 < len(chosen) <= 1_000
    np.testing.assert_array_equal(chosen, np.unique(chosen))
    assert chosen[0] < 1_000 and chosen[-1] > 4_000
    assert (np.diff(chosen) == 1).mean() > 0.9
    np.testing.assert_array_equal(draw_blocks(rows[:900], most=1_000), rows[:900])


@pytest.mark.parametrize("n_rows_of_a_gene", [128, 200, 256])
def test_drawing_takes_all_parts_of_genes_alike(n_rows_of_a_gene):
    chosen = draw_blocks(np.arange(100_000), most=20_000)
    number = np.bincount(chosen % n_rows_of_a_gene // 64)
    np.testing.assert_allclose(number[:-1] / number[:-1].mean(), 1, atol=0.25)
    assert number.min() > 0
