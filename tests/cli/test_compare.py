"""The command that compares groups of biosamples: what it writes, and what it refuses."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from chipvi import ChipVI, datasets
from chipvi.cli.app import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A trained model of two cell types with two replicates, and a stretch in which they differ."""
    path = tmp_path_factory.mktemp("replicates")
    adata = datasets.simulate(
        n_regions=300, n_biosamples=2, n_assays=2, n_replicates=2, mean_count=30, n_chromosomes=2, seed=1
    )
    high = ((adata.var["cell"] == "cell2") & (adata.var["assay"] == "H3K4me3")).to_numpy()
    adata.X[40:48, high] = 8 * adata.X[40:48, high] + 80
    adata.var["depth"] = adata.X.sum(axis=0)
    adata.write_h5ad(path / "data.h5ad")
    assert call("train", path / "data.h5ad", "-o", path / "model", "--steps", 30).exit_code == 0
    return path


@pytest.fixture(scope="module")
def written(folder) -> tuple[Path, str]:
    out = folder / "out"
    result = call("compare", folder / "model", "--group1", "cell1", "--group2", "cell2", "--groupby", "cell", "-o", out)
    assert result.exit_code == 0, result.output
    return out, result.stdout


def test_it_writes_tables_a_bed_file_and_pictures(written):
    out, text = written
    names = ["intervals.bed", "intervals.tsv", "loci.png", "ma.png", "regions.tsv.gz", "volcano.png"]
    assert sorted(path.name for path in out.iterdir()) == names and all(name in text for name in names)
    assert text.startswith("group1: cell1\ngroup2: cell2\nAt a false discovery rate of 0.05:\n")


def test_the_table_is_that_of_the_model(folder, written):
    table = pd.read_csv(written[0] / "regions.tsv.gz", sep="\t", index_col="region")
    model = ChipVI.load(folder / "model", anndata.read_h5ad(folder / "data.h5ad"), accelerator="cpu")
    expected = model.differential_signal("cell1", "cell2", groupby="cell")
    assert list(table.columns) == list(expected.columns)
    np.testing.assert_allclose(table["p_value"], expected["p_value"], rtol=1e-4)


def test_bed_lines_are_the_intervals_in_order_and_colour(written):
    intervals = pd.read_csv(written[0] / "intervals.tsv", sep="\t")
    bed = pd.read_csv(written[0] / "intervals.bed", sep="\t", header=None)
    assert len(bed) == len(intervals) > 0 and bed.shape[1] == 9
    assert bed[[0, 1]].apply(tuple, axis=1).is_monotonic_increasing
    planted = bed[(bed[0] == "chr1") & (bed[1] < 48 * 200) & (bed[2] > 40 * 200)].iloc[0]
    assert planted[3].startswith("H3K4me3:-") and planted[8] == "217,114,46" and 0 <= planted[4] <= 1_000
    assert (bed[6] == bed[1]).all() and (bed[7] == bed[2]).all()


def test_biosamples_can_be_listed_and_nothing_called_is_no_error(folder, tmp_path):
    options = ["--group1", "cell1_1, cell2_1", "--group2", "cell1_2,cell2_2", "--assay", "H3K4me1", "--delta", 0]
    result = call("compare", folder / "model", *options, "-o", tmp_path / "null")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "null" / "regions.tsv.gz", sep="\t")
    assert set(table["assay"]) == {"H3K4me1"} and "proba_m1" in table
    assert (tmp_path / "null" / "intervals.tsv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group1", "cell9", "--groupby", "cell"], "group1: cell 'cell9' is not in the data"),
        (["--group1", "cell1", "--groupby", "cell", "--fdr", "1"], "fdr_target must be at least 0 and below 1"),
        (["--group1", "cell1", "--groupby", "sell"], "groupby 'sell' is not in adata.var"),
    ],
)
def test_wrong_options_end_in_one_line_and_write_nothing(folder, tmp_path, options, message):
    result = call("compare", folder / "model", *options, "-o", tmp_path / "out")
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2 and line.startswith("Error: ") and message in line
    assert not (tmp_path / "out").exists()
