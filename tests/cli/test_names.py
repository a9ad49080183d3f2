"""Names of tracks, paths and files are text, whatever they hold: brackets never crash a command, nor vanish."""

from pathlib import Path

import anndata
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from chipvi import datasets
from chipvi.cli.app import app
from chipvi.cli.console import open_console, plain_table

ODD = "K562[/rep1]"  # closes a tag of rich that was never opened
MISSING = f"{ODD}.H3K4me3"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def stdout(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout.replace("\n", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data whose tracks have brackets in their names, and a model of them in a folder with brackets."""
    path = tmp_path_factory.mktemp("odd")
    sizes = {"n_regions": 230, "n_biosamples": 2, "n_assays": 3, "n_chromosomes": 4}
    adata = datasets.simulate(**sizes, missing=["cell1.H3K4me3"], seed=1)
    adata.var["biosample"] = adata.var["biosample"].astype(str).replace({"cell1": ODD, "cell2": ":dna:[bold]"})
    adata.var_names = adata.var["biosample"] + "." + adata.var["assay"].astype(str)
    adata.write_h5ad(path / "data[red].h5ad")
    out = path / "o[" / "x]"
    text = stdout(call("train", path / "data[red].h5ad", "-o", out, "--steps", 1))
    assert f"{out / 'model.json'}: the model" in text
    table = text.partition("imputed without the track's own data")[2]
    assert all(name in table for name in adata.var_names.drop(MISSING))
    return path


def test_a_dry_run_of_train_prints_them(folder):
    text = stdout(call("train", folder / "data[red].h5ad", "-o", folder / "n[" / "x]", "--dry-run"))
    assert text.startswith("data[red].h5ad: 230 regions") and f"without data: {MISSING}." in text
    assert text.endswith(f"Would write: {folder}/n[/x]")


def test_impute_takes_and_prints_them(folder, tmp_path):
    text = stdout(call("impute", folder / "o[" / "x]", "--tracks", MISSING, "-o", tmp_path / "i[b].h5ad"))
    assert f"Imputing 230 regions x {MISSING}." in text
    assert f"Wrote: {tmp_path / 'i[b].h5ad'}, imputed" in text
    assert list(anndata.read_h5ad(tmp_path / "i[b].h5ad").var_names) == [MISSING]


def test_score_prints_them_in_its_table(folder, tmp_path):
    data = anndata.read_h5ad(folder / "data[red].h5ad")
    data.X = np.sqrt(data.X)
    data.write_h5ad(tmp_path / "p[red].h5ad")
    out = tmp_path / "s[" / "x].csv"
    options = ["--observed-layer", "observed", "--depth-key", "depth", "--out", out]
    text = stdout(call("score", tmp_path / "p[red].h5ad", folder / "data[red].h5ad", *options))
    assert text.startswith("p[red].h5ad against data[red].h5ad.") and text.endswith(f"Wrote {out}")
    table = text.partition("Track by track")[2]
    assert all(name in table for name in data.var_names.drop(MISSING))


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_count_prints_them_in_its_table(tmp_path, monkeypatch, dry_run):
    monkeypatch.chdir(tmp_path)
    Path("r[").mkdir()
    Path("r[/x].bed").write_text("chr1\t10\t46\t.\t0\t+\n")
    Path("sheet.csv").write_text(f"biosample,assay,file\n{ODD},CTCF,r[/x].bed\n")
    Path("chrom.sizes").write_text("chr1\t1000\n")
    options = ["--genome", "chrom.sizes", "--bin", 100, "-o", "o[/x].h5ad", *dry_run]
    Path("o[").mkdir()
    text = stdout(call("count", "sheet.csv", *options))
    assert f"{ODD}.CTCF" in text and "o[/x].h5ad, 10 regions" in text
    assert ("r[/x].bed" in text.replace(" ", "")) == bool(dry_run)  # the table folds long paths


def test_compare_heads_prints_them(folder, tmp_path):
    out = tmp_path / "h[" / "x]"
    options = ["--heads", "poisson", "--steps", 1, "--seeds", 1, "--observed-layer", "observed", "--out", out]
    text = stdout(call("compare-heads", folder / "data[red].h5ad", *options))
    assert text.startswith("data[red].h5ad: 230 regions") and f"{out / 'heads.csv'}: a row per head" in text


def test_report_prints_its_paths(folder, tmp_path):
    (tmp_path / "r[").mkdir()
    text = stdout(call("report", folder / "o[" / "x]", "-o", tmp_path / "r[" / "x].html"))
    assert f"Opening {folder / 'o[' / 'x]'}." in text
    assert f"Wrote: {tmp_path / 'r[' / 'x].html'}, " in text


def test_errors_print_them(tmp_path):
    result = call("impute", tmp_path / "o[" / "x]", "-o", tmp_path / "a.h5ad")
    assert result.stderr.startswith(f"Error: there is no folder {tmp_path}/o[/x].")


def test_no_part_of_a_table_is_markup(capsys):
    table = plain_table("[b]title[/x]", "[i]first")
    table.add_column("[/red]")
    table.add_row(ODD, ":dna:")
    open_console().print(table)
    words = capsys.readouterr().out.split()
    assert words == ["[b]title[/x]", "[i]first", "[/red]", ODD, ":dna:"]
