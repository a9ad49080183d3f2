"""The two-state head from end to end: all that is asked of a model follows the mixture."""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom

import chipvi
from chipvi.data.track_data import ViewKind
from chipvi.evaluate.track_scores import score_counts
from chipvi.metrics import NBMixture

TRACKS = ["cell1.H3K4me1", "cell3.H3K4me3"]


@pytest.fixture(scope="module")
def model(kit):
    """Trained on peaks, so that the states differ. Not to be trained further."""
    adata = kit.data(n_regions=1_500, signal=False)
    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    return kit.train(chipvi.ChipVI(adata, head="two_state"), max_steps=150)


@pytest.fixture(scope="module")
def parameters(model):
    return model.get_likelihood_parameters(tracks=TRACKS)


def probabilities(parameters, counts):
    """P(X = k) of every entry by scipy, counts first."""
    named = {name: values.to_numpy(dtype=np.float64) for name, values in parameters.items()}
    d = named["state_dispersions"]
    parts = [nbinom.pmf(counts[:, None, None], d, d / (d + named[name])) for name in ("background_mean", "peak_mean")]
    return (1 - named["peak_probs"]) * parts[0] + named["peak_probs"] * parts[1]


def test_the_states_have_the_mean_and_differ(parameters):
    peak = parameters["peak_probs"]
    mean = (1 - peak) * parameters["background_mean"] + peak * parameters["peak_mean"]
    np.testing.assert_allclose(mean, parameters["mean"], rtol=1e-5)
    assert ((parameters["background_mean"] < mean) & (mean < parameters["peak_mean"])).all(axis=None)
    assert parameters["dispersions"].gt(0).all(axis=None)
    assert not np.allclose(parameters["dispersions"], parameters["state_dispersions"], rtol=0.1)


def test_quantiles_and_intervals_are_those_of_the_mixture(model, parameters):
    cumulative = probabilities(parameters, np.arange(3_000)).cumsum(axis=0)
    assert cumulative[-1].min() > 0.9999
    found = model.get_quantiles([0.025, 0.5, 0.975], tracks=TRACKS, return_numpy=True)
    for q, values in zip([0.025, 0.5, 0.975], np.moveaxis(found, -1, 0), strict=True):
        at, before = (
            np.take_along_axis(cumulative, np.maximum(values + shift, 0).astype(int)[None], axis=0)[0]
            for shift in (0, -1)
        )
        assert (at >= q - 1e-5).all()
        assert ((before < q + 1e-5) | (values == 0)).all()
    lower, upper = model.get_prediction_interval(tracks=TRACKS, return_numpy=True)
    np.testing.assert_array_equal(lower, found[..., 0])
    np.testing.assert_array_equal(upper, found[..., 2])
    imputed = model.impute(tracks=TRACKS)
    np.testing.assert_array_equal(imputed.layers["upper"], upper)
    np.testing.assert_array_equal(imputed.layers["dispersion"], parameters["dispersions"])
    np.testing.assert_array_equal(imputed.X, parameters["mean"])


def test_samples_follow_the_mixture(model):
    rows = np.arange(0, 1_500, 50)
    samples = model.posterior_predictive_sample(indices=rows, tracks=TRACKS, n_samples=1_000)
    quantiles = model.get_quantiles([0.1, 0.5, 0.9], indices=rows, tracks=TRACKS, n_samples=64, return_numpy=True)
    for number, q in enumerate([0.1, 0.5, 0.9]):
        assert (samples <= quantiles[..., number, None]).mean() > q > (samples < quantiles[..., number, None]).mean()


def test_depth_scales_the_mean_and_leaves_the_states(model, parameters):
    depth = float(model.adata.var.loc[TRACKS[0], "depth"])
    double = model.get_likelihood_parameters(tracks=TRACKS[:1], depth=2 * depth)
    for name in ("mean", "background_mean", "peak_mean"):
        np.testing.assert_allclose(double[name], 2 * parameters[name][TRACKS[:1]], rtol=1e-5)
    for name in ("peak_probs", "state_dispersions", "dispersions"):
        np.testing.assert_allclose(double[name], parameters[name][TRACKS[:1]], rtol=1e-5)


def test_scores_are_those_of_the_mixture(model, parameters):
    truth = model.adata[:, TRACKS].to_df()
    scores = score_counts(truth, NBMixture.from_parameters(parameters))
    mass = probabilities(parameters, np.arange(3_000))
    counts = truth.to_numpy().astype(int)
    expected = -np.log(np.take_along_axis(mass, counts[None], axis=0)[0]).mean(axis=0)
    np.testing.assert_allclose(scores["nll"], expected, rtol=1e-4)
    above = np.arange(3_000)[:, None, None] >= counts
    np.testing.assert_allclose(scores["crps"], ((mass.cumsum(axis=0) - above) ** 2).sum(axis=0).mean(axis=0), rtol=1e-4)


def test_the_diagnosis_judges_the_mixture(model, parameters):
    table = model.diagnose().table
    scores = score_counts(model.adata[:, TRACKS].to_df(), NBMixture.from_parameters(parameters))
    for name in ("nll", "pit_deviation", "coverage", "expected_coverage"):
        np.testing.assert_allclose(table.loc[TRACKS, name], scores[name], rtol=1e-3)


def test_recalibration_and_depth_leave_the_shares_of_the_states(model):
    view = model.module.view(ViewKind.COUNTS)
    assert view.calibration.level_ba.abs().max() > 0
    before = model.get_likelihood_parameters(tracks=TRACKS)
    kept = copy.deepcopy(model.module.state_dict())
    view.calibration.reset()
    plain = model.get_likelihood_parameters(tracks=TRACKS)
    model.module.load_state_dict(kept)
    for name in ("peak_probs", "state_dispersions", "dispersions"):
        np.testing.assert_allclose(before[name], plain[name], rtol=1e-5)
    ratio = before["mean"] / plain["mean"]
    np.testing.assert_allclose(before["peak_mean"] / plain["peak_mean"], ratio, rtol=1e-4)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio.iloc[0], ratio.shape), rtol=1e-5)


def test_heads_are_compared_by_their_whole_distribution(model):
    found = chipvi.compare_heads(model.adata, heads=["mean_dispersion", "two_state"], steps=30, seeds=[0])
    assert np.isfinite(found.table.loc[["mean_dispersion", "two_state"], ["nll", "crps", "pit_deviation"]]).all(
        axis=None
    )


def test_a_saved_model_predicts_the_same(model, parameters, tmp_path):
    model.save(tmp_path / "model", save_anndata=False)
    loaded = chipvi.ChipVI.load(tmp_path / "model", adata=model.adata)
    for name, values in loaded.get_likelihood_parameters(tracks=TRACKS).items():
        pd.testing.assert_frame_equal(values, parameters[name])
