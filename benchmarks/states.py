"""Chromatin states: simulated ones found again, beside a Gaussian mixture and k-means; real ones; time and memory.

    python benchmarks/states.py simulated            # adjusted Rand index against the true states, three seeds
    python benchmarks/states.py pilot --data roadmap_pilot.h5ad
    python benchmarks/states.py scale --regions 1000000

The mixture and k-means get the log of counts smoothed along the genome (of missing tracks, the average of the others),
the true number of states, and the width of smoothing that suits each best in the knowledge of the truth.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import chipvi
from chipvi.metrics import gaussian_smoothing, leave_one_out_average

N_STATES, WIDTHS = 7, (1, 2, 4, 8)
MOST_FITTED = 20_000


def smoothed_log_counts(adata: AnnData, width: float) -> np.ndarray:
    """Standardised log counts of every region and biosample, (regions x biosamples) x assays."""
    observed_rt, depth_t = adata.layers["observed"] == 1, adata.var["depth"].to_numpy()
    rate_rt = np.where(observed_rt, adata.X, 0) / depth_t
    average_rt = leave_one_out_average(rate_rt, observed_rt, adata.var["biosample"], adata.var["assay"])
    count_rt = np.where(observed_rt, rate_rt, average_rt) * np.median(depth_t)
    chrom = adata.obs["chrom"].cat.codes.to_numpy()
    offsets = np.r_[0, np.flatnonzero(np.diff(chrom)) + 1, adata.n_obs]
    n_assays = adata.var["assay"].nunique()
    x_nf = np.log1p(gaussian_smoothing(count_rt, offsets, width)).reshape(-1, n_assays)
    return (x_nf - x_nf.mean(axis=0)) / x_nf.std(axis=0)


def simulated(seed: int, steps: int | None) -> dict[str, float]:
    """Adjusted Rand index of each method."""
    adata = chipvi.datasets.simulate(20_000, n_biosamples=3, n_assays=7, missing=0.15, seed=seed)
    truth_n = np.stack([adata.obsm["state"][name].cat.codes for name in adata.obsm["state"]], axis=1).ravel()
    rng, found = np.random.default_rng(seed), {}
    rival: dict[str, list[float]] = {"Gaussian mixture": [], "k-means": []}
    for width in WIDTHS:
        x_nf = smoothed_log_counts(adata, width)
        part_nf = x_nf[rng.permutation(len(x_nf))[:MOST_FITTED]]
        mixture = GaussianMixture(N_STATES, random_state=seed).fit(part_nf).predict(x_nf)
        means = KMeans(N_STATES, n_init=3, random_state=seed).fit(part_nf).predict(x_nf)
        for name, labels in zip(rival, (mixture, means), strict=True):
            rival[name].append(adjusted_rand_score(truth_n, labels))
    found |= {name: max(scores) for name, scores in rival.items()}
    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    model = chipvi.ChipVI(adata)
    model.train(max_steps=steps, seed=seed, enable_progress_bar=False)
    for name, n_states in ((f"tl.states, {N_STATES} states", N_STATES), ("tl.states, its defaults", None)):
        chipvi.tl.states(model, n_states=n_states, seed=seed)
        codes = np.stack([adata.obsm["states"][name].cat.codes for name in adata.obsm["states"]], axis=1)
        found[name] = adjusted_rand_score(truth_n, codes.ravel())
    found["states by default"] = len(adata.uns["states"]["table"])
    return found


def pilot(path: str, steps: int | None) -> pd.DataFrame:
    """States of real counts, and how much of the highest H3K4me3 lies in TSS states."""
    import anndata

    adata = anndata.read_h5ad(path)
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth", control_key="is_control")
    model = chipvi.ChipVI(adata)
    model.train(max_steps=steps, seed=0, enable_progress_bar=False)
    chipvi.tl.states(model)
    chipvi.pl.states(model, save="states_pilot.png")
    table = adata.uns["states"]["table"]
    print(table.round(2).to_string())
    rows = {}
    for biosample in adata.obsm["states"]:
        counts = adata.to_df()[f"{biosample}.H3K4me3"].to_numpy()
        is_tss = table["kind"].str.contains("TSS").to_numpy()[adata.obsm["states"][biosample].cat.codes]
        highest = counts >= np.quantile(counts, 0.98)
        rows[biosample] = {
            "share of regions in TSS states": is_tss.mean(),
            "H3K4me3 reads in them": counts[is_tss].sum() / counts.sum(),
            "of the 2 % highest regions in them": is_tss[highest].mean(),
        }
    return pd.DataFrame(rows).T


def scale(n_regions: int, n_biosamples: int, n_assays: int) -> None:
    """Time and memory of the states of a result, whose rates are true ones."""
    adata = chipvi.datasets.simulate(n_regions, n_biosamples=n_biosamples, n_assays=n_assays)
    result = AnnData(obs=adata.obs, var=adata.var, layers={"denoised": adata.layers["rate"]})
    del adata
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start, start_cpu = time.perf_counter(), time.process_time()
    chipvi.tl.states(result)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(
        f"{n_regions:,} regions x {n_biosamples} biosamples x {n_assays} assays: {seconds:.0f} s ({cpu:.0f} s of CPU), "
        f"peak {after:.2f} GB, {before:.2f} GB of it before"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["simulated", "pilot", "scale"])
    parser.add_argument("--data", help="of pilot: counts of two biosamples, regions x tracks")
    parser.add_argument("--regions", type=int, default=1_000_000, help="of scale")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of simulated")
    parser.add_argument("--steps", type=int, help="of training; without it, the default")
    options = parser.parse_args()
    if options.what == "simulated":
        table = pd.DataFrame({f"seed {seed}": simulated(seed, options.steps) for seed in options.seeds})
        print(table.assign(mean=table.mean(axis=1), sd=table.std(axis=1)).round(3).to_string())
    elif options.what == "pilot":
        print(pilot(options.data, options.steps).round(3).to_string())
    else:
        scale(options.regions, n_biosamples=2, n_assays=6)


if __name__ == "__main__":
    main()
