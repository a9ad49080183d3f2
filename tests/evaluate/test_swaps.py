"""Swapped and duplicated biosamples are found in made-up tables of weights, and nothing in those that are right."""

import numpy as np
import pandas as pd
import pytest

from chipvi.datasets import simulate
from chipvi.evaluate.swaps import Suspect, Suspicion, group_by_name, judge_swaps
from chipvi.evaluate.words import describe_suspect

NAMES = ["neuron_1", "neuron_2", "neuron_3", "oligo_1", "oligo_2", "oligo_3", "astro_1"]


def weights(truth, names, kin=9.0, jitter=0.0, seed=0):
    """Weights by what the biosamples are: `kin` times as much on those of the same kind, own 0, rows sum to 1."""
    is_kin = np.array(truth)[:, None] == np.array(truth)
    weight_bb = np.where(is_kin, kin, 1.0) * np.exp(jitter * np.random.default_rng(seed).normal(size=is_kin.shape))
    np.fill_diagonal(weight_bb, 0)
    return pd.DataFrame(weight_bb / weight_bb.sum(axis=1, keepdims=True), names, names)


def correlations(names, pairs=(), other=0.9):
    table = pd.DataFrame(other, names, names)
    for first, second in pairs:
        table.loc[first, second] = table.loc[second, first] = 1.0
    return table


def test_two_swapped_biosamples_are_found_with_what_they_are_predicted_from():
    truth = ["n", "o", "n", "n", "o", "o", "x"]  # neuron_2 and oligo_1 were swapped
    found = judge_swaps(weights(truth, NAMES, kin=19.0))
    assert [(one.suspicion, one.biosamples, one.sources) for one in found] == [
        (Suspicion.SWAP, ("neuron_2",), ("oligo_2", "oligo_3")),
        (Suspicion.SWAP, ("oligo_1",), ("neuron_1", "neuron_3")),
    ]
    total = 2 * 19 + 4
    assert found[0].weight == pytest.approx((2 * 19 + 1) / total)
    assert found[0].own_weight == pytest.approx(2 / total)
    assert np.isnan(found[0].correlation)


def test_one_biosample_under_the_wrong_name_is_found_alone():
    truth = ["n", "o", "n", "o", "o", "o", "x"]
    (found,) = judge_swaps(weights(truth, NAMES, kin=30.0))
    assert found.biosamples == ("neuron_2",)
    assert found.sources == ("oligo_1", "oligo_2", "oligo_3")


def test_the_group_that_a_biosample_belongs_to_may_be_a_single_one():
    table = weights(["n", "a", "n", "o", "o", "o", "a"], NAMES, kin=60.0)
    (found,) = judge_swaps(table)
    assert (found.biosamples, found.sources, found.has_one_source) == (("neuron_2",), ("astro_1",), True)


@pytest.mark.parametrize(
    ("truth", "kin", "jitter"),
    [
        pytest.param("nnnooox", 9.0, 0.2, id="as named"),
        pytest.param("nnnooox", 300.0, 0.0, id="as named, all but certain"),
        pytest.param("abcdefg", 9.0, 0.0, id="all unlike, equal weights"),
        pytest.param("abcdefg", 9.0, 0.3, id="all unlike, weights that differ by chance"),
        pytest.param("nnnnnnn", 9.0, 0.3, id="all alike"),
    ],
)
def test_nothing_is_found_where_nothing_is_swapped(truth, kin, jitter):
    for seed in range(20):
        assert judge_swaps(weights(list(truth), NAMES, kin, jitter, seed), correlations(NAMES)) == []


def test_a_small_group_among_many_others_is_no_swap_with_equal_weights():
    names = ["neuron_1", "neuron_2", *(f"oligo_{i}" for i in range(1, 41))]
    table = weights(range(42), names, jitter=0.2)
    assert table.loc["neuron_1"].drop(["neuron_1", "neuron_2"]).sum() > 0.9
    assert judge_swaps(table) == []


def test_biosamples_without_a_group_are_not_judged():
    names = ["K562", "GM12878", "H1", "H9", "cell1", "cell2"]
    table = weights(list("abacbc"), names, kin=50.0)
    assert judge_swaps(table, correlations(names)) == []


def test_one_group_alone_has_nothing_to_be_swapped_with():
    names = ["donor_1", "donor_2", "donor_3", "donor_4"]
    assert judge_swaps(weights(list("abab"), names, kin=50.0)) == []


def test_groups_that_are_given_go_before_the_names():
    truth = ["n", "o", "n", "n", "o", "o", "x"]
    assert judge_swaps(weights(truth, NAMES, kin=19.0), groups=truth) == []
    found = judge_swaps(weights(list("abba"), ["w", "x", "y", "z"], kin=50.0), groups=["1", "1", "2", "2"])
    assert [one.biosamples for one in found] == [("w",), ("x",), ("y",), ("z",)]


def test_a_biosample_that_shares_no_assay_with_its_group_is_not_judged():
    truth = ["n", "o", "n", "n", "o", "o", "x"]
    table = weights(truth, NAMES, kin=19.0)
    table.loc["neuron_2", ["neuron_1", "neuron_3"]] = np.nan
    assert [one.biosamples for one in judge_swaps(table)] == [("oligo_1",)]


