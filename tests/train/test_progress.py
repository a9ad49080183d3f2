"""The bar of steps: a name per training, a step a time, and nothing without a terminal."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from chipvi.train import progress
from chipvi.train.progress import StepProgress


def trainer(step: int = 0, n_steps: int = 7, is_first: bool = True) -> Any:
    return SimpleNamespace(num_training_batches=n_steps, global_step=step, is_global_zero=is_first)


@pytest.fixture
def screen(monkeypatch) -> io.StringIO:
    """What a terminal of 100 columns is sent."""
    file = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=file, force_terminal=True, width=100, color_system=None)
    )
    return file


def train(bar: StepProgress, n_steps: int, first: int = 0) -> None:
    bar.on_train_start(trainer(first, n_steps), None)
    for step in range(first, n_steps):
        bar.on_train_batch_end(trainer(step + 1, n_steps), None, None, step)
    bar.teardown(trainer(n_steps, n_steps), None, "fit")


def test_each_training_has_its_name_and_the_last_name_goes_on(screen):
    bar = StepProgress(("Learning [/x]", "Judging"))
    for n_steps, name, other in (
        (7, "Learning [/x]", "Judging"),
        (5, "Judging", "Learning"),
        (3, "Judging", "Learning"),
    ):
        screen.truncate(0)
        train(bar, n_steps)
        assert name in screen.getvalue() and other not in screen.getvalue()
        assert f"{n_steps}/{n_steps}" in screen.getvalue()


def test_a_training_that_goes_on_begins_at_its_step(screen):
    train(StepProgress(), 9, first=6)
    assert "6/9" in screen.getvalue() and "0/9" not in screen.getvalue()


def test_without_a_terminal_there_is_no_bar(capsys):
    train(StepProgress(), 4)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_training_that_never_began_may_end(capsys):
    StepProgress().teardown(trainer(), None, "fit")


def test_of_several_processes_one_has_a_bar(screen):
    bar = StepProgress()
    bar.on_train_start(trainer(is_first=False), None)
    bar.teardown(trainer(is_first=False), None, "fit")
    assert screen.getvalue() == ""
