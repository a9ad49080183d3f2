"""A training that was cut off goes on from its checkpoint, and ends in the very same model."""

from __future__ import annotations

from zipfile import ZipFile

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from chipvi.train import checkpoint

STEPS = 60  # validated every third step


class Stop(pl.Callback):
    """Ends training after a step, once."""

    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise self.error


@pytest.fixture(autouse=True)
def save_at_every_step(monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)


def train(kit, model, **options):
    plan = {"log_every_n_steps": 7, "ema_decay": 0.9}
    return kit.train(model, **({"max_steps": STEPS, "plan_kwargs": plan} | options))


def assert_same_model(first, second):
    one, other = first.module.state_dict(), second.module.state_dict()
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert first.history.keys() == second.history.keys()
    for name, table in first.history.items():
        pd.testing.assert_frame_equal(table, second.history[name], check_exact=True)
    assert first.advice == second.advice


@pytest.fixture(scope="module")
def in_one_go(kit):
    return train(kit, kit.model(kit.data()))


@pytest.mark.parametrize("step", [20, 21, 48], ids=["between", "after a validation", "late"])
def test_a_training_that_goes_on_ends_as_one_in_one_go(kit, in_one_go, tmp_path, step):
    path = tmp_path / "here.ckpt"
    with pytest.raises(OSError, match="power cut"):
        train(kit, kit.model(kit.data()), checkpoint=path, callbacks=[Stop(step, OSError("power cut"))])
    assert [file.name for file in tmp_path.iterdir()] == ["here.ckpt"]
    torch.randn(5)  # whatever the next process draws
    resumed, seen = kit.model(kit.data()), []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append(trainer.global_step)

    train(kit, resumed, checkpoint=path, callbacks=[Watch()])
    assert step - 2 <= seen[0] <= step  # it goes on, and does not begin anew
    assert_same_model(resumed, in_one_go)
    assert not path.exists()


def test_a_training_with_a_checkpoint_is_the_same_as_without(kit, in_one_go, tmp_path):
    assert_same_model(train(kit, kit.model(kit.data()), checkpoint=tmp_path / "here.ckpt"), in_one_go)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_kept_makes_the_model_again(kit, in_one_go, tmp_path):
    path = tmp_path / "here.ckpt"
    train(kit, kit.model(kit.data()), checkpoint=path, keep_checkpoint=True)
    assert path.is_file()
    assert_same_model(train(kit, kit.model(kit.data()), checkpoint=path), in_one_go)
    assert not list(tmp_path.iterdir())


def test_early_stopping_goes_on_with_what_it_has_seen(kit, tmp_path):
    options = {"max_steps": 160, "plan_kwargs": {"lr": 0.3, "ema_decay": 0.5}, "early_stopping": True, "seed": 3}
    whole = train(kit, kit.model(kit.data()), **options)
    last = int(whole.history["validation_loss"].index[-1])
    assert last < 160
    path = tmp_path / "here.ckpt"
    with pytest.raises(OSError, match="cut"):
        train(kit, kit.model(kit.data()), checkpoint=path, callbacks=[Stop(last - 3, OSError("cut"))], **options)
    assert_same_model(train(kit, kit.model(kit.data()), checkpoint=path, **options), whole)


def test_an_interrupt_leaves_the_model_as_it_was_and_the_same_call_goes_on(kit, in_one_go, tmp_path):
    model, path = kit.model(kit.data()), tmp_path / "here.ckpt"
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        train(kit, model, checkpoint=path, callbacks=[Stop(30, KeyboardInterrupt())])
    assert not model.is_trained_ and model.history is None
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert_same_model(train(kit, model, checkpoint=path), in_one_go)


def test_a_checkpoint_of_another_training_is_refused_and_kept(kit, tmp_path):
    path = tmp_path / "here.ckpt"
    with pytest.raises(OSError, match="cut"):
        train(kit, kit.model(kit.data()), checkpoint=path, callbacks=[Stop(9, OSError("cut"))])
    written = path.read_bytes()
    other = kit.data()
    other.X[5, 2] += 1
    for model, options, expected in (
        (kit.model(kit.data()), {"max_steps": 61}, "its steps is 60, not 61"),
        (kit.model(kit.data()), {"seed": 4}, "its seed is 1, not 4"),
        (kit.model(kit.data(), head="poisson"), {}, "its head is "),
        (kit.model(other), {}, "its reads is"),
    ):
        with pytest.raises(ValueError, match=expected):
            train(kit, model, checkpoint=path, **options)
        assert not model.is_trained_
    assert path.read_bytes() == written


def test_what_is_no_checkpoint_is_refused(kit, tmp_path):
    path = tmp_path / "here.ckpt"
    path.write_text("no")
    with pytest.raises(ValueError, match="is no checkpoint of chipvi"):
        train(kit, kit.model(kit.data()), checkpoint=path)
    with pytest.raises(ValueError, match="name a seed"):
        train(kit, kit.model(kit.data()), checkpoint=tmp_path / "new.ckpt", seed=None)


def test_a_damaged_checkpoint_is_refused(kit, tmp_path):
    path = tmp_path / "here.ckpt"
    with pytest.raises(OSError, match="cut"):
        train(kit, kit.model(kit.data()), checkpoint=path, callbacks=[Stop(9, OSError("cut"))])
    whole = path.read_bytes()
    with ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda one: one.file_size)
    flipped = bytearray(whole)
    flipped[largest.header_offset + largest.file_size // 2 + 100] ^= 4  # within its content, which torch does not check
    for damaged, expected in ((flipped, "here.ckpt is damaged"), (whole[:-500], "is no checkpoint of chipvi")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{expected}. Remove it to train from the start."):
            train(kit, kit.model(kit.data()), checkpoint=path)


def test_a_trained_model_that_is_trained_on_goes_on_too(kit, tmp_path):
    whole = train(kit, kit.train(kit.model(kit.data())), max_steps=20)
    path, again = tmp_path / "here.ckpt", kit.train(kit.model(kit.data()))
    with pytest.raises(OSError, match="cut"):
        train(kit, again, max_steps=20, checkpoint=path, validation_size=0, callbacks=[Stop(9, OSError("cut"))])
    again = kit.train(kit.model(kit.data()))
    train(kit, again, max_steps=20, checkpoint=path, validation_size=0)
    assert np.isfinite(again.impute().X).all()
    assert len(again.history["train_loss"]) == len(whole.history["train_loss"])
