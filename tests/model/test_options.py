"""Options of model and training have a type, a range and one sentence, and are refused before any work."""

from __future__ import annotations

import numpy as np
import pytest

import chipvi

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def adata(kit):
    adata = kit.data()
    chipvi.ChipVI.setup_anndata(adata, **kit.keys)
    return adata


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n_latent": 0}, "n_latent must be at least 1; it is 0"),
        ({"n_latent": 2.5}, "n_latent must be a whole number; it is 2.5"),
        ({"n_hidden": 0}, "n_hidden must be at least 1; it is 0"),
        ({"n_hidden": True}, "n_hidden must be a whole number; it is True"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1; it is 1.0"),
        ({"dropout": NAN}, "dropout must be a finite number; it is nan"),
        ({"kl_weight": -1}, "kl_weight must be at least 0; it is -1"),
        ({"kl_weight": INF}, "kl_weight must be a finite number; it is inf"),
        ({"mean_weight": -1}, "mean_weight must be at least 0; it is -1"),
        ({"denoise_weight": "a"}, "denoise_weight must be a number; it is 'a'"),
    ],
    ids=str,
)
def test_options_of_the_model_out_of_range_are_refused(adata, options, expected):
    with pytest.raises(ValueError, match=f"^{expected}"):
        chipvi.ChipVI(adata, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": True}, "max_steps must be a whole number or None; it is True"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"plan_kwargs": {"learning_rate": 1e-3}}, "argument 'learning_rate' is not in chipvi.train.PlanOptions"),
        ({"plan_kwargs": {"lr": -1e-3}}, "lr must be at least 0; it is -0.001"),
        ({"plan_kwargs": {"lr": NAN}}, "lr must be a finite number; it is nan"),
        ({"plan_kwargs": {"ema_decay": 1}}, "ema_decay must be at least 0 and below 1; it is 1"),
        ({"plan_kwargs": {"most_hidden": 1.5}}, "most_hidden must be at most 1"),
        ({"plan_kwargs": {"most_hidden": 0.0}}, "most_hidden must be at least 0.05; it is 0.0"),
        ({"plan_kwargs": {"biosamples_per_step": 0}}, "biosamples_per_step must be at least 1; it is 0"),
        ({"plan_kwargs": {"log_every_n_steps": 2.0}}, "log_every_n_steps must be a whole number; it is 2.0"),
    ],
    ids=str,
)
def test_options_of_training_out_of_range_are_refused_and_the_model_stays(adata, options, expected):
    model = chipvi.ChipVI(adata, n_latent=3, n_hidden=5)
    with pytest.raises(ValueError, match=f"^{expected}"):
        model.train(**{"accelerator": "cpu", "max_steps": 2} | options)
    assert model.history is None
    assert not model.is_trained_


def test_numbers_of_numpy_are_numbers(adata):
    model = chipvi.ChipVI(adata, n_latent=np.int64(3), n_hidden=np.int32(5), dropout=np.float32(0.2))
    model.train(max_steps=np.int64(1), plan_kwargs={"lr": np.float64(1e-3)}, accelerator="cpu", seed=0)
    assert model.is_trained_