def test_copies_have_the_same_counts_and_their_weight_on_each_other():
    truth = ["n", "c", "n", "o", "o", "c", "x"]
    table = weights(truth, NAMES, kin=50.0)
    found = judge_swaps(table, correlations(NAMES, [("neuron_2", "oligo_3")]))
    assert found == [
        Suspect(
            Suspicion.DUPLICATE,
            ("neuron_2", "oligo_3"),
            weight=table.loc["neuron_2", "oligo_3"],
            correlation=1.0,
        )
    ]


def test_replicates_are_no_copies_however_much_they_weigh():
    assert judge_swaps(weights(list("nnnooox"), NAMES, kin=1e4), correlations(NAMES, other=0.995)) == []


def test_the_same_counts_without_the_weight_are_no_copies():
    table = weights(list("abcdefg"), NAMES)
    assert judge_swaps(table, correlations(NAMES, [("neuron_2", "oligo_3")])) == []  # such as two empty tracks


def test_three_copies_are_one_finding():
    table = weights(["c", "c", "c", "o", "o", "o", "x"], NAMES, kin=50.0)
    pairs = [("neuron_1", "neuron_2"), ("neuron_1", "neuron_3"), ("neuron_2", "neuron_3")]
    (found,) = judge_swaps(table, correlations(NAMES, pairs))
    assert found.biosamples == ("neuron_1", "neuron_2", "neuron_3")
    assert found.weight == pytest.approx(100 / 104)


def test_rows_and_columns_may_come_in_any_order():
    truth = ["n", "c", "n", "o", "o", "c", "x"]
    table, counts = weights(truth, NAMES, kin=50.0), correlations(NAMES, [("neuron_2", "oligo_3")])
    (found,) = judge_swaps(table[NAMES[::-1]], counts.loc[NAMES[::-1]])
    assert found.biosamples == ("neuron_2", "oligo_3")


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("neuron_1", "neuron"), ("neuron-12", "neuron"), ("neuron.2", "neuron"), ("neuron 2", "neuron"),
        ("neuron_rep2", "neuron"), ("neuron_Rep_2", "neuron"), ("neuronRep2", "neuron"), ("neuron-R1", "neuron"),
        ("cell1_2", "cell1"), ("H1_NPC_2", "H1_NPC"), ("neuron2", "neuron2"), ("K562", "K562"), ("H1", "H1"),
        ("neuron", "neuron"), ("neuron_", "neuron_"), ("7", "7"),
    ],
)  # fmt: skip
def test_the_group_is_what_stands_before_the_number_of_the_replicate(name, group):
    assert group_by_name([name]) == [group]


def test_names_of_simulated_replicates_give_their_cell_types():
    rows = simulate(20, 4, 1, n_replicates=3).var.drop_duplicates("biosample")
    assert group_by_name(rows["biosample"].astype(str)) == rows["cell"].astype(str).tolist()


def test_simulated_samples_whose_labels_were_swapped_are_found():
    adata = simulate(4_000, 5, 3, n_replicates=3, lineage=2, seed=4)
    names = list(adata.var["biosample"].cat.categories)
    log_rate = np.log(adata.layers["rate"]).reshape(len(adata), len(names), 3)
    agreement_bb = np.mean([np.corrcoef(log_rate[:, :, a].T) for a in range(3)], axis=0)
    weight_bb = np.exp(30 * agreement_bb) * ~np.eye(len(names), dtype=bool)
    weight_bb /= weight_bb.sum(axis=1, keepdims=True)
    assert judge_swaps(pd.DataFrame(weight_bb, names, names)) == []
    swapped = names.copy()
    i, j = names.index("cell2_3"), names.index("cell5_1")
    swapped[i], swapped[j] = swapped[j], swapped[i]
    found = judge_swaps(pd.DataFrame(weight_bb, swapped, swapped))
    assert {one.biosamples for one in found} == {("cell2_3",), ("cell5_1",)}


SWAP = Suspect(Suspicion.SWAP, ("neuron_2",), ("oligo_1",), weight=0.93, own_weight=0.02)


def test_a_suspicion_is_a_question_with_its_numbers():
    assert describe_suspect(SWAP) == (
        "neuron_2 is predicted from oligo_1 alone (weight 93 %), and hardly from its own group (2 %): swapped? "
        "Compare its label and file with theirs."
    )
    several = Suspect(Suspicion.SWAP, ("neuron_2",), ("oligo_2", "oligo_3"), weight=0.6, own_weight=0.05)
    assert describe_suspect(several).startswith("neuron_2 is predicted mainly from oligo_2, oligo_3 (weight 60 %)")
    copies = Suspect(Suspicion.DUPLICATE, ("neuron_2", "oligo_3"), weight=0.9, correlation=0.99991)
    assert describe_suspect(copies) == (
        "neuron_2, oligo_3 have the same counts (correlation 0.9999) and are predicted from each other (weight 90 %): "
        "the same data twice? Compare their files."
    )


def test_one_source_is_not_called_the_only_one_where_the_rest_matters():
    weak = Suspect(Suspicion.SWAP, ("neuron_2",), ("oligo_1",), weight=0.55, own_weight=0.05)
    assert "predicted mainly from oligo_1 (weight 55 %)" in describe_suspect(weak)
