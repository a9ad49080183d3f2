"""ChipVI.differential_signal: what it sees, what it returns, and what it refuses."""

import numpy as np
import pandas as pd
import pytest

import chipvi
from chipvi.model import differential

SIZES = {"n_regions": 600, "n_biosamples": 3, "n_assays": 2, "n_replicates": 2, "mean_count": 20.0, "seed": 5}
COLUMNS = (
    "chrom start end assay lfc_mean lfc_std p_value fdr proba_de proba_not_de bayes_factor scale1 scale2 "
    "raw_mean1 raw_mean2 is_de_fdr_0.05 delta group1 group2"
).split()


def make_data():
    """Three cell types with two replicates each; in a stretch of cell2 H3K4me3 is eight times as high."""
    adata = chipvi.datasets.simulate(**SIZES)
    high = ((adata.var["cell"] == "cell2") & (adata.var["assay"] == "H3K4me3")).to_numpy()
    adata.X[100:110, high] = 8 * adata.X[100:110, high] + 40
    adata.var["depth"] = adata.X.sum(axis=0)
    adata.var["pair"] = adata.var["cell"].where(adata.var["cell"] != "cell3")  # the third is of no kind
    adata.var["odd"] = ["x", "y"] * (adata.n_vars // 2)
    return adata


@pytest.fixture(scope="module")
def trained(kit):
    model = kit.model(make_data(), keys={"observed_layer": "observed", "depth_key": "depth"})
    return kit.train(model, max_steps=60, calibrate_unseen=False)


@pytest.fixture(scope="module")
def table(trained):
    return trained.differential_signal("cell1", "cell2", groupby="cell")


def test_it_has_a_row_per_assay_and_region_and_scvi_s_columns(trained, table):
    assert list(table.columns) == COLUMNS
    assert table["assay"].tolist() == ["H3K4me3"] * 600 + ["H3K4me1"] * 600
    assert list(table.index[:600]) == list(trained.adata.obs_names)
    assert table["fdr"].between(0, 1).all() and (table["lfc_std"] > 0).all()
    np.testing.assert_allclose(table["proba_de"] + table["proba_not_de"], 1, rtol=1e-5)
    assert (table["group1"].iloc[0], table["delta"].iloc[0]) == ("cell1", np.float32(0.1))


def test_a_planted_change_is_found_with_its_direction(table):
    part = table[table["assay"] == "H3K4me3"]
    inside = part.iloc[100:110]
    assert inside["is_de_fdr_0.05"].mean() > 0.7 and (inside["lfc_mean"] < -1).all()
    assert part["p_value"].iloc[100:110].median() < 1e-3 < part["p_value"].median()


def test_fold_changes_are_of_the_two_scales_and_swap_with_the_groups(trained, table):
    part = table[table["assay"] == "H3K4me3"]
    np.testing.assert_allclose(part["lfc_mean"], np.log2(part["scale1"] / part["scale2"]), atol=1e-5)
    back = trained.differential_signal("cell2", "cell1", assay="H3K4me3", groupby="cell")
    np.testing.assert_allclose(back["lfc_mean"], -part["lfc_mean"], atol=1e-6)
    np.testing.assert_allclose(back["p_value"], part["p_value"], rtol=1e-4)


def test_raw_means_are_counts_at_the_typical_depth(trained, table):
    adata = trained.adata
    chosen = ((adata.var["cell"].isin(["cell1", "cell2"])) & (adata.var["assay"] == "H3K4me3")).to_numpy()
    var, counts = adata.var[chosen], adata.X[:, chosen].astype(float)
    typical = np.exp(np.log(var["depth"]).mean())
    expected = (counts / var["depth"].to_numpy() * typical)[:, (var["cell"] == "cell2").to_numpy()].mean(axis=1)
    np.testing.assert_allclose(table.loc[table["assay"] == "H3K4me3", "raw_mean2"], expected, rtol=1e-4)


def test_a_replicate_does_not_see_the_others(trained):
    table = trained.differential_signal("cell1", "cell2", groupby="pair")
    changed = trained.adata.copy()
    other = (changed.var["cell"] == "cell3").to_numpy()
    changed.X[:, other] = 7.0
    again = trained.differential_signal("cell1", "cell2", groupby="pair", adata=changed)
    pd.testing.assert_frame_equal(again, table)
    changed = trained.adata.copy()
    first = (changed.var["biosample"] == "cell1_1").to_numpy()
    changed.X[:, first] = 3 * changed.X[::-1, first]
    with pytest.warns(UserWarning, match="^H3K4me3, H3K4me1: no replicates of cell1_2, cell2_1. Regions that"):
        before, after = (trained.differential_signal("cell1_2", "cell2_1", adata=one) for one in (None, changed))
    pd.testing.assert_frame_equal(after, before)


def test_groups_are_lists_of_biosamples_or_all_others(trained):
    lists = trained.differential_signal(["cell1_1", "cell1_2"], ["cell2_1", "cell2_2"])
    named = trained.differential_signal("cell1", "cell2", groupby="pair")
    np.testing.assert_array_equal(lists["p_value"], named["p_value"])
    rest = trained.differential_signal("cell1", groupby="cell", assay="H3K4me3")
    assert rest["group2"].iloc[0] == "cell2, cell3"


def test_the_name_of_scvi_tools_is_the_same(trained, table):
    alias = trained.differential_expression(groupby="cell", group1="cell1", group2="cell2", mode="change", delta=0.1)
    pd.testing.assert_frame_equal(alias, table)


def test_the_mode_vanilla_asks_which_group_is_higher(trained, table):
    vanilla = trained.differential_signal("cell1", "cell2", groupby="cell", mode="vanilla", fdr_target=0.01)
    np.testing.assert_allclose(vanilla["proba_m1"] + vanilla["proba_m2"], 1, rtol=1e-5)
    assert ((vanilla["proba_m1"] > 0.5) == (vanilla["lfc_mean"] > 0)).mean() > 0.99
    assert (vanilla["p_value"].to_numpy() <= table["p_value"].to_numpy() + 1e-12).all()
    assert "is_de_fdr_0.01" in vanilla and (vanilla["delta"] == 0).all()


def test_indices_choose_regions_in_their_order_whose_p_values_do_not_depend_on_what_else_is_asked(trained, table):
    rows = [5, 3, 105, 5]
    some = trained.differential_signal("cell1", "cell2", groupby="cell", assay="H3K4me3", indices=rows)
    assert list(some.index) == list(trained.adata.obs_names[rows])
    columns = ["lfc_mean", "lfc_std", "p_value", "proba_de", "scale1", "raw_mean2"]
    np.testing.assert_allclose(some[columns], table.iloc[rows][columns], rtol=1e-4, atol=1e-6)


def test_of_many_regions_some_say_what_is_usual(trained, table, monkeypatch):
    monkeypatch.setattr(differential, "_MOST_LEARNT", 512)
    some = trained.differential_signal("cell1", "cell2", groupby="cell")
    assert np.corrcoef(np.log(some["p_value"]), np.log(table["p_value"]))[0, 1] > 0.9
    rows = differential._spread_out(100_000)
    assert len(rows) in range(500, 513) and len(np.unique(rows)) == len(rows) and rows[-1] == 99_999


def test_where_a_group_has_no_count_nothing_is_called(kit):
    adata = make_data()
    gone = ((adata.var["cell"] == "cell1") & (adata.var["assay"] == "H3K4me3")).to_numpy()
    adata.layers["observed"][50:60, gone] = 0
    adata.layers["observed"][300:, np.flatnonzero(gone)[0]] = 0  # a replicate of which half is missing
    model = kit.train(kit.model(adata, keys={"observed_layer": "observed", "depth_key": "depth"}), max_steps=2)
    table = model.differential_signal("cell1", "cell2", groupby="cell", assay="H3K4me3")
    assert table["p_value"].isna().to_numpy().nonzero()[0].tolist() == list(range(50, 60))
    assert table.iloc[50:60][["lfc_mean", "fdr", "proba_de"]].isna().all(axis=None)
    assert not table["is_de_fdr_0.05"].iloc[50:60].any() and not table["scale2"].isna().any()


def test_groups_that_were_never_measured_in_one_region_are_refused(kit):
    adata = make_data()
    first = (adata.var["cell"] == "cell1").to_numpy()
    adata.layers["observed"][:300, first] = 0
    adata.layers["observed"][300:, ~first] = 0
    model = kit.train(kit.model(adata, keys={"observed_layer": "observed", "depth_key": "depth"}), max_steps=1)
    with pytest.raises(ValueError, match="no region has counts of H3K4me3 in both groups"):
        model.differential_signal("cell1", "cell2", groupby="cell")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group1": "cell9", "groupby": "cell"}, "group1: cell 'cell9' is not in the data; did you mean 'cell3'"),
        ({"group1": "cell1", "group2": ["cell1", "cell2"], "groupby": "cell"}, "must not overlap; cell1 is in both"),
        ({"group1": "cell1", "groupby": "sell"}, "groupby 'sell' is not in adata.var; did you mean 'cell'"),
        ({"group1": [], "groupby": "cell"}, "group1 must name at least one cell"),
        ({"group1": "cell1_1", "assay": "CTCF"}, "assay 'CTCF' is not in the data"),
        ({"group1": "x", "group2": "y", "groupby": "odd"}, "no assay was measured in both groups, x and y"),
        ({"group1": "x", "group2": "y", "groupby": "odd", "assay": "H3K4me3"}, "it has no counts in y"),
        ({"group1": "cell1", "groupby": "cell", "delta": 0}, "delta must be above 0 in the mode 'change'"),
        ({"group1": "cell1", "groupby": "cell", "mode": "x"}, "mode must be 'change' or 'vanilla'"),
    ],
)
def test_wrong_groups_are_refused(trained, arguments, message):
    with pytest.raises(ValueError, match=message):
        trained.differential_signal(**arguments)
