"""What holds for any data: properties of predictions over random AnnDatas, and of files that were cut."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from chipvi.io.inputs import read_anndata

CASES = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEMPLATE: dict[str, AnnData] = {}


@pytest.fixture(scope="module")
def trained(kit):
    TEMPLATE["adata"] = kit.data()
    return kit.train(kit.model(kit.data()), max_steps=12)


@st.composite
def anndatas(draw):
    """Any counts, signal, holes and stretches of regions with the tracks of the model."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    template = TEMPLATE["adata"]
    start = draw(st.integers(0, 200))
    adata = template[start : start + draw(st.integers(1, 60))].copy()
    rate = random.lognormal(draw(st.sampled_from([-2.0, 0.5, 4.0])), 1.0, adata.shape)
    adata.X = random.poisson(rate).astype(np.float32)
    adata.layers["observed"] = (random.random(adata.shape) < draw(st.sampled_from([0.1, 0.6, 1.0]))).astype(np.float32)
    signal = random.exponential(1.0, adata.shape).astype(np.float32)
    signal[random.random(adata.shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = np.nan
    adata.layers["signal"] = signal
    return adata


def predictions(model, adata, **options):
    """Everything that is predicted, as arrays by name."""
    found = model.impute(adata, **options)
    return {name: np.asarray(found.layers[name]) for name in found.layers}


def require_same(first, second, **tolerance):
    assert first.keys() == second.keys() and len(first) > 3
    for name, values in first.items():
        if tolerance:
            np.testing.assert_allclose(values, second[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_what_is_stored_in_a_missing_entry_never_matters(trained):
    @CASES
    @given(anndatas(), st.sampled_from([7.0, 1e9, np.nan]))
    def holds(adata, stored):
        other = adata.copy()
        other.X[other.layers["observed"] == 0] = stored
        require_same(predictions(trained, adata), predictions(trained, other))

    holds()


def test_corrupting_a_track_leaves_its_imputation_bit_by_bit(trained):
    targets = np.flatnonzero(~TEMPLATE["adata"].var["is_control"].to_numpy(dtype=bool))

    @CASES
    @given(anndatas(), st.sampled_from(list(targets)), st.integers(0, 10_000))
    def holds(adata, column, count):
        other, name = adata.copy(), adata.var_names[column]
        other.X[:, column] = count
        other.layers["signal"][:, column] = 3.25
        first, second = (trained.get_likelihood_parameters(x, tracks=[name]) for x in (adata, other))
        require_same(
            {f"{key}{n}": np.asarray(x) for n, (key, x) in enumerate(first.items())}
            | {"interval": np.stack(trained.get_prediction_interval(adata, tracks=[name])), "a": np.zeros(1)},
            {f"{key}{n}": np.asarray(x) for n, (key, x) in enumerate(second.items())}
            | {"interval": np.stack(trained.get_prediction_interval(other, tracks=[name])), "a": np.zeros(1)},
        )

    holds()


def test_twice_the_depth_is_twice_the_mean(trained):
    @CASES
    @given(anndatas(), st.floats(1e3, 1e9))
    def holds(adata, depth):
        once, twice = (trained.get_imputed_counts(adata, depth=d).to_numpy() for d in (depth, 2 * depth))
        np.testing.assert_allclose(twice, 2 * once, rtol=2e-5)

    holds()


def test_batches_do_not_matter_beyond_rounding(trained):
    @CASES
    @given(anndatas(), st.integers(1, 70))
    def holds(adata, batch_size):
        require_same(
            predictions(trained, adata), predictions(trained, adata, batch_size=batch_size), rtol=2e-4, atol=2e-4
        )

    holds()


def test_sparse_counts_are_predicted_as_dense_ones(trained):
    @CASES
    @given(anndatas())
    def holds(adata):
        other = adata.copy()
        other.X = csr_matrix(adata.X)
        require_same(predictions(trained, adata), predictions(trained, other))

    holds()


def test_each_method_returns_what_impute_returns(trained):
    @CASES
    @given(anndatas())
    def holds(adata):
        found = trained.impute(adata)
        np.testing.assert_array_equal(trained.get_imputed_counts(adata), found.X)
        lower, upper = trained.get_prediction_interval(adata)
        np.testing.assert_array_equal(lower, found.layers["lower"])
        np.testing.assert_array_equal(upper, found.layers["upper"])
        np.testing.assert_array_equal(trained.get_normalized_expression(adata), found.layers["denoised"])

    holds()


@pytest.fixture(scope="module")
def file(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "good.h5ad"
    kit.data().write_h5ad(path)
    return path


def test_a_file_that_ends_too_early_is_refused_in_one_line(file, tmp_path):
    good, cut = file.read_bytes(), tmp_path / "cut.h5ad"

    @CASES
    @given(st.integers(0, len(good) - 1))
    def holds(length):
        cut.write_bytes(good[:length])
        with pytest.raises((ValueError, OSError)) as caught:
            read_anndata(cut)
        assert str(caught.value) and len(str(caught.value).splitlines()) == 1

    holds()
