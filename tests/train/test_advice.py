"""Advice: each sign of a sick training is found, in records and in real trainings, and healthy ones stay silent."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from count_head_study import FAILING, StudyModel

import chipvi
from chipvi._messages import Place
from chipvi.data.track_data import ViewKind
from chipvi.nn import MeanDispersion
from chipvi.train.advice import Advisor, Diverged, TrainingAdvice, judge_depths, judge_kl_weight
from chipvi.train.findings import Finding, Sign
from chipvi.train.masking import apply_task, choose_imputable, draw_task
from chipvi.train.words import describe

COUNTS_ONLY = {"observed_layer": "observed", "depth_key": "depth", "control_key": "is_control"}

# the rules, on records

HEALTHY = {
    "imp_count_loss": 1.8, "imputable_count_pcc": 0.4, "grad_norm_count_head": 0.5, "grad_norm_signal_head": 4.0,
    "clamped_mean": 0.0, "clamped_logit": 0.0, "dispersion": 2.0, "moment_dispersion": 0.5, "floored_std": 0.7,
    "kl_weight": 1.0, "active_latents": 3.0, "kl_by_latent.0": 0.2, "kl_by_latent.1": 0.03, "kl_by_latent.2": 1.0,
    "predicted_mean": 2.0, "true_mean": 2.0, "entries_by_track.a": 900.0, "entries_by_track.b": 1000.0,
    "predicted_mean_by_track.a": 1.5, "true_mean_by_track.a": 1.0, "predicted_mean_by_track.b": 2.0,
    "true_mean_by_track.b": 3.0,
}  # fmt: skip


def found_in(steps=(0, 49, 99, 149, 199, 249, 299, 349), since=0, **changes):
    """All that is found in records of these steps, healthy but for the changes, which hold from step `since` on."""
    advisor = Advisor()
    return [one for step in steps for one in advisor.add({"step": step} | HEALTHY | (changes if step >= since else {}))]


def in_python(findings):
    return [describe(finding, Place.PYTHON) for finding in findings]


SICK = [  # what is changed, and the words for it
    pytest.param({"imputable_count_pcc": 0.004}, "after 200 steps .* 1.8, from 1.8 at .* above 0.00", id="plateau"),
    pytest.param({"grad_norm_count_head": 2e-6}, "has a norm of 2e-06, and at most 0.001", id="starved"),
    pytest.param({"clamped_logit": 0.4}, "40% for the logit .*'logit_clamp': None", id="clamped"),
    pytest.param({"clamped_own": 0.1}, "10% for the own of .* loosen the clamp", id="clamped by another's head"),
    pytest.param({"predicted_mean_by_track.a": 0.2}, r"factor: a \(0.2 times\) the", id="biased down"),
    pytest.param({"predicted_mean_by_track.b": 9.0}, r"factor: b \(3 times\) the", id="biased up"),
    pytest.param({f"kl_by_latent.{k}": 0.015 for k in range(3)}, "3 of 3 latents carry less than 0.02", id="latents"),
    pytest.param({"dispersion": 0.1}, "collapsed: it is 0.1, that of whole tracks .* 0.5, though", id="collapsed"),
    pytest.param({"dispersion": 120.0}, r"exploded: it is 1.2e\+02", id="exploded"),
    pytest.param({"floored_std": 0.99}, "lies at its floor, for 99% of the entries", id="floored"),
    pytest.param({"grad_norm_signal_head": 80.0}, "has been 160 to 160 times that of the count head", id="drowned"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), SICK)
def test_a_sign_is_found_once_with_its_numbers(changes, expected):
    (found,) = in_python(found_in(**changes))
    assert re.search(expected, found), found


@pytest.mark.parametrize(("changes", "expected"), SICK)
def test_two_records_are_too_few(changes, expected):
    assert found_in(steps=(0, 300), **changes) == []
    assert found_in(since=300, **changes) == []


def test_healthy_records_and_records_of_another_kind_are_silent():
    assert found_in() == []
    advisor = Advisor()
    assert [advisor.add({"step": step, "train_loss": 1.0}) for step in range(0, 400, 50)] == [[]] * 8


def test_a_loss_that_falls_is_no_plateau():
    assert found_in(since=100, imputable_count_pcc=0.004, imp_count_loss=1.6) == []  # correlated before
    steps = range(0, 400, 50)
    advisor = Advisor()
    records = [
        {"step": step} | HEALTHY | {"imputable_count_pcc": 0.01, "imp_count_loss": 3 - step / 500} for step in steps
    ]
    assert not [found for record in records for found in advisor.add(record)]


def test_a_bias_must_be_beyond_chance_and_in_one_direction():
    few = {"entries_by_track.a": 300.0, "predicted_mean_by_track.a": 0.2}
    rare = {"entries_by_track.a": 900.0, "predicted_mean_by_track.a": 0.1, "true_mean_by_track.a": 0.5}
    assert found_in(**few) == found_in(**rare) == []
    assert found_in(**{"entries_by_track.a": 0.0, "predicted_mean_by_track.a": np.nan}) == []
    advisor = Advisor()
    means = [0.3, 3.0] * 4
    records = [HEALTHY | {"step": 200 + 50 * i, "predicted_mean_by_track.a": mean} for i, mean in enumerate(means)]
    assert not [found for record in records for found in advisor.add(record)]


def test_latents_are_judged_under_the_full_weight_only():
    asleep = {f"kl_by_latent.{k}": 0.001 for k in range(3)}
    assert found_in(kl_weight=0.5, **asleep) == []


def test_several_signs_are_several_findings():
    found = found_in(
        clamped_mean=0.2, grad_norm_signal_head=400.0, imputable_count_pcc=-0.01, dispersion=0.1, floored_std=1.0
    )
    assert {finding.sign for finding in found} == {
        Sign.CLAMPED, Sign.DROWNED_COUNTS, Sign.PLATEAU, Sign.COLLAPSED_DISPERSION, Sign.FLOORED_SPREAD,
    }  # fmt: skip


def test_the_tracks_that_are_biased_come_worst_first():
    (found,) = found_in(**{"predicted_mean_by_track.a": 2.0, "predicted_mean_by_track.b": 0.3})
    assert list(found.where.items()) == [("b", pytest.approx(0.1)), ("a", pytest.approx(2.0))]


def test_a_track_may_have_any_name():
    found = Finding(Sign.BIASED_TRACKS, {"records": 3}, {"shown": 2.0, "records": 0.25, "{0}": 4.0})
    assert "factor: shown (2 times), records (0.25 times), {0} (4 times) the" in describe(found, Place.PYTHON)


def test_the_kl_weight_is_judged_at_the_end():
    assert judge_kl_weight(1.0, 300) == []
    (found,) = in_python(judge_kl_weight(0.25, 300))
    assert found.startswith("the KL weight was still 0.25 of 1 when training ended at step 300")
    assert "plan_kwargs={'kl_warmup': ...}" in found


def test_an_advisor_goes_on_from_its_state_and_a_finding_from_plain_values():
    first, second = Advisor(), Advisor()
    sick = HEALTHY | {"grad_norm_count_head": 1e-6}
    assert [first.add({"step": step} | sick) for step in (0, 49)] == [[], []]
    state = first.state()
    second.load(state)
    (found,) = second.add({"step": 99} | sick)
    assert found.sign is Sign.STARVED_HEAD
    third = Advisor()
    third.load(second.state())
    assert third.add({"step": 149} | sick) == []  # found once
    assert Finding.of(found.plain()) == found


def test_what_a_checkpoint_keeps_of_findings_is_read_with_nothing_but_weights(tmp_path):
    (found,) = judge_depths(list("abcd"), ASSAYS, np.full(4, 7e6), MEAN, MEAN * NUMBER)
    torch.save([found.plain()], tmp_path / "findings")
    assert [Finding.of(plain) for plain in torch.load(tmp_path / "findings", weights_only=True)] == [found]


# the same in the words of the command line

FINDINGS = [
    Finding(Sign.PLATEAU, {"steps": 200, "first": 1.8, "loss": 1.79, "correlation": 0.01}),
    Finding(Sign.STARVED_HEAD, {"norm": 2e-6, "most": 1e-3, "records": 3}),
    Finding(Sign.CLAMPED, {"least": 0.05, "records": 3}, dict.fromkeys(("logit", "count", "losses", "own"), 0.4)),
    Finding(Sign.CLAMPED, {"least": 0.05, "records": 3}, dict.fromkeys(("mean", "dispersion", "zero_logit"), 0.2)),
    Finding(Sign.BIASED_TRACKS, {"records": 3}, {"K562.H3K4me3": 0.2}),
    Finding(Sign.EMPTY_LATENTS, {"asleep": 6, "latents": 7, "least": 0.02, "records": 3}),
    Finding(Sign.COLLAPSED_DISPERSION, {"dispersion": 0.1, "moments": 0.5}),
    Finding(Sign.EXPLODED_DISPERSION, {"dispersion": 120.0, "moments": 0.5}),
    Finding(Sign.FLOORED_SPREAD, {"share": 0.99}),
    Finding(Sign.DROWNED_COUNTS, {"least": 160.0, "most": 170.0, "records": 3}),
    Finding(Sign.LOW_KL_WEIGHT, {"weight": 0.25, "steps": 300}),
    Finding(Sign.EQUAL_DEPTHS, {"depth_high": 7e6, "depth_low": 7e6}, {"b": 6.2, "a": 2.0}),
    Finding(Sign.UNLIKELY_DEPTHS, {"depth_high": 1e6, "depth_low": 2e7}, {"c": 1.0, "d": 1.5}),
    Diverged(12, {"grad_norm": np.nan}, lr=2e-4).finding,
]
ONLY_IN_PYTHON = (
    r"chipvi\.|model\.|plan_kwargs|kl_weight|mean_weight|head=|head_options|depth_key|\blr\b|adata|of your own"
)


def test_every_sign_has_words_in_either_place():
    assert {finding.sign for finding in FINDINGS} == set(Sign)
    for finding in FINDINGS:
        python, command_line = (describe(finding, place) for place in Place)
        assert python != command_line or finding.sign is Sign.FLOORED_SPREAD
        assert python.partition(".")[0] == command_line.partition(".")[0]  # what is wrong is the same
        assert all(re.fullmatch(r".*[\w)']\.", text) for text in (python, command_line))


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.sign.value)
def test_the_command_line_gives_no_advice_that_only_python_can_follow(finding):
    text = describe(finding, Place.COMMAND_LINE)
    assert not re.search(ONLY_IN_PYTHON, text), text


def test_a_divergence_has_its_numbers_and_its_message():
    error = Diverged(12, {"grad_norm": np.nan, "train_loss": np.inf}, lr=2e-4)
    assert (error.step, error.names) == (12, ("grad_norm", "train_loss"))
    assert str(error).startswith("training diverged at step 12: not finite are grad_norm, train_loss. The model is as")
    assert "plan_kwargs={'lr': 0.0002}" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as it comes from another process


ASSAYS = ["H3K4me3", "H3K4me3", "H3K27me3", "H3K27me3"]
MEAN = np.array([2.0, 6.2, 1.0, 1.5])
NUMBER = 1000


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (np.full(4, 7e6), "b has 6.2 reads per region, a 2, of one assay, but every track has a depth of 7,000,000"),
        (1e6 * MEAN * [1, 1, 1, 11], "c has 1 reads .* d 1.5, .* but their depths are 1,000,000 and 16,500,000"),
        (np.array([np.nan, 3.0, 3.0, 3.0]), None),
        (1e6 * MEAN, None),
        (1e6 * MEAN * [1, 1, 100, 100], None),  # assays differ by nature
        (1e6 * MEAN * [1, 5, 5, 1], None),  # experiments differ in quality
    ],
)
def test_depths_that_cannot_be_depths_are_found(depth, expected):
    found = in_python(judge_depths(list("abcd"), ASSAYS, depth, MEAN, MEAN * NUMBER))
    if expected is None:
        assert found == []
    else:
        assert re.search(expected, found[0]), found


def test_tracks_with_hardly_a_read_are_not_asked_for_their_depth():
    assert judge_depths(list("abcd"), ASSAYS, 1e6 * MEAN * [1, 1, 1, 99], MEAN, MEAN * [1000, 1000, 1000, 50]) == []


# real trainings


class Fixed(MeanDispersion):
    """A head whose dispersion is the one of the moments, times a factor, and cannot move."""

    def __init__(self, factor):
        super().__init__()
        self._shift = float(np.log(factor))

    def forward(self, raw_qo, log_mean_q, log_dispersion_q):
        raw_qo = torch.stack([raw_qo[..., 0], 0 * raw_qo[..., 1]], dim=-1)
        return super().forward(raw_qo, log_mean_q, log_dispersion_q + self._shift)


def with_module(change):
    """A ChipVI whose module is changed before it is trained."""

    class Changed(chipvi.ChipVI):
        def _make_module(self, *arguments):
            module = super()._make_module(*arguments)
            change(module)
            return module

    return Changed


def detach(module):
    decode = module.decode
    module.decode = lambda *arguments: decode(*arguments).detach()


def make_sick(kit, cls, adata, **options):
    keys = kit.keys if "signal" in adata.layers else COUNTS_ONLY
    cls.setup_anndata(adata, **keys)
    return cls(adata, **({"n_latent": 6, "n_hidden": 24} | options))


def scaled_signal(kit):
    adata = kit.data()
    adata.layers["signal"] = adata.layers["signal"] / 1000
    return adata


def same_depths(kit):
    adata = kit.data(depth_spread=1.2)
    adata.var["depth"] = 1.0
    return adata


def hidden_copies(kit):
    adata = kit.data()
    adata.X[:, 0] *= 50
    return adata


QUICK = {"max_steps": 40, "plan_kwargs": {"log_every_n_steps": 10}}
LONG = {"max_steps": 220, "plan_kwargs": {"log_every_n_steps": 20, "biosamples_per_step": 2}}


def sick(kit):
    """What makes each sign: model and options of training."""
    counts = {"signal": False}
    return {
        "plateau": lambda: (make_sick(kit, StudyModel, kit.data(**counts), suspects=FAILING), LONG),
        "starved": lambda: (make_sick(kit, with_module(detach), kit.data(**counts)), QUICK),
        "clamped": lambda: (kit.model(kit.data(), head="clamped_np", head_options={"logit_clamp": 0.3}), QUICK),
        "biased": lambda: (
            make_sick(kit, StudyModel, kit.data(**counts), suspects=("inverted_probs",)),
            {"max_steps": 300},
        ),
        "latents": lambda: (
            kit.model(kit.data(), kl_weight=1e3),
            {"max_steps": 160, "plan_kwargs": {"log_every_n_steps": 20, "lr": 1e-2, "kl_warmup": 0.05}},
        ),
        "collapsed": lambda: (
            make_sick(
                kit, with_module(lambda m: setattr(m.view(ViewKind.COUNTS), "head", Fixed(0.05))), kit.data(**counts)
            ),
            QUICK,
        ),
        "exploded": lambda: (
            make_sick(
                kit, with_module(lambda m: setattr(m.view(ViewKind.COUNTS), "head", Fixed(1e3))), kit.data(**counts)
            ),
            QUICK,
        ),
        "floored": lambda: (kit.model(scaled_signal(kit)), QUICK),
        "drowned": lambda: (kit.model(scaled_signal(kit)), QUICK),
        "kl": lambda: (kit.model(kit.data()), {"max_steps": 5, "plan_kwargs": {"kl_warmup": 10.0}}),
        "same depths": lambda: (kit.model(same_depths(kit)), {"max_steps": 1}),
        "copies": lambda: (kit.model(hidden_copies(kit)), {"max_steps": 1}),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plateau", "the counts are not being learnt: after 200 steps"),
        ("starved", "the count head is starved: .* a norm of 0,"),
        ("clamped", r"held by a clamp or bound: [4-9]\d% for the logit"),
        ("biased", r"predicted means are off by a factor: cell3.H3K4me1 \(0.0"),
        ("latents", "the latent space is empty: 6 of 6"),
        ("collapsed", "dispersion of the counts has collapsed"),
        ("exploded", "dispersion of the counts has exploded"),
        ("floored", "the spread of the signal lies at its floor, for 100% of the entries"),
        ("drowned", "the signal drowns the counts"),
        ("kl", "the KL weight was still 0.1 of 1"),
        ("same depths", "the depths cannot be right: .* every track has a depth of 1"),
        ("copies", r"the depths cannot be right: cell1.H3K4me3 has 132 reads per region"),
    ],
)
def test_a_sick_training_is_warned_of(kit, name, expected):
    model, options = sick(kit)[name]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TrainingAdvice)
        kit.train(model, **options)
    caught = [warning for warning in caught if warning.category is TrainingAdvice]
    assert model.advice == [str(warning.message) for warning in caught]
    assert any(re.search(expected, text) for text in model.advice), model.advice
    assert all(warning.filename.endswith("conftest.py") for warning in caught)  # where train was called
    assert len(set(model.advice)) == len(model.advice)


@pytest.mark.parametrize("head", ["mean_dispersion", "clamped_np"])
def test_a_healthy_training_is_silent(kit, head):
    model = kit.train(kit.model(kit.data(), head=head), max_steps=240, plan_kwargs={"log_every_n_steps": 10})
    assert model.advice == []


def only(*names):
    """These tracks alone, and with nothing in common: each has its regions in an order of its own."""

    def make(kit):
        adata = kit.data(signal=False, controls=False, missing=0.0)[:, list(names)].copy()
        random = np.random.default_rng(0)
        adata.X = np.stack([random.permutation(column) for column in adata.X.T], axis=1)
        return adata

    return make


@pytest.mark.parametrize(
    ("make", "is_imputable"),
    [
        pytest.param(only("cell1.H3K4me3"), False, id="one track"),
        pytest.param(only("cell1.H3K4me3", "cell2.H3K4me1"), False, id="neither biosample nor assay in common"),
        pytest.param(only("cell1.H3K4me3", "cell1.H3K4me1"), True, id="two tracks of one biosample"),
        pytest.param(only("cell1.H3K4me3", "cell2.H3K4me3"), True, id="one assay in two biosamples"),
    ],
)
def test_counts_that_cannot_be_imputed_need_not_be_learnt(kit, make, is_imputable):
    model = make_sick(kit, with_module(detach), make(kit))  # which learns nothing, whatever the data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingAdvice)
        kit.train(model, **LONG)
    assert any("the counts are not being learnt" in text for text in model.advice) == is_imputable


def test_where_some_tracks_are_missing_only_what_can_be_imputed_is_judged(kit):
    adata = kit.data(n_assays=3)  # with controls and signal
    random = np.random.default_rng(2)
    measured_rt = random.random(adata.shape) < np.where(adata.var["is_control"], 1.0, 0.3)
    adata.layers["observed"] = measured_rt.astype(np.int8)
    adata.layers["signal"][~measured_rt] = np.nan
    model, rows = kit.model(adata), np.arange(3, 250, 2)
    module, minibatch = model.module, kit.take(model, rows)
    task = draw_task(module, len(rows), 3, torch.Generator().manual_seed(5))
    example = apply_task(module, minibatch, task, torch.Generator().manual_seed(6))
    found_rqg = choose_imputable(module, example).numpy()
    biosample, assay = (adata.var[key].to_numpy(str) for key in ("biosample", "assay"))
    is_related_tt = (biosample[:, None] == biosample) | (assay[:, None] == assay)
    np.fill_diagonal(is_related_tt, False)
    visible_rt = measured_rt[rows] & ~task.hidden_rt.numpy() & ~adata.var["is_control"].to_numpy()
    expected_rt = (visible_rt[:, None] & is_related_tt).any(axis=2)
    is_target_qg = (module.tracks.target_bg[task.biosample_q] >= 0).numpy()
    track_qg = example.track_qg.numpy()
    np.testing.assert_array_equal(found_rqg[:, is_target_qg], expected_rt[:, track_qg][:, is_target_qg])
    assert 0.2 < found_rqg.mean() < 0.98


def test_depths_added_up_from_the_counts_are_not_judged(kit):
    keys = {name: key for name, key in kit.keys.items() if name != "depth_key"}
    assert kit.train(kit.model(same_depths(kit), keys), max_steps=1).advice == []


def test_advice_adds_up_over_trainings_and_is_saved_with_the_model(kit, tmp_path):
    adata = kit.data()
    model = kit.model(adata)
    assert model.advice == []
    for _ in range(2):
        with pytest.warns(TrainingAdvice, match="the KL weight"):
            kit.train(model, plan_kwargs={"kl_warmup": 10.0})
    assert len(model.advice) == 2
    model.save(tmp_path / "model", overwrite=True)
    assert chipvi.ChipVI.load(tmp_path / "model", adata, accelerator="cpu").advice == model.advice


def test_whoever_turns_advice_into_errors_gets_the_model_back_as_it_was(kit):
    model = kit.train(kit.model(kit.data()))
    before = model.impute().X
    with pytest.raises(TrainingAdvice, match="the KL weight"):  # pytest makes errors of warnings
        kit.train(model, plan_kwargs={"kl_warmup": 10.0})
    np.testing.assert_array_equal(model.impute().X, before)
