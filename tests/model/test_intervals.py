"""Intervals and quantiles of imputed counts, the latent at its posterior mean or integrated by draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import chipvi
from chipvi.data.track_data import ViewKind
from chipvi.metrics import nb_quantile
from chipvi.predict.predictor import independent_draws
from chipvi.predict.quantiles import latent_noise, mix_draws

TRACKS = ["cell1.H3K4me1", "cell2.H3K4me3"]
ROWS = [3, 40, 77, 105, 140, 201, 266]


@pytest.fixture(scope="module")
def uncertain(kit, adata) -> chipvi.ChipVI:
    """A trained model whose latent is then made so unsure that integrating it matters. Not to be trained further."""
    model = kit.train(kit.model(adata.copy()), max_steps=60)
    with torch.no_grad():
        model.module.encoder.log_variance.weight.zero_()
        model.module.encoder.log_variance.bias.fill_(3.0)
    return model


# quantiles of a mixture


@pytest.mark.parametrize("q", [0.025, 0.5, 0.975])
def test_quantiles_of_a_mixture_are_those_of_its_summed_probabilities(q):
    random = np.random.default_rng(4)
    mean_s, dispersion_s = random.lognormal(1, 1.5, (7, 5, 3)), random.lognormal(1, 1, (7, 5, 3))
    count, dispersion = np.arange(2_000.0)[:, None, None, None], dispersion_s[None]
    ratio = mean_s / (mean_s + dispersion)
    steps = np.log(ratio) + np.log((dispersion + count[:-1]) / count[1:])
    log_mass = np.concatenate([np.zeros_like(ratio), np.cumsum(steps, axis=0)]) + dispersion * np.log1p(-ratio)
    cumulative = np.exp(log_mass).cumsum(axis=0).mean(axis=1)
    assert cumulative[-1].min() > 0.999
    np.testing.assert_array_equal(
        mix_draws(mean_s, dispersion_s, np.empty((*mean_s.shape, 0))).quantile(q), (cumulative >= q).argmax(axis=0)
    )


def test_each_latent_is_drawn_evenly_over_its_whole_distribution():
    noise = latent_noise(1_000, 3)
    assert noise.shape == (1_000, 3)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(noise.T), np.eye(3), atol=0.1)
    np.testing.assert_array_equal(np.sort(np.floor(16 * normal_cdf(latent_noise(16, 3))), axis=0)[:, 1], np.arange(16))


def normal_cdf(values: np.ndarray) -> np.ndarray:
    return torch.special.ndtr(torch.from_numpy(values).double()).numpy()


# the latent integrated


def test_quantiles_agree_with_samples_of_latent_and_reads(uncertain):
    samples = uncertain.posterior_predictive_sample(indices=ROWS, tracks=TRACKS, n_samples=500)
    probabilities = [0.1, 0.5, 0.9]
    found = uncertain.get_quantiles(probabilities, indices=ROWS, tracks=TRACKS, n_samples=256, return_numpy=True)
    for number, q in enumerate(probabilities):
        up_to = (samples <= found[..., number, None]).mean(axis=2)
        below = (samples < found[..., number, None]).mean(axis=2)
        assert up_to.min() > q - 0.1  # 500 samples scatter by 0.022, 256 draws by up to 0.03
        assert below.max() < q + 0.1
        assert up_to.mean() > q > below.mean()


def test_the_variance_is_that_within_draws_and_that_between_them(uncertain):
    """Law of total variance: the whole from quantiles, the parts from the module's own sampling of the latent."""
    asked = {"indices": ROWS, "tracks": TRACKS}
    place = (np.arange(200) + 0.5) / 200
    levels, weights = 3 * place**2 - 2 * place**3, 6 * place * (1 - place) / 200  # dense in the tails
    counts = uncertain.get_quantiles(levels, n_samples=256, return_numpy=True, **asked)
    request = uncertain._counts_request(None, ROWS, TRACKS, None)
    generator = torch.Generator().manual_seed(1)
    visible = next(iter(request.predictor.batches(request.rows, None)))
    asked_for = request.predictor.without_own_data()
    drawn = request.predictor.predict(visible, asked_for, independent_draws(400, generator))[ViewKind.COUNTS]
    mean, dispersion = drawn.mean_srn.double().numpy(), drawn.spread_srn.double().numpy()
    within, between = (mean + mean**2 / dispersion).mean(axis=0), mean.var(axis=0)
    assert between.sum() > 0.07 * within.sum()  # or it would not be missed
    expected = counts @ weights
    np.testing.assert_allclose(expected, mean.mean(axis=0), rtol=0.12)
    variance = (counts - expected[..., None]) ** 2 @ weights
    assert expected.sum() == pytest.approx(mean.mean(axis=0).sum(), rel=0.02)
    assert variance.sum() == pytest.approx((within + between).sum(), rel=0.06)


def test_integrating_an_unsure_latent_widens_the_interval(uncertain):
    plain = np.subtract(*reversed(uncertain.get_prediction_interval(return_numpy=True)))
    drawn = np.subtract(*reversed(uncertain.get_prediction_interval(return_numpy=True, n_samples=32)))
    assert drawn.mean() > 1.1 * plain.mean()


def test_a_latent_without_doubt_needs_no_draws(kit, adata):
    model = kit.train(kit.model(adata.copy()))
    with torch.no_grad():
        model.module.encoder.log_variance.weight.zero_()
        model.module.encoder.log_variance.bias.fill_(-60.0)
    plain, drawn = (model.get_prediction_interval(n_samples=n, return_numpy=True) for n in (None, 5))
    for one, other in zip(plain, drawn, strict=True):
        assert (one == other).mean() > 0.995  # a step of one count where rounding decides


