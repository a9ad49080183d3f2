"""What a terminal shows while a model is trained."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import lightning.pytorch as pl

from .._workers import progress_bar


class StepProgress(pl.Callback):
    """A named bar of steps, or lines without a terminal; Lightning's own counts epochs.

    Of several processes that train together, one has it.

    Parameters
    ----------
    name, n_steps
        Of the training.
    """

    def __init__(self, name: str, n_steps: int) -> None:
        self._name, self._n_steps = name, n_steps
        self._shown = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin where training begins."""
        self._first = trainer.global_step
        bar = progress_bar(self._name, self._n_steps, "steps", done=self._first, shown=trainer.is_global_zero)
        self._move = self._shown.enter_context(bar)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Move."""
        self._move(trainer.global_step - self._first)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave it as it is, whatever ended training."""
        self._shown.close()
