"""What users of scvi-tools expect of a model: it works as there, or is refused in a sentence that says why."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from anndata.experimental import AnnCollection
from scvi.criticism import PosteriorPredictiveCheck

import chipvi
from chipvi.model import card, likelihood

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming_from_scvi.md"


# the latent


def test_the_latent_has_mean_and_variance_of_its_posterior(kit, model):
    by_biosample = model.get_latent_representation(indices=[3, 99], per_biosample=True, return_dist=True)
    example = next(model._visible(None, np.array([3, 99]), None))
    posterior = model._infer(example, model._generator()).posterior
    for found, expected in zip(by_biosample, (posterior.loc, posterior.scale**2), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    mean, variance = model.get_latent_representation(indices=[3, 99], return_dist=True)
    np.testing.assert_allclose(mean, by_biosample[0].mean(axis=1), rtol=1e-6)
    # of a mean of independent numbers
    np.testing.assert_allclose(variance, by_biosample[1].sum(axis=1) / 3**2, rtol=1e-6)
    np.testing.assert_array_equal(mean, model.get_latent_representation(indices=[3, 99]))


def test_a_draw_of_the_latent_scatters_about_the_mean_as_its_variance_says(model):
    mean, variance = model.get_latent_representation(per_biosample=True, return_dist=True)
    draw = model.get_latent_representation(per_biosample=True, give_mean=False)
    z = ((draw - mean) / np.sqrt(variance)).ravel()
    assert abs(z.mean()) < 5 / np.sqrt(z.size) and abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size)
    np.testing.assert_array_equal(draw, model.get_latent_representation(per_biosample=True, give_mean=False))


def test_the_marginal_likelihood_shows_how_far_it_is(model, monkeypatch):
    @contextmanager
    def bar(text, total, unit, shown):
        bars.append((text, total, unit, shown))
        yield done.append

    bars, done = [], []
    monkeypatch.setattr(likelihood, "progress_bar", bar)
    model.get_marginal_ll(indices=[4, 9, 70, 71, 200], n_mc_samples=3, batch_size=2)
    assert bars == [("Marginal likelihood", 15, "draws", True)]
    assert done == [2, 4, 6, 8, 10, 12, 13, 14, 15]


# denoised counts


def test_draws_of_the_denoised_rate_surround_that_of_the_mean_and_have_it_as_their_mean(model):
    draws = model.get_normalized_expression(n_samples=40, return_mean=False)
    assert draws.shape == (40, 280, 12)
    assert (draws.std(axis=0) > 0).mean() > 0.9
    mean = model.get_normalized_expression(n_samples=40)
    np.testing.assert_allclose(mean.to_numpy(), draws.mean(axis=0), rtol=1e-5)
    at_mean = model.get_normalized_expression().to_numpy()
    assert ((draws.min(axis=0) < at_mean) & (at_mean < draws.max(axis=0))).mean() > 0.95


def test_the_library_size_is_the_depth(model):
    by_depth = model.get_normalized_expression(depth=4_000.0, indices=[5, 6], return_numpy=True)
    np.testing.assert_array_equal(
        model.get_normalized_expression(library_size=4_000, indices=[5, 6], return_numpy=True), by_depth
    )
    own = model.get_normalized_expression(indices=[5, 6], return_numpy=True)
    np.testing.assert_array_equal(
        model.get_normalized_expression(library_size="latent", indices=[5, 6], return_numpy=True), own
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"library_size": "observed"}, "library_size must be a number of reads or 'latent'"),
        ({"library_size": 10.0, "depth": 10.0}, "depth and library_size are the same; give one of them"),
        ({"return_mean": False}, "give n_samples, how many to draw"),
        ({"n_samples": 0}, "n_samples must be"),
        ({"gene_list": ["a"]}, "argument 'gene_list' is not in the arguments of get_normalized_expression"),
        ({"transform_batch": 0}, "argument 'transform_batch' is not"),
    ],
)
def test_what_denoising_cannot_do_is_said(model, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        model.get_normalized_expression(**arguments)


# what was held out


def test_the_rows_of_the_last_training_are_known_until_the_model_is_saved(kit, tmp_path):
    adata = kit.data(missing=[])
    adata.obs["use"] = np.repeat(["train", "valid", "test", "train"], 70)
    model = kit.train(kit.model(adata), 1, split_key="use")
    np.testing.assert_array_equal(model.train_indices, np.r_[0:70, 210:280])
    np.testing.assert_array_equal(model.validation_indices, np.arange(70, 140))
    np.testing.assert_array_equal(model.test_indices, np.arange(140, 210))
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", adata, accelerator="cpu")
    with pytest.raises(ValueError, match="is not saved with a model; keep it in a column of obs"):
        loaded.validation_indices  # noqa: B018 - it is a property


# what makes no sense here


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("minify_adata", "predicted from, which are other tracks"),
        ("prepare_query_anndata", "ChipVI.load_query_data takes other tracks as they are"),
        ("get_latent_library_size", "depth_key of setup_anndata"),
    ],
)
def test_methods_of_other_models_say_what_to_do_instead(model, name, reason):
    assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=f"ChipVI has no '{name}': .*{reason}"):
        getattr(model, name)


def test_any_other_name_is_absent_as_always(model):
    with pytest.raises(AttributeError, match="^'ChipVI' object has no attribute 'nonsense'$"):
        model.nonsense  # noqa: B018


def test_inherited_methods_that_cannot_work_say_why(model):
    with pytest.raises(NotImplementedError, match="rows are regions of the genome"):
        model.differential_abundance(sample_key="x")
    with pytest.raises(ValueError, match="call setup_anndata and make a new one"):
        model.update_setup_method_args({"layer": None})


def test_a_collection_of_anndata_is_refused_in_a_sentence():
    adata = AnnData(np.ones((3, 2)))
    with pytest.raises(ValueError, match="^adata must be an AnnData; it is of type AnnCollection.$"):
        chipvi.ChipVI.setup_anndata(AnnCollection({"one": adata, "two": adata}, index_unique="-"))


def test_the_setup_can_be_viewed(model, capsys):
    model.view_anndata_setup()
    model.view_registry()
    assert capsys.readouterr().out.count("'depth_key': 'depth'") >= 1


# scvi.criticism


def test_posterior_predictive_checks_take_some_regions(kit):
    adata = kit.data(missing=[], controls=False, signal=False)
    model = kit.train(kit.model(adata, {"depth_key": "depth"}), 1)
    rows = np.array([200, 3, 77])
    check = PosteriorPredictiveCheck(adata, {"model1": model}, indices=rows, n_samples=2)
    drawn = check.samples_dataset["model1"].to_numpy()
    np.testing.assert_array_equal(drawn, model.posterior_predictive_sample(indices=rows, n_samples=2, batch_size=32))
    np.testing.assert_array_equal(check.raw_counts.todense(), adata.X[rows])


# scvi.hub


def test_the_metadata_lead_to_the_class_and_the_card_names_the_data(model, tmp_path):
    model.save(tmp_path / "model")
    model.write_model_card(tmp_path / "model", license="cc-by-4.0", description="Three lines.")
    metadata = json.loads((tmp_path / "model" / card.METADATA_FILE).read_text())
    assert metadata["model_parent_module"] == "chipvi" and metadata["model_cls_name"] == "ChipVI"
    text = (tmp_path / "model" / card.CARD_FILE).read_text()
    assert text.startswith("---\nlicense: cc-by-4.0\nlibrary_name: scvi-tools\n") and "Three lines." in text
    assert "counts and signal of 280 regions x 15 tracks" in text and "cell1, cell2, cell3" in text


def test_a_card_needs_a_model(model, tmp_path):
    with pytest.raises(ValueError, match="holds no model.json; save the model there first"):
        model.write_model_card(tmp_path, license="mit")


def test_the_hub_loads_the_model_of_a_folder(model, adata, tmp_path):
    pytest.importorskip("huggingface_hub")  # without it, scvi.hub cannot be imported
    from scvi.hub import HubModel

    model.save(tmp_path / "model", save_anndata=True)
    model.write_model_card(tmp_path / "model", license="mit")
    found = HubModel(str(tmp_path / "model")).model
    assert isinstance(found, chipvi.ChipVI)
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(found.module.state_dict()[name], value, rtol=0, atol=0)


# the page


@pytest.mark.filterwarnings("ignore")  # of libraries, and advice on so short a training
def test_the_page_runs(tmp_path, monkeypatch, capfd):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)
    assert len(blocks) == 6
    code = "\n".join(blocks).replace("n_regions=1_000", "n_regions=300")
    code = re.sub(r"max_epochs=\d", "max_epochs=1", code).replace("max_steps=20", "max_steps=1")
    monkeypatch.chdir(tmp_path)
    import logging

    import scvi

    verbosity = scvi.settings.verbosity
    try:
        exec(compile(code, str(PAGE), "exec"), {})
    finally:
        scvi.settings.verbosity = verbosity
        logging.getLogger("chipvi").setLevel(logging.NOTSET)
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "my_model"]
    assert card.CARD_FILE in os.listdir(tmp_path / "my_model")
