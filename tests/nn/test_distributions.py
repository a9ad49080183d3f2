"""Count distributions against mpmath, exact sums and the definitions of their parameterisations."""

import warnings

import mpmath
import pytest
import scvi.distributions
import torch

from chipvi.nn import NegativeBinomial, Poisson, TwoStateNegativeBinomial, ZeroInflatedNegativeBinomial

MEANS = [1e-6, 1e-3, 0.3, 7.0, 300.0, 1e6]
DISPERSIONS = [1e-4, 1e-2, 0.5, 3.0, 49.9, 50.1, 1e3, 1e4, 1e6]
COUNTS = [0, 1, 2, 9, 250, 10_000, 1_000_000]


def grid(dispersion):
    """Mean, dispersion and counts, float32, for every pair of MEANS and COUNTS."""
    mean, counts = torch.meshgrid(torch.tensor(MEANS), torch.tensor(COUNTS, dtype=torch.float32), indexing="ij")
    return mean.flatten(), torch.full((mean.numel(),), dispersion), counts.flatten()


def exact_log_prob(k, m, t):
    """The textbook formula, at the precision of the moment."""
    choose = mpmath.loggamma(k + t) - mpmath.loggamma(t) - mpmath.loggamma(k + 1)
    return choose + k * mpmath.log(m / (m + t)) + t * mpmath.log(t / (t + m))


def exact(function, *tensors):
    """`function` applied to the rows of `tensors` with 50 digits, as float64."""
    with mpmath.workdps(50):
        rows = zip(*(x.tolist() for x in tensors), strict=True)
        return torch.tensor([float(function(*map(mpmath.mpf, row))) for row in rows], dtype=torch.float64)


def gradients(mean, dispersion, counts):
    mean, dispersion = mean.clone().requires_grad_(), dispersion.clone().requires_grad_()
    return torch.autograd.grad(NegativeBinomial(mean, dispersion).log_prob(counts).sum(), [mean, dispersion])


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_log_prob_is_exact_for_float32_parameters(dispersion):
    mean, dispersion, counts = grid(dispersion)
    log_prob = NegativeBinomial(mean, dispersion).log_prob(counts)
    assert log_prob.dtype == torch.float64
    torch.testing.assert_close(log_prob, exact(exact_log_prob, counts, mean, dispersion), rtol=1e-14, atol=1e-7)


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_gradient_in_the_mean_points_towards_the_counts(dispersion):
    mean, dispersion, counts = grid(dispersion)
    gradient, _ = gradients(mean, dispersion, counts)
    assert torch.equal(gradient.sign(), (counts - mean).sign())
    slope = exact(lambda k, m, t: mpmath.diff(lambda x: exact_log_prob(k, x, t), m), counts, mean, dispersion)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_gradient_in_the_dispersion_is_that_of_numerical_differentiation(dispersion):
    mean, dispersion, counts = grid(dispersion)
    _, gradient = gradients(mean, dispersion, counts)
    slope = exact(lambda k, m, t: mpmath.diff(lambda x: exact_log_prob(k, m, x), t), counts, mean, dispersion)
    assert torch.equal(gradient.sign(), slope.float().sign())
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dispersion", [1e-4, 1.0, 1e6])
def test_gradient_in_the_mean_vanishes_at_the_counts(dispersion):
    counts = torch.tensor([1.0, 9.0, 1e6])
    gradient, _ = gradients(counts, torch.full((3,), dispersion), counts)
    assert torch.equal(gradient, torch.zeros(3))


@pytest.mark.parametrize("dispersion", [1e-3, 3.0, 1e4])
def test_bfloat16_parameters_are_cast_up(dispersion):
    mean = torch.tensor([[1e-3], [7.0], [4e4]]).bfloat16().requires_grad_()
    dispersion = torch.tensor(dispersion).bfloat16().requires_grad_()
    counts = torch.tensor([0.0, 50_000.0])
    low = NegativeBinomial(mean, dispersion)
    assert low.mean.dtype == low.variance.dtype == torch.float32
    log_prob = low.log_prob(counts)
    torch.testing.assert_close(log_prob, NegativeBinomial(mean.float(), dispersion.float()).log_prob(counts))
    log_prob[:, 1].sum().backward()
    assert mean.grad.dtype == dispersion.grad.dtype == torch.bfloat16
    assert mean.grad.isfinite().all()
    assert (mean.grad > 0).all()
    assert dispersion.grad.isfinite()


