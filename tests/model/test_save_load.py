"""A saved model is the same model, and knows its tracks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chipvi
from chipvi.data.track_data import ViewKind


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


@pytest.mark.filterwarnings("ignore:`var_names` for the loaded `model` does not match:UserWarning")
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
    saved = torch.load(folder / "model.pt", weights_only=False)
    attributes = saved["attr_dict"]
    assert attributes["train_indices_"] is None
    assert attributes["validation_indices_"] is None
    assert max(value.numel() for value in saved["model_state_dict"].values() if torch.is_tensor(value)) < 50_000
    assert not [name for name, value in attributes.items() if isinstance(value, np.ndarray) and value.size >= 280]


def test_a_model_of_an_earlier_version_is_refused_in_a_sentence(model, tmp_path):
    model.save(tmp_path / "model")
    saved = torch.load(tmp_path / "model" / "model.pt", weights_only=False)
    fields = saved["attr_dict"]["registry_"]["field_registries"]
    state = fields["tracks"]["state_registry"]
    state |= {"has_counts": True, "has_signal": True}  # what it held before
    del state["seen"], state["views"]
    torch.save(saved, tmp_path / "model" / "model.pt")
    with pytest.raises(ValueError, match="saved by an earlier version of chipvi, .* cannot be loaded. Train it again"):
        chipvi.ChipVI.load(tmp_path / "model", model.adata.copy(), accelerator="cpu")
