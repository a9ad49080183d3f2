"""Heads compared: equal conditions, scores that are true, runs that fail, and what follows from it all."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from sklearn.metrics import r2_score

import chipvi
from chipvi import metrics
from chipvi._messages import Place
from chipvi.compare import runs as runs_module
from chipvi.compare.plan import plan_comparison
from chipvi.compare.runs import Ending, Outcome, Run
from chipvi.compare.verdict import Win, judge_heads, rank
from chipvi.compare.words import describe, outcome_words
from chipvi.data.splits import draw_blocks
from chipvi.nn import COUNT_HEADS, MeanDispersion
from chipvi.train.findings import Finding, Sign

HEADS, SEEDS, STEPS = ["mean_dispersion", "poisson"], (3, 5), 12


class Broken(MeanDispersion):
    def _coordinates(self, *arguments):
        log_mean, pre_dispersion = super()._coordinates(*arguments)
        return log_mean * float("nan"), pre_dispersion


def set_up(adata, keys):
    chipvi.ChipVI.setup_anndata(adata, **keys)
    return adata


@pytest.fixture(scope="module")
def data(kit):
    return set_up(kit.data(n_regions=560), kit.keys)


@pytest.fixture(scope="module")
def seen():
    """What was trained on, and the models, by head and seed."""
    return {}


@pytest.fixture(scope="module")
def comparison(data, seen):
    def train(plan, head, seed, *watched):
        model = original(plan, head, seed, *watched)
        seen[head, seed] = (plan, model)
        return model

    original = runs_module.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "train", train)
        return chipvi.compare_heads(data, HEADS, steps=STEPS, seeds=SEEDS)


def test_there_is_a_row_per_head_and_seed_and_one_per_head_beside_two_without_a_model(comparison):
    runs, table = comparison.runs, comparison.table
    assert list(zip(runs["head"], runs["seed"], strict=True)) == [(h, s) for h in HEADS for s in SEEDS]
    assert (runs["outcome"] == "ok").all()
    numbers = runs.drop(columns=["head", "seed", "outcome", "advice", "steps_to_r2_above_0"])
    assert set(numbers) == {
        "r2", "pearson", "nll", "crps", "pit_deviation", "coverage", "expected_coverage", "grad_norm_count_head",
        "clamped", "steps_per_second",
    }  # fmt: skip
    assert np.isfinite(numbers).all(axis=None)
    assert runs["steps_to_r2_above_0"].dropna().between(1, STEPS).all()
    assert sorted(table.index[:2]) == sorted(HEADS)
    assert list(table.index[2:]) == ["marginal", "average"]
    assert table["nll"].iloc[:2].is_monotonic_increasing
    for head, rows in runs.groupby("head"):
        assert table.loc[head, "crps"] == pytest.approx(rows["crps"].mean())
        assert table.loc[head, "crps_sd"] == pytest.approx(rows["crps"].std(ddof=1))


def test_every_head_is_trained_and_judged_on_the_same_rows_and_no_row_on_both(comparison, data, seen):
    assert set(seen) == {(head, seed) for head in HEADS for seed in SEEDS}
    (plan,) = {plan for plan, _ in seen.values()}
    assert not set(plan.split.train) & (set(plan.judged) | set(plan.split.validation))
    assert len(plan.split.train) + plan.n_held_out == data.n_obs
    assert 0.15 * data.n_obs <= plan.n_held_out <= 0.25 * data.n_obs
    again = plan_comparison(data, None, 1, [8])
    np.testing.assert_array_equal(again.judged, plan.judged)
    assert [len(model.history["train_loss"]) for _, model in seen.values()] == [STEPS] * 4
    steps = [group["step"].tolist() for _, group in comparison.curves.groupby(["head", "seed"])]
    assert len(steps) == 4
    assert all(one == steps[0] for one in steps)


def test_heads_of_one_seed_start_alike_and_seeds_differ(comparison):
    assert comparison.runs["nll"].nunique() == 4


def test_scores_are_those_of_the_predictions_computed_another_way(comparison, data, seen):
    plan, model = seen["mean_dispersion", 5]
    parameters = model.get_likelihood_parameters(indices=plan.judged)
    scores = comparison.tracks.query("head == 'mean_dispersion' and seed == 5").set_index("track")
    names = [name for name in data.var_names if not data.var.loc[name, "is_control"]]
    assert list(scores.index) == names
    for name in names[:6]:
        t = data.var_names.get_loc(name)
        there = plan.judged[data.layers["observed"][plan.judged, t] == 1]
        if not len(there):
            assert scores.loc[name, ["r2", "nll", "crps", "coverage"]].isna().all()
            continue
        chosen = np.isin(plan.judged, there)
        y, m = data.X[there, t], parameters["mean"][name].to_numpy(np.float64)[chosen]
        d = parameters["dispersions"][name].to_numpy(np.float64)[chosen]
        distribution = scipy.stats.nbinom(d, d / (d + m))
        ks = np.arange(2_000)[:, None]
        lower, upper = distribution.ppf(0.025), distribution.ppf(0.975)
        expected = {
            "entries": len(there),
            "reads": y.sum(),
            "r2": r2_score(y, m),
            "pearson": scipy.stats.pearsonr(y, m)[0],
            "nll": -distribution.logpmf(y).mean(),
            "crps": ((distribution.cdf(ks) - (y <= ks)) ** 2).sum(axis=0).mean(),
            "coverage": ((lower <= y) & (y <= upper)).mean(),
            "expected_coverage": (distribution.cdf(upper) - distribution.cdf(lower - 1)).mean(),
        }
        for score, value in expected.items():
            assert scores.loc[name, score] == pytest.approx(value, rel=2e-4), score
    row = comparison.runs.query("head == 'mean_dispersion' and seed == 5").iloc[0]
    assert row["nll"] == pytest.approx(scores["nll"].mean())


def test_the_marginal_and_the_average_are_what_their_names_promise(comparison, data, seen, kit):
    plan = seen["poisson", 3][0]
    counts_rt = np.where(data.layers["observed"] == 1, data.X, np.nan)
    marginal, average = (
        comparison.tracks.query(f"head == '{name}'").set_index("track") for name in ("marginal", "average")
    )
    name = "cell1.H3K4me1"
    t = data.var_names.get_loc(name)
    train, test = counts_rt[plan.split.train, t], counts_rt[plan.judged, t]
    mean = np.full(len(test), np.nanmean(train))
    assert marginal.loc[name, "r2"] == pytest.approx(r2_score(test, mean))
    assert np.isnan(marginal.loc[name, "pearson"])
    dispersion = metrics.fit_dispersion(train[:, None], np.full((len(train), 1), mean[0]))
    assert marginal.loc[name, "nll"] == pytest.approx(metrics.nb_nll(test, mean, dispersion).mean(), rel=1e-6)
    rate = pd.DataFrame(counts_rt[plan.judged] / data.var["depth"].to_numpy(), columns=data.var_names)
    others = rate[["cell2.H3K4me1", "cell3.H3K4me1"]].mean(axis=1) * data.var.loc[name, "depth"]
    assert average.loc[name, "r2"] == pytest.approx(r2_score(test, others))
    assert average.loc[name, "pearson"] == pytest.approx(scipy.stats.pearsonr(test, others)[0])
    assert average["nll"].isna().all()
    assert marginal.loc[kit.unseen, "entries"] == 0


def test_the_result_cannot_be_changed_and_can_be_drawn(comparison, tmp_path):
    with pytest.raises(FrozenInstanceError):
        comparison.runs = None
    comparison.plot(save=tmp_path / "heads.png")
    assert (tmp_path / "heads.png").read_bytes().startswith(b"\x89PNG")


def test_neither_the_data_nor_torchs_random_numbers_are_changed(data, comparison):
    before, state = data.copy(), torch.get_rng_state()
    chipvi.compare_heads(data, "poisson", steps=2, seeds=[0])
    np.testing.assert_array_equal(before.X, data.X)
    assert list(before.obs) == list(data.obs)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_head_that_fails_is_a_row_with_its_outcome_and_the_others_are_there(data, monkeypatch, tmp_path):
    monkeypatch.setitem(COUNT_HEADS, "broken", Broken)
    comparison = chipvi.compare_heads(data, ["broken", "mean_dispersion"], steps=4, seeds=[0, 1])
    runs = comparison.runs.set_index(["head", "seed"])
    assert (runs.loc["mean_dispersion", "outcome"] == "ok").all()
    assert runs.loc["broken", "outcome"].str.startswith("diverged ").all()
    assert runs.loc["broken", ["r2", "nll", "crps"]].isna().all(axis=None)
    assert np.isfinite(runs.loc["mean_dispersion", "nll"]).all()
    assert list(comparison.table.index) == ["mean_dispersion", "broken", "marginal", "average"]
    assert comparison.table.loc["broken", "diverged"] == 2
    assert any(sentence.startswith("broken: 2 of 2 runs diverged; seed 0 diverged ") for sentence in comparison.verdict)
    assert comparison.verdict[0].startswith("By NLL, mean_dispersion is best")
    comparison.plot(save=tmp_path / "heads.png")


def test_without_any_run_that_succeeds_there_is_still_an_answer(data, monkeypatch):
    monkeypatch.setitem(COUNT_HEADS, "broken", Broken)
    comparison = chipvi.compare_heads(data, ["broken"], steps=2, seeds=[0])
    assert comparison.verdict[0] == "No head came through all of its runs."
    comparison.plot()


def test_predictions_that_are_not_finite_are_a_divergence(data, monkeypatch):
    predict = chipvi.ChipVI.get_likelihood_parameters

    def with_hole(self, **options):
        parameters = predict(self, **options)
        parameters["mean"].iloc[3, 1] = np.inf
        return parameters

    monkeypatch.setattr(chipvi.ChipVI, "get_likelihood_parameters", with_hole)
    comparison = chipvi.compare_heads(data, ["poisson"], steps=2, seeds=[0])
    (outcome,) = comparison.runs["outcome"]
    assert outcome.startswith("diverged by step 2: 1 of ")
    assert outcome.endswith(" predictions is not finite")


def test_other_errors_are_not_taken_for_divergence(data, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(chipvi.ChipVI, "get_likelihood_parameters", fail)
    with pytest.raises(RuntimeError, match="something else"):
        chipvi.compare_heads(data, ["poisson"], steps=2, seeds=[0])


def test_an_interrupt_ends_the_comparison_and_not_one_run(data, monkeypatch):
    started = []

    def interrupt(self, *_):
        started.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs_module.Watch, "on_train_batch_end", interrupt)
    with pytest.warns(UserWarning, match="training was interrupted"), pytest.raises(KeyboardInterrupt):
        chipvi.compare_heads(data, steps=2, seeds=[0])
    assert len(started) == 1


def test_the_same_head_under_two_names_is_not_distinguished(data, monkeypatch):
    monkeypatch.setitem(COUNT_HEADS, "twin", MeanDispersion)
    comparison = chipvi.compare_heads(data, ["mean_dispersion", "twin"], steps=4, seeds=[0, 1])
    scores = comparison.runs.set_index(["head", "seed"])[["r2", "nll", "crps", "coverage"]]
    pd.testing.assert_frame_equal(scores.loc["mean_dispersion"], scores.loc["twin"])
    for sentence in comparison.verdict[:3]:
        assert "cannot be distinguished from twin (+0, 0.0 spreads)" in sentence
        assert "better than" not in sentence


# what is refused, before anything is trained


@pytest.fixture
def no_training(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(runs_module, "train", fail)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"heads": ["poison"]}, "head 'poison' is not in .*COUNT_HEADS; did you mean 'poisson'", id="head"),
        pytest.param({"heads": []}, "heads must name at least one head", id="no head"),
        pytest.param({"steps": 0}, "steps must be a whole number of at least 1, got 0", id="steps"),
        pytest.param({"steps": 2.5}, "steps must be a whole number; it is 2.5", id="half a step"),
        pytest.param({"seeds": []}, "seeds must be a list of whole numbers", id="no seed"),
        pytest.param({"seeds": 3}, "seeds must be a list; it is 3", id="a number of seeds"),
        pytest.param({"seeds": [-1]}, "seeds must be a list of whole numbers from 0 on", id="negative seed"),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(data, no_training, arguments, message):
    with pytest.raises(ValueError, match=message):
        chipvi.compare_heads(data, **arguments)


def test_data_that_were_not_set_up_are_refused(kit, no_training):
    with pytest.raises(ValueError, match=r"set up your AnnData with ChipVI.setup_anndata first"):
        chipvi.compare_heads(kit.data())


def test_data_too_small_to_hold_anything_out_are_refused(kit, no_training):
    small = set_up(kit.data(n_regions=196), kit.keys)
    with pytest.raises(ValueError, match="at least 200 regions, so that some can be held out; it has 196"):
        chipvi.compare_heads(small)


def test_data_without_counts_are_refused(kit, no_training):
    full = kit.data()
    bare = anndata.AnnData(obs=full.obs, var=full.var, layers={"signal": full.layers["signal"]})
    set_up(bare, {"signal_layer": "signal", "control_key": "is_control"})
    with pytest.raises(ValueError, match="there must be counts, for a count head to predict"):
        chipvi.compare_heads(bare)


def test_a_single_track_is_refused(kit, no_training):
    full = kit.data()
    alone = set_up(anndata.AnnData(full.X[:, :1], obs=full.obs, var=full.var.iloc[:1]), {})
    with pytest.raises(ValueError, match="at least two tracks must have data"):
        chipvi.compare_heads(alone)


# what is taken where there is more than needed


def test_blocks_are_spread_over_all_rows_and_no_more_than_asked_for():
    rows = np.arange(100, 70_100)
    chosen = draw_blocks(rows, 20_000)
    assert 19_000 < len(chosen) <= 20_000
    assert chosen[0] < 2_000 and chosen[-1] > 68_000
    np.testing.assert_array_equal(chosen, np.unique(chosen))
    assert (np.diff(chosen) == 1).mean() > 0.98
    np.testing.assert_array_equal(draw_blocks(rows, 70_000), rows)


# the verdict, on numbers made up


DIVERGED = Outcome(Ending.DIVERGED, step=7, names=("grad_norm", "train_loss"))


def made_up(
    scores: dict[str, list[float]],
    entries: float = 5_000,
    reads: float = 9_000,
    average: bool = True,
    n_tracks: int = 2,
    findings: tuple[Finding, ...] = (),
):
    """Verdict on heads with these NLL by seed (NaN: diverged); CRPS as NLL, R2 and Pearson the other way round."""
    numbers = {"entries": entries, "reads": reads}
    names = ["one", "two", "three"][:n_tracks]
    runs, parts = [], []
    references = {"marginal": [2.0]} | ({"average": [1.9]} if average else {})
    for head, values in (scores | references).items():
        for seed, value in enumerate(values):
            row = {"nll": value, "crps": value, "r2": 2 - value, "pearson": 2.2 - value}
            tracks = pd.DataFrame([row] * n_tracks, index=pd.Index(names, name="track"))
            parts.append(tracks.assign(head=head, seed=seed, **numbers).reset_index())
            if head not in references:
                outcome = Outcome(Ending.FINISHED, 9) if np.isfinite(value) else DIVERGED
                runs.append(Run(head, seed, outcome, findings, {}, tracks, pd.Series(dtype=float)))
    return judge_heads(runs, pd.concat(parts, ignore_index=True))


def in_python(*arguments, **options) -> list[str]:
    return describe(made_up(*arguments, **options), Place.PYTHON)


def test_a_difference_beyond_the_spread_is_reported_and_one_within_is_not():
    sentences = in_python({"a": [1.50, 1.51, 1.52], "b": [1.515, 1.505, 1.516], "c": [1.60, 1.61, 1.62]})
    assert sentences[0] == (
        "By NLL, a is best: 1.510 nat per entry. It cannot be distinguished from b (+0.002, 0.2 spreads). "
        "It is better than c (+0.1, 10.0 spreads)."
    )
    assert sentences[2].startswith("By R2, a is best: 0.490. It cannot be distinguished from b (-0.002")
    assert sentences[3].endswith("with 3 of them it takes 2.3 spreads to distinguish two heads.")


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_heads_that_differ_by_chance_alone_are_distinguished_one_time_in_twenty(n_seeds):
    random = np.random.default_rng(0)
    draws = random.normal(1.5, 0.01, (2_000, 2, n_seeds))
    apart = [rank("nll", {"a": a, "b": b}).gaps[0].is_apart for a, b in draws]
    assert 0.035 < np.mean(apart) < 0.065


def test_one_seed_distinguishes_nothing():
    sentences = in_python({"a": [1.5], "b": [1.9]})
    assert sentences[0] == "By NLL, a is best: 1.500 nat per entry. It cannot be distinguished from b (+0.4)."
    assert "One seed shows no spread, so any difference may be chance: give three or more." in sentences


def test_a_head_that_failed_once_is_never_the_best():
    sentences = in_python({"a": [1.2, np.nan], "b": [1.5, 1.6]})
    assert sentences[0] == "By NLL, b is best: 1.550 nat per entry."
    assert "a: 1 of 2 runs diverged; seed 1 diverged at step 7: not finite are grad_norm, train_loss." in sentences


def test_the_best_head_is_held_against_what_needs_no_model():
    beats, beats_average = in_python({"a": [1.5, 1.6]})[-2:]
    assert beats == (
        "a beats the marginal, every track at its training mean: NLL 1.550 against 2.000, R2 0.450 against 0.000."
    )
    assert beats_average == (
        "a beats the average of the other biosamples, on the 2 tracks that have one: "
        "R2 0.450 against 0.100 and Pearson 0.650 against 0.300."
    )
    worse, worse_than_average = in_python({"a": [2.1, 2.2]})[-2:]
    assert worse.startswith("a, the best by NLL, does not beat the marginal")
    assert "train for more steps" in worse
    assert worse_than_average.startswith("a does not beat the average of the other biosamples")
    assert "does not beat in every run the marginal" in in_python({"a": [1.9, 2.2]})[-2]
    assert in_python({"a": [1.5, 1.6]}, average=False)[-1].startswith("No track was measured in another biosample")


def test_too_little_data_are_reported_with_numbers():
    (sentence,) = [s for s in in_python({"a": [1.5, 1.6]}, entries=640) if s.startswith("Too little")]
    assert "2 of 2 tracks have fewer than 1,000 held-out entries (fewest: one, 640)" in sentence
    (sentence,) = [s for s in in_python({"a": [1.5, 1.6]}, reads=37) if s.startswith("Too little")]
    assert "2 of 2 tracks have fewer than 200 held-out reads (fewest: one, 37)" in sentence
    assert not [s for s in in_python({"a": [1.5, 1.6]}) if s.startswith("Too little")]


def test_one_of_anything_is_in_the_singular():
    advised = (Finding(Sign.LOW_KL_WEIGHT, {"weight": 0.25, "steps": 9}),)
    sentences = in_python({"a": [1.5]}, entries=640, n_tracks=1, findings=advised)
    assert any("on the 1 track that has one: " in one for one in sentences)
    assert any("1 of 1 track has fewer than 1,000 held-out entries" in one for one in sentences)
    assert "a: training gave advice in 1 run; see `advice` of the runs." in sentences
    assert "b: 1 of 1 run diverged" in " ".join(in_python({"a": [1.5], "b": [np.nan]}))


def test_wins_are_counted_run_by_run():
    verdict = made_up({"a": [1.9, 2.2, 1.85]})
    assert [beside.win for beside in verdict.marginal] == [Win.SOME, Win.SOME]
    assert [beside.score for beside in verdict.average] == ["r2", "pearson"]
    assert [beside.win for beside in made_up({"a": [1.5, 1.6]}).average] == [Win.ALL, Win.ALL]
    assert [beside.win for beside in made_up({"a": [2.1, 2.2]}).average] == [Win.NONE, Win.NONE]


def test_the_command_line_names_its_own_options_and_files():
    advised = (Finding(Sign.LOW_KL_WEIGHT, {"weight": 0.25, "steps": 9}),)
    text = " ".join(describe(made_up({"a": [2.1], "b": [2.2]}, findings=advised), Place.COMMAND_LINE))
    assert "give three or more (--seeds)" in text
    assert "train for more steps (--steps)" in text
    assert "see column advice of runs.csv" in text
    assert "`" not in text


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome(Ending.FINISHED, 40), "ok"),
        (DIVERGED, "diverged at step 7: not finite are grad_norm, train_loss"),
        (
            Outcome(Ending.BROKEN, 40, n_broken=1, n_predicted=1_200),
            "diverged by step 40: 1 of 1,200 predictions is not finite",
        ),
        (
            Outcome(Ending.BROKEN, 40, n_broken=3, n_predicted=5),
            "diverged by step 40: 3 of 5 predictions are not finite",
        ),
    ],
)
def test_an_outcome_has_words(outcome, words):
    assert outcome_words(outcome) == words
    assert outcome.is_ok == (words == "ok")


def test_real_counts_of_few_genes_are_enough_to_rank_a_head_above_the_marginal(shared_data):
    adata = anndata.read_h5ad(shared_data / "roadmap_tss.h5ad")[:6_000].copy()
    set_up(adata, {"depth_key": "depth", "segment_key": "gene_id"})
    comparison = chipvi.compare_heads(adata, ["mean_dispersion", "poisson"], steps=40, seeds=[0])
    assert (comparison.table.loc[HEADS, "nll"] > 0).all()
    assert comparison.table.loc["mean_dispersion", "nll"] < comparison.table.loc["marginal", "nll"]
    assert comparison.table.loc["mean_dispersion", "r2"] > comparison.table.loc["average", "r2"]
    genes = adata.obs["gene_id"].to_numpy()
    plan = plan_comparison(adata, None, 1, [0])
    assert not set(genes[plan.judged]) & set(genes[plan.split.train])
