"""Denoised rates against the true rates of simulated counts, beside raw counts and the best Gaussian smoothing.

The width of the Gaussian is chosen for each track with the truth at hand, which nobody has: it is an upper bound.
Exits with 1 if the raw counts or the Gaussian are nearer to the truth on any track.

`--replicates FILE` takes real counts, with cell type and number of the replicate in `var` ("cell", "replicate"): the
last replicate of each cell type is left out, and what is seen of the others is judged by it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

import chipvi
from chipvi.data.track_data import ViewKind
from chipvi.metrics import gaussian_smoothing, pearson, r2

WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)


def compare(n_regions: int, seed: int, max_steps: int | None) -> pd.DataFrame:
    """R2 of the true rate, a row per track."""
    adata = chipvi.datasets.simulate(n_regions, seed=seed)
    rate = adata.layers["rate"]
    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    model = chipvi.ChipVI(adata)
    model.train(seed=seed, max_steps=max_steps)
    offsets = np.flatnonzero(np.r_[True, adata.obs["chrom"].to_numpy()[1:] != adata.obs["chrom"].to_numpy()[:-1], True])
    smoothed = [gaussian_smoothing(adata.X, offsets, width) for width in WIDTHS]
    return pd.DataFrame(
        {
            "raw": r2(rate, adata.X),
            "best Gaussian": np.max([r2(rate, values) for values in smoothed], axis=0),
            "denoised": r2(rate, model.get_normalized_expression(return_numpy=True)),
        },
        index=adata.var_names,
    )


def compare_replicates(path: Path, seed: int, max_steps: int | None) -> pd.DataFrame:
    """R2 and Pearson (of counts, and of their arcsinh) with a replicate that nothing has seen: means over tracks."""
    adata = anndata.read_h5ad(path)
    replicate = adata.var["replicate"].astype(int)
    is_last_t = replicate == replicate.groupby(adata.var["cell"], observed=True).transform("max")
    truth, seen = adata[:, is_last_t], adata[:, ~is_last_t].copy()
    chipvi.ChipVI.setup_anndata(seen, depth_key="depth", condition_key="cell")
    model = chipvi.ChipVI(seen)
    model.train(seed=seed, max_steps=max_steps)
    share = pd.DataFrame(seen.X / seen.X.sum(axis=0), columns=seen.var_names)
    found = {
        "raw": share,
        "mean of the cell type": share.T.groupby(seen.var["cell"], observed=True).transform("mean").T,
        "imputed": model.get_imputed_counts(),
        "denoised": (denoised := model.get_normalized_expression()),
        "mean of the cell type, denoised": denoised.T.groupby(seen.var["cell"], observed=True).transform("mean").T,
    }
    model.module.view(ViewKind.COUNTS).noise_a.zero_()
    found["denoised, replicates not named"] = model.get_normalized_expression()
    scores = {}
    for name, values in found.items():
        rows = []
        for track, cell in seen.var["cell"].items():
            counts = np.asarray(truth.X[:, truth.var["cell"] == cell]).ravel()
            scaled = values[track].to_numpy() * counts.sum() / values[track].sum()
            rows.append((r2(counts, scaled), pearson(counts, scaled), pearson(np.arcsinh(counts), np.arcsinh(scaled))))
        scores[name] = np.mean(rows, axis=0)
    return pd.DataFrame(scores, index=["R2", "Pearson", "Pearson of arcsinh"]).T


def main() -> int:
    """Compare, print, and say whether every track is won."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=3, help="of the simulation and of training")
    parser.add_argument("--steps", type=int, default=None, help="of training; without it, the default")
    parser.add_argument("--replicates", type=Path, metavar="FILE", help="real counts with replicates, see above")
    options = parser.parse_args()
    if options.replicates is not None:
        print(compare_replicates(options.replicates, options.seed, options.steps).round(4).to_string())
        return 0
    table = compare(options.regions, options.seed, options.steps)
    table["won"] = table["denoised"] > table[["raw", "best Gaussian"]].max(axis=1)
    print(table.round(3).to_string())
    print(
        f"mean {table.drop(columns='won').mean().round(3).to_dict()}; {table['won'].sum()} of {len(table)} tracks won"
    )
    return 0 if table["won"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
