"""One run of a comparison: a head trained with a seed, and judged on held-out regions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import pandas as pd

from .. import metrics
from ..data.splits import draw_blocks
from ..evaluate.references import average_of_others, fit_marginal
from ..evaluate.track_scores import SCORES, score_counts
from ..model.chipvi import ChipVI
from ..train.advice import Diverged
from ..train.findings import Finding
from ..train.plan import PlanOptions, TrainingPlan
from ..train.progress import StepProgress
from ..train.runner import FitOptions
from .plan import ComparisonPlan

_BATCH_SIZE = 512
_CHECKS, _LEAST_INTERVAL = 40, 10  # validations in a run, at most; steps between two
_LOG_EVERY = 50  # steps
_MOST_FITTED = 20_000  # regions to fit the dispersion of the marginal on


class Ending(Enum):
    """How a run can end."""

    FINISHED = "ok"
    DIVERGED = "training came to numbers that are not finite"
    BROKEN = "predictions are not finite"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    ending
        Whether it finished.
    step
        The last, or the one at which it diverged.
    names
        Quantities that were not finite when it diverged.
    n_broken, n_predicted
        Predictions that are not finite, and all of them.
    """

    ending: Ending
    step: int
    names: tuple[str, ...] = ()
    n_broken: int = 0
    n_predicted: int = 0

    @property
    def is_ok(self) -> bool:
        """Whether there are scores."""
        return self.ending is Ending.FINISHED


@dataclass(frozen=True, eq=False)
class Run:
    """What came of a run.

    Parameters
    ----------
    head, seed
        What was trained.
    outcome
        How it ended.
    findings
        What training warned of.
    measures
        How training went, by name, as in :attr:`HeadComparison.runs`.
    tracks
        Scores by track; without rows if there are none.
    curve
        Held-out R2 by step.
    """

    head: str
    seed: int
    outcome: Outcome
    findings: tuple[Finding, ...]
    measures: dict[str, float]
    tracks: pd.DataFrame
    curve: pd.Series

    @property
    def scores(self) -> pd.Series:
        """Means of the scores over tracks; NaN if there are none."""
        return self.tracks.mean()


