"""Training: what it writes down, what it looks at, when it stops, and that it learns."""

from __future__ import annotations

import copy
import signal

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from sklearn.metrics import r2_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from chipvi import metrics
from chipvi.data.loader import FixedMinibatches
from chipvi.data.segments import Segments
from chipvi.data.splits import split_regions
from chipvi.data.track_data import ViewKind
from chipvi.nn import COUNT_HEADS, MeanDispersion
from chipvi.train.plan import PlanOptions, TrainingPlan
from chipvi.train.recorder import FitScores


def weights(model):
    return copy.deepcopy(model.module.state_dict())


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# history

LOGGED = {
    "train_loss", "kl", "obs_count_loss", "imp_count_loss", "imp_signal_loss", "imp_count_r2", "imp_count_pcc",
    "obs_count_r2", "obs_count_pcc", "imp_pval_r2", "imp_pval_pcc", "grad_norm", "grad_norm_trunk",
    "grad_norm_count_head", "grad_norm_signal_head", "predicted_mean", "true_mean", "kl_weight", "lr",
    "clamped_mean", "clamped_dispersion", "dispersion", "moment_dispersion", "floored_std", "signal_std",
    "active_latents", "nonfinite_steps",
}  # fmt: skip
BY_TRACK = {
    "entries_by_track", "predicted_mean_by_track", "true_mean_by_track", "predicted_max_by_track", "true_max_by_track",
}  # fmt: skip
VALIDATED = {
    "validation_loss", "validation_imp_count_loss", "validation_imp_signal_loss", "validation_imp_count_r2",
    "validation_imp_count_pcc", "validation_imp_pval_r2", "validation_imp_pval_pcc",
}  # fmt: skip


def test_the_history_is_by_step_and_finite(kit):
    model = kit.model(kit.data())
    assert model.history is None
    kit.train(model, max_steps=40, plan_kwargs={"log_every_n_steps": 10})
    assert set(model.history) == LOGGED | VALIDATED | BY_TRACK | {"kl_by_latent", "elbo_train", "epoch"}
    for name, table in model.history.items():
        assert table.index.name == "step"
        if "_by_" not in name:
            assert list(table.columns) == [name]
            assert np.isfinite(table.to_numpy()).all()
    assert list(model.history["train_loss"].index) == [0, 9, 19, 29, 39]
    assert list(model.history["validation_loss"].index) == list(range(2, 41, 2))
    kl_weight = model.history["kl_weight"]["kl_weight"]
    assert kl_weight.is_monotonic_increasing
    assert (kl_weight.iloc[0], kl_weight.iloc[-1]) == (0, 1)


def test_tracks_and_latents_have_columns_of_their_own(kit):
    adata = kit.data()
    model = kit.train(kit.model(adata), max_steps=40, plan_kwargs={"log_every_n_steps": 20})
    targets = adata.var_names[~adata.var["is_control"]]
    for name in BY_TRACK:
        assert list(model.history[name].columns) == [f"{name}.{track}" for track in targets]
    last = {name: model.history[name].iloc[-1].to_numpy() for name in BY_TRACK}
    is_seen = targets != kit.unseen
    np.testing.assert_array_equal(last["entries_by_track"] > 0, is_seen)
    for name in BY_TRACK - {"entries_by_track"}:
        np.testing.assert_array_equal(np.isfinite(last[name]), is_seen)
    for kind in ("predicted", "true"):
        assert (last[f"{kind}_max_by_track"] >= last[f"{kind}_mean_by_track"])[is_seen].all()
        assert np.nanmean(last[f"{kind}_mean_by_track"]) == pytest.approx(model.history[f"{kind}_mean"].iloc[-1, 0])
    kl_by_latent = model.history["kl_by_latent"]
    assert list(kl_by_latent.columns) == [f"kl_by_latent.{k}" for k in range(6)]
    assert kl_by_latent.iloc[0].sum() == pytest.approx(model.history["kl"].iloc[0, 0], rel=1e-5)
    np.testing.assert_array_equal((kl_by_latent > 0.01).sum(axis=1), model.history["active_latents"].iloc[:, 0])


