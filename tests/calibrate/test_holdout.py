"""What a model expects of experiments that it has never seen, learnt from imputing some that were measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chipvi
from chipvi.calibrate import holdout
from chipvi.calibrate.holdout import choose_held_out
from chipvi.data.grid import Grid
from chipvi.data.track_data import ViewKind
from chipvi.data.tracks import Tracks

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "seed": 1}
KEYS = {"observed_layer": "observed", "depth_key": "depth"}


# --- what is withheld ---


def make_grid(n_biosamples, n_assays, control=False):
    cells = [(f"cell{b}", f"assay{a}") for b in range(n_biosamples) for a in range(n_assays)]
    is_control = np.array([control and assay == "assay0" for _, assay in cells])
    biosamples, assays = zip(*cells, strict=True)
    names = tuple(".".join(cell) for cell in cells)
    return Grid.of(Tracks(names, biosamples, assays, is_control), [ViewKind.COUNTS], [ViewKind.COUNTS])


@pytest.mark.parametrize(("n_biosamples", "n_assays"), [(2, 5), (4, 6), (7, 4), (30, 20)])
def test_what_is_withheld_can_be_learnt_from_what_is_left(n_biosamples, n_assays):
    grid = make_grid(n_biosamples, n_assays, control=True)
    known_ba = np.random.default_rng(0).random((n_biosamples, n_assays)) < 0.8
    known_ba[:, 0] = True
    rounds = choose_held_out(grid, known_ba)
    tracks = np.concatenate(rounds)
    assert len(tracks) == len(set(tracks)) > 0
    assert known_ba[grid.biosample_t[tracks], grid.assay_t[tracks]].all()
    assert grid.is_target_t[tracks].all()
    for columns in rounds:
        left_ba = known_ba.copy()
        left_ba[grid.biosample_t[columns], grid.assay_t[columns]] = False
        assert (left_ba.any(axis=0) == known_ba.any(axis=0)).all()
        number_b = known_ba[:, 1:].sum(axis=1)
        lost_b = number_b - left_ba[:, 1:].sum(axis=1)
        assert (lost_b <= np.ceil(0.2 * number_b)).all()
        assert not lost_b[number_b < 3].any()


def test_rounds_differ_and_cover_assays():
    grid = make_grid(4, 6)
    first, second = choose_held_out(grid, np.ones((4, 6), dtype=bool))
    assert len(first) == len(second) == 8
    assert set(grid.assay_t[first]) == set(grid.assay_t[second]) == set(range(6))


def test_of_one_biosample_nothing_is_withheld():
    assert choose_held_out(make_grid(1, 6), np.ones((1, 6), dtype=bool)) == []


# --- data without tracks ---


def test_data_without_tracks_are_those_of_an_adata_without_them(kit):
    adata = kit.data()
    columns = np.array([0, 6])
    seen = kit.model(adata).data.without(columns)
    masked = adata.copy()
    masked.X[:, columns] = 0
    masked.layers["observed"][:, columns] = 0
    masked.layers["signal"][:, columns] = np.nan
    expected = kit.model(masked).data
    for kind in ViewKind:
        wanted = expected.read(3, 50).view(kind)
        for block in (seen.read(3, 50), seen.within(seen.segments, np.arange(20, 90)).read(3, 50)):
            np.testing.assert_array_equal(block.view(kind).value_rt, wanted.value_rt)
            np.testing.assert_array_equal(block.view(kind).present_rt, wanted.present_rt)
        for moment in ("number_t", "total_t", "squares_t"):
            found, wanted = (getattr(data.summary.view(kind), moment) for data in (seen, expected))
            np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(adata.X, kit.data().X)  # reading it wrote nothing


# --- held-out-track calibration ---


@pytest.fixture(scope="module")
def worlds():
    """Counts of 3 x 5, once as simulated and once with biosamples that differ in depth only, each without a track."""
    models = {}
    for name in ("different", "alike"):
        adata = chipvi.datasets.simulate(n_regions=6_000, n_biosamples=3, n_assays=5, missing=["cell3.H3K4me1"], seed=7)
        if name == "alike":
            random = np.random.default_rng(0)
            rate_rt = adata.layers["rate"] / adata.var["depth"].to_numpy()
            assay = adata.var["assay"].to_numpy()
            same_rt = rate_rt[:, [np.flatnonzero(assay == label)[0] for label in assay]]
            adata.X = random.poisson(same_rt * adata.var["depth"].to_numpy()).astype(np.float32)
        chipvi.ChipVI.setup_anndata(adata, **KEYS)
        model = chipvi.ChipVI(adata, n_latent=12, n_hidden=64)
        model.train(max_steps=300, batch_size=256, **QUIET)
        models[name] = model
    return models


def unseen(model):
    """What a model expects of counts."""
    return model.module.view(ViewKind.COUNTS).unseen


def test_the_average_is_followed_and_more_is_certain_where_biosamples_are_alike(worlds):
    (different,), (alike,) = (worlds[name].unseen_expectations.to_dict("records") for name in ("different", "alike"))
    assert alike["blend_weight"] > different["blend_weight"] + 0.03
    assert alike["log_spread"] > different["log_spread"] + 0.4  # of the dispersion, which is an inverse


def test_what_is_expected_of_empty_cells_is_a_table(worlds):
    model = worlds["alike"]
    (row,) = model.unseen_expectations.to_dict("records")
    assert [row[name] for name in ("biosample", "assay", "view")] == ["cell3", "H3K4me1", "counts"]
    at = model.grid.biosamples.index("cell3"), model.grid.assays.index("H3K4me1")
    for n, name in enumerate(("blend_weight", "log_amplitude", "log_spread")):
        assert row[name] == unseen(model).mean_bau[*at, n].item()
        assert row[f"{name}_std"] == unseen(model).std_bau[*at, n].item() > 0


def test_held_out_track_calibration_moves_nothing_but_what_nobody_has_measured(worlds):
    model = worlds["different"]
    plain = chipvi.ChipVI(model.adata, n_latent=12, n_hidden=64)
    plain.train(max_steps=300, batch_size=256, calibrate_unseen=False, **QUIET)
    first, second = (m.get_likelihood_parameters(indices=np.arange(500)) for m in (model, plain))
    measured = [name for name in model.adata.var_names if name != "cell3.H3K4me1"]
    for key in ("mean", "dispersions"):
        np.testing.assert_array_equal(first[key][measured], second[key][measured])
        assert not np.allclose(first[key]["cell3.H3K4me1"], second[key]["cell3.H3K4me1"])
    assert set(model.history) == set(plain.history)
    assert all(model.history[name].index.max() < 300 for name in model.history)


@pytest.mark.filterwarnings("ignore::chipvi.train.TrainingAdvice")
def test_a_training_that_stops_early_is_calibrated_as_briefly(kit, monkeypatch):
    model, n_steps = kit.model(kit.data()), []
    monkeypatch.setattr(holdout, "calibrate_unseen", lambda *arguments: n_steps.append(arguments[-1].n_steps))
    kit.train(model, max_steps=160, plan_kwargs={"lr": 0.3, "ema_decay": 0.5}, early_stopping=True, seed=3)
    assert 0 < n_steps[0] < 160


def test_what_was_learnt_of_unseen_experiments_is_saved(worlds, tmp_path):
    model = worlds["different"]
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", adata=model.adata)
    for name, expected in unseen(model).named_buffers():
        assert expected.any()
        assert torch.equal(unseen(loaded).get_buffer(name), expected)


def test_the_old_name_of_the_argument_works_and_is_warned_of(kit):
    adata = kit.data()
    with pytest.warns(FutureWarning, match="rehearsal= is now called calibrate_unseen="):
        old = kit.train(kit.model(adata), rehearsal=False)
    new = kit.train(kit.model(adata), calibrate_unseen=False)
    assert torch.equal(unseen(old).mean_bau, unseen(new).mean_bau)
    np.testing.assert_array_equal(old.impute().X, new.impute().X)


def test_a_full_grid_is_calibrated_if_asked_for(kit):
    adata = kit.data(missing=[])
    asked, plain = (kit.train(kit.model(adata), calibrate_unseen=wish) for wish in (True, None))
    assert not unseen(plain).precision_bau.any()
    assert unseen(asked).precision_bau.any()
    np.testing.assert_array_equal(asked.impute().X, plain.impute().X)


# --- queries ---


def test_a_new_biosample_tells_how_far_it_is_like_the_others(worlds):
    """Given two of its tracks, as those of a known biosample or as noise."""
    model = worlds["alike"]
    old = model.adata
    names = ["cell1.H3K36me3", "cell1.H3K27me3", "cell1.H3K9me3"]
    shares = {}
    for name in ("alike", "shuffled"):
        new = old[:, names].copy()
        new.var["biosample"] = "cell9"
        new.var_names = [track.replace("cell1", "cell9") for track in names]
        if name == "shuffled":
            new.X = new.X[np.random.default_rng(0).permutation(new.n_obs)]
        query = chipvi.ChipVI.load_query_data(new, model)
        shares[name] = unseen(query).mean_bau[3, :, 0].mean().item()
        assert torch.equal(unseen(query).mean_bau[:3], unseen(model).mean_bau)
    assert shares["alike"] > shares["shuffled"] + 0.2


def test_a_lone_track_of_a_new_biosample_is_expected_by_what_the_reference_has_tried(worlds):
    model = worlds["alike"]
    new = model.adata[:, ["cell1.H3K36me3"]].copy()
    new.var["biosample"], new.var_names = "cell9", ["cell9.H3K36me3"]
    query = unseen(chipvi.ChipVI.load_query_data(new, model))
    assert not query.precision_bau[3].any()
    assert (query.mean_bau[3, :, 2] > 0.4).all()  # biosamples are alike
    assert (query.std_bau[3] > 0).all()


def test_without_any_trial_the_defaults_stay(kit):
    """Of a reference with a full grid, and a lone track of a new biosample."""
    model = kit.train(kit.model(kit.data(missing=[])))
    new = model.adata[:, [0]].copy()
    new.var["biosample"], new.var_names = "new", ["new.track"]
    query = unseen(chipvi.ChipVI.load_query_data(new, model))
    assert torch.equal(query.mean_bau[..., 0], torch.full_like(query.mean_bau[..., 0], 0.25))
    assert not query.mean_bau[..., 1:].any()
    assert not query.std_bau.any()
