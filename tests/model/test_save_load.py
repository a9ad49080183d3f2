"""A saved model is the same model, and knows its tracks."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.metadata import version

import anndata
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import chipvi
from chipvi import ChipVI
from chipvi.data.track_data import ViewKind
from chipvi.model.saved import FORMAT, SavedModel
from chipvi.train.findings import Finding, Sign


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(path)
    return path


def assert_same_predictions(first, second):
    np.testing.assert_array_equal(first.X, second.X)
    assert set(first.layers) == set(second.layers)
    for name in first.layers:
        np.testing.assert_array_equal(first.layers[name], second.layers[name])


def test_a_loaded_model_predicts_the_same_to_the_last_bit(kit, model, folder):
    loaded = chipvi.ChipVI.load(folder, kit.data(), accelerator="cpu")
    assert loaded.is_trained_
    assert_same_predictions(loaded.impute(), model.impute())
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    assert loaded.get_elbo() == model.get_elbo()


def test_the_history_is_saved(kit, model, folder):
    history = chipvi.ChipVI.load(folder, kit.data(), accelerator="cpu").history
    assert history.keys() == model.history.keys()
    np.testing.assert_array_equal(history["imp_count_loss"], model.history["imp_count_loss"])


def test_a_model_loads_with_other_regions_of_other_depth(kit, model, folder):
    other = kit.data(seed=8, n_regions=120)
    other.X[:, 3] *= 7
    plain = model.impute(other)
    assert_same_predictions(chipvi.ChipVI.load(folder, other, accelerator="cpu").impute(), plain)


def test_without_a_depth_column_a_loaded_model_keeps_the_depths_of_training(kit, tmp_path):
    keys = {"observed_layer": "observed", "control_key": "is_control"}
    model = kit.train(kit.model(kit.data(), keys))
    model.save(tmp_path / "model")
    other = kit.data(seed=8, n_regions=120)
    loaded = chipvi.ChipVI.load(tmp_path / "model", other, accelerator="cpu")
    assert_same_predictions(loaded.impute(), model.impute(other))
    np.testing.assert_allclose(loaded.impute().var["depth"], model.impute().var["depth"], rtol=1e-6)


def test_a_model_of_signal_loads_with_signal(kit, tmp_path):
    adata = kit.data()
    adata.X = None
    model = kit.train(kit.model(adata, {"signal_layer": "signal", "control_key": "is_control"}))
    model.save(tmp_path / "model")
    with_counts = kit.data()
    for again in (adata.copy(), with_counts):
        assert_same_predictions(
            chipvi.ChipVI.load(tmp_path / "model", again, accelerator="cpu").impute(), model.impute()
        )


def test_a_model_of_both_loads_with_counts_alone(kit, model, folder):
    other = kit.data()
    other.layers["signal"][:] = np.nan
    loaded = chipvi.ChipVI.load(folder, other, accelerator="cpu")
    assert_same_predictions(loaded.impute(), model.impute(other))
    assert {"pval", "pval_std"} <= set(loaded.impute(indices=[0]).layers)


@pytest.mark.parametrize("head", ["clamped_np", "zero_inflated"])
def test_the_head_and_its_options_are_saved(kit, tmp_path, head):
    options = {"clamped_np": {"logit_clamp": None, "count_floor": -2.0}, "zero_inflated": {"start_logit": -2.0}}[head]
    model = kit.train(kit.model(kit.data(), head=head, head_options=options))
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", kit.data(), accelerator="cpu")
    assert_same_predictions(loaded.impute(), model.impute())
    assert (
        vars(loaded.module.view(ViewKind.COUNTS).head).items()
        >= {name: np.inf if value is None else value for name, value in options.items()}.items()
    )


def test_a_model_is_saved_with_its_data(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    loaded = chipvi.ChipVI.load(tmp_path / "model", accelerator="cpu")
    assert_same_predictions(loaded.impute(), model.impute())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda adata: adata[:, ::-1].copy(), "in the order that the model was set up with; column 0 is"),
        (lambda adata: adata[:, 1:].copy(), "missing cell1.H3K4me3"),
        (
            lambda adata: adata[:, [*range(15), 3]].copy(),
            "var_names must be unique",
        ),
    ],
    ids=["permuted", "missing", "repeated"],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
def test_other_tracks_are_refused(kit, folder, change, expected):
    with pytest.raises(ValueError, match=expected):
        chipvi.ChipVI.load(folder, change(kit.data()), accelerator="cpu")


def test_relabelled_tracks_are_refused(kit, folder):
    adata = kit.data()
    adata.var["biosample"] = adata.var["biosample"].astype(str).replace({"cell1": "cell2", "cell2": "cell1"})
    with pytest.raises(ValueError, match="track cell1.H3K4me3 is biosample 'cell2'.* expected biosample 'cell1'"):
        chipvi.ChipVI.load(folder, adata, accelerator="cpu")


def test_a_loaded_model_trains_on(kit, folder):
    loaded = chipvi.ChipVI.load(folder, kit.data(), accelerator="cpu")
    before = loaded.module.encoder.mean.weight.detach().clone()
    n_before = len(loaded.history["train_loss"])
    kit.train(loaded, max_steps=3)
    change = (loaded.module.encoder.mean.weight - before).abs().max()
    assert 0 < change < 0.05
    assert len(loaded.history["train_loss"]) > n_before


def test_the_registry_holds_what_was_set_up(model, folder):
    registry = chipvi.ChipVI.load_registry(folder)
    arguments = registry["setup_args"]
    assert arguments["signal_layer"] == "signal"
    assert arguments["segment_key"] is None
    state = registry["field_registries"]["tracks"]["state_registry"]
    assert state["names"] == list(model.adata.var_names)
    assert state["seen"] == state["views"] == ["counts", "signal"]
    assert model.summary_stats["n_tracks"] == 15


def test_a_saved_model_does_not_grow_with_the_regions(folder):
    saved = SavedModel.read(folder)
    assert saved.attributes["train_indices_"] is None
    assert saved.attributes["validation_indices_"] is None
    assert max(value.numel() for value in saved.weights.values()) < 50_000
    assert not [name for name, value in saved.attributes.items() if isinstance(value, np.ndarray)]


def test_the_files_are_json_and_safetensors_and_hold_all_of_the_state(model, folder):
    assert sorted(file.name for file in folder.iterdir()) == ["model.json", "model.safetensors"]
    document = json.loads((folder / "model.json").read_text("utf-8"))
    assert document["var_names"] == list(model.adata.var_names)
    assert document["format"] == FORMAT and document["class"] == "ChipVI"
    assert document["versions"] == {name: version(name) for name in ("chipvi", "scvi-tools")}
    assert document["init_params"]["n_latent"] == 6
    table = document["attributes"]["history_"]["train_loss"]["$table"]["train_loss"]
    assert table["$array"] == model.history["train_loss"]["train_loss"].tolist()
    weights = load_file(folder / "model.safetensors")
    state = model.module.state_dict()
    assert weights.keys() == state.keys()
    assert all(
        torch.equal(weights[name], value) and weights[name].dtype == value.dtype for name, value in state.items()
    )


def test_another_process_gets_the_same_numbers(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=True)
    script = (
        "import sys, numpy as np, chipvi\n"
        "model = chipvi.ChipVI.load(sys.argv[1], accelerator='cpu')\n"
        "imputed = model.impute()\n"
        "np.savez(sys.argv[2], X=imputed.X, **imputed.layers)\n"
    )
    call = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path / "out.npz")]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = model.impute()
    with np.load(tmp_path / "out.npz") as there:
        assert set(there.files) == {"X", *here.layers}
        for name, value in {"X": here.X, **here.layers}.items():
            np.testing.assert_array_equal(there[name], value, err_msg=name)


def test_a_query_is_saved_and_loaded_with_what_is_frozen_in_it(kit, tmp_path):
    adata = kit.data()
    is_new = (adata.var["biosample"] == "cell3").to_numpy()
    query = ChipVI.load_query_data(adata[:, is_new].copy(), kit.train(kit.model(adata[:, ~is_new].copy())))
    query.save(tmp_path / "query", save_anndata=True)
    loaded = ChipVI.load(tmp_path / "query", accelerator="cpu")
    assert loaded.reference_size_ == query.reference_size_
    assert_same_predictions(loaded.impute(), query.impute())
    for one in (query, loaded):
        kit.train(one, max_steps=3)
    assert_same_predictions(loaded.impute(), query.impute())


def test_what_training_found_is_saved(kit, tmp_path):
    model = kit.model(kit.data())
    model.findings_ = [Finding(Sign.BIASED_TRACKS, {"factor": math.inf}, {"cell1.CTCF": 2.5}).plain()]
    model.my_note_ = ("of mine", 3, np.float32(0.5), np.array([[1.5, np.nan]], dtype=np.float32), None)
    model.save(tmp_path / "model")
    loaded = ChipVI.load(tmp_path / "model", kit.data(), accelerator="cpu")
    assert loaded.findings == model.findings
    assert not loaded.is_trained_ and loaded.history is None
    assert loaded.my_note_[:3] == ("of mine", 3, 0.5) and loaded.my_note_[4] is None
    np.testing.assert_array_equal(loaded.my_note_[3], model.my_note_[3], strict=True)


def test_what_a_file_cannot_hold_is_refused_by_name_before_anything_is_written(kit, tmp_path):
    model = kit.model(kit.data())
    model.my_note_ = {"inner": [object()]}
    with pytest.raises(ValueError, match="inner of my_note_ of attributes is of the type object"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


# --- the arguments of scvi-tools ---


def test_a_folder_that_is_there_is_kept_unless_it_may_be_written_into(kit, model, tmp_path):
    folder = tmp_path / "deeper" / "model"
    model.save(folder)
    (folder / "notes.txt").write_text("mine")
    other = kit.model(kit.data(), head="poisson")
    with pytest.raises(ValueError, match="already exists. Name another folder, or write into it with overwrite=True"):
        other.save(folder)
    other.save(folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert ChipVI.load(folder, kit.data(), accelerator="cpu").module_options.head == "poisson"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="already exists. Name another folder, for it is a file"):
        other.save(tmp_path / "file", overwrite=True)


def test_a_prefix_keeps_several_models_in_a_folder(kit, model, tmp_path):
    model.save(tmp_path / "models", prefix="a_", save_anndata=True)
    kit.model(kit.data(), n_latent=4).save(tmp_path / "models", prefix="b_", overwrite=True)
    assert sorted(file.name for file in (tmp_path / "models").iterdir()) == [
        "a_adata.h5ad",
        "a_model.json",
        "a_model.safetensors",
        "b_model.json",
        "b_model.safetensors",
    ]
    assert_same_predictions(ChipVI.load(tmp_path / "models", accelerator="cpu", prefix="a_").impute(), model.impute())
    assert ChipVI.load(tmp_path / "models", kit.data(), prefix="b_").module_options.n_latent == 4
    assert ChipVI.load_registry(tmp_path / "models", "a_")["model_name"] == "ChipVI"


@pytest.mark.parametrize("there", [False, True], ids=["new", "overwritten"])
def test_a_model_is_written_whole_or_not_at_all(kit, model, tmp_path, monkeypatch, there):
    folder, adata = tmp_path / "model", kit.data()
    if there:
        model.save(folder, save_anndata=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fill_disk(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("chipvi.model.saving.write_h5ad", fill_disk)
    with pytest.raises(OSError, match="(?i)no space left"):
        kit.model(adata).save(folder, overwrite=True, save_anndata=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert folder.exists() == there


def test_files_of_two_models_are_never_taken_for_one(kit, model, tmp_path, monkeypatch):
    folder, replace, replaced = tmp_path / "model", os.replace, []
    model.save(folder)

    def replace_once(source, target):
        if replaced:
            raise InterruptedError("killed")
        replaced.append(target.name)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", replace_once)
        with pytest.raises(InterruptedError):
            kit.model(kit.data()).save(folder, overwrite=True)
    assert replaced == ["model.safetensors"]
    with pytest.raises(
        ValueError, match="model.safetensors cannot be .*it is damaged, or is not of the model of model.j"
    ):
        ChipVI.load(folder, kit.data(), accelerator="cpu")


def test_a_backed_anndata_is_saved_and_remains_what_it_was(kit, tmp_path):
    adata = kit.data()
    adata.write_h5ad(tmp_path / "here.h5ad")
    model = kit.train(kit.model(anndata.read_h5ad(tmp_path / "here.h5ad", backed="r")))
    model.save(tmp_path / "model", save_anndata=True, compression="gzip")
    assert str(model.adata.filename) == str(tmp_path / "here.h5ad")
    assert_same_predictions(ChipVI.load(tmp_path / "model", accelerator="cpu").impute(), model.impute())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"save_kwargs": {"pickle_protocol": 4}}, "save_kwargs cannot be used: it is for torch.save"),
        ({"legacy_mudata_format": True}, "legacy_mudata_format cannot be used: a model of chipvi has no MuData"),
        ({"datamodule": object()}, "datamodule cannot be used: a model of chipvi has an AnnData"),
        ({"compression": "gzip"}, "compression is for writing the data; give save_anndata=True"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_argument_that_would_do_nothing_is_refused_and_nothing_is_written(model, tmp_path, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        model.save(tmp_path / "model", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"backup_url": "https://example.org/x"}, "download model.json and model.safetensors to the folder first"),
        ({"datamodule": object()}, "a model of chipvi is loaded on an AnnData"),
        ({"adata": False}, "adata must be an AnnData or None; it is False"),
        ({"adata": "data.h5ad"}, "adata must be an AnnData or None; it is 'data.h5ad'"),
        ({}, r"holds a model without its data \(adata.h5ad\). Name data with its tracks"),
        ({"prefix": "b_"}, r"holds no model \(b_model.json\)"),
    ],
    ids=["backup_url", "datamodule", "without adata", "a path", "no data", "another prefix"],
)
def test_a_model_that_cannot_be_loaded_so_is_refused_in_a_sentence(folder, arguments, expected):
    with pytest.raises(ValueError, match=expected) as found:
        ChipVI.load(folder, **arguments)
    assert "\n" not in str(found.value)


def test_a_query_of_a_folder_without_data_asks_for_them(kit, folder):
    new = kit.data()[:, :3].copy()
    new.var["biosample"] = "new"
    new.var_names = [f"new.{name}" for name in new.var["assay"]]
    with pytest.raises(ValueError, match="was saved without them. Load the model on them first") as found:
        ChipVI.load_query_data(new, folder)
    assert "\n" not in str(found.value)
    query = ChipVI.load_query_data(new, ChipVI.load(folder, kit.data(), accelerator="cpu"))
    assert query.adata.n_vars == 18


def test_a_model_of_another_class_is_refused_unless_it_is_allowed(kit, folder):
    class Other(ChipVI):
        pass

    with pytest.raises(ValueError, match="holds a model of the class ChipVI, not Other"):
        Other.load(folder, kit.data(), accelerator="cpu")
    loaded = Other.load(folder, kit.data(), accelerator="cpu", allowed_classes_names_list=["ChipVI"])
    assert isinstance(loaded, Other)


def test_the_arguments_of_the_setup_are_shown(folder, capsys):
    ChipVI.view_setup_args(str(folder))
    assert "'depth_key': 'depth'" in capsys.readouterr().out
