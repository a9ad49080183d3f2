"""ChromHMM's input holds what was measured, what was imputed elsewhere, and what is unknown, by ChromHMM's own rule."""

import gzip
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from anndata import AnnData

from chipvi import io

N = 900  # regions of the first chromosome
needs_chromhmm = pytest.mark.skipif(shutil.which("ChromHMM") is None, reason="there is no ChromHMM")


def make(gap=False):
    """Counts of two biosamples x three marks, one of them never measured, and a result with all but one mark."""
    rng = np.random.default_rng(0)
    starts = [*range(0, N * 200, 200), *range(0, 40_000, 200)]
    obs = pd.DataFrame({"chrom": ["chr1"] * N + ["chr2"] * 200, "start": starts})
    obs["end"] = obs["start"] + 200
    obs.index = obs["chrom"] + ":" + obs["start"].astype(str)
    pairs = [("K562", "H3K4me3"), ("K562", "H3K27ac"), ("H1 cell", "H3K4me3"), ("H1 cell", "H3K9me3")]
    var = pd.DataFrame(pairs, columns=["biosample", "assay"], index=[".".join(pair) for pair in pairs])
    rate = rng.gamma(0.4, 5.0, size=(len(obs), 4))
    counts = AnnData(rng.poisson(rate).astype(np.float32), obs, var, layers={"observed": np.ones_like(rate)})
    counts.layers["observed"][:, 2] = 0
    result = AnnData((rate + 0.123).astype(np.float32), obs, var)
    if gap:
        counts, result = (one[[*range(10, 20), *range(N, N + 200)]].copy() for one in (counts, result))
    return counts, result


def read(path):
    with gzip.open(path, "rt") as file:
        first, second, *rows = file.read().splitlines()
    return first, second.split("\t"), np.array([row.split("\t") for row in rows], dtype=float)


def export(tmp_path, gap=False, **options):
    counts, result = make(gap)
    files = io.write_chromhmm(result, tmp_path, counts, observed_layer="observed", **options)
    return counts, result, files


def test_a_mark_is_what_was_measured_or_else_imputed_or_else_unknown(tmp_path):
    counts, result, files = export(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in files["H1 cell"]]
    stem = "H1_cell"
    assert names == [f"{kind}/{stem}_{c}_{kind}.txt.gz" for c in ("chr1", "chr2") for kind in ("binary", "signal")]
    first, marks, binary = read(files["H1 cell"][0])
    assert (first, marks) == ("H1_cell\tchr1", ["H3K4me3", "H3K27ac", "H3K9me3"])
    _, _, signal = read(files["H1 cell"][1])
    assert binary.shape == signal.shape == (N, 3)
    np.testing.assert_allclose(signal[:, 0], result.X[:N, 2], rtol=1e-5)
    np.testing.assert_array_equal(signal[:, 2], counts.X[:N, 3])
    assert (signal[:, 1] == -1).all() and (binary[:, 1] == 2).all()
    for column, values in ((0, result.X[:, 2]), (2, counts.X[:, 3])):
        threshold = next(k for k in range(1, 99) if scipy.stats.poisson.cdf(k, values.mean()) > 1 - 1e-4)
        np.testing.assert_array_equal(binary[:, column], values[:N] >= threshold)
        assert 0 < binary[:, column].sum() < N / 2


def test_bins_that_are_no_region_are_unknown_and_chromosomes_as_long_as_the_genome(tmp_path):
    counts, _, files = export(tmp_path, gap=True, genome=pd.Series({"chr1": 5_100, "chr2": 40_000}))
    _, _, binary = read(files["K562"][0])
    assert len(binary) == 25  # 5,100 bp hold no 26th bin
    is_region = (np.arange(25) >= 10) & (np.arange(25) < 20)
    assert (binary[~is_region] == 2).all() and (binary[is_region][:, :2] < 2).all()
    _, _, signal = read(files["K562"][1])
    np.testing.assert_array_equal(signal[is_region, 0], counts.X[:10, 0])


def test_a_higher_probability_calls_more_and_without_counts_all_is_imputed(tmp_path):
    _, result, strict = export(tmp_path / "strict")
    _, _, loose = export(tmp_path / "loose", poisson=0.01)
    assert read(strict["K562"][0])[2][:, 0].sum() < read(loose["K562"][0])[2][:, 0].sum()
    alone = io.write_chromhmm(result, tmp_path / "alone")
    np.testing.assert_allclose(read(alone["K562"][1])[2][:, 0], result.X[:N, 0], rtol=1e-5)


def test_a_result_in_a_file_is_read_in_pieces_and_gives_the_same(tmp_path, monkeypatch):
    counts, result, expected = export(tmp_path / "memory")
    result.write_h5ad(tmp_path / "result.h5ad")
    monkeypatch.setattr("chipvi.io.chromhmm._ROWS", 128)
    found = io.write_chromhmm(tmp_path / "result.h5ad", tmp_path / "file", counts, observed_layer="observed")
    for one, other in zip(found["K562"], expected["K562"], strict=True):
        assert gzip.open(one).read() == gzip.open(other).read()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda obs: obs.assign(end=obs["end"] + (obs["start"] == 400) * -3), "chr1:400-597 does not go with it"),
        (lambda obs: obs.assign(start=obs["start"] + 5, end=obs["end"] + 5), "chr1:5-205 does not go with it"),
        (lambda obs: obs.drop(columns="start"), "obs has no start"),
    ],
)
def test_regions_that_are_no_bins_are_refused(tmp_path, change, expected):
    _, result = make()
    result.obs = change(result.obs)
    with pytest.raises(ValueError, match=expected):
        io.write_chromhmm(result, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_counts_of_other_regions_are_refused(tmp_path):
    counts, result = make()
    with pytest.raises(ValueError, match="they lack chr1:0"):
        io.write_chromhmm(result, tmp_path / "out", counts[5:].copy())


@needs_chromhmm
def test_chromhmm_binarises_the_signal_alike_and_learns_a_model_of_the_binary_files(tmp_path):
    _, _, files = export(tmp_path)
    (tmp_path / "theirs").mkdir()
    binarise = ["ChromHMM", "BinarizeSignal", "-gzip", tmp_path / "signal", tmp_path / "theirs"]
    subprocess.run(binarise, check=True, capture_output=True)
    for biosample in files:
        ours, _ = files[biosample][:2]
        assert gzip.open(tmp_path / "theirs" / ours.name).read() == gzip.open(ours).read()
    options = ["-noautoopen", "-nobrowser", "-noimage", "-noenrich", "-r", "5"]
    learn = ["ChromHMM", "LearnModel", *options, tmp_path / "binary", tmp_path / "model", "3", "hg19"]
    subprocess.run(learn, check=True, capture_output=True)
    segments = pd.read_csv(next((tmp_path / "model").glob("H1_cell_3_segments.bed")), sep="\t", header=None)
    assert segments.groupby(0)[2].max().to_dict() == {"chr1": N * 200, "chr2": 40_000}
