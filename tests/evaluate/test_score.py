"""The score of a prediction: what is matched, that all are scored on the same entries, and what is refused."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from click.testing import Result
from scipy import sparse
from typer.testing import CliRunner

from chipvi import io, metrics
from chipvi.cli.app import app
from chipvi.data.check import SetupKeys
from chipvi.evaluate.score.scores import score_anndata

KEYS = SetupKeys(depth_key="depth")
PAIRS = [("K562", "DNase"), ("H1", "DNase"), ("liver", "DNase"), ("K562", "CTCF"), ("H1", "H3K4me3"), ("liver", "CTCF")]
NAMES = [".".join(pair) for pair in PAIRS]
N_REGIONS, WIDTH = 310, 200
OF_COUNTS = ["entries", "r2", "r2_arcsinh", "pearson", "c_index", "mse"]
OF_LIKELIHOOD = ["nll", "crps", "crps_scale", "deviance_explained", "pit_deviation"]


def regions(n: int = N_REGIONS) -> pd.DataFrame:
    start = WIDTH * (np.arange(n) % 200)
    obs = pd.DataFrame({"chrom": np.where(np.arange(n) < 200, "chr1", "chr2"), "start": start, "end": start + WIDTH})
    obs.index = [f"r{i}" for i in range(n)]
    return obs


@pytest.fixture
def truth() -> AnnData:
    rng = np.random.default_rng(40)
    shape = rng.gamma(0.6, 5.0, size=(N_REGIONS, 1))
    counts_rt = rng.poisson(shape * rng.gamma(4.0, 0.25, size=(N_REGIONS, 6)) * [1, 2, 0.5, 1, 3, 1]).astype(np.float32)
    counts_rt[rng.random(counts_rt.shape) < 0.1] = np.nan
    var = pd.DataFrame(PAIRS, index=NAMES, columns=["biosample", "assay"])
    var["depth"] = [1e5, 2e5, 5e4, 1e5, 3e5, 1e5]
    truth = AnnData(counts_rt, obs=regions(), var=var)
    truth.layers["p"] = np.arcsinh(rng.gamma(0.5, 2.0, size=(N_REGIONS, 6)))
    truth.layers["p"][:, 4] = np.nan
    return truth


@pytest.fixture
def prediction(truth) -> AnnData:
    """Of five of the six tracks and of another one, in another order, over most of the regions, reversed."""
    rng = np.random.default_rng(41)
    columns = [3, 0, 4, 2, 1]
    mean_rt = np.nan_to_num(truth.X[:290, columns], nan=4.0) * rng.gamma(9.0, 1 / 9, size=(290, 5)) + 0.3
    mean_rt = np.c_[mean_rt[::-1], np.ones(290)]
    mean_rt[17, 1] = np.nan
    names = [NAMES[c] for c in columns] + ["heart.DNase"]
    obs = regions(290).iloc[::-1].set_axis([f"other{i}" for i in range(290)])
    prediction = AnnData(mean_rt, obs=obs, var=pd.DataFrame(index=names))
    prediction.layers["dispersion"] = np.full(mean_rt.shape, 3.0)
    lower, upper = (metrics.nb_quantile(q, np.nan_to_num(mean_rt), 3.0) for q in (0.1, 0.9))
    prediction.layers["lower"], prediction.layers["upper"] = lower, upper
    prediction.layers["pval"] = rng.gamma(1.0, size=mean_rt.shape)
    return prediction


def matched(truth: AnnData, prediction: AnnData, layer: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Truth and prediction in one order, by hand."""
    names = list(prediction.var_names[:5])
    measured = truth.to_df(layer)[names].iloc[:290]
    predicted = prediction.to_df("pval" if layer else None)[names].iloc[::-1].set_axis(measured.index)
    return measured, predicted


