"""What MultiQC shows of a model is what was measured, in a file that it finds."""

import json

import numpy as np
import pytest
from sklearn.metrics import r2_score
from typer.testing import CliRunner

from chipvi.cli.app import app
from chipvi.evaluate.diagnosis import report
from chipvi.report.multiqc import multiqc_content


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def saved(kit, tmp_path_factory):
    """Folder of a model of counts and signal with its data, and what it imputes."""
    folder = tmp_path_factory.mktemp("multiqc") / "model"
    model = kit.train(kit.model(kit.data(n_regions=90)), calibrate_unseen=False)
    model.save(folder, save_anndata=True)
    return folder, model


def test_the_command_writes_the_quality_of_each_track_and_quantity(saved, tmp_path):
    folder, model = saved
    out = tmp_path / "chipvi_mqc.json"
    result = call("report", folder, "-o", tmp_path / "a.html", "--multiqc", out)
    assert result.exit_code == 0, result.output
    assert str(out) in result.output.replace("\n", "")
    content = json.loads(out.read_text("utf-8"))
    assert content["plot_type"] == "table"
    imputed, name = model.get_imputed_counts(), "cell1.H3K4me1"
    truth = model.adata.to_df()[name]
    seen = model.adata.to_df("observed")[name].to_numpy() == 1 if "observed" in model.adata.layers else truth.notna()
    row = content["data"][f"{name} (counts)"]
    assert row["reads"] == truth[seen].sum()
    assert row["r2"] == pytest.approx(r2_score(truth[seen], imputed[name][seen]), abs=1e-5)
    assert row["ratio"] == pytest.approx(imputed[name][seen].mean() / truth[seen].mean(), rel=1e-5)
    assert f"{name} (signal)" in content["data"]
    assert all(row.keys() <= content["headers"].keys() for row in content["data"].values())


def test_what_cannot_be_told_is_left_out_and_one_quantity_is_not_named():
    counts = np.array([0.0, 1, 3, 2])
    columns = (counts, np.full(4, 1.5), np.full(4, 2.0), np.full(4, np.nan), np.ones(4))
    content = json.loads(multiqc_content(report([("alone", "counts", columns)], "{tracks}", [])))
    assert set(content["data"]) == {"alone"}
    assert "r2_average" not in content["data"]["alone"]
    assert content["data"]["alone"]["ratio"] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("chipvi.json", "MultiQC finds files that end in _mqc.json, got 'chipvi.json'"), ("no/a_mqc.json", "no folder")],
)
def test_a_file_that_multiqc_would_not_find_is_refused_before_any_work(saved, tmp_path, name, message):
    result = call("report", saved[0], "-o", tmp_path / "a.html", "--multiqc", tmp_path / name)
    assert result.exit_code in (1, 2) and message in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(saved, tmp_path):
    out = tmp_path / "a_mqc.json"
    out.write_text("old")
    result = call("report", saved[0], "-o", tmp_path / "a.html", "--multiqc", out)
    assert result.exit_code == 1 and "exists already" in result.output
    assert out.read_text() == "old"