def test_the_history_makes_one_table_for_a_file(kit, tmp_path):
    model = kit.train(kit.model(kit.data()))
    pd.concat(model.history.values(), axis=1).to_csv(tmp_path / "history.csv")
    table = pd.read_csv(tmp_path / "history.csv", index_col="step")
    assert table.columns.is_unique
    assert {"train_loss", "true_mean_by_track.cell1.H3K4me3", "kl_by_latent.5"} <= set(table.columns)


def test_loggers_get_all_that_the_history_gets(kit, tmp_path):
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="board")]
    model = kit.train(kit.model(kit.data()), max_steps=20, logger=loggers)
    history = pd.concat(model.history.values(), axis=1)
    csv = pd.read_csv(tmp_path / "csv/version_0/metrics.csv").set_index("step")
    assert set(history.columns) <= set(csv.columns)
    np.testing.assert_allclose(csv["train_loss"].dropna(), history["train_loss"].dropna())
    board = EventAccumulator(str(tmp_path / "board/version_0"))
    board.Reload()
    assert set(history.columns) <= set(board.Tags()["scalars"])


@pytest.mark.parametrize(("clamp", "share"), [(0.0, 1.0), (None, 0.0)])
def test_the_share_of_entries_at_a_clamp_is_that_of_the_targets(kit, clamp, share):
    model = kit.train(kit.model(kit.data(), head="clamped_np", head_options={"logit_clamp": clamp}), max_steps=1)
    assert model.history["clamped_logit"].iloc[0, 0] == share
    assert model.history["clamped_count"].iloc[0, 0] == 0


def test_the_dispersion_starts_at_the_moments(kit):
    history = kit.train(kit.model(kit.data()), max_steps=1).history
    assert history["dispersion"].iloc[0, 0] == pytest.approx(history["moment_dispersion"].iloc[0, 0], rel=1e-4)
    assert "dispersion" not in kit.train(kit.model(kit.data(), head="poisson"), max_steps=1).history


def test_predicted_and_true_mean_meet_at_the_start(kit):
    model = kit.train(kit.model(kit.data()), batch_size=280, validation_size=0)
    first = {name: model.history[name][name].iloc[0] for name in ("predicted_mean", "true_mean")}
    assert first["predicted_mean"] == pytest.approx(first["true_mean"], rel=0.3)


def test_without_signal_the_history_has_none(kit):
    model = kit.train(kit.model(kit.data(signal=False), {"observed_layer": "observed"}))
    assert "imp_count_loss" in model.history
    assert not [name for name in model.history if "signal" in name or "pval" in name or "std" in name]


def test_scores_summed_over_minibatches_are_those_of_all_entries_together():
    random = np.random.default_rng(0)
    truth = random.poisson(3, (50, 2, 3)).astype(np.float32)
    prediction = (truth + random.normal(0, 2, truth.shape)).astype(np.float32)
    weight = (random.random(truth.shape) < 0.7).astype(np.float32)
    track_qg = torch.tensor([[4, 1, 0], [2, 3, 0]])
    weight[:, :, 2] = 0  # padding points at some track, with weight 0
    scores = FitScores(5, torch.device("cpu"))
    for rows in np.split(np.arange(50), [7, 30]):
        scores.add(*(torch.from_numpy(x[rows]) for x in (truth, prediction, weight)), track_qg)
    by_track, taken = scores.by_track(), scores.take()
    entries = [(q, g, weight[:, q, g] > 0) for q in range(2) for g in range(2)]
    pairs = [(truth[w, q, g], prediction[w, q, g]) for q, g, w in entries]
    assert taken["r2"] == pytest.approx(np.mean([r2_score(y, p) for y, p in pairs]))
    assert taken["pcc"] == pytest.approx(np.mean([scipy.stats.pearsonr(y, p)[0] for y, p in pairs]))
    assert taken["true"] == pytest.approx(np.mean([y.mean() for y, _ in pairs]))
    assert taken["predicted"] == pytest.approx(np.mean([p.mean() for _, p in pairs]))
    for q, g, w in entries:
        t = int(track_qg[q, g])
        y, p = truth[w, q, g], prediction[w, q, g]
        expected = {"entries": w.sum(), "predicted_mean": p.mean(), "true_mean": y.mean()}
        expected |= {"predicted_max": p.max(), "true_max": y.max()}
        assert {name: value_t[t] for name, value_t in by_track.items()} == pytest.approx(expected, rel=1e-5)
    assert scores.take() == {}
    assert np.isnan(scores.by_track()["true_max"]).all()


