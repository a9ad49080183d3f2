"""Weights between biosamples, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chipvi.nn import BiosampleAffinity, similarity_scores


def by_loops(value_rba, present_rba, noise_rba):
    """The definition, pair by pair."""
    n_regions, n_biosamples, n_assays = value_rba.shape
    log_distance = np.full((n_assays, n_biosamples, n_biosamples), np.nan)
    for a in range(n_assays):
        for b in range(n_biosamples):
            for c in range(n_biosamples):
                both = (present_rba[:, b, a] > 0) & (present_rba[:, c, a] > 0)
                if b != c and both.sum() > 1:
                    square = np.mean((value_rba[both, b, a] - value_rba[both, c, a]) ** 2)
                    log_distance[a, b, c] = np.log(max(square - noise_rba[both, b, a].mean(), 0.05 * square))
    expected = np.zeros((n_biosamples, n_biosamples))
    for b in range(n_biosamples):
        for c in range(n_biosamples):
            per_assay = [
                -2 * (log_distance[a, b, c] - np.nanmean(log_distance[a, b]))
                for a in range(n_assays)
                if not np.isnan(log_distance[a, b, c])
            ]
            score = np.mean(per_assay) if per_assay else 0.0
            expected[b, c] = score**3 / (score**2 + 1)
    return expected


def test_scores_are_those_of_the_definition_where_much_is_missing():
    random = np.random.default_rng(0)
    value = random.normal(size=(40, 4, 3)) * [1.0, 2.0, 0.5]
    value[:, 1] = value[:, 0] + 0.1 * random.normal(size=(40, 3))
    present = (random.random((40, 4, 3)) < 0.8).astype(float)
    present[:, 2, 0] = present[:, 3, 1:] = 0  # the last two share no assay
    value[present == 0] = 1e9  # what is stored there means nothing
    noise = 0.1 * random.random((40, 4, 3))
    found = similarity_scores(*(torch.tensor(x).double() for x in (value, present, noise)))
    np.testing.assert_allclose(found, by_loops(value, present, noise), atol=2e-4)
    assert found[2, 3] == found[3, 2] == 0
    assert found[0].argmax() == 1


def test_equal_distances_give_equal_weights():
    value = torch.eye(5).repeat(6, 1, 1).permute(0, 2, 1).reshape(30, 5, 1)
    scores = similarity_scores(value, torch.ones(30, 5, 1), torch.zeros(30, 5, 1))
    torch.testing.assert_close(scores, torch.zeros(5, 5), atol=1e-5, rtol=0)


def test_weights_are_steeper_or_flatter_by_assay():
    affinity = BiosampleAffinity(3, 2)
    affinity.learn(torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, -2.0], [0.5, -0.5, 0.0]]))
    torch.nn.init.constant_(affinity.log_steepness_a, 0.0)
    with torch.no_grad():
        affinity.log_steepness_a[1] = np.log(3)
    weight = affinity(torch.tensor([1]))
    assert weight.detach().numpy() == pytest.approx(np.array([[[2, 0, -2], [6, 0, -6]]]), abs=1e-5)


def test_known_biosamples_keep_their_scores_in_a_larger_grid():
    known, larger = BiosampleAffinity(2, 1), BiosampleAffinity(3, 2)
    known.learn(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    larger.learn(torch.full((3, 3), 9.0))
    larger.extend_from(known)
    assert larger.score_bb.tolist() == [[0, 1, 9], [2, 0, 9], [9, 9, 9]]


def test_a_single_shared_region_says_nothing():
    value_rba, present_rba = torch.randn(9, 3, 1, generator=torch.Generator().manual_seed(2)), torch.ones(9, 3, 1)
    present_rba[1:, 2] = 0
    score_bb = similarity_scores(value_rba, present_rba, torch.zeros(9, 3, 1))
    assert (score_bb[2] == 0).all() and (score_bb[:, 2] == 0).all()