class Watch(pl.Callback):
    """Counts and times the steps of a run, validation left out, and keeps the history should training fail."""

    def __init__(self) -> None:
        self.n_steps, self.seconds, self._since = 0, 0.0, 0.0
        self._plan: TrainingPlan | None = None

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """What was logged, by quantity."""
        return {} if self._plan is None else self._plan.history

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What training warned of."""
        return () if self._plan is None else tuple(self._plan.findings)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._plan = cast(TrainingPlan, pl_module)
        self._since = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Count."""
        now = time.perf_counter()
        self.seconds += now - self._since
        self.n_steps, self._since = self.n_steps + 1, now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again."""
        self._since = time.perf_counter()


def train(plan: ComparisonPlan, head: str, seed: int, watch: Watch, bar: StepProgress) -> ChipVI:
    """Train a head with a seed.

    Raises
    ------
    Diverged
        If the loss or a gradient is no longer finite.
    KeyboardInterrupt
        If the user interrupts, which by itself would end this run only.
    """
    model = ChipVI(plan.adata, head=head)
    options = FitOptions(
        n_steps=plan.steps,
        batch_size=_BATCH_SIZE,
        seed=seed,
        plan=PlanOptions(log_every_n_steps=max(1, min(_LOG_EVERY, plan.steps // 20))),
        trainer={
            "callbacks": [watch, bar],
            "enable_progress_bar": False,
            "val_check_interval": min(plan.steps, max(_LEAST_INTERVAL, plan.steps // _CHECKS)),
        },
    )
    model.fit_split(plan.data, plan.split, options, recalibrate_spread=False)
    if watch.n_steps < plan.steps:
        raise KeyboardInterrupt
    return model


def judge(plan: ComparisonPlan, model: ChipVI) -> tuple[pd.DataFrame, Outcome]:
    """Impute every track without its own data on the held-out regions, and score it; no score if any is not finite."""
    predicted = model.get_likelihood_parameters(indices=plan.judged)
    truth, mean, dispersion = plan.counts(plan.judged), predicted["mean"], predicted["dispersions"]
    broken_rt = ~np.isfinite(mean.to_numpy()) | ~np.isfinite(dispersion.to_numpy())
    if broken_rt.any():
        n_broken = int(broken_rt.sum())
        return _unscored(), Outcome(Ending.BROKEN, plan.steps, n_broken=n_broken, n_predicted=broken_rt.size)
    scores = score_counts(truth, mean.set_axis(truth.index), dispersion.set_axis(truth.index))
    return scores, Outcome(Ending.FINISHED, plan.steps)


def _unscored() -> pd.DataFrame:
    return pd.DataFrame(columns=list(SCORES), dtype=float)


def run_once(plan: ComparisonPlan, head: str, seed: int, bar: StepProgress) -> Run:
    """Train and judge; a run that diverges has an outcome in place of scores."""
    watch = Watch()
    try:
        model = train(plan, head, seed, watch, bar)
    except Diverged as error:
        tracks, outcome = _unscored(), Outcome(Ending.DIVERGED, error.step, error.names)
    else:
        tracks, outcome = judge(plan, model)
    history = watch.history
    curve, gradient = (_column(history, name) for name in ("validation_imp_count_r2", "grad_norm_count_head"))
    above = curve.index[curve > 0]
    clamped = [table.mean().max() for name, table in history.items() if name.startswith("clamped_")]
    measures = {
        "grad_norm_count_head": gradient.median() if len(gradient) else np.nan,
        "clamped": max(clamped, default=np.nan),
        "steps_per_second": watch.n_steps / watch.seconds if watch.seconds else np.nan,
        "steps_to_r2_above_0": above[0] if len(above) else np.nan,
    }
    return Run(head, seed, outcome, watch.findings, measures, tracks, curve.rename("r2"))


def _column(history: dict[str, pd.DataFrame], name: str) -> pd.Series:
    return history[name][name].dropna() if name in history else pd.Series(dtype=float)


def marginal(plan: ComparisonPlan) -> pd.DataFrame:
    """Scores of the training mean of each track, with the dispersion that fits the training counts best."""
    counts = plan.data.within(plan.data.segments, plan.split.train).summary.counts
    # half a read at least: a mean of zero would forbid all reads
    mean_t = (np.maximum(counts.total_t, 0.5) / np.maximum(counts.number_t, 1))[plan.columns]
    mean_t = np.where(counts.number_t[plan.columns] > 0, mean_t, np.nan)
    fitted = plan.counts(draw_blocks(plan.split.train, _MOST_FITTED, bin_width=plan.data.segments.bin_width))
    judged = plan.counts(plan.judged)
    dispersion_t = fit_marginal(fitted.to_numpy(), mean_t)
    judged = judged.loc[:, np.isfinite(mean_t) & np.isfinite(dispersion_t)]
    columns = fitted.columns.get_indexer(judged.columns)
    mean, dispersion = (
        pd.DataFrame(np.broadcast_to(x_t[columns], judged.shape), columns=judged.columns)
        for x_t in (mean_t, dispersion_t)
    )
    return score_counts(judged, mean, dispersion).reindex(fitted.columns)


def average(plan: ComparisonPlan) -> pd.DataFrame:
    """`r2` and `pearson` of the average of the other biosamples, at the depth of the track."""
    data, block = plan.data, plan.data.read_rows(plan.judged)
    average_rt = average_of_others(data.tracks, block.counts, data.depth_t)
    scores = metrics.score_tracks(plan.counts(plan.judged), average_rt[:, plan.columns])
    return scores.iloc[:-1][["r2", "pearson"]].reindex(columns=list(SCORES))
