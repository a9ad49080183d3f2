"""Held-out-track calibration: models trained without some of the tracks show how well unseen ones are imputed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ..data.grid import Grid
from ..data.splits import Split
from ..data.track_data import TrackData
from ..module.vae import ChipVAE
from ..train.advice import TrainingAdvice
from ..train.runner import FitOptions, fit
from .hierarchy import Trial, learn, try_tracks

_ROUNDS = 2
_SHORTER = 6  # is a round than the training, but not below
_FEWEST_STEPS = 200  # for a network that has learnt nothing would leave all to the average
_HELD_OUT_SHARE = 0.2  # of the tracks of a biosample in a round, but at least one
_FEWEST_TRACKS = 3  # of a biosample from which one is held out
_MOST_HELD_OUT = 64


def has_gaps(grid: Grid, known_ba: np.ndarray) -> bool:
    """Whether cells of the grid have no data, controls aside: experiments that nobody has run."""
    is_target_a = np.isin(np.arange(len(grid.assays)), grid.assay_t[grid.is_target_t])
    return not bool(known_ba[:, is_target_a].all())


def checkpoints_beside(checkpoint: Path) -> list[Path]:
    """Where the rounds of held-out-track calibration keep their own checkpoints."""
    return [checkpoint.with_name(f"{checkpoint.name}.held_out{n}") for n in range(1, _ROUNDS + 1)]


def choose_held_out(grid: Grid, known_ba: np.ndarray) -> list[np.ndarray]:
    """Tracks to train without in each round, ascending: of assays that another biosample keeps, each track once.

    They are spread over biosamples and assays; rounds without any are left out.

    Parameters
    ----------
    grid, known_ba
        The grid, and which of its cells have data.
    """
    target_ba = known_ba.copy()
    target_ba[grid.biosample_t[~grid.is_target_t], grid.assay_t[~grid.is_target_t]] = False
    tried_ba = np.zeros_like(target_ba)
    rounds = []
    for _ in range(_ROUNDS):
        cells = islice(_choose_cells(target_ba, tried_ba), _MOST_HELD_OUT)
        held_out = np.sort(np.array([grid.track_ba[cell] for cell in cells], dtype=np.int64))
        if len(held_out):
            rounds.append(held_out)
    return rounds


def _choose_cells(target_ba: np.ndarray, tried_ba: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cells to hold out together, assay by assay and around again; noted as tried, and not chosen if they are."""
    left_ba, number_b = target_ba.copy(), target_ba.sum(axis=1)
    quota_b = np.where(number_b >= _FEWEST_TRACKS, np.ceil(_HELD_OUT_SHARE * number_b), 0)
    found = True
    while found:
        found = False
        # assays that were tried least come first
        for a in map(int, np.argsort(tried_ba.sum(axis=0), kind="stable")):
            may_b = left_ba[:, a] & ~tried_ba[:, a] & (quota_b > 0)
            if may_b.any() and left_ba[:, a].sum() >= 2:
                b = int(np.argmax(np.where(may_b, quota_b, -1)))
                left_ba[b, a], tried_ba[b, a], found = False, True, True
                quota_b[b] -= 1
                yield b, a


def plan_rounds(grid: Grid, known_ba: np.ndarray, n_steps: int) -> list[int]:
    """Steps of each round of held-out-track calibration after a training of so many; none if no track can be held out.

    Parameters
    ----------
    grid, known_ba
        The grid, and which of its cells have data.
    n_steps
        Of the training.
    """
    shorter = max(-(-n_steps // _SHORTER), min(n_steps, _FEWEST_STEPS))
    return [shorter] * len(choose_held_out(grid, known_ba))


def calibrate_unseen(
    module: ChipVAE,
    make_module: Callable[[TrackData, np.ndarray], ChipVAE],
    grid: Grid,
    data: TrackData,
    split: Split,
    options: FitOptions,
) -> None:
    """Train other modules without some of the tracks, and learn from what becomes of these, in place.

    If it is interrupted, or no track can be held out, the module stays as it is.

    Parameters
    ----------
    module, grid
        Trained, and its grid.
    make_module
        Makes a module of the same kind that starts from some rows of some data.
    data, split, options
        What the module was trained on and how. The logger is left out, and callbacks but for those with
        `watches_calibration`.
    """
    rounds = plan_rounds(grid, module.known_array_ba, options.n_steps)
    callbacks = [callback for callback in options.callbacks if getattr(callback, "watches_calibration", False)]
    trainer = {name: value for name, value in options.trainer.items() if name != "logger"} | {"callbacks": callbacks}
    options = replace(options, early_stopping=False, trainer=trainer)
    files = [None] * _ROUNDS if options.checkpoint is None else checkpoints_beside(options.checkpoint)
    split = Split(split.train, split.validation[:0])
    trials: list[Trial] = []
    held_out = choose_held_out(grid, module.known_array_ba)
    for number, (columns, n_steps, file) in enumerate(zip(held_out, rounds, files, strict=False), start=1):
        seen = data.without(columns)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
            torch.manual_seed(options.seed)
            warnings.simplefilter("ignore", TrainingAdvice)  # was given on the training itself
            other = make_module(seen, split.train)
            name = f"Calibration {number} of {len(rounds)}"
            plan = fit(other, seen, split, replace(options, n_steps=n_steps, checkpoint=file), name=name)
        if plan.was_interrupted:
            return
        trials += try_tracks(other, grid, seen, data, columns, split.train)
    learn(module, trials, module.known_array_ba, ~module.known_array_ba)
