"""The lines of docs/saved_models.md do what the page promises."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scvi.model.base import BaseModelClass

from chipvi import ChipVI
from chipvi.model.saved import FORMAT

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "saved_models.md").read_text("utf-8")
CONVERT, PUBLISH, FETCH = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)


class Card:
    """What scvi.hub asks of a model card: a text, written to a file."""

    def __init__(self, content: str) -> None:
        self.content = content

    def save(self, path: str) -> None:
        Path(path).write_text(self.content)


@pytest.fixture
def hub(monkeypatch):
    """scvi.hub, with a stand-in for huggingface_hub where that is not installed."""
    try:
        import huggingface_hub  # noqa: F401
    except ModuleNotFoundError:
        stand_in = ModuleType("huggingface_hub")
        stand_in.ModelCard, stand_in.ModelCardData, stand_in.snapshot_download = Card, dict, None
        monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in)
    yield
    for name in [name for name in sys.modules if name.partition(".hub")[0] == "scvi" and ".hub" in name]:
        del sys.modules[name]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(lines: str) -> dict:
    names: dict = {}
    exec(compile(lines, "docs/saved_models.md", "exec"), names)
    return names


def test_a_model_of_the_format_of_scvi_tools_is_converted_by_hand(kit, model, here):
    BaseModelClass.save(model, "model")
    kit.data().write_h5ad("data.h5ad")
    with pytest.raises(ValueError, match="docs/saved_models.md"):
        ChipVI.load("model", kit.data(), accelerator="cpu")
    run(CONVERT)
    loaded = ChipVI.load("converted", kit.data(), accelerator="cpu")
    np.testing.assert_array_equal(loaded.impute().X, model.impute().X)
    assert loaded.advice == model.advice and loaded.history.keys() == model.history.keys()


def test_a_folder_becomes_one_of_scvi_hub_and_loads_from_it(model, here, hub):
    model.save("model", save_anndata=True)
    run(PUBLISH)
    assert {file.name for file in Path("model").iterdir()} == {
        "README.md",
        "_scvi_required_metadata.json",
        "adata.h5ad",
        "model.json",
        "model.safetensors",
    }
    names = run(FETCH)
    np.testing.assert_array_equal(names["imputed"].X, model.impute().X)
    assert names["hub"].adata.shape == model.adata.shape
    assert "library_name: scvi-tools" in names["hub"].model_card.content


def test_the_page_names_the_format():
    assert f"`format` is {FORMAT}." in PAGE
