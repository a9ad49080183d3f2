"""A file that runs code when it is unpickled runs none, whichever file that chipvi opens it stands in for."""

from __future__ import annotations

import json
import os
import pickle
import shlex
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from anndata import AnnData
from anndata.io import write_elem
from typer.testing import CliRunner

from chipvi import ChipVI, datasets, io
from chipvi.cli.app import app
from chipvi.io.inputs import read_anndata

MARKER = "it-ran"
TRAIN = {"max_steps": 2, "seed": 1, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}
RESUME = "train data.h5ad -o out --steps 2 --resume"


class Planted:
    """What leaves a folder behind when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (MARKER,)


def make_data() -> AnnData:
    return datasets.simulate(n_regions=210, n_biosamples=2, n_assays=3, n_chromosomes=4, seed=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Data, a model of them, and an unfinished training."""
    path = tmp_path_factory.mktemp("whole")
    make_data().write_h5ad(path / "data.h5ad")
    result = CliRunner().invoke(app, ["train", str(path / "data.h5ad"), "-o", str(path / "model"), "--steps", "2"])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def here(whole, tmp_path, monkeypatch) -> Path:
    """A copy of them to work in."""
    for source in (path for path in whole.rglob("*") if path.is_file()):
        (tmp_path / source.relative_to(whole)).parent.mkdir(exist_ok=True)
        (tmp_path / source.relative_to(whole)).write_bytes(source.read_bytes())
    settings = (tmp_path / "model" / "settings.toml").read_text().replace(str(whole), str(tmp_path))
    (tmp_path / "model" / "settings.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plant_plain(path: Path) -> None:
    path.write_bytes(pickle.dumps(Planted()))


def plant_torch(path: Path) -> None:
    torch.save({"model_state_dict": Planted(), "chipvi": {"identity": Planted()}}, path)


def plant_old_torch(path: Path) -> None:
    torch.save(Planted(), path, _use_new_zipfile_serialization=False)


def plant_npz(path: Path) -> None:
    np.savez(path, labels=np.array(["a.b"]), matrix=np.array([[Planted()]], dtype=object))


def plant_zarr(path: Path) -> None:
    """A store whose row names are unpickled on reading, where zarr does so."""
    group = zarr.open_group(str(path), mode="w", **({} if zarr.__version__.startswith("2.") else {"zarr_format": 2}))
    write_elem(group, "/", make_data())
    array = path / "var" / "_index"
    description = json.loads((array / ".zarray").read_text())
    description |= {"filters": [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 4}], "compressor": None}
    (array / ".zarray").write_text(json.dumps(description))
    for chunk in (file for file in array.iterdir() if not file.name.startswith(".z")):
        chunk.write_bytes(pickle.dumps(Planted()))


PLANTERS = [plant_plain, plant_torch, plant_old_torch]
by_planter = pytest.mark.parametrize("plant", PLANTERS, ids=lambda plant: plant.__name__)


@pytest.mark.parametrize(
    ("plant", "read"),
    [
        (plant_plain, lambda path: pickle.loads(path.read_bytes())),
        (plant_torch, lambda path: torch.load(path, weights_only=False)),
        (plant_old_torch, lambda path: torch.load(path, weights_only=False)),
        (plant_npz, lambda path: dict(np.load(path, allow_pickle=True))),
        (plant_zarr, anndata.read_zarr),
    ],
)
def test_what_is_planted_runs_where_it_is_unpickled(tmp_path, monkeypatch, plant, read):
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "planted.npz"
    plant(path)
    try:
        read(path)
    except Exception:  # noqa: BLE001 - whatever comes after it ran
        pass
    assert (tmp_path / MARKER).is_dir()


def assert_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError) as found:
        call()
    assert "\n" not in str(found.value)
    assert not Path(MARKER).exists()


def assert_line_refused(line: str) -> None:
    result = CliRunner().invoke(app, shlex.split(line))
    assert (result.exit_code, type(result.exception)) == (2, SystemExit), result.output
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1, result.stderr
    assert not Path(MARKER).exists()
    assert not Path("new.h5ad").exists()


@by_planter
@pytest.mark.parametrize("name", ["model.pt", "model.json", "model.safetensors"])
def test_none_runs_from_the_files_of_a_model(here, plant, name):
    if name == "model.pt":
        (here / "model" / "model.json").unlink()
    plant(here / "model" / name)
    assert_refused(lambda: ChipVI.load("model", make_data()))
    assert_refused(lambda: ChipVI.load("model"))
    assert_refused(lambda: ChipVI.load_registry("model"))
    assert_refused(lambda: ChipVI.view_setup_args("model"))
    assert_refused(lambda: ChipVI.load_query_data(make_data(), "model"))
    for line in (
        "impute model -o new.h5ad",
        "impute model -o new.h5ad --dry-run",
        "impute model -o new.h5ad --data data.h5ad",
        "report model",
    ):
        assert_line_refused(line)


