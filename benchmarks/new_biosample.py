"""A biosample that training has not seen, given 1, 2 or 3 of its assays: the other assays, imputed three ways.

The model trains on the other biosamples and takes the new one with `ChipVI.load_query_data`, without training. Beside
it stand the average of the other biosamples, and boosting in the manner of ChromImpute: a regression per target assay
and set of given assays, trained on the other biosamples. It sees, over several windows, the given assays and the target
assay's average over the biosamples that are not predicted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.ensemble import HistGradientBoostingRegressor

import chipvi
from chipvi.data.context import choose_half_widths
from chipvi.metrics import pearson, r2

GIVEN = ("H3K4me3", "H3K36me3", "H3K27me3")
ROWS_PER_BIOSAMPLE = 20_000  # that boosting learns from


def read(path: str) -> AnnData:
    """Signal as a layer."""
    adata = anndata.read_h5ad(path)
    return AnnData(obs=adata.obs, var=adata.var, layers={"signal": adata.X})


def choose(adata: AnnData, biosamples: Sequence[str], assays: Sequence[str] | None = None) -> AnnData:
    """Tracks of these biosamples, and of these assays if they are named."""
    keep = adata.var["biosample"].isin(biosamples)
    if assays is not None:
        keep &= adata.var["assay"].isin(assays)
    return adata[:, keep.to_numpy()].copy()


def signal(adata: AnnData, biosample: str, assay: str) -> np.ndarray:
    """One track."""
    is_it = (adata.var["biosample"] == biosample) & (adata.var["assay"] == assay)
    return np.asarray(adata.layers["signal"][:, np.flatnonzero(is_it)[0]], dtype=np.float64)


def train(reference: AnnData, max_steps: int | None, seed: int) -> chipvi.ChipVI:
    """A model of the other biosamples."""
    chipvi.ChipVI.setup_anndata(reference, signal_layer="signal")
    model = chipvi.ChipVI(reference)
    model.train(max_steps=max_steps, seed=seed, enable_progress_bar=False)
    return model


def impute(query: chipvi.ChipVI, biosample: str, targets: Sequence[str]) -> np.ndarray:
    """Signal of the targets, regions x targets."""
    wanted = pd.DataFrame({"biosample": biosample, "assay": list(targets)})
    return query.get_imputed_pvalues(tracks=wanted, return_numpy=True)


def windows(values_rt: np.ndarray, group_r: np.ndarray) -> np.ndarray:
    """Means over windows of several widths, cut off where a stretch of regions ends."""
    frame = pd.DataFrame(values_rt).groupby(group_r, sort=False)
    half_widths = choose_half_widths(None)
    means = [frame.rolling(2 * half + 1, center=True, min_periods=1).mean().to_numpy() for half in half_widths]
    return np.concatenate(means, axis=1)


def boost(adata: AnnData, biosample: str, others: Sequence[str], given: Sequence[str], target: str) -> np.ndarray:
    """Boosting's prediction of one track."""
    random = np.random.default_rng(0)
    is_start_r = (adata.obs["chrom"] != adata.obs["chrom"].shift()) | (adata.obs["start"] != adata.obs["end"].shift())
    group_r = is_start_r.cumsum().to_numpy()

    def features(one: str, rest: Sequence[str]) -> np.ndarray:
        average_r = np.mean([signal(adata, other, target) for other in rest], axis=0)
        own_rt = np.column_stack([signal(adata, one, assay) for assay in given])
        return windows(np.column_stack([own_rt, average_r]), group_r)

    inputs, outputs = [], []
    for one in others:
        rows = random.choice(adata.n_obs, min(ROWS_PER_BIOSAMPLE, adata.n_obs), replace=False)
        inputs.append(features(one, [other for other in others if other != one])[rows])
        outputs.append(signal(adata, one, target)[rows])
    regression = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.06, random_state=0)
    regression.fit(np.concatenate(inputs), np.concatenate(outputs))
    return regression.predict(features(biosample, others))


def compare(adata: AnnData, biosample: str, seeds: int, steps: int | None) -> pd.DataFrame:
    """Pearson and R2 of each target, a row per number of given assays, target, method and seed."""
    others = [name for name in adata.var["biosample"].unique() if name != biosample]
    models = [train(choose(adata, others), steps, seed) for seed in range(seeds)]
    rows = []
    for n_given in range(1, len(GIVEN) + 1):
        given = GIVEN[:n_given]
        targets = [assay for assay in adata.var["assay"].unique() if assay not in given]
        query = choose(adata, [biosample], given)
        average = [np.mean([signal(adata, other, target) for other in others], axis=0) for target in targets]
        boosted = [boost(adata, biosample, others, given, target) for target in targets]
        predicted = [("average", 0, np.column_stack(average)), ("boosting", 0, np.column_stack(boosted))]
        for seed, model in enumerate(models):
            imputed = impute(chipvi.ChipVI.load_query_data(query.copy(), model), biosample, targets)
            predicted.append(("chipvi", seed, imputed))
        truth = np.column_stack([signal(adata, biosample, target) for target in targets])
        for method, seed, values in predicted:
            for target, r, score in zip(targets, pearson(truth, values), r2(truth, values), strict=True):
                row = {"biosample": biosample, "given": n_given, "target": target, "method": method, "seed": seed}
                rows.append(row | {"Pearson": r, "R2": score})
    return pd.DataFrame(rows)


def show(table: pd.DataFrame) -> str:
    """Methods side by side, with the mean over targets."""
    wide = table.pivot_table(
        index=["biosample", "given", "target"], columns="method", values=["Pearson", "R2"], aggfunc="mean"
    )
    mean = wide.groupby(["biosample", "given"]).mean()
    mean.index = pd.MultiIndex.from_tuples([(*labels, "mean") for labels in mean.index], names=wide.index.names)
    return pd.concat([wide, mean]).sort_index(kind="stable").round(3).to_string()


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="h5ad of arcsinh p-values in X, such as roadmap_pilot_signal.h5ad")
    parser.add_argument("--biosamples", nargs="+", help="to leave out, each in turn; without it, all")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of each")
    parser.add_argument("--steps", type=int, default=None, help="of training; without it, the default")
    parser.add_argument("--out", help="csv file to write all scores to")
    options = parser.parse_args()
    adata = read(options.data)
    left_out = options.biosamples or list(adata.var["biosample"].unique())
    table = pd.concat([compare(adata, biosample, options.seeds, options.steps) for biosample in left_out])
    print(show(table))
    if options.out:
        table.round(4).to_csv(options.out, index=False)
        print(f"Scores of each seed: {options.out}")


if __name__ == "__main__":
    main()
