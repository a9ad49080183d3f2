"""Data that stay in files: the same numbers as in memory, bit by bit, and only what is needed is read."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import chipvi
from chipvi.data.annotation import region_names
from chipvi.io import inputs
from chipvi.io.inputs import open_anndata

MATRICES = ("X", "layers/observed", "layers/signal")


def as_zarr(adata, folder):
    path = folder / "data.zarr"
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zarr, about its next version
            adata.write_zarr(path, chunks=(20, adata.n_vars))
    return path


def as_h5ad(adata, folder):
    path = folder / "data.h5ad"
    adata.write_h5ad(path)
    return path


def opened(adata, path):
    return open_anndata(path)


def sparse(adata, folder):
    adata.X = sp.csr_matrix(adata.X)
    return open_anndata(as_h5ad(adata, folder))


def read_lazily(path):
    pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, about what is experimental
        return anndata.experimental.read_lazy(path)


STORES = {
    "zarr": lambda adata, folder: open_anndata(as_zarr(adata, folder)),
    "h5ad": lambda adata, folder: open_anndata(as_h5ad(adata, folder)),
    "h5ad, CSR": sparse,
    "h5ad, backed": lambda adata, folder: anndata.read_h5ad(as_h5ad(adata, folder), backed="r"),
    "zarr, read_lazy": lambda adata, folder: read_lazily(as_zarr(adata, folder)),
    "h5ad, read_lazy": lambda adata, folder: read_lazily(as_h5ad(adata, folder)),
}


@pytest.fixture(autouse=True)
def all_is_large(monkeypatch):
    monkeypatch.setattr(inputs, "_IN_MEMORY", 0)


def answers(model):
    result = model.impute()
    return {"X": result.X, **result.layers, "quality": model.diagnose().table.to_numpy(dtype=object)}


@pytest.fixture(scope="module")
def expected(kit):
    return answers(kit.train(kit.model(kit.data())))


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_a_store_trains_imputes_and_is_judged_as_memory_is_to_the_last_bit(kit, expected, tmp_path, store):
    adata = store(kit.data(), tmp_path)
    found = answers(kit.train(kit.model(adata)))
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert not isinstance(adata.layers["signal"], np.ndarray) or adata.isbacked  # it was not read as a whole
