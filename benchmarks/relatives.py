"""Experiments that nobody ran, in a compendium of relatives: simulated cell types in families, beside single relatives.

Each is imputed from the assays that its biosample has and from all other biosamples, and held against the counts that
it would show. Beside the model stand the average of the other biosamples, and the best single one of them, at the
depth of the track: the one whose counts are nearest to the truth, which nobody knows, so an upper bound. Exits with 1
if either is nearer to the truth on any track.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd

import chipvi
from chipvi.metrics import leave_one_out_average, pearson, r2

SCORES = {"r2": r2, "pearson": pearson}


def compare(n_regions: int, seed: int, max_steps: int | None) -> pd.DataFrame:
    """R2 and Pearson of the counts of each track that was never run."""
    asked = {"n_regions": n_regions, "n_biosamples": 20, "n_assays": 5, "lineage": 5, "seed": seed}
    whole, adata = chipvi.datasets.simulate(**asked), chipvi.datasets.simulate(**asked, missing=0.1)
    observed_rt, var = adata.layers["observed"] == 1, adata.var
    never_run = var.index[~observed_rt.any(axis=0)]
    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    model = chipvi.ChipVI(adata)
    model.train(seed=seed, max_steps=max_steps, enable_progress_bar=False)
    imputed_rn = model.get_imputed_counts(tracks=list(never_run), return_numpy=True)
    rate_rt = np.asarray(adata.X, dtype=np.float64) / var["depth"].to_numpy()
    average_rt = leave_one_out_average(rate_rt, observed_rt, var["biosample"], var["assay"])
    rows = []
    for n, name in enumerate(never_run):
        t, depth = var.index.get_loc(name), var.loc[name, "depth"]
        relative_t = (var["assay"] == var.loc[name, "assay"]).to_numpy() & observed_rt.any(axis=0)
        row = {"track": name}
        for score, measure in SCORES.items():
            truth_r1 = np.asarray(whole.X[:, [t]], dtype=np.float64)
            relatives = rate_rt[:, relative_t] * depth
            of_relatives = measure(np.broadcast_to(truth_r1, relatives.shape), relatives)
            row[f"{score} average"] = measure(truth_r1, average_rt[:, [t]] * depth).item()
            row[f"{score} best relative"] = of_relatives.max()
            row[score] = measure(truth_r1, imputed_rn[:, [n]]).item()
        rows.append(row)
    return pd.DataFrame(rows).set_index("track")


def main() -> int:
    """Compare, print, and say whether every track is won."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the simulation and of training")
    parser.add_argument("--steps", type=int, default=None, help="of training; without it, the default")
    options = parser.parse_args()
    table = compare(options.regions, options.seed, options.steps)
    is_won = [table[score] > table[[f"{score} average", f"{score} best relative"]].max(axis=1) for score in SCORES]
    table["won"] = np.logical_and(*is_won)
    print(table.round(3).to_string())
    print(
        f"mean {table.drop(columns='won').mean().round(3).to_dict()}; {table['won'].sum()} of {len(table)} tracks won"
    )
    return 0 if table["won"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
