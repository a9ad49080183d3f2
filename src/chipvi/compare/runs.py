"""One run of a comparison: a head trained with a seed, and judged on held-out regions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from rich.progress import Progress, TaskID

from .. import metrics
from ..data.splits import draw_blocks
from ..model.chipvi import ChipVI
from ..train.plan import PlanOptions, TrainingPlan
from ..train.runner import FitOptions
from .trial import Trial

SCORES = ("r2", "pearson", "nll", "crps", "pit_deviation", "coverage", "expected_coverage")
OK = "ok"
_LEVEL = 0.95
_BATCH_SIZE = 512
_CHECKS, _LEAST_INTERVAL = 40, 10  # validations in a run, at most; steps between two
_LOG_EVERY = 50  # steps
_MOST_FITTED = 20_000  # regions to fit the dispersion of the marginal on


@dataclass(frozen=True, eq=False)
class Run:
    """What came of a run.

    Parameters
    ----------
    summary
        A row of :attr:`HeadComparison.runs`.
    tracks
        Scores by track; without rows if the run diverged.
    curve
        Held-out R2 by step.
    """

    summary: dict[str, Any]
    tracks: pd.DataFrame
    curve: pd.Series


class Watch(pl.Callback):
    """Counts and times the steps of a run, validation left out, and knows the history should training fail.

    Parameters
    ----------
    progress, task
        What to move by every step; shown only while a model is trained, for prediction has a bar of its own.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.n_steps, self.seconds = 0, 0.0
        self._progress, self._task, self._since = progress, task, 0.0
        self._plan: TrainingPlan | None = None

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """What was logged, by quantity."""
        return {} if self._plan is None else self._plan.history

    @property
    def advice(self) -> list[str]:
        """What training advised."""
        return [] if self._plan is None else self._plan.advice

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._plan = cast(TrainingPlan, pl_module)
        self._progress.start()
        self._since = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Count."""
        now = time.perf_counter()
        self.seconds += now - self._since
        self.n_steps, self._since = self.n_steps + 1, now
        self._progress.advance(self._task)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again."""
        self._since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make room."""
        self._progress.stop()


def train(trial: Trial, head: str, seed: int, watch: Watch) -> ChipVI:
    """Train a head with a seed.

    Raises
    ------
    FloatingPointError
        If the loss or a gradient is no longer finite.
    KeyboardInterrupt
        If the user interrupts, which by itself would end this run only.
    """
    model = ChipVI(trial.adata, head=head)
    options = FitOptions(
        n_steps=trial.steps,
        batch_size=_BATCH_SIZE,
        seed=seed,
        plan=PlanOptions(log_every_n_steps=max(1, min(_LOG_EVERY, trial.steps // 20))),
        trainer={
            "callbacks": [watch],
            "enable_progress_bar": False,
            "val_check_interval": min(trial.steps, max(_LEAST_INTERVAL, trial.steps // _CHECKS)),
        },
    )
    model.fit_split(trial.data, trial.split, options, recalibrate_spread=False)
    if watch.n_steps < trial.steps:
        raise KeyboardInterrupt
    return model


def judge(trial: Trial, model: ChipVI) -> pd.DataFrame:
    """Impute every track without its own data on the held-out regions, and score it.

    Raises
    ------
    FloatingPointError
        If a prediction is not finite.
    """
    predicted = model.get_likelihood_parameters(indices=trial.judged)
    truth, mean, dispersion = trial.counts(trial.judged), predicted["mean"], predicted["dispersions"]
    broken_rt = ~np.isfinite(mean.to_numpy()) | ~np.isfinite(dispersion.to_numpy())
    if broken_rt.any():
        raise FloatingPointError(
            f"diverged by step {trial.steps}: {broken_rt.sum():,} of {broken_rt.size:,} predictions are not finite"
        )
    return score(truth, mean.set_axis(truth.index), dispersion.set_axis(truth.index))


def score(truth: pd.DataFrame, mean: pd.DataFrame, dispersion: pd.DataFrame) -> pd.DataFrame:
    """`SCORES` by track; intervals are central ones of 95 %."""
    scores = metrics.score_tracks(truth, mean, dispersion).iloc[:-1]
    tail = (1 - _LEVEL) / 2
    lower, upper = (metrics.nb_quantile(q, mean, dispersion) for q in (tail, 1 - tail))
    scores["coverage"] = metrics.coverage(truth, lower, upper)
    expected = pd.DataFrame(metrics.nb_coverage(mean, dispersion, lower, upper), columns=truth.columns)
    scores["expected_coverage"] = expected.where(truth.notna()).mean()
    return scores[list(SCORES)]


def run_once(trial: Trial, head: str, seed: int, watch: Watch) -> Run:
    """Train and judge; a run that diverges says so."""
    outcome, tracks = OK, pd.DataFrame(columns=list(SCORES), dtype=float)
    try:
        tracks = judge(trial, train(trial, head, seed, watch))
    except FloatingPointError as error:
        outcome = str(error).partition(". ")[0].removeprefix("training ")
    history = watch.history
    curve, gradient = (_column(history, name) for name in ("validation_imp_count_r2", "grad_norm_count_head"))
    above = curve.index[curve > 0]
    clamped = [table.mean().max() for name, table in history.items() if name.startswith("clamped_")]
    summary = {
        "head": head,
        "seed": seed,
        **tracks.mean(),
        "grad_norm_count_head": gradient.median() if len(gradient) else np.nan,
        "clamped": max(clamped, default=np.nan),
        "steps_per_second": watch.n_steps / watch.seconds if watch.seconds else np.nan,
        "steps_to_r2_above_0": above[0] if len(above) else np.nan,
        "outcome": outcome,
        "advice": " ".join(watch.advice),
    }
    return Run(summary, tracks, curve.rename("r2"))


def _column(history: dict[str, pd.DataFrame], name: str) -> pd.Series:
    return history[name][name].dropna() if name in history else pd.Series(dtype=float)


def marginal(trial: Trial) -> pd.DataFrame:
    """Scores of the training mean of each track, with the dispersion that fits the training counts best."""
    counts = trial.data.within(trial.data.segments, trial.split.train).summary.counts
    # half a read at least: a mean of zero would forbid all reads
    mean_t = (np.maximum(counts.total_t, 0.5) / np.maximum(counts.number_t, 1))[trial.columns]
    mean_t = np.where(counts.number_t[trial.columns] > 0, mean_t, np.nan)
    fitted, judged = trial.counts(draw_blocks(trial.split.train, _MOST_FITTED)), trial.counts(trial.judged)
    dispersion_t = metrics.fit_dispersion(fitted.to_numpy(), np.broadcast_to(mean_t, fitted.shape))
    judged = judged.loc[:, np.isfinite(mean_t) & np.isfinite(dispersion_t)]
    columns = fitted.columns.get_indexer(judged.columns)
    mean, dispersion = (
        pd.DataFrame(np.broadcast_to(x_t[columns], judged.shape), columns=judged.columns)
        for x_t in (mean_t, dispersion_t)
    )
    return score(judged, mean, dispersion).reindex(fitted.columns)


def average(trial: Trial) -> pd.DataFrame:
    """`r2` and `pearson` of the average of the other biosamples, at the depth of the track."""
    tracks, block = trial.data.tracks, trial.data.read_rows(trial.judged)
    depth_t = trial.data.depth_t
    rate_rt = block.counts.value_rt / depth_t
    average_rt = (
        metrics.leave_one_out_average(rate_rt, block.counts.present_rt, tracks.biosamples, tracks.assays) * depth_t
    )
    scores = metrics.score_tracks(trial.counts(trial.judged), average_rt[:, trial.columns])
    return scores.iloc[:-1][["r2", "pearson"]].reindex(columns=list(SCORES))