def test_none_runs_from_files_of_scvi_tools_before_0_15(here):
    (here / "old").mkdir()
    for name in ("model_params.pt", "attr.pkl"):
        plant_plain(here / "old" / name)
    (here / "old" / "var_names.csv").write_text("a\n")
    assert_refused(lambda: ChipVI.convert_legacy_save("old", "new"))
    assert_refused(lambda: ChipVI.load("old", make_data()))


@by_planter
def test_none_runs_from_the_settings_of_a_model(here, plant):
    plant(here / "model" / "settings.toml")
    for line in ("impute model -o new.h5ad", "impute model -o new.h5ad --dry-run", "report model"):
        assert_line_refused(line)
    assert_line_refused("train data.h5ad -o out --config model/settings.toml")


@by_planter
def test_none_runs_from_the_data_of_a_model(here, plant):
    plant(here / "model" / "adata.h5ad")
    assert_refused(lambda: ChipVI.load("model"))
    assert_refused(lambda: ChipVI.load_query_data(make_data(), "model"))
    for line in ("impute model -o new.h5ad", "impute model -o new.h5ad --dry-run", "report model"):
        assert_line_refused(line)


@by_planter
def test_none_runs_from_a_checkpoint(here, plant):
    plant(here / "training.ckpt")
    adata = make_data()
    ChipVI.setup_anndata(adata)
    model = ChipVI(adata, n_latent=3, n_hidden=4)
    assert_refused(lambda: model.train(checkpoint="training.ckpt", **TRAIN))
    unfinished = here / ".out.unfinished"
    unfinished.mkdir()
    (unfinished / "settings.toml").write_bytes((here / "model" / "settings.toml").read_bytes())
    plant(unfinished / "training.ckpt")
    assert_line_refused(RESUME)
    plant(unfinished / "settings.toml")
    assert_line_refused(RESUME)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@by_planter
def test_none_runs_in_place_of_data(here, plant, ending):
    plant(here / f"planted.{ending}")
    assert_all_data_refused(f"planted.{ending}")


def test_none_runs_from_within_an_h5ad(here):
    planted = pickle.dumps(Planted())
    with h5py.File("data.h5ad", "r+") as file:
        file["uns"]["text"] = planted.decode("latin-1").replace("\0", "")
        file["uns"]["opaque"] = np.void(planted)
        for name in ("text", "opaque"):
            file["uns"][name].attrs.update({"encoding-type": "string", "encoding-version": "0.2.0"})
        del file["var"]["biosample"]
        file["var"]["biosample"] = np.void(planted)
        file["var"]["biosample"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    assert_all_data_refused("data.h5ad")


def test_none_runs_from_an_array_of_zarr(here, monkeypatch):
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    plant_zarr(here / "planted.zarr")
    assert_all_data_refused("planted.zarr")


def assert_all_data_refused(name: str) -> None:
    assert_refused(lambda: read_anndata(Path(name)))
    for line in (
        f"train {name} -o out",
        f"impute model -o new.h5ad --data {name}",
        f"report model --data {name}",
        f"score {name} data.h5ad",
        f"score data.h5ad {name}",
        f"compare-heads {name}",
    ):
        assert_line_refused(line)


@pytest.mark.parametrize("plant", [*PLANTERS, plant_npz], ids=lambda plant: plant.__name__)
def test_none_runs_from_a_table_of_counts(here, plant):
    plant(here / "counts.npz")
    assert_refused(lambda: io.from_matrix("counts.npz", pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [200]})))


def test_none_runs_from_what_a_count_kept_of_a_file(here):
    (here / "reads.bed").write_text("chr1\t10\t46\t.\t0\t+\n")
    (here / "sheet.csv").write_text("biosample,assay,file\nK562,CTCF,reads.bed\n")
    (here / "genome.sizes").write_text("chr1\t900\n")
    line = "count sheet.csv --genome genome.sizes --bin 100 -o new.h5ad"
    assert CliRunner().invoke(app, shlex.split(f"{line} --shard 1/1")).exit_code == 0
    (piece,) = here.glob(".new.h5ad.unfinished/*.npz")
    plant_npz(piece)
    assert_line_refused(line)


def test_none_runs_from_what_was_imputed_so_far(here, monkeypatch):
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    line = "impute model -o new.h5ad"
    assert CliRunner().invoke(app, shlex.split(f"{line} --shard 1/1")).exit_code == 0
    array = here / ".new.h5ad.unfinished" / "result.zarr" / "X"
    description = json.loads((array / ".zarray").read_text())
    description |= {"dtype": "|O", "fill_value": 0, "filters": [{"id": "pickle", "protocol": 4}], "compressor": None}
    (array / ".zarray").write_text(json.dumps(description))
    for chunk in (file for file in array.iterdir() if not file.name.startswith(".z")):
        chunk.write_bytes(pickle.dumps(Planted()))
    assert_line_refused(line)
