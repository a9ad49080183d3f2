"""The data contract end to end: whatever is allowed sets up, trains and predicts; whatever is not changes nothing."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import chipvi


def only_signal(kit):
    adata = kit.data()
    adata.X = None
    return adata, {"signal_layer": "signal", "control_key": "is_control"}


def zeros_beside_signal(kit):
    adata = kit.data()
    adata.X[:] = 0
    adata.layers["observed"][:] = 0
    return adata, kit.keys


def columns_where(adata, column, value):
    return adata[:, adata.var[column] == value].copy()


def with_empty_rows(kit):
    adata = kit.data()
    adata.X[[0, 3, 100, 101]] = 0
    adata.layers["observed"][[5, 100]] = 0
    return adata, kit.keys


def with_short_segments(kit):
    adata = kit.data()
    adata.obs["gene"] = np.repeat(np.arange(56), 5)
    return adata, kit.keys | {"segment_key": "gene"}


def nan_in_place_of_a_mask(kit):
    adata = kit.data()
    adata.X[adata.layers["observed"] == 0] = np.nan
    return adata, {"depth_key": "depth"}


# what to set up, and whether imputation is of counts and of signal
SIMPLE = {
    "one biosample": (lambda kit: (columns_where(kit.data(), "biosample", "cell1"), kit.keys), True, True),
    "one assay": (lambda kit: (columns_where(kit.data(), "assay", "H3K4me1"), kit.keys), True, True),
    "segments shorter than the context": (with_short_segments, True, True),
    "segments of one region": (lambda kit: (kit.data(n_regions=90)[::2].copy(), kit.keys), True, True),
    "signal only": (only_signal, False, True),
    "counts all missing": (zeros_beside_signal, False, True),
    "counts only": (lambda kit: (kit.data(signal=False), {"observed_layer": "observed"}), True, False),
    "regions without a read or without data": (with_empty_rows, True, True),
    "no mask, NaN": (nan_in_place_of_a_mask, True, False),
    "fewer regions than a minibatch": (lambda kit: (kit.data(n_regions=9), kit.keys), True, True),
    "one region": (
        lambda kit: (kit.data(n_regions=4)[1].copy(), {"observed_layer": "observed", "depth_key": "depth"}),
        True,
        False,
    ),
}


@pytest.mark.filterwarnings(
    "ignore:Category 0 in .* has fewer than 3 cells:UserWarning"
)  # of scvi-tools, for one region
@pytest.mark.parametrize(("make", "has_counts", "has_signal"), SIMPLE.values(), ids=SIMPLE)
def test_data_that_simply_work(kit, make, has_counts, has_signal):
    adata, keys = make(kit)
    n_controls = adata.var["is_control"].sum() if "control_key" in keys else 0
    result = kit.train(kit.model(adata, keys)).impute()
    assert result.shape == (adata.n_obs, adata.n_vars - n_controls)
    assert {"lower", "upper", "dispersion", "denoised"} <= set(result.layers) if has_counts else set(result.layers)
    assert ({"pval", "pval_std"} <= set(result.layers)) == has_signal
    assert ("depth" in result.var) == has_counts
    for values in (result.X, *result.layers.values()):
        assert np.isfinite(values).all()
    if has_counts:
        assert (result.X > 0).all()
        assert (result.layers["lower"] <= result.layers["upper"]).all()


def test_without_counts_the_count_functions_say_what_to_use(kit):
    model = kit.train(kit.model(*only_signal(kit)))
    assert model.get_imputed_pvalues(indices=[4]).shape == (1, 12)
    for function in (model.get_imputed_counts, model.get_normalized_expression, model.get_prediction_interval):
        with pytest.raises(ValueError, match="trained on signal only; use get_imputed_pvalues"):
            function()


def test_without_signal_the_signal_function_says_what_to_give(kit):
    model = kit.train(kit.model(kit.data(signal=False), {"observed_layer": "observed"}))
    with pytest.raises(ValueError, match="without signal; name a signal_layer"):
        model.get_imputed_pvalues()


def test_without_depth_it_is_the_reads_counted(kit):
    adata = kit.data(signal=False)
    model = kit.train(
        kit.model(adata, {"observed_layer": "observed", "control_key": "is_control"}), validation_size=0.0
    )
    depth = model.impute(indices=[0]).var["depth"]
    measured = depth.index != kit.unseen
    np.testing.assert_allclose(depth[measured], adata.to_df()[depth.index].sum()[measured], rtol=1e-5)


def test_a_wholly_missing_track_is_imputed_at_the_depth_of_its_assay(kit):
    adata = kit.data(signal=False)
    model = kit.train(
        kit.model(adata, {"observed_layer": "observed", "control_key": "is_control"}), validation_size=0.0
    )
    result = model.impute(tracks=[kit.unseen])
    others = [f"cell{b}.{kit.unseen.split('.')[1]}" for b in (1, 3)]
    np.testing.assert_allclose(result.var["depth"], adata.to_df()[others].sum().median(), rtol=1e-5)
    assert result.X.mean() > 0


def test_one_track_is_denoised_but_not_imputed(kit):
    adata = kit.data()[:, ["cell1.H3K4me1"]].copy()
    model = kit.train(kit.model(adata))
    assert model.get_normalized_expression().shape == (280, 1)
    for function in (model.impute, model.get_imputed_counts, model.get_imputed_pvalues, model.get_prediction_interval):
        with pytest.raises(ValueError, match="no track but cell1.H3K4me1 has data, so there is nothing to go by"):
            function()


def test_one_track_with_data_among_several_is_not_imputed_but_the_others_are(kit):
    adata = kit.data()[:, ["cell1.H3K4me1", "cell1.H3K4me3"]].copy()
    adata.layers["observed"][:, 1] = 0
    adata.layers["signal"][:, 1] = np.nan
    model = kit.train(kit.model(adata))
    assert model.get_imputed_counts(tracks=["cell1.H3K4me3"]).shape == (280, 1)
    with pytest.raises(ValueError, match="nothing to go by"):
        model.get_imputed_counts(tracks=["cell1.H3K4me1"])


def backed(adata, path):
    adata.write_h5ad(path)
    return anndata.read_h5ad(path, backed="r")


def without_mask(adata):
    adata.X[adata.layers["observed"] == 0] = np.nan
    del adata.layers["observed"]
    return adata


def with_mask(adata, mask):
    layers = dict(adata.layers) | {"observed": mask}
    return anndata.AnnData(adata.X, adata.obs, adata.var, layers=layers)


def with_matrix(make):
    def convert(adata, path):
        adata.X = make(adata.X)
        return adata

    return convert


def moved_to_a_layer(adata, path):
    adata.layers["reads"] = adata.X
    adata.X = np.full(adata.shape, -1.5)
    return adata


FORMS = {
    "CSR matrix": with_matrix(sp.csr_matrix),
    "CSR array": with_matrix(sp.csr_array),
    "integers": with_matrix(lambda x: x.astype(np.int32)),
    "small integers": with_matrix(lambda x: x.astype(np.uint16)),
    "float64": with_matrix(lambda x: x.astype(np.float64)),
    "NaN where missing": lambda adata, path: without_mask(adata),
    "sparse mask": lambda adata, path: with_mask(adata, sp.csr_matrix(adata.layers["observed"])),
    "boolean mask": lambda adata, path: with_mask(adata, adata.layers["observed"] == 1),
    "counts in a layer": moved_to_a_layer,
    "backed, dense": backed,
    "backed, CSR": lambda adata, path: backed(with_matrix(sp.csr_matrix)(adata, path), path),
}


@pytest.fixture(scope="module")
def plain_result(kit):
    return kit.train(kit.model(with_holes(kit.data()))).impute()


def with_holes(adata):
    holes = np.random.default_rng(0).random(adata.shape) < 0.05
    adata.layers["observed"][holes] = 0
    return adata


@pytest.mark.parametrize("convert", FORMS.values(), ids=FORMS)
def test_the_form_of_the_data_does_not_matter(kit, plain_result, tmp_path, convert):
    adata = convert(with_holes(kit.data()), tmp_path / "data.h5ad")
    keys = dict(kit.keys) | ({"layer": "reads"} if "reads" in adata.layers else {})
    if "observed" not in adata.layers:
        del keys["observed_layer"]
    result = kit.train(kit.model(adata, keys)).impute()
    np.testing.assert_array_equal(result.X, plain_result.X)
    for name in plain_result.layers:
        np.testing.assert_array_equal(result.layers[name], plain_result.layers[name])


def test_a_view_is_set_up_as_a_copy(kit):
    whole = kit.data()
    view = whole[:210]
    assert view.is_view
    model = kit.train(kit.model(view))
    assert not view.is_view
    assert "_scvi_uuid" not in whole.uns
    assert model.impute().shape == (210, 12)


def test_a_refused_anndata_is_left_as_it_was(kit):
    adata = kit.data()
    adata.X[17, 2] = 0.5
    view = adata[:, ::-1]
    for refused in (adata, view):
        before = refused.copy()
        with pytest.raises(ValueError, match=r"must hold whole counts; region .*, track cell1.H3K36me3 is 0.5"):
            chipvi.ChipVI.setup_anndata(refused, **kit.keys)
        pd.testing.assert_frame_equal(refused.obs, before.obs)
        pd.testing.assert_frame_equal(refused.var, before.var)
        assert list(refused.uns) == list(before.uns)
        assert list(refused.layers) == list(before.layers)
        np.testing.assert_array_equal(refused.X, before.X)
    assert view.is_view


def test_setting_up_again_with_other_keys_leaves_the_first_model_as_it_was(kit, adata, model):
    before = model.get_imputed_counts(indices=[0, 9], return_numpy=True)
    other = adata.copy()
    chipvi.ChipVI.setup_anndata(other, observed_layer="observed")
    np.testing.assert_array_equal(model.get_imputed_counts(indices=[0, 9], return_numpy=True), before)
    assert model.setup_keys.signal_layer == "signal"
