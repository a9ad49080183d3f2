"""From version 0.13 on, anndata lists None, which is X, among the layers; no name of a layer is None."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata._core.aligned_mapping import Layers

import chipvi
from chipvi.data.setup_keys import SetupKeys
from chipvi.data.track_data import names_of_columns, names_of_layers
from chipvi.evaluate.score.task import open_truth


@pytest.fixture
def listing_x(monkeypatch):
    """Layers as of anndata 0.13: X is layers[None], where there is an X."""
    keys, get, has = Layers.__iter__, Layers.__getitem__, Layers.__contains__
    has_x = lambda self: getattr(self.parent, "X", None) is not None  # noqa: E731
    monkeypatch.setattr(Layers, "__iter__", lambda self: iter([*keys(self), *([None] if has_x(self) else [])]))
    monkeypatch.setattr(Layers, "__getitem__", lambda self, key: self.parent.X if key is None else get(self, key))
    monkeypatch.setattr(Layers, "__contains__", lambda self, key: has_x(self) if key is None else has(self, key))


def small() -> AnnData:
    var = pd.DataFrame({"biosample": ["a", "b", "b"], "assay": ["x", "x", "y"]}, index=["a.x", "b.x", "b.y"])
    obs = pd.DataFrame({"chrom": "chr1", "start": [0, 200], "end": [200, 400]}, index=["r", "s"])
    counts = np.array([[0.0, 2.0, 3.0], [4.0, 0.0, 6.0]])
    return AnnData(counts, obs=obs, var=var, layers={"signal": np.sqrt(counts)})


def test_x_is_no_layer(listing_x):
    adata = small()
    assert None in list(adata.layers)
    assert names_of_layers(adata) == ["signal"]


def test_messages_propose_no_layer_called_none(listing_x):
    with pytest.raises(ValueError, match="There is: signal.$"):
        chipvi.ChipVI.setup_anndata(small(), layer="none")


def test_signal_of_data_with_x_can_be_scored(listing_x):
    data = open_truth(small(), SetupKeys(signal_layer="signal"))
    assert data.summary.signal.number_t.tolist() == [2, 2, 2]


def test_columns_of_scvi_are_not_proposed():
    adata = small()
    adata.obs["_scvi_batch"], adata.obs["fold"] = 0, "train"
    assert names_of_columns(adata) == ["chrom", "start", "end", "fold"]