# seeds


def test_a_seed_gives_the_same_weights_twice_and_another_seed_others(kit):
    first, again, other = (kit.train(kit.model(kit.data()), max_steps=12, seed=seed) for seed in (7, 7, 8))
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))
    predictions = [model.get_imputed_counts(return_numpy=True) for model in (first, again, other)]
    np.testing.assert_array_equal(predictions[0], predictions[1])
    assert (predictions[0] != predictions[2]).any()


def test_a_seed_holds_whatever_was_drawn_before(kit):
    first = kit.train(kit.model(kit.data()))
    torch.randn(13)
    assert same(weights(first), weights(kit.train(kit.model(kit.data()))))


def test_neither_training_with_a_seed_nor_prediction_moves_torchs_random_numbers(kit):
    model = kit.model(kit.data())
    torch.manual_seed(11)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    kit.train(model)
    model.impute(indices=[3])
    model.get_latent_representation(indices=[3])
    model.get_elbo(indices=[3])
    model.posterior_predictive_sample(indices=[3])
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_without_a_seed_torchs_own_decides(kit):
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(weights(kit.train(kit.model(kit.data()), seed=None)))
    assert same(*results)


# validation


def test_stretches_are_held_out_whole_and_no_row_is_used_twice():
    segments = Segments(np.array([0, 300, 1000]))
    split = split_regions(segments, None, 0.1, np.random.default_rng(0))
    assert not set(split.train) & set(split.validation)
    np.testing.assert_array_equal(np.union1d(split.train, split.validation), np.arange(1000))
    assert 50 <= len(split.validation) <= 150
    assert len(split.cut(segments).offsets) <= 8


def test_chromosomes_are_held_out_whole(kit):
    chrom = kit.data().obs["chrom"]
    split = split_regions(Segments(np.arange(0, 281, 70)), chrom, 0.25, np.random.default_rng(0))
    assert len(set(chrom.iloc[split.validation])) == 1
    assert len(split.validation) == 70
    assert not set(chrom.iloc[split.train]) & set(chrom.iloc[split.validation])


@pytest.mark.parametrize("name", ["valid", "validation", "val"])
def test_labels_are_the_split(name):
    labels = pd.Series(["train"] * 100 + ["test"] * 60 + [name] * 40, name="fold").astype("category")
    split = split_regions(Segments(np.array([0, 200])), labels, 0.1, np.random.default_rng(0))
    np.testing.assert_array_equal(split.train, np.arange(100))
    np.testing.assert_array_equal(split.validation, np.arange(160, 200))
    np.testing.assert_array_equal(split.cut(Segments(np.array([0, 50, 200]))).offsets, [0, 50, 100, 160, 200])


def test_without_a_reason_to_hold_out_all_regions_are_trained_on(kit):
    model = kit.train(kit.model(kit.data()), validation_size=None)
    assert not [name for name in model.history if name.startswith("validation")]
    kit.train(model, validation_size=None, early_stopping=True)
    assert len(model.history["validation_loss"])


def test_small_data_are_trained_on_as_a_whole():
    split = split_regions(Segments(np.array([0, 150])), None, 0.1, np.random.default_rng(0))
    assert (len(split.train), len(split.validation)) == (150, 0)


