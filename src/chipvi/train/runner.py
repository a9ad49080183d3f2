"""One run of the trainer, from data to the best weights."""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from scvi.train import SaveCheckpoint, Trainer

from .._arguments import refuse_unknown, require_whole
from .._messages import counted, levels_to_caller, unknown
from .._quiet import quiet_loggers
from .._workers import keep_freed_memory
from ..data.context import count_at_window_bin
from ..data.loader import FixedMinibatches, RegionLoader
from ..data.splits import MOST_VALIDATED, Split, draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..module.vae import ChipVAE
from .advice import judge_depths
from .checkpoint import Checkpoints
from .plan import PlanOptions, TrainingPlan
from .progress import StepProgress
from .ranks import Ranks, refused_by_lightning
from .trainable import TrainableMask

_CHECKS = 20  # validations in a run
PATIENCE = 8  # validations without a lower loss
_STEPS = 3_000
_MANY_REGIONS, _MANY_TRACKS = 20_000, 64
# Arguments of train itself, which a misspelt one may mean.
_OF_TRAIN = (
    "max_epochs",
    "max_steps",
    "accelerator",
    "devices",
    "batch_size",
    "validation_size",
    "split_key",
    "early_stopping",
    "seed",
    "plan_kwargs",
    "checkpoint",
    "calibrate_unseen",
    "boosted_trees",
)
_WARM_UP = ("early_stopping_warmup_epochs",)


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


class EndTogether(pl.Callback):
    """Lets each of several processes end by itself: the others find out, for their messages fail.

    Lightning would kill them without a word where one that it started has ended, and where one gets SIGTERM have all
    wait for a message that need not come.
    """

    def __init__(self) -> None:
        self._at_sigterm = signal.getsignal(signal.SIGTERM)
        self._started: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the processes, which are connected from now on, from the launcher and from the thread that watches."""
        watched = getattr(trainer.strategy.launcher, "procs", [])
        self._started = [*watched]
        watched.clear()
        # newer versions ask the first process before every step whether it got SIGTERM, for which a GPU halts
        trainer.fit_loop.epoch_loop.__dict__["_broadcast_sigterm_tensor"] = lambda: None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the place of Lightning's handler of SIGTERM, which goes when training ends."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._at_sigterm if callable(self._at_sigterm) else _end)


def _end(number: int, frame: FrameType | None) -> None:
    raise SIGTERMException


def choose_accelerator(name: str) -> str:
    """Take an NVIDIA GPU where there is one, or the CPU, if `name` is "auto"; else what is asked for.

    Raises
    ------
    ValueError
        If Lightning knows no such name, or a GPU is asked for and there is none.
    """
    known = ["auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())]
    if name not in known:
        raise ValueError(unknown("accelerator", name, known, "those of Lightning"))
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_gpu else "cpu"  # sums in float64 rule out Apple's GPU
    if name in ("cuda", "gpu") and not has_gpu:
        raise ValueError(
            f"accelerator {name!r} needs an NVIDIA GPU that PyTorch {torch.__version__} can use; there is none here. "
            "Leave it at 'auto', or install the PyTorch build for your GPU."
        )
    return name


def take_patience(trainer_kwargs: dict[str, Any], early_stopping: bool) -> int:
    """Check the names of options for the trainer, and take `early_stopping_patience` out of them.

    Raises
    ------
    ValueError
        For an option that there is not, or one of scvi-tools' early stopping that ours cannot honour.
    """
    known = [*signature(Trainer.__init__).parameters, *signature(pl.Trainer.__init__).parameters]
    own = [name for name in dict.fromkeys(known) if name not in ("self", "kwargs", *_OF_TRAIN)]
    refuse_unknown(trainer_kwargs, [*_OF_TRAIN, *own], "the arguments of train or of scvi.train.Trainer")
    for name in ("early_stopping_monitor", "early_stopping_mode", "early_stopping_min_delta", *_WARM_UP):
        if name in trainer_kwargs:
            raise ValueError(
                f"{name} cannot be chosen: early stopping watches the imputation loss on held-out regions, from the "
                "first validation on. Leave it out, or pass an EarlyStopping of Lightning among callbacks."
            )
    patience = trainer_kwargs.pop("early_stopping_patience", PATIENCE)
    require_whole("early_stopping_patience", patience, least=1)
    if patience != PATIENCE and not early_stopping:
        raise ValueError("early_stopping_patience needs early_stopping=True.")
    return int(patience)


def default_batch_size(n_regions: int, n_tracks: int) -> int:
    """Regions in a minibatch where no number is given: 512, or 1,024 of 20,000 regions or more of 64 tracks or fewer.

    Fewer regions would be learnt by heart, and many tracks fill minibatches by themselves.
    """
    return 1_024 if n_regions >= _MANY_REGIONS and n_tracks <= _MANY_TRACKS else 512


def default_steps(n_regions: int, batch_size: int, n_devices: int = 1) -> int:
    """Minibatches of each device where no number is given: 3,000, or one pass of all together if that is more."""
    return max(_STEPS, -(-n_regions // (batch_size * n_devices)))


@dataclass(frozen=True)
class FitOptions:
    """How to train.

    Parameters
    ----------
    n_steps, batch_size, seed
        Length, regions in a minibatch, order and masks.
    early_stopping, patience
        Stop when the validation loss has not fallen for so many validations, and return to the best weights.
    plan
        Options of the training plan.
    accelerator, devices
        Of :class:`scvi.train.Trainer`; "auto" is one device.
    checkpoint
        File to save training to once a minute, and to go on from if it is there.
    trainer
        Further arguments of :class:`scvi.train.Trainer`.
    ranks
        The processes that train together, as :func:`chipvi.train.ranks.find_ranks` finds them for these devices.
    n_epochs
        Parts of equal length, each an epoch to callbacks.
    """

    n_steps: int
    batch_size: int
    seed: int
    early_stopping: bool = False
    plan: PlanOptions = field(default_factory=PlanOptions)
    accelerator: str = "auto"
    devices: Any = "auto"
    checkpoint: Path | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    patience: int = PATIENCE
    ranks: Ranks = Ranks()
    n_epochs: int = 1

    @property
    def callbacks(self) -> list[pl.Callback]:
        """Callbacks that the user gave."""
        given = self.trainer.get("callbacks") or []
        return [given] if isinstance(given, pl.Callback) else list(given)

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown, by our own bars and lines: neither unwanted nor shown by another bar."""
        is_wanted = self.trainer.get("enable_progress_bar", True) and not self.trainer.get("simple_progress_bar", False)
        return bool(is_wanted) and not any(isinstance(callback, ProgressBar) for callback in self.callbacks)

    def __post_init__(self) -> None:
        callbacks, loggers = (self.trainer.get(name) for name in ("callbacks", "logger"))
        _require_some("callbacks", callbacks, pl.Callback)
        if not isinstance(loggers, bool):
            _require_some("logger", loggers, Logger)


