"""One contract for all count heads, and what each has to itself."""

import math

import pytest
import torch

from chipvi.nn import COUNT_HEADS, ClampedNP, GaussianHead, NegativeBinomial, make_count_head

MEANS = torch.tensor([1e-3, 0.2, 1.0, 30.0])
DISPERSIONS = torch.tensor([0.02, 0.5, 5.0, 300.0, 1e4])

HEADS = {name: make_count_head(name) for name in COUNT_HEADS}
HEADS["clamped_np, no clamps"] = make_count_head("clamped_np", logit_clamp=None, count_floor=None)
WITH_DISPERSION = {name: head for name, head in HEADS.items() if name != "poisson"}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
every_head_with_dispersion = pytest.mark.parametrize("head", WITH_DISPERSION.values(), ids=WITH_DISPERSION.keys())


def starts():
    """Log mean and log dispersion, for every pair the clamps of ClampedNP allow: shape (pairs,) each."""
    mean, dispersion = torch.meshgrid(MEANS, DISPERSIONS, indexing="ij")
    within = (mean.log() - dispersion.log()).abs() < 9
    return mean[within].log(), dispersion[within].log()


def bounded(head, *inputs):
    """Whether any entry is at any bound."""
    return any(at.any() for at in head.at_bounds(*inputs).values())


@every_head
def test_raw_zero_gives_the_starting_mean(head):
    log_mean, log_dispersion = starts()
    distribution = head(torch.zeros(*log_mean.shape, head.n_outputs), log_mean, log_dispersion)
    torch.testing.assert_close(distribution.mean, log_mean.exp(), rtol=3e-6, atol=0)
    assert distribution.batch_shape == log_mean.shape
    assert not bounded(head, torch.zeros(*log_mean.shape, head.n_outputs), log_mean, log_dispersion - 1e-6)


@every_head_with_dispersion
def test_raw_zero_gives_the_starting_dispersion(head):
    log_mean, log_dispersion = starts()
    distribution = head(torch.zeros(*log_mean.shape, head.n_outputs), log_mean, log_dispersion)
    torch.testing.assert_close(distribution.theta, log_dispersion.exp(), rtol=3e-6, atol=0)


@every_head
def test_doubling_the_depth_doubles_the_mean(head):
    log_mean, log_dispersion = starts()
    raw = torch.empty(*log_mean.shape, head.n_outputs).uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(0))
    single = head(raw, log_mean - math.log(2), log_dispersion)
    double = head(raw, log_mean, log_dispersion)
    torch.testing.assert_close(double.mean, 2 * single.mean, rtol=5e-6, atol=0)


@every_head
def test_the_first_raw_number_raises_the_mean(head):
    raw = torch.zeros(2, head.n_outputs)
    raw[1, 0] = 1.0
    low, high = head(raw, torch.tensor(0.5), torch.tensor(1.0)).mean
    assert high.item() == pytest.approx(math.e * low.item(), rel=1e-5)


@every_head
@pytest.mark.parametrize("dispersion", [0.02, 5.0, 1e4])
def test_probabilities_sum_to_one_in_float32(head, dispersion):
    counts = torch.arange(12_000.0)
    raw = torch.full((1, head.n_outputs), 0.1)
    distribution = head(raw, torch.tensor([1.0, 3.0]).log()[:, None], torch.tensor(dispersion).log())
    total = distribution.log_prob(counts).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(2).double(), rtol=0, atol=1e-6)


