"""A trained model takes up biosamples and assays that it has not seen, and stays as it is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import chipvi
from chipvi.data.track_data import ViewKind
from chipvi.metrics import leave_one_out_average, pearson, r2

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "seed": 1}
KEYS = {"observed_layer": "observed", "depth_key": "depth"}
NEW = "cell4"
GIVEN = ["cell4.H3K4me1", "cell4.H3K36me3", "cell4.H3K27me3"]
WANTED = ["cell4.H3K4me3", "cell4.H3K9me3"]


def table(names):
    """Experiments to predict, called as the tracks that nobody has run."""
    return pd.DataFrame([name.split(".") for name in names], columns=["biosample", "assay"], index=names)


@pytest.fixture(scope="module")
def world():
    """Counts of 4 biosamples x 5 assays, and a model of the first 3, trained on 3 of 4 chromosomes."""
    whole = chipvi.datasets.simulate(n_regions=6_000, n_biosamples=4, n_assays=5, depth_spread=0.2, seed=11)
    whole.obs["split"] = np.where(whole.obs["chrom"] == "chr4", "test", "train")
    reference = whole[:, (whole.var["biosample"] != NEW).to_numpy()].copy()
    chipvi.ChipVI.setup_anndata(reference, **KEYS)
    model = chipvi.ChipVI(reference, n_latent=12, n_hidden=64)
    model.train(max_steps=250, batch_size=256, split_key="split", validation_size=0.0, **QUIET)
    return SimpleNamespace(whole=whole, model=model, test=(whole.obs["split"] == "test").to_numpy())


@pytest.fixture(scope="module")
def query(world):
    return chipvi.ChipVI.load_query_data(world.whole[:, GIVEN].copy(), world.model)


def measured(adata, name):
    return np.asarray(adata[:, name].X, dtype=np.float64)


# --- what it predicts ---


def test_a_new_biosample_is_imputed_better_than_by_the_average_of_the_others(world, query):
    var = world.whole.var
    rate_rt = np.asarray(world.whole.X) / var["depth"].to_numpy()
    average_rt = leave_one_out_average(rate_rt, np.isfinite(rate_rt), var["biosample"], var["assay"])
    columns = world.whole.var_names.get_indexer(WANTED)
    truth = world.whole.layers["rate"][world.test][:, columns]
    ours = query.get_imputed_counts(tracks=table(WANTED), indices=world.test, return_numpy=True)
    assert pearson(truth, ours).mean() > pearson(truth, average_rt[world.test][:, columns]).mean() + 0.02


def test_a_new_biosample_is_denoised_towards_its_true_rate(world, query):
    columns = world.whole.var_names.get_indexer(GIVEN)
    truth, raw = world.whole.layers["rate"][:, columns], np.asarray(world.whole.X)[:, columns]
    denoised = query.get_normalized_expression(tracks=GIVEN, return_numpy=True)
    imputed = query.get_imputed_counts(tracks=GIVEN, return_numpy=True)
    assert np.all(r2(truth, denoised) > r2(truth, raw))
    assert np.all(r2(truth, denoised) > r2(truth, imputed))


def test_the_given_tracks_tell_of_the_others(world, query):
    one = chipvi.ChipVI.load_query_data(world.whole[:, GIVEN[1:2]].copy(), world.model)
    truth = world.whole.layers["rate"][:, world.whole.var_names.get_indexer(WANTED)]
    scores = [pearson(truth, q.get_imputed_counts(tracks=table(WANTED), return_numpy=True)) for q in (one, query)]
    assert scores[1].mean() > scores[0].mean()


def test_depth_has_the_unit_of_the_reference(world, query):
    np.testing.assert_allclose(
        query.impute(tracks=GIVEN, indices=[0]).var["depth"], world.whole.var.loc[GIVEN, "depth"], rtol=1e-5
    )
    own = query.get_imputed_counts(tracks=GIVEN, return_numpy=True).mean(axis=0)
    np.testing.assert_allclose(own, np.asarray(world.whole[:, GIVEN].X).mean(axis=0), rtol=0.35)


def test_without_depths_a_query_of_fewer_regions_is_as_deep(kit):
    keys = {"observed_layer": "observed"}
    whole = kit.data(n_biosamples=4, controls=False, signal=False, missing=[])
    model = kit.train(kit.model(whole[:, :12].copy(), keys))
    everywhere = chipvi.ChipVI.load_query_data(whole[:, 12:].copy(), model)
    half = chipvi.ChipVI.load_query_data(whole[:140, 12:].copy(), model)
    reads_t = np.asarray(whole.X)[:, 12:].sum(axis=0)
    np.testing.assert_allclose(everywhere.impute(indices=[0]).var["depth"].iloc[12:], reads_t, rtol=1e-5)
    reads_t = 2 * np.asarray(whole.X)[:140, 12:].sum(axis=0)
    np.testing.assert_allclose(half.impute(indices=[0]).var["depth"].iloc[12:], reads_t, rtol=1e-5)


def test_a_query_of_signal_alone_gets_counts(kit, model):
    new = kit.data(n_biosamples=4)[:, -5:].copy()
    new.X = None
    del new.layers["observed"], new.var["is_control"]
    query = chipvi.ChipVI.load_query_data(new[:, :2].copy(), model)
    result = query.impute(tracks=["cell4.H3K4me3", "cell1.H3K4me3"])
    assert np.isfinite(result.X).all() and np.isfinite(result.layers["pval"]).all()


def test_a_query_of_counts_alone_gets_signal(kit, model):
    new = kit.data(n_biosamples=4)[:, -5:].copy()
    del new.layers["signal"]
    query = chipvi.ChipVI.load_query_data(new, model)
    assert np.isfinite(query.get_imputed_pvalues(tracks=["cell4.H3K4me3"], return_numpy=True)).all()


# --- new assays ---


def test_a_new_assay_leaves_predictions_of_the_reference_alone(world):
    new = world.whole[:, [GIVEN[0]]].copy()
    new.var["biosample"], new.var["assay"] = "cell1", "ATAC"
    new.var_names = ["cell1.ATAC"]
    query = chipvi.ChipVI.load_query_data(new, world.model)
    before = world.model.get_imputed_counts(return_numpy=True)
    after = query.get_imputed_counts(tracks=list(world.model.adata.var_names), return_numpy=True)
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_a_new_assay_is_imputed_in_biosamples_that_lack_it(world):
    assays = world.whole.var["assay"] != "H3K4me1"
    reference = world.whole[:, (assays & (world.whole.var["biosample"] != NEW)).to_numpy()].copy()
    chipvi.ChipVI.setup_anndata(reference, **KEYS)
    model = chipvi.ChipVI(reference, n_latent=12, n_hidden=64)
    model.train(max_steps=150, batch_size=256, **QUIET)
    query = chipvi.ChipVI.load_query_data(world.whole[:, ["cell1.H3K4me1", "cell2.H3K4me1"]].copy(), model)
    query.train(max_steps=60, batch_size=256, **QUIET)
    truth = measured(world.whole, "cell3.H3K4me1")
    imputed = query.get_imputed_counts(tracks=table(["cell3.H3K4me1"]), return_numpy=True)
    assert pearson(truth, imputed) > 0.3


def test_a_new_biosample_takes_less_of_the_average_than_a_new_assay(world):
    new = world.whole[:, GIVEN[:2]].copy()
    new.var["assay"] = ["H3K4me1", "ATAC"]
    query = chipvi.ChipVI.load_query_data(new, world.model)
    share_ba = query.module.view(ViewKind.COUNTS).unseen.mean_bau[..., 0]
    np.testing.assert_array_equal(share_ba[3], [0.25] * 5 + [0.5])
    np.testing.assert_array_equal(share_ba[:, 5], 0.5)


# --- what does not change ---


def test_the_reference_and_the_query_stay_as_they_are(world):
    new = world.whole[:, GIVEN].copy()
    before = world.model.impute(indices=np.arange(300))
    state = {name: value.clone() for name, value in world.model.module.state_dict().items()}
    held, obs = new.copy(), world.model.adata.obs.copy()
    query = chipvi.ChipVI.load_query_data(new, world.model)
    query.train(max_steps=3, **QUIET)
    after = world.model.impute(indices=np.arange(300))
    np.testing.assert_array_equal(after.X, before.X)
    for name in before.layers:
        np.testing.assert_array_equal(after.layers[name], before.layers[name])
    for name, value in world.model.module.state_dict().items():
        assert torch.equal(value, state[name])
    np.testing.assert_array_equal(new.X, held.X)
    pd.testing.assert_frame_equal(new.obs, held.obs)
    pd.testing.assert_frame_equal(new.var, held.var)
    assert new.uns.keys() == held.uns.keys()
    pd.testing.assert_frame_equal(world.model.adata.obs, obs)


def test_a_query_keeps_the_name_of_the_assembly(world):
    new = world.whole[:, GIVEN].copy()
    new.uns["assembly"] = "hg19"
    query = chipvi.ChipVI.load_query_data(new, world.model)
    assert query.impute(indices=[0]).uns["chipvi"]["assembly"] == "hg19"


def test_training_moves_only_what_is_new(world):
    new = world.whole[:, GIVEN[:2]].copy()
    new.var["assay"] = ["H3K4me1", "ATAC"]
    query = chipvi.ChipVI.load_query_data(new, world.model)
    before = {name: value.clone() for name, value in query.module.state_dict().items()}
    query.train(max_steps=12, plan_kwargs={"weight_decay": 0.1}, **QUIET)
    moved = {
        name: (value != before[name]) for name, value in query.module.state_dict().items()
        if not torch.equal(value, before[name])
    }  # fmt: skip
    is_new_ba = torch.zeros(4, 6, dtype=torch.bool)
    is_new_ba[3, [1, 5]] = True
    for name in [name for name in moved if name.endswith("_ba")]:
        assert not moved.pop(name)[~is_new_ba].any(), name
    assert moved.keys() == {
        "biosamples.vectors.weight",
        "decoder.assays.weight",
        "decoder.weight_ako",
        "decoder.bias_ao",
        "encoder.layers.0.weight",
    }
    assert moved["biosamples.vectors.weight"].any(dim=1).tolist() == [False, False, False, True, False]
    for name in ("decoder.assays.weight", "decoder.weight_ako", "decoder.bias_ao"):
        assert moved[name].flatten(1).any(dim=1).tolist() == [False] * 5 + [True]
    n_slots = 3 * len(query.module.half_widths) + 3
    columns = moved["encoder.layers.0.weight"].any(dim=0)
    assert not columns[: 5 * n_slots].any() and not columns[6 * n_slots :].any()
    assert all(parameter.requires_grad for parameter in query.module.parameters())


def test_training_makes_the_given_cells_known_and_no_others(world):
    query = chipvi.ChipVI.load_query_data(world.whole[:, GIVEN].copy(), world.model)
    assert query.module.known_ba.sum() == 15 and not query.module.known_ba[3].any()
    query.train(max_steps=3, **QUIET)
    assert query.module.known_ba[:3].all()
    assert query.module.known_ba[3].sum() == 3


def test_training_is_short_unless_told_otherwise(kit, model):
    query = chipvi.ChipVI.load_query_data(kit.data(n_biosamples=4)[:, -5:].copy(), model)
    query.train(batch_size=32, **QUIET)
    assert query.history["train_loss"].index[-1] < 300


# --- regions ---


def test_in_shared_regions_the_reference_stands_and_elsewhere_it_is_missing(world):
    new = world.whole[1_000:2_000, GIVEN].copy()
    new.obs.loc[new.obs_names[500:], ["start", "end"]] += 10**6
    query = chipvi.ChipVI.load_query_data(new, world.model)
    n_known = world.model.adata.n_vars
    joined = query.adata
    assert list(joined.var_names) == [*world.model.adata.var_names, *GIVEN]
    np.testing.assert_array_equal(joined.X[:500, :n_known], np.asarray(world.model.adata.X)[1_000:1_500])
    assert np.isnan(joined.X[500:, :n_known]).all()
    assert not joined.layers["observed"][500:, :n_known].any()
    np.testing.assert_array_equal(joined.X[:, n_known:], np.asarray(new.X))


def test_without_a_shared_region_the_own_tracks_are_all_there_is(world):
    new = world.whole[world.test][:, GIVEN].copy()
    new.obs[["start", "end"]] += 10**7
    with pytest.warns(UserWarning, match="no region of the query is a region of the reference"):
        query = chipvi.ChipVI.load_query_data(new, world.model)
    imputed = query.get_imputed_counts(tracks=table(WANTED), return_numpy=True)
    assert np.all(pearson(world.whole[world.test][:, WANTED].X, imputed) > 0.05)


def test_regions_of_segments_are_told_by_name(kit):
    whole = kit.data(n_biosamples=4, controls=False, signal=False, missing=[])
    whole.obs = pd.DataFrame({"gene": np.repeat([f"g{i}" for i in range(28)], 10)}, index=whole.obs_names)
    model = kit.train(kit.model(whole[:, :12].copy(), {"segment_key": "gene"}))
    query = chipvi.ChipVI.load_query_data(whole[100:, 12:].copy(), model)
    np.testing.assert_array_equal(query.adata.X, np.asarray(whole.X)[100:])


# --- files ---


@pytest.mark.parametrize("steps", [0, 3], ids=["as it is", "trained"])
def test_a_query_is_saved_and_loaded(world, tmp_path, steps):
    query = chipvi.ChipVI.load_query_data(world.whole[:, GIVEN].copy(), world.model)
    if steps:
        query.train(max_steps=steps, **QUIET)
    query.save(tmp_path / "query", save_anndata=True)
    loaded = chipvi.ChipVI.load(tmp_path / "query", accelerator="cpu")
    np.testing.assert_array_equal(
        loaded.get_imputed_counts(tracks=table(WANTED)), query.get_imputed_counts(tracks=table(WANTED))
    )
    before = loaded.module.encoder.mean.weight.clone()
    loaded.train(max_steps=3, **QUIET)
    assert torch.equal(loaded.module.encoder.mean.weight, before)


def test_a_saved_model_can_be_the_reference(world, query, tmp_path):
    world.model.save(tmp_path / "model", save_anndata=True)
    again = chipvi.ChipVI.load_query_data(world.whole[:, GIVEN].copy(), tmp_path / "model")
    np.testing.assert_array_equal(
        again.get_imputed_counts(tracks=table(WANTED)), query.get_imputed_counts(tracks=table(WANTED))
    )


def test_a_query_can_be_the_reference_of_another(world):
    first = chipvi.ChipVI.load_query_data(world.whole[:, GIVEN[:2]].copy(), world.model)
    second = chipvi.ChipVI.load_query_data(world.whole[:, GIVEN[2:]].copy(), first)
    assert second.adata.n_vars == 18
    assert np.isfinite(second.get_imputed_counts(tracks=table(WANTED), return_numpy=True)).all()


# --- errors ---


def other_labels(adata, **labels):
    for column, value in labels.items():
        adata.var[column] = value
    return adata


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda new: other_labels(new[:, :1].copy(), biosample="cell1"), "cell4.H3K4me1 are there already"),
        (lambda new: other_labels(new[:, :1].copy(), assay="ATAC"), "must share an assay with the reference; it has"),
        (lambda new: new[:, :0].copy(), "must hold regions"),
        (lambda new: new.var.rename(columns={"depth": "reads"}), "depth_key 'depth' is not in adata.var"),
        (lambda new: new.layers.pop("observed"), "observed_layer 'observed' is not in adata.layers"),
    ],
    ids=["known experiments", "nothing in common", "empty", "no depth", "no observed layer"],
)  # fmt: skip
def test_a_query_that_does_not_fit_is_refused(world, change, expected):
    new = world.whole[:, GIVEN].copy()
    changed = change(new)
    if isinstance(changed, pd.DataFrame):
        new.var = changed
    elif isinstance(changed, type(new)):
        new = changed
    with pytest.raises(ValueError, match=expected):
        chipvi.ChipVI.load_query_data(new, world.model)


def test_a_name_that_the_reference_has_is_refused(world):
    new = world.whole[:, GIVEN[:1]].copy()
    new.var_names = ["cell1.H3K4me1"]
    with pytest.raises(ValueError, match="cell1.H3K4me1 is taken. Rename"):
        chipvi.ChipVI.load_query_data(new, world.model)


def test_an_untrained_reference_is_refused(kit):
    model = kit.model(kit.data())
    with pytest.raises(ValueError, match="not trained yet"):
        chipvi.ChipVI.load_query_data(kit.data(n_biosamples=4)[:, -5:].copy(), model)


def test_counts_do_not_fit_a_model_of_signal(kit):
    adata = kit.data()
    adata.X = None
    model = kit.train(kit.model(adata, {"signal_layer": "signal", "control_key": "is_control"}))
    new = kit.data(n_biosamples=4)[:, -5:].copy()
    del new.layers["signal"]
    with pytest.raises(ValueError, match="the query has no signal, which the reference was trained on"):
        chipvi.ChipVI.load_query_data(new, model)


def test_a_query_without_anything_new_to_learn_says_so(kit, adata):
    reference = adata[:, adata.var_names != kit.unseen].copy()
    query = chipvi.ChipVI.load_query_data(kit.data(missing=[])[:, [kit.unseen]].copy(), kit.train(kit.model(reference)))
    with pytest.raises(ValueError, match="there is nothing to train on it"):
        query.train(max_steps=3, **QUIET)
