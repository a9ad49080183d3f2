"""What a model expects of experiments that it has never seen, learnt from imputing some that were measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

import chipvi
from chipvi.calibrate import holdout
from chipvi.calibrate.hierarchy import Trial, choose_weights
from chipvi.calibrate.holdout import choose_held_out
from chipvi.data.grid import Grid
from chipvi.data.track_data import ViewKind
from chipvi.data.tracks import Tracks

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "seed": 1}
KEYS = {"observed_layer": "observed", "depth_key": "depth"}


def make_trial(seed, biosample=0, assay=0, share=0.4, noise=1.0, kind=ViewKind.SIGNAL):
    """A track that is that share of the way from the network to the average, and noise."""
    random = np.random.default_rng(seed)
    network_r, average_r = random.gamma(2, 2, size=(2, 5_000))
    mean_r = network_r + share * (average_r - network_r)
    return Trial(biosample, assay, kind, random.normal(mean_r, noise), network_r, average_r, np.full(5_000, noise))


def squared_error(trial, share):
    """In variances of the track."""
    predicted_r = (1 - share) * trial.network_r + share * trial.average_r
    return np.mean((trial.measured_r - predicted_r) ** 2) / trial.measured_r.var()


# --- blend weights ---


def test_one_trial_and_the_default_share_the_squared_error():
    trial = make_trial(0, share=0.8)
    _, curve = trial.slope_and_curve
    pooled = minimize_scalar(lambda s: squared_error(trial, s) + curve * (s - 0.25) ** 2, bounds=(0, 1)).x
    own = minimize_scalar(lambda s: squared_error(trial, s), bounds=(0, 1)).x
    assert 0.5 < pooled < 0.55
    assert 0.75 < own < 0.85
    weight_ba = choose_weights([trial], np.full((2, 3), 0.25))
    # a trial of each counts two, the prior of no difference half of one: least squares give 2/5 to either
    effect = (own - pooled) / 2.5
    np.testing.assert_allclose(weight_ba[0], [pooled + 2 * effect, pooled + effect, pooled + effect], atol=1e-4)
    np.testing.assert_allclose(weight_ba[1], [pooled + effect, pooled, pooled], atol=1e-4)


def test_many_trials_outweigh_the_default_and_tell_assays_apart():
    trials = [make_trial(10 * b + a, b, a, share) for b in range(8) for a, share in enumerate([0.1, 0.6, 0.9])]
    weight_ba = choose_weights(trials, np.full((8, 3), 0.25))
    np.testing.assert_allclose(weight_ba, np.tile([0.1, 0.6, 0.9], (8, 1)), atol=0.05)


def test_many_trials_tell_biosamples_apart():
    trials = [make_trial(10 * b + a, b, a, share) for b, share in enumerate([0.1, 0.8]) for a in range(9)]
    weight_ba = choose_weights(trials, np.full((2, 9), 0.25))
    np.testing.assert_allclose(weight_ba, np.tile([[0.1], [0.8]], (1, 9)), atol=0.08)


@pytest.mark.parametrize("share", [-2.0, 3.0])
def test_shares_stay_between_0_and_1(share):
    weight_ba = choose_weights([make_trial(a, 0, a, share) for a in range(3)], np.full((1, 4), 0.5))
    assert weight_ba.min() >= 0
    assert weight_ba.max() <= 1


def test_where_there_is_no_average_the_default_stays():
    trial = make_trial(0)
    trial.average_r[:] = trial.network_r
    default_ba = np.array([[0.25, 0.5]])
    np.testing.assert_array_equal(choose_weights([trial], default_ba), default_ba)


# --- spread ---


def test_the_spread_of_signal_is_the_root_mean_square_of_the_errors():
    trial = make_trial(0, share=0.3, noise=2.0)
    trial.spread_r[:] = 0.5
    assert np.exp(trial.fit_log_factor(0.3)) == pytest.approx(4, rel=0.05)
    assert np.exp(trial.fit_log_factor(0.0)) > 4.2  # a worse mean is less certain


def test_the_dispersion_of_counts_is_found_again():
    random = np.random.default_rng(0)
    mean_r = random.gamma(2, 3, size=20_000)
    counts_r = random.negative_binomial(1.5, 1.5 / (1.5 + mean_r)).astype(float)
    trial = Trial(0, 0, False, counts_r, mean_r, mean_r, np.full(20_000, 6.0))
    assert np.exp(trial.fit_log_factor(0.0)) == pytest.approx(0.25, rel=0.05)


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


def test_the_average_is_followed_where_biosamples_are_alike(worlds):
    share = {name: model.module.blend.weight_ba.mean().item() for name, model in worlds.items()}
    assert share["different"] < share["alike"] - 0.1


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
    kit.train(model, max_steps=160, plan_kwargs={"lr": 0.3, "ema_decay": 0.5}, early_stopping=True)
    assert 0 < n_steps[0] < 160


def test_what_was_learnt_of_unseen_experiments_is_saved(worlds, tmp_path):
    model = worlds["different"]
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", adata=model.adata)
    assert torch.equal(loaded.module.blend.weight_ba, model.module.blend.weight_ba)
    found, expected = (m.module.view(ViewKind.COUNTS).calibration.log_spread_ba for m in (loaded, model))
    assert expected.any()
    assert torch.equal(found, expected)


def test_the_old_name_of_the_argument_works_and_is_warned_of(kit):
    adata = kit.data()
    with pytest.warns(FutureWarning, match="rehearsal= is now called calibrate_unseen="):
        old = kit.train(kit.model(adata), rehearsal=False)
    new = kit.train(kit.model(adata), calibrate_unseen=False)
    assert torch.equal(old.module.blend.weight_ba, new.module.blend.weight_ba)
    np.testing.assert_array_equal(old.impute().X, new.impute().X)


def test_a_full_grid_is_calibrated_if_asked_for(kit):
    adata = kit.data(missing=[])
    asked, plain = (kit.train(kit.model(adata), calibrate_unseen=wish) for wish in (True, None))
    assert torch.equal(plain.module.blend.weight_ba, torch.full_like(plain.module.blend.weight_ba, 0.25))
    assert not torch.equal(asked.module.blend.weight_ba, plain.module.blend.weight_ba)
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
        shares[name] = query.module.blend.weight_ba[3].mean().item()
        assert torch.equal(query.module.blend.weight_ba[:3], model.module.blend.weight_ba)
    assert shares["alike"] > shares["shuffled"] + 0.2


def test_a_lone_track_of_a_new_biosample_tells_nothing(worlds):
    model = worlds["alike"]
    new = model.adata[:, ["cell1.H3K36me3"]].copy()
    new.var["biosample"], new.var_names = "cell9", ["cell9.H3K36me3"]
    weight_ba = chipvi.ChipVI.load_query_data(new, model).module.blend.weight_ba
    np.testing.assert_allclose(weight_ba[3], model.module.blend.weight_ba.mean(dim=0), rtol=1e-6)
