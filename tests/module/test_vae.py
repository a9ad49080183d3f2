"""What the module may see, what it starts from, and what depth means to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from chipvi.data.track_data import ViewKind
from chipvi.nn import COUNT_HEADS
from chipvi.train.masking import apply_task, draw_task, hide_nothing

COUNTS, SIGNAL = ViewKind.COUNTS, ViewKind.SIGNAL
ROWS = np.r_[3:40, 75:97]


def generate(module, inputs, without_own=False):
    """Latents, and distributions of the targets; the same noise each time."""
    module.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        encoding = module.inference(**module._get_inference_input(inputs), generator=generator)
        encoding = encoding.without_own() if without_own else encoding
        return encoding, module.generative(**module._get_generative_input(inputs, encoding))


# the start


@pytest.mark.parametrize("head", COUNT_HEADS)
def test_a_head_starts_at_the_observed_mean_and_dispersion_of_each_track(kit, head):
    adata = kit.data()
    adata.layers["observed"][10:90, 3] = 0
    model = kit.model(adata, head=head)
    inputs = apply_task(model.module, kit.take(model, ROWS), hide_nothing(model.module, len(ROWS)), None)
    _, generated = generate(model.module, inputs, without_own=True)
    counts, track_qg = generated[COUNTS].distribution, inputs.track_qg
    observed = adata.to_df().where(adata.layers["observed"] == 1)
    mean, variance = observed.mean(), observed.var(ddof=0)
    is_target = inputs.truth[COUNTS].observed_rqg.sum(dim=0) > 0
    for q, g in is_target.nonzero().tolist():
        name = adata.var_names[int(track_qg[q, g])]
        np.testing.assert_allclose(counts.mean[:, q, g], mean[name], rtol=1e-4)
        if head != "poisson":
            dispersion = np.clip(mean[name] ** 2 / (variance[name] - mean[name]), 0.05, 50)
            np.testing.assert_allclose(counts.theta[:, q, g], dispersion, rtol=1e-3)
    assert is_target.sum() == 11


def test_the_signal_head_starts_at_the_observed_mean_and_spread_of_each_track(kit):
    adata = kit.data()
    model = kit.model(adata)
    inputs = apply_task(model.module, kit.take(model, ROWS), hide_nothing(model.module, len(ROWS)), None)
    _, generated = generate(model.module, inputs, without_own=True)
    signal = pd.DataFrame(adata.layers["signal"], columns=adata.var_names)
    for q, g in (inputs.truth[SIGNAL].observed_rqg.sum(dim=0) > 0).nonzero().tolist():
        name = adata.var_names[int(inputs.track_qg[q, g])]
        np.testing.assert_allclose(generated[SIGNAL].distribution.mean[:, q, g], signal[name].mean(), rtol=1e-4)
        np.testing.assert_allclose(generated[SIGNAL].distribution.stddev[:, q, g], signal[name].std(), rtol=0.02)


# depth


def test_twice_the_depth_is_twice_the_mean(model):
    for function in (model.get_imputed_counts, model.get_normalized_expression):
        once, twice = (function(depth=depth, return_numpy=True) for depth in (400.0, 800.0))
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


def test_twice_the_depth_of_one_track_in_a_table_doubles_that_one(model):
    table = pd.DataFrame({"biosample": ["cell1", "cell2"], "assay": ["H3K4me3"] * 2, "depth": [300.0, 300.0]})
    once = model.get_imputed_counts(tracks=table, return_numpy=True)
    table["depth"] = [300.0, 600.0]
    np.testing.assert_allclose(model.get_imputed_counts(tracks=table, return_numpy=True), once * [1, 2], rtol=1e-5)


# a track is imputed without itself


def scrambled(adata, name, how):
    """A copy in which counts and signal of one track are others."""
    adata, random = adata.copy(), np.random.default_rng(0)
    t = adata.var_names.get_loc(name)
    adata.X[:, t] = random.permutation(adata.X[:, t]) + 3
    adata.layers["observed"][:, t] = 1
    adata.layers["signal"][:, t] = random.random(adata.n_obs)
    if how == "huge":
        adata.X[::2, t] = 1e6
        adata.layers["signal"][::2, t] = 7.9
    if how == "hidden in part":
        adata.layers["observed"][random.random(adata.n_obs) < 0.5, t] = 0
        adata.layers["signal"][random.random(adata.n_obs) < 0.5, t] = np.nan
    if how == "hidden":
        adata.layers["observed"][:, t] = 0
        adata.layers["signal"][:, t] = np.nan
    return adata


@pytest.mark.parametrize("how", ["others", "huge", "hidden in part", "hidden"])
def test_a_track_is_imputed_without_its_own_counts_and_signal_to_the_last_bit(kit, adata, model, how):
    for name in ("cell1.H3K4me1", "cell3.H3K27me3", kit.unseen):
        plain = model.impute(tracks=[name])
        other = model.impute(scrambled(adata, name, how), tracks=[name])
        np.testing.assert_array_equal(other.X, plain.X)
        for layer in ("lower", "upper", "dispersion", "pval", "pval_std"):
            np.testing.assert_array_equal(other.layers[layer], plain.layers[layer])


@pytest.mark.parametrize("how", ["others", "huge", "hidden in part"])
def test_among_all_tracks_none_is_imputed_with_its_own_counts_and_signal_to_the_last_bit(adata, model, how):
    plain = model.impute(indices=ROWS)
    for name in ("cell1.H3K4me1", "cell3.H3K27me3"):
        t = plain.var_names.get_loc(name)
        other = model.impute(scrambled(adata, name, how), indices=ROWS)
        np.testing.assert_array_equal(other.X[:, t], plain.X[:, t])
        for layer in ("lower", "upper", "dispersion", "pval", "pval_std"):
            np.testing.assert_array_equal(other.layers[layer][:, t], plain.layers[layer][:, t])
        assert (other.X != plain.X).any()  # the others see it


def test_all_tracks_together_are_imputed_as_each_alone(adata, model):
    hidden = adata.copy()
    for name in ("cell1.H3K4me1", "cell1.H3K36me3", "cell3.H3K4me3"):  # of one biosample these share a query
        hidden = scrambled(hidden, name, "hidden")
    together = model.impute(hidden, indices=ROWS)
    for t, name in enumerate(together.var_names):
        alone = model.impute(hidden, indices=ROWS, tracks=[name])
        np.testing.assert_allclose(together.X[:, t], alone.X[:, 0], rtol=2e-6)
        np.testing.assert_allclose(together.layers["denoised"][:, t], alone.layers["denoised"][:, 0], rtol=2e-6)


def test_a_track_is_denoised_with_its_own_counts_and_signal(adata, model):
    name = "cell1.H3K4me1"
    plain = model.get_normalized_expression(tracks=[name], return_numpy=True)
    other = model.get_normalized_expression(scrambled(adata, name, "others"), tracks=[name], return_numpy=True)
    assert np.abs(other - plain).max() > 1e-3


def test_imputation_goes_by_the_other_tracks_and_by_the_control(adata, model):
    plain = model.get_imputed_counts(tracks=["cell1.H3K4me1"], return_numpy=True)
    for name in ("cell1.H3K4me3", "cell2.H3K4me1", "cell1.Input"):
        other = scrambled(adata, name, "huge")
        assert (model.get_imputed_counts(other, tracks=["cell1.H3K4me1"], return_numpy=True) != plain).any()


# missing entries


def test_numbers_under_the_mask_change_neither_training_nor_prediction(kit):
    results = []
    for garbage in (0, 1e7):
        adata = kit.data()
        hidden = np.random.default_rng(0).random(adata.shape) < 0.1
        adata.layers["observed"][hidden] = 0
        adata.X[adata.layers["observed"] == 0] = garbage
        adata.layers["signal"][hidden] = np.nan
        model = kit.train(kit.model(adata), plan_kwargs={"log_every_n_steps": 1})
        results.append((model.history, model.impute()))
    (history, plain), (other_history, other) = results
    assert history.keys() == other_history.keys()
    for name in history:
        pd.testing.assert_frame_equal(history[name], other_history[name])
    np.testing.assert_array_equal(other.X, plain.X)
    np.testing.assert_array_equal(other.layers["denoised"], plain.layers["denoised"])


def test_what_a_task_hides_is_neither_input_nor_reference(kit, adata, model):
    module, rows = model.module, np.arange(5, 60)
    names = ["cell1.H3K4me1", "cell3.H3K4me3"]
    columns = adata.var_names.get_indexer(names)
    task = draw_task(module, len(rows), 3, torch.Generator().manual_seed(2), vary=False)
    task.hidden_rt[:, columns] = True
    plain = apply_task(module, kit.take(model, rows), task, None)
    views = {}
    for kind, value in ((COUNTS, 1e6), (SIGNAL, 7.0)):
        rows_of_view = plain.visible.minibatch.view(kind)
        value_lt = rows_of_view.value_lt.clone()
        value_lt[:, columns] = value
        views[str(kind)] = replace(rows_of_view, value_lt=value_lt)
    other = replace(plain, visible=replace(plain.visible, minibatch=replace(plain.visible.minibatch, **views)))
    (inferred, generated), (other_inferred, other_generated) = (generate(module, x) for x in (plain, other))
    assert torch.equal(inferred.posterior.loc, other_inferred.posterior.loc)
    for kind in (COUNTS, SIGNAL):
        assert torch.equal(generated[kind].distribution.mean, other_generated[kind].distribution.mean)


def test_missing_entries_are_no_targets(kit):
    adata = kit.data()
    adata.layers["observed"][20:30, 1] = 0
    adata.layers["signal"][25:35, 1] = np.nan
    model = kit.model(adata)
    rows = np.arange(15, 40)
    counted, signalled = ~((rows >= 20) & (rows < 30)), ~((rows >= 25) & (rows < 35))
    tasks = [draw_task(model.module, len(rows), 3, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert any(task.keep < 1 for task in tasks)
    for task in [hide_nothing(model.module, len(rows)), *tasks]:
        inputs = apply_task(model.module, kit.take(model, rows), task, torch.Generator().manual_seed(0))
        q, g = (inputs.track_qg == 1).nonzero()[0].tolist()
        np.testing.assert_array_equal(inputs.truth[COUNTS].observed_rqg[:, q, g], counted)
        np.testing.assert_array_equal(inputs.truth[SIGNAL].observed_rqg[:, q, g], signalled)
        hidden = task.hidden_rt[:, 1].numpy()
        np.testing.assert_array_equal(inputs.truth[COUNTS].hidden_rqg[:, q, g], hidden & counted)
        np.testing.assert_array_equal(inputs.truth[SIGNAL].hidden_rqg[:, q, g], hidden & signalled)
        np.testing.assert_array_equal(inputs.truth[COUNTS].thinned_rqg[:, q, g], ~hidden & counted & (task.keep < 1))


# tasks


def draw(model, seed, n_regions=400):
    return draw_task(model.module, n_regions, 2, torch.Generator().manual_seed(seed))


def test_what_is_hidden_differs_between_rows_and_steps_and_follows_from_the_seed(model):
    generator = torch.Generator().manual_seed(1)
    first, second = (draw_task(model.module, 400, 2, generator).hidden_rt for _ in range(2))
    assert torch.equal(first, draw(model, 1).hidden_rt)
    assert not torch.equal(first, second)
    assert len(first.unique(dim=0)) > 20


@pytest.mark.parametrize("most_hidden", [0.2, 0.65])
def test_between_a_twentieth_and_the_largest_share_is_hidden(model, most_hidden):
    generator = torch.Generator().manual_seed(1)
    hidden_rt = draw_task(model.module, 20_000, 2, generator, most_hidden, vary=False).hidden_rt
    share_t = hidden_rt.double().mean(dim=0)[model.module.tracks.target_bg[model.module.tracks.target_bg >= 0]]
    torch.testing.assert_close(share_t, torch.full_like(share_t, (0.05 + most_hidden) / 2), atol=0.02, rtol=0)
    # the share is drawn by region: tracks of a region are hidden together more often than by chance
    n_hidden_r = hidden_rt.double().sum(dim=1)
    assert n_hidden_r.var() > 1.02 * len(share_t) * share_t.mean() * (1 - share_t.mean())


def test_under_biosample_dropout_biosamples_get_the_generic_embedding_and_more_of_theirs_is_hidden(model):
    generic = model.module.biosamples.generic
    tasks = [draw(model, seed) for seed in range(200)]
    dropped = [bool((task.embedding_q == generic).all()) for task in tasks]
    assert 0.2 < np.mean(dropped) < 0.4
    for task, is_dropped in zip(tasks, dropped, strict=True):
        assert is_dropped or torch.equal(task.embedding_q, task.biosample_q)
        largest = task.hidden_rt[:, model.module.tracks.target_bg[model.module.tracks.target_bg >= 0]].double().mean()
        assert (largest > 0.25) == is_dropped


def test_controls_are_never_hidden_and_never_targets(kit, adata, model):
    is_control_t = torch.from_numpy(adata.var["is_control"].to_numpy())
    for seed in range(5):
        task = draw(model, seed, n_regions=len(ROWS))
        inputs = apply_task(model.module, kit.take(model, ROWS), task, torch.Generator().manual_seed(seed))
        assert inputs.visible.visible_rt[:, is_control_t].all()
        assert inputs.visible.visible_rt[:, ~is_control_t].float().mean() < 1
        counts, signal = inputs.truth[COUNTS], inputs.truth[SIGNAL]
        weights = [counts.hidden_rqg, counts.thinned_rqg, counts.observed_rqg, signal.hidden_rqg]
        is_control_qg = is_control_t[inputs.track_qg]
        for weight in weights:
            assert weight[:, is_control_qg].sum() == 0


def thinned(kit, model, rows=ROWS):
    """A task with thinned reads, its minibatch, and the inputs it makes."""
    tensors = kit.take(model, rows)
    for seed in range(100):
        task = draw(model, seed, n_regions=len(rows))
        if task.keep < 1:
            return task, tensors, apply_task(model.module, tensors, task, torch.Generator().manual_seed(0))
    raise AssertionError("no minibatch in a hundred is thinned")


def test_thinned_parts_add_up_and_the_loss_sees_the_part_held_back(kit, model):
    task, tensors, inputs = thinned(kit, model)
    own = tensors.own_row_r
    seen_rqg = inputs.visible.minibatch.counts.value_lt[own][:, inputs.track_qg]
    whole_rqg = tensors.counts.value_lt[own][:, inputs.track_qg]
    thinned_part, hidden = inputs.truth[COUNTS].thinned_rqg > 0, inputs.truth[COUNTS].hidden_rqg > 0
    assert thinned_part.any()
    assert hidden.any()
    assert not (thinned_part & hidden).any()
    target = inputs.truth[COUNTS].value_rqg
    assert torch.equal((seen_rqg + target)[thinned_part], whole_rqg[thinned_part])
    assert torch.equal(target[hidden], whole_rqg[hidden])
    assert 0 < target[thinned_part].sum() < whole_rqg[thinned_part].sum()
    share = float(seen_rqg[thinned_part].sum() / whole_rqg[thinned_part].sum())
    assert share == pytest.approx(task.keep, abs=0.05)


def test_the_parts_of_thinned_reads_have_their_own_depths(kit, model):
    task, _, inputs = thinned(kit, model)
    log_depth_qg = model.module.log_depth_t[inputs.track_qg]
    extra = (inputs.log_depth_rqg - log_depth_qg).expand(inputs.truth[COUNTS].value_rqg.shape)
    thinned_part, hidden = inputs.truth[COUNTS].thinned_rqg > 0, inputs.truth[COUNTS].hidden_rqg > 0
    torch.testing.assert_close(extra[thinned_part], torch.full_like(extra[thinned_part], float(np.log(1 - task.keep))))
    assert (extra[hidden] == 0).all()
    assert float(inputs.visible.log_keep) == pytest.approx(np.log(task.keep))


def test_the_minibatch_of_a_task_is_not_changed(kit, model):
    before = kit.take(model, ROWS)
    _, tensors, _ = thinned(kit, model)
    for kind in (COUNTS, SIGNAL):
        assert torch.equal(tensors.view(kind).value_lt, before.view(kind).value_lt)
        assert torch.equal(tensors.view(kind).present_lt, before.view(kind).present_lt)


# context


def test_context_ends_with_the_segment(adata, model):
    other = adata.copy()
    other.X[70:140] += 40
    other.layers["signal"][70:140] = 3.0
    plain, changed = (model.impute(x).X for x in (adata, other))
    np.testing.assert_allclose(changed[:70], plain[:70], rtol=1e-6)
    np.testing.assert_allclose(changed[140:], plain[140:], rtol=1e-6)
    assert np.abs(changed[70:140] / plain[70:140] - 1).max() > 0.01


def test_context_reaches_the_neighbours(adata, model):
    other = adata.copy()
    other.X[34, 0] += 500
    plain, changed = (
        model.get_imputed_counts(x, tracks=["cell1.H3K4me1"], return_numpy=True)[:, 0] for x in (adata, other)
    )
    near = np.arange(280)[changed != plain]
    assert {33, 34, 35} <= set(near)
    assert near.min() >= 34 - 30
    assert near.max() <= 34 + 30


def test_neither_order_nor_batches_of_regions_matter(model):
    whole = model.get_imputed_counts(return_numpy=True)
    order = np.random.default_rng(0).permutation(280)[:100]
    np.testing.assert_allclose(model.get_imputed_counts(indices=order, return_numpy=True), whole[order], rtol=1e-5)
    np.testing.assert_allclose(model.get_imputed_counts(batch_size=7, return_numpy=True), whole, rtol=1e-5)
    repeated = [5, 5, -1, 0]
    np.testing.assert_allclose(
        model.get_imputed_counts(indices=repeated, return_numpy=True), whole[repeated], rtol=1e-5
    )
