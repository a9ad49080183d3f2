"""What is expected of experiments that training never saw: integrated over its uncertainty, by view."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chipvi.data.grid import CellStart
from chipvi.data.track_data import ViewKind
from chipvi.module.calibration import Unseen
from chipvi.module.views import CountView, Reference, SignalView
from chipvi.nn import make_count_head

CELLS = (torch.tensor([0, 1, 1]), torch.tensor([1, 0, 3]))
MEAN = np.array([0.3, 0.2, -0.1])
STD = np.array([0.2, 0.15, 0.2])


def make_view(kind, std=STD):
    """Two biosamples and four assays, of which the first is known in both."""
    random = np.random.default_rng(0)
    start = CellStart(*random.normal(size=(2, 2, 4)).astype(np.float32))
    known_ba = np.array([[True, False, True, False], [True, True, False, False]])
    view = (
        CountView(make_count_head("mean_dispersion"), start, known_ba)
        if kind is ViewKind.COUNTS
        else SignalView(start, known_ba)
    )
    view.unseen.set(np.ones((2, 4), dtype=bool), *(np.tile(x, (2, 4, 1)) for x in (MEAN, std)))
    return view


def make_inputs():
    """Network's mean and spread, and the average, regions x targets."""
    random = np.random.default_rng(1)
    return (torch.tensor(random.gamma(3, 2, size=(5, 3)), dtype=torch.float32) for _ in range(3))


def reference(average_rn, may_blend=1.0, is_imputed=True):
    return Reference(average_rn, torch.full_like(average_rn, may_blend), torch.full((3,), is_imputed))


@pytest.mark.parametrize("kind", list(ViewKind), ids=str)
def test_mean_and_variance_are_those_over_draws_of_the_unknowns(kind):
    view = make_view(kind)
    network_rn, spread_rn, average_rn = make_inputs()
    found_mean, found_spread = (x.numpy() for x in view.expect(network_rn, spread_rn, reference(average_rn), CELLS))
    network_rn, spread_rn, average_rn = (x.double().numpy() for x in (network_rn, spread_rn, average_rn))
    draws = np.random.default_rng(2).normal(MEAN, STD, size=(100_000, 1, 1, 3))
    weight, amplitude, factor = draws[..., 0], np.exp(draws[..., 1]), np.exp(draws[..., 2])
    blended = (1 - weight) * network_rn + weight * average_rn
    if kind is ViewKind.COUNTS:
        mean = amplitude * blended
        variance = (mean + mean**2 / (spread_rn * factor)).mean(axis=0) + mean.var(axis=0)
        found_variance = found_mean + found_mean**2 / found_spread
    else:
        level_n = view.level_ba[CELLS].double().numpy()
        mean = level_n + amplitude * (blended - level_n)
        variance = (spread_rn**2 * factor**2).mean(axis=0) + mean.var(axis=0)
        found_variance = found_spread**2
    np.testing.assert_allclose(found_mean, mean.mean(axis=0), rtol=0.01)
    np.testing.assert_allclose(found_variance, variance, rtol=0.05)


@pytest.mark.parametrize("kind", list(ViewKind), ids=str)
def test_not_knowing_widens(kind):
    network_rn, spread_rn, average_rn = make_inputs()
    _, sure_rn = make_view(kind, std=np.zeros(3)).expect(network_rn, spread_rn, reference(average_rn), CELLS)
    _, unsure_rn = make_view(kind).expect(network_rn, spread_rn, reference(average_rn), CELLS)
    is_wider = unsure_rn < sure_rn if kind is ViewKind.COUNTS else unsure_rn > sure_rn  # a dispersion is an inverse
    assert is_wider.all()


@pytest.mark.parametrize("kind", list(ViewKind), ids=str)
def test_without_any_trial_the_average_is_blended_and_nothing_else(kind):
    view = make_view(kind)
    view.unseen = Unseen(np.array([[True, False, True, False], [True, True, False, False]]))
    network_rn, spread_rn, average_rn = make_inputs()
    mean_rn, found_rn = view.expect(network_rn, spread_rn, reference(average_rn), CELLS)
    weight_n = torch.tensor([0.5, 0.25, 0.5])  # two biosamples taught the first assay
    torch.testing.assert_close(mean_rn, (1 - weight_n) * network_rn + weight_n * average_rn)
    torch.testing.assert_close(found_rn, spread_rn)


@pytest.mark.parametrize("kind", list(ViewKind), ids=str)
def test_own_data_say_more_than_any_expectation(kind):
    view = make_view(kind)
    network_rn, spread_rn, average_rn = make_inputs()
    mean_rn, found_rn = view.expect(network_rn, spread_rn, reference(average_rn, 0.0, False), CELLS)
    torch.testing.assert_close(mean_rn, network_rn)
    torch.testing.assert_close(found_rn, spread_rn)


def test_means_of_counts_stay_above_0_whatever_the_weight():
    view = make_view(ViewKind.COUNTS, std=np.array([3.0, 0.1, 0.1]))
    network_rn, spread_rn, average_rn = make_inputs()
    for one in view.expect(network_rn, spread_rn, reference(10 * average_rn), CELLS):
        assert (one > 0).all() and torch.isfinite(one).all()
