"""What knowing the GC content of regions is worth, on simulated tracks whose reads are lost by GC content.

Each track keeps a share of its reads that rises or falls with the GC content of the region, more or less steeply by
track. One model is given the GC content and one is not. On chromosomes that neither saw, tracks are imputed and held
against the reads that were kept; then imputed as if every region had the mean GC content, and held against the rate
before reads were lost. Means over tracks.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.signal import lfilter

import chipvi
from chipvi.metrics import pearson, r2

HELD_OUT = ("chr4",)


def biased(n_regions: int, steepness: float, seed: int) -> tuple[AnnData, np.ndarray]:
    """Simulated counts with reads lost by GC content, and the share that each entry was expected to keep."""
    adata = chipvi.datasets.simulate(n_regions=n_regions, seed=seed)
    rng = np.random.default_rng([seed, 1])
    # GC content differs over tens of kb and from region to region
    slow_r = lfilter([np.sqrt(1 - 0.98**2)], [1, -0.98], rng.standard_normal(n_regions))
    gc_r = (slow_r + rng.standard_normal(n_regions)) / np.sqrt(2)
    slope_t = rng.normal(0, steepness, adata.n_vars)
    keep_rt = np.clip(0.5 * np.exp(slope_t * gc_r[:, None]), 0.02, 1)
    counts_rt = (adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)).astype(np.int64)
    adata.X = rng.binomial(counts_rt, keep_rt)
    adata.obs["gc"] = 0.42 + 0.06 * gc_r
    adata.var["depth"] = adata.X.sum(axis=0)
    adata.obs["split"] = np.where(adata.obs["chrom"].isin(HELD_OUT), "test", "train")
    return adata, counts_rt


def compare(n_regions: int, steepness: float, seed: int, max_steps: int | None) -> list[dict[str, object]]:
    """R2 and Pearson with and without GC content."""
    adata, before_rt = biased(n_regions, steepness, seed)
    train, test = adata[adata.obs["split"] == "train"].copy(), adata[adata.obs["split"] == "test"].copy()
    before_rt = before_rt[(adata.obs["split"] == "test").to_numpy()].astype(np.float64)
    rows = []
    for keys in ((), ("gc",)):
        chipvi.ChipVI.setup_anndata(train, depth_key="depth", covariate_keys=keys)
        model = chipvi.ChipVI(train)
        model.train(seed=seed, max_steps=max_steps, enable_progress_bar=False)
        level = test.copy()
        level.obs["gc"] = train.obs["gc"].mean()
        found = {"seed": seed, "steepness": steepness, "given": ", ".join(keys) or "nothing"}
        for what, asked, truth_rt in (
            ("kept", test, np.asarray(test.X, dtype=np.float64)),
            ("before", level, before_rt),
        ):
            imputed_rt = model.get_imputed_counts(asked, return_numpy=True)
            if what == "before":  # the scale of a track is not in question
                imputed_rt = imputed_rt * (truth_rt.sum(axis=0) / imputed_rt.sum(axis=0))
            found[f"r2 {what}"] = r2(truth_rt, imputed_rt).mean()
            found[f"pearson {what}"] = pearson(truth_rt, imputed_rt).mean()
        rows.append(found)
    return rows


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=None, help="of training; without it, the default")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    rows = [
        row
        for steepness in (0.0, 0.2, 0.5)
        for seed in range(options.seeds)
        for row in compare(options.regions, steepness, seed, options.steps)
    ]
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    print(table.groupby(["steepness", "given"]).mean().drop(columns="seed").round(4).to_string())


if __name__ == "__main__":
    main()