def _require_some(name: str, given: Any, kind: type) -> None:
    """Refuse what is neither None, nor one of a kind, nor a list of them."""
    if not all(
        isinstance(one, kind) for one in (given if isinstance(given, list | tuple) else [given] * (given is not None))
    ):
        raise TypeError(f"{name} must be a {kind.__name__} of Lightning, or a list of them; it is {given!r}.")


def fit(
    module: ChipVAE,
    data: TrackData,
    split: Split,
    options: FitOptions,
    mask: TrainableMask | None = None,
    name: str = "Training",
    host: Callable[[TrainingPlan], Any] | None = None,
) -> TrainingPlan:
    """Train a module in place; if it is interrupted, it keeps what it has learnt; if it fails, it is of no use.

    Parameters
    ----------
    module, data, split
        What to train, on which rows of which data.
    options
        How.
    mask
        What may move; None for all of the module.
    name
        What the progress bar calls it.
    host
        Makes the model that callbacks of scvi-tools find at the trainer.

    Returns
    -------
    The plan, with the history and advice. The module stays on the device where it was trained.

    Raises
    ------
    ValueError
        For devices other than those of the options' ranks, if there are fewer held-out regions than devices, or if the
        checkpoint is of another training.
    FloatingPointError
        If the gradient or the validation loss is no longer finite.
    KeyboardInterrupt
        If it is interrupted and there is a checkpoint to go on from.
    InterruptedError
        If the process is asked to end (SIGTERM).
    """
    keep_freed_memory()
    accelerator, ranks = choose_accelerator(options.accelerator), options.ranks
    if 0 < len(split.validation) < ranks.size:
        raise ValueError(
            f"{counted(len(split.validation), 'held-out region')} cannot be shared by {ranks.size} devices. Hold out "
            "more, or train on fewer devices."
        )
    module.train()  # a module that was trained before is in evaluation mode
    n_regions = count_at_window_bin(len(split.train), data.segments.bin_width)
    plan = TrainingPlan(module, options.n_steps, options.seed, options.plan, data.tracks.names, n_regions, mask, ranks)
    random = np.random.default_rng(options.seed)
    loader = RegionLoader(
        data,
        split.train,
        module.half_widths,
        options.batch_size,
        options.n_steps // options.n_epochs,
        random,
        ranks.rank,
        ranks.size,
    )
    validated = draw_blocks(split.validation, MOST_VALIDATED, bin_width=data.segments.bin_width)
    validated = np.array_split(validated, ranks.size)[ranks.rank]
    validation = FixedMinibatches(data, validated, module.half_widths, options.batch_size)
    callbacks, best = options.callbacks, KeepBest()
    if len(validation) and options.early_stopping:
        callbacks += [best, EarlyStopping("validation_loss", patience=options.patience)]
    resumed = None
    if options.checkpoint is not None:
        checkpoints = Checkpoints(options.checkpoint, _identify(module, data, split, options), ranks)
        callbacks.append(checkpoints)
        resumed = checkpoints.resumed
    defaults = {
        "benchmark": False,
        "simple_progress_bar": False,
        "check_val_every_n_epoch": max(1, options.n_epochs // _CHECKS),
        "val_check_interval": 1.0 if options.n_epochs > _CHECKS else max(1, options.n_steps // _CHECKS),
        "logger": False,  # scvi's own would keep the history a second time, slowly
    }
    given: dict[str, Any] = defaults | dict(options.trainer)
    if options.shows_progress:
        callbacks.append(StepProgress(name, options.n_steps))
        given["enable_progress_bar"] = False
    if ranks.size > 1:
        callbacks.append(EndTogether())
        # offsets for a target's own reads have no gradient where there are none; buffers are equal, and stay so
        given["strategy"] = DDPStrategy(find_unused_parameters=not module.has_counts, broadcast_buffers=False)
    with quiet_loggers(), refused_by_lightning(devices=options.devices, **options.trainer), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="early_stopping was automatically disabled")  # that of scvi-tools
        trainer = Trainer(
            accelerator=accelerator,
            devices=1 if options.devices == "auto" else options.devices,
            max_epochs=options.n_epochs,
            **(given | {"callbacks": callbacks}),
        )
    if trainer.world_size != ranks.size:
        raise ValueError(f"devices={options.devices!r} are {trainer.world_size} devices, not {ranks.size}.")
    if host is not None:
        trainer._model = host(plan)  # SaveCheckpoint saves it
    _require_checkpoints(trainer, has_validation=len(validation) > 0)
    _advise_on_depths(plan, data)
    with nullcontext() if mask is None else mask.alone(module):
        _run(trainer, plan, loader, validation, resumed, keep=options.checkpoint is None and ranks.size == 1)
    plan.stop_if_diverged()
    best.restore(plan)
    module.to(trainer.strategy.root_device).eval()
    return plan


def _require_checkpoints(trainer: Trainer, has_validation: bool) -> None:
    """Refuse what scvi-tools' checkpoints cannot do here."""
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, SaveCheckpoint):
            continue
        if callback.load_best_on_end or callback.check_nan_gradients:
            raise ValueError(
                "SaveCheckpoint cannot put weights back here (load_best_on_end, check_nan_gradients), for it opens "
                "pickles, which chipvi does not write. early_stopping=True keeps the best weights, and a training that "
                "fails leaves the model as it was."
            )
        if not has_validation and str(callback.monitor).startswith("validation_"):
            raise ValueError(
                f"SaveCheckpoint watches {callback.monitor}, for which regions are held out. Give "
                "validation_size=0.1, say, or a split_key."
            )