def test_scores_are_those_of_the_metrics_on_the_matched_regions_and_tracks(truth, prediction):
    scores = score_anndata(prediction, truth, KEYS)
    measured, predicted = matched(truth, prediction)
    assert list(scores) == [*OF_COUNTS, *OF_LIKELIHOOD, "coverage", "expected_coverage"]
    assert list(scores.index.unique("by")) == ["prediction", "average", "marginal"]
    found = scores.loc["prediction"]
    assert list(found.index) == [*measured.columns, "macro_mean"]
    dispersion = predicted * 0 + 3.0
    expected = metrics.score_tracks(measured, predicted, dispersion)
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_names=False)
    rows = found.iloc[:-1]
    np.testing.assert_allclose(rows["r2_arcsinh"], metrics.r2_arcsinh(measured, predicted))
    np.testing.assert_allclose(rows["c_index"], metrics.c_index(measured, predicted).c_index)
    np.testing.assert_allclose(rows["crps_scale"], metrics.crps_split(measured, predicted, dispersion).scale)
    np.testing.assert_allclose(rows["deviance_explained"], metrics.deviance_explained(measured, predicted, dispersion))
    assert (rows["entries"] == (measured.notna() & predicted.notna()).sum()).all()
    assert (rows["coverage"] > 0.8).all()
    np.testing.assert_allclose(found.loc["macro_mean"], rows.mean())


def test_the_average_is_that_of_the_other_biosamples_at_the_depth_of_the_track(truth, prediction):
    found = score_anndata(prediction, truth, KEYS).loc["average"]
    measured, predicted = matched(truth, prediction)
    rate = truth.to_df().iloc[:290] / truth.var["depth"]
    # liver.CTCF was not predicted, and is averaged all the same
    others = {"K562.DNase": ["H1.DNase", "liver.DNase"], "K562.CTCF": ["liver.CTCF"]}
    for name, columns in others.items():
        average = (rate[columns].mean(axis=1) * truth.var.loc[name, "depth"]).where(predicted[name].notna())
        assert found.loc[name, "r2"] == pytest.approx(float(metrics.r2(measured[name], average)), rel=1e-5)
        assert found.loc[name, "entries"] == (measured[name].notna() & average.notna()).sum()
    assert found.loc["H1.H3K4me3"].drop("entries").isna().all() and found.loc["H1.H3K4me3", "entries"] == 0
    assert np.isfinite(found.drop("H1.H3K4me3")).all(axis=None)


def test_the_marginal_is_the_mean_of_the_scored_entries_so_that_it_explains_nothing(truth, prediction):
    found = score_anndata(prediction, truth, KEYS).loc["marginal"].iloc[:-1]
    np.testing.assert_allclose(found[["r2", "deviance_explained"]], 0, atol=1e-12)
    np.testing.assert_allclose(found["c_index"], 0.5)
    assert found["pearson"].isna().all()
    measured, predicted = matched(truth, prediction)
    variance = measured.where(predicted.notna()).var(ddof=0)
    np.testing.assert_allclose(found["mse"], variance, rtol=1e-5)


def test_tracks_without_a_read_and_averages_without_one_do_no_harm(truth, prediction):
    truth.X[:, [1, 2, 5]] = (
        0  # the tracks named below, and those of liver, so the averages of K562.DNase and K562.CTCF are 0
    )
    scores = score_anndata(prediction, truth, KEYS)
    assert np.isfinite(scores.loc[("marginal", "H1.DNase"), ["nll", "crps"]]).all()
    assert scores.loc[("prediction", "H1.DNase"), ["r2", "c_index"]].isna().all()
    assert scores.loc[("average", "K562.CTCF"), ["nll", "crps"]].isna().all()  # no likelihood allows the reads
    assert np.isfinite(scores.loc[("average", "K562.CTCF"), ["r2", "mse"]]).all()


def test_without_layers_there_are_only_scores_of_the_mean_also_of_the_references(truth, prediction):
    del prediction.layers["dispersion"], prediction.layers["lower"], prediction.layers["upper"]
    scores = score_anndata(prediction, truth, KEYS)
    assert list(scores) == OF_COUNTS
    prediction.layers["lower"], prediction.layers["upper"] = prediction.X * 0, prediction.X * 0 + 1e9
    scores = score_anndata(prediction, truth, KEYS)
    assert list(scores) == [*OF_COUNTS, "coverage"]
    assert (scores.loc["prediction", "coverage"] == 1).all() and scores.loc["average", "coverage"].isna().all()


def test_what_was_not_observed_is_not_looked_at(truth, prediction):
    expected = score_anndata(prediction, truth, KEYS)
    truth.layers["seen"] = (~np.isnan(truth.X)).astype(np.int8)
    truth.X = np.nan_to_num(truth.X, nan=999)
    found = score_anndata(prediction, truth, replace(KEYS, observed_layer="seen"))
    pd.testing.assert_frame_equal(found, expected)


