"""Whether two versions of chipvi give the same numbers, bit by bit: what a change of structure must not touch.

    python benchmarks/same_numbers.py record before.npz --data FOLDER    # with the old version
    python benchmarks/same_numbers.py compare before.npz --data FOLDER   # with the new one; exit status 1 if any differ

Short trainings through the public API, on one thread, of every kind of model: counts, signal, both with a control,
cells of the grid without data, another head, early stopping, a query, a training that goes on. What is recorded are
all predictions, likelihoods, latents, the diagnosis and the training history. FOLDER holds `roadmap_tss.h5ad`,
`roadmap_pilot.h5ad` and `roadmap_pilot_signal.h5ad`; without it simulated data alone are used.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch

import chipvi

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def predictions(model: chipvi.ChipVI, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Everything that a trained model can be asked, in some regions."""
    imputed = model.impute(indices=rows)
    yield "X", np.asarray(imputed.X)
    yield from ((f"impute {name}", np.asarray(values)) for name, values in imputed.layers.items())
    yield "latents", model.get_latent_representation(indices=rows, per_biosample=True)
    yield "elbo", np.array(model.get_elbo(indices=rows))
    yield "reconstruction", np.array(model.get_reconstruction_error(indices=rows)["reconstruction_loss"])
    yield "marginal", np.array(model.get_marginal_ll(indices=rows, n_mc_samples=3))
    if "denoised" in imputed.layers:
        yield "imputed counts", model.get_imputed_counts(indices=rows, return_numpy=True)
        yield "denoised", model.get_normalized_expression(indices=rows, return_numpy=True, depth=1e6)
        yield "quantiles", model.get_quantiles([0.1, 0.5, 0.9], indices=rows, return_numpy=True, n_samples=4)
        yield "samples", model.posterior_predictive_sample(indices=rows[:50], n_samples=2)
    if "pval" in imputed.layers:
        yield "pvalues", model.get_imputed_pvalues(indices=rows, return_numpy=True, scale="-log10p")


def diagnosis(model: chipvi.ChipVI, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The numbers of the diagnosis; its words may change."""
    found = model.diagnose(indices=rows)
    yield "diagnosis", found.table.select_dtypes("number").to_numpy()
    yield "pit", found.pit.to_numpy()


def history(model: chipvi.ChipVI) -> Iterator[tuple[str, np.ndarray]]:
    """Every table of the history."""
    yield from ((f"history {name}", table.to_numpy()) for name, table in sorted((model.history or {}).items()))


def trained(adata: anndata.AnnData, setup: dict[str, Any], steps: int, **options: Any) -> chipvi.ChipVI:
    """A model, trained with a seed."""
    model_options = {name: options.pop(name) for name in ("head", "kl_weight") if name in options}
    chipvi.ChipVI.setup_anndata(adata, **setup)
    model = chipvi.ChipVI(adata, **model_options)
    model.train(max_steps=steps, seed=0, **QUIET, **options)
    return model


def simulated() -> Iterator[tuple[str, np.ndarray]]:
    """Simulated counts: a gap in the grid, early stopping, a training that goes on, a query, other heads."""
    setup = {"observed_layer": "observed", "depth_key": "depth"}
    data = chipvi.datasets.simulate(n_regions=3_000, missing=["cell2.H3K4me3"])
    model = trained(data.copy(), setup, 60, early_stopping=True)
    rows = np.arange(100, 500)
    for part in (predictions(model, rows), diagnosis(model, rows), history(model)):
        yield from ((f"simulated {name}", values) for name, values in part)
    never_run = pd.DataFrame({"biosample": ["cell2"], "assay": ["H3K4me3"]})
    yield "simulated never run", model.get_imputed_counts(indices=rows, tracks=never_run, return_numpy=True)
    model.train(max_steps=20, seed=1, **QUIET)
    yield from ((f"goes on {name}", values) for name, values in predictions(model, rows))

    is_new = (data.var["biosample"] == "cell3").to_numpy()
    old, new = data[:, ~is_new].copy(), data[:, is_new][:, :3].copy()
    reference = trained(old, setup, 40)
    query = chipvi.ChipVI.load_query_data(new, reference)
    yield from ((f"query {name}", values) for name, values in predictions(query, rows))
    query.train(max_steps=10, seed=0, **QUIET)
    yield from ((f"trained query {name}", values) for name, values in predictions(query, rows))
    for head in ("two_state", "zero_inflated", "clamped_np", "poisson"):
        model = trained(data[:, :6].copy(), setup, 20, head=head)
        yield from ((f"{head} {name}", values) for name, values in predictions(model, rows))


def real(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Real counts by gene, counts and signal with a control, and signal alone with gaps."""
    tss = anndata.read_h5ad(folder / "roadmap_tss.h5ad")
    model = trained(tss, {"segment_key": "gene_id"}, 60, split_key="split")
    rows = np.flatnonzero((tss.obs["split"] == "valid").to_numpy())[:2_000]
    for part in (predictions(model, rows[:400]), diagnosis(model, rows), history(model)):
        yield from ((f"tss {name}", values) for name, values in part)

    pilot = anndata.read_h5ad(folder / "roadmap_pilot.h5ad")
    setup = {"signal_layer": "pval", "control_key": "is_control"}
    model = trained(pilot, setup, 40)
    rows = np.arange(0, 5_000, 9)
    for part in (predictions(model, rows), diagnosis(model, np.arange(2_000)), history(model)):
        yield from ((f"pilot {name}", values) for name, values in part)

    signal = anndata.read_h5ad(folder / "roadmap_pilot_signal.h5ad")[:20_000].copy()
    signal.X[:, [0, 6, 12, 18]] = np.nan
    signal.layers["signal"], signal.X = signal.X, None
    model = trained(signal, {"signal_layer": "signal"}, 40)
    for part in (predictions(model, np.arange(0, 20_000, 50)), history(model)):
        yield from ((f"signal {name}", values) for name, values in part)


def differences(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[str]:
    """What is not equal, bit by bit, one line each."""
    found = [f"{name}: only {'before' if name in before else 'after'}" for name in sorted(before.keys() ^ after.keys())]
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if old.shape != new.shape:
            found.append(f"{name}: shape {old.shape} before, {new.shape} after")
        elif not np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
            found.append(
                f"{name}: {int(np.sum(old != new)):,} of {old.size:,} entries differ, by at most "
                f"{np.nanmax(np.abs(old.astype(float) - new.astype(float))):.3g}"
            )
    return found


def main() -> None:
    """Record, or compare with a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    arrays = dict(simulated())
    if asked.data is not None:
        arrays |= dict(real(asked.data))
    if asked.action == "record":
        np.savez_compressed(asked.file, **{name.replace("/", "|"): values for name, values in arrays.items()})
        print(f"Recorded {len(arrays)} arrays.")
        return
    with np.load(asked.file) as recorded:
        before = {name: recorded[name] for name in recorded.files}
    found = differences(before, {name.replace("/", "|"): values for name, values in arrays.items()})
    print("\n".join(found) or f"All {len(arrays)} arrays are equal, bit by bit.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