def _advise_on_depths(plan: TrainingPlan, data: TrackData) -> None:
    """Judge the depths that were given; those added up from the counts are right by construction."""
    tracks, counts = data.tracks, data.summary.counts
    if tracks.depth is not None:
        plan.advise(judge_depths(tracks.names, tracks.assays, tracks.depth, counts.mean_t, counts.total_t))


def _identify(module: ChipVAE, data: TrackData, split: Split, options: FitOptions) -> dict[str, Any]:
    """What makes one training another one."""
    counts, signal = data.summary.counts, data.summary.signal
    return {
        "steps": options.n_steps,
        "epochs": options.n_epochs,
        "batch size": options.batch_size,
        "seed": options.seed,
        "early stopping": options.early_stopping,
        "patience": options.patience,
        "options": asdict(options.plan),
        "tracks": list(data.tracks.names),
        "regions": data.n_regions,
        "regions to train on": [len(split.train), int(split.train.sum())],
        "reads": counts.total_t.tolist(),
        "entries with signal": signal.number_t.tolist(),
        "head": type(module.view(ViewKind.COUNTS).head).__name__ if module.has_counts else None,
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
        with quiet_loggers(), warnings.catch_warnings():
            # the loader reads arrays, which workers would not make faster
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # Lightning's own affair with torch
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            # by another name in newer versions of torch
            warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated.*")
            # small data are trained on without validation
            warnings.filterwarnings("ignore", message=".*`validation_step` but have no `val_dataloader`.*")
            trainer.fit(plan, loader, validation if len(validation) else None, ckpt_path=resumed)
    except SIGTERMException as error:
        raise InterruptedError(
            f"training was ended by SIGTERM at step {trainer.global_step}; the model is as it was before."
        ) from error
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
            stacklevel=levels_to_caller(),
        )
    finally:
        if on_interrupt is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)