@pytest.mark.parametrize(
    ("labels", "size", "expected"),
    [
        (None, 1.0, "validation_size must be at least 0 and below 1, got 1.0"),
        (None, -0.1, "got -0.1"),
        (["valid", "test"], 0.1, "labels no region 'train'; found"),
        (["chr1", "chr1"], 0.1, "must hold at least 2 groups"),
        (["chr1", None], 0.1, r"must label every region; region .* has no label \(and 149 more\)"),
    ],
)
def test_splits_that_make_no_sense_are_refused(labels, size, expected):
    series = None if labels is None else pd.Series(np.repeat(labels, 150), name="fold")
    with pytest.raises(ValueError, match=expected):
        split_regions(Segments(np.array([0, 300])), series, size, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("labels", "slip"),
    [
        (["Train", "valid", "test"], "'Train'"),
        (["train ", "test"], "'train '"),
        (["training", "valid", "test"], "'training'"),
        (["valid", "test", "held_out"], "'held_out'"),
        (["train", "valid", "chr1"], "'chr1'"),
        (["TRAIN", "Valid"], "'TRAIN', 'Valid'"),
        (["chr1", "tests"], "'tests'"),
    ],
)
def test_a_slip_in_a_split_column_is_refused_and_named(labels, slip):
    series = pd.Series(np.repeat(labels, 150), name="fold")
    with pytest.raises(ValueError, match="column 'fold' of obs must hold the labels train, valid and test") as error:
        split_regions(Segments(np.array([0, len(series)])), series, 0.1, np.random.default_rng(0))
    assert f"not {slip}. Write" in str(error.value)


@pytest.mark.parametrize("groups", [["chr1", "chr2", "chrX"], [1, 2, 3], ["fold1", "fold2"], ["H1", "K562", "brain"]])
def test_groups_are_no_slips(groups):
    series = pd.Series(np.repeat(groups, 150), name="fold")
    split = split_regions(Segments(np.array([0, len(series)])), series, 0.1, np.random.default_rng(0))
    assert set(series[split.train]) | set(series[split.validation]) == set(groups)
    assert not set(series[split.train]) & set(series[split.validation])


def test_patience_ends_training_at_the_first_validation_without_a_lower_loss(kit):
    steps = []
    for patience in (1, 8):
        model = kit.model(kit.data())
        options = {
            "max_steps": 200,
            "calibrate_unseen": False,
            "plan_kwargs": {"lr": 0.0, "kl_warmup": 0.0},
        }  # the loss never falls
        kit.train(model, early_stopping=True, early_stopping_patience=patience, **options)
        steps.append(max(int(table.index[-1]) for table in model.history.values()))
    assert steps[0] < steps[1] < 200


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"early_stopping_monitor": "elbo"}, "early_stopping_monitor cannot be chosen"),
        ({"early_stopping_patience": 3}, "early_stopping_patience needs early_stopping=True"),
        ({"early_stopping": True, "early_stopping_patience": 0}, "early_stopping_patience must be at least 1"),
        ({"max_step": 3}, "argument 'max_step' is not in .*did you mean 'max_steps'"),
        ({"enable_progres_bar": False}, "did you mean 'enable_progress_bar'"),
    ],
)
def test_options_of_the_trainer_work_or_are_refused(kit, options, expected):
    with pytest.raises(ValueError, match=expected):
        kit.model(kit.data()).train(accelerator="cpu", **options)


def test_labels_of_single_regions_draw_a_warning():
    labels = pd.Series(np.random.default_rng(0).choice(["train", "valid"], 1000), name="fold")
    with pytest.warns(UserWarning, match="column 'fold' of obs cuts the training regions into stretches of"):
        split_regions(Segments(np.array([0, 1000])), labels, 0.1, np.random.default_rng(0))


@pytest.mark.parametrize("depth_key", ["depth", None])
def test_test_regions_are_not_looked_at(kit, depth_key):
    keys = {name: key for name, key in (kit.keys | {"depth_key": depth_key}).items() if key}
    results = []
    for corrupt in (False, True):
        adata = kit.data(n_chromosomes=1)
        adata.obs["fold"] = np.repeat(["train", "test", "train", "valid"], [100, 60, 80, 40])
        if corrupt:
            adata.X[100:160] = 999
            adata.layers["observed"][100:160] = 1
            adata.layers["signal"][100:160] = 6.0
        model = kit.train(kit.model(adata, keys), max_steps=8, split_key="fold")
        results.append(weights(model))
    assert same(*results)


