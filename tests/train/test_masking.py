"""What is hidden and what is to be predicted: shares over many draws, and the task of a minibatch entry by entry."""

import numpy as np
import pytest
import torch

from chipvi.data.track_data import ViewKind
from chipvi.train.masking import Task, apply_task, choose_imputable, choose_n_queries, draw_task, hide_nothing

N_DRAWS = 600


@pytest.fixture(scope="module")
def module(kit):
    return kit.model(kit.data()).module


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


def draw(module, generator, **options):
    return [draw_task(module, 40, 2, generator, **options) for _ in range(N_DRAWS)]


def shares_hidden(module, tasks):
    """Largest and mean share of the targets that is hidden, over the regions of all tasks."""
    hidden_rt = torch.cat([task.hidden_rt for task in tasks])[:, module.tracks.is_target_t].float()
    return hidden_rt.mean(dim=0).max().item(), hidden_rt.mean().item()


def test_of_the_targets_a_share_from_a_twentieth_to_the_largest_is_hidden_and_no_control(module, generator):
    for most_hidden in (0.2, 0.65, 1.0):
        tasks = draw(module, generator, most_hidden=most_hidden, vary=False)
        largest, mean = shares_hidden(module, tasks)
        assert mean == pytest.approx((0.05 + most_hidden) / 2, abs=0.01)  # drawn between both, anew in each region
        assert largest < mean + 0.02  # every target alike
        assert not any(task.hidden_rt[:, ~module.tracks.is_target_t].any() for task in tasks)
        rates = torch.cat([task.hidden_rt.float().sum(dim=1) for task in tasks])
        n_targets = int(module.tracks.is_target_t.sum())
        rate = mean * n_targets
        spread = rate * (1 - mean) + n_targets * (n_targets - 1) * (most_hidden - 0.05) ** 2 / 12
        assert rates.var().item() == pytest.approx(spread, rel=0.05)
        assert {task.keep for task in tasks} == {1.0}
        assert all(torch.equal(task.embedding_q, task.biosample_q) for task in tasks)


def test_three_of_ten_tasks_have_biosample_dropout_and_hide_more(module, generator):
    tasks = draw(module, generator, most_hidden=0.2)
    generic = [bool((task.embedding_q == module.biosamples.generic).all()) for task in tasks]
    assert np.mean(generic) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / N_DRAWS))
    for is_generic, most in ((True, 0.65), (False, 0.2)):
        some = [task for task, one in zip(tasks, generic, strict=True) if one is is_generic]
        assert shares_hidden(module, some)[1] == pytest.approx((0.05 + most) / 2, abs=0.015)
        assert is_generic or all(torch.equal(task.embedding_q, task.biosample_q) for task in some)
    more = [
        task for task in draw(module, generator, most_hidden=0.9) if task.embedding_q[0] == module.biosamples.generic
    ]
    assert shares_hidden(module, more)[1] == pytest.approx((0.05 + 0.9) / 2, abs=0.015)


def test_reads_are_thinned_in_half_of_the_tasks_to_a_share_from_three_to_nine_tenths(module, generator):
    keep = np.array([task.keep for task in draw(module, generator)])
    thinned = keep[keep < 1]
    assert len(thinned) / N_DRAWS == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / N_DRAWS))
    assert 0.3 <= thinned.min() < 0.32 and 0.88 < thinned.max() <= 0.9
    assert thinned.mean() == pytest.approx(0.6, abs=0.04)


def test_biosamples_are_drawn_without_repeats_among_those_that_may_be(module, generator):
    drawn = [tuple(sorted(task.biosample_q.tolist())) for task in draw(module, generator)]
    assert set(drawn) == {(0, 1), (0, 2), (1, 2)}
    for among in ([1], [2, 0]):
        tasks = [draw_task(module, 5, 2, generator, among_q=torch.tensor(among)) for _ in range(20)]
        assert {tuple(sorted(task.biosample_q.tolist())) for task in tasks} == {tuple(sorted(among))}


@pytest.mark.parametrize(
    ("target_bg", "number"),
    [
        ([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, -1], [11, 12, -1]], 5),  # 12 tracks of 2.6 each: 4.6
        ([[0, -1, -1], [1, 2, 3], [4, 5, 6], [-1, -1, -1]], 5),  # 7 of 3 biosamples: 5.1; the fourth has none
        ([list(range(30)), list(range(30, 60))], 2),
        ([[0], [1]], 6),
    ],
)
def test_a_step_asks_for_as_many_biosamples_as_have_twelve_tracks(target_bg, number):
    assert choose_n_queries(torch.tensor(target_bg)) == number


def test_hiding_nothing_asks_for_all_biosamples_with_all_reads(module):
    task = hide_nothing(module, 7)
    assert task.hidden_rt.shape == (7, len(module.tracks.assay_t)) and not task.hidden_rt.any()
    assert task.keep == 1 and task.biosample_q.tolist() == task.embedding_q.tolist() == [0, 1, 2]


