"""Region-tracks per second of imputation and denoising, on one thread, beside the matrix products alone.

A region-track is one track in one region. The module is not trained: its speed does not depend on its weights, but for
the boosted trees beside it, which `--trees` has learnt. Seconds are of CPU time, so that other programs hardly matter,
and of the turns the fastest counts.

    python benchmarks/impute.py [--trees]
    python benchmarks/impute.py --biosamples 127 --assays 12 --missing 0.33 --regions 512
"""

from __future__ import annotations

import argparse
import inspect
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch.nn.functional import linear

import chipvi

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")


def make_data(n_regions: int, n_biosamples: int, n_assays: int, missing: float) -> tuple[AnnData, list[str]]:
    """Counts of any number of tracks, negative binomial around a rate that all share, and names of missing ones."""
    random = np.random.default_rng(0)
    names = [(f"cell{b + 1}", f"assay{a + 1}") for b in range(n_biosamples) for a in range(n_assays)]
    counts = random.poisson(random.gamma(0.7, 3.0, (n_regions, 1)) * random.gamma(2.0, 0.5, (n_regions, len(names))))
    is_missing_t = np.zeros(len(names), dtype=bool)
    for a in range(n_assays):  # an assay as often as another, and never all of it
        is_missing_t[random.permutation(n_biosamples)[: round(missing * n_biosamples)] * n_assays + a] = True
    start = 200 * np.arange(n_regions)
    var = pd.DataFrame(names, columns=["biosample", "assay"], index=[".".join(name) for name in names])
    adata = AnnData(
        counts[:, ~is_missing_t].astype(np.float32),
        obs=pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 200}, index=start.astype(str)),
        var=var[~is_missing_t],
    )
    return adata, list(var.index[is_missing_t])


def make_model(asked: argparse.Namespace) -> tuple[chipvi.ChipVI, list[str], list[str]]:
    """A model, its tracks, and those that it has no data of."""
    adata, missing = make_data(max(asked.regions, 1_000), asked.biosamples, asked.assays, asked.missing)
    chipvi.ChipVI.setup_anndata(adata)
    model = chipvi.ChipVI(adata)
    rows = np.arange(adata.n_obs)
    model.module = model._make_module(model.data, rows).eval()
    model.is_trained_ = True
    if asked.trees:
        from chipvi.calibrate.boosting import boost

        boost(model.module, model.data, rows, seed=0)
    return model, list(adata.var_names), missing


def table_of(names: list[str]) -> pd.DataFrame:
    """Tracks by biosample and assay."""
    return pd.DataFrame([name.split(".") for name in names], columns=["biosample", "assay"], index=names)


def products(model: chipvi.ChipVI, n_regions: int) -> Callable[[], None]:
    """The matrix products that each target of each region needs, whatever is shared: all but the encoder's first."""
    shared = model.module.decoder.shared
    weights = [model.module.encoder.layers[4].weight, model.module.encoder.mean.weight]
    weights += [layer.weight for layer in shared if isinstance(layer, torch.nn.Linear)]
    inputs = [torch.randn(n_regions, weight.shape[1]) for weight in weights]

    @torch.no_grad()
    def run() -> None:
        for x, weight in zip(inputs, weights, strict=True):
            linear(x, weight)

    return run


def fastest(run: Callable[[], Any], turns: int) -> float:
    """CPU seconds of the fastest of some turns, after one that warms up."""
    found = []
    for _ in range(turns + 1):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found[1:])


def main() -> None:
    """Print a rate for each kind of prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--biosamples", type=int, default=3)
    parser.add_argument("--assays", type=int, default=6)
    parser.add_argument("--missing", type=float, default=0.0, help="share of the tracks that nobody has run")
    parser.add_argument("--regions", type=int, default=4_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--trees", action="store_true", help="learn boosted trees first, which takes a minute")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, measured, unmeasured = make_model(asked)
    rows = np.arange(asked.regions)
    print(
        f"{asked.biosamples} x {asked.assays}, {len(unmeasured)} of {len(measured) + len(unmeasured)} tracks missing, "
        f"{asked.regions:,} regions, one thread{', with boosted trees' if asked.trees else ''}"
    )

    def show(name: str, n_tracks: int, run: Callable[[], Any]) -> None:
        seconds = fastest(run, asked.turns)
        print(f"  {name:<44}{asked.regions * n_tracks / seconds:>12,.0f} region-tracks/s", flush=True)

    every = table_of(measured + unmeasured)
    show("matrix products alone", 1, products(model, asked.regions))
    show(
        "mean, measured tracks without their own data",
        len(measured),
        lambda: model.get_imputed_counts(indices=rows, tracks=table_of(measured), return_numpy=True),
    )
    if unmeasured:
        show(
            "mean, unmeasured tracks",
            len(unmeasured),
            lambda: model.get_imputed_counts(indices=rows, tracks=table_of(unmeasured), return_numpy=True),
        )
    show(
        "denoised",
        len(every),
        lambda: model.get_normalized_expression(indices=rows, tracks=every, return_numpy=True),
    )
    if "intervals" in inspect.signature(model.impute).parameters:
        show(
            "impute, no intervals, no denoising",
            len(every),
            lambda: model.impute(indices=rows, tracks=every, processes=1, intervals=False, denoised=False),
        )
    show("impute, everything", len(every), lambda: model.impute(indices=rows, tracks=every, processes=1))


if __name__ == "__main__":
    main()
