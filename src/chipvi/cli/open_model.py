"""A saved model on its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from .._messages import listed, unknown
from ..io.inputs import read_anndata
from ..model.chipvi import ChipVI
from .saved import draw_validation, find_saved, load_saved
from .settings import fingerprint

_JUDGED = ("test", "valid", "validation", "val")


def open_model(folder: Path, data: Path | None) -> tuple[ChipVI, dict[str, Any]]:
    """Load a model, and its settings as far as they were stored.

    Raises
    ------
    ValueError
        For a folder without a model, or data that are not there, changed since training, or do not fit.
    """
    saved = find_saved(folder)
    model = load_saved(saved, None if data is None else read_anndata(data), accelerator="cpu")
    made = {name: saved.made.get(name) for name in ("data", "fingerprint")}
    named = {} if data is None else {"data": str(data)}
    return model, saved.settings | made | {"trained with chipvi": saved.made.get("chipvi")} | named


def find_validated(model: ChipVI, settings: dict[str, Any]) -> np.ndarray | None:
    """Rows that `chipvi train` held out of these data, drawn once more with its seed; None if it held out none.

    Of other data than those of training nothing was held out.
    """
    size, seed = settings.get("validation_size"), settings.get("seed")
    if not size or seed is None or settings.get("fingerprint") != fingerprint(model.data):
        return None
    rows = draw_validation(model, size, seed)
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
