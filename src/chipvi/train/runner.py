"""One run of the trainer, from data to the best weights."""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from scvi.train import Trainer

from ..data.loader import FixedMinibatches, RegionLoader
from ..data.splits import Split, spread
from ..data.track_data import TrackData
from ..module.vae import ChipVAE
from .advice import judge_depths
from .checkpoint import Checkpoints
from .plan import PlanOptions, TrainingPlan
from .trainable import Part

_CHECKS = 20  # validations in a run
_PATIENCE = 8
_MOST_VALIDATED = 8192


class KeepBest(pl.Callback):
    """Keeps the weights with the lowest validation loss, and puts them back at the end."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.step = 0
        self._weights: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare."""
        loss = float(trainer.callback_metrics["validation_loss"])
        if loss < self.loss:
            self.loss, self.step = loss, trainer.global_step
            self._weights = copy.deepcopy(cast(TrainingPlan, pl_module).average.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The best so far, for a checkpoint."""
        return {"loss": self.loss, "step": self.step, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.loss, self.step, self._weights = state_dict["loss"], state_dict["step"], state_dict["weights"]

    def restore(self, plan: TrainingPlan) -> None:
        """Put the best weights back, or else the averaged ones."""
        plan.module.load_state_dict(plan.average.module.state_dict() if self._weights is None else self._weights)


def choose_accelerator(name: str) -> str:
    """Take an NVIDIA GPU where there is one, or the CPU, if `name` is "auto"; else what is asked for.

    Raises
    ------
    ValueError
        If a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_gpu else "cpu"  # sums in float64 rule out Apple's GPU
    if name in ("cuda", "gpu") and not has_gpu:
        raise ValueError(
            f"accelerator {name!r} needs an NVIDIA GPU that PyTorch {torch.__version__} can use; there is none here. "
            "Leave it at 'auto', or install the PyTorch build for your GPU."
        )
    return name


def fit(
    module: ChipVAE,
    data: TrackData,
    split: Split,
    n_steps: int,
    batch_size: int,
    seed: int,
    early_stopping: bool,
    options: PlanOptions,
    accelerator: str,
    devices: Any,
    part: Part | None = None,
    checkpoint: Path | None = None,
    **trainer_kwargs: Any,
) -> TrainingPlan:
    """Train a module in place; if it is interrupted, the module keeps what it has learnt; if it fails, what it had.

    Parameters
    ----------
    module, data, split
        What to train, on which rows of which data.
    n_steps, batch_size, seed, options
        Length, regions in a minibatch, order and masks, and the plan's options.
    early_stopping
        Stop when the validation loss no longer falls, and return to the best weights.
    accelerator, devices, trainer_kwargs
        Of :class:`scvi.train.Trainer`.
    part
        What may move; None for all of the module.
    checkpoint
        File to save training to once a minute, and to go on from if it is there.

    Returns
    -------
    The plan, with the history and advice. The module stays on the device where it was trained.

    Raises
    ------
    ValueError
        If more than one device is asked for, or the checkpoint is of another training.
    FloatingPointError
        If the gradient or the validation loss is no longer finite.
    KeyboardInterrupt
        If it is interrupted and there is a checkpoint to go on from; the module then keeps what it had.
    """
    accelerator = choose_accelerator(accelerator)
    module.train()  # a module that was trained before is left in evaluation mode
    plan = TrainingPlan(module, n_steps, seed, options, data.tracks.names, len(split.train), part)
    loader = RegionLoader(data, split.train, batch_size, n_steps, np.random.default_rng(seed))
    callbacks = list(trainer_kwargs.pop("callbacks", []))
    best = KeepBest()
    validation = FixedMinibatches(data, spread(split.validation, _MOST_VALIDATED), batch_size)
    if len(validation) and early_stopping:
        callbacks += [best, EarlyStopping("validation_loss", patience=_PATIENCE)]
    checkpoints = None
    if checkpoint is not None:
        identity = _identify(module, data, split, early_stopping, options)
        identity = {"steps": n_steps, "batch size": batch_size, "seed": seed, **identity}
        checkpoints = Checkpoints(checkpoint, identity)
        callbacks.append(checkpoints)
    resumed = None if checkpoints is None else checkpoints.resumed
    defaults = {
        "benchmark": False,
        "simple_progress_bar": False,
        "check_val_every_n_epoch": 1,
        "val_check_interval": max(1, n_steps // _CHECKS),
        "logger": False,  # scvi's own would keep the history a second time, slowly
    }
    trainer = Trainer(
        accelerator=accelerator,
        devices=1 if devices == "auto" else devices,
        max_epochs=1,
        callbacks=callbacks,
        **(defaults | trainer_kwargs),
    )
    if trainer.world_size > 1:
        raise ValueError(f"devices must be one device, got {devices!r}, which are {trainer.world_size}.")
    _advise_on_depths(plan, data)
    before = copy.deepcopy(module.state_dict())
    try:
        with nullcontext() if part is None else part.alone(module):
            _run(trainer, plan, loader, validation, resumed, keep=checkpoint is None)
        plan.stop_if_diverged()
        best.restore(plan)
    except (Exception, KeyboardInterrupt):
        module.load_state_dict(before)
        raise
    finally:
        module.to(trainer.strategy.root_device).eval()
    return plan


def _advise_on_depths(plan: TrainingPlan, data: TrackData) -> None:
    """Judge the depths that were given; those added up from the counts are right by construction."""
    tracks, counts = data.tracks, data.summary.counts
    if tracks.depth is not None:
        plan.advise(judge_depths(tracks.names, tracks.assays, tracks.depth, counts.mean_t, counts.total_t))


def _identify(
    module: ChipVAE, data: TrackData, split: Split, early_stopping: bool, options: PlanOptions
) -> dict[str, Any]:
    """What tells one training from another, but for its length and seed."""
    counts, signal = data.summary.counts, data.summary.signal
    return {
        "early stopping": early_stopping,
        "options": asdict(options),
        "tracks": list(data.tracks.names),
        "regions": data.n_regions,
        "regions to train on": [len(split.train), int(split.train.sum())],
        "reads": counts.total_t.tolist(),
        "entries with signal": signal.number_t.tolist(),
        "head": type(module.count_head).__name__ if module.has_counts else None,
        "weights": {name: list(value.shape) for name, value in module.state_dict().items()},
    }


def _run(
    trainer: Trainer,
    plan: TrainingPlan,
    loader: RegionLoader,
    validation: FixedMinibatches,
    resumed: Path | None,
    keep: bool,
) -> None:
    """Fit; to `keep` what was learnt, an interrupt ends it early without ending the program."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            # the loader reads arrays, which workers would not make faster
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # Lightning's own affair with torch
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            # small data are trained on without validation
            warnings.filterwarnings("ignore", message=".*`validation_step` but have no `val_dataloader`.*")
            trainer.fit(plan, loader, validation if len(validation) else None, ckpt_path=resumed)
    except (SystemExit, KeyboardInterrupt) as error:
        # the trainer turns an interrupt into an exit
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if not keep:
            raise KeyboardInterrupt from error
        plan.was_interrupted = True
        warnings.warn(
            f"training was interrupted at step {trainer.global_step}; the model keeps what it has learnt so far.",
            UserWarning,
            stacklevel=5,
        )
    finally:
        if on_interrupt is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)