def test_sparse_predictions_and_counts_in_a_layer_give_the_same(truth, prediction):
    expected = score_anndata(prediction, truth, KEYS)
    prediction.X = sparse.csr_matrix(prediction.X)
    truth.layers["counts"], truth.X = truth.X, None
    pd.testing.assert_frame_equal(score_anndata(prediction, truth, replace(KEYS, layer="counts")), expected)


def test_regions_are_matched_by_name_where_coordinates_are_not_told_or_not_unique(truth, prediction):
    expected = score_anndata(prediction, truth, KEYS)
    prediction.obs_names = list(truth.obs_names[:290][::-1])
    for obs in (prediction.obs[["chrom"]], prediction.obs.assign(start=7, end=9)):
        prediction.obs = obs
        pd.testing.assert_frame_equal(score_anndata(prediction, truth, KEYS), expected)


def test_signal_is_scored_by_the_measures_of_the_challenge(truth, prediction):
    keys = SetupKeys(signal_layer="p")
    found = score_anndata(prediction, truth, keys)
    measured, predicted = matched(truth, prediction, "p")
    assert list(found) == ["entries", "mse", "gwcorr", "gwspear", "msevar", "mse1obs", "mse1imp"]
    signal_rt = truth.layers["p"][:290]
    variance = pd.DataFrame(
        {
            "K562.DNase": np.var(signal_rt[:, [1, 2]], axis=1),
            "H1.DNase": np.var(signal_rt[:, [0, 2]], axis=1),
        }
    )
    names = list(variance)
    expected = metrics.encode_scores(measured[names], predicted[names], variance=variance)
    np.testing.assert_allclose(found.loc["prediction"].loc[names, list(expected)], expected.loc[names], rtol=1e-5)
    average = pd.Series(signal_rt[:, [1, 2]].mean(axis=1), measured.index)
    mse = float(metrics.mse(measured["K562.DNase"], average))
    assert found.loc[("average", "K562.DNase"), "mse"] == pytest.approx(mse, rel=1e-5)
    assert found.loc[("prediction", "H1.H3K4me3")].drop("entries").isna().all()
    prediction.X = prediction.layers.pop("pval")
    pd.testing.assert_frame_equal(score_anndata(prediction, truth, keys), found)


def test_annotated_errors_are_those_over_the_regions_that_the_intervals_cover(truth, prediction):
    genes = pd.DataFrame(
        {"chrom": ["chr1", "chr2"], "start": [8_100, 2_000], "end": [9_000, 3_300], "strand": ["+", "-"]}
    )
    enhancers = pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [900]})
    measured, predicted = matched(truth, prediction)
    obs = truth.obs.iloc[:290]
    found = score_anndata(prediction, truth, KEYS, genes=genes, enhancers=enhancers).loc["prediction"].iloc[:-1]
    promoters = metrics.count_promoters(obs, genes)
    assert promoters.sum() == 20  # of 200 bp, on either strand ten
    np.testing.assert_allclose(found["mseprom"], metrics.mseprom(measured, predicted, promoters))
    np.testing.assert_allclose(
        found["msegene"], metrics.msegene(measured, predicted, metrics.count_intervals(obs, genes))
    )
    np.testing.assert_allclose(found["mseenh"], metrics.mse(measured.iloc[:5], predicted.iloc[:5]))
    given = score_anndata(prediction, truth, KEYS, promoters=enhancers, genes=genes).loc["prediction"].iloc[:-1]
    np.testing.assert_allclose(given["mseprom"], found["mseenh"])
    without = score_anndata(prediction, truth, KEYS, genes=genes.drop(columns="strand"))
    assert "msegene" in without and "mseprom" not in without


def test_prediction_and_truth_stay_as_they_are(truth, prediction):
    before = truth.copy(), prediction.copy()
    score_anndata(prediction, truth, KEYS)
    for found, expected in zip((truth, prediction), before, strict=True):
        np.testing.assert_array_equal(found.X, expected.X)
        pd.testing.assert_frame_equal(found.obs, expected.obs)
        assert list(found.layers) == list(expected.layers)


