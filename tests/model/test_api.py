"""The predictions: what they hold, how they are asked for, and that they agree with each other."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.stats
import torch
from anndata import AnnData

import chipvi
from chipvi.data.track_data import ViewKind
from chipvi.metrics import nb_quantile
from chipvi.nn import NegativeBinomial
from chipvi.predict.stream import write_h5ad
from chipvi.train.masking import apply_task, hide_nothing

NEW = pd.DataFrame({"biosample": ["cell3", "cell2"], "assay": ["H3K4me1", "H3K4me3"]}, index=["known", "never run"])


def assert_same_results(first, second):
    pd.testing.assert_frame_equal(first.obs, second.obs, check_dtype=False, check_categorical=False)
    pd.testing.assert_frame_equal(first.var, second.var, check_dtype=False)
    np.testing.assert_array_equal(first.X, second.X)
    assert set(first.layers) == set(second.layers)
    for name in first.layers:
        np.testing.assert_array_equal(first.layers[name], second.layers[name])


@pytest.fixture(scope="module")
def result(model):
    return model.impute()


# one computation, several views


def test_the_layers_are_what_the_functions_give(model, result):
    lower, upper = model.get_prediction_interval(return_numpy=True)
    pval, pval_std = model.get_imputed_pvalues(return_std=True, return_numpy=True)
    for layer, values in {
        "lower": lower,
        "upper": upper,
        "pval": pval,
        "pval_std": pval_std,
        "dispersion": model.get_likelihood_parameters(return_numpy=True)["dispersions"],
        "denoised": model.get_normalized_expression(return_numpy=True),
    }.items():
        np.testing.assert_array_equal(result.layers[layer], values)
    np.testing.assert_array_equal(result.X, model.get_imputed_counts(return_numpy=True))
    assert set(result.layers) == {"lower", "upper", "dispersion", "denoised", "pval", "pval_std"}


def test_the_mean_of_the_likelihood_is_the_imputed_count(model):
    parameters = model.get_likelihood_parameters(indices=[1, 200])
    assert set(parameters) == {"mean", "dispersions"}
    pd.testing.assert_frame_equal(parameters["mean"], model.get_imputed_counts(indices=[1, 200]))
    assert (parameters["dispersions"] > 0).all(axis=None)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_is_that_of_the_likelihood(model, level):
    parameters = model.get_likelihood_parameters(return_numpy=True)
    ends = model.get_prediction_interval(level=level, return_numpy=True)
    for q, end in zip(((1 - level) / 2, (1 + level) / 2), ends, strict=True):
        np.testing.assert_array_equal(end, nb_quantile(q, parameters["mean"], parameters["dispersions"]))


def test_p_values_on_the_other_scale(model):
    mean, std = model.get_imputed_pvalues(return_std=True, return_numpy=True)
    raw, raw_std = model.get_imputed_pvalues(scale="-log10p", return_std=True, return_numpy=True)
    np.testing.assert_allclose(raw, np.sinh(mean), rtol=1e-6)
    step = 1e-3  # a small spread on one scale is the slope times it on the other
    np.testing.assert_allclose(raw_std / std, (np.sinh(mean + step) - np.sinh(mean - step)) / (2 * step), rtol=1e-2)
    with pytest.raises(ValueError, match="scale must be 'arcsinh' or '-log10p', got 'log'"):
        model.get_imputed_pvalues(scale="log")


def test_predictions_are_the_same_twice(model, result):
    assert_same_results(model.impute(), result)


# how results are named and ordered


def test_tables_are_by_name_in_the_order_asked_for(adata, model):
    tracks, indices = ["cell3.H3K4me3", "cell1.H3K27me3"], [250, 3, 3, 77]
    table = model.get_imputed_counts(indices=indices, tracks=tracks)
    assert list(table.index) == list(adata.obs_names[indices])
    assert list(table.columns) == tracks
    whole = model.get_imputed_counts()
    np.testing.assert_allclose(table.to_numpy(), whole.iloc[indices][tracks].to_numpy(), rtol=1e-5)
    assert list(whole.columns) == list(adata.var_names[~adata.var["is_control"]])
    array = model.get_imputed_counts(indices=indices, tracks=tracks, return_numpy=True)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, table)


def test_the_result_keeps_what_is_known_of_regions_and_tracks(adata, model):
    result = model.impute(indices=[9, 4], tracks=["cell2.H3K4me1"])
    pd.testing.assert_frame_equal(result.obs, adata.obs[["chrom", "start", "end", "state"]].iloc[[9, 4]])
    assert result.var.loc["cell2.H3K4me1", ["biosample", "assay"]].tolist() == ["cell2", "H3K4me1"]
    assert result.var["depth"].iloc[0] == pytest.approx(adata.var.loc["cell2.H3K4me1", "depth"], rel=1e-5)


def test_regions_may_be_masked_or_counted_from_the_end(model):
    mask = np.zeros(280, dtype=bool)
    mask[[270, 14]] = True
    expected = model.get_imputed_counts(indices=[14, 270])
    pd.testing.assert_frame_equal(model.get_imputed_counts(indices=mask), expected)
    pd.testing.assert_frame_equal(model.get_imputed_counts(indices=mask.tolist()), expected)
    pd.testing.assert_frame_equal(model.get_imputed_counts(indices=[14, -10]), expected)
    pd.testing.assert_frame_equal(model.get_imputed_counts(indices=range(14, 15)), expected.iloc[:1])


@pytest.mark.parametrize(
    ("arguments", "error", "expected"),
    [
        ({"indices": [True, False]}, ValueError, r"an entry for each of the 280 regions; got shape \(2,\)"),
        ({"indices": np.zeros(280, dtype=bool)}, ValueError, "choose no region"),
        ({"indices": []}, ValueError, "choose no region"),
        ({"indices": ["chr1:0-200"]}, ValueError, r"list of row numbers.*get_indexer"),
        ({"indices": [[1, 2]]}, ValueError, r"list of row numbers.* got shape \(1, 2\)"),
        ({"indices": [0.5]}, ValueError, "dtype float64"),
        ({"indices": [0, 280]}, IndexError, "reach from 0 to 280, but there are 280 regions"),
        ({"indices": [-281]}, IndexError, "reach from -281"),
        ({"tracks": ["cell1.H3K4me"]}, ValueError, r"track 'cell1.H3K4me' is not in .*did you mean"),
        ({"tracks": ["cell1.Input"]}, ValueError, "is a control, which is input only"),
        ({"tracks": []}, ValueError, "no track to predict"),
        ({"depth": 0}, ValueError, "depth must be one positive number of reads, got 0"),
        ({"depth": "1e6"}, ValueError, "depth must be a number or None; it is '1e6'"),
        ({"depth": [1e6, 2e6]}, ValueError, r"depth must be a number or None; it is \[1000000"),
        ({"depth": np.nan}, ValueError, "tracks as a table with a column 'depth'"),
        ({"depth": 1e40}, ValueError, "at most 1e\\+18"),
        ({"depth": True}, ValueError, "it is True"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"level": 95}, ValueError, "level must be between 0 and 1, such as 0.95; got 95"),
    ],
)
def test_what_cannot_be_predicted_is_refused(model, arguments, error, expected):
    with pytest.raises(error, match=expected):
        model.impute(**arguments)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batches_without_a_region_are_refused_everywhere(model, batch_size):
    for function in (model.get_imputed_counts, model.get_latent_representation, model.get_elbo):
        with pytest.raises(ValueError, match="batch_size must be at least 1"):
            function(batch_size=batch_size)


# tracks and depth


def test_a_table_of_tracks_asks_for_known_and_new_experiments(model):
    table = model.get_imputed_counts(tracks=NEW)
    assert list(table.columns) == ["known", "never run"]
    by_name = model.get_imputed_counts(tracks=["cell3.H3K4me1", "cell2.H3K4me3"])
    np.testing.assert_allclose(table.to_numpy(), by_name.to_numpy(), rtol=1e-5)


def test_an_experiment_that_is_no_column_is_predicted_like_one_without_data(kit):
    results = []
    for keep in (True, False):
        adata = kit.data(signal=False)
        if not keep:
            adata = adata[:, adata.var_names != kit.unseen].copy()
        keys = {"observed_layer": "observed", "depth_key": "depth", "control_key": "is_control"}
        model = kit.train(kit.model(adata, keys), max_steps=3)
        results.append(model.get_imputed_counts(tracks=NEW.iloc[[1]]))
    assert results[0].shape == results[1].shape
    assert (results[1] > 0).all(axis=None)


def test_a_new_experiment_is_predicted_at_the_median_depth_of_its_assay(kit):
    adata = kit.data(signal=False, n_biosamples=5, missing=0.0)
    adata = adata[:, adata.var_names != kit.unseen].copy()
    adata.var["reads"] = np.arange(11, adata.n_vars + 11) * 1000.0
    model = kit.train(kit.model(adata, {"depth_key": "reads", "control_key": "is_control"}), max_steps=3)
    expected = adata.var["reads"][adata.var["assay"] == "H3K4me3"].median()
    new = NEW.iloc[[1]]
    assert model.impute(tracks=new).var["depth"].iloc[0] == pytest.approx(expected, rel=1e-5)
    pd.testing.assert_frame_equal(
        model.get_imputed_counts(tracks=new), model.get_imputed_counts(tracks=new, depth=expected), rtol=1e-5
    )


def test_depth_may_be_told_per_track_or_for_all(model):
    table = NEW.assign(depth=[2000.0, np.nan])
    own = model.impute(tracks=NEW)
    told = model.impute(tracks=table)
    assert told.var["depth"].tolist() == pytest.approx([2000, own.var["depth"].iloc[1]], rel=1e-5)
    np.testing.assert_allclose(told.X[:, 0], own.X[:, 0] * 2000 / own.var["depth"].iloc[0], rtol=1e-5)
    np.testing.assert_allclose(told.X[:, 1], own.X[:, 1], rtol=1e-5)
    assert model.impute(tracks=table, depth=500).var["depth"].tolist() == pytest.approx([500, 500], rel=1e-5)


def test_depth_is_that_of_the_anndata_passed(adata, model):
    other = adata.copy()
    other.var["depth"] = other.var["depth"] * 2
    other.X = other.X * 2
    result = model.impute(other, indices=[0], tracks=["cell1.H3K4me1"])
    assert result.var["depth"].iloc[0] == pytest.approx(2 * adata.var.loc["cell1.H3K4me1", "depth"], rel=1e-5)
    plain = model.get_imputed_counts(tracks=["cell1.H3K4me1"], return_numpy=True)
    doubled = model.get_imputed_counts(other, tracks=["cell1.H3K4me1"], return_numpy=True)
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-4)  # twice the reads at twice the depth are the same rates


def test_denoising_and_imputation_agree_on_a_track_without_data(kit, model):
    imputed = model.get_imputed_counts(tracks=[kit.unseen], return_numpy=True)
    denoised = model.get_normalized_expression(tracks=[kit.unseen], return_numpy=True)
    np.testing.assert_allclose(denoised, imputed, rtol=1e-4)


# another AnnData


def test_other_regions_are_predicted_as_they_were_within_the_whole(adata, model, result):
    part = adata[70:140].copy()
    other = model.impute(part)
    assert list(other.obs_names) == list(adata.obs_names[70:140])
    np.testing.assert_allclose(other.X, result.X[70:140], rtol=1e-5)


def test_prediction_leaves_the_anndata_as_it_was(kit, model):
    fresh = kit.data()
    before = fresh.copy()
    model.impute(fresh)
    model.get_latent_representation(fresh)
    model.get_elbo(fresh)
    pd.testing.assert_frame_equal(fresh.obs, before.obs)
    pd.testing.assert_frame_equal(fresh.var, before.var)
    assert list(fresh.uns) == list(before.uns)
    np.testing.assert_array_equal(fresh.X, before.X)
    for name in before.layers:
        np.testing.assert_array_equal(fresh.layers[name], before.layers[name])


def test_a_view_or_a_file_is_predicted_on_like_memory(adata, model, result, tmp_path):
    view = adata[70:140]
    np.testing.assert_allclose(model.impute(view).X, result.X[70:140], rtol=1e-5)
    assert view.is_view
    adata.write_h5ad(tmp_path / "data.h5ad")
    backed = anndata.read_h5ad(tmp_path / "data.h5ad", backed="r")
    np.testing.assert_array_equal(model.impute(backed).X, result.X)


def test_other_tracks_are_refused(adata, model):
    with pytest.raises(ValueError, match="column 0 is cell3"):
        model.impute(adata[:, ::-1].copy())
    with pytest.raises(ValueError, match="missing cell1.H3K4me3"):
        model.impute(adata[:, 1:].copy())


# files


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_results_on_disk_are_those_in_memory(model, result, tmp_path, ending):
    path = tmp_path / f"imputed.{ending}"
    assert model.impute(out=path, batch_size=64) == path
    read = anndata.read_h5ad(path) if ending == "h5ad" else anndata.read_zarr(path)
    in_memory = model.impute(batch_size=64)
    assert_same_results(read, in_memory)
    np.testing.assert_allclose(read.X, result.X, rtol=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [None, "h5ad", "zarr"])
def test_a_result_names_its_model_and_which_of_its_tracks_were_measured(adata, model, kit, tmp_path, ending):
    here = adata.copy()
    here.uns["assembly"] = "mm10"
    asked = {"adata": here, "tracks": ["cell1.H3K4me1", kit.unseen], "depth": 5_000, "level": 0.9, "indices": [3, 2]}
    if ending is None:
        result = model.impute(**asked)
    else:
        path = model.impute(**asked, out=tmp_path / f"out.{ending}")
        result = anndata.read_h5ad(path) if ending == "h5ad" else anndata.read_zarr(path)
    found = dict(result.uns["chipvi"])
    assert (list(found.pop("measured")), list(found.pop("imputed"))) == (["cell1.H3K4me1"], [kit.unseen])
    assert found.pop("weights") == model.impute(indices=[0]).uns["chipvi"]["weights"]
    assert found.pop("model").startswith("ChipVI: 3 biosamples x 5 assays")
    assert found == {"version": chipvi.__version__, "level": 0.9, "depth": 5_000.0, "assembly": "mm10"}


def test_another_model_has_other_weights_and_a_result_without_a_missing_track_says_so(adata, model, kit, tmp_path):
    other = kit.train(kit.model(adata.copy()), max_steps=1, calibrate_unseen=False)
    path = other.impute(tracks=["cell1.H3K4me1"], out=tmp_path / "out.h5ad")
    found, ours = (source.uns["chipvi"] for source in (anndata.read_h5ad(path), model.impute(indices=[0])))
    assert found["weights"] != ours["weights"]
    assert len(found["imputed"]) == 0 and "depth" not in found and "assembly" not in found


def test_a_file_may_hold_some_regions_and_tracks(model, tmp_path):
    path = model.impute(indices=[9, 2, 9], tracks=["cell1.H3K4me1"], out=str(tmp_path / "some.h5ad"))
    assert_same_results(anndata.read_h5ad(path), model.impute(indices=[2, 9], tracks=["cell1.H3K4me1"]))


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("there.h5ad", FileExistsError, "there.h5ad exists already. Remove it, or write elsewhere"),
        ("result.csv", ValueError, "out must end in .h5ad or .zarr; got 'result.csv'"),
        ("nowhere/result.zarr", FileNotFoundError, "nowhere is no folder. Make it first"),
    ],
)
def test_files_that_cannot_be_written_are_refused(model, tmp_path, name, error, expected):
    (tmp_path / "there.h5ad").write_text("mine")
    with pytest.raises(error, match=expected):
        model.impute(out=tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["there.h5ad"]
    assert (tmp_path / "there.h5ad").read_text() == "mine"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_midway_leaves_nothing_behind(adata, tmp_path, error):
    def parts():
        yield {"X": np.ones((100, adata.n_vars), dtype=np.float32)}
        raise error

    with pytest.raises(error):
        write_h5ad(tmp_path / "result.h5ad", AnnData(obs=adata.obs, var=adata.var), parts())
    assert list(tmp_path.iterdir()) == []


# latents, samples, likelihoods


def test_the_latent_is_a_row_per_region_for_scanpy(kit, adata, model):
    latent = model.get_latent_representation()
    assert latent.shape == (280, 6)
    assert latent.dtype == np.float32
    assert latent.std(axis=0).max() > 0.01
    per_biosample = model.get_latent_representation(per_biosample=True)
    assert per_biosample.shape == (280, 3, 6)
    assert model.biosamples == ("cell1", "cell2", "cell3")
    np.testing.assert_allclose(per_biosample.mean(axis=1), latent, rtol=1e-4, atol=1e-6)
    copy = AnnData(obs=adata.obs[["chrom"]])
    copy.obsm["X_chipvi"] = latent
    n_threads = torch.get_num_threads()
    sc.pp.neighbors(copy, n_neighbors=5, use_rep="X_chipvi")
    torch.set_num_threads(n_threads)  # numba took all processors, for torch as well
    assert copy.obsp["distances"].shape == (280, 280)


def test_latents_are_in_the_order_asked_for(model):
    whole = model.get_latent_representation()
    order = [200, 5, 5, -1]
    np.testing.assert_allclose(model.get_latent_representation(indices=order), whole[order], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.get_latent_representation(batch_size=9), whole, rtol=1e-4, atol=1e-6)


def test_samples_follow_the_seed_and_scatter_around_the_imputed_count(model):
    tracks = ["cell1.H3K4me1", "cell2.H3K4me3"]
    draws = model.posterior_predictive_sample(tracks=tracks, n_samples=40)
    assert draws.shape == (280, 2, 40)
    assert draws.dtype == np.float32
    assert (draws == np.floor(draws)).all()
    np.testing.assert_array_equal(model.posterior_predictive_sample(tracks=tracks, n_samples=40), draws)
    assert (model.posterior_predictive_sample(tracks=tracks, n_samples=40, seed=1) != draws).any()
    imputed = model.get_imputed_counts(tracks=tracks, return_numpy=True)
    np.testing.assert_allclose(draws.mean(axis=(0, 2)), imputed.mean(axis=0), rtol=0.1)
    assert np.corrcoef(draws.mean(axis=2).ravel(), imputed.ravel())[0, 1] > 0.9
    parameters = model.get_likelihood_parameters(tracks=tracks, return_numpy=True)
    spread = NegativeBinomial(*(torch.from_numpy(parameters[key]) for key in ("mean", "dispersions"))).variance
    assert draws.var(axis=2).mean() > 0.7 * float(spread.mean())


def test_the_evidence_bound_is_below_the_marginal_likelihood(model):
    elbo, marginal = model.get_elbo(), model.get_marginal_ll(n_mc_samples=30)
    assert elbo < marginal
    assert model.get_marginal_ll(n_mc_samples=1) < marginal
    assert marginal < -model.get_reconstruction_error()["reconstruction_loss"] + 5
    assert model.get_elbo() == elbo


def test_one_importance_sample_is_the_evidence_bound_on_average(model):
    likelihood_r, kl_r, marginal_r = model._evidence(None, None, None, n_samples=1)
    error = np.std(marginal_r - (likelihood_r - kl_r)) / np.sqrt(280)
    assert np.mean(marginal_r) == pytest.approx(np.mean(likelihood_r - kl_r), abs=4 * error)


def test_bound_and_marginal_are_the_likelihood_where_the_latent_does_not_matter(kit):
    model = kit.train(kit.model(kit.data()))
    encoder, decoder = model.module.encoder, model.module.decoder
    with torch.no_grad():  # a posterior that is the prior, and a decoder that does not listen
        for parameter in [*encoder.mean.parameters(), *encoder.log_variance.parameters(), decoder.weight_ako]:
            parameter.zero_()
        for parameter in decoder.shared[-1].parameters():
            parameter.zero_()
    likelihood = -model.get_reconstruction_error()["reconstruction_loss"]
    assert model.get_elbo() == pytest.approx(likelihood, rel=1e-6)
    assert model.get_marginal_ll(n_mc_samples=7) == pytest.approx(likelihood, rel=1e-6)


def test_the_reconstruction_error_is_the_likelihood_of_what_was_observed(kit):
    adata = kit.data(signal=False)
    adata.layers["observed"][3:50, 2] = 0
    keys = {"observed_layer": "observed", "depth_key": "depth", "control_key": "is_control"}
    model = kit.train(kit.model(adata, keys), max_steps=30)
    module = model.module
    with torch.no_grad():  # without spread of the latent the sample is its mean
        module.encoder.log_variance.bias.fill_(-60)
        module.encoder.log_variance.weight.zero_()
        inputs = apply_task(module, kit.take(model, np.arange(280)), hide_nothing(module, 280), None)
        encoding = module.inference(inputs.visible, inputs.queries).without_own()
        counts = module.generative(encoding, inputs.queries, inputs.log_depth_rqg)[ViewKind.COUNTS].distribution
    total = 0.0
    for q, g in np.ndindex(*inputs.track_qg.shape):
        mean, size = counts.mean[:, q, g].double(), counts.theta[:, q, g].double()
        name = f"cell{q + 1}.{['H3K4me3', 'H3K4me1', 'H3K36me3', 'H3K27me3'][g]}"
        t = adata.var_names.get_loc(name)
        log_prob = scipy.stats.nbinom.logpmf(adata.X[:, t], size, size / (size + mean))
        total += (log_prob * adata.layers["observed"][:, t]).sum()
    assert model.get_reconstruction_error()["reconstruction_loss"] == pytest.approx(-total / 280, rel=1e-3)


def test_likelihoods_are_means_over_the_regions_asked_for(kit):
    model = kit.train(kit.model(kit.data()))
    with torch.no_grad():  # next to no spread of the latent
        model.module.encoder.log_variance.bias.fill_(-60)
        model.module.encoder.log_variance.weight.zero_()
    first, second, both = (
        model.get_reconstruction_error(indices=rows)["reconstruction_loss"] for rows in ([3], [90], [90, 3])
    )
    assert both == pytest.approx((first + second) / 2, abs=0.1)
    assert abs(first - second) > 1  # so that neither alone would do
    with pytest.raises(ValueError, match="n_mc_samples must be at least 1, got 0"):
        model.get_marginal_ll(n_mc_samples=0)


# before training


def test_a_model_says_that_it_is_not_trained(kit):
    model = kit.model(kit.data())
    for function in (
        model.impute,
        model.get_imputed_counts,
        model.get_imputed_pvalues,
        model.get_normalized_expression,
        model.get_prediction_interval,
        model.get_likelihood_parameters,
        model.posterior_predictive_sample,
        model.get_latent_representation,
        model.get_elbo,
        model.get_reconstruction_error,
        model.get_marginal_ll,
    ):
        with pytest.raises(RuntimeError, match="train"):
            function()


def test_an_unknown_head_is_refused(kit):
    with pytest.raises(ValueError, match="no count head is called 'gamma'"):
        kit.model(kit.data(), head="gamma")


def test_the_model_tells_what_it_is(model):
    assert "3 biosamples x 5 assays, 15 tracks, n_latent: 6, n_hidden: 24, head: mean_dispersion" in str(
        model._model_summary_string
    )
