"""The diagnosis finds what is wrong with predictions whose truth is known, and nothing where nothing is wrong."""

import re

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from anndata import AnnData
from sklearn.metrics import r2_score

from chipvi.data.segments import Segments
from chipvi.data.splits import MOST_DIAGNOSED, draw_blocks
from chipvi.data.track_data import ViewKind
from chipvi.evaluate.verdicts import Level, Spread, Standing, judge_track, standard_error
from chipvi.metrics import fit_dispersion, leave_one_out_average, nb_nll, nb_pit
from chipvi.predict.predictor import Predictor, ViewAnswer
from chipvi.train.findings import Finding, Sign

N_REGIONS, DISPERSION = 6_000, 4.0
NAME = "cell2.H3K4me1"
VERDICTS = ["mean", "spread", "beats", "intervals"]
EVERYWHERE = np.ones(5_000, dtype=bool)
KEYS = {"observed_layer": "observed", "depth_key": "depth"}


@pytest.fixture(scope="module")
def truth(kit) -> AnnData:
    """3 biosamples x 4 assays, counts drawn from the negative binomial with mean `rate`; 5 % of the entries missing."""
    adata = kit.data(n_regions=N_REGIONS, mean_count=10.0, signal=False, controls=False, missing=0.0)
    random = np.random.default_rng(1)
    rate_rt = adata.layers["rate"].astype(np.float64)
    adata.X = random.negative_binomial(DISPERSION, DISPERSION / (DISPERSION + rate_rt)).astype(np.float32)
    is_missing_rt = random.random(adata.shape) < 0.05
    adata.layers["observed"] = 1.0 - is_missing_rt
    adata.X[is_missing_rt] = 999.0  # a missing entry may hold anything
    return adata


@pytest.fixture(scope="module")
def untaught(kit, truth):
    """A trained model in name, whose predictions the tests replace."""
    return kit.train(kit.model(truth, KEYS), max_steps=2)


@pytest.fixture
def diagnose(monkeypatch, untaught, truth):
    """Diagnose a model that predicts the true rates, but for what is passed: arrays of regions x tracks."""

    def run(**other):
        predicted = {"mean": truth.layers["rate"], "dispersion": np.full(truth.shape, DISPERSION)} | other
        done = 0

        def predict(self, around, asked):
            nonlocal done
            rows = slice(done, done := done + around.visible.minibatch.n_regions)
            mean_rn, spread_rn = (torch.tensor(predicted[name][rows]) for name in ("mean", "dispersion"))
            none_rn = torch.zeros_like(mean_rn)
            return {ViewKind.COUNTS: ViewAnswer(mean_rn[None], spread_rn[None], mean_rn[None], none_rn, none_rn)}

        monkeypatch.setattr(Predictor, "predict", predict)
        return untaught.diagnose()

    return run


def measured(adata: AnnData) -> np.ndarray:
    return np.where(adata.layers["observed"] == 1, adata.X, np.nan).astype(np.float64)


def scaled(values_rt: np.ndarray, column: int, factor: float) -> np.ndarray:
    return values_rt * np.where(np.arange(values_rt.shape[1]) == column, factor, 1.0)


# verdicts on known predictions


def test_nothing_is_wrong_with_the_true_distribution(diagnose, truth):
    diagnosis = diagnose()
    assert list(diagnosis.table.index) == list(truth.var_names)
    assert (diagnosis.table[["mean", "spread", "intervals"]] == "right").all(axis=None)
    assert (diagnosis.table["beats"] == "beats both").all()
    assert diagnosis.advice == []
    assert diagnosis.suggestions == ()
    assert "Nothing: no fault was found." in diagnosis.text
    assert np.abs(diagnosis.pit - 1).max(axis=None) < 0.2


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (2.0, "too high by a factor of 2.0"),
        (1.25, r"2\d % too high"),
        (0.8, r"(19|2\d) % too low"),
        (0.25, "too low by a factor of [34].[0-9]"),
    ],
)
def test_a_mean_that_is_off_is_reported_by_how_much_and_for_that_track_alone(diagnose, truth, factor, words):
    column = truth.var_names.get_loc(NAME)
    diagnosis = diagnose(mean=scaled(truth.layers["rate"], column, factor))
    assert re.fullmatch(words, diagnosis.table.loc[NAME, "mean"])
    assert (diagnosis.table["mean"].drop(NAME) == "right").all()
    assert diagnosis.table.loc[NAME, "ratio"] == pytest.approx(factor, rel=0.06)
    assert diagnosis.table.loc[NAME, "spread"] in ("right", "unclear while the mean is off")
    assert [one for one in diagnosis.advice if "In 1 of 12 tracks the mean is off" in one]
    assert diagnosis.text.split("Pearson (average)\n")[1].split()[0] == NAME  # worst track first


