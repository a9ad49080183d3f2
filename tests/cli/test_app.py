"""The command line: the demo writes what it says, judges on what was not trained on, and errors take one line."""

import io
import re
import runpy
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from rich.console import Console
from sklearn.metrics import r2_score
from typer.testing import CliRunner

from chipvi import ChipVI, __version__, compare_heads, datasets
from chipvi.cli import demo
from chipvi.cli.app import app
from chipvi.metrics import pearson, r2

NEVER = "cell2.H3K4me3"
FILES = ["imputed.h5ad", "quality.png", "report.html", "scores.csv", "tracks.png", "training.png"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Result, Path]:
    """A demo on 1,000 regions and after 5 steps: all but the numbers is as in a full one."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_N_REGIONS", 1_000)
        return call("demo", "--data", "simulated", "--steps", "5", "--seed", "3", "--out", str(out)), out


def test_demo_writes_every_file_and_says_so(finished):
    result, out = finished
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == FILES
    unwrapped = result.output.replace("\n", "")
    assert all(str(out / name) in unwrapped for name in FILES)
    for name in FILES:
        if name.endswith(".png"):
            assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_demo_shows_a_row_per_track_beside_the_average_and_against_the_truth(finished):
    output = finished[0].output
    assert "average" in output and "against the true rate" in output
    assert output.count(NEVER) >= 3  # told to be missing, and in both tables
    *_, row = (line.split() for line in output.splitlines() if line.strip().startswith(NEVER))
    assert row[1:4] == ["-", "-", "-"] and row[4] != "-"  # nothing to denoise, but imputed


def test_demo_ends_in_sentences_that_count_what_its_scores_say_and_in_a_page_that_is_there(finished):
    result, out = finished
    scores = pd.read_csv(out / "scores.csv", index_col="track").drop("macro_mean")
    *_, imputation, denoising, page = result.output.splitlines()
    for line, ours, theirs in (
        (imputation, "r2", "average_r2"),
        (denoising, "denoised_rate_r2", "smoothed_rate_r2"),
    ):
        judged = scores[[ours, theirs]].dropna()
        is_ahead = judged[ours] > judged[theirs]
        assert f": {is_ahead.sum()} of {len(judged)} tracks " in line
        assert all((name in line) != ahead for name, ahead in is_ahead.items()) or (~is_ahead).sum() > 8
    assert page == f"Open {out / 'report.html'} in a browser."
    assert (out / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_tables_of_the_demo_fit_80_columns(finished):
    lines = finished[0].output.splitlines()
    tables = [line for line in lines if re.match(r" *(cell\d|track|mean)", line)]
    assert len(tables) > 20 and max(map(len, tables)) <= 80


def test_scores_are_those_of_held_out_regions_and_of_the_counts_that_were_withheld(finished):
    _, out = finished
    scores = pd.read_csv(out / "scores.csv", index_col="track")
    imputed = anndata.read_h5ad(out / "imputed.h5ad")
    full = datasets.simulate(n_regions=1_000, n_chromosomes=10, seed=3)
    held_out = full[full.obs["chrom"] == "chr10"]
    assert list(imputed.obs_names) == list(held_out.obs_names)
    assert list(scores.index) == [*full.var_names, "macro_mean"]
    rate_rt = held_out.layers["rate"]
    for name in (NEVER, "cell3.H3K36me3"):
        t = full.var_names.get_loc(name)
        assert scores.loc[name, "r2"] == pytest.approx(float(r2(held_out.X[:, t], imputed.X[:, t])), abs=1e-4)
        assert scores.loc[name, "imputed_rate_pearson"] == pytest.approx(
            float(pearson(rate_rt[:, t], imputed.X[:, t])), abs=1e-4
        )
    t = full.var_names.get_loc("cell3.H3K36me3")
    assert scores.loc["cell3.H3K36me3", "raw_rate_r2"] == pytest.approx(
        float(r2(rate_rt[:, t], held_out.X[:, t])), abs=1e-4
    )
    assert (scores["smoothed_rate_r2"] > scores["raw_rate_r2"] - 0.01).drop(NEVER).all()
    assert scores.loc[NEVER, ["raw_rate_r2", "smoothed_rate_r2", "denoised_rate_r2"]].isna().all()
    assert np.isfinite(scores.drop(NEVER)).all(axis=None)


def test_the_average_is_that_of_the_other_biosamples_at_the_depth_of_the_track(finished):
    _, out = finished
    scores = pd.read_csv(out / "scores.csv", index_col="track")
    full = datasets.simulate(n_regions=1_000, n_chromosomes=10, seed=3)
    held_out = full[full.obs["chrom"] == "chr10"]
    rate = held_out.to_df() / held_out.var["depth"]
    # cell2 has no H3K4me3, so cell3 is all that can be averaged for cell1
    averages = {NEVER: ["cell1.H3K4me3", "cell3.H3K4me3"], "cell1.H3K4me3": ["cell3.H3K4me3"]}
    for name, others in averages.items():
        average = rate[others].mean(axis=1) * held_out.var.loc[name, "depth"]
        assert scores.loc[name, "average_r2"] == pytest.approx(float(r2(held_out.to_df()[name], average)), abs=1e-4)


def test_demo_never_trains_on_what_it_judges():
    example = demo._simulated(seed=0)
    chroms = example.adata.obs["chrom"].to_numpy()
    assert not set(chroms[example.test]) & set(chroms[example.train])
    assert np.isnan(np.where(example.adata.layers["observed"] == 1, example.adata.X, np.nan)[:, 5]).all()
    assert example.adata.var_names[5] == NEVER


def test_real_counts_are_judged_on_genes_that_are_not_trained_on_and_have_no_true_rate(monkeypatch, tmp_path):
    simulated = datasets.simulate(n_regions=800, n_biosamples=2, n_assays=3, n_chromosomes=20, seed=1)
    obs = pd.DataFrame(index=simulated.obs_names)
    obs["gene_id"] = simulated.obs["chrom"].astype(str).to_numpy()
    obs["split"] = pd.Categorical(np.where(np.arange(800) < 480, "train", "valid"))
    stand_in = anndata.AnnData(simulated.X, obs=obs, var=simulated.var[["biosample", "assay", "depth"]])
    monkeypatch.setattr(datasets, "roadmap_tss", lambda splits: stand_in)
    result = call("demo", "--data", "roadmap-tss", "--steps", "2", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "true rate" not in result.output and "Denoised, against reads held back" in result.output
    assert "tracks are closer to the reads held back than the best Gaussian" in result.output
    assert list(anndata.read_h5ad(tmp_path / "imputed.h5ad").obs_names) == list(obs.index[480:])
    assert not pd.read_csv(tmp_path / "scores.csv").filter(like="rate").size
    trained_on = set(stand_in.obs["gene_id"][stand_in.obs["split"] == "train"])
    validated_on = set(stand_in.obs["gene_id"][stand_in.obs["split"] == "valid"])
    assert trained_on and validated_on and not trained_on & validated_on


def test_unknown_data_are_refused_in_one_line(tmp_path):
    result = call("demo", "--data", "roadmap-ts", "--out", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: data 'roadmap-ts' is not in the data of the demo; did you mean 'roadmap-tss'? "
        "There is: simulated, roadmap-tss."
    ]
    assert result.stdout == ""
    assert not (tmp_path / "none").exists()


def test_a_download_that_fails_is_told_in_one_line(monkeypatch, tmp_path):
    def fail(splits):
        raise ConnectionError("the counts could not be downloaded. Check the network.")

    monkeypatch.setattr(datasets, "roadmap_tss", fail)
    result = call("demo", "--data", "roadmap-tss", "--out", str(tmp_path))
    assert (result.exit_code, result.stderr) == (1, "Error: the counts could not be downloaded. Check the network.\n")


def test_without_a_network_the_demo_says_so_and_goes_on_with_simulated_counts(monkeypatch):
    def fail(splits):
        raise ConnectionError("the counts could not be downloaded.")

    monkeypatch.setattr(datasets, "roadmap_tss", fail)
    monkeypatch.setattr(demo, "_N_REGIONS", 100)
    console = Console(file=io.StringIO(), width=200)
    assert demo._find_example(demo.Options(), console).name == "Simulated counts"
    assert console.file.getvalue().splitlines() == [
        "No real counts: the counts could not be downloaded.",
        "The demo goes on with simulated counts, whose true rate is known.",
    ]


def test_denoising_is_judged_by_reads_that_it_did_not_see():
    full = datasets.simulate(n_regions=900, n_biosamples=2, n_assays=2, n_chromosomes=3, mean_count=20.0, seed=2)
    full.obs["split"] = full.obs["chrom"].astype(str).map({"chr1": "train", "chr2": "valid", "chr3": "test"})
    setup = {"depth_key": "depth"}
    example = demo.Example(full, setup, full.X, "", "", [])

    class Halves:
        """A model that gives back what it sees, as if it were denoised."""

        def get_normalized_expression(self, adata, indices, return_numpy):
            self.adata, self.indices = adata, indices
            return adata.X[indices]

    model = Halves()
    scores = demo.score_other_half(example, model, seed=0)
    np.testing.assert_array_equal(model.indices, example.test)
    other = full.X - model.adata.X
    assert other.min() >= 0 and abs(model.adata.X.sum() / full.X.sum() - 0.5) < 0.01
    np.testing.assert_allclose(model.adata.var["depth"], full.var["depth"] / 2)
    np.testing.assert_allclose(scores["denoised_half_r2"], scores["raw_half_r2"])
    expected = [r2_score(other[600:, t], model.adata.X[600:, t]) for t in range(4)]
    np.testing.assert_allclose(scores["raw_half_r2"], expected, rtol=1e-6)
    assert (scores["smoothed_half_r2"] > scores["raw_half_r2"]).all()


def test_out_that_is_a_file_is_refused_before_training(tmp_path):
    (tmp_path / "taken").touch()
    result = call("demo", "--out", str(tmp_path / "taken"))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "taken" in result.stderr


def test_version_is_told_also_by_python_m(monkeypatch, capsys):
    assert call("--version").output == f"chipvi {__version__}\n"
    monkeypatch.setattr(sys, "argv", ["chipvi", "--version"])
    monkeypatch.delitem(sys.modules, "chipvi.__main__", raising=False)  # another test may have imported it
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("chipvi", run_name="__main__")
    assert capsys.readouterr().out == f"chipvi {__version__}\n"


def test_without_a_command_the_commands_are_listed():
    assert "demo" in call().output


HEAD_FILES = ["heads.csv", "heads.png", "runs.csv"]
SETUP = ["--observed-layer", "observed", "--depth-key", "depth"]


@pytest.fixture(scope="module")
def counts_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    datasets.simulate(n_regions=400, n_biosamples=2, n_assays=3, seed=2).write_h5ad(path)
    return path


def compare(path: Path, out: Path, *arguments: str) -> Result:
    return call("compare-heads", str(path), "--out", str(out), *arguments)


@pytest.fixture(scope="module")
def compared(counts_file, tmp_path_factory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("heads") / "new" / "folder"
    options = ["--heads", "mean_dispersion, poisson", "--steps", "3", "--seeds", "2"]
    return compare(counts_file, out, *SETUP, *options), out


def test_compare_heads_says_what_it_will_do_prints_the_verdict_and_writes_every_file(compared):
    result, out = compared
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == HEAD_FILES
    assert (out / "heads.png").read_bytes().startswith(b"\x89PNG")
    unwrapped = result.stdout.replace("\n", "")
    assert all(str(out / name) in unwrapped for name in HEAD_FILES)
    first, second, *_ = result.stdout.splitlines()
    assert first == "counts.h5ad: 400 regions x 6 tracks; 80 are held out."
    assert second == "To train: 2 heads x 2 seeds x 3 steps"
    assert "- By NLL, " in result.stdout
    assert "Too little for a firm verdict: 6 of 6 tracks" in result.stdout.replace("\n", " ")


def test_the_tables_of_compare_heads_agree_with_each_other_and_with_the_function(compared, counts_file):
    _, out = compared
    table = pd.read_csv(out / "heads.csv", index_col="head")
    runs = pd.read_csv(out / "runs.csv")
    assert list(table.index[2:]) == ["marginal", "average"]
    for head, rows in runs.groupby("head"):
        assert table.loc[head, "nll"] == pytest.approx(rows["nll"].mean(), rel=1e-5)
    adata = anndata.read_h5ad(counts_file)
    ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    again = compare_heads(adata, ["mean_dispersion", "poisson"], steps=3, seeds=[0, 1])
    np.testing.assert_allclose(again.runs["crps"], runs["crps"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
def test_compare_heads_reads_zarr(tmp_path):
    datasets.simulate(n_regions=200, n_biosamples=2, n_assays=2).write_zarr(tmp_path / "counts.zarr")
    options = ["--heads", "poisson", "--steps", "1", "--seeds", "1"]
    result = compare(tmp_path / "counts.zarr", tmp_path / "out", *SETUP, *options)
    assert result.exit_code == 0, result.output
    assert "To train: 1 head x 1 seed x 1 step" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--heads", "poison"], "head 'poison' is not in chipvi.nn.COUNT_HEADS", id="head"),
        pytest.param(["--layer", "count"], "layer 'count' is not in adata.layers", id="layer"),
        pytest.param(["--segment-key", "gene"], "segment_key 'gene' is not in adata.obs", id="segments"),
    ],
)
def test_what_compare_heads_cannot_use_is_told_in_one_line_and_nothing_is_written(
    counts_file, tmp_path, arguments, message
):
    result = compare(counts_file, tmp_path / "none", *arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {message}")
    assert not (tmp_path / "none").exists()


@pytest.mark.filterwarnings("ignore:Element .* was written without encoding metadata")
def test_files_that_hold_no_anndata_are_told_in_one_line(tmp_path):
    (tmp_path / "broken.h5ad").write_text("no")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "counts.csv").touch()
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["something"] = 1
    for name, message in {
        "broken.h5ad": "cannot be read as an AnnData",
        "empty.zarr": "cannot be read as an AnnData",
        "other.h5ad": "cannot be read as an AnnData",
        "counts.csv": "ends in .h5ad or .zarr",
        "none.h5ad": "there is no",
    }.items():
        result = compare(tmp_path / name, tmp_path / "out")
        assert result.exit_code == 2, name
        (line,) = result.stderr.splitlines()
        assert message in line
    assert not (tmp_path / "out").exists()


def test_too_few_regions_and_a_taken_folder_are_told_before_training(counts_file, tmp_path):
    datasets.simulate(n_regions=120, n_biosamples=2, n_assays=2).write_h5ad(tmp_path / "small.h5ad")
    result = compare(tmp_path / "small.h5ad", tmp_path / "out", *SETUP)
    assert result.exit_code == 2
    assert "at least 200 regions" in result.stderr and len(result.stderr.splitlines()) == 1
    (tmp_path / "taken").touch()
    result = compare(counts_file, tmp_path / "taken", *SETUP)
    assert result.exit_code == 1
    assert "taken" in result.stderr and len(result.stderr.splitlines()) == 1