def test_validation_regions_are_looked_at_to_validate_and_for_nothing_else(kit):
    results = []
    for corrupt in (False, True):
        adata = kit.data(n_chromosomes=1)
        adata.obs["fold"] = np.repeat(["train", "valid"], [240, 40])
        if corrupt:
            adata.X[240:] = 3 * adata.X[240:][::-1] + 1
            adata.layers["signal"][240:] += 2
        model = kit.train(kit.model(adata), max_steps=8, split_key="fold")
        results.append((weights(model), model.history["validation_loss"]["validation_loss"]))
    assert same(results[0][0], results[1][0])
    assert not np.allclose(results[0][1], results[1][1], rtol=1e-4)


def validation_loss(model, seed, **plan_options):
    """Of the model as it is, on the regions that this seed holds out."""
    data = model.data
    split = split_regions(data.segments, None, 0.1, np.random.default_rng(seed))
    plan = TrainingPlan(model.module, 10, seed, PlanOptions(**plan_options), data.tracks.names, data.n_regions)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    loader = FixedMinibatches(
        data.within(split.cut(data.segments), split.train), split.validation, model.module.half_widths, 64
    )
    trainer.validate(plan, loader, verbose=False)
    return float(trainer.callback_metrics["validation_loss"])


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_early_stopping_ends_early_with_the_best_weights(kit):
    model = kit.model(kit.data())
    kit.train(model, max_steps=160, plan_kwargs={"lr": 0.3, "ema_decay": 0.5}, early_stopping=True, seed=3)
    losses = model.history["validation_loss"]["validation_loss"]
    assert losses.index[-1] < 160
    assert losses.iloc[-1] > losses.min() + 0.01
    assert validation_loss(model, 3) == pytest.approx(losses.min(), rel=1e-5)


# the ends of training


class Interrupt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 10])
def test_an_interrupt_leaves_a_trained_model(kit, step):
    handler = signal.getsignal(signal.SIGINT)
    model = kit.model(kit.data())
    with pytest.warns(UserWarning, match=f"interrupted at step {step}; the model keeps") as caught:
        kit.train(model, max_steps=40, callbacks=[Interrupt(step)], plan_kwargs={"log_every_n_steps": 1})
    (told,) = (warning for warning in caught if "interrupted" in str(warning.message))
    assert told.filename.endswith("conftest.py")  # where train was called
    assert signal.getsignal(signal.SIGINT) is handler
    assert model.is_trained_
    assert not model.module.training
    assert len(model.history["train_loss"]) == step
    assert np.isfinite(model.impute().X).all()


def test_an_interrupted_training_goes_on_from_where_it_was(kit):
    model = kit.model(kit.data())
    with pytest.warns(UserWarning, match="interrupted"):
        kit.train(model, max_steps=60, callbacks=[Interrupt(50)])
    before = validation_free_loss(model)
    kit.train(model, max_steps=1)
    assert validation_free_loss(model) == pytest.approx(before, rel=0.05)


def validation_free_loss(model):
    return model.get_reconstruction_error()["reconstruction_loss"]


def test_another_error_in_training_is_not_swallowed(kit):
    class Broken(pl.Callback):
        def on_train_batch_end(self, *_):
            raise SystemExit(3)

    model = kit.model(kit.data())
    with pytest.raises(SystemExit):
        kit.train(model, callbacks=[Broken()])
    assert not model.is_trained_


class NanHead(MeanDispersion):
    def forward(self, raw_qo, log_mean_q, log_dispersion_q):
        return super().forward(raw_qo * torch.nan, log_mean_q, log_dispersion_q)


def test_a_training_that_diverges_stops_and_leaves_an_untrained_model_as_it_was(kit):
    model = kit.model(kit.data())
    before = weights(model)
    with pytest.raises(
        FloatingPointError, match="diverged at step 1: not finite are .*loss.*plan_kwargs={'lr': 0.002}"
    ):
        kit.train(model, plan_kwargs={"lr": 1e30})
    assert same(weights(model), before)
    assert not model.is_trained_
    assert model.history is None
    kit.train(model)
    assert np.isfinite(model.impute().X).all()


