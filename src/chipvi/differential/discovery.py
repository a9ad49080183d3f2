"""False discovery rates."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control


def adjusted(p_value_r: np.ndarray) -> np.ndarray:
    """False discovery rate at which each test is called (Benjamini & Hochberg 1995); NaN where there is no test.

    >>> adjusted(np.array([0.01, np.nan, 0.04, 0.03])).round(3).tolist()
    [0.03, nan, 0.04, 0.04]
    """
    found_r = np.full(len(p_value_r), np.nan)
    is_test_r = ~np.isnan(p_value_r)
    if is_test_r.any():
        found_r[is_test_r] = false_discovery_control(p_value_r[is_test_r])
    return found_r
