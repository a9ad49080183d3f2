"""chipvi train: a training on a file that can be cut off and go on, and that writes all or nothing."""

from __future__ import annotations

import shutil
import signal
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._keys import MODEL_FILE, PICKLE_FILE, WEIGHTS_FILE
from .._messages import Place, counted, listed, unknown
from .._quiet import quiet_lightning
from .._signals import take
from ..data.setup_keys import SetupKeys
from .console import open_console, plain_table, print_files, print_line
from .options import KEY_HELP, Accelerator, Chromosomes, DryRun, Given, Keys, Regions, Seed, require_folder
from .places import open_places
from .settings import (
    SETTINGS_FILE,
    Made,
    Settings,
    find_keys,
    key_texts,
    read_config,
    read_stored,
    write_settings,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from rich.console import Console

    from ..data.track_data import TrackData
    from ..model.chipvi import ChipVI

FILES = {
    MODEL_FILE: "the model; chipvi impute and chipvi.ChipVI.load take the folder",
    WEIGHTS_FILE: "its weights",
    SETTINGS_FILE: "how it was trained, and on what; --config takes it",
    "history.csv": "a row per logged step",
    "training.png": "how training went",
    "quality.csv": "how well each track is imputed without its own data",
}
CHECKPOINT = "training.ckpt"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What decides on a model beside its data: options that a settings file may hold as well."""

    steps: Annotated[
        int | None, typer.Option(help="Training steps; by default 3,000, or one pass if that is more.", min=1)
    ] = None
    seed: Seed = 0
    head: Annotated[str, typer.Option(help="Count head.")] = "mean_dispersion"
    regions: Regions = None
    chromosomes: Chromosomes = None
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping", help="Stop when the loss on held-out regions no longer falls.")
    ] = False
    validation_size: Annotated[
        float | None, typer.Option(help="Share of the regions to hold out; by default 0, with early stopping 0.1.")
    ] = None
    accelerator: Accelerator = "auto"
    devices: Annotated[
        int, typer.Option(help="GPUs, or processes on CPUs, of each machine to train on together.", min=1)
    ] = 1
    nodes: Annotated[int, typer.Option(help="Machines to train on together.", min=1)] = 1


GIVEN = Given(Training)
KNOWN = Given(SetupKeys, KEY_HELP).options() | GIVEN.options()
"""What a settings file may hold."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the model to.", show_default=False)]
    data: Annotated[
        Path | None,
        typer.Argument(help="Regions x tracks, .h5ad or .zarr, such as chipvi count writes.", show_default=False),
    ] = None
    training: Annotated[Mapping[str, Any], GIVEN]
    keys: Keys
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, named as these options; options win.")] = (
        None
    )
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was cut off.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False
    dry_run: DryRun = False


@dataclass(frozen=True, eq=False)
class Plan:
    """A training to be carried out.

    Parameters
    ----------
    path, adata
        What to train on.
    keys
        Where the data keep what.
    found
        What of that was found without being named, in words.
    training
        How to train, with what was not given.
    """

    path: Path
    adata: AnnData
    keys: SetupKeys
    found: list[str]
    training: Training

    @property
    def settings(self) -> Settings:
        """What makes the same model again."""
        return key_texts(self.keys) | asdict(self.training)


def run(options: Options) -> None:
    """Train a model, and write it with its settings, training curves and quality.

    Layers observed and signal, columns depth and is_control are used where they are there; `none` leaves one out.
    """
    from .._files import claimed, naming
    from ..data.check import surveyed_once

    if options.out.name in ("", ".."):
        raise ValueError(f"--out must name a folder to make; {options.out} is one already.")
    require_folder(options.out.parent)
    with surveyed_once():
        if _is_first(options):
            with nullcontext() if options.dry_run else claimed(options.out), naming(options.out):
                _run(options, open_console())
        elif not options.dry_run:
            _train_along(options)


def _is_first(options: Options) -> bool:
    """Whether this process writes the model: of those that train together, one does."""
    from .._files import unfinished_of

    if options.resume and not (unfinished_of(options.out) / SETTINGS_FILE).is_file():
        return True  # to say so
    from ..train.ranks import find_ranks
    from ..train.runner import choose_accelerator

    training = _training(_gather(options)[1])
    return find_ranks(choose_accelerator(training.accelerator), training.devices, num_nodes=training.nodes).is_first


