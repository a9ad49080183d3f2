"""A saved model on its data."""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
from anndata import AnnData

from .. import _settings
from .._files import read_anndata
from .._messages import listed, unknown
from .._quiet import quiet_lightning
from ..model import ChipVI
from ..train import split_regions

_JUDGED = ("test", "valid", "validation", "val")


def open_model(folder: Path, data: Path | None) -> tuple[ChipVI, dict[str, Any]]:
    """Load a model, and its settings as far as they were stored.

    Raises
    ------
    ValueError
        For a folder without a model, or data that are not there or do not fit.
    """
    if not (folder / "model.pt").is_file():
        raise ValueError(f"{folder} holds no model (model.pt). Name a folder that chipvi train or model.save wrote.")
    settings, made = _settings.read_made(folder) if (folder / _settings.FILE).exists() else ({}, {})
    adata = read_anndata(_find_data(folder, made) if data is None else data)
    try:
        with quiet_lightning(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*var_names.*")  # ours is an error that says more
            model: ChipVI = cast(Any, ChipVI).load(folder, adata, accelerator="cpu")
    except (KeyError, AttributeError, EOFError, RuntimeError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder / 'model.pt'} cannot be read as a model of chipvi: {reason}") from error
    told = {name: made.get(name) for name in ("data", "fingerprint")} | {"trained with chipvi": made.get("chipvi")}
    return model, settings | told | ({} if data is None else {"data": str(data)})


def _find_data(folder: Path, made: dict[str, Any]) -> Path:
    if (folder / "adata.h5ad").is_file():
        return folder / "adata.h5ad"
    if "data" not in made:
        raise ValueError(f"{folder} does not say what it was trained on; name the data with --data.")
    path = Path(made["data"])
    if not path.exists():
        raise ValueError(f"the data that the model was trained on, {path}, are not there; name them with --data.")
    return path


def find_validated(model: ChipVI, settings: dict[str, Any]) -> np.ndarray | None:
    """Rows that `chipvi train` held out of these data, drawn once more with its seed; None if it held out none.

    Of other data than those of training nothing was held out.
    """
    data = model._open_data(None)
    size, seed = settings.get("validation_size"), settings.get("seed")
    if not size or seed is None or settings.get("fingerprint") != _settings.fingerprint(data):
        return None
    rows = split_regions(data.segments, None, size, np.random.default_rng(seed)).validation
    return rows if len(rows) else None


def find_held_out(adata: AnnData, key: str) -> tuple[np.ndarray, str]:
    """Rows labelled "test", or else those to validate on, and what they are, in words.

    Raises
    ------
    ValueError
        If there is no such column, or no such label in it.
    """
    if key not in adata.obs:
        raise ValueError(unknown("column", key, list(adata.obs), "the data's obs"))
    label_r = adata.obs[key].astype(str).to_numpy()
    label = next((label for label in _JUDGED if (label_r == label).any()), None)
    if label is None:
        raise ValueError(
            f"column {key!r} of obs must label regions test or valid, to judge on; "
            f"it holds {listed(np.unique(label_r))}."
        )
    rows = np.flatnonzero(label_r == label)
    return rows, f"regions that column {key} labels {label}, held out if training was told so"
