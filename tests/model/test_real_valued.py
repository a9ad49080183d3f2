"""A control may hold real numbers of any kind as its signal: they are seen, and never predicted."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import chipvi
from chipvi.metrics import pearson

SETUP = {"depth_key": "depth", "control_key": "is_control", "signal_layer": "signal"}
METHYLATION = "cell1.methylation"


def make_adata(n_regions=1_500, seed=0):
    """Two biosamples x two assays, and for one of them a log ratio that moves the reads of its tracks."""
    random = np.random.default_rng(seed)
    ratio_r = random.normal(0, 1, n_regions)
    rate_rt = 4 * np.exp(np.outer(ratio_r, [0.8, -0.8, 0.0, 0.0]))
    counts_rt = np.hstack([random.poisson(rate_rt), np.full((n_regions, 1), np.nan)]).astype(np.float32)
    var = pd.DataFrame(
        {
            "biosample": ["cell1", "cell1", "cell2", "cell2", "cell1"],
            "assay": ["A", "B", "A", "B", "methylation"],
            "depth": [1e6, 1e6, 1e6, 1e6, np.nan],
            "is_control": [False, False, False, False, True],
        },
        index=["cell1.A", "cell1.B", "cell2.A", "cell2.B", METHYLATION],
    )
    starts = 200 * np.arange(n_regions)
    obs = pd.DataFrame(
        {"chrom": "chr1", "start": starts, "end": starts + 200}, index=[f"r{i}" for i in range(n_regions)]
    )
    adata = anndata.AnnData(counts_rt, obs=obs, var=var)
    adata.layers["signal"] = np.full(adata.shape, np.nan, dtype=np.float32)
    adata.layers["signal"][:, 4] = ratio_r
    return adata, rate_rt


@pytest.fixture(scope="module")
def data():
    return make_adata()


@pytest.fixture(scope="module")
def model(data):
    adata = data[0].copy()
    chipvi.ChipVI.setup_anndata(adata, **SETUP)
    model = chipvi.ChipVI(adata, n_latent=6, n_hidden=24)
    model.train(max_steps=150, batch_size=128, seed=0, accelerator="cpu", enable_progress_bar=False)
    return model


def test_it_is_seen_where_no_other_track_has_a_read(data, model):
    adata, rate_rt = data[0].copy(), data[1]
    adata.X[:, :4] = 0
    imputed = model.get_imputed_counts(adata, tracks=["cell1.A", "cell1.B"], return_numpy=True)
    assert float(pearson(rate_rt[:, 0], imputed[:, 0])) > 0.5
    assert float(pearson(rate_rt[:, 1], imputed[:, 1])) > 0.5


def test_it_is_never_predicted(model):
    result = model.impute(indices=np.arange(20))
    assert METHYLATION not in result.var_names
    assert "pval" not in result.layers
    assert {"lower", "upper", "dispersion", "denoised"} == set(result.layers)
    with pytest.raises(ValueError, match="trained without signal"):
        model.get_imputed_pvalues()
    with pytest.raises(ValueError, match="is a control, which is input only"):
        model.get_imputed_counts(tracks=[METHYLATION])
    assert not [name for name in model.history if "signal" in name or "pval" in name]


def test_a_saved_model_and_a_query_keep_it(data, model, tmp_path):
    model.save(tmp_path / "model")
    loaded = chipvi.ChipVI.load(tmp_path / "model", data[0].copy(), accelerator="cpu")
    rows = np.arange(30)
    np.testing.assert_array_equal(loaded.impute(indices=rows).X, model.impute(indices=rows).X)
    new = data[0][:, ["cell1.A", METHYLATION]].copy()
    new.var["biosample"], new.var_names = "cell9", ["cell9.A", "cell9.methylation"]
    other = new.copy()
    other.layers["signal"][:, 1] *= -1
    wanted = {"tracks": ["cell9.A"], "indices": rows, "return_numpy": True}
    first, second = (chipvi.ChipVI.load_query_data(x, model).get_imputed_counts(**wanted) for x in (new, other))
    assert not np.array_equal(first, second)


def test_of_a_target_the_signal_is_still_arcsinh_of_a_p_value(data):
    adata = data[0].copy()
    adata.layers["signal"][3, 0] = -0.5
    with pytest.raises(ValueError, match=r"arcsinh\(-log10 p\).*region r3, track cell1\.A is -0\.5"):
        chipvi.ChipVI.setup_anndata(adata, **SETUP)


def test_infinite_numbers_are_refused_of_a_control_too(data):
    adata = data[0].copy()
    adata.layers["signal"][5, 4] = -np.inf
    with pytest.raises(ValueError, match=f"region r5, track {METHYLATION} is -inf"):
        chipvi.ChipVI.setup_anndata(adata, **SETUP)