def _training(given: Mapping[str, Any]) -> Training:
    return Training(**{name: value for name, value in given.items() if name in GIVEN.options()})


def _gather(options: Options) -> tuple[Path | None, Settings]:
    """Data and settings that are asked for: by options, a settings file, or a training that was cut off."""
    from .._files import unfinished_of

    given: Settings = {**options.keys, **options.training}
    if options.config is not None:
        given = read_config(options.config, KNOWN) | given
    if Path(given.get("regions") or "").is_file():
        given["regions"] = str(Path(given["regions"]).resolve())  # to be found from anywhere, as the data are
    return _resumed(unfinished_of(options.out), options.data, given) if options.resume else (options.data, given)


def _make_model(options: Options) -> tuple[Plan, ChipVI]:
    import torch

    from ..model.chipvi import ChipVI

    data_file, given = _gather(options)
    if data_file is None:
        raise ValueError("name the data to train on, an .h5ad or .zarr file.")
    plan = make_plan(data_file, given)
    ChipVI.setup_anndata(plan.adata, **asdict(plan.keys))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        return plan, ChipVI(plan.adata, head=plan.training.head)


def _train_along(options: Options) -> None:
    """Train together with the process that writes the model, and write nothing."""
    from ..train.advice import Diverged

    checkpoint = _find_unfinished(options) / CHECKPOINT
    plan, model = _make_model(options)
    if options.overwrite and not options.resume:
        for file in checkpoint.parent.glob(f"{CHECKPOINT}*"):
            file.unlink(missing_ok=True)  # the first process removes them, but perhaps later than they are looked for
    try:
        _train(model, plan.training, checkpoint)
    except Diverged as error:
        raise typer.Exit(1) from error  # all find out, and the first process says so


def _run(options: Options, console: Console) -> None:
    from ..train.advice import Diverged
    from ..train.words import describe

    out = options.out
    unfinished = _find_unfinished(options)
    plan, model = _make_model(options)
    training, data = plan.training, model.data
    _print_plan(plan, model, data, console)
    if options.dry_run:
        print_line(f"Would write: {out}", console)
        return
    if options.overwrite and not options.resume:
        shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, exist_ok=True)
    made = Made.of(plan.path, data)
    write_settings(unfinished, plan.settings, made)
    if (unfinished / CHECKPOINT).exists():
        console.print("Going on from the last checkpoint.")
    try:
        _train(model, training, unfinished / CHECKPOINT)
        quality = _judge(model, asdict(training), console)
        _write(model, plan.settings, made, quality, out)
    except BaseException as error:
        _end_early(error, out, unfinished, console)
        if isinstance(error, KeyboardInterrupt | InterruptedError):
            default = signal.SIGTERM if isinstance(error, InterruptedError) else signal.SIGINT
            raise typer.Exit(128 + (take() or default)) from error
        if isinstance(error, Diverged):
            raise FloatingPointError(describe(error.finding, Place.COMMAND_LINE)) from error
        raise
    shutil.rmtree(unfinished)
    files = FILES if quality is not None else {k: v for k, v in FILES.items() if k != "quality.csv"}
    print_files(out, files, console)


def _find_unfinished(options: Options) -> Path:
    """Folder of a training that is not finished, if it, or a new one, may become the model that is asked for."""
    from .._files import unfinished_of

    out, unfinished = options.out, unfinished_of(options.out)
    holds_model = any((out / name).is_file() for name in (MODEL_FILE, PICKLE_FILE))
    if out.exists() and not holds_model and not (out.is_dir() and not any(out.iterdir())):
        raise FileExistsError(f"{out} is there already, and is no model of chipvi. Name another folder.")
    if holds_model and not options.overwrite:
        raise FileExistsError(f"{out} holds a model already. Name another folder, or replace it with --overwrite.")
    is_there = (unfinished / CHECKPOINT).is_file()
    if options.resume and not is_there:
        raise ValueError(f"there is no unfinished training of {out} to resume; train without --resume.")
    if is_there and not options.resume and not options.overwrite:
        raise FileExistsError(f"a training of {out} was cut off. Go on with --resume, or start anew with --overwrite.")
    return unfinished


