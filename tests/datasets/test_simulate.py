import tracemalloc

import anndata
import mpmath
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from chipvi.data.segments import find_segments
from chipvi.datasets import simulate
from chipvi.datasets._simulate import _log_survival

ASSAYS = "H3K4me3 H3K4me1 H3K36me3 H3K27me3 H3K9me3 H3K27ac DNase ATAC CTCF H3K9ac POLR2A".split()


@pytest.fixture(scope="module")
def everything():
    """All assays and a control in two biosamples, with signal, at the usual depth of each assay."""
    return simulate(30_000, 2, 11, depth_spread=0.0, controls=True, signal=True, seed=5)


@pytest.fixture(scope="module")
def statistics(everything):
    """What the counts of each track look like."""
    return describe(everything)


def describe(adata):
    count = np.asarray(adata.X, dtype=float)
    log_count = np.log1p(count)
    mean, variance = count.mean(axis=0), count.var(axis=0)
    table = pd.DataFrame({"assay": adata.var["assay"].astype(str), "mean": mean, "variance": variance})
    table["dispersion"] = mean**2 / (variance - mean)
    table["zeros"] = (count == 0).mean(axis=0)
    table["p99"] = np.percentile(count, 99, axis=0)
    for lag in (1, 10):
        table[f"lag{lag}"] = [pearson(x[:-lag], x[lag:]) for x in log_count.T]
    return table


def pearson(x, y):
    return np.corrcoef(x, y)[0, 1]


def between_biosamples(adata):
    log_count = pd.DataFrame(np.log1p(adata.X), columns=adata.var_names)
    first, second = adata.var["biosample"].unique()[:2]
    assays = adata.var["assay"].astype(str).unique()
    return pd.Series({a: pearson(log_count[f"{first}.{a}"], log_count[f"{second}.{a}"]) for a in assays})


def test_layers_and_tables_keep_the_data_contract():
    adata = simulate(1_003, 4, 6, n_chromosomes=2, bin_size=100, controls=True, signal=True)
    assert adata.shape == (1_003, 4 * 7)
    for array in (adata.X, adata.layers["rate"], adata.layers["signal"]):
        assert array.dtype == np.float32
    assert np.all(adata.X == np.floor(adata.X)) and adata.X.min() == 0
    assert adata.layers["rate"].min() > 0
    assert np.all(adata.layers["observed"] == 1)
    assert adata.var_names[:8].tolist() == [*[f"cell1.{assay}" for assay in ASSAYS[:6]], "cell1.Input", "cell2.H3K4me3"]
    assert (adata.var["biosample"].astype(str) + "." + adata.var["assay"].astype(str)).equals(
        adata.var_names.to_series()
    )
    assert adata.var.index[adata.var["is_control"]].tolist() == [f"cell{b}.Input" for b in (1, 2, 3, 4)]
    np.testing.assert_array_equal(adata.var["depth"], adata.X.sum(axis=0))


def test_regions_lie_end_to_end_along_each_chromosome():
    obs = simulate(1_003, 1, 1, n_chromosomes=3, bin_size=25).obs
    assert find_segments(obs).lengths.tolist() == [334, 334, 335]
    assert obs["chrom"].unique().tolist() == ["chr1", "chr2", "chr3"]
    assert (obs["end"] - obs["start"] == 25).all()
    assert obs.index[[0, 335, -1]].tolist() == ["chr1:0-25", "chr2:25-50", "chr3:8350-8375"]


