"""A saved model and its data, as the commands that impute and report open them: the same refusals by both."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import anndata
import pytest
import torch
from anndata import AnnData
from click.testing import Result
from typer.testing import CliRunner

from chipvi import ChipVI, datasets
from chipvi.cli.app import app
from chipvi.cli.saved import find_saved, load_saved
from chipvi.model.saved import SavedModel
from chipvi.train.runner import choose_accelerator

Refused = Callable[..., str]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def make_data() -> AnnData:
    return datasets.simulate(n_regions=310, n_biosamples=2, n_assays=3, n_chromosomes=4, seed=5)


@pytest.fixture
def trained(tmp_path) -> Path:
    """Folder of a model, and data.h5ad beside it, which it was trained on."""
    make_data().write_h5ad(tmp_path / "data.h5ad")
    result = call("train", tmp_path / "data.h5ad", "-o", tmp_path / "model", "--steps", 1)
    assert result.exit_code == 0, result.output
    return tmp_path / "model"


@pytest.fixture(params=["impute", "report"])
def refused(request, tmp_path) -> Refused:
    """What a command says in its one line when it refuses a folder, having written nothing."""
    out = tmp_path / {"impute": "out.h5ad", "report": "out.html"}[request.param]

    def call_refused(folder: Path, *options: object) -> str:
        result = call(request.param, folder, "-o", out, *options)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert not out.exists()
        return line

    return call_refused


def test_data_that_changed_since_training_are_refused_unless_named(trained, refused):
    data = trained.with_name("data.h5ad")
    adata = make_data()
    adata.X[4, 1] += 1
    adata.write_h5ad(data)
    assert f"{data} is not what the model was trained on any more" in refused(trained)
    assert load_saved(find_saved(trained), anndata.read_h5ad(data), "cpu").adata.n_obs == 310
    data.unlink()
    assert "are not there any more; name them with --data" in refused(trained)
    (trained / "settings.toml").unlink()
    assert "has no record of what it was trained on; name the data with --data" in refused(trained)


def test_a_folder_without_a_model_is_refused(refused, tmp_path):
    assert "there is no folder" in refused(tmp_path / "none")
    assert "holds no model (model.json)" in refused(tmp_path)
    (tmp_path / "model.json").write_bytes(b"broken\n\n")
    assert "holds no model (model.safetensors)" in refused(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "model.json cannot be read as a model of chipvi: Expecting value" in refused(tmp_path)


def test_weights_of_another_make_are_refused(trained, refused):
    saved = SavedModel.read(trained)
    name, weights = next((name, w) for name, w in saved.weights.items() if w.ndim == 2 and w.is_floating_point())
    n, m = weights.shape
    changed = replace(saved, weights={**saved.weights, name: torch.cat([weights, weights])})
    for file, content in changed.files().items():
        (trained / file).write_bytes(content)
    expected = (
        f"weights {name} are {2 * n} x {m} of float32, not {n} x {m} of float32; chipvi {version('chipvi')} wrote it"
    )
    assert f"model.safetensors cannot be read as a model of chipvi: {expected}." in refused(trained)


def test_data_without_a_layer_that_the_model_needs_are_refused_by_its_name(trained, refused, tmp_path):
    adata = make_data()
    del adata.layers["observed"]
    adata.write_h5ad(tmp_path / "less.h5ad")
    line = refused(trained, "--data", tmp_path / "less.h5ad")
    assert "observed" in line and "model.json" not in line


def test_data_are_taken_whatever_the_order_of_their_tracks(trained):
    adata = make_data()
    model = load_saved(find_saved(trained), adata[:, ::-1].copy(), "cpu")
    assert isinstance(model, ChipVI)
    assert list(model.adata.var_names) == list(adata.var_names)


def test_a_gpu_that_is_not_there_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_accelerator("auto") == "cpu"
    for name in ("gpu", "cuda"):
        with pytest.raises(ValueError, match=f"accelerator '{name}' needs an NVIDIA GPU"):
            choose_accelerator(name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_accelerator("auto") == "cuda"
    assert choose_accelerator("gpu") == "gpu"
