"""Which tracks are compared, and which others say what replicates differ by."""

import numpy as np
import pandas as pd

from chipvi.differential.groups import find_contrasts
from chipvi.model.differential import _remarks

CELLS = ["a", "b", "b", "c", "c", "c", None, None, "d"]


def find(cells: list[str | None], n_assays: int = 1, asked: list[str] | None = None):
    labels = pd.Series(cells * n_assays, name="cell")
    assays = [f"mark{a}" for a in range(n_assays) for _ in cells]
    return find_contrasts(labels, assays, np.ones(len(labels), dtype=bool), (["a"], ["b"]), asked)


def test_others_are_groups_of_a_label_with_replicates():
    (one,) = find(CELLS)
    assert one.columns.tolist() == [0, 1, 2, 3, 4, 5] and one.group_t.tolist() == [0, 1, 1, 2, 2, 2]
    assert one.singles == ["a"] and one.n_variances == 4  # of b one, of c three
    np.testing.assert_allclose(one.typical(np.arange(9.0) ** 2), [5 / 3] * 6)


def test_of_many_others_some_are_taken():
    (one,) = find(["a", "b", *["c"] * 7, *["d"] * 4, *["e"] * 4, "f", "f"])
    assert np.bincount(one.group_t).tolist() == [1, 1, 7, 4]
    (one,) = find(["a", "b", *["c"] * 20])
    assert np.bincount(one.group_t).tolist() == [1, 1, 12]


def test_remarks_say_from_whom_a_group_of_one_borrows():
    (borrowing,) = find(CELLS)
    (bare,) = find(["a", "b", "b"], asked=["mark0"])
    (first,) = _remarks([borrowing])
    assert first.startswith("mark0: no replicates of a. It is taken to vary more than 19 of 20")
    (second,) = _remarks([bare])
    assert second.startswith("mark0: no replicates of a. Regions that are called") and "groupby" in second
    assert len(list(_remarks([borrowing, bare]))) == 2 and not list(_remarks([]))
