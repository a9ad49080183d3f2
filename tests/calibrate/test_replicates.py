"""Noise between replicates, against direct sums, and what denoising makes of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

import chipvi
from chipvi.calibrate.replicates import replicate_noise
from chipvi.data.track_data import ViewKind
from chipvi.metrics import r2

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def drawn(dispersion, depth, n_regions=30_000, seed=0):
    """Reads of replicates whose rates scatter by a gamma factor of this variance about one that they share."""
    random = np.random.default_rng(seed)
    shared_r1 = random.gamma(1.5, 8, size=(n_regions, 1))
    factor_rt = random.gamma(1 / dispersion, dispersion, size=(n_regions, len(depth)))
    return random.poisson(shared_r1 * factor_rt * depth).astype(float)


def test_noise_is_the_dispersion_of_highest_likelihood_given_the_sums():
    counts_rt = drawn(0.2, [1, 1, 1], n_regions=400)
    order = counts_rt.sum(axis=0).argsort()
    for t in order[1:]:  # as many reads in each, so that nothing is thinned
        for _ in range(int(counts_rt[:, t].sum() - counts_rt[:, order[0]].sum())):
            counts_rt[counts_rt[:, t].argmax(), t] -= 1

    def loss(log_dispersion):  # any mean of the binomials does, for the sum tells all of it
        size = np.exp(-log_dispersion)
        each = stats.nbinom.logpmf(counts_rt, size, 0.3).sum(axis=1)
        return -(each - stats.nbinom.logpmf(counts_rt.sum(axis=1), 3 * size, 0.3)).sum()

    expected = np.exp(minimize_scalar(loss, bounds=(-7, 2), method="bounded").x)
    assert replicate_noise([counts_rt]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dispersion", [0.02, 0.3])
def test_noise_is_found_whatever_the_depths_and_gaps(dispersion):
    pair, three = drawn(dispersion, [1, 4]), drawn(dispersion, [2, 1, 0.5], seed=1)
    pair[:500, 0] = np.nan
    assert replicate_noise([pair, three]) == pytest.approx(dispersion, rel=0.06)


def test_poisson_replicates_have_no_noise_and_empty_ones_none():
    random = np.random.default_rng(2)
    assert replicate_noise([random.poisson(20, size=(5_000, 2)).astype(float)]) < 2e-3
    assert replicate_noise([np.zeros((10, 2)), np.full((10, 3), np.nan)]) == 0.0


@pytest.fixture(scope="module")
def world():
    adata = chipvi.datasets.simulate(n_regions=1_500, n_biosamples=2, n_assays=2, n_replicates=2, seed=1)
    adata.var["cell"] = np.where(adata.var["assay"] == "H3K4me3", adata.var["cell"], adata.var_names)  # of one assay
    models = {}
    for key in ("cell", None):
        chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth", condition_key=key)
        models[key] = chipvi.ChipVI(adata, n_latent=8, n_hidden=32)
        models[key].train(max_steps=200, batch_size=256, seed=0, **QUIET)
    return SimpleNamespace(adata=adata, named=models["cell"], unnamed=models[None])


def noise(model):
    return model.module.view(ViewKind.COUNTS).noise_a.numpy()


def test_the_noise_of_each_assay_is_that_of_its_replicates(world):
    counts_rt, named = np.asarray(world.adata.X), world.adata.var
    pairs = [
        counts_rt[:, ((named["assay"] == "H3K4me3") & (named["cell"] == cell)).to_numpy()]
        for cell in ("cell1", "cell2")
    ]
    assert noise(world.named).tolist() == pytest.approx([replicate_noise(pairs), 0.0])
    assert noise(world.unnamed).tolist() == [0.0, 0.0]


def test_denoised_rates_are_nearer_to_the_truth_where_replicates_are_named(world):
    rate_rt = world.adata.layers["rate"]
    named, unnamed = (model.get_normalized_expression(return_numpy=True) for model in (world.named, world.unnamed))
    is_first_t = (world.adata.var["assay"] == "H3K4me3").to_numpy()
    assert r2(rate_rt, named)[is_first_t].mean() > r2(rate_rt, unnamed)[is_first_t].mean() + 0.003
    np.testing.assert_array_equal(named[:, ~is_first_t], unnamed[:, ~is_first_t])


def test_imputation_does_not_depend_on_who_is_a_replicate(world):
    np.testing.assert_array_equal(
        world.named.get_imputed_counts(return_numpy=True), world.unnamed.get_imputed_counts(return_numpy=True)
    )


def test_the_noise_is_saved_and_serves_a_query_and_data_without_the_column(world, tmp_path):
    world.named.save(tmp_path / "model")
    plain = world.adata.copy()
    del plain.var["cell"]
    again = chipvi.ChipVI.load(tmp_path / "model", plain)
    np.testing.assert_array_equal(
        again.get_normalized_expression(return_numpy=True), world.named.get_normalized_expression(return_numpy=True)
    )
    new = plain[:, ["cell1_1.H3K4me3"]].copy()
    new.var_names, new.var["biosample"] = ["new.H3K4me3"], "new"
    query = chipvi.ChipVI.load_query_data(new, world.named)
    assert noise(query).tolist() == noise(world.named).tolist()