def _resumed(unfinished: Path, data: Path | None, given: Settings) -> tuple[Path, Settings]:
    """Data and settings of a training that was cut off; what is given must agree with them."""
    try:
        settings, made = read_stored(unfinished, KNOWN)
    except ValueError as error:
        raise ValueError(f"{error} Start anew with --overwrite.") from error
    for name, value in given.items():
        if settings.get(name) != value:
            raise ValueError(
                f"the unfinished training has {name.replace('_', '-')} {settings.get(name)!r}, not {value!r}. Resume "
                "it as it is, or start anew with --overwrite."
            )
    return Path(made.data) if data is None else data, settings


def make_plan(path: Path, given: Mapping[str, Any]) -> Plan:
    """Read the data and decide on what was not given.

    Raises
    ------
    ValueError
        For a file that is no AnnData, and settings out of range.
    """
    import numpy as np

    from ..data.segments import find_segments
    from ..data.splits import split_regions
    from ..data.track_data import names_of_layers
    from ..nn import COUNT_HEADS
    from ..train.runner import default_batch_size, default_steps

    named = GIVEN.options()
    training = _training(given)
    if training.head not in COUNT_HEADS:
        raise ValueError(unknown("head", training.head, list(COUNT_HEADS), "chipvi.nn.COUNT_HEADS"))
    require_accelerator(training.accelerator)
    adata = open_places(path, training.chromosomes, training.regions)
    keys, found = find_keys(names_of_layers(adata), adata.var, {k: v for k, v in given.items() if k not in named})
    size = training.validation_size
    if size is None:
        size = 0.1 if training.early_stopping else 0.0
    split = split_regions(find_segments(adata.obs, keys.segment_key), None, size, np.random.default_rng(training.seed))
    n_regions, n_devices = len(split.train), training.devices * training.nodes
    steps = training.steps or default_steps(n_regions, default_batch_size(n_regions, adata.n_vars), n_devices)
    training = replace(training, validation_size=size, steps=steps)
    return Plan(path, adata, keys, found, training)


def require_accelerator(name: str) -> str:
    """Where to compute, if it is known and is there.

    Raises
    ------
    ValueError
        If it is not.
    """
    from lightning.pytorch.accelerators import AcceleratorRegistry

    from ..train.runner import choose_accelerator

    chosen = choose_accelerator(name)
    if chosen != "gpu" and not AcceleratorRegistry[chosen]["accelerator"].is_available():
        raise ValueError(f"accelerator {chosen!r} is not there, or PyTorch cannot use it. Leave it at 'auto'.")
    return chosen


def _print_plan(plan: Plan, model: ChipVI, data: TrackData, console: Console) -> None:
    from ..data.outlook import Outlook
    from ..train.words import describe_length, describe_outlook

    tracks, training = data.tracks, plan.training
    missing = [name for name, there in zip(tracks.names, data.measured_t, strict=True) if not there]
    n_controls = int(tracks.is_control.sum())
    controls = f", {n_controls} of them {'a control' if n_controls == 1 else 'controls'}" if n_controls else ""
    without = f"; without data: {listed(missing)}" if missing else ""
    stretches = counted(data.segments.n_segments, "stretch", "stretches")
    lines = [
        f"{plan.path.name}: {counted(data.n_regions, 'region')} in {stretches} x {counted(len(tracks), 'track')} of "
        f"{counted(len(model.biosamples), 'biosample')}{controls}{without}."
    ]
    if plan.found:
        lines.append(f"Found and used: {', '.join(plan.found)}.")
    typical_width, widths_r = data.segments.typical_width, data.segments.relative_width_r
    if typical_width is not None and widths_r is not None and data.segments.bin_width is None:
        narrowest, widest = (round(float(width) * typical_width) for width in (widths_r.min(), widths_r.max()))
        lines.append(f"Regions are {narrowest:,} to {widest:,} bp wide: means are proportional to their width.")
    lines.append(describe_outlook(Outlook.of(data)))
    lines.append(f"Context: {model.context} of a region, within its stretch.")
    parameters = counted(sum(p.numel() for p in model.module.parameters()), "parameter")
    n_devices = training.devices * training.nodes
    together = f" on {n_devices} devices" if n_devices > 1 else ""
    held_out = f", {training.validation_size:.0%} of the regions held out" if training.validation_size else ""
    steps = training.steps or 0
    lines.append(
        f"To train: head {training.head}, {parameters}{together}{held_out}, seed {training.seed}; "
        f"{describe_length(steps, model.plan_calibration(steps))}"
    )
    for line in lines:
        print_line(line, console)


