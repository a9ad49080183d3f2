"""What differs between two groups of replicates: ChipVI.differential_signal beside PyDESeq2 and a plain log ratio.

    python benchmarks/differential.py simulated --replicates 3 --mean-count 20
    python benchmarks/differential.py brain --data FOLDER

Simulated: replicates of one cell type in two groups; in the second, the rates of some stretches are multiplied by known
factors and their counts drawn anew. Beside them are replicates of another cell type, whose variance is borrowed ("with
others") or not ("alone"). Power is the share of changed regions that are called at a false discovery rate of 5 %, FDR
the share of the called that did not change. A null mixes both groups evenly on either side: nothing differs. "t on
denoised" is the same test on rates that are denoised as usual, with all tracks visible.

Brain: H3K27ac of four cell types with three replicates each (`brain_h3k27ac.h5ad` in the folder). Nulls hold one
replicate against one or both others of its type, and every first against every second replicate; signals hold type
against type, in full, one against two, and one against one, with PyDESeq2 on the regions that `split` labels valid.

PyDESeq2 is not a requirement of the package (`pip install "chipvi[benchmarks]"`). Without it, or with `--no-deseq`, it
is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
import warnings
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

import chipvi
from chipvi.differential.discovery import adjusted
from chipvi.differential.levels import GroupTrends
from chipvi.differential.moderated import Difference, SpreadPrior

ALPHA = 0.05
KNOWN = "lfc"
N_OTHERS = 3


def plant(n_replicates: int, mean_count: float, n_regions: int, seed: int) -> AnnData:
    """Simulate two groups of replicates and three of another kind, `group` A, B and C of `var`.

    `obsm["lfc"]` has the known log2 fold changes.
    """
    n_simulated = max(2 * n_replicates, N_OTHERS)
    adata = chipvi.datasets.simulate(
        n_regions=n_regions, n_biosamples=2, n_assays=4, n_replicates=n_simulated, mean_count=mean_count, seed=seed
    )
    is_other_t = (adata.var["cell"] == "cell2").to_numpy()
    number_t = adata.var["replicate"].to_numpy()
    adata = adata[:, number_t <= np.where(is_other_t, N_OTHERS, 2 * n_replicates)].copy()
    random = np.random.default_rng([seed, 7])
    assays = list(dict.fromkeys(adata.var["assay"]))
    lfc_ra = np.zeros((n_regions, len(assays)))
    for a in range(len(assays)):
        start = int(random.exponential(120))
        while start < n_regions:
            length = int(random.integers(4, 16))
            lfc_ra[start : start + length, a] = random.choice([-1, 1]) * random.uniform(0.8, 2.0)
            start += length + int(random.exponential(120))
    is_second_t = ((adata.var["cell"] == "cell1") & (adata.var["replicate"] > n_replicates)).to_numpy()
    for t in np.flatnonzero(is_second_t):
        lfc_r = lfc_ra[:, assays.index(adata.var["assay"].iloc[t])]
        changed = lfc_r != 0
        rate_r, shape = adata.layers["rate"][:, t], float(adata.var["dispersion"].iloc[t])
        rate_r[changed] *= 2 ** lfc_r[changed]
        adata.X[changed, t] = random.poisson(rate_r[changed] * random.gamma(shape, size=changed.sum()) / shape)
    adata.var["depth"] = adata.X.sum(axis=0)
    adata.var["group"] = np.where(adata.var["cell"] == "cell2", "C", np.where(is_second_t, "B", "A"))
    adata.obsm[KNOWN] = pd.DataFrame(lfc_ra, index=adata.obs_names, columns=assays)
    return adata


def trained(adata: AnnData, steps: int | None, seed: int) -> chipvi.ChipVI:
    """A model of them, without what comparisons do not use."""
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth")
    model = chipvi.ChipVI(adata)
    model.train(max_steps=steps, seed=seed, enable_progress_bar=False, calibrate_unseen=False, boosted_trees=False)
    return model


def deseq(count_rt: np.ndarray, is_first_t: np.ndarray) -> pd.DataFrame:
    """Table of PyDESeq2 with `padj` and `log2FoldChange`, by its defaults."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    names = [f"track{t}" for t in range(len(is_first_t))]
    design = pd.DataFrame({"group": np.where(is_first_t, "A", "B")}, index=names)
    counts = pd.DataFrame(count_rt.T.astype(int), index=names, columns=[str(r) for r in range(len(count_rt))])
    inference = DefaultInference(n_cpus=1)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        data = DeseqDataSet(counts=counts, metadata=design, design="~group", inference=inference, quiet=True)
        data.deseq2()
        stats = DeseqStats(data, contrast=["group", "A", "B"], inference=inference, quiet=True)
        stats.summary()
    return stats.results_df