@pytest.mark.parametrize(
    ("assay", "variance_to_mean", "zeros", "dispersion"),
    [
        ("H3K4me3", (12, 40), (0.25, 0.45), (0.06, 0.2)),
        ("H3K4me1", (3.5, 9), (0.2, 0.4), (0.3, 0.7)),
        ("H3K36me3", (3, 7), (0.2, 0.4), (0.4, 0.9)),
        ("H3K27me3", (1.5, 3.5), (0.2, 0.45), (0.7, 2.5)),
        ("H3K9me3", (1.5, 3), (0.15, 0.35), (1.0, 3.5)),
        ("H3K27ac", (15, 50), (0.35, 0.6), (0.03, 0.12)),
        ("DNase", (50, 200), (0.2, 0.45), (0.015, 0.07)),
        ("ATAC", (40, 160), (0.2, 0.5), (0.015, 0.08)),
        ("CTCF", (15, 150), (0.2, 0.4), (0.01, 0.2)),
        ("H3K9ac", (12, 50), (0.25, 0.5), (0.05, 0.2)),
        ("POLR2A", (12, 60), (0.25, 0.5), (0.04, 0.2)),
        ("Input", (1.1, 1.4), (0.25, 0.45), (3.5, 8)),
    ],
)
def test_counts_are_as_overdispersed_and_sparse_as_real_ones(statistics, assay, variance_to_mean, zeros, dispersion):
    for _, track in statistics[statistics["assay"] == assay].iterrows():
        assert variance_to_mean[0] < track["variance"] / track["mean"] < variance_to_mean[1]
        assert zeros[0] < track["zeros"] < zeros[1]
        assert dispersion[0] < track["dispersion"] < dispersion[1]


def test_counts_resemble_the_real_ones_of_the_same_assays(statistics, everything, shared_data):
    real_counts = anndata.read_h5ad(shared_data / "roadmap_pilot.h5ad")
    real = describe(real_counts).groupby("assay").mean(numeric_only=True)
    mine = statistics.groupby("assay").mean(numeric_only=True).loc[real.index]
    assert len(real) == 9
    # H3K27me3 and H3K9me3 are far weaker in the pilot than in the TSS counts (dispersion 0.09 to 1.7 there)
    assert np.abs(np.log(mine["dispersion"] / real["dispersion"])).max() < np.log(3)
    assert np.abs(np.log(mine["p99"] / real["p99"])).max() < np.log(2)
    for key in ("zeros", "lag1", "lag10"):
        assert np.abs(mine[key] - real[key]).max() < 0.2
    assert np.abs(between_biosamples(everything)[real.index] - between_biosamples(real_counts)).max() < 0.2


def test_an_assay_correlates_between_biosamples_but_does_not_repeat(everything):
    correlation = between_biosamples(everything)
    assert correlation.drop("Input").between(0.2, 0.7).all()
    assert correlation["H3K4me3"] > correlation["H3K9me3"]
    assert 0.05 < correlation["Input"] < 0.25


def test_neighbouring_regions_correlate_and_distant_ones_less(statistics):
    targets = statistics[statistics["assay"] != "Input"]
    assert (targets["lag1"] > 0.2).all()
    assert (targets["lag10"] < targets["lag1"]).all()
    assert (targets.loc[targets["assay"].isin(["H3K4me1", "H3K36me3"]), "lag10"] > 0.1).all()


def test_chromosomes_are_drawn_apart():
    rate = simulate(4_000, 1, 3, n_chromosomes=2).layers["rate"]
    assert abs(pearson(np.log(rate[:2_000, 0]), np.log(rate[2_000:, 0]))) < 0.2


def test_counts_are_negative_binomial_around_the_rate(everything):
    rate = everything.layers["rate"].astype(float)
    error = everything.X - rate
    variance = rate + rate**2 / everything.var["dispersion"].to_numpy()
    z = error.sum(axis=0) / np.sqrt(variance.sum(axis=0))
    assert np.abs(z).max() < 4
    np.testing.assert_allclose((error**2 / variance).mean(axis=0), 1, atol=0.1)
    assert all(
        pearson(everything.X[:, t], rate[:, t]) > 0.9 for t in np.flatnonzero(everything.var["assay"] == "DNase")
    )


def test_counts_and_rates_fit_in_every_state(everything):
    for state in everything.obs["state"].cat.categories:
        rows = (everything.obs["state"] == state).to_numpy()
        rate = everything.layers["rate"][rows].astype(float)
        variance = rate + rate**2 / everything.var["dispersion"].to_numpy()
        z = (everything.X[rows] - rate).sum(axis=0) / np.sqrt(variance.sum(axis=0))
        assert np.abs(z).max() < 5