@pytest.mark.parametrize(("factor", "words"), [(10.0, "too narrow"), (0.1, "too wide")])
def test_a_dispersion_that_is_off_is_reported_in_which_direction(diagnose, truth, factor, words):
    column = truth.var_names.get_loc(NAME)
    diagnosis = diagnose(dispersion=scaled(np.full(truth.shape, DISPERSION), column, factor))
    assert diagnosis.table.loc[NAME, "spread"] == words
    assert (diagnosis.table["spread"].drop(NAME) == "right").all()
    assert (diagnosis.table["mean"] == "right").all()
    assert any(f"In 1 of 12 tracks the spread is {words}" in one for one in diagnosis.advice)
    ends, middle = diagnosis.pit.loc[NAME].iloc[[0, 9]].mean(), diagnosis.pit.loc[NAME].iloc[4:6].mean()
    if factor > 1:
        assert ends > middle
        covered = re.fullmatch(r"cover (\d+) % where (\d+) % was expected", diagnosis.table.loc[NAME, "intervals"])
        assert int(covered[1]) < int(covered[2])


def test_the_average_of_the_other_biosamples_does_not_beat_itself(diagnose, untaught, truth):
    scale_t = np.exp(untaught.log_depths(untaught.data))
    counts_rt = measured(truth)
    average_rt = scale_t * leave_one_out_average(
        counts_rt / scale_t, truth.layers["observed"] == 1, truth.var["biosample"], truth.var["assay"]
    )
    average_rt = np.where(np.isnan(average_rt), counts_rt[~np.isnan(counts_rt)].mean(), average_rt)
    average_rt = np.maximum(average_rt, 0.1)
    dispersion_rt = np.broadcast_to(fit_dispersion(counts_rt, average_rt), truth.shape)
    beats = diagnose(mean=average_rt, dispersion=dispersion_rt).table["beats"]
    assert not beats.str.startswith("beats").any()


@pytest.mark.parametrize(
    ("own_noise", "standing"),
    [(0.0, Standing.BEATS_BOTH), (0.3, Standing.LEVEL_WITH_AVERAGE), (0.5, Standing.BELOW_AVERAGE)],
)
def test_a_prediction_is_held_against_the_average(own_noise, standing):
    random = np.random.default_rng(2)
    rate = random.gamma(2.0, 5.0, size=5_000)
    counts = random.poisson(rate).astype(np.float64)
    average, mean = (rate * random.lognormal(-(s**2) / 2, s, size=rate.shape) for s in (0.3, own_noise))
    dispersion = np.full(rate.shape, fit_dispersion(counts[:, None], mean[:, None])[0])
    assert judge_track("counts", counts, mean, dispersion, average, EVERYWHERE).verdict.standing is standing
    without = judge_track("counts", counts, mean, dispersion, average * np.nan, EVERYWHERE).verdict
    assert without.standing is Standing.BEATS_MARGINAL


def test_what_differs_too_much_between_stretches_of_the_genome_has_no_verdict():
    random = np.random.default_rng(3)
    clumped = random.poisson(np.repeat(random.gamma(0.1, 100.0, size=30), 100)).astype(np.float64)
    mean, dispersion, average = (np.full(3_000, value) for value in (clumped.mean(), 1.0, np.nan))
    verdict = judge_track("counts", clumped, mean, dispersion, average, EVERYWHERE[:3_000]).verdict
    assert (verdict.level, verdict.spread) == (Level.UNCERTAIN, Spread.UNCERTAIN)
    assert verdict.is_judged and not verdict.is_complete


