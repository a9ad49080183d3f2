"""What to expect of experiments nobody ran: a hierarchical Bayesian model over the grid of experiments, in Pyro."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..data.grid import Grid
from ..data.splits import MOST_TRIED, draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..module.calibration import Evidence, default_weights
from ..module.vae import ChipVAE
from ..module.views import LEAST_SHARE
from ..predict.predictor import impute_measured, log_depths

_BLOCK = 64  # neighbouring regions that count as one observation of the score
_VAGUE = 2.0  # standard deviation of what a single trial may deviate by, before the hierarchy is asked
_WARM_UP, _DRAWS = 100, 200
_DEEPEST_TREE = 5
_VARIATION = 0.5  # standard deviation of the log of each learnt spread about its prior
_LEAST_INFLATION = 1e-6
_RIDGE, _LEAST_RIDGE = 0.1, 1e-6  # in tracks
_TYPICAL_TRACKS = 1.0  # of middling strength, which each assay is taken to have besides its own


@dataclass(frozen=True)
class Prior:
    """Prior of one unknown: the default plus a level, slopes times two covariates, and three kinds of effects.

    Parameters
    ----------
    level
        Standard deviation of the level.
    biosample_slope, assay_slope
        Means and standard deviations of the slopes on the covariates of biosamples and of assays.
    assay, biosample, cell
        Medians of the standard deviations of the effects of assays, of biosamples and of each cell.
    """

    level: float
    biosample_slope: tuple[float, float]
    assay_slope: tuple[float, float]
    assay: float
    biosample: float
    cell: float


_NO_SLOPE = (0.0, 0.0)
# How far to follow the average depends on how strong a biosample's tracks are, and on the assay: strong ones have more
# signal than noise that biosamples can share.
_WEIGHT = Prior(0.25, biosample_slope=(0.5, 0.5), assay_slope=(0.25, 0.3), assay=0.2, biosample=0.1, cell=0.15)
# A track is as strong as the others of its biosample, give or take half of that.
_LOG_AMPLITUDE = Prior(0.1, biosample_slope=(1.0, 0.5), assay_slope=_NO_SLOPE, assay=0.05, biosample=0.05, cell=0.15)
# Errors are about as large as in trials, but each track may surprise.
_LOG_STD = Prior(0.2, biosample_slope=(0.0, 0.7), assay_slope=_NO_SLOPE, assay=0.1, biosample=0.1, cell=0.3)
_LOG_DISPERSION = Prior(0.4, biosample_slope=(0.0, 0.7), assay_slope=_NO_SLOPE, assay=0.3, biosample=0.3, cell=0.45)
# in the order of `Unseen`
PRIORS = {
    ViewKind.COUNTS: (_WEIGHT, _LOG_AMPLITUDE, _LOG_DISPERSION),
    ViewKind.SIGNAL: (_WEIGHT, _LOG_AMPLITUDE, _LOG_STD),
}


@dataclass(frozen=True, eq=False)
class Trial:
    """A measured track, and what a model that has not seen it makes of it.

    Parameters
    ----------
    biosample, assay
        Indices of its cell of the grid.
    kind
        Which view of it.
    measured_r, network_r, average_r
        The data, the mean that the network gives, and the average of the other biosamples; float64.
    spread_r
        Dispersion of the counts, or standard deviation of the signal, that the network gives.
    level
        That amplitude is about: the mean of the assay's signal; 0 for counts.
    default_u
        What would be expected of the cell without any trial.
    """

    biosample: int
    assay: int
    kind: ViewKind
    measured_r: np.ndarray
    network_r: np.ndarray
    average_r: np.ndarray
    spread_r: np.ndarray
    level: float
    default_u: np.ndarray

    def summarise(self) -> tuple[np.ndarray, np.ndarray]:
        """By how much the unknowns deviate from the default in this trial, and the variances of that.

        Blend weight and amplitude are set by the term with which training matches means (the squared error of signal,
        the quasi-Poisson deviance of counts), for the likelihood hardly cares about the height of peaks; the factor of
        the spread by the model's likelihood, given these.
        """
        from pyro.distributions import GammaPoisson, Normal  # slow to import

        measured_r, network_r, average_r, spread_r = (
            torch.as_tensor(x) for x in (self.measured_r, self.network_r, self.average_r, self.spread_r)
        )
        default_weight, default_log_amplitude, default_log_factor = self.default_u

        def mean(deviation_u: Tensor) -> Tensor:
            weight, log_amplitude = default_weight + deviation_u[0], default_log_amplitude + deviation_u[1]
            mean_r = network_r + weight * (average_r - network_r)
            if self.kind is ViewKind.SIGNAL:
                return self.level + torch.exp(log_amplitude) * (mean_r - self.level)
            return torch.exp(log_amplitude) * torch.maximum(mean_r, LEAST_SHARE * network_r)

        def match(deviation_u: Tensor) -> Tensor:
            mean_r = mean(deviation_u)
            if self.kind is ViewKind.SIGNAL:
                return -0.5 * (measured_r - mean_r).square() / measured_r.var()
            return measured_r * torch.log(mean_r) - mean_r

        deviation_u, variance_u = approximate(match, 2)
        fitted_r = mean(torch.as_tensor(deviation_u))

        def likelihood(deviation_u: Tensor) -> Tensor:
            factor_r = spread_r * torch.exp(default_log_factor + deviation_u[0])
            if self.kind is ViewKind.SIGNAL:
                return Normal(fitted_r, factor_r, validate_args=False).log_prob(measured_r)
            return GammaPoisson(factor_r, factor_r / fitted_r, validate_args=False).log_prob(measured_r)

        log_factor_u, its_variance_u = approximate(likelihood, 1)
        return np.r_[deviation_u, log_factor_u], np.r_[variance_u, its_variance_u]


def approximate(log_likelihood: Callable[[Tensor], Tensor], n_unknowns: int) -> tuple[np.ndarray, np.ndarray]:
    """Laplace approximation of a likelihood of neighbouring regions: mean, and marginal variances.

    Regions are not independent, and the likelihood may be known up to a factor only. It is tempered, as composite
    likelihoods are (the magnitude adjustment of Ribatet et al. 2012), so that its curvature is that which the
    variation of the score between blocks of regions calls for.

    Parameters
    ----------
    log_likelihood
        Of each region, given unknowns that are the same in all (u) or not (u, r); with second derivatives.
    n_unknowns
        How many, 0 to start from.
    """
    vague_uu = np.eye(n_unknowns) / _VAGUE**2
    mean_u, temper = np.zeros(n_unknowns), 1.0

    def loss(x_u: Tensor) -> Tensor:
        log_likelihood_r = log_likelihood(x_u)
        return 0.5 * (x_u / _VAGUE).square().sum() / (temper * len(log_likelihood_r)) - log_likelihood_r.mean()

    def value_and_gradient(x_u: np.ndarray) -> tuple[float, np.ndarray]:
        point_u = torch.tensor(x_u, requires_grad=True)
        value = loss(point_u)
        return value.item(), torch.autograd.grad(value, point_u)[0].numpy()

    def minus_total(x_u: Tensor) -> Tensor:
        return -log_likelihood(x_u).sum()

    for _ in range(2):  # with the first temper, the vague prior may count too little
        mean_u = minimize(value_and_gradient, mean_u, jac=True, method="BFGS").x
        at_u = torch.tensor(mean_u)
        value_u, vector_uu = np.linalg.eigh(torch.autograd.functional.hessian(minus_total, at_u).numpy())
        hessian_uu = vector_uu * np.maximum(value_u, 0) @ vector_uu.T  # flat where the likelihood is no hill
        x_ur = at_u[:, None].repeat(1, len(log_likelihood(at_u))).requires_grad_()  # each region has its own gradient
        score_ur = torch.autograd.grad(log_likelihood(x_ur).sum(), x_ur)[0].numpy()
        block_r = np.arange(score_ur.shape[1]) // _BLOCK
        score_nu = np.stack([np.bincount(block_r, score_r) for score_r in score_ur], axis=1)
        inflation = np.trace(np.linalg.lstsq(hessian_uu, score_nu.T @ score_nu)[0]) / n_unknowns
        temper = 1 / max(inflation, _LEAST_INFLATION)
    return mean_u, np.diag(np.linalg.inv(temper * hessian_uu + vague_uu))


def try_tracks(
    module: ChipVAE, grid: Grid, seen: TrackData, data: TrackData, columns: np.ndarray, rows: np.ndarray
) -> list[Trial]:
    """Impute tracks without their own data, in blocks of the rows.

    Parameters
    ----------
    module, grid
        To which the cells of these tracks are not known, and its grid.
    seen, data
        What to impute from, and what to compare with.
    columns, rows
        Tracks and ascending rows.
    """
    rows = draw_blocks(rows, MOST_TRIED, bin_width=data.segments.bin_width)
    imputed = impute_measured(module, grid, data, rows, columns, seen, target_log_depth_t=log_depths(module, data))
    known_ba = module.known_array_ba
    default_a = default_weights(known_ba)
    trials = []
    for track in imputed:
        if track.measured_r.var() > 0:
            a = int(grid.assay_t[track.column])
            level_b = module.view(track.kind).level_ba[:, a].double().cpu().numpy()[known_ba[:, a]]
            trials.append(
                Trial(
                    biosample=int(grid.biosample_t[track.column]),
                    assay=a,
                    kind=track.kind,
                    measured_r=track.measured_r,
                    network_r=track.network_r,
                    average_r=track.average_r,
                    spread_r=track.spread_r,
                    level=float(level_b.mean() if len(level_b) else track.network_r.mean()),
                    default_u=np.array([default_a[a], 0.0, 0.0]),
                )
            )
    return trials


def learn_from_given(module: ChipVAE, grid: Grid, data: TrackData, n_biosamples: int, n_assays: int) -> None:
    """Learn what to expect of new biosamples, from the trials of the reference and their own tracks, in place.

    Parameters
    ----------
    module, grid, data
        Of a query.
    n_biosamples, n_assays
        How many biosamples and assays, the first ones, the module was trained on.
    """
    is_given_t = grid.is_target_t & (grid.assay_t < n_assays) & data.measured_t
    trials = []
    for b in range(n_biosamples, len(grid.biosamples)):
        columns = np.flatnonzero(is_given_t & (grid.biosample_t == b))
        if len(columns) >= 2:  # each is imputed from the others
            trials += try_tracks(module, grid, data, data, columns, np.arange(data.n_regions))
    has_data_ba = module.known_array_ba.copy()
    has_data_ba[grid.biosample_t[data.measured_t], grid.assay_t[data.measured_t]] = True
    is_new_ba = np.ones_like(has_data_ba)
    is_new_ba[:n_biosamples, :n_assays] = False
    learn(module, trials, has_data_ba, is_new_ba)


def learn(module: ChipVAE, trials: Sequence[Trial], has_data_ba: np.ndarray, is_set_ba: np.ndarray) -> None:
    """Set what a module expects of cells that it has not seen, from these trials and those it knows of, in place.

    Parameters
    ----------
    module
        To set. Without any trial it stays as it is.
    trials
        New ones.
    has_data_ba
        Cells by which biosamples are compared.
    is_set_ba
        Cells to set.
    """
    default_ba = np.broadcast_to(default_weights(module.known_array_ba), has_data_ba.shape)
    for view in module.views:
        for trial in trials:
            if trial.kind is view.kind:
                view.unseen.record((trial.biosample, trial.assay), *trial.summarise())
        evidence = view.unseen.evidence()
        if len(evidence.biosample_i):
            strength, spread = (
                track_effects(x_ba.double().cpu().numpy(), has_data_ba)
                for x_ba in (view.strength_ba, view.log_spread_ba)
            )
            covariates = Covariates(*(np.stack(x_u, axis=1) for x_u in zip(strength, strength, spread, strict=True)))
            mean_bau, std_bau = infer(evidence, covariates, PRIORS[view.kind])
            mean_bau[..., 0] += default_ba
            view.unseen.set(is_set_ba, mean_bau, std_bau)


def track_effects(value_ba: np.ndarray, has_data_ba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much the values of tracks differ between biosamples, and between assays; the mean of each is about 0.

    Least squares, with effects of the assays and, a little shrunk, of the biosamples. What is left of an assay without
    these is shrunk towards the mean of all assays as if by one more track.

    >>> value_ba = np.array([[1.0, 5.0, 0.0], [3.0, 7.0, 2.0]])
    >>> effect_b, effect_a = track_effects(value_ba, np.array([[True, True, False], [True, True, True]]))
    >>> effect_b.round(2)
    array([-0.95,  0.95])
    >>> effect_a.round(2)
    array([-0.68,  1.99, -0.98])
    """
    b, a = np.nonzero(has_data_ba)
    n_biosamples, n_assays = has_data_ba.shape
    design_ie = np.hstack([np.eye(n_biosamples)[b], np.eye(n_assays)[a]])
    ridge_ee = np.diag(np.r_[np.full(n_biosamples, _RIDGE), np.full(n_assays, _LEAST_RIDGE)])
    effect_e = np.linalg.solve(design_ie.T @ design_ie + ridge_ee, design_ie.T @ value_ba[b, a])
    effect_b, level_a = effect_e[:n_biosamples], effect_e[n_biosamples:]
    number_a = has_data_ba.sum(axis=0)
    typical = level_a[number_a > 0].mean()
    effect_a = np.where(number_a > 0, level_a - typical, 0) * number_a / (number_a + _TYPICAL_TRACKS)
    return effect_b - effect_b.mean(), effect_a


