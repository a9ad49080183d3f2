"""What a terminal shows while a model is trained."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class StepProgress(pl.Callback):
    """A progress bar of steps, on standard error; Lightning's own counts epochs, of which there is one.

    Without a terminal there is no bar, and of several processes that train together, one has it.

    Parameters
    ----------
    phases
        Names of the trainings that are watched, one after the other; the last one goes for all that follow, too.
    """

    watches_calibration = True  # the trainings that follow the first take it along

    def __init__(self, phases: tuple[str, ...] = ("Training", "Held-out-track calibration")) -> None:
        self._phases = phases
        self._n_begun = 0
        self._progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin where training begins."""
        text = self._phases[min(self._n_begun, len(self._phases) - 1)]
        self._n_begun += 1
        columns = (TextColumn(text, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        shows = console.is_terminal and trainer.is_global_zero
        self._progress = Progress(*columns, console=console, transient=True, disable=not shows)
        self._task = self._progress.add_task("", total=trainer.num_training_batches, completed=trainer.global_step)
        self._progress.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Move."""
        if self._progress is not None:
            self._progress.update(self._task, completed=trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the bar, whatever ended training."""
        if self._progress is not None:
            self._progress.stop()