@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_a_task_is_what_it_says_entry_by_entry(kit, generator, keep):
    adata = kit.data()
    adata.layers["observed"][20:60, 2] = 0
    adata.layers["signal"][30:70, 1] = np.nan
    model = kit.model(adata)
    module, rows = model.module, np.r_[15:45, 90:101]
    minibatch = kit.take(model, rows)
    hidden_rt = (torch.rand(len(rows), adata.n_vars, generator=generator) < 0.4) & module.tracks.is_target_t
    biosample_q = torch.tensor([2, 0])
    example = apply_task(module, minibatch, Task(hidden_rt, keep, biosample_q, biosample_q), generator)

    whole_lt, kept_lt = minibatch.counts.value_lt, example.visible.minibatch.counts.value_lt
    assert ((kept_lt >= 0) & (kept_lt <= whole_lt)).all()
    tolerance = 4 * np.sqrt(keep * (1 - keep) / float(whole_lt.sum()))
    assert kept_lt.sum() / whole_lt.sum() == pytest.approx(keep, abs=tolerance)
    assert torch.equal(example.visible.visible_rt, ~hidden_rt)
    assert example.visible.log_keep.item() == pytest.approx(np.log(keep), abs=1e-6)
    counts, signal = example.truth[ViewKind.COUNTS], example.truth[ViewKind.SIGNAL]
    observed_rt, signal_rt = adata.layers["observed"][rows] == 1, adata.layers["signal"][rows]
    n_targets = 0
    for q, g in np.ndindex(*example.track_qg.shape):
        track = int(example.track_qg[q, g])
        if module.tracks.target_bg[biosample_q[q], g] < 0:  # fills up a biosample with fewer targets
            assert not counts.observed_rqg[:, q, g].any() and not signal.observed_rqg[:, q, g].any()
            continue
        n_targets += 1
        assert module.tracks.biosample_t[track] == biosample_q[q] and bool(module.tracks.is_target_t[track])
        assert example.queries.assay_qg[q, g] == module.tracks.assay_t[track]
        for r in range(len(rows)):
            own = int(minibatch.own_row_r[r])
            is_hidden, is_there = bool(hidden_rt[r, track]), bool(observed_rt[r, track])
            is_rest = not is_hidden and keep < 1
            truth = (counts.hidden_rqg[r, q, g], counts.thinned_rqg[r, q, g], counts.observed_rqg[r, q, g])
            assert truth == (is_hidden and is_there, is_rest and is_there, is_there)
            reads = adata.X[rows[r], track] if is_there else 0
            assert counts.value_rqg[r, q, g] == reads - (kept_lt[own, track] if is_rest else 0)
            log_depth = example.log_depth_rqg.expand(len(rows), -1, -1)[r, q, g].item()
            share = np.log(1 - keep) if is_rest else 0.0
            assert log_depth == pytest.approx(module.log_depth_t[track].item() + share, abs=1e-5)
            has_signal = bool(np.isfinite(signal_rt[r, track]))
            assert (signal.hidden_rqg[r, q, g], signal.observed_rqg[r, q, g]) == (is_hidden and has_signal, has_signal)
            assert signal.thinned_rqg[r, q, g] == 0
            assert signal.value_rqg[r, q, g] == (signal_rt[r, track] if has_signal else 0)
    assert n_targets == 8


def test_a_target_can_be_imputed_where_its_biosample_or_its_assay_is_seen_elsewhere(kit, generator):
    adata = kit.data()
    adata.layers["observed"][:9, 6], adata.layers["signal"][5:14, 6] = 0, np.nan
    module, rows = kit.model(adata).module, np.arange(4, 29)
    tracks, n_tracks = module.tracks, adata.n_vars
    hidden_rt = (torch.rand(len(rows), n_tracks, generator=generator) < 0.8) & tracks.is_target_t
    task = Task(hidden_rt, 1.0, torch.arange(3), torch.arange(3))
    example = apply_task(module, kit.take(kit.model(adata), rows), task, generator)
    there_rt = (adata.layers["observed"][rows] == 1) | np.isfinite(adata.layers["signal"][rows])
    seen_rt = there_rt & ~hidden_rt.numpy() & tracks.is_target_t.numpy()
    biosample, assay = tracks.biosample_t.tolist(), tracks.assay_t.tolist()
    found_rqg = choose_imputable(module, example)
    numbers = []
    for r, q, g in np.ndindex(*found_rqg.shape):
        if tracks.target_bg[q, g] >= 0:
            t = int(example.track_qg[q, g])
            others = [u for u in range(n_tracks) if u != t and (biosample[u] == biosample[t] or assay[u] == assay[t])]
            numbers.append(any(seen_rt[r, u] for u in others))
            assert bool(found_rqg[r, q, g]) == numbers[-1]
    assert 0.1 < np.mean(numbers) < 0.9
