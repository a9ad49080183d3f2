"""A training that can go on where it was cut off, as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from zipfile import ZipFile

import lightning.pytorch as pl
import torch

from .._files import written_whole
from .plan import TrainingPlan
from .ranks import Ranks

_SECONDS = 60.0  # between two checkpoints: what a crash costs at most
_STEPS = 10  # after which several ranks ask each other whether it is time
_OURS = "chipvi"


class Checkpoints(pl.Callback):
    """Saves Lightning's checkpoint once a minute, with what else a training depends on, and goes on from it.

    Parameters
    ----------
    path
        File to write; each replaces the last, once it is whole.
    identity
        Settings and data of this training: plain values by name. A checkpoint of another is refused.
    ranks
        The processes that train together: the first one writes, and all must be able to read it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], ranks: Ranks) -> None:
        self._path, self._identity, self._ranks = path, {"processes": ranks.size} | dict(identity), ranks
        self._loaded: dict[str, Any] | None = None
        self._saved_at = 0.0

    @cached_property
    def resumed(self) -> Path | None:
        """The checkpoint to go on from; None if there is none yet.

        Raises
        ------
        ValueError
            If it is of another training, or is no checkpoint.
        """
        if not self._path.exists():
            return None
        try:
            with ZipFile(self._path) as file:
                damaged = file.testzip()  # torch does not look at the checksums
            # Lightning, which reads the file again, may unpickle anything; what passes here runs nothing
            load = {} if damaged else torch.load(self._path, map_location="cpu", weights_only=True)
            found = {} if damaged else dict(load[_OURS]["identity"])
        except Exception as error:  # noqa: BLE001 - whatever unpickling may raise
            raise ValueError(f"{self._path} is no checkpoint of chipvi. Remove it to train from the start.") from error
        if damaged is not None:
            raise ValueError(f"{self._path} is damaged. Remove it to train from the start.")
        for name, value in self._identity.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{self._path} is a checkpoint of another training: its {name} is {_short(found.get(name))}, not "
                    f"{_short(value)}. Train as then to go on from it, or remove it to train from the start."
                )
        return self._path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse to go on in some of the processes only."""
        found = self._ranks.gather(self.resumed is not None)
        if len(set(found)) > 1:
            raise ValueError(
                f"{self._path} is there for some of the processes that train together, and not for others. Put it "
                "where all machines can read it, or remove it to train from the start."
            )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not know of."""
        own = {
            "plan": cast(TrainingPlan, pl_module).progress(),
            "random": torch.get_rng_state(),  # dropout and the noise of the latent draw from it
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        checkpoint[_OURS] = {"identity": self._identity, "by_rank": self._ranks.gather(own)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep it until training starts."""
        self._loaded = checkpoint[_OURS]["by_rank"][self._ranks.rank]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on: the last thing before the first step, so that nobody draws in between."""
        self._saved_at = time.monotonic()
        if self._loaded is not None:
            cast(TrainingPlan, pl_module).resume(self._loaded["plan"])
            torch.set_rng_state(self._loaded["random"])
            for device, state in enumerate(self._loaded["random_cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
            self._loaded = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, but not before a validation, which Lightning would leave out on going on."""
        is_validated = (
            trainer.num_val_batches and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        )
        every = trainer.val_check_batch if is_validated else None
        is_validated_next = every is not None and (batch_idx + 1) % int(every) == 0
        if is_validated_next or (self._ranks.size > 1 and batch_idx % _STEPS):
            return
        if not trainer.strategy.reduce_boolean_decision(time.monotonic() - self._saved_at >= _SECONDS, all=False):
            return
        with written_whole(self._path) if self._ranks.is_first else nullcontext(self._path) as path:
            trainer.save_checkpoint(path)  # the first one writes
        self._saved_at = time.monotonic()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