@pytest.mark.parametrize(
    ("assay", "state"),
    [
        ("H3K4me3", "promoter"),
        ("H3K4me1", "enhancer"),
        ("H3K36me3", "transcribed"),
        ("H3K27me3", "repressed"),
        ("H3K9me3", "heterochromatin"),
        ("H3K27ac", "promoter"),
        ("CTCF", "insulator"),
    ],
)
def test_each_assay_marks_its_state_in_every_biosample(everything, assay, state):
    for biosample in ("cell1", "cell2"):
        rate = pd.Series(everything[:, f"{biosample}.{assay}"].layers["rate"].ravel(), index=everything.obs_names)
        mean = rate.groupby(everything.obsm["state"][biosample], observed=False).mean()
        assert mean.idxmax() == state
        assert mean[state] > 1.8 * mean["quiescent"]


def test_controls_are_flat(everything):
    for biosample in ("cell1", "cell2"):
        rate = pd.Series(everything[:, f"{biosample}.Input"].layers["rate"].ravel(), index=everything.obs_names)
        mean = rate.groupby(everything.obsm["state"][biosample], observed=False).mean()
        assert mean.max() < 1.5 * mean.min()


def test_domains_have_lengths_of_their_own_and_are_shared_in_part():
    states = simulate(100_000, 2, 1, n_chromosomes=1).obsm["state"]
    state = states["cell1"].astype(str).to_numpy()
    starts = np.flatnonzero(np.r_[True, state[1:] != state[:-1]])
    length = pd.Series(200 * np.diff(np.r_[starts, len(state)])).groupby(state[starts]).mean()
    assert length["insulator"] < 1_000 < length["promoter"] < 3_000 < length["transcribed"] < length["heterochromatin"]
    assert 10_000 < length["heterochromatin"] < 25_000
    assert 0.75 < (states["cell1"] == states["cell2"]).mean() < 0.95
    share = states["cell1"].value_counts(normalize=True)
    assert share["quiescent"] > 0.3 and 0.02 < share["promoter"] < 0.1
    assert len(share) == 7 and (share > 0).all()


def test_depth_of_the_tracks_follows_the_options():
    flat = simulate(2_000, 5, 4, mean_count=3.0, depth_spread=0.0).layers["rate"].mean(axis=0).reshape(5, 4)
    np.testing.assert_allclose(flat, np.tile([3.0, 3.0, 3.0, 2.1], (5, 1)), rtol=1e-4)
    depth = simulate(2_000, 5, 11, depth_spread=0.5).layers["rate"].mean(axis=0).reshape(5, 11)
    assert 0.35 < np.log(depth).std(axis=0).mean() < 0.65


def test_a_deeper_simulation_scales_the_rates_and_nothing_else():
    shallow, deep = simulate(300, mean_count=1.0), simulate(300, mean_count=2.0)
    np.testing.assert_allclose(deep.layers["rate"], 2 * shallow.layers["rate"], rtol=1e-5)


def test_a_missing_track_hides_its_counts_and_keeps_its_rate_and_depth():
    whole = simulate(700, signal=True)
    holed = simulate(700, signal=True, missing=["cell2.H3K4me1", "cell3.H3K4me3"])
    gone = whole.var_names.isin(["cell2.H3K4me1", "cell3.H3K4me3"])
    np.testing.assert_array_equal(holed.layers["observed"], np.tile(~gone, (700, 1)))
    assert np.all(holed.X[:, gone] == 0)
    assert np.isnan(holed.layers["signal"][:, gone]).all() and not np.isnan(holed.layers["signal"][:, ~gone]).any()
    np.testing.assert_array_equal(holed.X[:, ~gone], whole.X[:, ~gone])
    np.testing.assert_array_equal(holed.layers["rate"], whole.layers["rate"])
    np.testing.assert_array_equal(holed.var["depth"], whole.X.sum(axis=0))


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_missing_share_leaves_every_assay_and_biosample_a_track(share):
    adata = simulate(50, 4, 5, missing=share, controls=True)
    observed = adata.layers["observed"].all(axis=0)
    assert (~observed).sum() == round(share * 20)
    assert observed[adata.var["is_control"]].all()
    assert adata.var[observed]["assay"].nunique() == 6
    targets = adata.var[observed & ~adata.var["is_control"]]
    assert targets["biosample"].nunique() == 4
    others = [simulate(50, 4, 5, missing=share, seed=seed).layers["observed"][0].tolist() for seed in range(5)]
    assert len(set(map(tuple, others))) > 1


