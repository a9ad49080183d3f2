"""Train every head with every seed, and put the scores side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from os import PathLike

import pandas as pd
import torch
from anndata import AnnData
from matplotlib.figure import Figure

from .. import pl
from .._arguments import checked
from .._messages import Place
from .._quiet import quiet_lightning
from ..data.check import surveyed_once
from ..evaluate.track_scores import SCORES
from ..train.advice import TrainingAdvice
from ..train.progress import StepProgress
from ..train.words import describe as describe_finding
from .plan import ComparisonPlan, plan_comparison
from .runs import Run, average, marginal, run_once
from .verdict import Verdict, judge_heads, sound_heads
from .words import describe, outcome_words

_REFERENCES = [("marginal", pd.NA), ("average", pd.NA)]
_TRAINING = ("grad_norm_count_head", "clamped", "steps_per_second", "steps_to_r2_above_0")


@dataclass(frozen=True, eq=False)
class HeadComparison:
    """Count heads side by side, judged on held-out regions.

    Every track is imputed without its own data, and scored by the negative binomial of
    :meth:`chipvi.ChipVI.get_likelihood_parameters`, which for a head of another kind, such as the zero-inflated, is one
    of the same mean and variance. Scores are means over tracks.

    Parameters
    ----------
    table
        A row per head, lowest `nll` first and those that diverged last: mean over the seeds of each column of `runs`,
        and its standard deviation (`r2_sd`, ...). Then two predictions without a model: `marginal`, every track at its
        training mean, and `average`, that of the other biosamples at the depth of the track, over the tracks that have
        one.
    runs
        A row per head and seed: `r2`, `pearson`, `nll` (nat per entry), `crps` (reads per entry), `pit_deviation` (0
        where calibrated), `coverage` of the 95 % interval and `expected_coverage`, what it would be if all were right;
        `grad_norm_count_head`, median over the training; `clamped`, the largest mean share of entries at a clamp or
        bound of the head; `steps_per_second`, validation left out; `steps_to_r2_above_0`, on held-out regions;
        `outcome`, "ok" or what went wrong; `advice`, what training warned of.
    tracks
        The scores of each run, `marginal` and `average` by track, with the held-out `entries` and `reads` of the track.
    curves
        R2 of hidden entries by `head`, `seed` and `step`, on up to 2,048 of the held-out regions.
    verdict
        What follows from it, in sentences.
    findings
        The same, with numbers in place of words.
    """

    table: pd.DataFrame
    runs: pd.DataFrame
    tracks: pd.DataFrame
    curves: pd.DataFrame
    verdict: list[str]
    findings: Verdict

    def plot(self, save: str | PathLike[str] | None = None) -> Figure:
        """Draw it; see :func:`chipvi.pl.heads`."""
        return pl.heads(self, save=save)


@checked
def compare_heads(
    adata: AnnData, heads: Sequence[str] | None = None, steps: int = 1_000, seeds: Sequence[int] = (0, 1, 2)
) -> HeadComparison:
    """Train every count head under equal conditions, and judge it on the same held-out regions.

    A fifth of the regions is held out, in whole stretches, the same for all; steps, minibatches and seeds are the same
    too. All is done with the defaults of :class:`chipvi.ChipVI`, for counts and signal as they were set up.

    Parameters
    ----------
    adata
        Set up with :meth:`chipvi.ChipVI.setup_anndata`.
    heads
        Names out of `chipvi.nn.COUNT_HEADS`; None for all.
    steps
        Minibatches of 512 regions to train on, in each run.
    seeds
        A run for each. Differences within the spread over them may be chance; with one there is no spread.

    Raises
    ------
    ValueError
        For data that were not set up, have no counts, or have fewer than 200 regions, and for an unknown head.

    Examples
    --------
    >>> import chipvi
    >>> adata = chipvi.datasets.simulate(n_regions=400)
    >>> chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    >>> comparison = chipvi.compare_heads(adata, heads=["mean_dispersion", "poisson"], steps=4, seeds=[0])
    >>> comparison.runs["outcome"].tolist()
    ['ok', 'ok']
    """
    # a new model draws from torch's own generator
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), surveyed_once():
        return carry_out(plan_comparison(adata, heads, steps, seeds))


def carry_out(plan: ComparisonPlan) -> HeadComparison:
    """Train and judge every head with every seed."""
    judged = plan.counts(plan.judged)
    held_out = pd.DataFrame({"entries": judged.notna().sum(), "reads": judged.sum()}).rename_axis("track")
    results = _run_all(plan)
    runs = pd.DataFrame([_row(run) for run in results])
    labels = [(run.head, run.seed) for run in results]
    scores = [run.tracks for run in results] + [marginal(plan), average(plan)]
    tracks = _stack([held_out.join(part.rename_axis("track"), how="right") for part in scores], [*labels, *_REFERENCES])
    curves = _stack([run.curve.rename_axis("step").to_frame() for run in results], labels)
    findings = judge_heads(results, tracks)
    table = _tabulate(results, runs, tracks)
    return HeadComparison(table, runs, tracks, curves, describe(findings, Place.PYTHON), findings)


def _row(run: Run) -> dict[str, object]:
    """A row of :attr:`HeadComparison.runs`."""
    words = {
        "outcome": outcome_words(run.outcome),
        "advice": " ".join(describe_finding(finding, Place.PYTHON) for finding in run.findings),
    }
    return {"head": run.head, "seed": run.seed, **run.scores, **run.measures, **words}


def _run_all(plan: ComparisonPlan) -> list[Run]:
    runs = []
    # seed by seed, so that a machine that slows down does so for all heads
    pairs = list(product(plan.seeds, plan.heads))
    with quiet_lightning():
        warnings.simplefilter("ignore", TrainingAdvice)  # kept, run by run
        for i, (seed, head) in enumerate(pairs, 1):
            bar = StepProgress(f"{i} of {len(pairs)}: {head}, seed {seed}", plan.steps)
            runs.append(run_once(plan, head, seed, bar))
    return sorted(runs, key=lambda run: plan.heads.index(run.head))


def _stack(frames: list[pd.DataFrame], labels: Sequence[tuple[str, object]]) -> pd.DataFrame:
    """Frames below each other, each labelled with a head and a seed; what was the index becomes a column."""
    parts = []
    for frame, (head, seed) in zip(frames, labels, strict=True):
        if len(frame):  # pandas warns of empty ones
            labelled = frame.reset_index()
            labelled.insert(0, "head", head)
            labelled.insert(1, "seed", pd.array([seed] * len(frame), dtype="Int64"))
            parts.append(labelled)
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["head", "seed", *frames[0].reset_index()])
    )


def _tabulate(results: list[Run], runs: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    names = [*SCORES, *_TRAINING]
    by_head = runs.groupby("head", sort=False)
    means, spreads = by_head[names].mean(), by_head[names].std().add_suffix("_sd")
    columns = [column for name in names for column in (name, f"{name}_sd")]
    table = means.join(spreads)[columns]
    table["diverged"] = [sum(not run.outcome.is_ok for run in results if run.head == head) for head in table.index]
    sound = sound_heads(results)
    table = table.loc[[*sound, *(head for head in table.index if head not in sound)]]
    references = tracks[tracks["seed"].isna()].groupby("head", sort=False)[list(SCORES)].mean()
    return pd.concat([table, references]).rename_axis("head")
