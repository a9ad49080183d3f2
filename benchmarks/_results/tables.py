"""From the scores of all runs to what the page and the figure show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from .jobs import BASELINES, METHODS, Job

COLUMNS = ["task", "method", "seed", "track", "metric", "value"]
COSTS = ("train_cpu_s", "train_wall_s", "predict_cpu_s", "predict_wall_s", "parameters")
TITLES = (
    "tss-masked",
    "calibration",
    "h1-masked",
    "h1-fine",
    "brain-masked",
    "tss-trackout",
    "signal-trackout",
    "pilot, counts",
    "pilot, signal",
    "denoise",
)
HIGH = ("r2", "pearson", "spearman", "c_index")  # of these, more is better; of all others, less
WIN_METRICS = ("r2", "pearson")


def collect(runs: Iterable[tuple[Job, Path]]) -> pd.DataFrame:
    """The raw figures: a row per task, method, seed, track and metric; costs have no track."""
    rows = []
    for job, path in runs:
        for title, track, metric, value in json.loads(path.read_text())["scores"]:
            rows.append((title, job.method, job.seed, track, metric, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def per_track(raw: pd.DataFrame, title: str, metric: str) -> pd.DataFrame:
    """Mean over seeds, tracks x methods, both in their usual order."""
    chosen = raw[(raw["task"] == title) & (raw["metric"] == metric) & (raw["track"] != "")]
    wide = chosen.pivot_table(index="track", columns="method", values="value", aggfunc="mean", sort=False)
    return wide[[method for method in METHODS if method in wide]]


def over_seeds(raw: pd.DataFrame, title: str, metric: str) -> pd.DataFrame:
    """Mean over tracks of each seed, then mean and standard deviation over seeds: a row per method."""
    chosen = raw[(raw["task"] == title) & (raw["metric"] == metric)]
    means = chosen.groupby(["method", "seed"])["value"].mean().groupby("method").agg(["mean", "std"])
    return means.reindex([method for method in METHODS if method in means.index])


def methods_with_scores(raw: pd.DataFrame, title: str) -> list[str]:
    found = set(raw.loc[(raw["task"] == title) & (raw["track"] != ""), "method"])
    return [method for method in METHODS if method in found]


def best_baseline(scores_tm: pd.DataFrame) -> pd.Series:
    """The best score that any of the scorer's baselines has on each track; a higher score must be better."""
    return scores_tm[[method for method in scores_tm if method in BASELINES]].max(axis=1)


def wins(scores_tm: pd.DataFrame, method: str, other: pd.Series) -> str:
    """On how many tracks a method is above another, as "7 of 10"; "" where the two share none."""
    both = pd.concat([scores_tm[method], other], axis=1).dropna().to_numpy()
    return f"{int(np.sum(both[:, 0] > both[:, 1]))} of {len(both)}" if len(both) else ""


def losses(raw: pd.DataFrame, title: str, metric: str) -> pd.DataFrame:
    """Tracks on which some other method is above chipvi: its name, its score and that of chipvi."""
    scores = per_track(raw, title, metric)
    if "chipvi" not in scores or scores.shape[1] < 2:
        return pd.DataFrame(columns=["chipvi", "best", "score"])
    others = scores.drop(columns="chipvi").dropna(how="all")
    mine, up = scores.loc[others.index, "chipvi"], metric in HIGH
    best = others.idxmax(axis=1) if up else others.idxmin(axis=1)
    found = pd.DataFrame({"chipvi": mine, "best": best, "score": others.max(axis=1) if up else others.min(axis=1)})
    return found[(found["score"] > found["chipvi"]) if up else (found["score"] < found["chipvi"])]