def test_controls_and_signal_leave_the_other_tracks_as_they_are():
    plain, full = simulate(400), simulate(400, controls=True, signal=True)
    targets = full[:, ~full.var["is_control"]]
    np.testing.assert_array_equal(targets.X, plain.X)
    np.testing.assert_array_equal(targets.layers["rate"], plain.layers["rate"])


@pytest.mark.parametrize("n_regions", [40, 3_000])
def test_signal_is_the_poisson_p_value_against_the_local_background(n_regions):
    adata = simulate(n_regions, 2, 3, n_chromosomes=2, signal=True, controls=True, seed=1)
    half = min(500, n_regions // 2 - 1) // 2
    chromosome = adata.X[: n_regions // 2].astype(float)
    mirrored = np.pad(chromosome, ((half, half), (0, 0)), mode="symmetric")
    for row in (0, 3, n_regions // 4, n_regions // 2 - 1):
        background = np.maximum(mirrored[row : row + 2 * half + 1].mean(axis=0), adata.X.astype(float).mean(axis=0))
        expected = np.arcsinh(-scipy.stats.poisson.logsf(chromosome[row] - 1, background) / np.log(10))
        expected[adata.var["is_control"]] = np.nan
        np.testing.assert_allclose(adata.layers["signal"][row], expected, rtol=1e-5, atol=1e-6)


def test_signal_is_high_in_peaks_and_about_zero_elsewhere(everything):
    signal = everything[:, "cell1.H3K4me3"].layers["signal"].ravel()
    promoter = (everything.obs["state"] == "promoter").to_numpy()
    assert np.median(signal[promoter]) > 1 > 0.1 > np.median(signal[~promoter]) >= 0


@pytest.mark.parametrize("mean", [1e-3, 0.7, 40.0, 900.0])
@pytest.mark.parametrize("count", [0, 1, 12, 700, 5_000])
def test_log_p_values_match_exact_sums_beyond_the_smallest_float(count, mean):
    with mpmath.workdps(60):
        exact = mpmath.log(mpmath.gammainc(count, 0, mean, regularized=True)) if count else mpmath.mpf(0)
    found = _log_survival(np.array([float(count)]), np.array([mean]))
    np.testing.assert_allclose(found, [float(exact)], rtol=1e-10, atol=1e-14)


def test_same_seed_same_arrays_and_other_seed_other_arrays():
    state = np.random.get_state()[1].copy()
    first, again, other = (simulate(600, controls=True, signal=True, missing=0.2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.X, again.X)
    for layer in ("rate", "observed", "signal"):
        np.testing.assert_array_equal(first.layers[layer], again.layers[layer])
    pd.testing.assert_frame_equal(first.var, again.var)
    pd.testing.assert_frame_equal(first.obsm["state"], again.obsm["state"])
    assert (first.X != other.X).any() and (first.layers["rate"] != other.layers["rate"]).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    "missing", [0.2, "cell1.H3K4me3", ("cell1.H3K4me3",), pd.Index(["cell1.H3K4me3"]), []], ids=repr
)
def test_a_simulation_survives_writing_and_reading(tmp_path, missing):
    adata = simulate(60, missing=missing, signal=True)
    adata.write_h5ad(tmp_path / "simulated.h5ad")
    read = anndata.read_h5ad(tmp_path / "simulated.h5ad")
    np.testing.assert_array_equal(read.layers["signal"], adata.layers["signal"])
    pd.testing.assert_frame_equal(read.obs, adata.obs)
    assert list(read.obsm["state"]["cell2"]) == list(adata.obsm["state"]["cell2"])
    assert read.uns["simulation"]["n_regions"] == 60
    assert np.all(read.uns["simulation"]["missing"] == (np.array(missing) if np.ndim(missing) else missing))


def test_memory_stays_below_three_times_the_result():
    tracemalloc.start()
    adata = simulate(60_000, 3, 6, signal=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * (adata.X.nbytes + sum(layer.nbytes for layer in adata.layers.values()))


RECORDED = {  # counts, and the rates of three regions, from before there were replicates and families
    "cell1.H3K4me3": ("3 0 0 0 1 0 0 37 0 2 0 1 1 1 3 2 1 2 0 2 0 1 2", (1.38675, 0.91318, 2.23158)),
    "cell1.H3K4me1": ("2 1 5 1 1 1 0 6 1 3 1 1 1 1 6 2 3 4 1 1 2 0 5", (1.87504, 1.39329, 3.70982)),
    "cell1.Input": ("3 1 2 1 1 2 0 0 0 2 1 6 2 2 1 3 1 3 2 1 1 3 2", (3.14558, 1.55511, 3.15287)),
    "cell2.H3K4me3": ("2 1 1 3 1 1 1 26 0 4 7 1 0 2 1 0 2 2 1 1 3 3 0", (2.79975, 1.5304, 1.94193)),
    "cell2.H3K4me1": ("3 1 1 2 2 1 1 10 0 5 1 3 4 2 1 1 3 1 0 1 0 1 0", (1.89782, 1.4885, 1.6016)),
    "cell2.Input": ("2 0 0 0 1 0 1 0 2 0 4 1 1 3 1 1 1 1 1 1 2 0 5", (2.04522, 1.01111, 2.04996)),
}


def test_without_replicates_and_families_a_seed_gives_what_it_always_gave():
    adata = simulate(23, 2, 2, bin_size=3_000, n_chromosomes=2, controls=True, seed=7)
    assert list(adata.var_names) == list(RECORDED)
    for t, (counts, rates) in enumerate(RECORDED.values()):
        assert adata.X[:, t].astype(int).tolist() == list(map(int, counts.split()))
        np.testing.assert_allclose(adata.layers["rate"][[0, 11, 22], t], rates, rtol=2e-5)
    codes = [adata.obsm["state"][biosample].cat.codes.tolist() for biosample in ("cell1", "cell2")]
    assert codes == [list(map(int, row)) for row in ("00200031004000000000440", "00200032004000000000440")]
    assert list(adata.var.columns) == ["biosample", "assay", "is_control", "dispersion", "depth"]


@pytest.fixture(scope="module")
def related():
    """7 cell types in 3 families, 2 replicates of each."""
    return simulate(8_000, 7, 4, n_replicates=2, lineage=3, seed=2)


def kinship(adata):
    """Pairs of biosamples (biosample x biosample), as masks: replicates, of one family, of two families."""
    rows = adata.var.drop_duplicates("biosample")
    cell, family = (rows[name].astype(str).to_numpy() for name in ("cell", "family"))
    is_cell, is_family = cell[:, None] == cell, family[:, None] == family
    return {"replicates": is_cell & ~np.eye(len(cell), dtype=bool), "family": is_family & ~is_cell, "none": ~is_family}


def test_replicates_and_families_are_named_in_var(related):
    rows = related.var.drop_duplicates("biosample")
    assert rows["biosample"].tolist() == [f"cell{c}_{r}" for c in range(1, 8) for r in (1, 2)]
    assert rows["cell"].tolist() == [f"cell{c}" for c in range(1, 8) for _ in (1, 2)]
    assert rows["replicate"].tolist() == [1, 2] * 7
    assert rows["family"].tolist() == [f"family{f}" for f in (1, 1, 1, 2, 2, 3, 3) for _ in (1, 2)]
    assert related.var_names[[0, 7, -1]].tolist() == ["cell1_1.H3K4me3", "cell1_2.H3K27me3", "cell7_2.H3K27me3"]
    assert list(simulate(20, 2, 1, n_replicates=2).var.columns[-3:]) == ["cell", "replicate", "depth"]
    assert list(simulate(20, 2, 1, lineage=2).var.columns[-2:]) == ["family", "depth"]


def test_replicates_are_more_alike_than_a_family_and_a_family_than_the_rest(related):
    pairs = kinship(related)
    for assay in ASSAYS[:4]:
        log_rate = np.log(related.layers["rate"][:, related.var["assay"] == assay])
        correlation = {kind: np.corrcoef(log_rate.T)[mask] for kind, mask in pairs.items()}
        assert correlation["replicates"].min() > correlation["family"].max()
        assert correlation["family"].min() > correlation["none"].max() + 0.05
        assert correlation["replicates"].max() < 0.99


def test_states_are_those_of_the_cell_type_and_agree_more_within_a_family(related):
    state_rb = related.obsm["state"].apply(lambda column: column.cat.codes).to_numpy()
    agreement = (state_rb[:, :, None] == state_rb[:, None]).mean(axis=0)
    pairs = kinship(related)
    assert np.all(agreement[pairs["replicates"]] == 1)
    assert 1 > agreement[pairs["family"]].min() > agreement[pairs["none"]].max()


def test_families_are_as_unlike_as_cell_types_without_families():
    plain, grouped = (simulate(60_000, 4, 1, lineage=lineage, seed=6) for lineage in (1, 4))
    for adata in (plain, grouped):  # the same law, in other draws
        states = adata.obsm["state"].apply(lambda column: column.cat.codes).to_numpy()
        adata.uns["agreement"] = np.mean([(states[:, i] == states[:, j]).mean() for i in range(4) for j in range(i)])
        adata.uns["correlation"] = np.corrcoef(np.log(adata.layers["rate"]).T)[np.tril_indices(4, -1)].mean()
    assert plain.uns["agreement"] == pytest.approx(grouped.uns["agreement"], abs=0.02)
    assert plain.uns["correlation"] == pytest.approx(grouped.uns["correlation"], abs=0.03)


def test_replicates_differ_by_depth_and_by_a_deviation_of_the_documented_size():
    adata = simulate(30_000, 2, 3, n_replicates=2, n_chromosomes=1, depth_spread=0.5, seed=4)
    log_rate = np.log(adata.layers["rate"].astype(float)).reshape(len(adata), 2, 2, 3)  # cell, replicate, assay
    difference = log_rate[:, :, 0] - log_rate[:, :, 1]
    np.testing.assert_allclose(difference.std(axis=0), 0.2 * np.sqrt(2), rtol=0.08)  # of two independent deviations
    assert 0.35 < np.sqrt((difference.mean(axis=0) ** 2).mean()) < 1.4  # depths are their own: 0.5 * sqrt(2) expected
    deviation = difference - difference.mean(axis=0)
    within = np.corrcoef(deviation.reshape(len(adata), 6).T)[~np.eye(6, dtype=bool)]
    assert np.abs(within).max() < 0.1  # of each track alone


def test_counts_of_replicates_are_negative_binomial_around_their_own_rate():
    adata = simulate(20_000, 2, 3, n_replicates=3, lineage=2, seed=8)
    rate = adata.layers["rate"].astype(float)
    dispersion = adata.var["dispersion"].to_numpy()
    error, variance = adata.X - rate, rate + rate**2 / dispersion
    assert np.abs(error.sum(axis=0) / np.sqrt(variance.sum(axis=0))).max() < 4
    np.testing.assert_allclose((error**2 / variance).mean(axis=0), 1, atol=0.1)
    zeros = (dispersion / (dispersion + rate)) ** dispersion
    z = ((adata.X == 0) - zeros).sum(axis=0) / np.sqrt((zeros * (1 - zeros)).sum(axis=0))
    assert np.abs(z).max() < 4
    standardised = (error / np.sqrt(variance)).reshape(len(adata), 2, 3, 3)  # given the rates, replicates are apart
    assert abs(pearson(standardised[:, :, 0].ravel(), standardised[:, :, 1].ravel())) < 0.02


def test_replicates_of_a_cell_type_are_drawn_the_same_however_many_there_are():
    two, three = (simulate(300, 3, 2, n_replicates=n, lineage=2).obsm["state"] for n in (2, 3))
    for cell in ("cell1", "cell2", "cell3"):
        assert list(two[f"{cell}_2"]) == list(three[f"{cell}_3"])


@pytest.mark.parametrize("sizes", [(3, 1, 1), (3, 1, 3), (1, 3, 1), (20, 3, 5), (60, 1, 7)])
def test_from_3_to_60_biosamples_are_drawn_by_seed(sizes):
    n_cells, n_replicates, lineage = sizes
    options = {"n_assays": 5, "n_replicates": n_replicates, "lineage": lineage, "missing": 0.1}
    first, again, other = (simulate(150, n_cells, seed=seed, **options) for seed in (1, 1, 2))
    assert first.var["biosample"].nunique() == n_cells * n_replicates
    assert first.obsm["state"].shape == (150, n_cells * n_replicates)
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.layers["rate"], again.layers["rate"])
    pd.testing.assert_frame_equal(first.var, again.var)
    assert (first.layers["rate"] != other.layers["rate"]).mean() > 0.99
    assert len(np.unique(first.layers["rate"], axis=1).T) == first.n_vars


def test_a_simulation_with_relatives_survives_writing_and_reading(tmp_path):
    adata = simulate(60, 3, 2, n_replicates=2, lineage=2)
    adata.write_h5ad(tmp_path / "related.h5ad")
    read = anndata.read_h5ad(tmp_path / "related.h5ad")
    pd.testing.assert_frame_equal(read.var, adata.var)
    assert (read.uns["simulation"]["n_replicates"], read.uns["simulation"]["lineage"]) == (2, 2)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (5, 2, 3, 5), (7, 1, 11, 2)])
@pytest.mark.parametrize("bin_size", [1, 25, 100_000, 1_000_000])
def test_the_smallest_sizes_and_odd_bins_work(sizes, bin_size):
    n_regions, n_biosamples, n_assays, n_chromosomes = sizes
    adata = simulate(n_regions, n_biosamples, n_assays, n_chromosomes=n_chromosomes, bin_size=bin_size, signal=True)
    assert adata.shape == (n_regions, n_biosamples * n_assays)
    assert np.isfinite(adata.layers["rate"]).all() and np.isfinite(adata.layers["signal"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_regions": 0}, "n_regions must be at least 1; it is 0"),
        ({"n_regions": 1e4}, "n_regions must be a whole number; it is 10000.0"),
        ({"n_biosamples": -2}, "n_biosamples must be at least 1; it is -2"),
        ({"bin_size": True}, "bin_size must be a whole number"),
        ({"seed": -1}, "seed must be at least 0; it is -1"),
        ({"n_replicates": 0}, "n_replicates must be at least 1; it is 0"),
        ({"lineage": 1.5}, "lineage must be a whole number; it is 1.5"),
        ({"lineage": 4}, "lineage must be at most n_biosamples; got 4 families for 3 cell types"),
        ({"n_assays": 12}, r"n_assays must be at most 11 \(H3K4me3, .*\); got 12"),
        ({"n_regions": 3}, "4 chromosomes for 3 regions. Ask for fewer"),
        ({"mean_count": 0.0}, "mean_count must be a finite number above 0; got 0.0"),
        ({"mean_count": float("nan")}, "mean_count must be a finite number"),
        ({"depth_spread": -0.1}, "depth_spread must be a finite number of at least 0; got -0.1"),
        ({"missing": 1.0}, "missing must be a share from 0 to below 1, or the names of tracks; got 1.0"),
        ({"missing": ["cell1.H3K4me3", "cell9.H3K4me3"]}, "missing track 'cell9.H3K4me3' is not in the simulation"),
        ({"missing": 0.9}, r"found room for \d+ missing tracks of 15, not 14. Lower the share, or name the tracks"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)
