"""Data that stay in files: the same numbers as in memory, bit by bit, and only what is needed is read."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import chipvi
from chipvi.cli.places import open_places
from chipvi.cli.settings import Made
from chipvi.data import check
from chipvi.data.annotation import find_rows, region_names
from chipvi.data.fingerprint import identify
from chipvi.data.loader import RegionLoader
from chipvi.data.survey import survey
from chipvi.data.track_data import Matrix
from chipvi.data.tracks import read_tracks
from chipvi.io import inputs
from chipvi.io.inputs import open_anndata
from chipvi.predict import imputation


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


def trained(kit, adata):
    return kit.train(kit.model(adata), max_steps=3, calibrate_unseen=False)


def answers(model):
    return model.impute(indices=np.arange(40, 110)), model.diagnose().table


@pytest.fixture(scope="module")
def expected(kit):
    return answers(trained(kit, kit.data()))


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_a_store_trains_imputes_and_is_judged_as_memory_is_to_the_last_bit(kit, expected, tmp_path, store):
    adata = store(kit.data(), tmp_path)
    imputed, quality = answers(trained(kit, adata))
    for name in (None, *expected[0].layers):
        np.testing.assert_array_equal(imputed.layers.get(name, imputed.X), expected[0].layers.get(name, expected[0].X))
    pd.testing.assert_frame_equal(quality, expected[1])
    pd.testing.assert_frame_equal(imputed.obs, expected[0].obs, check_categorical=False)
    assert not isinstance(adata.X, np.ndarray)  # it was not read as a whole


@pytest.fixture
def reads(monkeypatch):
    """Stretches of rows of each read of a matrix in a file, in their order."""
    found = []
    read, read_rows = Matrix.read, Matrix.read_rows

    def noting(self, start, stop):
        if not self.in_memory:
            found.append((self.label, start, stop))
        return read(self, start, stop)

    def noting_rows(self, rows):
        if not self.in_memory:
            runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
            found.extend((self.label, run[0], run[-1] + 1) for run in runs)
        return read_rows(self, rows)

    monkeypatch.setattr(Matrix, "read", noting)
    monkeypatch.setattr(Matrix, "read_rows", noting_rows)
    return found


def rows_read(reads, label="adata.X"):
    return sorted({row for name, start, stop in reads if name == label for row in range(start, stop)})


@pytest.mark.parametrize("store", [as_zarr, as_h5ad, sparse], ids=lambda store: store.__name__)
@pytest.mark.parametrize("limit", [0, 2**29], ids=["large", "small"])
def test_chromosomes_that_are_named_are_read_into_memory_and_no_others(kit, tmp_path, monkeypatch, store, limit):
    whole = kit.data()
    chromosomes = list(dict.fromkeys(whole.obs["chrom"]))
    chosen_r = whole.obs["chrom"].isin([chromosomes[0], chromosomes[2]]).to_numpy()
    expected = whole[chosen_r].copy()
    path = store(whole, tmp_path)
    path = tmp_path / "data.h5ad" if store is sparse else path
    monkeypatch.setattr(inputs, "_IN_MEMORY", limit)
    found = open_places(path, f"{chromosomes[2]}, {chromosomes[0]}", None)
    pd.testing.assert_frame_equal(found.obs, expected.obs, check_categorical=False)
    assert sp.issparse(found.X) == (store is sparse)
    np.testing.assert_array_equal(found.X.toarray() if store is sparse else found.X, expected.X)
    assert set(found.layers) == set(expected.layers)
    for name in expected.layers:
        np.testing.assert_array_equal(found.layers[name], expected.layers[name])
    with pytest.raises(ValueError, match="matches no whole name"):
        open_places(path, "chr99", None)


def test_a_file_is_surveyed_once_and_minibatches_read_blocks_with_their_halo(kit, tmp_path, reads, monkeypatch):
    surveys = []
    monkeypatch.setattr(check, "survey", lambda *matrices: surveys.append(1) or survey(*matrices))
    adata = open_anndata(as_zarr(kit.data(n_regions=4_000), tmp_path))
    model = kit.model(adata)
    kit.model(adata)
    assert len(surveys) == 1
    reads.clear()
    loader = RegionLoader(model.data, np.arange(4_000), model.module.half_widths, 64, 3, np.random.default_rng(0))
    first, *_ = loader
    assert first.n_regions <= 64
    assert max(stop - start for _, start, stop in reads) <= 2 * 32 + 2 * 30  # two blocks at most that meet
    assert len(rows_read(reads)) <= 3 * 2 * (32 + 2 * 30)
    assert len(surveys) == 1


def test_a_saved_model_is_loaded_and_asked_without_reading_other_regions(kit, tmp_path, reads):
    model = trained(kit, kit.data())
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", open_anndata(as_zarr(kit.data(), tmp_path)))
    assert reads == []
    rows = np.arange(75, 90)
    found = loaded.get_imputed_counts(indices=rows, return_numpy=True)
    np.testing.assert_array_equal(found, model.get_imputed_counts(indices=rows, return_numpy=True))
    # but for the look at which tracks have data, those that windows reach on the chromosome, which begins at 70
    assert [read for read in reads if read[0] == "adata.X"] == [("adata.X", 0, 280), ("adata.X", 70, 120)]


def test_training_on_a_split_reads_no_region_that_is_labelled_test(kit, tmp_path, reads):
    data = kit.data()
    data.obs["use"] = np.repeat(["train", "train", "valid", "test"], 70)  # a chromosome each
    model = kit.model(open_anndata(as_zarr(data, tmp_path)))
    reads.clear()
    kit.train(model, max_steps=3, split_key="use", calibrate_unseen=False)
    assert rows_read(reads) == list(range(210))


def test_a_shard_of_imputation_reads_its_own_regions_with_their_halo(kit, tmp_path, reads, monkeypatch):
    monkeypatch.setattr(imputation, "_MOST_ENTRIES", 16 * 15)  # stretches of 16 regions
    trained(kit, kit.data()).save(tmp_path / "model")
    model = chipvi.ChipVI.load(tmp_path / "model", open_anndata(as_zarr(kit.data(), tmp_path)))
    reads.clear()
    model.impute(out=tmp_path / "out.zarr", batch_size=16, shard=(4, 4))
    # but for the look at which tracks have data
    own = [read for read in reads if read[0] == "adata.X" and read[1:] != (0, 280)]
    assert min(start for _, start, _ in own) >= 14 * 16 - 30 and max(stop for _, _, stop in own) == 280
    assert not (tmp_path / "out.zarr").exists()


def test_a_file_that_is_as_it_was_is_not_read_to_find_that_out(kit, tmp_path, reads):
    path = as_zarr(kit.data(), tmp_path)

    def opened():
        adata = open_anndata(path)
        return check.open_track_data(adata, check.SetupKeys(depth_key="depth"), read_tracks(adata.var))

    made, found = Made.of(path, opened()), identify(opened())
    reads.clear()
    assert made.is_of(opened()) and identify(opened()) == found and not reads
    for file in path.rglob(".z*"):
        os.utime(file, (1, 1))
    assert identify(opened()) != found
    assert made.is_of(opened()) and reads  # the same data, of another time
    assert not replace(made, fingerprint="of other data").is_of(opened())


def test_what_breaks_the_contract_in_a_file_is_refused_where_it_is_read(kit, model, tmp_path):
    adata = kit.data()
    adata.X[17, 2] = 0.5
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", open_anndata(as_zarr(adata, tmp_path)))
    with pytest.raises(ValueError, match=r"adata.X must hold whole counts; region .*, track cell1.H3K36me3 is 0.5"):
        loaded.get_imputed_counts(indices=[17])
    with pytest.raises(ValueError, match=r"must hold whole counts; region .*, track cell1.H3K36me3 is 0.5"):
        kit.model(open_anndata(tmp_path / "data.zarr"))


def test_a_damaged_chunk_is_an_error_in_one_line(kit, tmp_path):
    path = as_zarr(kit.data(), tmp_path)
    chunk = next(file for file in (path / "X").rglob("*") if file.is_file() and file.name[0] not in ".z")
    chunk.write_bytes(b"no chunk")
    with pytest.raises(ValueError, match=r"adata.X cannot be read at region [\d,]+ and after: [^\n]+$"):
        kit.model(open_anndata(path))
    with pytest.raises(ValueError, match=r"adata.X cannot be read at region [\d,]+ and after: [^\n]+$"):
        Matrix("adata.X", open_anndata(path).X).read_rows(np.arange(0, 280, 10))


def test_regions_without_names_have_those_of_their_places():
    obs = pd.DataFrame({"chrom": pd.Categorical(["chr1", "chr1", "chr2"]), "start": [0, 200, 0], "end": [200, 400, 50]})
    names = region_names(obs)
    assert (len(names), names[2], list(names[1:])) == (3, "chr2:0-50", ["chr1:200-400", "chr2:0-50"])
    assert list(region_names(obs.set_axis(["a", "b", "c"]))) == ["a", "b", "c"]
    part = pd.DataFrame(
        {"chrom": ["chr2", "chr1", "chr3", "chr1"], "start": [0, 200, 0, 100], "end": [50, 400, 9, 200]}
    )
    assert find_rows(obs, part).tolist() == [2, 1, -1, -1]