def break_layer(adata: AnnData, value: float) -> None:
    adata.layers["dispersion"][3, 0] = value


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(
            lambda t, p: setattr(p, "var_names", list("abcdef")), "no track of the prediction is in", id="track"
        ),
        pytest.param(lambda t, p: setattr(p, "obs", p.obs.assign(start=-1)), "no region of the pred", id="region"),
        pytest.param(
            lambda t, p: p.X.__setitem__((2, 0), -1), "must be 0 or more; track K562.CTCF has -1", id="negative"
        ),
        pytest.param(lambda t, p: p.X.__setitem__((2, 0), np.inf), "must be finite.*K562.CTCF has inf", id="infinite"),
        pytest.param(lambda t, p: break_layer(p, 0), "'dispersion' must be above 0; track K562.CTCF has 0", id="zero"),
        pytest.param(lambda t, p: break_layer(p, np.nan), "'dispersion' must be above 0; .* has nan", id="nan"),
        pytest.param(lambda t, p: t.X.__setitem__((2, 0), 0.5), "must hold whole counts", id="counts"),
        pytest.param(lambda t, p: t.X.__setitem__(slice(None), np.nan), "no entry is both measured and", id="nothing"),
        pytest.param(lambda t, p: setattr(p, "X", None), "holds nothing in X", id="empty"),
        pytest.param(
            lambda t, p: setattr(p, "obs_names", ["x"] * 290), "regions of the prediction must be", id="names"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_what_cannot_be_scored_is_refused(truth, prediction, spoil, message):
    spoil(truth, prediction)
    with pytest.raises(ValueError, match=message):
        score_anndata(prediction, truth, KEYS)


def test_intervals_without_a_region_and_regions_without_a_place_are_refused(truth, prediction):
    genes = pd.DataFrame({"chrom": ["1"], "start": [0], "end": [500]})
    with pytest.raises(
        ValueError, match="no region lies in the genes; they are on 1. Compare the names of chromosomes"
    ):
        score_anndata(prediction, truth, KEYS, genes=genes)
    prediction.obs_names = list(truth.obs_names[:290][::-1])
    del truth.obs["end"]
    with pytest.raises(ValueError, match="genes can be scored only where obs has chrom, start and end"):
        score_anndata(prediction, truth, KEYS, genes=genes)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


@pytest.fixture
def files(truth, prediction, tmp_path) -> tuple[Path, Path]:
    truth.write_h5ad(tmp_path / "truth.h5ad")
    prediction.write_h5ad(tmp_path / "pred.h5ad")
    return tmp_path / "pred.h5ad", tmp_path / "truth.h5ad"


def test_command_says_what_was_matched_prints_the_scores_and_writes_them(files, truth, prediction, tmp_path):
    out = tmp_path / "new" / "scores.csv"
    result = call(*files, "--depth-key", "depth", "--out", out)
    assert result.exit_code == 0, result.output
    first, *_ = result.stdout.splitlines()
    assert first == (
        "pred.h5ad against truth.h5ad. Matched 5 of 6 tracks by name, and 290 of 290 regions by coordinates. "
        "Without a match: heart.DNase."
    )
    assert "average: of the other biosamples, for 4 of 5 tracks" in result.stdout
    written = pd.read_csv(out, index_col=["by", "track"])
    pd.testing.assert_frame_equal(written, score_anndata(prediction, truth, KEYS), rtol=1e-5, check_dtype=False)


def test_where_the_average_lacks_a_track_the_prediction_is_told_for_the_same_tracks_too(files, truth, prediction):
    result = call(*files, "--depth-key", "depth")
    row, *_ = (line.split() for line in result.stdout.splitlines() if line.startswith("PRED, same tracks"))
    found = score_anndata(prediction, truth, KEYS).loc["prediction"].drop(["H1.H3K4me3", "macro_mean"])
    assert float(row[3]) == pytest.approx(found["r2"].mean(), abs=5e-4)


def test_a_layer_that_may_mark_missing_counts_is_pointed_out_unless_it_is_named(files, truth):
    truth.layers["observed"] = (~np.isnan(truth.X)).astype(np.int8)
    truth.write_h5ad(files[1])
    note = "Note: layer 'observed' of truth.h5ad is not looked at."
    for options, told in (([], True), (["--observed-layer", "observed"], False), (["--signal-layer", "p"], False)):
        result = call(*files, *options)
        assert result.exit_code == 0, result.output
        assert (note in result.stdout) == told


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
def test_command_scores_signal_of_zarr_over_the_genes_of_a_zipped_bed_file(files, prediction, tmp_path):
    prediction.write_zarr(tmp_path / "pred.zarr")
    with gzip.open(tmp_path / "genes.bed.gz", "wt") as file:
        file.write("# genes\ntrack name=genes\n\nchr1\t8100\t9000\tthe gene\t0\t+\n")
    beds = ["--genes", tmp_path / "genes.bed.gz", "--enhancers", tmp_path / "genes.bed.gz"]
    result = call(tmp_path / "pred.zarr", files[1], "--signal-layer", "p", *beds)
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in ("mseprom", "msegene", "mseenh", "msevar"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--layer", "count"], "layer 'count' is not in adata.layers", id="layer"),
        pytest.param(["--depth-key", "reads"], "depth_key 'reads' is not in adata.var", id="depth"),
        pytest.param(["--out", "scores.tsv"], "out must be a file that ends in .csv; got 'scores.tsv'", id="out"),
        pytest.param(["--genes", "none.bed"], "there is no none.bed", id="bed"),
    ],
)
def test_what_the_command_cannot_use_is_told_in_one_line(files, arguments, message):
    result = call(*files, *arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {message}")


def test_files_that_cannot_be_scored_are_named_in_one_line(files, tmp_path):
    (tmp_path / "track.bigWig").touch()
    (tmp_path / "table.csv").touch()
    for name, message in {
        "track.bigWig": "track.bigWig must be a bigWig file; it cannot be read",
        "table.csv": "ends in .h5ad or .zarr",
        "none.h5ad": "there is no",
        "tracks": "there is no ",
    }.items():
        for pair in ((tmp_path / name, files[1]), (files[0], tmp_path / name)):
            result = call(*pair)
            assert result.exit_code == 2
            (line,) = result.stderr.splitlines()
            assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t5\t9\nchr1 5\n", "line 2 of genes.bed must begin with chromosome, start and end; it is 'chr1 5'"),
        ("chrom\tstart\tend\n", "genes.bed must hold an interval a line; it holds none"),
        ("# nothing\n", "must hold an interval a line; it holds none"),
        ("\x1f\x8b\udcff", "is no text"),
    ],
)
def test_bed_files_that_hold_no_intervals_are_named_in_one_line(files, tmp_path, text, message):
    (tmp_path / "genes.bed").write_bytes(text.encode("utf-8", "surrogateescape"))
    result = call(*files, "--genes", tmp_path / "genes.bed")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line