@pytest.mark.parametrize(
    ("others", "is_level_only", "standing"),
    [
        pytest.param(slice(0), True, Standing.NOT_IMPUTABLE, id="nowhere, the level"),
        pytest.param(slice(99), True, Standing.NOT_IMPUTABLE, id="nearly nowhere, the level"),
        pytest.param(slice(0), False, Standing.BEATS_MARGINAL, id="nowhere, and yet better"),
        pytest.param(slice(2_000), True, Standing.LEVEL_WITH_MARGINAL, id="in part, and not learnt"),
        pytest.param(slice(None), True, Standing.LEVEL_WITH_MARGINAL, id="everywhere, and not learnt"),
    ],
)
def test_a_track_is_expected_to_be_learnt_only_where_there_is_something_to_impute_it_from(
    others, is_level_only, standing
):
    random = np.random.default_rng(5)
    rate = random.gamma(2.0, 5.0, size=5_000)
    counts = random.poisson(rate).astype(np.float64)
    mean = np.full_like(rate, counts.mean()) if is_level_only else rate
    dispersion = np.full(rate.shape, fit_dispersion(counts[:, None], mean[:, None])[0])
    is_imputable = np.zeros(5_000, dtype=bool)
    is_imputable[others] = True
    found = judge_track("counts", counts, mean, dispersion, np.full_like(rate, np.nan), is_imputable).verdict
    assert found.standing is standing


def test_what_is_learnt_where_it_can_be_is_not_outvoted_by_the_rest():
    random = np.random.default_rng(6)
    rate = random.gamma(2.0, 5.0, size=5_000)
    counts = random.poisson(rate).astype(np.float64)
    is_imputable = np.arange(5_000) < 1_000
    mean = np.where(is_imputable, rate, counts.mean())
    dispersion = np.full(rate.shape, fit_dispersion(counts[:, None], mean[:, None])[0])
    none = np.full_like(rate, np.nan)
    assert judge_track("counts", counts, mean, dispersion, none, EVERYWHERE).verdict.standing.is_unlearnt
    found = judge_track("counts", counts, mean, dispersion, none, is_imputable).verdict
    assert found.standing is Standing.BEATS_MARGINAL


def test_tracks_that_share_neither_biosample_nor_assay_are_not_called_unlearnt(kit):
    adata = kit.data(n_assays=4, n_biosamples=3, signal=False, controls=False, missing=0.0)
    adata = adata[:, ["cell1.H3K4me3", "cell2.H3K4me1", "cell3.H3K36me3", "cell3.H3K27me3"]].copy()
    diagnosis = kit.train(kit.model(adata, KEYS), max_steps=2).diagnose()
    standings = dict(zip(diagnosis.table.index, (verdict.standing for verdict in diagnosis.verdicts), strict=True))
    assert {standings.pop(name) for name in ("cell1.H3K4me3", "cell2.H3K4me1")} == {Standing.NOT_IMPUTABLE}
    assert Standing.NOT_IMPUTABLE not in standings.values()
    assert any(text.startswith("In 2 of 4 tracks there was nothing to impute from") for text in diagnosis.advice)


def test_the_marginal_does_not_beat_itself(diagnose, truth):
    counts_rt = measured(truth)
    mean_rt = np.broadcast_to(np.nanmean(counts_rt, axis=0), truth.shape)
    diagnosis = diagnose(mean=mean_rt, dispersion=np.broadcast_to(fit_dispersion(counts_rt, mean_rt), truth.shape))
    assert set(diagnosis.table["beats"]) == {"level with the marginal"}
    assert diagnosis.advice[0].startswith("In 12 of 12 tracks the imputation is no better than the marginal")
    assert diagnosis.table["pearson"].isna().all()
    worse = diagnose(mean=truth.layers["rate"][::-1].copy())  # each region gets another one's rate
    assert set(worse.table["beats"]) == {"below the marginal"}


