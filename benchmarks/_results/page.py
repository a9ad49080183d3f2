"""The page of results, for users; every number on it comes from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .jobs import METHODS, PEERS, TASKS
from .peers import CHOICES
from .tables import (
    HIGH,
    TITLES,
    WIN_METRICS,
    best_baseline,
    losses,
    methods_with_scores,
    over_seeds,
    per_track,
    wins,
)

QUESTIONS = {
    "tss-masked": "Counts around transcription start sites, two biosamples. Trained on some genes; on others, each "
    "track in turn is predicted from the other tracks.",
    "calibration": "The predictive distributions of tss-masked: do intervals and probabilities mean what they say?",
    "h1-masked": "Seven marks of one biosample in 200-bp bins. Trained on some chromosomes; on another, each track in "
    "turn is predicted from the other six. There is no other biosample, so no average.",
    "h1-fine": "The same reads in 25-bp bins.",
    "brain-masked": "H3K27ac of four cell types of the brain, three replicates each, in peaks of unequal width. "
    "Trained on some chromosomes; on another, each track in turn is predicted from the other eleven.",
    "tss-trackout": "The counts around transcription start sites again; two tracks are hidden everywhere, in training "
    "too, as if nobody had run them. "
    "Each assay is seen in one other biosample only.",
    "signal-trackout": "p-value signal (arcsinh) of several biosamples; one track of each is hidden everywhere. There "
    "are no counts.",
    "pilot, counts": "Few regions, many assays, counts and signal. Trained on most blocks of the regions; on the "
    "others, the counts of each track in turn are predicted with its counts and its signal hidden.",
    "pilot, signal": "The same task, for the p-value signal of the tracks that have one.",
    "denoise": "A quarter of the reads is seen. The truth is the rest of the same reads, which is independent of them.",
}
METRICS = {
    "r2": "R²",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mse": "MSE",
    "mse1obs": "MSE, top 1 % of truth",
    "mse1imp": "MSE, top 1 % of prediction",
    "nll": "NLL",
}
CALIBRATION = {
    "crps": "CRPS",
    "nll": "NLL",
    "coverage": "coverage",
    "expected_coverage": "coverage expected",
    "interval_width": "interval width",
    "pit_deviation": "PIT deviation",
    "c_index": "c-index",
}
COSTS = {
    "train_cpu_s": "training, CPU s",
    "train_wall_s": "training, wall s",
    "predict_cpu_s": "prediction, CPU s",
    "predict_wall_s": "prediction, wall s",
    "parameters": "parameters",
}
READING = """Scores are means over tracks, and over seeds with their standard deviation (none where only one seed ran,
or where a method has no chance in it). R² is 1 - squared error / variance on raw counts, so a few high peaks weigh
much, and a wrong scale puts it below 0; Pearson and Spearman do not mind the scale. NLL (nats per entry) and CRPS
judge the whole distribution: less is better, as for the MSEs. *Average* is the same assay in the other biosamples
at the depth of the track: the baseline that many published models do not beat. *Marginal* is one number per track.
*Ridge* and *boosting* are trained anew for each track, on the other tracks at several scales, so they are
specialists. *Smoothing* has the best Gaussian width of each track. "above average" and "above best baseline" count
the tracks on which a method is ahead, mean over seeds; the best baseline is chosen on each track, with the truth
at hand. A dash: not defined for this method, or it cannot do the task."""
NOT_RUN = """* **eDICE**, **CANDI**, **PREDICTD**: not on PyPI, where they were looked for by name.
* **ChromImpute**: a Java program, not on PyPI. The scorer's boosting follows its idea: a regression for each
  target track, on the other tracks over several windows."""


@dataclass(frozen=True)
class Facts:
    """How the runs were made."""

    command: str
    seeds: int
    processes: int
    source: str
    versions: dict[str, str]
    quick: bool
    failed: Sequence[str]
    avocado: bool
    train: Sequence[str]


def write(raw: pd.DataFrame, facts: Facts) -> str:
    """The page, as Markdown."""
    titles = [title for title in TITLES if methods_with_scores(raw, title)]
    parts = ["# How chipvi compares", *warn(facts), intro(facts), "## In short", table(summary(raw, titles))]
    parts += ["![R² of every track, by task and method](results.png)", "## How to read the tables", READING]
    parts += [part for title in titles for part in section(raw, title)]
    parts += ["## What it costs", costs_text(facts), table(costs(raw)), "## The other tools", other_tools(facts)]
    return "\n\n".join(parts) + "\n"


def warn(facts: Facts) -> list[str]:
    """What makes the figures unfit to quote, if anything."""
    found = []
    if facts.quick:
        found.append("> **A trial run**: few regions, few steps. The figures mean nothing.")
    if facts.train:
        found.append(f"> **Not the default training**: {', '.join(facts.train)}.")
    if facts.failed:
        found.append(f"> **Missing runs**: {', '.join(facts.failed)}.")
    return found


def intro(facts: Facts) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts.versions.items())
    return (
        "Everything below is written by one command, from an independent scorer that hides what is to be predicted "
        "before a method gets the data:\n\n"
        f"```\n{facts.command}\n```\n\n"
        f"chipvi has its default settings in every task. Seeds: {facts.seeds}. Source of chipvi: `{facts.source}`. "
        f"{versions}. The raw figures are in `results.csv`."
    )


def summary(raw: pd.DataFrame, titles: Sequence[str]) -> pd.DataFrame:
    """A row per task: R2 of chipvi, average, best baseline and best peer, and the tracks won."""
    rows = []
    for title in titles:
        metric = "crps" if title == "calibration" else "r2"
        means = over_seeds(raw, title, metric)
        baselines = [m for m in means.index if m not in PEERS and m != "chipvi"]
        peers = [m for m in means.index if m in PEERS]
        row = {"task": title, "score": "CRPS (less is better)" if metric == "crps" else "R²"}
        row |= {
            "chipvi": mean_and_spread(means, "chipvi", metric),
            "average": mean_and_spread(means, "average", metric),
        }
        row["best baseline"] = best(means, baselines, metric)
        row["best other tool"] = best(means, peers, metric)
        row |= win_columns(raw, title, "chipvi", metrics=(metric,))
        rows.append(row)
    return pd.DataFrame(rows)


def best(means: pd.DataFrame, names: Sequence[str], metric: str) -> str:
    """The best of some methods with its name."""
    if not names:
        return ""
    order = means.loc[list(names), "mean"]
    name = order.idxmax() if metric in HIGH else order.idxmin()
    return f"{mean_and_spread(means, name, metric)} ({name})"


def mean_and_spread(means: pd.DataFrame, method: str, metric: str) -> str:
    """Such as "0.463 ± 0.004"; "" where there is none."""
    if method not in means.index:
        return ""
    mean, spread = means.loc[method]
    text = number(mean)
    return f"{text} ± {number(spread)}" if spread > 1e-9 else text


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def win_columns(raw: pd.DataFrame, title: str, method: str, metrics: Sequence[str] = WIN_METRICS) -> dict[str, str]:
    """On how many tracks a method is above the average, and above the best baseline of that track."""
    cells: dict[str, list[str]] = {"above average": [], "above best baseline": []}
    for metric in metrics:
        scores = per_track(raw, title, metric)
        if method not in scores:
            continue
        scores = scores if metric in HIGH else -scores
        if "average" in scores and method != "average":
            cells["above average"].append(wins(scores, method, scores["average"]))
        if (method == "chipvi" or method in PEERS) and not (baseline := best_baseline(scores)).isna().all():
            cells["above best baseline"].append(wins(scores, method, baseline))
    return {name: ", ".join(cell or "-" for cell in found) if any(found) else "" for name, found in cells.items()}


def section(raw: pd.DataFrame, title: str) -> list[str]:
    """A task: its question, its table, the tracks of chipvi and what chipvi does not win."""
    columns, found = CALIBRATION if title == "calibration" else METRICS, methods_with_scores(raw, title)
    rows = []
    cannot = [name for name in PEERS if name in set(raw["method"]) - set(found)]
    for method in [*found, *cannot]:
        row = {"method": method}
        row |= {label: mean_and_spread(over_seeds(raw, title, m), method, m) for m, label in columns.items()}
        if title != "calibration":
            row |= {f"{k} (R², Pearson)": cell for k, cell in win_columns(raw, title, method).items()}
        rows.append(row)
    shown = pd.DataFrame(rows)
    shown = shown.loc[:, (shown != "").any()]
    rest = [not_won(raw, title), by_track(raw, title)]
    return [f"## {title}", QUESTIONS[title], table(shown), *filter(None, rest)]


def not_won(raw: pd.DataFrame, title: str) -> str:
    """Where another method is ahead of chipvi, in a sentence per score."""
    sentences = []
    for metric in ("crps", "pit_deviation", "c_index") if title == "calibration" else WIN_METRICS:
        lost = losses(raw, title, metric)
        label = (METRICS | CALIBRATION)[metric]
        if lost.empty:
            sentences.append(f"By {label}, chipvi is ahead on every track.")
            continue
        tracks = "; ".join(
            f"{track}: {row.chipvi:.3f} against {row.score:.3f} ({row.best})" for track, row in lost.iterrows()
        )
        sentences.append(f"By {label}, chipvi is **not** ahead on {tracks}.")
    return "\n".join(sentences) if "chipvi" in methods_with_scores(raw, title) else ""


def by_track(raw: pd.DataFrame, title: str) -> str:
    """R2 of each track, folded away."""
    metric = "crps" if title == "calibration" else "r2"
    scores = per_track(raw, title, metric)
    text = scores.map(lambda value: "" if np.isnan(value) else number(value)).rename_axis("track").reset_index()
    label = (METRICS | CALIBRATION)[metric]
    return f"<details><summary>{label} of each track, mean over seeds</summary>\n\n{table(text)}\n\n</details>"


def costs_text(facts: Facts) -> str:
    return (
        f"Means over seeds, {facts.processes} runs at a time, one thread each. Prediction is of every track that a "
        "task asks for, in its test regions, without the measures of the distribution. pilot covers both quantities."
    )


def costs(raw: pd.DataFrame) -> pd.DataFrame:
    """A row per task and method."""
    chosen = raw[raw["track"] == ""]
    wide = chosen.pivot_table(index=["task", "method"], columns="metric", values="value", aggfunc="mean")
    rows = []
    for task in TASKS:
        for method in METHODS:
            if (task, method) in wide.index:
                values = wide.loc[(task, method)]
                cells = {label: cost(values.get(name, np.nan), name) for name, label in COSTS.items()}
                rows.append({"task": task, "method": method} | cells)
    return pd.DataFrame(rows)


def cost(value: float, name: str) -> str:
    if np.isnan(value):
        return ""
    return f"{value:,.0f}" if name == "parameters" else f"{value:.1f}"


def other_tools(facts: Facts) -> str:
    """What was tried and how."""
    lines = [f"* **{name}**: {text}" for name, text in CHOICES.items() if name != "Avocado" or facts.avocado]
    if not facts.avocado:
        lines.append("* **Avocado**: not installed for these runs; `benchmarks/_results/peers.txt` says how.")
    return "\n".join([*lines, NOT_RUN])


def table(data: pd.DataFrame) -> str:
    """Markdown; empty cells as a dash."""
    lines = [list(data.columns), ["---"] * data.shape[1], *data.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell) or "-" for cell in line) + " |" for line in lines)
