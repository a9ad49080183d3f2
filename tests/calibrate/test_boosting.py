"""Boosted trees beside the network: what they see, when they are asked, and what they change."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

import chipvi
from chipvi.calibrate import boosting
from chipvi.calibrate.boosting import choose_tracks
from chipvi.predict.predictor import TREES_WEIGHT

STEPS = {"max_steps": 60, "seed": 0, "calibrate_unseen": False, "enable_progress_bar": False}


@pytest.fixture(scope="module")
def adata():
    return chipvi.datasets.simulate(n_regions=3_000, seed=0)


@pytest.fixture(scope="module")
def models(adata):
    """The same training without trees, and with them."""
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth")
    found = []
    for boosted in (False, True):
        model = chipvi.ChipVI(adata)
        model.train(boosted_trees=boosted, **STEPS)
        found.append(model)
    return found


def some_track(adata):
    return adata.var_names[~adata.var["is_control"].to_numpy(bool)][0]


def test_the_mean_is_the_geometric_one_of_network_and_trees(models, adata):
    from chipvi.data.minibatch import take_regions
    from chipvi.module.inputs import Visible

    alone, both = models
    track = some_track(adata)
    t = adata.var_names.get_loc(track)
    rows = np.arange(0, 3_000, 7)
    visible = Visible.everything(take_regions(both.data, rows, both.module.half_widths), both.module.log_depth_t)
    log_rate_r1, _ = both.module.trees(both.module.tree_features(visible), [both.module.trees.find(t, 0)])
    log_trees_r = log_rate_r1[:, 0].numpy() + both.module.log_depth_array_t[t]
    # what recalibration corrects is the product, so that both models are compared before it
    for model in models:
        model.module.view("counts").calibration.reset()
    log_network_r = np.log(alone.get_imputed_counts(indices=rows, tracks=[track])[track].to_numpy())
    log_both_r = np.log(both.get_imputed_counts(indices=rows, tracks=[track])[track].to_numpy())
    expected_r = (1 - TREES_WEIGHT) * log_network_r + TREES_WEIGHT * log_trees_r
    np.testing.assert_allclose(log_both_r, expected_r, atol=1e-4)
    assert r2_score(adata.X[rows, t], np.exp(log_trees_r)) > 0.3


def test_own_data_leave_no_trace(models, adata):
    _, both = models
    track = some_track(adata)
    other = adata.copy()
    other.X[:, adata.var_names.get_loc(track)] = np.random.default_rng(0).poisson(50, adata.n_obs)
    before, after = (both.get_imputed_counts(adata=a, tracks=[track]).to_numpy() for a in (adata, other))
    assert np.array_equal(before, after)


def test_trees_are_not_asked_where_a_track_is_hidden_that_they_always_saw(models, adata):
    alone, both = models
    track, *others = adata.var_names[~adata.var["is_control"].to_numpy(bool)]
    hidden = adata.copy()
    hidden.X[:, adata.var_names.isin(others[:6])] = np.nan
    for model in models:
        model.module.view("counts").calibration.reset()
    found = [model.get_imputed_counts(adata=hidden, tracks=[track]).to_numpy() for model in (alone, both)]
    assert np.array_equal(*found)


def test_denoising_is_the_network_alone(models):
    alone, both = models
    assert np.array_equal(alone.get_normalized_expression(), both.get_normalized_expression())


def test_a_track_is_never_among_those_it_is_predicted_from(models, adata):
    _, both = models
    measured_t = np.ones(adata.n_vars, dtype=bool)
    measured_t[2] = False
    for t in range(adata.n_vars):
        chosen = choose_tracks(both.module, t, measured_t)
        assert t not in chosen
        assert 2 not in chosen
        own = adata.var["biosample"].to_numpy() == adata.var["biosample"].iloc[t]
        n_own = int((own & measured_t).sum()) - measured_t[t]
        assert own[chosen[:n_own]].all()


def test_few_regions_have_no_trees():
    small = chipvi.datasets.simulate(n_regions=1_000, seed=0)
    chipvi.ChipVI.setup_anndata(small, depth_key="depth")
    model = chipvi.ChipVI(small)
    model.train(boosted_trees=True, **STEPS)
    assert not len(model.module.trees.track_n)


def test_a_saved_model_keeps_its_trees(models, adata, tmp_path):
    _, both = models
    both.save(tmp_path / "model", save_anndata=False)
    loaded = chipvi.ChipVI.load(tmp_path / "model", adata)
    assert np.array_equal(loaded.get_imputed_counts(), both.get_imputed_counts())
    assert len(loaded.module.trees.track_n) == len(both.module.trees.track_n) > 0


def test_trees_are_learnt_for_the_views_that_a_track_has():
    adata = chipvi.datasets.simulate(n_regions=2_000, n_biosamples=2, n_assays=2, signal=True, seed=1)
    adata.layers["signal"][:, 2:] = np.nan
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth", signal_layer="signal")
    model = chipvi.ChipVI(adata, n_latent=4, n_hidden=16)
    found = {}
    for wish in (True, None):
        model.train(boosted_trees=wish, **(STEPS | {"max_steps": 1}))
        trees = model.module.trees
        found[wish] = [[trees.find(t, view) is not None for view in (0, 1)] for t in range(4)]
    assert found[True] == [[True] * 2] * 2 + [[True, False]] * 2
    # by default, so few regions are too few for counts
    assert found[None] == [[False, True]] * 2 + [[False] * 2] * 2


@pytest.mark.parametrize(("bin_size", "n_regions", "fewest"), [(200, 2_400, 100), (50, 9_600, 400)])
def test_a_leaf_holds_as_many_base_pairs_whatever_the_width_of_bins(monkeypatch, bin_size, n_regions, fewest):
    adata = chipvi.datasets.simulate(n_regions=n_regions, n_biosamples=1, n_assays=2, bin_size=bin_size, seed=1)
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth")
    models, learn = [], boosting._learn
    monkeypatch.setattr(boosting, "_learn", lambda *args: models.append(learn(*args)) or models[-1])
    chipvi.ChipVI(adata, n_latent=4, n_hidden=16).train(boosted_trees=True, **(STEPS | {"max_steps": 1}))
    nodes = [tree.nodes for model in models for (tree,) in model._predictors]
    assert len(nodes) == 2 * 150
    assert fewest <= min(node["count"][node["is_leaf"] == 1].min() for node in nodes) < 2 * fewest
