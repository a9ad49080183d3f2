"""Callbacks of Lightning and scvi-tools: they see epochs, save models that load, and are refused what cannot work."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from scvi.train import SaveCheckpoint

import chipvi


class Epochs(pl.Callback):
    """The steps after which each epoch ended."""

    def __init__(self):
        self.ends = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append((trainer.current_epoch, trainer.global_step))


def test_passes_are_epochs_to_callbacks_and_in_the_history(kit):
    watch = Epochs()
    model = kit.model(kit.data())  # 250 regions to train on are 4 minibatches of 64
    kit.train(model, None, max_epochs=3, callbacks=[watch], plan_kwargs={"log_every_n_steps": 1})
    assert watch.ends == [(0, 4), (1, 8), (2, 12)]
    assert model.history["epoch"]["epoch"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_steps_are_one_epoch(kit):
    watch = Epochs()
    kit.train(kit.model(kit.data()), 7, callbacks=[watch])
    assert watch.ends == [(0, 7)]


def test_epochs_change_no_weight(kit):
    by_steps = kit.train(kit.model(kit.data()), 8, calibrate_unseen=False)
    by_epochs = kit.train(kit.model(kit.data()), None, max_epochs=2, calibrate_unseen=False)
    for name, value in by_steps.module.state_dict().items():
        torch.testing.assert_close(by_epochs.module.state_dict()[name], value, rtol=0, atol=0)


class Stop(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise RuntimeError("cut off")


@pytest.mark.parametrize("cut", [6, 8, 9])  # within an epoch of 4, after its last step, after the next first one
def test_a_training_of_epochs_goes_on_where_it_was_cut_off(kit, tmp_path, monkeypatch, cut):
    from chipvi.train import checkpoint

    monkeypatch.setattr(checkpoint, "_SECONDS", -1.0)  # a checkpoint after every step
    options = {"max_epochs": 3, "validation_size": 0, "seed": 2, "calibrate_unseen": False}
    whole = kit.train(kit.model(kit.data()), None, **options)
    model = kit.model(kit.data())
    path = tmp_path / "training.ckpt"
    with pytest.raises(RuntimeError, match="cut off"):
        kit.train(model, None, checkpoint=path, callbacks=[Stop(cut)], **options)
    watch = Epochs()
    kit.train(model, None, checkpoint=path, callbacks=[watch], **options)
    assert watch.ends[-1][1] in (12, 15) and len(model.history["epoch"]) == len(whole.history["epoch"])
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(model.module.state_dict()[name], value, rtol=0, atol=0)


def test_the_elbo_of_the_history_is_that_of_the_hidden_entries(kit, monkeypatch):
    from chipvi.train.plan import TrainingPlan

    found = []

    def noted(self, example, encoding, predicted, losses, weights, is_thinned):
        nll = 0.0
        for kind, prediction in predicted.items():
            truth = example.truth[kind]
            hidden = truth.hidden_rqg > 0
            log_prob = prediction.distribution.log_prob(truth.value_rqg).detach().double()
            nll -= float(log_prob[hidden].sum())
        posterior = encoding.posterior
        mean, std = posterior.loc.detach().double(), posterior.scale.detach().double()
        kl = float(0.5 * (mean**2 + std**2 - 1 - 2 * torch.log(std)).sum())
        found.append((nll + kl) / (mean.shape[0] * mean.shape[1]))
        note(self, example, encoding, predicted, losses, weights, is_thinned)

    note = TrainingPlan._note
    monkeypatch.setattr(TrainingPlan, "_note", noted)
    model = kit.train(kit.model(kit.data()), 4, plan_kwargs={"log_every_n_steps": 1}, calibrate_unseen=False)
    np.testing.assert_allclose(model.history["elbo_train"]["elbo_train"], found, rtol=1e-4)


# SaveCheckpoint


def test_checkpoints_of_scvi_tools_are_models_with_the_weights_of_that_step(kit, tmp_path):
    weights = {}

    class Note(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            average = pl_module.average.module
            weights[trainer.global_step] = {name: x.clone() for name, x in average.state_dict().items()}

    adata = kit.data()
    model = kit.model(adata)
    saves = SaveCheckpoint(dirpath=str(tmp_path), monitor="validation_loss", save_top_k=-1, filename="{step}")
    kit.train(model, None, max_epochs=2, validation_size=0.3, callbacks=[Note(), saves], calibrate_unseen=False)
    assert model.is_trained and saves.best_model_path.startswith(str(tmp_path / "step="))
    folders = sorted(tmp_path.iterdir())
    assert folders
    for folder in folders:
        loaded = chipvi.ChipVI.load(folder, adata, accelerator="cpu")
        assert loaded.is_trained
        step = int(folder.name.removeprefix("step=").partition("-")[0])
        for name, value in weights[step].items():
            torch.testing.assert_close(loaded.module.state_dict()[name], value, rtol=0, atol=0)
    assert np.isfinite(loaded.get_imputed_counts(indices=[0, 9]).to_numpy()).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"load_best_on_end": True}, "early_stopping=True keeps the best weights"),
        ({"check_nan_gradients": True}, "a training that fails leaves the model as it was"),
        ({}, "SaveCheckpoint watches validation_loss, for which regions are held out. Give validation_size=0.1"),
    ],
)
def test_what_checkpoints_cannot_do_is_said_before_training(kit, tmp_path, options, expected):
    model = kit.model(kit.data())
    held_out = 0.2 if options else 0
    with pytest.raises(ValueError, match=expected):
        kit.train(model, validation_size=held_out, callbacks=[SaveCheckpoint(dirpath=str(tmp_path / "x"), **options)])
    assert not model.is_trained
