"""Boosted trees as tensors, beside scikit-learn's own predictions."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from chipvi.calibrate.boosting import _sum_of
from chipvi.nn import BoostedTrees

N_FEATURES = 6


@pytest.fixture(scope="module")
def learnt():
    """Features with gaps in two of six columns, and a model that learnt from five of them."""
    random = np.random.default_rng(0)
    feature_rf = random.normal(size=(4_000, N_FEATURES)).astype(np.float32)
    feature_rf[:, 1][random.random(4_000) < 0.2] = np.nan
    feature_rf[:, 4][random.random(4_000) < 0.2] = np.nan
    rate_r = np.exp(feature_rf[:, 0] + np.where(np.isnan(feature_rf[:, 1]), 1.0, 0.5 * feature_rf[:, 1]))
    chosen = np.array([0, 1, 2, 4, 5])
    model = HistGradientBoostingRegressor(
        loss="poisson", max_iter=150, max_depth=4, min_samples_leaf=50, early_stopping=False, random_state=0
    ).fit(feature_rf[:, chosen], random.poisson(rate_r))
    return model, feature_rf, chosen


def make_trees(learnt):
    model, feature_rf, chosen = learnt
    trees = BoostedTrees(N_FEATURES)
    trees.set([_sum_of(model, feature_rf, chosen, track=3, view=0)])
    return trees


def test_the_sum_is_what_scikit_learn_predicts(learnt):
    model, feature_rf, chosen = learnt
    new_rf = np.random.default_rng(1).normal(size=(1_000, N_FEATURES)).astype(np.float32)
    new_rf[::3, 1] = np.nan
    trees = make_trees(learnt)
    for rows in (feature_rf, new_rf):
        log_rate_r1, may_believe_r1 = trees(torch.from_numpy(rows), [trees.find(3, 0)])
        np.testing.assert_allclose(np.exp(log_rate_r1[:, 0].numpy()), model.predict(rows[:, chosen]), rtol=1e-5)
        assert may_believe_r1.all()


def test_thresholds_are_on_the_right_side_of_every_float32(learnt):
    """At a value that is a threshold's own neighbour, the tree of scikit-learn and ours take the same branch."""
    model, feature_rf, chosen = learnt
    near_f = np.concatenate([tree.nodes["num_threshold"] for (tree,) in model._predictors]).astype(np.float32)
    near_f = near_f[np.isfinite(near_f)][:300]
    values = np.concatenate([near_f, np.nextafter(near_f, np.float32(9)), np.nextafter(near_f, np.float32(-9))])
    rows = np.repeat(values[:, None], N_FEATURES, axis=1)
    log_rate_r1, _ = make_trees(learnt)(torch.from_numpy(rows), [0])
    np.testing.assert_allclose(np.exp(log_rate_r1[:, 0].numpy()), model.predict(rows[:, chosen]), rtol=1e-5)


def test_what_was_never_missing_is_needed(learnt):
    trees = make_trees(learnt)
    for f, is_needed in enumerate([True, False, True, False, False, True]):
        rows = torch.zeros(1, N_FEATURES)
        rows[0, f] = torch.nan
        assert bool(trees(rows, [0])[1].item()) is not is_needed, f


def test_a_target_without_trees_has_none_and_none_may_be_cleared(learnt):
    trees = make_trees(learnt)
    assert trees.find(3, 0) == 0
    assert trees.find(3, 1) is None
    assert trees.find(2, 0) is None
    trees.clear()
    assert trees.find(3, 0) is None


def test_more_features_behind_the_known_ones_change_nothing(learnt):
    _, feature_rf, _ = learnt
    trees, wider = make_trees(learnt), BoostedTrees(N_FEATURES + 2)
    wider.extend_from(trees)
    more_rf = np.concatenate([feature_rf, np.full((len(feature_rf), 2), np.nan, np.float32)], axis=1)
    assert torch.equal(wider(torch.from_numpy(more_rf), [0])[0], trees(torch.from_numpy(feature_rf), [0])[0])
    assert wider(torch.from_numpy(more_rf), [0])[1].all()


def test_saved_trees_that_do_not_fit_are_refused(learnt):
    buffers = dict(make_trees(learnt).named_buffers())
    with pytest.raises(ValueError, match="leaf_njl"):
        BoostedTrees(N_FEATURES).take(buffers | {"leaf_njl": buffers["leaf_njl"][:, :-1]})
    with pytest.raises(ValueError, match="other features"):
        BoostedTrees(N_FEATURES).take(buffers | {"feature_njk": buffers["feature_njk"] + N_FEATURES})