# the same numbers, whatever else is asked for


def test_without_draws_quantiles_are_those_of_the_likelihood(model):
    parameters = model.get_likelihood_parameters(return_numpy=True)
    found = model.get_quantiles([0.2, 0.7], return_numpy=True)
    for number, q in enumerate([0.2, 0.7]):
        np.testing.assert_array_equal(found[..., number], nb_quantile(q, parameters["mean"], parameters["dispersions"]))


@pytest.mark.parametrize("n_samples", [None, 6])
def test_an_interval_is_two_quantiles(uncertain, n_samples):
    lower, upper = uncertain.get_prediction_interval(level=0.8, n_samples=n_samples)
    tables = uncertain.get_quantiles([(1 - 0.8) / 2, 1 - (1 - 0.8) / 2], n_samples=n_samples)
    for end, table in zip((lower, upper), tables.values(), strict=True):
        pd.testing.assert_frame_equal(end, table)


def test_draws_are_the_same_in_every_call_batch_and_choice(uncertain):
    whole = uncertain.get_quantiles([0.5, 0.975], n_samples=9, return_numpy=True)
    np.testing.assert_array_equal(uncertain.get_quantiles([0.5, 0.975], n_samples=9, return_numpy=True), whole)
    state = torch.get_rng_state()
    batched = uncertain.get_quantiles([0.5, 0.975], n_samples=9, batch_size=37, return_numpy=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert (batched == whole).mean() > 0.998  # rounding may move a quantile by a count
    some = uncertain.get_quantiles([0.975], n_samples=9, indices=[250, 3, 3], tracks=TRACKS[1:], return_numpy=True)
    names = list(uncertain.get_imputed_counts(indices=[0]).columns)
    assert some.shape == (3, 1, 1)
    np.testing.assert_allclose(some[:, 0, 0], whole[[250, 3, 3], names.index(TRACKS[1]), 1], atol=1)


def test_quantiles_are_tables_by_name_and_rise_with_the_probability(adata, uncertain):
    tables = uncertain.get_quantiles([0.1, 0.5, 0.9], indices=[5, 2], tracks=TRACKS, n_samples=4)
    assert list(tables) == [0.1, 0.5, 0.9]
    for table in tables.values():
        assert list(table.index) == list(adata.obs_names[[5, 2]])
        assert list(table.columns) == TRACKS
    assert (tables[0.1] <= tables[0.5]).all(axis=None)
    assert (tables[0.5] <= tables[0.9]).all(axis=None)


@pytest.mark.parametrize("quantiles", [0.5, [], [0.0, 0.5], [0.5, 1.0], [float("nan")], [[0.5]]])
def test_what_is_no_list_of_probabilities_is_refused(model, quantiles):
    with pytest.raises(ValueError, match="quantiles must be a list"):
        model.get_quantiles(quantiles)


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "16"])
def test_a_number_of_draws_that_is_none_is_refused(model, n_samples):
    with pytest.raises(ValueError, match="n_samples must be a whole number"):
        model.get_prediction_interval(n_samples=n_samples)


# wider where less is known


def hidden_but(adata: AnnData, tracks: list[str]) -> AnnData:
    copy = adata.copy()
    copy.layers["observed"][:, ~copy.var_names.isin(tracks)] = 0
    return copy


def relative_width(model: chipvi.ChipVI, adata: AnnData, track: str, n_samples: int | None) -> pd.Series:
    """Width of the interval over the predicted mean, the mean of each bin of the latter."""
    mean = model.get_imputed_counts(adata, tracks=[track], return_numpy=True)[:, 0]
    lower, upper = model.get_prediction_interval(adata, tracks=[track], n_samples=n_samples, return_numpy=True)
    table = pd.Series((upper - lower)[:, 0] / mean).groupby(pd.cut(mean, np.geomspace(1, 16, 13), labels=False))
    return table.mean()[table.size() >= 20]


@pytest.fixture(scope="module")
def learnt() -> tuple[chipvi.ChipVI, AnnData]:
    """A model that has learnt something, and regions that it has not seen."""
    adata = chipvi.datasets.simulate(4_000, mean_count=4, seed=6)
    is_judged = (adata.obs["chrom"] == "chr4").to_numpy()
    trained, judged = adata[~is_judged].copy(), adata[is_judged].copy()
    chipvi.ChipVI.setup_anndata(trained, observed_layer="observed", depth_key="depth")
    model = chipvi.ChipVI(trained, n_latent=8, n_hidden=32)
    model.train(max_steps=150, batch_size=256, seed=0, accelerator="cpu", enable_progress_bar=False)
    return model, judged


@pytest.mark.parametrize("n_samples", [None, 16])
def test_intervals_at_equal_mean_are_wider_when_other_tracks_are_hidden(learnt, n_samples):
    model, judged = learnt
    ratios = []
    for track, seen in (("cell1.H3K4me3", "cell2.H3K4me1"), ("cell3.H3K4me1", "cell1.H3K36me3")):
        all_seen = relative_width(model, judged, track, n_samples)
        one_seen = relative_width(model, hidden_but(judged, [seen]), track, n_samples)
        ratio = one_seen / all_seen  # where both predict such means
        assert ratio.notna().sum() >= 3
        ratios.append(np.exp(np.log(ratio).mean()))
    assert np.mean(ratios) > 1.03, ratios