def test_the_limit_at_large_dispersion_is_the_poisson():
    counts, mean = torch.tensor([0.0, 3.0, 250.0, 1e6]), torch.tensor([0.2, 3.0, 300.0, 1e6])
    torch.testing.assert_close(
        NegativeBinomial(mean, torch.tensor(1e25)).log_prob(counts),
        Poisson(mean).log_prob(counts),
        rtol=1e-13,
        atol=1e-7,
    )


def test_a_mean_of_zero_allows_only_zero():
    log_prob = NegativeBinomial(torch.tensor(0.0), torch.tensor(2.0)).log_prob(torch.tensor([0.0, 1.0]))
    assert log_prob.tolist() == [0.0, float("-inf")]


def two_states(mean, single=1.0, log_total=0.0, between_logit=0.0, background_logit=0.0):
    return TwoStateNegativeBinomial(
        torch.as_tensor(mean), *map(torch.tensor, (single, log_total, between_logit, background_logit))
    )


SUMMED = {
    "NegativeBinomial, scattered": NegativeBinomial(torch.tensor([1.5]), torch.tensor([0.02])),
    "NegativeBinomial, plain": NegativeBinomial(torch.tensor([20.0]), torch.tensor([5.0])),
    "NegativeBinomial, nearly Poisson": NegativeBinomial(torch.tensor([300.0]), torch.tensor([1e6])),
    "Poisson": Poisson(torch.tensor([2000.0])),
    "ZeroInflated": ZeroInflatedNegativeBinomial(torch.tensor([20.0]), torch.tensor([5.0]), torch.tensor([-1.0])),
    "ZeroInflated, nearly Poisson": ZeroInflatedNegativeBinomial(
        torch.tensor([300.0]), torch.tensor([1e6]), torch.tensor([2.0])
    ),
    "TwoState, most within": two_states([20.0], 5.0, 0.5, -3.0, 1.0),
    "TwoState, most between": two_states([3.0], 5.0, -1.0, 2.0, -1.0),
    "TwoState, a rare peak": two_states([2.0], 5.0, -3.0, 3.0, 3.0),
}


@pytest.mark.parametrize("distribution", SUMMED.values(), ids=SUMMED.keys())
def test_probabilities_sum_to_one_and_to_the_moments(distribution):
    counts = torch.arange(5000, dtype=torch.float64)
    probability = distribution.log_prob(counts).exp()
    mean = (probability * counts).sum()
    moments = torch.stack([probability.sum(), mean, (probability * (counts - mean) ** 2).sum()])
    expected = torch.cat([torch.ones(1), distribution.mean, distribution.variance])
    torch.testing.assert_close(moments, expected.double(), rtol=1e-6, atol=0)


def test_from_failures_counts_successes_before_the_nth_failure():
    n, p, counts = 3, 0.2, torch.arange(40)
    expected = exact(lambda k: mpmath.log(mpmath.binomial(k + n - 1, k) * mpmath.mpf(p) ** n * (1 - p) ** k), counts)
    distribution = NegativeBinomial.from_failures(torch.tensor(3.0), torch.tensor(p))
    torch.testing.assert_close(distribution.log_prob(counts), expected, rtol=1e-6, atol=0)
    assert distribution.mean.item() == pytest.approx(12.0)


def test_from_logits_is_torch_own_negative_binomial():
    total_count, logits = torch.tensor([0.5, 5.0, 40.0]).double(), torch.tensor([-3.0, 1.4, 0.0]).double()
    ours = NegativeBinomial.from_logits(total_count, logits)
    theirs = torch.distributions.NegativeBinomial(total_count, logits=logits)
    counts = torch.tensor([[0.0], [1.0], [30.0], [200.0]]).double()  # in float32, torch's lgamma is off
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.log_prob(counts), theirs.log_prob(counts))


def test_from_moments_returns_the_moments():
    mean, variance = torch.tensor([0.01, 3.0, 50.0, 1e5]), torch.tensor([0.02, 3.5, 5000.0, 2e5])
    distribution = NegativeBinomial.from_moments(mean, variance)
    assert torch.equal(distribution.mean, mean)
    torch.testing.assert_close(distribution.variance, variance)


