"""Why a count head does not learn: every suspect added to a model that learns, and taken from one that does not.

    python benchmarks/head_study.py failing          # the failure, in a minute
    python benchmarks/head_study.py working          # the cure, in a minute
    python benchmarks/head_study.py all --seeds 3    # the whole table and the figure, in an hour or two

Counts around transcription start sites, `chipvi.datasets.roadmap_tss` (or the same table from a file, `--data`). Of the
genes of its split "train", 140 are trained on, and 60 are held out: for the curves tracks are hidden at random, for the
scores each in turn. All runs share module, data, steps and seeds. `all` goes on where it stopped: it does not repeat
runs in the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import chipvi
from chipvi import metrics

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tutorials"))
from count_head_study import FAILING, SUSPECTS, StudyModel  # noqa: E402 - the model lies beside the tutorial that tells of it

OUT = Path(__file__).resolve().parent / "head_study"
DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, FIGURE = DOCS / "why_counts_fail.md", DOCS / "images" / "why_counts_fail.png"
BEGIN, END = "<!-- written by head_study.py: {} -->", "<!-- end -->"
STEPS, BATCH, CHECKS = 1_000, 256, 20
HELD_OUT = 60  # genes
MOST_HIDDEN = 0.65  # of the tracks: several at once, as such models are trained


@dataclass(frozen=True)
class Setting:
    """A model of the study: a group in the table, what is switched on, and other options of the model."""

    group: str
    suspects: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


def without(suspects: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(name for name in suspects if name not in names)


def settings() -> dict[str, Setting]:
    """All models by name, in the order of the table."""
    found = {"working": Setting("reference", ()), "failing": Setting("reference", FAILING)}
    for name in SUSPECTS:
        suspects = ("n_p", name) if name == "logit_clamps" else (name,)
        found[f"+ {name}"] = Setting("added to the working model", suspects)
    for name in FAILING:
        gone = ("n_p", "logit_clamps") if name == "n_p" else (name,)
        found[f"- {name}"] = Setting("taken from the failing model", without(FAILING, *gone))
    for names in (("loss_clamp", "heavy_kl"), ("loss_clamp", "heavy_kl", "assay_norm")):
        found[f"- {', '.join(names)}"] = Setting("taken from the failing model", without(FAILING, *names))
    first = without(FAILING, "loss_clamp", "logit_clamps", "initial_mean")
    second = without(first, "n_p", "lgamma_eps")
    group = "remedies for the failing model"
    found["1 no clamps, better start"] = Setting(group, first)
    found["2 total_count, logits"] = Setting(group, second, {"head": "count_logits"})
    found["3 mean, dispersion, as written"] = Setting(group, (*second, "inverted_probs"))
    found["3 mean, dispersion, corrected"] = Setting(group, second)
    found["+ log1p"] = Setting("beyond the remedies", without(second, "raw_counts"))
    found["+ log1p, light KL"] = Setting("beyond the remedies", without(second, "raw_counts", "heavy_kl"))
    return found


def read(path: Path | None) -> AnnData:
    """Genes of the split "train", labelled anew."""
    adata = chipvi.datasets.roadmap_tss(splits=("train",)) if path is None else anndata.read_h5ad(path)
    adata = adata[adata.obs["split"] == "train"].copy()
    genes = pd.unique(adata.obs["gene_id"])
    held = np.random.default_rng(1).choice(genes, HELD_OUT, replace=False)
    adata.obs["split"] = np.where(adata.obs["gene_id"].isin(held), "valid", "train")
    return adata


def train(setting: Setting, adata: AnnData, seed: int, steps: int, show: bool = False) -> StudyModel:
    StudyModel.setup_anndata(adata, depth_key="depth", segment_key="gene_id")
    model = StudyModel(adata, setting.suspects, **setting.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the advice is what the study is about
        model.train(
            max_steps=steps,
            batch_size=BATCH,
            split_key="split",
            seed=seed,
            plan_kwargs={"most_hidden": MOST_HIDDEN},
            accelerator="cpu",
            enable_progress_bar=show,
            val_check_interval=max(1, steps // CHECKS),
        )
    return model


def judge(model: StudyModel, adata: AnnData) -> dict[str, float]:
    """Scores on the genes held out, means over tracks."""
    test = adata[adata.obs["split"] == "valid"].copy()
    predicted = model.get_likelihood_parameters(test)
    mean_rt, dispersion_rt = (predicted[name].to_numpy(dtype=float) for name in ("mean", "dispersions"))
    scores = metrics.score_tracks(test.X, mean_rt, dispersion_rt).loc["macro_mean"]
    ratio_t = mean_rt.mean(axis=0) / test.X.mean(axis=0)
    history = {name: table[name] for name, table in model.history.items() if name in table}
    curve = history["validation_imp_count_r2"]
    clamped = [float(values.mean()) for name, values in history.items() if name.startswith("clamped_")]
    loss = history["imp_count_loss"]
    return {
        "r2": scores["r2"],
        "pearson": scores["pearson"],
        "nll": scores["nll"],
        "predicted_to_true": float(np.exp(np.log(ratio_t).mean())),
        "gradient": float(history["grad_norm_count_head"].iloc[1:].median()),
        "clamped": max(clamped, default=0.0),
        "loss_fell": float(1 - loss.iloc[-3:].mean() / loss.iloc[0]),
        "steps_to_0": first_above(curve, 0.0),
        "steps_to_0.4": first_above(curve, 0.4),
    }


def first_above(curve: pd.Series, level: float) -> float:
    """First step from which the curve is above the level for good; NaN if never."""
    below = np.flatnonzero(~(curve.to_numpy() > level))
    after = below[-1] + 1 if len(below) else 0
    return float(curve.index[after]) if after < len(curve) else np.nan


def run(name: str, seed: int, steps: int, path: Path | None) -> tuple[dict[str, Any], pd.DataFrame]:
    """One row of the table, and the curves."""
    torch.set_num_threads(1)
    be_quiet()
    adata, start = read(path), time.process_time()
    row: dict[str, Any] = {"setting": name, "seed": seed, "steps": steps, "outcome": "ok"}
    try:
        model = train(settings()[name], adata, seed, steps)
    except FloatingPointError as error:
        return row | {"outcome": str(error).partition(":")[0]}, pd.DataFrame()
    row |= judge(model, adata) | {"cpu_seconds": time.process_time() - start}
    curves = {
        "loss": model.history["imp_count_loss"]["imp_count_loss"],
        "r2": model.history["validation_imp_count_r2"]["validation_imp_count_r2"],
        "pearson": model.history["validation_imp_count_pcc"]["validation_imp_count_pcc"],
    }
    return row, pd.DataFrame(curves).rename_axis("step").reset_index().assign(setting=name, seed=seed)


def run_all(seeds: int, steps: int, jobs: int, path: Path | None, out: Path) -> pd.DataFrame:
    """All settings, one seed after the other; every row is written at once."""
    out.mkdir(parents=True, exist_ok=True)
    runs_file, curves_file = out / "runs.csv", out / "curves.csv"
    done = pd.read_csv(runs_file) if runs_file.exists() else pd.DataFrame({"setting": [], "seed": [], "steps": []})
    finished = set(zip(done["setting"], done["seed"], done["steps"], strict=True))
    todo = [(name, s) for s in range(seeds) for name in settings() if (name, s, steps) not in finished]
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, name, seed, steps, path) for name, seed in todo]
        for n, future in enumerate(as_completed(futures), 1):
            row, curves = future.result()
            append(pd.DataFrame([row]), runs_file)
            if len(curves):
                append(curves, curves_file)
            print(f"{n}/{len(futures)} {row['setting']}, seed {row['seed']}: {short(row)}", flush=True)
    return pd.read_csv(runs_file)


def append(table: pd.DataFrame, path: Path) -> None:
    """Add rows to a CSV file, whose columns are the union."""
    before = [pd.read_csv(path)] if path.exists() else []
    pd.concat([*before, table]).to_csv(path, index=False, float_format="%.5g")


def short(row: dict[str, Any]) -> str:
    if row["outcome"] != "ok":
        return str(row["outcome"])
    return ", ".join(f"{name} {row[name]:.3f}" for name in ("r2", "pearson", "nll"))


COLUMNS = (
    "model", "R²", "Pearson", "NLL", "mean, predicted / true", "gradient", "clamped", "loss fell by",
    "steps to R² > 0", "> 0.4",
)  # fmt: skip


def tabulate(runs: pd.DataFrame) -> str:
    """The table of the docs: mean over seeds, ± the standard deviation."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    group = ""
    for name, setting in settings().items():
        rows = runs[runs["setting"] == name]
        if not len(rows):
            continue
        if setting.group != group:
            group = setting.group
            lines.append(f"| **{group}** |" + " |" * (len(COLUMNS) - 1))
        ok = rows[rows["outcome"] == "ok"]
        if len(ok) < len(rows):
            lines.append(
                f"| {name} | {len(rows) - len(ok)} of {len(rows)} runs {rows['outcome'].max()} |"
                + " |" * (len(COLUMNS) - 2)
            )
            continue
        cells = [f"{ok[c].mean():.3f} ± {ok[c].std(ddof=0):.3f}" for c in ("r2", "pearson", "nll")]
        cells += [f"{ok['predicted_to_true'].mean():.2f}", f"{ok['gradient'].mean():.2g}"]
        cells += [f"{ok['clamped'].mean():.0%}", f"{ok['loss_fell'].mean():.0%}"]
        for column in ("steps_to_0", "steps_to_0.4"):
            reached = ok[column].dropna()
            cells.append(f"{reached.median():.0f}" if len(reached) == len(ok) else f"{len(reached)} of {len(ok)}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def glossary() -> str:
    """What each suspect does, as a table."""
    return "\n".join(["| suspect | what it does |", "|---|---|", *(f"| `{k}` | {v} |" for k, v in SUSPECTS.items())])


def write_into(page: Path, **tables: str) -> None:
    """Replace the tables of a page."""
    text = page.read_text()
    for name, table in tables.items():
        before, begin, rest = text.partition(BEGIN.format(name))
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{page} must have the lines {BEGIN.format(name)!r} and {END!r} around the table.")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    page.write_text(text)


def draw(runs: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Held-out R2 by step on the left, the scores of all settings on the right."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    draw_curves(left, curves)
    draw_scores(right, runs)
    return figure


SHOWN = {
    "working": "#2f6db3",
    "+ n_p": "#3a8f4b",
    "+ raw_counts": "#2a9d9d",
    "+ assay_norm": "#cf9a0c",
    "+ loss_clamp": "#d9722e",
    "+ heavy_kl": "#7d5ba6",
    "+ inverted_probs": "#a8476f",
    "failing": "#3c4248",
}


def draw_curves(ax: Axes, curves: pd.DataFrame) -> None:
    for name, colour in SHOWN.items():
        for i, (_, one) in enumerate(curves[curves["setting"] == name].dropna(subset="r2").groupby("seed")):
            ax.plot(one["step"], one["r2"], color=colour, linewidth=1.2, label=None if i else name)
    ax.axhline(0, color="#c6ccd2", linewidth=0.8, zorder=0)
    ax.set_ylim(-0.32, 0.32)
    ax.set_xlabel("step")
    ax.set_title("R² on held-out genes by step, several tracks hidden at once", fontsize=9, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)


def draw_scores(ax: Axes, runs: pd.DataFrame) -> None:
    names = [name for name in settings() if name in set(runs["setting"])]
    groups = [settings()[name].group for name in names]
    y = np.cumsum([1.0 + 0.8 * (i > 0 and groups[i] != groups[i - 1]) for i in range(len(names))])
    for column, colour, label in (("r2", "#2f6db3", "R²"), ("pearson", "#d9722e", "Pearson")):
        for place, name in zip(y, names, strict=True):
            values = runs.loc[runs["setting"] == name, column].dropna().clip(lower=-0.5)
            ax.scatter(values, [place] * len(values), s=14, color=colour, label=label if place == y[0] else None)
    ax.axvline(0, color="#c6ccd2", linewidth=0.8, zorder=0)
    ax.set_yticks(y, names, fontsize=8)
    ax.set_ylim(y[-1] + 0.8, y[0] - 0.8)
    ax.grid(axis="y", color="#eceef0")
    ax.set_axisbelow(True)
    ax.set_title("Each track hidden in turn; below -0.5 at the edge", fontsize=9, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        frameon=False,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=2,
    )


def be_quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", help=f"all, or one of: {', '.join(settings())}")
    parser.add_argument("--data", type=Path, help="h5ad of the counts (default: download them)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, for all")
    parser.add_argument("--jobs", type=int, default=1, help="processes, for all")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the tables, for all")
    options = parser.parse_args()
    if options.setting == "all":
        runs = run_all(options.seeds, options.steps, options.jobs, options.data, options.out)
        write_into(PAGE, suspects=glossary(), results=tabulate(runs))
        draw(runs, pd.read_csv(options.out / "curves.csv")).savefig(FIGURE, dpi=160)
        print(f"wrote {options.out / 'runs.csv'}, {options.out / 'curves.csv'}, {FIGURE} and the tables of {PAGE}")
        return 0
    if options.setting not in settings():
        parser.error(f"setting must be all or one of: {', '.join(settings())}")
    be_quiet()
    setting, adata = settings()[options.setting], read(options.data)
    for name in setting.suspects:
        print(f"{name}: {SUSPECTS[name]}")
    model = train(setting, adata, 0, options.steps, show=True)
    for name, value in judge(model, adata).items():
        print(f"{name}: {value:.3f}")
    chipvi.pl.training(model, save="head_study.png")
    print("wrote head_study.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
