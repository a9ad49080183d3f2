"""Relatives among biosamples: found, used, shown, and swapped ones named."""

from __future__ import annotations

import numpy as np
import pytest

import chipvi

CELLS = ("cell1", "cell2", "cell3")


@pytest.fixture(scope="module")
def related():
    """3 cell types with 3 replicates each, 2 assays."""
    return chipvi.datasets.simulate(n_regions=600, n_biosamples=3, n_assays=2, n_replicates=3, mean_count=6, seed=5)


def trained(kit, adata):
    model = kit.model(adata, keys={"observed_layer": "observed", "depth_key": "depth"})
    return kit.train(model, max_steps=4)


@pytest.fixture(scope="module")
def model(kit, related):
    return trained(kit, related.copy())


def test_replicates_get_most_of_the_weight(model):
    table = model.get_biosample_affinity()
    assert list(table.index) == list(table.columns) == [f"{cell}_{n}" for cell in CELLS for n in (1, 2, 3)]
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-5)
    assert (np.diag(table) == 0).all()
    for name in table.index:
        cell = name.split("_")[0]
        assert table.loc[name, [f"{cell}_{n}" for n in (1, 2, 3)]].sum() > 0.6


def test_weights_of_one_assay_are_asked_for_by_name(model):
    by_assay = [model.get_biosample_affinity(assay) for assay in model.grid.assays]
    np.testing.assert_allclose(sum(by_assay) / 2, model.get_biosample_affinity(), rtol=1e-5)
    with pytest.raises(ValueError, match="assay"):
        model.get_biosample_affinity("H3K99")


def test_no_swap_is_seen_where_there_is_none(model):
    assert not any("swapped" in one or "twice" in one for one in model.diagnose().advice)


def test_swapped_biosamples_are_named(kit, related):
    adata = related.copy()
    first, second = (adata.var["biosample"] == name for name in ("cell1_2", "cell3_1"))
    adata.X[:, first], adata.X[:, second] = related.X[:, second], related.X[:, first]
    advice = [one for one in trained(kit, adata).diagnose().advice if "swapped" in one]
    assert len(advice) == 2
    assert advice[0].startswith("cell1_2 is predicted") and "cell3_" in advice[0]
    assert advice[1].startswith("cell3_1 is predicted") and "cell1_" in advice[1]


def test_a_biosample_that_is_there_twice_is_named(kit, related):
    adata = related.copy()
    adata.X[:, adata.var["biosample"] == "cell2_3"] = related.X[:, related.var["biosample"] == "cell2_1"]
    advice = trained(kit, adata).diagnose().advice
    assert any(one.startswith("cell2_1, cell2_3 have the same counts (correlation 1.0000)") for one in advice), advice


def test_a_new_biosample_finds_its_replicate_from_one_assay(kit, related):
    is_new = (related.var["biosample"] == "cell2_2").to_numpy()
    reference = trained(kit, related[:, ~is_new].copy())
    new = related[:, is_new & (related.var["assay"] == "H3K4me3").to_numpy()].copy()
    table = chipvi.ChipVI.load_query_data(new, reference).get_biosample_affinity()
    assert table.loc["cell2_2", ["cell2_1", "cell2_3"]].sum() > 0.6
    old = reference.get_biosample_affinity()
    kept = table.loc[old.index, old.columns]
    np.testing.assert_allclose(kept.div(kept.sum(axis=1), axis=0), old, rtol=1e-4, atol=1e-6)
