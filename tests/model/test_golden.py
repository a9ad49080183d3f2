"""Models that earlier versions saved give the numbers that they gave then, or are refused in a sentence."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chipvi import ChipVI
from chipvi.model.saved import FORMAT

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MAKE = SimpleNamespace(**runpy.run_path(str(GOLDEN / "make.py")))
FOLDERS = sorted(path for path in GOLDEN.iterdir() if path.is_dir() and path.name.isdigit())


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_golden_model_gives_its_numbers_or_is_refused_in_a_sentence(folder):
    try:
        model = ChipVI.load(folder, MAKE.to_adata(read(folder / "data.npz")), accelerator="cpu")
    except ValueError as error:
        assert folder.name != str(FORMAT), error
        assert "\n" not in str(error) and "cannot be read as a model of chipvi" in str(error)
        return
    expected, predicted = read(folder / "predicted.npz"), MAKE.predict(model)
    assert predicted.keys() == expected.keys()
    for name, value in expected.items():
        # the same build of torch differs by 1.4e-6 between instruction sets of one processor
        np.testing.assert_allclose(predicted[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_this_format_has_golden_files_and_they_are_small():
    assert str(FORMAT) in [folder.name for folder in FOLDERS]
    for folder in FOLDERS:
        assert sum(file.stat().st_size for file in folder.iterdir()) <= MAKE.MOST_BYTES


def test_the_golden_data_are_varied_enough_to_notice():
    expected = read(GOLDEN / str(FORMAT) / "predicted.npz")
    for name, value in expected.items():
        assert np.isfinite(value).all() and value.std() > 0.01, name


def test_golden_files_can_be_made_anew(tmp_path):
    MAKE.make(tmp_path / "made")
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == [
        "data.npz",
        "model.json",
        "model.safetensors",
        "predicted.npz",
    ]
