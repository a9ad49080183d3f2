"""The picture of affinities holds the weights it claims, with relatives beside each other."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from chipvi import pl


def families(sizes, seed=0):
    """Weights of biosamples in families, 9 times as high within as between, in shuffled order."""
    names = [f"f{f}_{i}" for f, size in enumerate(sizes) for i in range(size)]
    random = np.random.default_rng(seed)
    is_kin = np.array([[a.split("_")[0] == b.split("_")[0] for b in names] for a in names])
    weight = np.where(is_kin, 9.0, 1.0) * random.uniform(0.9, 1.1, is_kin.shape)
    np.fill_diagonal(weight, 0)
    order = random.permutation(len(names))
    table = pd.DataFrame(weight / weight.sum(axis=1, keepdims=True), names, names)
    return table.iloc[order, order]


def drawn(figure):
    """The heat map as a table."""
    ax = figure.axes[0]
    rows, columns = ([label.get_text() for label in axis.get_ticklabels()] for axis in (ax.yaxis, ax.xaxis))
    return pd.DataFrame(np.asarray(ax.images[0].get_array()), rows, columns)


def n_runs(names):
    groups = [name.split("_")[0] for name in names]
    return 1 + sum(a != b for a, b in zip(groups, groups[1:], strict=False))


@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 4), (7, 12, 20, 21)])
def test_every_weight_is_drawn_in_its_row_and_column_and_families_are_blocks(sizes):
    table = families(sizes)
    found = drawn(pl.affinity(table))
    assert list(found.index) == list(found.columns)
    assert n_runs(table.index) > len(sizes)
    assert n_runs(found.index) == len(sizes)
    pd.testing.assert_frame_equal(found.loc[table.index, table.columns], table)


@pytest.mark.parametrize(("n", "has_values"), [(4, True), (15, True), (16, False)])
def test_few_biosamples_have_their_weights_written(n, has_values):
    table = families((3, n - 3))
    figure = pl.affinity(table)
    written = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in figure.axes[0].texts}
    found = drawn(figure).to_numpy()
    expected = {(i, j): f"{100 * found[i, j]:.0f}" for i in range(n) for j in range(n) if i != j} if has_values else {}
    assert written == expected


@pytest.mark.parametrize("n", [4, 12, 60])
def test_labels_do_not_overlap_and_stay_within_the_picture(n):
    table = families((n // 2, n // 2))
    names = [f"hippocampus_{name}" for name in table.index]
    figure = pl.affinity(table.set_axis(names).set_axis(names, axis=1))
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in zip(boxes, boxes[1:], strict=False))
    everything = [*boxes, *(label.get_window_extent() for label in (*ax.get_xticklabels(), ax.yaxis.label))]
    assert min(box.x0 for box in everything) >= 0 and min(box.y0 for box in everything) >= 0


def test_a_model_is_asked_for_its_table():
    table = families((2, 3))
    model = SimpleNamespace(get_biosample_affinity=lambda: table)
    pd.testing.assert_frame_equal(drawn(pl.affinity(model)), drawn(pl.affinity(table)))


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_biosamples_are_drawn_as_they_come(n):
    names = ["b", "a"][:n]
    table = pd.DataFrame(1.0 - np.eye(n), names, names)
    pd.testing.assert_frame_equal(drawn(pl.affinity(table)), table)


def test_columns_in_another_order_are_the_same_table():
    table = families((2, 3))
    pd.testing.assert_frame_equal(drawn(pl.affinity(table[table.columns[::-1]])), drawn(pl.affinity(table)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda t: t.iloc[:, 1:], "the same biosamples as rows and as columns, .* 5 rows and 4 col", id="c"
        ),
        pytest.param(lambda t: t.rename(index={"f0_1": "f0_0"}), "each once; got 5 rows", id="twice"),
        pytest.param(lambda t: t - 0.5, "numbers from 0 to 1; that of f", id="below 0"),
        pytest.param(lambda t: t * np.nan, "numbers from 0 to 1; that of .* is nan", id="nan"),
    ],
)
def test_what_are_no_affinities_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        pl.affinity(change(families((2, 3))))


def test_the_picture_is_written_and_leaves_nothing_open(tmp_path):
    before = plt.get_fignums()
    pl.affinity(families((2, 3)), save=tmp_path / "affinity.png")
    assert (tmp_path / "affinity.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == before