def _train(model: ChipVI, training: Training, checkpoint: Path) -> None:
    from ..train.advice import TrainingAdvice

    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingAdvice)  # printed with the quality
        model.train(
            max_steps=training.steps,
            seed=training.seed,
            early_stopping=training.early_stopping,
            validation_size=training.validation_size,
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            checkpoint=checkpoint,
            keep_checkpoint=True,  # until the model is written
        )


def draw_validation(model: ChipVI, size: float, seed: int) -> np.ndarray:
    """Rows that a training with this share and seed held out of the model's data, drawn once more."""
    import numpy as np

    from ..data.segments import find_segments
    from ..data.splits import split_regions

    segments = find_segments(model.adata.obs, model.setup_keys.segment_key)
    return split_regions(segments, None, size, np.random.default_rng(seed)).validation


def _judge(model: ChipVI, settings: Settings, console: Console) -> pd.DataFrame | None:
    """Print how well each track is imputed, and what to try; None if nothing can be judged."""
    import numpy as np

    from ..evaluate.words import describe, level_words, spread_words, standing_words, sum_up
    from ..train.words import describe as describe_finding

    held_out = draw_validation(model, settings["validation_size"], settings["seed"])
    try:
        diagnosis = model.diagnose(indices=held_out if len(held_out) else None)
    except ValueError as error:
        print_line(f"Quality cannot be judged: {error}", console)
        return None
    which = "Held-out regions" if len(held_out) else "Regions of training"
    shown = plain_table(f"{which}, imputed without the track's own data", "track")
    several = diagnosis.table["quantity"].nunique() > 1
    for column in [*(["quantity"] if several else []), "R²", "Pearson", "standing", "mean", "spread"]:
        shown.add_column(column, justify="right" if column in ("R²", "Pearson") else "left")
    for (track, row), verdict in zip(diagnosis.table.iterrows(), diagnosis.verdicts, strict=True):
        numbers = [f"{row[name]:.2f}" if np.isfinite(row[name]) else "-" for name in ("r2", "pearson")]
        words = [standing_words(verdict), level_words(verdict), spread_words(verdict)]
        shown.add_row(str(track), *([verdict.quantity] if several else []), *numbers, *words)
    console.print(shown)
    grades = sum_up([verdict.grade for verdict in diagnosis.verdicts])
    print_line(f"Of {counted(len(diagnosis.verdicts), 'check' if several else 'track')} {grades}.", console)
    place = Place.COMMAND_LINE
    advice = [describe(suggestion, place) for suggestion in diagnosis.suggestions]
    advice += [f"From training: {describe_finding(finding, place)}" for finding in model.findings]
    for text in advice:
        print_line(f"- {text}", console)
    return diagnosis.table


def _end_early(error: BaseException, out: Path, unfinished: Path, console: Console) -> None:
    """Print how to go on with what was cut off; of what cannot go on, leave nothing."""
    goes_on = (unfinished / CHECKPOINT).exists() and not isinstance(error, FloatingPointError)
    if not goes_on:
        shutil.rmtree(unfinished)
    how = f"To go on: chipvi train --resume -o {out}" if goes_on else "There is no checkpoint yet to go on from."
    if isinstance(error, KeyboardInterrupt | InterruptedError):
        print_line(f"Interrupted. {how}", console)
    elif goes_on:
        print_line(how, console)


def _write(model: ChipVI, settings: Settings, made: Made, quality: pd.DataFrame | None, out: Path) -> None:
    """Write the model's folder beside its place, then move it there; if that fails, an older one stays."""
    import pandas as pd

    from .. import pl
    from .._files import written_whole

    with written_whole(out) as partial:
        model.save(partial)
        write_settings(partial, settings, made)
        pd.concat((model.history or {}).values(), axis=1).to_csv(partial / "history.csv", float_format="%.6g")
        pl.training(model, save=partial / "training.png")
        if quality is not None:
            quality.to_csv(partial / "quality.csv", float_format="%.6g")