def test_too_few_reads_or_regions_are_reported_and_not_judged(kit, truth, monkeypatch):
    few = truth.copy()
    few.layers["observed"][99:, 0] = 0
    few.X[:, 1] = 0
    few.X[:90, 1] = 1
    model = kit.train(kit.model(few, KEYS), max_steps=2)
    diagnosis = model.diagnose()
    for name in few.var_names[:2]:
        assert set(diagnosis.table.loc[name, VERDICTS]) == {"too few reads to judge"}
        assert re.search(rf"{name} .*\)  not judged: too few reads to judge$", diagnosis.text, re.MULTILINE)
    assert diagnosis.table.iloc[0]["regions"] < 100
    assert not (diagnosis.table[VERDICTS].iloc[2:] == "too few reads to judge").any(axis=None)
    assert any("In 2 of 12 tracks some verdict cannot be given" in one for one in diagnosis.advice)


def test_the_highest_r2_that_noise_allows_is_that_of_the_true_rate():
    random = np.random.default_rng(6)
    rate = random.gamma(0.8, 3.0, 60_000)
    counts, dispersion, none = random.poisson(rate).astype(float), np.full(60_000, 1e6), np.full(60_000, np.nan)
    judged = judge_track("counts", counts, rate, dispersion, none, np.ones(60_000))
    assert judged.numbers["r2_ceiling"] == pytest.approx(r2_score(counts, rate), abs=0.01)
    assert judged.verdict.explained == pytest.approx(1, abs=0.02)
    half = judge_track("signal", counts, rate, np.ones(60_000), none, np.ones(60_000))
    assert np.isnan(half.numbers["r2_ceiling"]) and half.verdict.explained == half.numbers["r2"]
    dead = judge_track("counts", np.tile([1.0, 2.0], 100), *(np.ones(200) for _ in range(4)))
    assert dead.numbers["r2_ceiling"] == 0 and np.isnan(dead.verdict.explained)