def test_a_training_that_diverges_leaves_a_trained_model_as_it_was(kit):
    model = kit.train(kit.model(kit.data()))
    before, history = model.impute(), pd.concat(model.history.values(), axis=1)
    with pytest.raises(FloatingPointError):
        kit.train(model, plan_kwargs={"lr": 1e30}, validation_size=0, max_steps=60)
    assert model.is_trained_
    np.testing.assert_array_equal(model.impute().X, before.X)
    pd.testing.assert_frame_equal(pd.concat(model.history.values(), axis=1), history)


def test_the_error_names_the_branch_that_went_wrong(kit):
    model = kit.train(kit.model(kit.data()))
    model.module.view(ViewKind.COUNTS).head = NanHead()
    with pytest.raises(FloatingPointError) as caught:
        kit.train(model)
    named = str(caught.value).partition("not finite are ")[2].partition(". ")[0].split(", ")
    assert {"imp_count_loss", "grad_norm_count_head"} <= set(named)
    assert not {"imp_signal_loss", "grad_norm_signal_head"} & set(named)


@pytest.mark.parametrize("n_steps", [5, 40])
def test_a_weight_that_is_lost_between_two_logs_is_found_at_once(kit, n_steps):
    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if trainer.global_step == 4:
                torch.nn.init.constant_(module.module.encoder.mean.weight, torch.nan)

    with pytest.raises(FloatingPointError, match="diverged at step 4"):
        kit.train(kit.model(kit.data()), max_steps=n_steps, validation_size=0, callbacks=[Poison()])


def test_training_again_goes_on_and_extends_the_history(kit):
    model = kit.model(kit.data())
    options = {"plan_kwargs": {"log_every_n_steps": 5}}
    kit.train(model, max_steps=10, **options)
    first, before = model.history["train_loss"].copy(), weights(model)
    kit.train(model, max_steps=10, seed=3, **options)
    table = model.history["train_loss"]
    pd.testing.assert_frame_equal(table.iloc[: len(first)], first)
    assert table.index.is_monotonic_increasing
    assert table.index.is_unique
    assert len(table) == 2 * len(first)
    assert table.index[-1] >= 19
    change = (model.module.encoder.mean.weight - before["encoder.mean.weight"]).abs().max()
    assert 0 < change < 0.1  # steps of at most the learning rate from where it was


def test_the_list_of_callbacks_is_left_as_it_was(kit):
    callbacks = []
    kit.train(kit.model(kit.data()), callbacks=callbacks)
    assert callbacks == []


@pytest.mark.parametrize(("options", "n_steps"), [({"max_steps": 7}, 7), ({"max_steps": None, "max_epochs": 2}, 8)])
def test_length_is_told_in_steps_or_in_passes(kit, options, n_steps):
    model = kit.model(kit.data())  # 4 minibatches of 64 regions make 250 of 280, the others are held out
    kit.train(model, plan_kwargs={"log_every_n_steps": 1}, **options)
    assert len(model.history["train_loss"]) == n_steps


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1, got 0"),
        ({"max_steps": None, "max_epochs": 1.5}, "max_epochs must be a whole number or None; it is 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"split_key": "chromosome"}, r"split_key 'chromosome' is not in adata.obs; did you mean 'chrom'\?"),
        ({"validation_size": 1}, "validation_size must be at least 0 and below 1, got 1"),
    ],
)
def test_arguments_out_of_range_are_refused(kit, options, expected):
    model = kit.model(kit.data())
    with pytest.raises(ValueError, match=expected):
        kit.train(model, **options)
    assert not model.is_trained_


def test_trainer_options_reach_the_trainer(kit):
    seen = []

    class Look(pl.Callback):
        def on_train_end(self, trainer, *_):
            seen.append((trainer.precision, trainer.val_check_batch))

    kit.train(kit.model(kit.data()), precision="bf16-mixed", val_check_interval=3, callbacks=[Look()])
    assert seen == [("bf16-mixed", 3)]


