"""The tracks of a model as a field of scvi-tools' registry, so that a saved model knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data.fields import BaseAnnDataField, CategoricalObsField

from ..data.check import SetupKeys
from ..data.grid import Grid
from ..data.segments import Widths
from ..data.track_data import ViewKind
from ..data.tracks import Tracks, read_tracks

TRACKS_FIELD = "tracks"


class TracksField(BaseAnnDataField):
    """Registers names and labels of the tracks, and which of counts and signal were measured.

    Parameters
    ----------
    keys
        Where the AnnData keeps what.
    seen, views
        Views that the data hold, and those that can be predicted; of a saved model those that it was trained on.
    widths
        Those of the regions.
    """

    def __init__(
        self,
        keys: SetupKeys,
        seen: Sequence[ViewKind],
        views: Sequence[ViewKind],
        widths: Widths,
    ) -> None:
        super().__init__()
        self._keys = keys
        self._data: dict[str, Any] = {
            "seen": [str(kind) for kind in seen],
            "views": [str(kind) for kind in views],
            "bin_width": widths.bins,
            "typical_width": widths.typical,
        }

    @property
    def registry_key(self) -> str:
        """Name of the field."""
        return TRACKS_FIELD

    @property
    def attr_name(self) -> str:
        """Attribute of the AnnData that it describes."""
        return "var"

    @property
    def attr_key(self) -> str:
        """Column of that attribute."""
        return self._keys.biosample_key

    @property
    def is_empty(self) -> bool:
        """Never."""
        return False

    def validate_field(self, adata: AnnData) -> None:
        """Nothing: the contract is checked before the first field is registered."""

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Write down the tracks."""
        tracks = self._read(adata, self._keys.condition_key)
        return self._data | {
            "names": list(tracks.names),
            "biosamples": list(tracks.biosamples),
            "assays": list(tracks.assays),
            "is_control": tracks.is_control.tolist(),
            "conditions": None if tracks.conditions is None else list(tracks.conditions),
        }

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **_: Any) -> dict[str, Any]:
        """Keep the tracks of the model; others, or in another order, are an error."""
        registered_tracks(state_registry).require_same(self._read(adata_target))
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Number of tracks."""
        return {"n_tracks": len(state_registry["names"])}

    def view_state_registry(self, state_registry: dict[str, Any]) -> None:
        """Nothing to show beyond the summary."""

    def _read(self, adata: AnnData, condition_key: str | None = None) -> Tracks:
        keys = self._keys
        return read_tracks(
            adata.var, keys.biosample_key, keys.assay_key, keys.depth_key, keys.control_key, condition_key
        )


class OneBatch(CategoricalObsField):
    """The batch that scvi-tools requires, the same for all regions, a byte each."""

    def __init__(self) -> None:
        super().__init__(REGISTRY_KEYS.BATCH_KEY, None)

    def _setup_default_attr(self, adata: AnnData) -> None:
        self._original_attr_key = self.attr_key
        codes = np.zeros(adata.n_obs, dtype=np.int8)
        adata.obs[self.attr_key] = pd.Categorical.from_codes(codes, categories=np.zeros(1, dtype=np.int64))


def registered_tracks(state_registry: dict[str, Any]) -> Tracks:
    """The tracks that a registry holds."""
    return Tracks(
        names=tuple(state_registry["names"]),
        biosamples=tuple(state_registry["biosamples"]),
        assays=tuple(state_registry["assays"]),
        is_control=np.array(state_registry["is_control"], dtype=bool),
        conditions=None if (conditions := state_registry["conditions"]) is None else tuple(conditions),
    )


def registered_widths(state_registry: dict[str, Any]) -> Widths:
    """Widths of the regions that a registry holds."""
    return Widths(state_registry["bin_width"], state_registry["typical_width"])


def registered_views(state_registry: dict[str, Any]) -> tuple[list[ViewKind], list[ViewKind]]:
    """Views that the data hold, and those that can be predicted, as a registry has them."""
    seen, views = ([ViewKind(name) for name in state_registry[key]] for key in ("seen", "views"))
    return seen, views


def registered_grid(state_registry: dict[str, Any]) -> Grid:
    """The grid of the tracks that a registry holds."""
    return Grid.of(registered_tracks(state_registry), *registered_views(state_registry))
