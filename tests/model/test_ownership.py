"""Whatever ends a training leaves the model as it was: every tensor, the history, the advice."""

from __future__ import annotations

import copy
import os
import signal

import lightning.pytorch as pl
import pytest
import torch

import chipvi
from chipvi.calibrate import hierarchy, holdout, recalibration

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "batch_size": 64}


class At(pl.Callback):
    """Acts once, after a step of the n-th training, counted from 0; held-out-track calibration trains, too."""

    watches_calibration = True

    def __init__(self, training, action):
        self._left, self._action = training, action

    def on_train_start(self, trainer, pl_module):
        self._left -= 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self._left < 0 and trainer.global_step == 2:
            self._action()


def fail():
    raise RuntimeError("a callback failed")


def interrupt():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


ACTIONS = {
    "exception": (fail, RuntimeError),
    "Ctrl-C": (interrupt, KeyboardInterrupt),
    "SIGTERM": (terminate, InterruptedError),
}
# (module, function) of what comes after the weights are trained
STAGES = {
    "recalibration": (recalibration, "impute_measured"),
    "held-out tracks": (holdout, "try_tracks"),
    "what is learnt of them": (hierarchy, "infer"),
}


def make_first(kit):
    return kit.model(kit.data())


def make_second(kit):
    return kit.train(make_first(kit))


def make_query(kit):
    adata = kit.data(missing=[])
    is_new = (adata.var["biosample"] == "cell3").to_numpy()
    new = adata[:, is_new].copy()
    reference = kit.train(kit.model(adata[:, ~is_new].copy()))
    return chipvi.ChipVI.load_query_data(new, reference)


MODELS = {"first": make_first, "second": make_second, "query": make_query}


@pytest.fixture(scope="module", params=MODELS)
def model(kit, request):
    """A model about to be trained for the first time, again, or as a query."""
    return MODELS[request.param](kit)


def state(model):
    """All that a training may change."""
    tensors = {name: value.clone() for name, value in model.module.state_dict().items()}
    return copy.deepcopy((tensors, model.history, model.advice, model.is_trained_, model.module.training))


def assert_unchanged(model, before):
    tensors, history, advice, is_trained, in_training_mode = before
    assert model.module.state_dict().keys() == tensors.keys()
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, tensors[name]), name
    assert (model.history is None) == (history is None)
    if history is not None:
        assert all(model.history[name].equals(history[name]) for name in model.history.keys() | history.keys())
    assert (model.advice, model.is_trained_, model.module.training) == (advice, is_trained, in_training_mode)
    assert all(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("training", [0, 1], ids=["training", "held-out-track calibration"])
def test_what_ends_a_training_leaves_the_model_as_it_was(model, tmp_path, action, training):
    if training and model.reference_size_ is not None:
        pytest.skip("no held-out-track calibration follows the training of a query")
    act, error = ACTIONS[action]
    before, handler = state(model), signal.getsignal(signal.SIGTERM)
    with pytest.raises(error):
        # with a checkpoint an interrupt is an error; without, the model keeps what it has learnt
        model.train(max_steps=4, seed=1, checkpoint=tmp_path / "c.ckpt", callbacks=[At(training, act)], **QUIET)
    assert_unchanged(model, before)
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("stage", STAGES)
def test_what_ends_the_calibration_leaves_the_model_as_it_was(model, monkeypatch, stage, error):
    if stage != "recalibration" and model.reference_size_ is not None:
        pytest.skip("no held-out-track calibration follows the training of a query")

    def broken(*_, **__):
        raise error("here")

    monkeypatch.setattr(*STAGES[stage], broken)
    before = state(model)
    with pytest.raises(error, match="here"):
        model.train(max_steps=4, seed=1, **QUIET)
    assert_unchanged(model, before)


def test_a_training_that_ends_well_changes_tensors_history_and_state(kit):
    model = make_second(kit)
    before = state(model)
    model.train(max_steps=4, seed=1, **QUIET)
    with pytest.raises(AssertionError):
        assert_unchanged(model, before)
    assert len(model.history["train_loss"]) > len(before[1]["train_loss"])


def test_a_query_that_cannot_be_made_leaves_its_reference_as_it_was(kit, monkeypatch):
    reference = make_second(kit)
    before = state(reference)

    def broken(*_, **__):
        raise RuntimeError("here")

    monkeypatch.setattr("chipvi.model.query.learn_from_given", broken)
    new = kit.data()[:, ["cell1.H3K4me1", "cell1.H3K4me3"]].copy()
    new.var["biosample"], new.var_names = "cell9", ["cell9.H3K4me1", "cell9.H3K4me3"]
    with pytest.raises(RuntimeError, match="here"):
        chipvi.ChipVI.load_query_data(new, reference)
    assert_unchanged(reference, before)


def test_the_trained_copy_shares_nothing_with_the_model(kit):
    model = make_second(kit)
    trained, before = model.module, state(model)
    model.train(max_steps=3, seed=2, **QUIET)
    assert model.module is not trained
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[0][name]) for name, value in trained.state_dict().items())
