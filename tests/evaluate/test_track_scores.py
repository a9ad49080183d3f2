"""Scores of tracks of counts, against scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom

from chipvi.evaluate.track_scores import SCORES, score_counts
from chipvi.metrics import NBMixture


def test_scores_are_those_of_scipy_and_missing_entries_count_nowhere():
    random = np.random.default_rng(1)
    mean = pd.DataFrame(random.gamma(2.0, 3.0, size=(70, 3)), columns=["a", "b", "c"])
    dispersion = pd.DataFrame(random.gamma(3.0, 1.0, size=(70, 3)) + 0.5, columns=mean.columns)
    truth = pd.DataFrame(random.negative_binomial(2, 0.3, size=(70, 3)).astype(float), columns=mean.columns)
    truth.iloc[:9, 1], truth["c"] = np.nan, np.nan
    scores = score_counts(truth, NBMixture.single(mean, dispersion))
    assert list(scores) == list(SCORES)
    assert scores.loc["c"].isna().all()
    for name in ("a", "b"):
        y, m, d = (frame[name][truth[name].notna()].to_numpy() for frame in (truth, mean, dispersion))
        predicted = nbinom(d, d / (d + m))
        lower, upper = predicted.ppf(0.025), predicted.ppf(0.975)
        assert scores.loc[name, "nll"] == pytest.approx(-predicted.logpmf(y).mean(), rel=1e-6)
        assert scores.loc[name, "coverage"] == pytest.approx(((lower <= y) & (y <= upper)).mean())
        expected = (predicted.cdf(upper) - predicted.cdf(lower - 1)).mean()
        assert scores.loc[name, "expected_coverage"] == pytest.approx(expected, rel=1e-6)
