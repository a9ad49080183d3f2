"""What the network looks at, against plain loops over biosamples and assays."""

from __future__ import annotations

import numpy as np
import torch

from chipvi.module.features import TrackGrid
from chipvi.module.inputs import NO_ASSAY, Queries, WindowMeans

# 4 biosamples x 3 assays, in which three cells have no track
TRACK_BA = torch.tensor([[0, 1, 2], [3, -1, 4], [-1, 5, 6], [7, -1, 8]])


def make_grid():
    cells = {int(TRACK_BA[b, a]): (b, a) for b in range(4) for a in range(3) if TRACK_BA[b, a] >= 0}
    biosample_t, assay_t = torch.tensor([cells[t] for t in range(9)]).T
    return TrackGrid(biosample_t, assay_t, TRACK_BA, TRACK_BA)


def make_means(seed=0):
    """5 regions, 9 tracks, 2 windows; in some regions some tracks are hidden."""
    random = np.random.default_rng(seed)
    value_rts = torch.from_numpy(random.gamma(1.0, 2.0, (5, 9, 2)).astype(np.float32))
    return WindowMeans(value_rts, torch.from_numpy((random.random((5, 9)) < 0.6).astype(np.float32)))


def log_weights(n_queries):
    return torch.randn(n_queries, 3, 4, generator=torch.Generator().manual_seed(1))


def test_averages_are_those_of_the_other_biosamples_in_which_an_assay_is_visible():
    means, biosample_q = make_means(), torch.tensor([2, 0])
    log_weight_qab = log_weights(2)
    found = make_grid().averages_of_others(means, biosample_q, log_weight_qab)
    assert found.equal.value_rqas.shape == (5, 2, 3, 2)
    for r, q, a in np.ndindex(5, 2, 3):
        others = [b for b in range(4) if b != biosample_q[q] and TRACK_BA[b, a] >= 0]
        weight_b = {b: float(log_weight_qab[q, a, b].exp()) for b in others}
        seen = [b for b in others if means.present_rt[r, TRACK_BA[b, a]] > 0]
        for s in range(2):
            value_b = {b: float(means.value_rts[r, TRACK_BA[b, a], s]) for b in seen}
            equal = np.mean(list(value_b.values())) if seen else 0.0
            total = sum(weight_b[b] for b in seen)
            weighted = sum(weight_b[b] * value_b[b] for b in seen) / total if seen else 0.0
            np.testing.assert_allclose(found.equal.value_rqas[r, q, a, s], equal, rtol=1e-5)
            np.testing.assert_allclose(found.weighted.value_rqas[r, q, a, s], weighted, rtol=1e-5)
        assert found.equal.present_rqa[r, q, a] == found.weighted.present_rqa[r, q, a] == float(bool(seen))
        trust = sum(weight_b[b] for b in seen) / sum(weight_b.values())
        np.testing.assert_allclose(found.trust_rqa[r, q, a], trust, rtol=1e-5)


def test_own_and_hidden_tracks_leave_no_bit_in_the_averages():
    means, biosample_q = make_means(), torch.tensor([1, 3, 0, 2])
    plain = make_grid().averages_of_others(means, biosample_q, log_weights(4))
    for q, b in enumerate(biosample_q.tolist()):
        is_own_t = torch.isin(torch.arange(9), TRACK_BA[b])
        value_rts = torch.where(is_own_t[:, None] | (means.present_rt == 0)[..., None], 1e30, means.value_rts)
        other = make_grid().averages_of_others(WindowMeans(value_rts, means.present_rt), biosample_q, log_weights(4))
        for one, same in ((plain.equal, other.equal), (plain.weighted, other.weighted)):
            assert torch.equal(one.value_rqas[:, q], same.value_rqas[:, q])


def test_targets_are_picked_by_biosample_and_assay():
    x_rqas = torch.randn(5, 3, 4, 2)
    assay_qg = torch.tensor([[1, 3], [0, 0]])
    nobody_q = torch.zeros(2, dtype=torch.int64)
    at_places = Queries(nobody_q, nobody_q, torch.tensor([NO_ASSAY, 0]), assay_qg, place_q=torch.tensor([2, 0]))
    as_they_are = Queries(nobody_q, nobody_q, nobody_q, assay_qg)
    for q in range(2):
        assert torch.equal(at_places.pick(x_rqas)[:, q], x_rqas[:, [2, 0][q]][:, assay_qg[q]])
        assert torch.equal(as_they_are.pick(x_rqas[:, :2])[:, q], x_rqas[:, q][:, assay_qg[q]])
        assert torch.equal(at_places.look_up(x_rqas)[:, q], x_rqas[:, [2, 0][q]])
    assert at_places.may_see_qa(4).tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
    assert at_places.may_see_qg.tolist() == [[1, 1], [0, 0]]