def test_the_standard_error_is_right_also_where_neighbours_are_alike():
    random = np.random.default_rng(0)
    for n_alike in (1, 20):
        draws = [random.standard_normal(3_000 // n_alike).repeat(n_alike) for _ in range(200)]
        estimated = np.mean([standard_error(values) for values in draws])
        assert estimated == pytest.approx(np.std([values.mean() for values in draws]), rel=0.15)


# numbers


def test_the_numbers_are_those_of_an_independent_computation(kit, adata, model):
    table = model.diagnose().table
    counts = table[table["quantity"] == "counts"]
    parameters = model.get_likelihood_parameters()
    lower, upper = model.get_prediction_interval()
    for name in ("cell1.H3K4me3", "cell3.H3K27me3"):
        t = adata.var_names.get_loc(name)
        there = adata.layers["observed"][:, t] == 1
        true = adata.X[there, t].astype(np.float64)
        mean, size = (parameters[key][name].to_numpy(np.float64)[there] for key in ("mean", "dispersions"))
        distribution = scipy.stats.nbinom(size, size / (size + mean))
        low, high = lower[name].to_numpy()[there], upper[name].to_numpy()[there]
        rate = adata.X / adata.var["depth"].to_numpy()
        others = (adata.var["assay"] == adata.var["assay"][name]) & (adata.var["biosample"] != name.split(".")[0])
        others &= adata.var_names != kit.unseen
        average = rate[:, others.to_numpy()].mean(axis=1)[there] * adata.var["depth"][name]
        marginal = nb_nll(true, true.mean(), fit_dispersion(true[:, None], np.full((len(true), 1), true.mean())))
        expected = {
            "regions": there.sum(),
            "reads": true.sum(),
            "mean_true": true.mean(),
            "mean_imputed": mean.mean(),
            "ratio": mean.sum() / true.sum(),
            "r2": r2_score(true, mean),
            "pearson": scipy.stats.pearsonr(true, mean)[0],
            "nll": -distribution.logpmf(true).mean(),
            "nll_marginal": marginal.mean(),
            "r2_average": r2_score(true, average),
            "pearson_average": scipy.stats.pearsonr(true, average)[0],
            "pit_deviation": np.abs(nb_pit(true, mean, size) - 1).max(),
            "coverage": ((low <= true) & (true <= high)).mean(),
            "expected_coverage": (distribution.cdf(high) - distribution.cdf(low - 1)).mean(),
        }
        found = counts.loc[name, list(expected)].astype(np.float64)
        pd.testing.assert_series_equal(found, pd.Series(expected, dtype=np.float64), check_names=False, rtol=1e-5)


def test_the_numbers_of_signal_are_those_of_an_independent_computation(adata, model):
    table = model.diagnose().table
    row = table[table["quantity"] == "signal"].loc["cell1.H3K4me3"]
    mean, std = model.get_imputed_pvalues(tracks=["cell1.H3K4me3"], return_std=True, return_numpy=True)
    true = adata[:, "cell1.H3K4me3"].layers["signal"].astype(np.float64)
    distribution = scipy.stats.norm(mean.astype(np.float64), std.astype(np.float64))
    inside = np.abs(true - mean) <= scipy.stats.norm.ppf(0.975) * std
    assert row["r2"] == pytest.approx(r2_score(true, mean), rel=1e-5)
    assert row["nll"] == pytest.approx(-distribution.logpdf(true).mean(), rel=1e-5)
    assert row["nll_marginal"] == pytest.approx(np.log(true.std() * np.sqrt(2 * np.pi)) + 0.5, rel=1e-5)
    assert (row["coverage"], row["expected_coverage"]) == pytest.approx((inside.mean(), 0.95))
    assert np.isnan(row["reads"])


def test_missing_entries_are_not_judged(diagnose, untaught, truth):
    before = diagnose().table
    np.testing.assert_array_equal(before["regions"], truth.layers["observed"].sum(axis=0))
    assert (before["mean_true"] < 50).all()


# the report


@pytest.mark.parametrize(
    ("keys", "quantities"),
    [
        ({"depth_key": "depth", "observed_layer": "observed"}, ["counts"]),
        ({"depth_key": "depth", "observed_layer": "observed", "signal_layer": "signal"}, ["counts", "signal"]),
        ({"signal_layer": "signal"}, ["signal"]),
    ],
    ids=["counts", "counts and signal", "signal"],
)
def test_the_report_names_every_judged_track_once_per_quantity(kit, keys, quantities):
    adata = kit.data()
    if "observed_layer" not in keys:
        adata.X = None
    model = kit.train(kit.model(adata, keys | {"control_key": "is_control"}), max_steps=30)
    diagnosis = model.diagnose()
    judged = [name for name in adata.var_names if name != kit.unseen and not name.endswith("Input")]
    for quantity in quantities:
        assert list(diagnosis.table.index[diagnosis.table["quantity"] == quantity]) == judged
    assert len(diagnosis.table) == len(diagnosis.pit) == len(quantities) * len(judged)
    for name in adata.var_names:
        assert diagnosis.text.count(name) == (len(quantities) if name in judged else 0)
    assert str(diagnosis) == repr(diagnosis) == diagnosis.text
    assert max(len(line) for line in diagnosis.text.splitlines() if not line.startswith("  ")) <= 110
    np.testing.assert_allclose(diagnosis.pit.mean(axis=1), 1)


def test_the_report_is_the_same_twice_whatever_the_batches(model):
    first, again = model.diagnose(), model.diagnose(batch_size=50)
    assert first.text == again.text
    pd.testing.assert_frame_equal(first.table, again.table, rtol=1e-4)


def test_the_report_names_the_regions_it_is_about(adata, model):
    def beginning(*arguments, **options):
        return " ".join(model.diagnose(*arguments, **options).text.split("\n\n")[0].split())

    own = beginning()
    assert own.startswith("11 measured tracks judged on 280 regions, imputed without the track's own data. ")
    assert "These are regions that the model was trained on" in own
    assert "belong to the data that the model was set up with" in beginning(indices=np.arange(150))
    assert "150 regions" in beginning(indices=[*range(150), 3])
    assert "are of the AnnData that you passed" in beginning(adata.copy())
    assert beginning(adata) == own


def test_advice_from_training_is_passed_on(model, monkeypatch):
    finding = Finding(Sign.LOW_KL_WEIGHT, {"weight": 0.25, "steps": 40})
    monkeypatch.setattr(model, "findings_", [finding.plain()])
    diagnosis = model.diagnose()
    assert diagnosis.advice[-1].startswith("From training: the KL weight was still 0.25 of 1 when training ended at")
    assert len(diagnosis.advice) == len(diagnosis.suggestions) + 1


def test_what_cannot_be_judged_is_refused(kit, adata, model):
    with pytest.raises(RuntimeError, match="train"):
        kit.model(kit.data()).diagnose()
    bare = adata.copy()
    bare.layers["observed"][:, (~bare.var["is_control"]).to_numpy()] = 0
    bare.layers["signal"][:] = np.nan
    with pytest.raises(ValueError, match="no track, controls aside, was measured in the 280 regions"):
        model.diagnose(bare)
    alone = kit.data()[:, ["cell1.H3K4me1", "cell1.H3K4me3"]].copy()
    alone.layers["observed"][:, 1] = 0
    alone.layers["signal"][:, 1] = np.nan
    with pytest.raises(ValueError, match="no track but cell1.H3K4me1 has data"):
        kit.train(kit.model(alone)).diagnose()
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        model.diagnose(batch_size=0)


def test_after_a_short_training_real_marks_beat_their_marginal(kit, shared_data):
    adata = anndata.read_h5ad(shared_data / "roadmap_tss.h5ad")
    train, held_out = (adata[(adata.obs["split"] == part).to_numpy()][:8_000].copy() for part in ("train", "valid"))
    model = kit.model(train, {"depth_key": "depth", "segment_key": "gene_id"})
    diagnosis = kit.train(model, max_steps=100, validation_size=0).diagnose(held_out)
    table = diagnosis.table
    np.testing.assert_array_equal(table["reads"], np.asarray(held_out.X.sum(axis=0)).ravel())
    assert table["beats"][["K562.H3K4me3", "H1.H3K4me3"]].str.match("beats|.*average").all()
    assert (table["r2"] > 0).sum() >= 8


# which regions


def test_all_regions_are_judged_if_they_are_not_many():
    rows = np.arange(3, MOST_DIAGNOSED + 3)
    np.testing.assert_array_equal(draw_blocks(rows, MOST_DIAGNOSED, Segments(np.array([0, 90_000]))), rows)


@pytest.mark.parametrize("length", [1, 7, 128, 200, 90_000])
def test_of_many_regions_whole_blocks_of_neighbours_from_all_over_are_judged(length):
    n_regions = 90_000
    segments = Segments(np.union1d(np.arange(0, n_regions, length), [n_regions]))
    chosen = draw_blocks(np.arange(n_regions), MOST_DIAGNOSED, segments)
    assert MOST_DIAGNOSED - 64 < len(chosen) <= MOST_DIAGNOSED
    assert (np.diff(chosen) > 0).all()
    tenths = np.bincount(chosen * 10 // n_regions)
    assert tenths.min() > 0.6 * tenths.mean()
    part_r = np.arange(n_regions) % min(length, 200) * 4 // min(length, 200)
    share = np.bincount(part_r[chosen]) / np.bincount(part_r)  # no quarter of the segments is left out
    assert np.nanmin(share) > 0.7 * np.nanmax(share)
    runs = np.diff(np.flatnonzero(np.r_[True, np.diff(chosen) > 1, True]))
    assert runs.mean() >= min(length, 64)
    np.testing.assert_array_equal(draw_blocks(np.arange(n_regions), MOST_DIAGNOSED, segments), chosen)
