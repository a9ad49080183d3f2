"""The command that trains a model on a file, so that it can be cut off and go on, and writes all or nothing."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import pl
from .._messages import Place, listed, unknown
from .._quiet import quiet_lightning
from ..evaluate.words import describe, level_words, spread_words, standing_words
from ..io.inputs import read_anndata
from ..model.chipvi import ChipVI, default_steps
from ..nn import COUNT_HEADS
from ..train.advice import TrainingAdvice
from ..train.words import describe as describe_finding
from .console import plain_table, tell_files
from .saved import draw_validation
from .settings import NONE, SETTINGS_FILE, Settings, find_setup, fingerprint, read_config, read_made, write_toml

SETUP = (
    "layer",
    "observed_layer",
    "signal_layer",
    "biosample_key",
    "assay_key",
    "depth_key",
    "control_key",
    "segment_key",
)
SETTINGS: dict[str, tuple[type, Any]] = {  # type and default
    **dict.fromkeys(SETUP, (str, None)),
    "steps": (int, None),
    "seed": (int, 0),
    "head": (str, "mean_dispersion"),
    "early_stopping": (bool, False),
    "validation_size": (float, None),
    "accelerator": (str, "auto"),
}
FILES = {
    "model.pt": "the model; chipvi impute and chipvi.ChipVI.load take the folder",
    SETTINGS_FILE: "how it was trained, and on what; --config takes it",
    "history.csv": "a row per logged step",
    "training.png": "how training went",
    "quality.csv": "how well each track is imputed without its own data",
}
CHECKPOINT = "training.ckpt"


@dataclass(frozen=True, eq=False)
class Plan:
    """A training to be carried out.

    Parameters
    ----------
    path, adata
        What to train on.
    setup
        Arguments of `setup_anndata`.
    found
        What of them was found without being named, in words.
    settings
        All settings, those that were not given included.
    """

    path: Path
    adata: AnnData
    setup: Settings
    found: list[str]
    settings: Settings


def run(
    data: Path | None,
    out: Path,
    given: Mapping[str, Any],
    config: Path | None,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    console: Console,
) -> None:
    """Train a model, print how well it imputes each track, and write it.

    Parameters
    ----------
    data
        AnnData to train on, ending in `.h5ad` or `.zarr`; None only to resume.
    out
        Folder to write the model to.
    given
        The settings that were given as flags, by name; None where not.
    config
        TOML file of settings; flags win.
    resume
        Go on from the checkpoint of a training that was cut off, with its settings.
    overwrite
        Replace a model, or a training that was cut off.
    dry_run
        Only tell what would be done.
    console
        Where to print.

    Raises
    ------
    ValueError
        For data, settings or a checkpoint that cannot be used.
    OSError
        If the model cannot be written.
    KeyboardInterrupt
        If the user interrupts; what was trained goes on with `resume`.
    """
    unfinished = out.with_name(f".{out.name}.unfinished")
    _require_free(out, unfinished, resume, overwrite)
    settings = {name: value for name, value in given.items() if value is not None}
    if config is not None:
        settings = read_config(config, SETTINGS) | settings
    if resume:
        data, settings = _resumed(unfinished, data, settings)
    if data is None:
        raise ValueError("name the data to train on, an .h5ad or .zarr file.")
    plan = make_plan(data, settings)
    ChipVI.setup_anndata(plan.adata, **plan.setup)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        model = ChipVI(plan.adata, head=plan.settings["head"])
    _tell_plan(plan, model, console)
    if dry_run:
        console.print(f"Would write: {out}", soft_wrap=True)
        return
    if overwrite and not resume:
        shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, exist_ok=True)
    _write_settings(unfinished, plan, model)
    if (unfinished / CHECKPOINT).exists():
        console.print("Going on from the last checkpoint.")
    try:
        _train(model, plan.settings, unfinished / CHECKPOINT, console)
        quality = _judge(model, plan.settings, console)
        _write(model, plan, quality, out)
    except BaseException as error:
        _tell_end(error, out, unfinished, console)
        raise
    shutil.rmtree(unfinished)
    tell_files(out, FILES if quality is not None else {k: v for k, v in FILES.items() if k != "quality.csv"}, console)


def _tell_end(error: BaseException, out: Path, unfinished: Path, console: Console) -> None:
    """Say how to go on with what was cut off; of what cannot go on, leave nothing."""
    goes_on = (unfinished / CHECKPOINT).exists() and not isinstance(error, FloatingPointError)
    if not goes_on:
        shutil.rmtree(unfinished)
    if isinstance(error, KeyboardInterrupt):
        how = f"To go on: chipvi train --resume -o {out}" if goes_on else "There is no checkpoint yet to go on from."
        console.print(f"Interrupted. {how}", soft_wrap=True, highlight=False)


def make_plan(path: Path, given: Mapping[str, Any]) -> Plan:
    """Read the data and decide on what was not given.

    Raises
    ------
    ValueError
        For a file that is no AnnData, and settings out of range.
    """
    settings = {name: default for name, (_, default) in SETTINGS.items()} | dict(given)
    if settings["head"] not in COUNT_HEADS:
        raise ValueError(unknown("head", settings["head"], list(COUNT_HEADS), "chipvi.nn.COUNT_HEADS"))
    adata = read_anndata(path)
    setup, found = find_setup(adata.layers, adata.var, settings)
    if settings["validation_size"] is None:
        settings["validation_size"] = 0.1 if settings["early_stopping"] else 0.0
    if settings["steps"] is None:
        settings["steps"] = default_steps(round(adata.n_obs * (1 - settings["validation_size"])))
    if settings["steps"] < 1 or settings["seed"] < 0:
        raise ValueError(f"steps must be at least 1 and seed at least 0, got {settings['steps']}, {settings['seed']}.")
    return Plan(path, adata, setup, found, settings | {k: v or NONE for k, v in setup.items() if k in _FOUND})


# stored as they were used, so that they are not looked for again
_FOUND = ("observed_layer", "signal_layer", "depth_key", "control_key")


def _require_free(out: Path, unfinished: Path, resume: bool, overwrite: bool) -> None:
    if out.exists() and not (out / "model.pt").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{out} is there already, and is no model of chipvi. Name another folder.")
    if (out / "model.pt").is_file() and not overwrite:
        raise FileExistsError(f"{out} holds a model already. Name another folder, or replace it with --overwrite.")
    is_there = (unfinished / CHECKPOINT).is_file()
    if resume and not is_there:
        raise ValueError(f"there is no unfinished training of {out} to resume; train without --resume.")
    if is_there and not resume and not overwrite:
        raise FileExistsError(f"a training of {out} was cut off. Go on with --resume, or start anew with --overwrite.")


def _resumed(unfinished: Path, data: Path | None, given: Settings) -> tuple[Path, Settings]:
    """Data and settings of a training that was cut off; what is given must agree with them."""
    settings, made = read_made(unfinished)
    for name, value in given.items():
        if settings.get(name) != value:
            raise ValueError(
                f"the unfinished training has {name.replace('_', '-')} {settings.get(name)!r}, not {value!r}. Resume "
                "it as it is, or start anew with --overwrite."
            )
    return Path(made["data"]) if data is None else data, settings


def _tell_plan(plan: Plan, model: ChipVI, console: Console) -> None:
    data = model.data
    tracks, settings = data.tracks, plan.settings
    missing = [name for name, there in zip(tracks.names, data.measured_t, strict=True) if not there]
    n_controls = int(np.sum(tracks.is_control))
    controls = f", {n_controls} of them controls" if n_controls else ""
    without = f"; without data: {listed(missing)}" if missing else ""
    lines = [
        f"{plan.path.name}: {data.n_regions:,} regions in {data.segments.n_segments:,} stretches x {tracks.n_tracks} "
        f"tracks of {len(model.biosamples)} biosamples{controls}{without}."
    ]
    if plan.found:
        lines.append(f"Found and used: {', '.join(plan.found)}.")
    n_weights = sum(p.numel() for p in model.module.parameters())
    held_out = f", {settings['validation_size']:.0%} of the regions held out" if settings["validation_size"] else ""
    holdout = "; then held-out-track calibration" if model.has_gaps else ""
    lines.append(
        f"To train: head {settings['head']}, {n_weights:,} parameters, {settings['steps']:,} steps{held_out}, "
        f"seed {settings['seed']}{holdout}."
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


class _Bar(lightning.Callback):
    """A progress bar of steps, on standard error; Lightning's own counts epochs, of which there is one."""

    watches_calibration = True
    _text = "Training"

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin where training begins."""
        columns = (TextColumn(self._text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=trainer.num_training_batches, completed=trainer.global_step)
        self._progress.start()
        self._text = "Calibrating"  # what follows the training

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Move."""
        self._progress.update(self._task, completed=trainer.global_step)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Make room, whatever ended training."""
        if hasattr(self, "_progress"):
            self._progress.stop()


def _train(model: ChipVI, settings: Settings, checkpoint: Path, console: Console) -> None:
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingAdvice)  # told with the quality
        model.train(
            max_steps=settings["steps"],
            seed=settings["seed"],
            early_stopping=settings["early_stopping"],
            validation_size=settings["validation_size"],
            accelerator=settings["accelerator"],
            checkpoint=checkpoint,
            callbacks=[_Bar()],
            enable_progress_bar=False,
        )


def _judge(model: ChipVI, settings: Settings, console: Console) -> pd.DataFrame | None:
    """Print how well each track is imputed, and what to try; None if nothing can be judged."""
    held_out = draw_validation(model, settings["validation_size"], settings["seed"])
    try:
        diagnosis = model.diagnose(indices=held_out if len(held_out) else None)
    except ValueError as error:
        console.print(f"Quality cannot be judged: {error}", highlight=False, markup=False)
        return None
    which = "Held-out regions" if len(held_out) else "Regions of training"
    shown = plain_table(f"{which}, imputed without the track's own data", "track")
    several = diagnosis.table["quantity"].nunique() > 1
    for column in [*(["quantity"] if several else []), "R²", "Pearson", "is", "mean", "spread"]:
        shown.add_column(column, justify="right" if column in ("R²", "Pearson") else "left")
    for (track, row), verdict in zip(diagnosis.table.iterrows(), diagnosis.verdicts, strict=True):
        numbers = [f"{row[name]:.2f}" if np.isfinite(row[name]) else "-" for name in ("r2", "pearson")]
        words = [standing_words(verdict), level_words(verdict), spread_words(verdict)]
        shown.add_row(escape(str(track)), *([verdict.quantity] if several else []), *numbers, *words)
    console.print(shown)
    place = Place.COMMAND_LINE
    advice = [describe(suggestion, place) for suggestion in diagnosis.suggestions]
    advice += [f"From training: {describe_finding(finding, place)}" for finding in model.findings]
    for text in advice:
        console.print(f"- {text}", highlight=False, markup=False)
    return diagnosis.table


def _made(plan: Plan, model: ChipVI) -> Settings:
    data = model.data
    return {
        "chipvi": version("chipvi"),
        "data": str(plan.path.resolve()),
        "regions": data.n_regions,
        "tracks": data.n_tracks,
        "fingerprint": fingerprint(data),
    }


def _write_settings(folder: Path, plan: Plan, model: ChipVI) -> None:
    write_toml(folder / SETTINGS_FILE, plan.settings, _made(plan, model))


def _write(model: ChipVI, plan: Plan, quality: pd.DataFrame | None, out: Path) -> None:
    """Write the model's folder beside its place, then move it there; if that fails, an older one stays."""
    partial = out.with_name(f".{out.name}.{uuid4().hex[:8]}")
    old = out.with_name(f"{partial.name}.old")
    try:
        model.save(partial)
        _write_settings(partial, plan, model)
        pd.concat((model.history or {}).values(), axis=1).to_csv(partial / "history.csv", float_format="%.6g")
        pl.training(model, save=partial / "training.png")
        if quality is not None:
            quality.to_csv(partial / "quality.csv", float_format="%.6g")
        if out.exists():
            os.replace(out, old)
        os.replace(partial, out)
    except BaseException:
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
