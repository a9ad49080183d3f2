"""Write the golden files of this version anew: a small model, its data, and the numbers that it predicts.

    python tests/golden/make.py

They lie in a folder named by the format of saved models, and `tests/model/test_golden.py` holds every later version to
them. Write a folder anew only before its format is released. A later change of the format or of the network raises
`FORMAT` in `model/saved.py`, and adds a folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

import chipvi
from chipvi.model.saved import FORMAT

GOLDEN = Path(__file__).resolve().parent
MOST_BYTES = 120_000
KEYS = {"observed_layer": "observed", "signal_layer": "signal", "depth_key": "depth", "control_key": "is_control"}
PREDICTED = ("dispersion", "denoised", "pval", "pval_std")  # bounds of intervals are whole, so rounding moves them by 1


def make_data() -> AnnData:
    """40 regions on 2 chromosomes; 2 biosamples x 3 assays and a control each, one track without data."""
    return chipvi.datasets.simulate(
        n_regions=40,
        n_biosamples=2,
        n_assays=3,
        n_chromosomes=2,
        controls=True,
        signal=True,
        missing=["cell2.H3K4me3"],
        seed=3,
    )


def to_arrays(adata: AnnData) -> dict[str, np.ndarray]:
    """Data as plain arrays, which no version of a library reads otherwise."""
    tables = {
        "obs": adata.obs[["chrom", "start", "end"]],
        "var": adata.var[["biosample", "assay", "depth", "is_control"]],
    }
    arrays = {"X": np.asarray(adata.X, dtype=np.int16)}
    arrays |= {"observed": np.asarray(adata.layers["observed"], dtype=bool), "signal": adata.layers["signal"]}
    for name, table in tables.items():
        arrays[name] = table.index.to_numpy().astype("U")
        for column in table.columns:
            values = table[column].to_numpy()
            arrays[f"{name}.{column}"] = values if values.dtype.kind in "bif" else values.astype("U")
    return arrays


def to_adata(arrays: dict[str, np.ndarray]) -> AnnData:
    """The data of such arrays."""
    obs, var = (
        pd.DataFrame(
            {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{name}.")},
            index=arrays[name].astype(object),
        )
        for name in ("obs", "var")
    )
    layers = {"observed": arrays["observed"].astype(np.uint8), "signal": arrays["signal"]}
    return AnnData(X=arrays["X"].astype(np.float32), obs=obs, var=var, layers=layers)


def predict(model: chipvi.ChipVI) -> dict[str, np.ndarray]:
    """What the model predicts, by name."""
    imputed = model.impute()
    return {"X": imputed.X} | {name: imputed.layers[name] for name in PREDICTED}


def make(folder: Path) -> None:
    """Train a model and write it, its data and its predictions."""
    adata = to_adata(to_arrays(make_data()))
    chipvi.ChipVI.setup_anndata(adata, **KEYS)
    model = chipvi.ChipVI(adata, n_latent=2, n_hidden=5)
    model.train(max_steps=40, batch_size=32, validation_size=0.2, seed=1, accelerator="cpu", enable_progress_bar=False)
    model.save(folder)
    np.savez_compressed(folder / "data.npz", **to_arrays(adata))
    np.savez_compressed(folder / "predicted.npz", **predict(model))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, "made")
        make(made)
        size = sum(file.stat().st_size for file in made.iterdir())
        if size > MOST_BYTES:
            raise SystemExit(f"the golden files are {size:,} bytes, and should be at most {MOST_BYTES:,}")
        home = GOLDEN / str(FORMAT)
        home.mkdir(exist_ok=True)
        for file in made.iterdir():
            (home / file.name).write_bytes(file.read_bytes())
    print(f"Wrote: {home}, {size:,} bytes")
