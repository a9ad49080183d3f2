"""The command that finds states writes what Python finds, and nothing where something is wrong."""

import inspect

import pandas as pd
import pytest
from anndata import AnnData
from typer.testing import CliRunner

from chipvi import ChipVI, datasets, tl
from chipvi.cli.app import app
from chipvi.cli.states import Options


def call(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("states")
    datasets.simulate(n_regions=400, n_biosamples=2, n_assays=3, missing=["cell2.H3K4me3"]).write_h5ad(path / "d.h5ad")
    assert call("train", path / "d.h5ad", "-o", path / "model", "--steps", 20).exit_code == 0
    return path


def test_table_picture_and_a_bed_file_of_each_biosample_are_written(folder, tmp_path):
    result = call("states", folder / "model", "-o", tmp_path / "out", "--n-states", 3)
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["cell1.states.bed", "cell2.states.bed", "states.png", "states.tsv"]
    model = ChipVI.load(folder / "model", datasets.simulate(400, 2, 3, missing=["cell2.H3K4me3"]), accelerator="cpu")
    tl.states(model, n_states=3)
    table = pd.read_csv(tmp_path / "out" / "states.tsv", sep="\t", index_col="state")
    expected = model.adata.uns["states"]["table"]
    assert list(table.index) == list(expected.index) and list(table["regions"]) == list(expected["regions"])
    for cell in ("cell1", "cell2"):
        bed = pd.read_csv(tmp_path / "out" / f"{cell}.states.bed", sep="\t", skiprows=1, header=None)
        assert (bed[2] - bed[1]).sum() == 400 * 200
        assert bed[3].iloc[0] == model.adata.obsm["states"][cell].iloc[0].replace(" ", "_")
    assert "in means of the track" in result.stdout and expected.index[0] in result.stdout


def test_a_model_of_signal_alone_has_states(tmp_path):
    adata = datasets.simulate(n_regions=300, n_biosamples=2, n_assays=2, signal=True)
    adata.layers["signal"][50:90] = 0  # without any
    AnnData(obs=adata.obs, var=adata.var, layers={"signal": adata.layers["signal"]}).write_h5ad(tmp_path / "d.h5ad")
    assert call("train", tmp_path / "d.h5ad", "-o", tmp_path / "model", "--steps", 10).exit_code == 0
    result = call("states", tmp_path / "model", "-o", tmp_path / "out", "--n-states", 2)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("*.bed"))) == 2


def test_without_options_the_command_is_as_the_function():
    parameters = inspect.signature(tl.states).parameters
    assert {name: parameters[name].default for name in ("n_states", "resolution", "biosamples", "seed")} == {
        name: getattr(Options, name) for name in ("n_states", "resolution", "biosamples", "seed")
    }


def test_wrong_biosamples_are_told_in_one_line_and_nothing_is_written(folder, tmp_path):
    result = call("states", folder / "model", "-o", tmp_path / "out", "--biosamples", "cell9")
    assert result.exit_code == 2 and "Error: biosample 'cell9' is not in" in result.stderr
    assert not (tmp_path / "out").exists()
