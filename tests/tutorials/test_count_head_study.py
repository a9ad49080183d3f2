"""The suspects: each does what its name says, the failing model fails, and the same model without them learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from count_head_study import FAILING, SUSPECTS, StudyModel, SuspectNegativeBinomial

from chipvi import metrics
from chipvi.data.track_data import ViewKind
from chipvi.module.features import AssayMeans
from chipvi.train.masking import apply_task, draw_task

COUNTS = ViewKind.COUNTS


@pytest.fixture(scope="module")
def data(kit):
    adata = kit.data(signal=False, controls=False, missing=0.0)
    StudyModel.setup_anndata(adata, depth_key="depth")
    return adata


def one_step(kit, model, seed=0):
    """Inputs, and all that the module makes of a minibatch."""
    generator = torch.Generator().manual_seed(seed)
    task = draw_task(model.module, 40, 3, generator, vary=False)
    inputs = apply_task(model.module, kit.take(model, range(40)), task, generator)
    return inputs, *model.module(inputs)


def test_probabilities_the_wrong_way_round_are_scored_by_the_wrong_mean():
    mean, r, counts = torch.tensor([20.0, 0.5]), torch.tensor([5.0, 2.0]), torch.tensor([3.0, 1.0])
    suspect = SuspectNegativeBinomial(mean, r, inverted=True, by_hand=False)
    # torch: mean = total_count * probs / (1 - probs)
    torchs = torch.distributions.NegativeBinomial(total_count=r.double(), probs=(r / (r + mean)).double())
    torch.testing.assert_close(torchs.mean, torch.tensor([1.25, 8.0]).double())
    torch.testing.assert_close(suspect.log_prob(counts), torchs.log_prob(counts.double()), rtol=1e-5, atol=1e-6)
    assert suspect.mean.tolist() == [20.0, 0.5]


def test_the_handwritten_likelihood_is_near_in_the_middle_and_breaks_at_the_edge():
    suspect = SuspectNegativeBinomial(torch.tensor([3.0, 40.0]), torch.tensor([2.0, 5.0]), False, by_hand=True)
    expected = scipy.stats.nbinom.logpmf([4, 0], [2.0, 5.0], [2 / 5, 5 / 45])
    np.testing.assert_allclose(suspect.log_prob(torch.tensor([4.0, 0.0])), expected, atol=1e-4)
    edge = SuspectNegativeBinomial(torch.tensor(1e-9), torch.tensor(100.0), False, by_hand=True)
    off = float(edge.log_prob(torch.tensor(2.0))) - scipy.stats.poisson.logpmf(2, 1e-9)
    assert abs(off) > 1


def test_an_initial_mean_is_that_of_every_track(kit, data):
    model = StudyModel(data, ["initial_mean"])
    _, _, generated, _ = one_step(kit, model)
    torch.testing.assert_close(
        generated[COUNTS].distribution.mean, torch.full_like(generated[COUNTS].distribution.mean, 1.3)
    )
    _, _, generated, _ = one_step(kit, StudyModel(data))
    assert generated[COUNTS].distribution.mean.std() > 0.1


def test_normalised_over_assays_each_region_has_mean_0_and_variance_1(kit, data):
    model = StudyModel(data, ["assay_norm"])
    torch.nn.init.normal_(model.module.decoder.weight_ako)
    inputs, inferred, generated, _ = one_step(kit, model)
    raw_rqgo = generated[COUNTS].head_inputs.raw_rqgo
    torch.testing.assert_close(raw_rqgo.mean(dim=2), torch.zeros_like(raw_rqgo[:, :, 0]), atol=1e-5, rtol=0)
    variance = raw_rqgo.var(dim=2, unbiased=False)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-2, rtol=0)
    # whichever assays are asked for, all of them are normalised over
    model.module.eval()
    part = replace(inputs.queries, assay_qg=inputs.queries.assay_qg[:, 2:3])
    whole = model.module.generative(inferred, inputs.queries, inputs.log_depth_rqg)
    some = model.module.generative(inferred, part, inputs.log_depth_rqg[..., 2:3])
    torch.testing.assert_close(some[COUNTS].head_inputs.raw_rqgo, whole[COUNTS].head_inputs.raw_rqgo[:, :, 2:3])


def test_raw_counts_reach_the_encoder_as_they_are(kit, data):
    model = StudyModel(data, ["raw_counts"])
    means = AssayMeans(1 + 50 * torch.rand(7, 2, 4, 5), torch.ones(7, 2, 4))
    assert torch.equal(model.module.view(COUNTS).slots(means).feature_rqas, means.value_rqas)
    assert not torch.allclose(StudyModel(data).module.view(COUNTS).slots(means).feature_rqas, means.value_rqas)


def test_a_clamped_loss_gives_rare_entries_no_gradient(kit, data):
    model = StudyModel(data, ["loss_clamp"])
    inputs, inferred, generated, _ = one_step(kit, model)
    nll = -generated[COUNTS].distribution.log_prob(inputs.truth[COUNTS].value_rqg)
    hidden = inputs.truth[COUNTS].hidden_rqg > 0
    beyond = ((nll - nll[hidden].median()).abs() > 2) & hidden
    raw = generated[COUNTS].head_inputs.raw_rqgo
    (gradient,) = torch.autograd.grad(model.module.loss(inputs, inferred, generated).loss, raw)
    assert beyond.any()
    assert (gradient[beyond] == 0).all()
    assert (gradient[hidden & ~beyond].abs().sum(-1) > 0).any()
    share = model.module.loss(inputs, inferred, generated).extra_metrics["clamped_losses"]
    assert float(share) == pytest.approx(float(beyond.sum() / hidden.sum()))


def test_a_constant_in_place_of_a_loss_leaves_a_nan_gradient(kit, data):
    model = StudyModel(data, ["constant_loss", "lgamma_eps"])
    inputs, inferred, generated, _ = one_step(kit, model)
    raw = torch.full_like(generated[COUNTS].head_inputs.raw_rqgo, 1.0, requires_grad=True)
    start = generated[COUNTS].head_inputs
    head = model.module.view(COUNTS).head
    broken = head(raw, start.start_rqg.detach(), torch.full_like(start.log_spread_rqg, torch.nan))
    loss = model.module.loss(inputs, inferred, {COUNTS: replace(generated[COUNTS], distribution=broken)}).loss
    assert torch.isfinite(loss)
    (gradient,) = torch.autograd.grad(loss, raw)
    assert torch.isnan(gradient).any()


def test_a_heavy_kl_weighs_as_much_as_an_entry(kit, data):
    n_assays = len(set(data.var["assay"]))
    assert StudyModel(data, ["heavy_kl"]).module.options.kl_weight == n_assays


def test_clamps_sit_on_the_logits(data):
    clamped, free = (
        StudyModel(data, suspects).module.view(COUNTS).head for suspects in (["n_p", "logit_clamps"], ["n_p"])
    )
    raw, start = torch.tensor([40.0, 0.0]), (torch.tensor(0.0), torch.tensor(0.0))
    assert clamped.at_bounds(raw, *start)["logit"]
    assert not free.at_bounds(raw, *start)["logit"]


@pytest.mark.parametrize(
    ("suspects", "expected"),
    [(["loss_clam"], "did you mean 'loss_clamp'"), (["logit_clamps"], "needs n_p")],
    ids=["unknown", "clamps without logits"],
)
def test_suspects_that_make_no_sense_are_refused(data, suspects, expected):
    with pytest.raises(ValueError, match=expected):
        StudyModel(data, suspects)


def test_nothing_but_the_latent_reaches_the_heads(kit, data):
    model = StudyModel(data)
    torch.nn.init.normal_(model.module.decoder.weight_ako)
    torch.nn.init.normal_(model.module.decoder.shared[-1].weight)
    inputs, inferred, generated, _ = one_step(kit, model)
    model.module.eval()
    one_latent = inferred.with_latent(inferred.z_rqk[:1].expand_as(inferred.z_rqk))
    mean_rqg = model.module.generative(one_latent, inputs.queries, inputs.log_depth_rqg)[COUNTS].distribution.mean
    torch.testing.assert_close(mean_rqg, mean_rqg[:1].expand_as(mean_rqg))


@pytest.mark.filterwarnings("ignore::UserWarning")  # the advice is due
def test_the_failing_model_plateaus_where_the_same_model_without_suspects_learns(kit):
    adata = kit.data(n_regions=6_000, n_biosamples=2, n_assays=5, signal=False, controls=False, missing=0.0, seed=0)
    adata.obs["split"] = np.where(adata.obs["chrom"] == "chr4", "test", "train")
    test = (adata.obs["split"] == "test").to_numpy()
    StudyModel.setup_anndata(adata, depth_key="depth")
    scores, fell = {}, {}
    for name, suspects in {"working": (), "failing": FAILING}.items():
        model = kit.train(StudyModel(adata, suspects), max_steps=250, batch_size=256, split_key="split")
        imputed = model.get_imputed_counts(indices=test, return_numpy=True)
        scores[name] = metrics.score_tracks(adata.X[test], imputed).loc["macro_mean"]
        loss = model.history["imp_count_loss"]["imp_count_loss"]
        fell[name] = 1 - loss.iloc[-1] / loss.iloc[0]
    assert scores["working"]["r2"] > 0.1
    assert scores["working"]["pearson"] > 0.35
    assert scores["failing"]["r2"] < 0
    assert scores["failing"]["pearson"] < 0.2
    assert abs(fell["failing"]) < 0.06


def test_every_suspect_is_explained():
    assert set(FAILING) | {"inverted_probs"} == set(SUSPECTS)
    assert all(len(gloss) > 30 for gloss in SUSPECTS.values())
