"""Other tools with the interface of the scorer's baselines, each used as its documentation has it.

Where a cap or another choice departs from a tool's defaults, `CHOICES` says so; the page of results quotes it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

SCVI_STEPS = 10_000  # minibatches of 128 regions at most: the default is 400 passes, or 8 million regions
SAMPLES = 10  # draws of the latent that a prediction averages
POISSON = 1e6  # dispersion of a negative binomial that is as good as Poisson
AVOCADO = {"n_nodes": 256, "batch_size": 10_000}
AVOCADO_PASSES = 8  # over all known values

CHOICES = {
    "scVI and PoissonVI": (
        "regions as cells, tracks as genes, default settings. They have no notion of a missing track: it is trained "
        "on, and set to 0 in the test regions to be imputed. The prediction is the normalized expression (mean of "
        f"{SAMPLES} draws) times the reads of the region, which for a hidden track are raised by the share that the "
        f"model gives to it. Training is cut at {SCVI_STEPS:,} minibatches. "
        "PoissonVI sizes its layers by the number of tracks, so here it is tiny. They cannot predict a track that has "
        "no counts anywhere, nor a p-value signal. scVI's default likelihood is zero-inflated, which the scorer's "
        "measures for negative binomials do not cover, so its likelihood is not scored."
    ),
    "Avocado": (
        "its network and generator, of the version on PyPI. That calls a function that Keras has dropped; it is "
        f"given back, and torch runs Keras. {AVOCADO['n_nodes']} nodes a layer in place of 2,048, and "
        f"{AVOCADO_PASSES} passes in batches of {AVOCADO['batch_size']:,}: the defaults take days without a GPU. "
        "Counts go in as arcsinh at the mean depth. It learns factors of the test regions from their other tracks, so "
        "each hidden track would need a training of its own: only the tasks with one set of hidden tracks are run."
    ),
}


def make(name: str, seed: int, max_steps: int | None) -> Any:
    """A method by its name; `max_steps` cuts training short for a trial."""
    return Avocado(seed, max_steps) if name == "Avocado" else ScviTool(name, seed, max_steps or SCVI_STEPS)


class ScviTool:
    """scVI or PoissonVI."""

    def __init__(self, name: str, seed: int, max_steps: int) -> None:
        self.name, self._seed, self._max_steps = name, seed, max_steps

    def fit(self, train: Any, targets: object = None) -> None:
        import scvi
        from scvi.model._utils import get_max_epochs_heuristic

        train = train if isinstance(train, AnnData) else train.train  # a denoising problem
        self._seen = set(train.var_names[train.layers["observed"].any(axis=0)])
        adata = plain(train)
        adata = adata[np.asarray(adata.X.sum(axis=1)) > 0].copy()  # a cell without reads has no library
        scvi.settings.seed = self._seed
        tool = scvi.model.SCVI if self.name == "scVI" else scvi.external.POISSONVI
        tool.setup_anndata(adata)
        self._model = tool(adata)
        epochs = min(get_max_epochs_heuristic(adata.n_obs), ceil(self._max_steps * 128 / (0.9 * adata.n_obs)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model.train(max_epochs=epochs, enable_progress_bar=False)

    def impute(self, visible: AnnData, tracks: Sequence[str], quantity: str) -> pd.DataFrame:
        if quantity != "counts" or not self._seen.issuperset(tracks):
            return pd.DataFrame(np.nan, visible.obs_names, list(tracks))
        share = self._shares(visible, tracks)
        return share / (1 - share).clip(lower=0.1) * library(visible)

    def denoise(self, visible: AnnData) -> pd.DataFrame:
        return self._shares(visible, list(visible.var_names)) * library(visible)

    def dispersion(self, track: str) -> float | None:
        return POISSON if self.name == "PoissonVI" and track in self._seen else None

    def _shares(self, visible: AnnData, tracks: Sequence[str]) -> pd.DataFrame:
        """Of a region's reads that the model gives to each track."""
        adata = plain(visible)
        if self.name == "scVI":
            options = {"gene_list": list(tracks)}
            return self._model.get_normalized_expression(adata, n_samples=SAMPLES, return_numpy=False, **options)
        options = {"region_list": list(tracks), "normalize_regions": True}
        return self._model.get_normalized_accessibility(adata, n_samples=SAMPLES, return_numpy=False, **options)


def plain(adata: AnnData) -> AnnData:
    """Counts and names, nothing else."""
    return AnnData(np.array(adata.X), obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=adata.var_names))


def library(adata: AnnData) -> np.ndarray:
    """Reads of each region, as a column; a region without any counts as one."""
    return np.maximum(adata.X.sum(axis=1, keepdims=True), 1)


class Avocado:
    """Deep tensor factorisation (Schreiber et al. 2020)."""

    name = "Avocado"

    def __init__(self, seed: int, max_steps: int | None) -> None:
        self._seed, self._max_steps = seed, max_steps

    def fit(self, train: AnnData, targets: Sequence[tuple[str, str]]) -> None:
        avocado, keras = import_avocado()
        keras.utils.set_random_seed(self._seed)
        self._quantity = targets[0][0]
        var = train.var
        known = {
            (var["biosample"].iloc[j], var["assay"].iloc[j]): values
            for j, values in enumerate(self._scaled(train).T)
            if np.isfinite(values).all()
        }
        biosamples, assays = sorted(set(var["biosample"])), sorted(set(var["assay"]))
        self._model = avocado.Avocado(biosamples, assays, n_genomic_positions=train.n_obs, **AVOCADO)
        batches = self._max_steps or ceil(AVOCADO_PASSES * len(known) * train.n_obs / AVOCADO["batch_size"])
        self._model.fit(known, n_epochs=1, epoch_size=batches, sampling="permuted", verbose=0)

    def _scaled(self, adata: AnnData) -> np.ndarray:
        """Signal, or arcsinh of the counts at the mean depth, regions x tracks; NaN where nothing was measured."""
        if self._quantity == "signal":
            return np.asarray(adata.layers["signal"])
        rate = adata.X / relative_depth(adata)
        return np.where(adata.layers["observed"] > 0, np.arcsinh(rate), np.nan)

    def impute(self, visible: AnnData, tracks: Sequence[str], quantity: str) -> pd.DataFrame:
        depth = dict(zip(visible.var_names, relative_depth(visible), strict=True))
        found = {}
        for track in tracks:
            values = np.maximum(self._model.predict(*visible.var.loc[track, ["biosample", "assay"]]), 0)
            found[track] = np.sinh(values) * depth[track] if quantity == "counts" else values
        return pd.DataFrame(found, visible.obs_names)

    def dispersion(self, track: str) -> None:
        return None

    def n_parameters(self) -> int:
        return self._model.model.count_params()


def relative_depth(adata: AnnData) -> np.ndarray:
    depth = adata.var["depth"].to_numpy()
    return depth / depth.mean()


def import_avocado() -> tuple[Any, Any]:
    """Avocado and Keras, with the function of an older Keras that Avocado calls."""
    os.environ["KERAS_BACKEND"] = "torch"
    warnings.simplefilter("ignore")
    import avocado
    import keras

    def fit_generator(model: Any, batches: Any, steps: int, epochs: int, **options: Any) -> Any:
        return model.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=options["verbose"])

    keras.Model.fit_generator = fit_generator
    return avocado, keras
