"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import chipvi
from chipvi.data.minibatch import Minibatch, take_regions

KEYS = {
    "observed_layer": "observed",
    "signal_layer": "signal",
    "depth_key": "depth",
    "control_key": "is_control",
}
SMALL = {"n_latent": 6, "n_hidden": 24}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
UNSEEN = "cell2.H3K4me3"


def make_adata(**options: Any) -> AnnData:
    """3 biosamples x 4 assays and a control each, one track wholly missing, 4 chromosomes of 70 regions."""
    defaults = {"n_regions": 280, "n_biosamples": 3, "n_assays": 4, "controls": True, "signal": True}
    return chipvi.datasets.simulate(**(defaults | {"missing": [UNSEEN], "seed": 3} | options))


def make_model(adata: AnnData, keys: dict[str, str] = KEYS, **options: Any) -> chipvi.ChipVI:
    chipvi.ChipVI.setup_anndata(adata, **keys)
    return chipvi.ChipVI(adata, **(SMALL | options))


def train(model: chipvi.ChipVI, max_steps: int = 5, **options: Any) -> chipvi.ChipVI:
    model.train(**(QUIET | {"max_steps": max_steps, "batch_size": 64, "validation_size": 0.1, "seed": 1} | options))
    return model


def take(model: chipvi.ChipVI, rows: Any) -> Minibatch:
    """These regions, as the module gets them."""
    return take_regions(model.data, np.asarray(rows), model.module.half_widths)


KIT = SimpleNamespace(keys=KEYS, unseen=UNSEEN, data=make_adata, model=make_model, train=train, take=take)


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Makers of small data and models: `keys`, `unseen`, `data`, `model`, `train`, `take`."""
    return KIT


@pytest.fixture(scope="session")
def adata() -> AnnData:
    """Data of the trained model. Not to be changed: copy first."""
    return make_adata()


@pytest.fixture(scope="session")
def model(adata: AnnData) -> chipvi.ChipVI:
    """A model of counts, signal and controls. Not to be trained further."""
    return train(make_model(adata), max_steps=100)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data, which lie beside the repository and never in it."""
    beside_repository = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CHIPVI_SHARED_DATA", beside_repository))
    if not (folder / "roadmap_tss.h5ad").is_file():
        pytest.skip(f"no real data in {folder}; say where they are with CHIPVI_SHARED_DATA")
    return folder
