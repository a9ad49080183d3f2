"""Where imputation is possible, against a loop over tracks."""

import numpy as np
import pytest
import torch

from chipvi.data.imputable import find_imputable

BIOSAMPLE, ASSAY = [0, 0, 1, 2, 2, 3, 3], [0, 1, 0, 2, 5, 4, 5]
IS_TARGET = [True, True, True, True, False, True, False]  # assay 5 is the control


def expected(visible_t: np.ndarray, t: int) -> bool:
    others = [o for o in range(7) if o != t and visible_t[o] and IS_TARGET[o]]
    return any(BIOSAMPLE[o] == BIOSAMPLE[t] or ASSAY[o] == ASSAY[t] for o in others)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_an_entry_can_be_imputed_from_its_biosample_or_its_assay_elsewhere(share):
    visible_rt = np.random.default_rng(4).random((90, 7)) < share
    found_rt = find_imputable(*map(torch.tensor, (visible_rt, BIOSAMPLE, ASSAY, IS_TARGET))).numpy()
    np.testing.assert_array_equal(found_rt, [[expected(visible_t, t) for t in range(7)] for visible_t in visible_rt])


def test_neither_a_control_nor_an_unrelated_track_is_enough():
    visible_rt = torch.ones(1, 7, dtype=torch.bool)
    (found_t,) = find_imputable(visible_rt, *map(torch.tensor, (BIOSAMPLE, ASSAY, IS_TARGET)))
    assert found_t[:3].all()
    assert not found_t[[3, 5]].any()  # with a control each, and no other track
