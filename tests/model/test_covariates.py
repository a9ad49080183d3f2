"""Region covariates are seen by encoder and decoder, saved, part of queries, and refused where missing."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

import chipvi
from chipvi.metrics import pearson

SETUP = {"observed_layer": "observed", "depth_key": "depth"}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def biased(n_regions=2_000):
    """Two biosamples x three assays whose rates a covariate moves, each in a direction of its own."""
    random = np.random.default_rng(0)
    adata = chipvi.datasets.simulate(n_regions=n_regions, n_biosamples=2, n_assays=3, missing=[], seed=5)
    gc_r = random.uniform(0.3, 0.7, n_regions)
    slope_t = np.array([4.0, -4.0, 3.0, -3.0, 5.0, -5.0])
    rate_rt = 3 * np.exp((gc_r[:, None] - 0.5) * slope_t)
    adata.X = random.poisson(rate_rt).astype(np.float32)
    adata.obs["gc"], adata.obs["n_share"] = gc_r, random.uniform(0, 0.01, n_regions)
    adata.layers["rate"] = rate_rt
    adata.var["depth"] = adata.X.sum(axis=0)
    return adata


def trained(adata, covariates=("gc",), steps=150):
    chipvi.ChipVI.setup_anndata(adata, **SETUP, covariate_keys=covariates)
    model = chipvi.ChipVI(adata, n_latent=6, n_hidden=24)
    model.train(max_steps=steps, batch_size=128, seed=0, **QUIET)
    return model


@pytest.fixture(scope="module")
def adata():
    return biased()


@pytest.fixture(scope="module")
def model(adata):
    return trained(adata.copy(), ["gc", "n_share"])


def test_a_bias_that_the_covariate_explains_is_imputed_by_it(adata, model):
    without = trained(adata.copy(), ())
    # only the covariate says how a region without a read in any other track is biased
    dark = adata.copy()
    dark.X[:, 1:] = 0
    names = [adata.var_names[0]]
    truth = adata.layers["rate"][:, 0]
    seen, unseen = (m.get_imputed_counts(dark, tracks=names, return_numpy=True)[:, 0] for m in (model, without))
    assert float(pearson(truth, seen)) > 0.8
    assert abs(float(np.nan_to_num(pearson(truth, unseen)))) < 0.1


def test_encoder_and_decoder_see_the_covariates_of_their_region_alone(adata, model):
    other = adata.copy()
    other.obs.loc[other.obs_names[700], "gc"] = 0.69
    rows = np.arange(690, 710)
    plain, changed = (model.get_imputed_counts(data, indices=rows, return_numpy=True) for data in (adata, other))
    is_changed_r = (plain != changed).any(axis=1)
    assert is_changed_r.tolist() == [row == 700 for row in rows]
    latents = [model.get_latent_representation(data, indices=[700]) for data in (adata, other)]
    assert not np.array_equal(*latents)
    for weight in (model.module.encoder.input_weight_hi[:, -3:-1], model.module.decoder.shared[0].weight[:, -2:]):
        assert (weight.abs().sum(dim=0) > 0).all()


def test_unit_and_origin_of_a_covariate_do_not_matter(adata, model):
    other = adata.copy()
    other.obs["gc"] = 100 * other.obs["gc"] + 7
    again = trained(other, ["gc", "n_share"])
    np.testing.assert_allclose(again.impute().X, model.impute().X, rtol=1e-3)


def test_a_constant_covariate_does_no_harm(adata):
    flat = adata.copy()
    flat.obs["gc"] = 0.4
    assert np.isfinite(trained(flat, steps=3).impute().X).all()


def test_a_saved_model_knows_its_covariates(adata, model, tmp_path):
    model.save(tmp_path / "model", save_anndata=False)
    loaded = chipvi.ChipVI.load(tmp_path / "model", adata.copy(), accelerator="cpu")
    assert loaded.setup_keys.covariate_keys == ("gc", "n_share")
    np.testing.assert_array_equal(loaded.impute(indices=np.arange(50)).X, model.impute(indices=np.arange(50)).X)
    with pytest.raises(ValueError, match=r"covariate_keys 'n_share' is not in adata\.obs"):
        model.impute(_without(adata, "n_share"))


def test_what_covariates_impute_goes_to_a_file(adata, model, tmp_path):
    model.impute(out=tmp_path / "imputed.h5ad")
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "imputed.h5ad").X, model.impute().X)


def _without(adata, column):
    other = adata.copy()
    del other.obs[column]
    return other


def test_a_query_brings_the_covariates_of_its_regions(adata, model):
    new = adata[:, :1].copy()
    new.var["biosample"], new.var_names = "cell9", ["cell9.a"]
    query = chipvi.ChipVI.load_query_data(new, model)
    other = new.copy()
    other.obs["gc"] = other.obs["gc"].to_numpy()[::-1]
    moved = chipvi.ChipVI.load_query_data(other, model)
    asked = {"tracks": ["cell9.a"], "indices": [3, 900], "return_numpy": True}
    assert not np.array_equal(query.get_imputed_counts(**asked), moved.get_imputed_counts(**asked))
    with pytest.raises(ValueError, match=r"covariate_keys 'gc' is not in adata\.obs"):
        chipvi.ChipVI.load_query_data(_without(new, "gc"), model)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda obs: obs.assign(gc=[np.nan, *obs["gc"][1:]]),
            r"covariate 'gc' must be known .*; region \S+ has nan\. ",
        ),
        (lambda obs: obs.assign(gc=[*obs["gc"][:-2], np.inf, -np.inf]), r"region \S+ has inf \(and 1 more\)"),
        (lambda obs: obs.assign(gc="high"), r"covariate 'gc' must hold real numbers; its dtype is (object|str)"),
        (lambda obs: obs.assign(gc=obs["gc"] > 0.5), r"covariate 'gc' must hold real numbers; its dtype is bool"),
        (lambda obs: obs.drop(columns="gc"), r"covariate_keys 'gc' is not in adata\.obs"),
    ],
    ids=["nan", "infinite", "text", "bool", "absent"],
)
def test_covariates_that_are_no_numbers_are_refused(change, expected):
    adata = biased(60)
    adata.obs = change(adata.obs)
    with pytest.raises(ValueError, match=expected):
        chipvi.ChipVI.setup_anndata(adata, **SETUP, covariate_keys=["gc"])


def test_a_lone_name_is_refused_rather_than_read_letter_by_letter():
    with pytest.raises(ValueError, match=r"covariate_keys must be a list of columns of obs, such as \['gc'\]"):
        chipvi.ChipVI.setup_anndata(biased(60), **SETUP, covariate_keys="gc")