@every_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("log_mean", [-8.0, 0.0, 10.0])
def test_extreme_raw_numbers_leave_everything_finite(head, dtype, log_mean):
    extremes = torch.tensor([-1e4, -50.0, -5.0, 0.0, 5.0, 50.0, 1e4])
    raw = torch.cartesian_prod(*[extremes] * head.n_outputs).reshape(-1, 1, head.n_outputs).to(dtype)
    inputs = [raw, torch.tensor(log_mean), torch.tensor(0.5)]
    for x in inputs:
        x.requires_grad_()
    distribution = head(*inputs)
    log_prob = distribution.log_prob(torch.tensor([0.0, 50_000.0]))
    assert log_prob.isfinite().all()
    assert distribution.mean.isfinite().all()
    assert distribution.variance.isfinite().all()
    assert (distribution.mean > 0).all()
    gradients = torch.autograd.grad(log_prob.sum(), inputs, allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@every_head
def test_starts_out_of_range_leave_everything_finite(head):
    log_mean, log_dispersion = torch.cartesian_prod(*[torch.tensor([-200.0, 0.0, 200.0])] * 2).unbind(-1)
    log_dispersion.requires_grad_()
    distribution = head(torch.zeros(9, head.n_outputs, requires_grad=True), log_mean, log_dispersion)
    log_prob = distribution.log_prob(torch.tensor(7.0))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert log_dispersion.grad is None or log_dispersion.grad.isfinite().all()


@pytest.mark.parametrize("name", ["mean_dispersion", "count_logits", "poisson"])
@pytest.mark.parametrize(("raw", "counts"), [(-50.0, 3.0), (50.0, 3.0)], ids=["far below", "far above"])
def test_gradients_lead_back_from_beyond_the_bounds(name, raw, counts):
    head = make_count_head(name)
    start = torch.zeros(head.n_outputs)
    start[0] = raw
    start.requires_grad_()
    head(start, torch.tensor(0.0), torch.tensor(1.0)).log_prob(torch.tensor(counts)).backward()
    assert bounded(head, start, torch.tensor(0.0), torch.tensor(1.0))
    assert start.grad[0] * raw < 0


@every_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_leaves_parameters_in_float32(head, dtype):
    raw = torch.full((5, 3, head.n_outputs), 0.7, dtype=dtype)
    log_mean, log_dispersion = torch.linspace(-3, 5, 3), torch.linspace(-2, 4, 3)
    expected = head(raw.float(), log_mean, log_dispersion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distribution = head(raw, log_mean, log_dispersion)
        log_prob = distribution.log_prob(torch.tensor(17.0))
    assert distribution.mean.dtype == distribution.variance.dtype == torch.float32
    torch.testing.assert_close(distribution.mean, expected.mean)
    torch.testing.assert_close(log_prob, expected.log_prob(torch.tensor(17.0)))


@every_head
def test_float64_stays_float64(head):
    log_mean, log_dispersion = (x.double() for x in starts())
    distribution = head(torch.zeros(*log_mean.shape, head.n_outputs).double(), log_mean, log_dispersion)
    torch.testing.assert_close(distribution.mean, log_mean.exp(), rtol=1e-9, atol=0)


@every_head
def test_a_head_has_no_parameters(head):
    assert not list(head.state_dict())


@every_head
def test_too_many_raw_numbers_are_an_error(head):
    with pytest.raises(ValueError, match=rf"takes {head.n_outputs} raw numbers.*\(5, {head.n_outputs + 1}\)"):
        head(torch.zeros(5, head.n_outputs + 1), torch.zeros(5), torch.zeros(5))


@pytest.mark.parametrize("name", ["mean_dispersion", "count_logits", "zero_inflated"])
def test_dispersion_bounds_are_reported(name):
    head = make_count_head(name)
    raw = torch.zeros(4, head.n_outputs)
    raw[:, 1] = torch.tensor([-40.0, -1.0, 1.0, 2e4])
    at_bounds = head.at_bounds(raw, torch.tensor(0.0), torch.tensor(0.0))
    assert at_bounds["dispersion"].tolist() == [True, False, False, True]
    assert list(at_bounds) == ["mean", "dispersion", "zero_logit"][: head.n_outputs]


def test_clamped_np_is_the_clamped_formula():
    raw = torch.tensor([[0.3, -0.4], [30.0, 0.0], [-30.0, 1.0], [0.0, -30.0]])
    log_mean, log_dispersion = math.log(6.0), math.log(2.0)
    start_n, start_logit = math.log(math.expm1(2.0)), log_dispersion - log_mean
    n = torch.nn.functional.softplus((start_n + raw[:, 1].double()).clamp(min=-5))
    p = torch.sigmoid((start_logit - raw[:, 0].double()).clamp(-10, 10))
    head = ClampedNP()
    distribution = head(raw, torch.tensor(log_mean), torch.tensor(log_dispersion))
    torch.testing.assert_close(distribution.mean.double(), n * (1 - p) / p, rtol=1e-5, atol=0)
    torch.testing.assert_close(distribution.theta.double(), n, rtol=1e-5, atol=0)
    at_bounds = head.at_bounds(raw, torch.tensor(log_mean), torch.tensor(log_dispersion))
    assert at_bounds["logit"].tolist() == [False, True, True, False]
    assert at_bounds["count"].tolist() == [False, False, False, True]
    assert not at_bounds["mean"].any()


def test_clamped_np_loses_its_gradient_at_the_clamp_and_keeps_it_without():
    for head, dead in [(ClampedNP(), True), (ClampedNP(logit_clamp=None, count_floor=None), False)]:
        raw = torch.tensor([-14.0, 0.0], requires_grad=True)
        head(raw, torch.tensor(0.0), torch.tensor(0.0)).log_prob(torch.tensor(40.0)).backward()
        assert (raw.grad[0] == 0).item() == dead


def test_clamped_np_starts_at_the_clamp_when_the_start_is_beyond_it():
    head, log_mean, log_dispersion = ClampedNP(), torch.tensor(-11.0), torch.tensor(1.0)
    assert bounded(head, torch.zeros(2), log_mean, log_dispersion)
    assert head(torch.zeros(2), log_mean, log_dispersion).mean.item() == pytest.approx(math.exp(-9.0), rel=1e-5)


def test_zero_inflation_starts_low_and_follows_its_own_number():
    head = make_count_head("zero_inflated", start_logit=-3.0)
    raw = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    distribution = head(raw, torch.tensor(1.0), torch.tensor(1.0))
    torch.testing.assert_close(distribution.zi_probs, torch.tensor([1 / (1 + math.exp(3.0)), 0.5]))
    assert distribution.mu[0] == distribution.mu[1]


def test_the_states_start_near_one_negative_binomial_and_follow_their_own_numbers():
    head = make_count_head("two_state")
    raw = torch.zeros(3, 5)
    raw[1, 3], raw[2, 4] = 2.0, -1.0
    log_mean, log_dispersion = torch.tensor(1.0), torch.tensor(0.5)
    distribution = head(raw, log_mean, log_dispersion)
    total = NegativeBinomial(log_mean.exp(), log_dispersion.exp())
    torch.testing.assert_close(distribution.variance, total.variance.expand(3), rtol=1e-5, atol=0)
    counts = torch.arange(12.0)[:, None]
    assert (distribution.log_prob(counts)[:, 0] - total.log_prob(counts[:, 0])).abs().max() < 0.1
    background = distribution.states.background_mean / distribution.mean
    between = (distribution.states.peak_mean - distribution.mean) * (
        distribution.mean - distribution.states.background_mean
    )
    torch.testing.assert_close(background.float(), torch.sigmoid(torch.tensor([0.0, 0.0, -1.0])))
    share = between * log_dispersion.exp() / distribution.mean**2  # of the overdispersion
    torch.testing.assert_close(share.float(), torch.sigmoid(torch.tensor([-2.0, 0.0, -2.0])), rtol=1e-5, atol=0)


def test_an_unknown_head_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="'gamma'.*'mean_dispersion', 'count_logits', 'clamped_np'"):
        make_count_head("gamma")


def test_gaussian_raw_zero_gives_the_starting_point():
    mean, std = torch.tensor([-1.0, 0.0, 3.0]), torch.tensor([0.11, 0.5, 7.0])
    distribution = GaussianHead()(torch.zeros(5, 3, 2), mean, std.log())
    torch.testing.assert_close(distribution.mean, mean.expand(5, 3))
    torch.testing.assert_close(distribution.stddev, std.expand(5, 3))


def test_gaussian_std_stays_above_the_floor():
    head, log_std = GaussianHead(floor=0.2), torch.tensor([-30.0, 0.0])
    raw = torch.tensor([0.0, -50.0])
    assert (head(raw, torch.tensor(0.0), log_std).stddev >= 0.2).all()
    assert head(torch.zeros(2), torch.tensor(0.0), log_std).stddev[0].item() == pytest.approx(0.2, rel=0.006)
    assert head.at_bounds(raw, torch.tensor(0.0), log_std)["std"].tolist() == [True, True]
    assert head.at_bounds(torch.zeros(2), torch.tensor(0.0), log_std)["std"].tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gaussian_stays_finite_and_in_float32(dtype):
    raw = torch.cartesian_prod(*[torch.tensor([-1e4, -50.0, -5.0, 0.0, 5.0, 50.0, 1e4])] * 2).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_prob = GaussianHead()(raw, torch.tensor(0.5), torch.tensor(-1.0)).log_prob(torch.tensor(2.0))
    log_prob.sum().backward()
    assert log_prob.dtype == torch.float32
    assert log_prob.isfinite().all()
    assert raw.grad.isfinite().all()


def test_gaussian_rejects_bad_arguments():
    with pytest.raises(ValueError, match="floor must be positive, got 0"):
        GaussianHead(floor=0)
    with pytest.raises(ValueError, match="GaussianHead takes 2 raw numbers"):
        GaussianHead()(torch.zeros(4, 3), torch.zeros(4), torch.zeros(4))