@pytest.mark.filterwarnings("ignore:the depths cannot be right")  # for a region holds most of the reads
@pytest.mark.parametrize("head", COUNT_HEADS)
def test_every_head_trains_without_nan(kit, head):
    adata = kit.data()
    adata.X[4, 0] = 60_000
    adata.X[:, 5] = 0
    adata.X[9, 5] = 1
    model = kit.train(kit.model(adata, head=head), max_steps=15, plan_kwargs={"log_every_n_steps": 1})
    for name, table in model.history.items():
        assert np.isfinite(table.to_numpy()).all() or name in BY_TRACK  # not every track is asked for in a step
    for values in model.module.state_dict().values():
        assert torch.isfinite(values).all()
    result = model.impute()
    for values in (result.X, *result.layers.values()):
        assert np.isfinite(values).all()


def test_embeddings_norms_and_biases_do_not_decay(kit):
    adata = kit.data()
    module = kit.model(adata).module
    plan = TrainingPlan(module, 10, 0, PlanOptions(weight_decay=0.3), adata.var_names, adata.n_obs)
    optimizer = plan.configure_optimizers()["optimizer"]
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)
    assert set(decay) == {id(p) for p in module.parameters()}
    kinds = {"embedding": torch.nn.Embedding, "norm": torch.nn.LayerNorm}
    for part in module.modules():
        if isinstance(part, tuple(kinds.values())):
            assert all(decay[id(p)] == 0 for p in part.parameters())
        if isinstance(part, torch.nn.Linear):
            assert decay[id(part.weight)] == 0.3
    assert all(decay[id(p)] == 0 for name, p in module.named_parameters() if "bias" in name and "biosample" not in name)
    assert decay[id(module.decoder.weight_ako)] == 0.3


# learning


@pytest.fixture(scope="module")
def learnt(kit):
    adata = kit.data(n_regions=2_400, missing=0.0, controls=False, signal=False, seed=5)
    keys = {"depth_key": "depth"}
    adata.obs["fold"] = np.where(adata.obs["chrom"] == "chr4", "test", "train")
    model = kit.model(adata, keys, n_hidden=64, n_latent=12)
    return adata, kit.train(model, max_steps=400, batch_size=128, split_key="fold", plan_kwargs={"lr": 4e-3})


def correlations(first, second):
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)])


def test_imputation_beats_the_average_of_the_other_biosamples(learnt):
    adata, model = learnt
    test = (adata.obs["fold"] == "test").to_numpy()
    depth = adata.var["depth"].to_numpy()
    everything = np.ones(adata.shape, dtype=bool)
    rate = adata.X / depth
    average = metrics.leave_one_out_average(rate, everything, adata.var["biosample"], adata.var["assay"]) * depth
    imputed = model.get_imputed_counts(indices=test, return_numpy=True)
    ours, theirs = (correlations(x, adata.X[test]) for x in (imputed, average[test]))
    assert ours.mean() > theirs.mean() + 0.05
    assert metrics_r2(imputed, adata.X[test]) > metrics_r2(average[test], adata.X[test]) + 0.1


def metrics_r2(predicted, truth):
    return np.mean([r2_score(truth[:, t], predicted[:, t]) for t in range(truth.shape[1])])


def test_denoised_rates_are_nearer_to_the_truth_than_the_counts(learnt):
    adata, model = learnt
    rate = np.log1p(adata.layers["rate"])
    denoised = np.log1p(model.get_normalized_expression(return_numpy=True))
    gain = correlations(denoised, rate) - correlations(np.log1p(adata.X), rate)
    assert gain.mean() > 0.04
    assert (gain > -0.02).all()


def test_training_lowers_the_loss_on_held_out_regions(learnt):
    _, model = learnt
    loss = model.history["imp_count_loss"]["imp_count_loss"]
    assert loss.iloc[-1] < loss.iloc[0] - 0.1