@pytest.mark.parametrize("mean", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0], ids=lambda ratio: f"variance={ratio}*mean")
def test_from_moments_falls_back_to_the_poisson(mean, ratio):
    mean = torch.tensor(mean)
    distribution = NegativeBinomial.from_moments(mean, ratio * mean)
    torch.testing.assert_close(distribution.variance, mean, rtol=2e-6, atol=0)
    counts = torch.tensor([0.0, 1.0, 1e6])
    near = (counts - mean).abs() < 10 * mean.sqrt()
    torch.testing.assert_close(
        distribution.log_prob(counts)[near], Poisson(mean).log_prob(counts)[near], rtol=0, atol=1e-4
    )


def test_from_moments_accepts_a_mean_of_zero():
    assert NegativeBinomial.from_moments(torch.zeros(2), torch.zeros(2)).log_prob(torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("rate", [1e-6, 10.0, 5e4, 1e6])
def test_poisson_log_prob_is_exact_for_float32_rates(rate):
    rate, counts = torch.tensor(rate), torch.tensor(COUNTS).float()
    expected = exact(lambda k: k * mpmath.log(rate.item()) - rate.item() - mpmath.loggamma(k + 1), counts)
    torch.testing.assert_close(Poisson(rate).log_prob(counts), expected, rtol=1e-14, atol=1e-7)


@pytest.mark.parametrize("logit", [-30.0, -4.0, 0.0, 30.0])
def test_zero_inflated_log_prob_is_that_of_the_mixture(logit):
    mean, dispersion, counts = grid(2.0)

    def mixture(k, m, t):
        extra = 1 / (1 + mpmath.exp(-logit))
        return mpmath.log((1 - extra) * mpmath.exp(exact_log_prob(k, m, t)) + (extra if k == 0 else 0))

    log_prob = ZeroInflatedNegativeBinomial(mean, dispersion, torch.tensor(logit)).log_prob(counts)
    torch.testing.assert_close(log_prob, exact(mixture, counts, mean, dispersion), rtol=1e-10, atol=1e-10)


def logistic(x):
    return 1 / (1 + mpmath.exp(-mpmath.mpf(x)))


@pytest.mark.parametrize("logits", [(-2.0, 0.0), (3.0, 3.0), (-8.0, 8.0), (8.0, -8.0)], ids=str)
@pytest.mark.parametrize("log_total", [-4.0, 0.0, 6.0])
def test_two_state_log_prob_is_that_of_the_mixture(logits, log_total):
    mean, counts = (
        x.flatten()
        for x in torch.meshgrid(torch.tensor([1e-3, 0.3, 7.0, 300.0]), torch.tensor(COUNTS[:6]).float(), indexing="ij")
    )

    def mixture(k, m):
        total, between, background = (mpmath.mpf(x) for x in (mpmath.exp(log_total), *map(logistic, logits)))
        peak = (1 - background) ** 2 * total / between
        peak = peak / (1 + peak)
        dispersion = (total + between) / (1 - between)
        parts = (1 - peak, background * m), (peak, (background + (1 - background) / peak) * m)
        return mpmath.log(sum(w * mpmath.exp(exact_log_prob(k, part, dispersion)) for w, part in parts))

    log_prob = two_states(mean, 1.0, log_total, *logits).log_prob(counts)
    assert log_prob.dtype == torch.float64
    torch.testing.assert_close(log_prob, exact(mixture, counts, mean), rtol=1e-6, atol=1e-6)


def test_two_states_without_difference_are_one_negative_binomial():
    mean, counts = torch.tensor([0.2, 7.0, 300.0])[:, None], torch.tensor([0.0, 3.0, 250.0])
    found = two_states(mean, 1.0, 0.7, -40.0, 0.5)
    expected = NegativeBinomial(mean, torch.tensor(0.7).exp())
    torch.testing.assert_close(found.log_prob(counts), expected.log_prob(counts), rtol=1e-6, atol=1e-6)


def test_factors_multiply_the_mean_and_every_dispersion():
    log_factors = torch.tensor(0.4), torch.tensor(-0.3)
    found = two_states([3.0], 5.0, -1.0, 2.0, -1.0).scaled(*log_factors)
    assert found.mean.item() == pytest.approx(3.0 * 2.718281828**0.4, rel=1e-6)
    assert found.theta.item() == pytest.approx(5.0 * 2.718281828**-0.3, rel=1e-6)
    torch.testing.assert_close(found.variance - found.mean, found.mean**2 * torch.exp(torch.tensor([1.3])))
    one = NegativeBinomial(torch.tensor([3.0]), torch.tensor([5.0])).scaled(*log_factors)
    assert (one.mean, one.theta) == (found.mean, found.theta)


SAMPLED = {
    "NegativeBinomial": lambda mean: NegativeBinomial(mean, torch.tensor(2.0)),
    "Poisson": Poisson,
    "ZeroInflated": lambda mean: ZeroInflatedNegativeBinomial(mean, torch.tensor(2.0), torch.tensor(-1.0)),
    "TwoState": lambda mean: two_states(mean, 1.0, 0.3, 0.0, -1.0),
}


@pytest.mark.parametrize("build", SAMPLED.values(), ids=SAMPLED.keys())
def test_samples_follow_the_generator_and_the_moments(build):
    distribution = build(torch.tensor([0.5, 30.0, 2000.0]))
    draw = distribution.sample((20_000,), generator=torch.Generator().manual_seed(0))
    assert draw.shape == (20_000, 3)
    assert draw.dtype == torch.float32
    assert torch.equal(draw, distribution.sample((20_000,), generator=torch.Generator().manual_seed(0)))
    assert torch.equal(draw, draw.round())
    error = (draw.double().mean(0) - distribution.mean) / (distribution.variance / len(draw)).sqrt()
    assert error.abs().max() < 4
    torch.testing.assert_close(draw.var(0), distribution.variance, rtol=0.1, atol=0)


@pytest.mark.parametrize("build", SAMPLED.values(), ids=SAMPLED.keys())
def test_samples_without_arguments_have_the_shape_of_the_parameters(build):
    assert build(torch.ones(2, 3)).sample().shape == (2, 3)


@pytest.mark.parametrize("mean", [0.0, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("dispersion", [1e-4, 1.0, 1e6])
def test_samples_are_finite_at_the_extremes(mean, dispersion):
    distribution = NegativeBinomial(torch.full((1000,), mean), torch.tensor(dispersion))
    draw = distribution.sample(generator=torch.Generator().manual_seed(1))
    assert draw.isfinite().all()
    assert (draw >= 0).all()


def test_scattered_samples_of_a_large_mean_keep_the_mean():
    draw = NegativeBinomial(torch.tensor(1e9), torch.tensor(0.5)).sample((50_000,), torch.Generator().manual_seed(2))
    assert draw.double().mean().item() == pytest.approx(1e9, rel=0.03)


@pytest.mark.parametrize(("mean", "dispersion"), [(-1.0, 2.0), (float("nan"), 2.0), (1.0, 0.0), (1.0, -2.0)])
def test_validation_rejects_parameters_outside_their_range(mean, dispersion):
    with pytest.raises(ValueError, match="found invalid values"):
        NegativeBinomial(torch.tensor(mean), torch.tensor(dispersion), validate_args=True)


@pytest.mark.parametrize("build", [NegativeBinomial, lambda *a, **k: ZeroInflatedNegativeBinomial(*a, a[0], **k)])
@pytest.mark.parametrize("counts", [-1.0, 0.5])
def test_validation_warns_of_counts_outside_the_support(build, counts):
    mean, dispersion, counts = torch.ones(3), torch.ones(3), torch.full((3,), counts)
    with pytest.warns(UserWarning, match="outside the support"):
        build(mean, dispersion, validate_args=True).log_prob(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(mean, dispersion).log_prob(counts)


def test_the_host_knows_the_distributions():
    distribution = NegativeBinomial(torch.ones(4, 1), torch.full((3,), 2.0), scale=torch.ones(4, 3))
    assert isinstance(distribution, scvi.distributions.NegativeBinomial)
    assert distribution.mu.shape == distribution.theta.shape == distribution.batch_shape == (4, 3)
    assert torch.equal(distribution.get_normalized("mu"), distribution.mean)
    assert torch.equal(distribution.get_normalized("scale"), torch.ones(4, 3))
    assert isinstance(Poisson(torch.ones(3)), scvi.distributions.Poisson)
    assert isinstance(SAMPLED["ZeroInflated"](torch.ones(3)), scvi.distributions.ZeroInflatedNegativeBinomial)


def test_gradients_sum_over_broadcast_parameters():
    mean, dispersion = torch.full((5, 3), 2.0, requires_grad=True), torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    counts = torch.arange(15.0).reshape(5, 3)
    NegativeBinomial(mean, dispersion).log_prob(counts).sum().backward()
    _, per_entry = gradients(mean.detach(), dispersion.detach().expand(5, 3), counts)
    torch.testing.assert_close(dispersion.grad, per_entry.sum(0))
