"""Rehearsal: models that are trained without some of the tracks, to see what becomes of these."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.grid import Layout
from ..data.splits import Split
from ..data.track_data import TrackData
from ..module.vae import ChipVAE
from ..train.advice import TrainingAdvice
from ..train.runner import fit
from .hierarchy import Trial, choose_shares, learn, try_tracks

_ROUNDS = 2
_SHORTER = 6  # is a round than the training, but not below
_FEWEST_STEPS = 200  # for a network that has learnt nothing would leave all to the average
_WITHHELD_SHARE = 0.2  # of the tracks of a biosample in a round, but at least one
_FEWEST_TRACKS = 3  # of a biosample from which one is withheld
_MOST_WITHHELD = 64


def wants_rehearsal(wish: bool | None, layout: Layout, module: ChipVAE) -> bool:
    """As told, or else whether cells of the grid have no data, controls aside: experiments that nobody has run."""
    is_target_a = np.isin(np.arange(len(layout.assays)), layout.assay_t[layout.is_target_t])
    has_gaps = not bool(module.known_ba.cpu().numpy()[:, is_target_a].all())
    return has_gaps if wish is None else wish


def checkpoints_beside(checkpoint: Path) -> list[Path]:
    """Where the rounds of a rehearsal keep their own checkpoints."""
    return [checkpoint.with_name(f"{checkpoint.name}.rehearsal{n}") for n in range(1, _ROUNDS + 1)]


def choose_withheld(layout: Layout, known_ba: np.ndarray) -> list[np.ndarray]:
    """Tracks to train without in each round, ascending: of assays that another biosample keeps, each track once.

    They are spread over biosamples and assays; rounds without any are left out.

    Parameters
    ----------
    layout, known_ba
        The grid, and which of its cells have data.
    """
    target_ba = known_ba.copy()
    target_ba[layout.biosample_t[~layout.is_target_t], layout.assay_t[~layout.is_target_t]] = False
    tried_ba = np.zeros_like(target_ba)
    rounds = []
    for _ in range(_ROUNDS):
        cells = islice(_choose_cells(target_ba, tried_ba), _MOST_WITHHELD)
        withheld = np.sort(np.array([layout.track_ba[cell] for cell in cells], dtype=np.int64))
        if len(withheld):
            rounds.append(withheld)
    return rounds


def _choose_cells(target_ba: np.ndarray, tried_ba: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cells to withhold together, assay by assay and around again; noted as tried, and not chosen if they are."""
    left_ba, number_b = target_ba.copy(), target_ba.sum(axis=1)
    quota_b = np.where(number_b >= _FEWEST_TRACKS, np.ceil(_WITHHELD_SHARE * number_b), 0)
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


def rehearse(
    module: ChipVAE,
    make_module: Callable[[TrackData, np.ndarray], ChipVAE],
    layout: Layout,
    data: TrackData,
    split: Split,
    n_steps: int,
    seed: int,
    checkpoint: Path | None = None,
    **options: Any,
) -> None:
    """Train other modules without some of the tracks, and tell a trained one what became of them, in place.

    If it is interrupted, or no track can be withheld, the module stays as it is.

    Parameters
    ----------
    module, layout
        Trained, and its grid.
    make_module
        Makes a module of the same kind that starts from some rows of some data.
    data, split, n_steps, seed, checkpoint, options
        What the module was trained on and how, as in :func:`chipvi.train.fit`. The logger is left out, and callbacks
        but for those with `watches_rehearsal`.
    """
    callbacks = [callback for callback in options.pop("callbacks", []) if getattr(callback, "watches_rehearsal", False)]
    options.pop("logger", None)
    n_steps = max(-(-n_steps // _SHORTER), min(n_steps, _FEWEST_STEPS))
    options |= {"early_stopping": False, "callbacks": callbacks, "n_steps": n_steps, "seed": seed}
    files = [None] * _ROUNDS if checkpoint is None else checkpoints_beside(checkpoint)
    split = Split(split.train, split.validation[:0])
    trials: list[Trial] = []
    for columns, file in zip(choose_withheld(layout, module.known_ba.cpu().numpy()), files, strict=False):
        seen = data.without(columns)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
            torch.manual_seed(seed)
            warnings.simplefilter("ignore", TrainingAdvice)  # was said of the training itself
            rehearsed = make_module(seen, split.train)
            plan = fit(rehearsed, seen, split, checkpoint=file, **options)
        if plan.was_interrupted:
            return
        trials += try_tracks(rehearsed, layout, seen, data, columns, split.train)
    if trials:
        share_ba = choose_shares(trials, module.unseen_share_ba.double().cpu().numpy())
        learn(module, trials, share_ba, np.arange(len(layout.biosamples)))