def denoised_as_usual(model: chipvi.ChipVI, names: list[str], is_first_t: np.ndarray) -> np.ndarray:
    """P-values of the same test on rates for which all tracks were visible."""
    rate_rt = model.get_normalized_expression(tracks=names, depth=1e6, return_numpy=True)
    log_rate_rt = np.log2(rate_rt.astype(np.float64))
    group_t = np.where(is_first_t, 0, 1)
    even_rt = GroupTrends.fit(log_rate_rt, group_t).remove(log_rate_rt)
    return SpreadPrior.fit(even_rt, group_t).moderate(Difference.of(even_rt, group_t)).p_value(0.0)


def label(adata: AnnData, first: list[str], second: list[str], with_others: bool) -> str:
    """Name a column of `var` that labels biosamples A and B, and those of the other cell type C if asked for."""
    adata.var["design"] = pd.Series(np.nan, index=adata.var_names, dtype=object)
    for name, biosamples in (("A", first), ("B", second)):
        adata.var.loc[adata.var["biosample"].isin(biosamples), "design"] = name
    if with_others:
        adata.var.loc[adata.var["group"] == "C", "design"] = "C"
    return "design"


def compared(model: chipvi.ChipVI, column: str, **more: object) -> pd.DataFrame:
    """Table of A against B."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no replicates of")
        return model.differential_signal("A", "B", groupby=column, **more)


def judged(called: np.ndarray, changed: np.ndarray) -> dict[str, float]:
    return {
        "calls": int(called.sum()),
        "power": called[changed].mean(),
        "FDR": (~changed[called]).mean() if called.any() else 0.0,
    }


def simulated(options: argparse.Namespace) -> pd.DataFrame:
    adata = plant(options.replicates, options.mean_count, options.regions, options.seed)
    model = trained(adata, options.steps, options.seed)
    rows = []
    tables = {f"delta {delta:g}": compared(model, "group", delta=delta) for delta in (0.1, 0.25)}
    first, second = (sorted(adata.var["biosample"][adata.var["group"] == group].unique()) for group in "AB")
    nulls = {}
    n = options.replicates
    for n1, n2 in sorted({(1, 1), (1, 2), (n, n)}):
        design, halves = (first[:n1], second[:n2]), ([*first, *second][:n1], [*first, *second][n1 : n1 + n2])
        if n1 == n2 == n:
            halves = [[*a[::2], *b[1::2]] for a, b in ((first, second), (second, first))]
        for kind, with_others in (("with others", True), ("alone", False)):
            name = f"{n1} and {n2}, {kind}"
            tables[name] = compared(model, label(adata, *design, with_others), mode="vanilla")
            nulls[name] = compared(model, label(adata, *halves, with_others), mode="vanilla")
    for assay, lfc_r in adata.obsm[KNOWN].items():
        is_compared = (adata.var["assay"] == assay) & (adata.var["group"] != "C")
        var = adata.var[is_compared].sort_values("group", kind="stable")
        is_first_t, changed = (var["group"] == "A").to_numpy(), (lfc_r != 0).to_numpy()
        count_rt = np.asarray(adata[:, var.index].X, dtype=np.float64)

        def add(method: str, called: np.ndarray, **more: float) -> None:
            rows.append({"assay": assay, "method": method} | judged(called, changed) | more)  # noqa: B023

        for name, table in tables.items():
            table = table[table["assay"] == assay]
            intervals = chipvi.differential.merge_regions(table)
            hits = [changed[_rows(adata, one)].any() for one in intervals.itertuples()]
            false = 1 - np.mean(hits) if hits else 0.0
            add(f"chipvi, {name}", table["is_de_fdr_0.05"].to_numpy(), intervals=len(hits), false=false)
        for name, table in nulls.items():
            null_r = table[table["assay"] == assay]
            add(f"chipvi, null of {name}", null_r["is_de_fdr_0.05"].to_numpy())
            rows[-1] |= {"power": np.nan, "FDR": np.nan, "p<.01": (null_r["p_value"] < 0.01).mean()}
        add("t on denoised", adjusted(denoised_as_usual(model, list(var.index), is_first_t)) <= ALPHA)
        rate_rt = count_rt / var["depth"].to_numpy() * var["depth"].mean()
        ratio_r = np.log2((rate_rt[:, is_first_t].mean(axis=1) + 0.5) / (rate_rt[:, ~is_first_t].mean(axis=1) + 0.5))
        add("log ratio above 1", np.abs(ratio_r) > 1)
        if options.deseq:
            start = time.monotonic()
            called = (deseq(count_rt, is_first_t)["padj"].fillna(1) <= ALPHA).to_numpy()
            add("PyDESeq2", called, seconds=time.monotonic() - start)
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    return table.groupby("method").mean(numeric_only=True)


def _rows(adata: AnnData, interval: tuple) -> np.ndarray:
    obs = adata.obs
    return np.flatnonzero(
        (obs["chrom"].astype(str) == interval.chrom) & (obs["start"] < interval.end) & (obs["end"] > interval.start)
    )


def brain(options: argparse.Namespace) -> pd.DataFrame:
    adata = anndata.read_h5ad(options.data / "brain_h3k27ac.h5ad")
    adata.X = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    model = trained(adata, options.steps, options.seed)
    cells = list(dict.fromkeys(adata.var["cell"].astype(str)))
    rows = []

    def compare(kind: str, first: list[str], second: list[str], with_others: bool = True) -> pd.DataFrame:
        start = time.monotonic()
        labels = adata.var["cell"].astype(object) if with_others else pd.Series(np.nan, adata.var_names, dtype=object)
        chosen = [*first, *second]
        kinds = set(adata.var["cell"][adata.var["biosample"].isin(chosen)])
        labels[adata.var["cell"].isin(kinds)] = np.nan  # of the compared types, only what is compared
        for name, group in (("A", first), ("B", second)):
            labels[adata.var["biosample"].isin(group).to_numpy()] = name
        adata.var["design"] = labels
        table = compared(model, "design", mode="vanilla")
        rows.append(
            {
                "comparison": kind + ("" if with_others else ", alone"),
                "calls": int(table["is_de_fdr_0.05"].sum()),
                "p<.05": (table["p_value"] < 0.05).mean(),
                "p<.001": (table["p_value"] < 0.001).mean(),
                "seconds": time.monotonic() - start,
            }
        )
        return table

    def of(cell: str, *numbers: int) -> list[str]:
        return [f"{cell}_{number}" for number in numbers]

    for with_others in (True, False):
        for cell in cells:
            for number in (1, 2, 3):
                others = [other for other in (1, 2, 3) if other != number]
                compare(f"null: {cell}_{number} and two", of(cell, number), of(cell, *others), with_others)
                compare(f"null: {cell}_{number} and one", of(cell, number), of(cell, number % 3 + 1), with_others)
    firsts, seconds = ([f"{cell}_{number}" for cell in cells] for number in (1, 2))
    compare("null: first and second of every type", firsts, seconds, with_others=False)
    valid = (adata.obs["split"] == "valid").to_numpy()
    for first, second in combinations(cells, 2):
        table = compare(f"{first} and {second}", of(first, 1, 2, 3), of(second, 1, 2, 3))
        if options.deseq and len([row for row in rows if "agreement" in row]) < options.pairs:
            columns = np.flatnonzero(adata.var["cell"].isin([first, second]))
            is_first_t = (adata.var["cell"].iloc[columns] == first).to_numpy()
            theirs, ours = deseq(adata.X[np.ix_(valid, columns)], is_first_t), table[valid]
            called, strong = (theirs["padj"] <= ALPHA).to_numpy(), (theirs["padj"] <= 0.01).to_numpy()
            strong &= theirs["log2FoldChange"].abs().to_numpy() > 1
            same = np.sign(ours["lfc_mean"].to_numpy()) == np.sign(theirs["log2FoldChange"].to_numpy())
            ours_r = ours["is_de_fdr_0.05"].to_numpy()
            rows[-1] |= {
                "of valid": ours_r.mean(),
                "PyDESeq2": called.mean(),
                "strong": strong.mean(),
                "agreement": (ours_r & same)[strong].mean(),
                "called by PyDESeq2": called[ours_r].mean(),
                "r of lfc": np.corrcoef(ours["lfc_mean"], theirs["log2FoldChange"].fillna(0))[0, 1],
            }
        called_r = table["is_de_fdr_0.05"].to_numpy()
        for n1, n2 in ((1, 1), (1, 2), (2, 2)):
            for with_others in (True, False):
                numbers = [range(1, n + 1) for n in (n1, n2)]
                sides = [of(cell, *some) for cell, some in zip((first, second), numbers, strict=True)]
                few_r = compare(f"{first} and {second}, {n1} and {n2}", *sides, with_others)[
                    "is_de_fdr_0.05"
                ].to_numpy()
                rows[-1] |= {"in 3 and 3": called_r[few_r].mean() if few_r.any() else np.nan}
    return pd.DataFrame(rows).set_index("comparison")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulated", "brain"))
    parser.add_argument("--data", type=Path, help="folder with the real counts")
    parser.add_argument("--replicates", type=int, default=3, help="in each group")
    parser.add_argument("--mean-count", type=float, default=20.0, help="reads per region of an average track")
    parser.add_argument("--regions", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=None, help="of training; without it, the default")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation and of training")
    parser.add_argument("--pairs", type=int, default=2, help="pairs of cell types to give to PyDESeq2")
    parser.add_argument("--no-deseq", dest="deseq", action="store_false", help="leave PyDESeq2 out")
    options = parser.parse_args()
    options.deseq &= find_spec("pydeseq2") is not None
    if options.what == "brain" and options.data is None:
        parser.error("name the folder with the real counts: --data FOLDER")
    table = simulated(options) if options.what == "simulated" else brain(options)
    print(table.round(3).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
