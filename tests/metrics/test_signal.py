"""The measures of the ENCODE Imputation Challenge, against loops over their definitions and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from chipvi.metrics import (
    count_intervals,
    count_promoters,
    encode_scores,
    gwcorr,
    gwspear,
    leave_one_out_variance,
    mse,
    mse1imp,
    mse1obs,
    mseenh,
    msegene,
    mseprom,
    msevar,
)

N_REGIONS, N_TRACKS, WIDTH = 431, 3, 25
MEASURES = ["mse", "gwcorr", "gwspear", "mseprom", "msegene", "mseenh", "msevar", "mse1obs", "mse1imp"]


@pytest.fixture
def truth_rt() -> np.ndarray:
    rng = np.random.default_rng(20)
    truth_rt = np.maximum(rng.normal(0, 1, size=(N_REGIONS, N_TRACKS)), 0).round(1)  # many ties
    truth_rt[rng.random(truth_rt.shape) < 0.2] = np.nan
    return truth_rt


@pytest.fixture
def prediction_rt(truth_rt) -> np.ndarray:
    rng = np.random.default_rng(21)
    prediction_rt = (np.nan_to_num(truth_rt, nan=9.0) + rng.normal(0, 0.5, size=truth_rt.shape)).round(1)
    prediction_rt[5, 1] = np.nan
    return prediction_rt


def there(truth: np.ndarray, prediction: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = zip(truth.T, prediction.T, strict=True)
    return [(x[~np.isnan(x + y)], y[~np.isnan(x + y)]) for x, y in pairs]


def test_correlations_are_those_of_scipy_ties_included(truth_rt, prediction_rt):
    pairs = there(truth_rt, prediction_rt)
    spearman = [stats.spearmanr(x, y).statistic for x, y in pairs]
    np.testing.assert_allclose(gwspear(truth_rt, prediction_rt), spearman, rtol=1e-12)
    pearson = [stats.pearsonr(x, y).statistic for x, y in pairs]
    np.testing.assert_allclose(gwcorr(truth_rt, prediction_rt), pearson, rtol=1e-12)
    assert gwspear([1.0, 2.0, 9.0], [0.1, 0.2, 0.3]) == pytest.approx(1)
    assert np.isnan(gwspear([1.0, 2.0], [3.0, 3.0]))


@pytest.mark.parametrize(("score", "which"), [(mse1obs, 0), (mse1imp, 1)], ids=["mse1obs", "mse1imp"])
def test_top_entries_are_those_no_lower_than_the_nth_highest_so_that_ties_count(score, which, truth_rt, prediction_rt):
    truth_rt, prediction_rt = np.minimum(truth_rt, 1.5), np.minimum(prediction_rt, 1.8)
    expected, sizes = [], []
    for pair in there(truth_rt, prediction_rt):
        ranked = sorted(pair[which], reverse=True)
        limit = ranked[int(0.01 * len(ranked)) - 1]
        rows = [i for i in range(len(ranked)) if pair[which][i] >= limit]
        expected.append(np.mean([(pair[0][i] - pair[1][i]) ** 2 for i in rows]))
        sizes.append(len(rows))
    np.testing.assert_allclose(score(truth_rt, prediction_rt), expected, rtol=1e-12)
    assert min(sizes) > 10  # where 1 % of the entries are 3


@pytest.mark.parametrize("score", [mse1obs, mse1imp], ids=lambda score: score.__name__)
def test_with_fewer_than_100_entries_all_are_the_top(score, truth_rt, prediction_rt):
    few = truth_rt[:99], prediction_rt[:99]
    np.testing.assert_allclose(score(*few), mse(*few), rtol=1e-12)


def test_a_track_whose_highest_percent_is_zero_counts_whole():
    truth, prediction = np.zeros(500), np.linspace(0, 1, 500)
    truth[7] = 3.0
    assert mse1obs(truth, prediction) == pytest.approx(mse(truth, prediction))
    assert mse1imp(truth, prediction) == pytest.approx(np.mean(prediction[-5:] ** 2))


@pytest.mark.parametrize("score", [mseprom, msegene, mseenh, msevar], ids=lambda score: score.__name__)
def test_weighted_error_is_that_of_a_loop_over_annotations(score, truth_rt, prediction_rt):
    weight_r = np.random.default_rng(22).poisson(0.7, size=N_REGIONS)
    expected = []
    for t in range(N_TRACKS):
        errors = []
        for r in range(N_REGIONS):
            errors += [(truth_rt[r, t] - prediction_rt[r, t]) ** 2] * weight_r[r]  # a region in two genes counts twice
        expected.append(np.nanmean(errors))
    np.testing.assert_allclose(score(truth_rt, prediction_rt, weight_r), expected, rtol=1e-12)
    assert score(truth_rt[:, 1], prediction_rt[:, 1], weight_r) == pytest.approx(expected[1])


def test_a_mask_weighs_what_it_marks(truth_rt, prediction_rt):
    mask_r = np.arange(N_REGIONS) % 4 == 1
    expected = mse(truth_rt[mask_r], prediction_rt[mask_r])
    np.testing.assert_allclose(mseprom(truth_rt, prediction_rt, mask_r), expected, rtol=1e-12)


def test_equal_variance_everywhere_gives_the_mean_squared_error_and_none_gives_nothing(truth_rt, prediction_rt):
    plain = mse(truth_rt, prediction_rt)
    np.testing.assert_allclose(msevar(truth_rt, prediction_rt, np.full(N_REGIONS, 0.3)), plain, rtol=1e-12)
    assert np.isnan(msevar(truth_rt, prediction_rt, np.zeros(N_REGIONS))).all()


def test_weights_may_differ_between_tracks_and_a_missing_weight_counts_nowhere(truth_rt, prediction_rt):
    weight_rt = np.random.default_rng(23).random(truth_rt.shape)
    weight_rt[::3, 2] = np.nan
    found = msevar(truth_rt, prediction_rt, weight_rt)
    for t in range(N_TRACKS):
        assert found[t] == pytest.approx(float(msevar(truth_rt[:, t], prediction_rt[:, t], weight_rt[:, t])))
    kept = np.arange(N_REGIONS) % 3 != 0
    assert found[2] == pytest.approx(float(msevar(truth_rt[kept, 2], prediction_rt[kept, 2], weight_rt[kept, 2])))


def test_weights_of_another_length_are_refused(truth_rt, prediction_rt):
    with pytest.raises(ValueError, match=r"genes must have a number for each of the 431 regions; its shape is \(5,\)"):
        msegene(truth_rt, prediction_rt, np.ones(5))


def test_missing_entries_count_in_no_measure(truth_rt, prediction_rt):
    rng = np.random.default_rng(24)
    weights = {"promoters": rng.poisson(0.5, N_REGIONS), "variance": rng.random(N_REGIONS)}
    kept = ~np.isnan(truth_rt[:, 0])
    whole = encode_scores(truth_rt[:, :1], prediction_rt[:, :1], **weights)
    less = encode_scores(truth_rt[kept, :1], prediction_rt[kept, :1], **{k: w[kept] for k, w in weights.items()})
    pd.testing.assert_frame_equal(whole, less)


def test_table_has_the_measures_for_what_was_given_in_the_order_of_the_challenge(truth_rt, prediction_rt):
    truth, mask_r = pd.DataFrame(truth_rt, columns=list("abc")), np.arange(N_REGIONS) < 200
    assert list(encode_scores(truth, prediction_rt)) == [
        m for m in MEASURES if m[:4] not in ("msep", "mseg", "msee", "msev")
    ]
    table = encode_scores(truth, prediction_rt, mask_r, ~mask_r, mask_r[::-1], np.arange(N_REGIONS))
    assert list(table) == MEASURES
    assert list(table.index) == ["a", "b", "c", "macro_mean"]
    np.testing.assert_array_equal(table["msegene"].iloc[:-1], msegene(truth_rt, prediction_rt, ~mask_r))
    np.testing.assert_array_equal(table["mseenh"].iloc[:-1], mseenh(truth_rt, prediction_rt, mask_r[::-1]))
    np.testing.assert_allclose(table.loc["macro_mean"], table.iloc[:-1].mean())
    with pytest.raises(ValueError, match="truth and prediction must have the same columns"):
        encode_scores(truth, truth[list("acb")])


def bins(n_bins: dict[str, int], width: int) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"chrom": c, "start": width * np.arange(n), "end": width * np.arange(1, n + 1)})
        for c, n in n_bins.items()
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def genes() -> pd.DataFrame:
    rng = np.random.default_rng(25)
    start = np.r_[rng.integers(0, 9_000, size=60), 1_999, 2_000, 2_024, 4_000]
    genes = pd.DataFrame({"chrom": rng.choice(["chr1", "chr2", "chr9"], size=64), "start": start})
    genes["end"] = genes["start"] + np.r_[rng.integers(1, 3_000, size=60), 25, 50, 1, 975]
    genes["strand"] = np.r_[rng.choice(["+", "-"], size=60), ["+", "+", "+", "."]]
    return genes


def test_annotated_bins_are_those_of_the_published_rule_on_bin_numbers(genes):
    n_bins = {"chr2": 700, "chr1": 900}
    regions = bins(n_bins, WIDTH)
    in_gene, in_promoter = ({c: np.zeros(n, dtype=int) for c, n in n_bins.items()} for _ in range(2))
    for gene in genes.itertuples():
        first, after = gene.start // WIDTH, gene.end // WIDTH + 1
        for b in range(n_bins.get(gene.chrom, 0)):
            in_gene[gene.chrom][b] += first <= b < after
            if gene.strand == "+":
                in_promoter[gene.chrom][b] += first >= 80 and first - 80 <= b < first
            else:
                in_promoter[gene.chrom][b] += after <= b < after + 80
    np.testing.assert_array_equal(count_intervals(regions, genes), np.r_[in_gene["chr2"], in_gene["chr1"]])
    np.testing.assert_array_equal(count_promoters(regions, genes), np.r_[in_promoter["chr2"], in_promoter["chr1"]])
    assert max(in_gene["chr1"]) > 1 and max(in_promoter["chr1"]) > 1


def test_regions_of_any_order_and_width_are_counted_by_their_coordinates(genes):
    regions = bins({"chr1": 31, "chr2": 17}, 200).sample(frac=0.6, random_state=1)
    regions["chrom"] = regions["chrom"].astype("category")
    expected = [
        sum(g.chrom == r.chrom and g.start < r.end and g.end >= r.start for g in genes.itertuples())
        for r in regions.itertuples()
    ]
    np.testing.assert_array_equal(count_intervals(regions, genes), expected)


def test_variance_is_that_of_the_measured_entries_of_the_other_biosamples():
    biosamples = ["K562", "H1", "liver", "K562", "liver", "H1"]
    assays = ["DNase", "DNase", "DNase", "H3K4me3", "H3K4me3", "CTCF"]
    rng = np.random.default_rng(26)
    signal_rt = 1e4 + rng.random((11, 6))
    observed_rt = rng.random(signal_rt.shape) < 0.7
    signal_rt[~observed_rt] = np.nan
    variance_rt = leave_one_out_variance(signal_rt, observed_rt, biosamples, assays)
    for r, t in np.ndindex(signal_rt.shape):
        others = [
            u for u in range(6) if assays[u] == assays[t] and biosamples[u] != biosamples[t] and observed_rt[r, u]
        ]
        expected = np.var(signal_rt[r, others]) if others else np.nan
        assert variance_rt[r, t] == pytest.approx(expected, nan_ok=True, abs=1e-12)
