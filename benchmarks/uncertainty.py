"""Do intervals widen where the model knows less, and by as much as its error grows?

Two models are trained alike, one without the tracks that are judged. On regions that neither saw, each of these tracks
is imputed by the first model from all other tracks, from three of them and from one, and by the second, which never saw
it, from all others: with the latent at its posterior mean, and integrated by draws. All rows of the table are about the
same tracks and regions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import anndata
import matplotlib
import numpy as np
import pandas as pd
from anndata import AnnData

import chipvi
from chipvi.metrics import coverage, nb_coverage

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: E402

DRAWS = 16
LEVEL = 0.95
MEAN, DRAWN = "posterior mean", f"{DRAWS} draws"
KNOWS = ("all other tracks", "3 other tracks", "1 other track", "track never seen")
EDGES = np.geomspace(0.25, 32, 15)  # of the predicted means that are compared with each other
FEWEST = 30  # entries of a bin


def read(path: str | None, n_genes: int, seed: int) -> tuple[AnnData, AnnData]:
    """Regions to train on and to judge on, with a layer `observed`."""
    if path is None:
        adata = chipvi.datasets.simulate(12_000, seed=seed)
        is_judged = (adata.obs["chrom"] == "chr4").to_numpy()
        return adata[~is_judged].copy(), adata[is_judged].copy()
    adata = anndata.read_h5ad(path)
    adata.layers["observed"] = np.ones(adata.shape, dtype=np.float32)
    gene, split = adata.obs["gene_id"], adata.obs["split"]
    parts = []
    for name, number in (("train", n_genes), ("valid", n_genes // 2)):
        chosen = gene[split == name].unique()[:number]
        parts.append(adata[((split == name) & gene.isin(chosen)).to_numpy()].copy())
    return parts[0], parts[1]


def judged_tracks(var: pd.DataFrame) -> list[str]:
    """A track of each biosample, no assay twice."""
    assays = list(var["assay"].unique())
    wanted = {(b, assays[(2 * number + 1) % len(assays)]) for number, b in enumerate(var["biosample"].unique())}
    is_wanted = [pair in wanted for pair in zip(var["biosample"], var["assay"], strict=True)]
    return list(var.index[is_wanted])


def hide(adata: AnnData, tracks: list[str]) -> AnnData:
    """The same data without these tracks."""
    copy = adata.copy()
    copy.layers["observed"][:, copy.var_names.isin(tracks)] = 0
    return copy


def train(adata: AnnData, steps: int, seed: int) -> chipvi.ChipVI:
    """A model at its defaults."""
    segment_key = None if "chrom" in adata.obs else "gene_id"
    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth", segment_key=segment_key)
    model = chipvi.ChipVI(adata)
    model.train(max_steps=steps, seed=seed, accelerator="cpu", enable_progress_bar=False)
    return model


def views(adata: AnnData, track: str, seed: int) -> Iterator[tuple[str, AnnData]]:
    """What a model is shown; the three other tracks and the one are drawn, the one among the three."""
    others = np.random.default_rng(seed).permutation(adata.var_names[adata.var_names != track])
    yield KNOWS[0], adata
    yield KNOWS[1], hide(adata, list(others[3:]))
    yield KNOWS[2], hide(adata, list(others[1:]))


def predict(model: chipvi.ChipVI, adata: AnnData, track: str) -> pd.DataFrame:
    """Mean, variance, interval and its probability in each region, by both ways to treat the latent."""
    asked = {"adata": adata, "tracks": [track], "return_numpy": True}
    likelihood = model.get_likelihood_parameters(**asked)
    mean = likelihood["mean"][:, 0].astype(np.float64)
    samples = model.posterior_predictive_sample(adata, tracks=[track], n_samples=DRAWS)[:, 0].astype(np.float64)
    dispersion = likelihood["dispersions"][:, 0]
    variances = {MEAN: mean + mean**2 / dispersion, DRAWN: samples.var(axis=1, ddof=1)}
    parts = []
    for latent, n_samples in ((MEAN, None), (DRAWN, DRAWS)):
        lower, upper = model.get_prediction_interval(level=LEVEL, n_samples=n_samples, **asked)
        if latent == MEAN:
            expected = nb_coverage(mean, dispersion, lower[:, 0], upper[:, 0])
        else:
            expected = ((samples >= lower) & (samples <= upper)).mean(axis=1)
        columns = {"mean": mean, "variance": variances[latent], "expected": expected}
        columns |= {"lower": lower[:, 0], "upper": upper[:, 0]}
        parts.append(pd.DataFrame(columns).assign(latent=latent))
    return pd.concat(parts)


def judge(learnt: AnnData, judged: AnnData, steps: int, seed: int) -> pd.DataFrame:
    """Predictions of every region and judged track, one row per view of the data and way to treat the latent."""
    tracks = judged_tracks(judged.var)
    models = {"all": train(learnt, steps, seed), "unseen": train(hide(learnt, tracks), steps, seed)}
    parts = []
    for number, track in enumerate(tracks):
        count = np.asarray(judged[:, track].X).ravel()
        asked = [(knows, adata, models["all"]) for knows, adata in views(judged, track, seed + number)]
        for knows, adata, model in [*asked, (KNOWS[3], judged, models["unseen"])]:
            table = predict(model, adata, track).assign(knows=knows, track=track)
            parts.append(table.assign(count=np.tile(count, 2)))
    return pd.concat(parts, ignore_index=True)


def curve(entries: pd.DataFrame) -> pd.DataFrame:
    """Relative width, and error beside it, against the predicted mean."""
    entries = entries.assign(
        width=entries["upper"] - entries["lower"], squared=(entries["count"] - entries["mean"]) ** 2
    )
    by_mean = entries.groupby(pd.cut(entries["mean"], EDGES, labels=False))
    table = by_mean[["mean", "width", "squared", "variance"]].mean()[by_mean.size() >= FEWEST]
    return pd.DataFrame(
        {
            "mean": table["mean"],
            "relative width": table["width"] / table["mean"],
            "relative error": np.sqrt(table["squared"]) / table["mean"],
            "variance over mean": table["variance"] / table["mean"],
        }
    )


def summary(entries: pd.DataFrame) -> pd.DataFrame:
    """A row per view of the data and way to treat the latent.

    Width, variance and error "at equal mean" are ratios to the first row, the geometric mean over bins of the predicted
    mean that both rows have.
    """
    kinds = [(knows, latent) for knows in KNOWS for latent in (MEAN, DRAWN)]
    chosen = {kind: entries[(entries["knows"] == kind[0]) & (entries["latent"] == kind[1])] for kind in kinds}
    base = curve(chosen[kinds[0]])
    rows = []
    for kind, part in chosen.items():
        count, lower, upper = (part[name].to_numpy() for name in ("count", "lower", "upper"))
        missed = np.maximum(lower - count, 0) + np.maximum(count - upper, 0)
        ratio = np.exp(np.log(curve(part) / base).mean())
        rows.append(
            {
                "knows": kind[0],
                "latent": kind[1],
                "width": np.mean(upper - lower),
                "variance / mean": part["variance"].sum() / part["mean"].sum(),
                "RMSE": np.sqrt(np.mean((count - part["mean"]) ** 2)),
                "coverage": coverage(count, lower, upper),
                "expected": part["expected"].mean(),
                "interval score": np.mean(upper - lower + 2 / (1 - LEVEL) * missed),
                "width at equal mean": ratio["relative width"],
                "variance at equal mean": ratio["variance over mean"],
                "error at equal mean": ratio["relative error"],
            }
        )
    return pd.DataFrame(rows).set_index(["knows", "latent"])


def draw(entries: pd.DataFrame, table: pd.DataFrame, out: Path) -> None:
    """Draw the claimed spread, the actual error and the coverage."""
    colors = dict(zip(KNOWS, ("#1b1b1b", "#2a78b5", "#e08214", "#b2182b"), strict=True))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.5, 3.8), layout="constrained")
    for (knows, latent), part in entries.groupby(["knows", "latent"], sort=False):
        lines = curve(part)
        style = {"color": colors[knows], "linestyle": "--" if latent == MEAN else "-", "linewidth": 1.6}
        left.plot(lines["mean"], lines["relative width"], **style)
        if latent == DRAWN:
            middle.plot(lines["mean"], lines["relative error"], label=knows, **style)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axes, name in ((left, f"width of the {LEVEL:.0%} interval / mean"), (middle, "RMSE / mean")):
        axes.set(xscale="log", yscale="log", xlabel="predicted mean (reads)", ylabel=name)
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(plain)
            axis.set_minor_formatter(NullFormatter())
    left.set_title(f"claimed (dashed: posterior mean, full: {DRAWN})", fontsize=10)
    middle.set_title("actual error", fontsize=10)
    middle.legend(frameon=False, fontsize=8)
    for place, knows in enumerate(KNOWS):
        right.plot(table.loc[(knows, DRAWN), "expected"], -place, "|", color="0.5", markersize=18)
        for latent, face in ((MEAN, "white"), (DRAWN, colors[knows])):
            right.plot(table.loc[(knows, latent), "coverage"], -place, "o", mfc=face, mec=colors[knows])
    right.set_yticks([-place for place in range(len(KNOWS))], KNOWS)
    right.set(xlabel="share of counts inside (bar: claimed)", ylim=(-len(KNOWS) + 0.5, 0.5))
    right.xaxis.set_major_locator(MaxNLocator(4))
    right.set_title("coverage (open: posterior mean)", fontsize=10)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


def main() -> None:
    """Train, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="h5ad with gene_id and split in obs, such as roadmap_tss.h5ad; else simulated")
    parser.add_argument("--genes", type=int, default=100, help="to train on, of --data; half as many are judged")
    parser.add_argument("--steps", type=int, default=1_000, help="of either training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("uncertainty.png"), help="figure")
    options = parser.parse_args()
    learnt, judged = read(options.data, options.genes, options.seed)
    entries = judge(learnt, judged, options.steps, options.seed)
    table = summary(entries)
    print(f"tracks {', '.join(entries['track'].unique())}; {judged.n_obs} regions that training never saw")
    print(table.round(3).to_string())
    draw(entries, table, options.out)


if __name__ == "__main__":
    main()