@dataclass(frozen=True, eq=False)
class Covariates:
    """What the unknowns (u) of a cell may depend on: numbers of its biosample (b, u), and of its assay (a, u)."""

    biosample_bu: np.ndarray
    assay_au: np.ndarray


def infer(
    evidence: Evidence, covariates: Covariates, priors: Sequence[Prior], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of the unknowns in every cell, as deviations from the defaults.

    Level, slopes and effects are normal. Given the standard deviations of the three kinds of effects, which have
    log-normal priors, they are integrated in closed form; the standard deviations are drawn by Pyro's no-U-turn
    sampler (and not by a `PyroBaseModuleClass`, which is made for minibatches of an AnnData).

    Parameters
    ----------
    evidence
        Of one trial or more.
    covariates
        Of the grid's biosamples and assays.
    priors
        Of each unknown.
    seed
        Of the sampler. Random states, and Pyro's parameters, stay as they are.
    """
    import pyro  # slow to import
    import pyro.distributions as dist
    from pyro.infer import MCMC, NUTS

    n_biosamples, n_assays = len(covariates.biosample_bu), len(covariates.assay_au)
    b, a = (x.ravel() for x in np.mgrid[:n_biosamples, :n_assays])
    i = evidence.biosample_i * n_assays + evidence.assay_i
    # the level is a slope on 1
    design_ukc = torch.as_tensor(
        np.stack([np.ones((len(priors), len(b))), covariates.biosample_bu[b].T, covariates.assay_au[a].T], axis=1)
    )
    slopes = [[(0.0, prior.level), prior.biosample_slope, prior.assay_slope] for prior in priors]
    slope_uk, slope_std_uk = torch.tensor(slopes, dtype=torch.float64).unbind(dim=-1)
    medians = [(prior.assay, prior.biosample, prior.cell) for prior in priors]
    median_uk = torch.tensor(medians, dtype=torch.float64)
    same_b, same_a = (torch.as_tensor(x[:, None] == x[i]).double() for x in (b, a))
    effects_kci = torch.stack([same_a, same_b, same_a * same_b])
    scaled_ukc = slope_std_uk[:, :, None] * design_ukc
    fixed_uci = torch.einsum("ukc,uki->uci", scaled_ukc, scaled_ukc[:, :, i])
    fixed_uc = scaled_ukc.square().sum(dim=1)
    expected_uc = torch.einsum("uk,ukc->uc", slope_uk, design_ukc)
    noise_uii = torch.diag_embed(torch.as_tensor(evidence.variance_iu.T))
    surprise_ui = torch.as_tensor(evidence.deviation_iu.T) - expected_uc[:, i]

    def covariance(std_uk: Tensor) -> Tensor:
        return fixed_uci + torch.einsum("uk,kci->uci", std_uk.square(), effects_kci)

    def model() -> None:
        std_uk = pyro.sample("std", dist.LogNormal(median_uk.log(), _VARIATION).to_event(2))
        surprise = dist.MultivariateNormal(torch.zeros_like(surprise_ui), covariance(std_uk)[:, i] + noise_uii)
        pyro.sample("surprise", surprise.to_event(1), obs=surprise_ui)

    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        kernel = NUTS(model, max_tree_depth=_DEEPEST_TREE)
        sampler = MCMC(kernel, num_samples=_DRAWS, warmup_steps=_WARM_UP, disable_progbar=True)
        sampler.run()
        draws = sampler.get_samples()["std"]
    means, variances = [], []
    for std_uk in draws:
        covariance_uci = covariance(std_uk)
        weight_uci = torch.linalg.solve(covariance_uci[:, i] + noise_uii, covariance_uci, left=False)
        means.append(expected_uc + (weight_uci @ surprise_ui.unsqueeze(-1)).squeeze(-1))
        prior_uc = fixed_uc + std_uk.square().sum(dim=1, keepdim=True)
        variances.append(prior_uc - (weight_uci * covariance_uci).sum(dim=-1))
    mean_suc = torch.stack(means)
    variance_uc = torch.stack(variances).mean(dim=0) + mean_suc.var(dim=0, correction=0)
    shape = (n_biosamples, n_assays, len(priors))
    return mean_suc.mean(dim=0).T.reshape(shape).numpy(), variance_uc.sqrt().T.reshape(shape).numpy()