GENOME = pd.Series({"chr1": 45_000, "chr2": 30_000})


def as_bigwigs(adata: AnnData, folder: Path, layer: str | None = None, scale: str = "stored") -> Path:
    """A folder of bigWig files without loss; regions in order, as the files need them."""
    ordered = adata[adata.obs.sort_values(["chrom", "start"]).index].copy()
    options = {"genome": GENOME, "digits": None, "progress": False}
    io.write_bigwigs(ordered, folder, layer=layer, scale=scale, **options)
    return folder


def scores_of(*arguments: object, folder: Path) -> pd.DataFrame:
    result = call(*arguments, "--out", folder / "scores.csv")
    assert result.exit_code == 0, result.output
    return pd.read_csv(folder / "scores.csv", index_col=["by", "track"])


def assert_same_scores(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(found) == len(expected) > 3
    pd.testing.assert_frame_equal(found.loc[expected.index, list(expected)], expected, rtol=2e-5, check_dtype=False)


def test_bigwig_files_score_as_the_matrix_that_they_were_written_from(files, prediction, tmp_path):
    del prediction.layers["dispersion"], prediction.layers["lower"]
    prediction.X = prediction.X.astype(np.float32)
    prediction.write_h5ad(files[0])
    expected = scores_of(*files, folder=tmp_path)
    found = scores_of(as_bigwigs(prediction, tmp_path / "pred"), files[1], folder=tmp_path)
    assert_same_scores(found, expected)


def test_signal_of_bigwig_files_is_minus_log10_p_and_scored_as_its_arcsinh(files, prediction, tmp_path):
    expected = scores_of(*files, "--signal-layer", "p", folder=tmp_path)
    pvals = as_bigwigs(prediction, tmp_path / "pred", layer="pval", scale="-log10p")
    assert_same_scores(scores_of(pvals, files[1], "--signal-layer", "p", folder=tmp_path), expected)


@pytest.mark.filterwarnings("ignore:track H1.H3K4me3 holds no value")
def test_two_folders_of_bigwig_files_are_scored_over_a_bed_file_or_bins(files, truth, prediction, tmp_path):
    expected = scores_of(*files, "--signal-layer", "p", folder=tmp_path)
    pair = (
        as_bigwigs(prediction, tmp_path / "pred", layer="pval", scale="-log10p"),
        as_bigwigs(truth, tmp_path / "truth", layer="p", scale="-log10p"),
    )
    truth.obs.iloc[:290].to_csv(tmp_path / "regions.bed", sep="\t", header=False, index=False)
    by_bed = scores_of(*pair, "--regions", tmp_path / "regions.bed", folder=tmp_path)
    by_bins = scores_of(*pair, "--bin", WIDTH, folder=tmp_path)
    pd.testing.assert_frame_equal(by_bed, by_bins)
    tracks = [NAMES[3], NAMES[0], NAMES[2], NAMES[1]]
    for by in ("prediction", "average"):
        known = expected.loc[by].loc[tracks].dropna(axis=1, how="all")
        pd.testing.assert_frame_equal(by_bed.loc[by].loc[tracks, list(known)], known, rtol=2e-5, check_dtype=False)


def test_counts_of_bigwig_files_are_scored_on_request(files, truth, prediction, tmp_path):
    pred = as_bigwigs(prediction, tmp_path / "pred")
    folder = as_bigwigs(truth, tmp_path / "truth")
    expected = scores_of(pred, files[1], folder=tmp_path)
    assert_same_scores(scores_of(pred, folder, "--counts", "--bin", WIDTH, folder=tmp_path), expected)


def test_what_chipvi_wrote_for_browsers_is_scored_by_track(files, prediction, tmp_path):
    ordered = prediction[prediction.obs.sort_values(["chrom", "start"]).index].copy()
    io.write_tracks(ordered, tmp_path / "tracks", genome=GENOME, digits=None, progress=False)
    for options in ([], ["--signal-layer", "p"]):
        plain = as_bigwigs(
            prediction,
            tmp_path / f"plain{len(options)}",
            layer="pval" if options else None,
            scale="-log10p" if options else "stored",
        )
        expected = scores_of(plain, files[1], *options, folder=tmp_path)
        assert_same_scores(scores_of(tmp_path / "tracks", files[1], *options, folder=tmp_path), expected)


def test_a_single_file_is_matched_by_its_name_safe_letters_or_not(files, truth, prediction, tmp_path):
    name = "K562/DNase (rep 1)"
    for adata, path in ((truth, files[1]), (prediction, files[0])):
        adata.var_names = [name if track == "K562.DNase" else track for track in adata.var_names]
        adata.write_h5ad(path)
    folder = as_bigwigs(prediction, tmp_path / "pred")
    (path,) = folder.glob("K562_*.bw")
    found = scores_of(path, files[1], folder=tmp_path).loc["prediction"]
    assert list(found.index) == [name, "macro_mean"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pred", "pred"], "bigWig files have no regions; name them with --regions BED, or with --bin"),
        (["pred", "pred", "--bin", 200, "--regions", "x.bed"], "bigWig files have no regions"),
        (["pred", "truth.h5ad", "--bin", 200], "the regions are those of truth.h5ad; leave out --bin"),
        (["pred.h5ad", "truth.h5ad", "--bin", 200], "--regions, --bin and --counts are for bigWig files"),
        (["pred", "truth.h5ad", "--counts"], "--counts is for bigWig files of TRUTH"),
        (["pred.h5ad", "pred", "--signal-layer", "p"], "bigWig files have no layers or columns; leave out --signal-l"),
        (["empty", "truth.h5ad"], "must hold bigWig files, ending in .bw or .bigWig; it holds none"),
    ],
)
def test_bigwig_files_that_cannot_be_scored_are_named_in_one_line(files, prediction, tmp_path, arguments, message):
    as_bigwigs(prediction, tmp_path / "pred")
    (tmp_path / "empty").mkdir()
    result = call(*(tmp_path / a if str(a).partition(".")[0] in ("pred", "truth", "empty") else a for a in arguments))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line
