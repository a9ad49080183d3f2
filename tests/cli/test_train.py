"""The command that trains: what it finds by itself, what it stores, how it goes on, and what it refuses."""

import errno
import os
import re
import signal
import tomllib
from pathlib import Path

import anndata
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from chipvi import ChipVI, datasets
from chipvi import pl as pictures
from chipvi.cli.app import app
from chipvi.data.splits import split_regions
from chipvi.train import checkpoint, runner
from chipvi.train.plan import TrainingPlan

FILES = ["history.csv", "model.json", "model.safetensors", "quality.csv", "settings.toml", "training.png"]
N_REGIONS, UNSEEN = 300, "cell2.H3K4me3"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def make_data(**options):
    sizes = {"n_regions": N_REGIONS, "n_biosamples": 3, "n_assays": 2, "controls": True, "signal": True}
    return datasets.simulate(**(sizes | {"missing": [UNSEEN], "seed": 3} | options))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tracks.h5ad"
    make_data().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("models") / "new" / "model"
    return call("train", data, "-o", out, "--steps", 4, "--seed", 2), out


def weights(folder: Path, data: Path) -> dict[str, torch.Tensor]:
    return ChipVI.load(folder, anndata.read_h5ad(data), accelerator="cpu").module.state_dict()


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def one_line(result: Result, exit_code: int = 2) -> str:
    assert result.exit_code == exit_code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


# a training


def test_without_options_all_that_chipvi_count_writes_is_found_and_used(trained):
    result, _ = trained
    assert result.exit_code == 0, result.output
    first, found, outlook, context, third, *_ = result.stdout.splitlines()
    assert first == (
        "tracks.h5ad: 300 regions in 4 stretches x 9 tracks of 3 biosamples, 3 of them controls; "
        "without data: cell2.H3K4me3."
    )
    assert found == "Found and used: layer observed, layer signal, column depth, column is_control."
    assert outlook == (
        "5 tracks of 3 biosamples: enough to impute from; 1 experiment that nobody has run can be imputed."
    )
    assert context == "Context: 6 kb to either side of a region, within its stretch."
    assert third.startswith("To train: head mean_dispersion, ") and third.endswith(
        " parameters, seed 2; 4 steps."
    )  # and no more: no biosample has the three tracks of which one could be held out


def test_the_model_is_the_one_that_python_trains(trained, data):
    adata = anndata.read_h5ad(data)
    keys = {"observed_layer": "observed", "signal_layer": "signal", "depth_key": "depth", "control_key": "is_control"}
    ChipVI.setup_anndata(adata, **keys)
    model = ChipVI(adata)
    model.train(max_steps=4, seed=2, accelerator="cpu", enable_progress_bar=False)
    assert_same_weights(weights(trained[1], data), model.module.cpu().state_dict())


def test_every_file_is_written_and_told_and_nothing_else_is_left(trained):
    result, out = trained
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    unwrapped = result.stdout.replace("\n", "")
    assert all(str(out / name) in unwrapped for name in FILES)
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    history = pd.read_csv(out / "history.csv", index_col="step")
    assert history["train_loss"].notna().any()


def test_quality_has_a_row_per_measured_track_and_is_printed(trained):
    result, out = trained
    quality = pd.read_csv(out / "quality.csv")
    measured = set(make_data().var_names[~make_data().var["is_control"].astype(bool)]) - {UNSEEN}
    assert set(quality["track"]) == measured
    table = result.stdout.partition("imputed without the track's own data")[2].partition("Wrote:")[0]
    assert all(name in table for name in measured)
    words = {"poor": "poor", "with care": "to be used with care", "good": "good", "not judged": "not judged"}
    for grade, number in quality["grade"].value_counts().items():
        assert re.search(rf"Of {len(quality)} \w+ .*\b{number} (is|are) {words[grade]}", " ".join(table.split()))


def test_quality_is_that_of_held_out_regions_where_there_are_some(data, tmp_path):
    result = call("train", data, "-o", tmp_path / "model", "--steps", 3, "--seed", 5, "--validation-size", 0.3)
    assert result.exit_code == 0, result.output
    assert "Held-out regions, imputed" in result.stdout
    model = ChipVI.load(tmp_path / "model", anndata.read_h5ad(data), accelerator="cpu")
    rows = split_regions(model.data.segments, None, 0.3, np.random.default_rng(5)).validation
    expected = model.diagnose(indices=rows).table
    written = pd.read_csv(tmp_path / "model" / "quality.csv", index_col="track")
    np.testing.assert_allclose(written["r2"], expected["r2"], rtol=1e-4)
    assert written["regions"].max() == len(rows) < N_REGIONS / 2


def test_the_settings_are_stored_as_they_were_used_and_make_the_same_model_again(trained, data, tmp_path):
    _, out = trained
    stored = tomllib.loads((out / "settings.toml").read_text())
    made = stored.pop("made")
    assert made["data"] == str(data.resolve()) and (made["regions"], made["tracks"]) == (N_REGIONS, 9)
    assert stored["steps"] == 4 and stored["seed"] == 2 and stored["head"] == "mean_dispersion"
    assert stored["signal-layer"] == "signal"
    again = call("train", data, "-o", tmp_path / "again", "--config", out / "settings.toml")
    assert again.exit_code == 0, again.output
    assert_same_weights(weights(out, data), weights(tmp_path / "again", data))


def test_none_leaves_out_what_would_be_found(data, tmp_path):
    options = ["--signal-layer", "none", "--control-key", "none", "--steps", 1]
    assert call("train", data, "-o", tmp_path / "model", *options).exit_code == 0
    arguments = ChipVI.load_registry(tmp_path / "model")["setup_args"]
    assert arguments["signal_layer"] is None and arguments["control_key"] is None
    assert arguments["observed_layer"] == "observed"


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
def test_zarr_and_data_of_signal_alone_train(tmp_path):
    adata = make_data(missing=[])
    adata.X = np.zeros_like(adata.X)
    adata.layers["observed"] = np.zeros_like(adata.layers["observed"])
    adata.var["depth"] = np.nan
    del adata.layers["rate"]
    adata = adata[:, ~adata.var["is_control"].astype(bool)].copy()
    adata.write_zarr(tmp_path / "signal.zarr")
    result = call("train", tmp_path / "signal.zarr", "-o", tmp_path / "model", "--steps", 2)
    assert result.exit_code == 0, result.output


# settings


def test_of_chromosomes_that_are_named_the_model_is_that_of_data_without_the_others(tmp_path):
    adata, steps = make_data(), ["--steps", 3]
    chosen_r = adata.obs["chrom"].isin(["chr1", "chr3"]).to_numpy()
    adata[chosen_r].write_h5ad(tmp_path / "part.h5ad")
    adata.X[~chosen_r] = -1  # no counts: whoever reads them fails
    adata.layers["observed"][~chosen_r] = 1
    adata.write_h5ad(tmp_path / "whole.h5ad")
    assert one_line(call("train", tmp_path / "whole.h5ad", "-o", tmp_path / "none", *steps))
    few = ["--chromosomes", "chr3,1", *steps]
    for name, options in (("part", steps), ("whole", few)):
        assert call("train", tmp_path / f"{name}.h5ad", "-o", tmp_path / name, *options).exit_code == 0
    part = weights(tmp_path / "part", tmp_path / "part.h5ad")
    assert_same_weights(part, weights(tmp_path / "whole", tmp_path / "part.h5ad"))
    assert tomllib.loads((tmp_path / "whole" / "settings.toml").read_text())["chromosomes"] == "chr3,1"
    result = call("impute", tmp_path / "whole", "-o", tmp_path / "imputed.h5ad")  # of its own data as well
    assert result.exit_code == 0, result.output
    assert list(anndata.read_h5ad(tmp_path / "imputed.h5ad").obs_names) == list(adata.obs_names[chosen_r])


def test_of_regions_that_are_named_the_model_is_that_of_data_without_the_others(tmp_path, monkeypatch):
    adata, steps = make_data(), ["--steps", 3]
    chrom, start, end = (adata.obs[name].to_numpy() for name in ("chrom", "start", "end"))
    chosen_r = ((chrom == "chr1") & (end > 1_000) & (start < 5_000)) | ((chrom == "chr3") & (start < 4_321))
    adata[chosen_r].write_h5ad(tmp_path / "part.h5ad")
    adata.X[~chosen_r] = -1  # no counts: whoever reads them fails
    adata.layers["observed"][~chosen_r] = 1
    adata.write_h5ad(tmp_path / "whole.h5ad")
    (tmp_path / "some.bed").write_text("chr3\t0\t4321\nchr1\t1000\t5000\nchr1\t2000\t3000\n")
    monkeypatch.chdir(tmp_path)
    for name, options in (("part", steps), ("whole", ["--regions", "some.bed", *steps])):
        assert call("train", f"{name}.h5ad", "-o", name, *options).exit_code == 0
    part = weights(tmp_path / "part", tmp_path / "part.h5ad")
    assert_same_weights(part, weights(tmp_path / "whole", tmp_path / "part.h5ad"))
    monkeypatch.chdir(tmp_path.parent)  # the BED file is found from elsewhere
    result = call("impute", tmp_path / "whole", "-o", tmp_path / "imputed.h5ad")
    assert result.exit_code == 0, result.output
    assert list(anndata.read_h5ad(tmp_path / "imputed.h5ad").obs_names) == list(adata.obs_names[chosen_r])
    both = ["--regions", "chr1", "--chromosomes", "chr1"]
    line = one_line(call("train", tmp_path / "whole.h5ad", "-o", tmp_path / "both", *both))
    assert "--regions and --chromosomes both name regions; give one of them." in line


def test_flags_win_over_the_config_and_the_config_over_defaults(data, tmp_path):
    config = tmp_path / "mine.toml"
    config.write_text("steps = 7\nseed = 5\nvalidation_size = 0.2\nearly-stopping = true\n")
    result = call("train", data, "-o", tmp_path / "model", "--config", config, "--seed", 6, "--dry-run")
    assert result.exit_code == 0, result.output
    assert ", 20% of the regions held out, seed 6; 7 steps." in result.stdout


def test_a_dry_run_says_where_there_is_next_to_nothing_to_impute_from(tmp_path):
    make_data(n_regions=60)[:, ["cell1.H3K4me1", "cell1.H3K4me3"]].copy().write_h5ad(tmp_path / "two.h5ad")
    result = call("train", tmp_path / "two.h5ad", "-o", tmp_path / "model", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "2 tracks of 1 biosample: imputation has next to nothing to go by; denoising works." in result.stdout


@pytest.mark.filterwarnings("default:regions that overlap:UserWarning")
def test_of_peaks_it_prints_their_widths_and_how_far_it_looks_and_counts_overlaps_once(tmp_path):
    peaks = make_data(n_regions=60)[::3].copy()
    peaks.obs["end"] += 10 * np.arange(20)
    peaks.obs.iloc[3, 1] = peaks.obs.iloc[2, 2] - 1
    peaks.write_h5ad(tmp_path / "peaks.h5ad")
    result = call("train", tmp_path / "peaks.h5ad", "-o", tmp_path / "model", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Warning: regions that overlap the one before") == 1
    assert "Regions are 200 to 611 bp wide: means are proportional to their width." in result.stdout
    assert "Context: 9.15 kb to either side of a region, within its stretch." in result.stdout


def test_a_dry_run_tells_and_writes_nothing(data, tmp_path):
    result = call("train", data, "-o", tmp_path / "model", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "300 regions" in result.stdout and "3,000 steps" in result.stdout and UNSEEN in result.stdout
    assert "Would write:" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", "setting 'stepz' is not in mine.toml; did you mean 'steps'?"),
        ("steps = '3'", "setting 'steps' of mine.toml must be a whole number, got '3'."),
        ("steps = true", "setting 'steps' of mine.toml must be a whole number, got True."),
        ("steps = ", "cannot be read as TOML"),
        ("[train]\nsteps = 3", "setting 'train' is not in mine.toml"),
    ],
)
def test_a_config_that_makes_no_sense_is_told_in_one_line(data, tmp_path, text, message):
    config = tmp_path / "mine.toml"
    config.write_text(text)
    assert message in one_line(call("train", data, "-o", tmp_path / "model", "--config", config))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--head", "poison"], "head 'poison' is not in chipvi.nn.COUNT_HEADS; did you mean 'poisson'?"),
        (["--layer", "count"], "layer 'count' is not in adata.layers"),
        (["--config", "none.toml"], "there is no none.toml."),
        (["--validation-size", "1.5"], "validation_size must be at least 0 and below 1, got 1.5"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line_and_nothing_is_written(data, tmp_path, options, message):
    assert message in one_line(call("train", data, "-o", tmp_path / "model", *options))
    assert not list(tmp_path.iterdir())


# what is there already


def test_a_model_is_replaced_only_when_asked_and_only_by_a_whole_one(data, tmp_path, monkeypatch):
    out = tmp_path / "model"
    assert call("train", data, "-o", out, "--steps", 2).exit_code == 0
    first = (out / "model.safetensors").read_bytes()
    assert "--overwrite" in one_line(call("train", data, "-o", out, "--steps", 2), exit_code=1)

    def fail(*_, **__):
        raise OSError("the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "training", fail)
        result = call("train", data, "-o", out, "--steps", 2, "--seed", 9, "--overwrite")
    assert one_line(result, exit_code=1) == "Error: the disk is full."
    assert (out / "model.safetensors").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert call("train", data, "-o", out, "--steps", 2, "--seed", 9, "--overwrite").exit_code == 0
    assert (out / "model.safetensors").read_bytes() != first
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_of_an_earlier_version_is_replaced_when_asked(data, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "model.pt").write_bytes(b"of an earlier version")
    assert "holds a model already" in one_line(call("train", data, "-o", out, "--steps", 2), exit_code=1)
    assert call("train", data, "-o", out, "--steps", 2, "--overwrite").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_a_folder_that_is_no_model_is_never_replaced(data, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    result = call("train", data, "-o", tmp_path / "thesis", "--overwrite")
    assert "is no model of chipvi" in one_line(result, exit_code=1)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"


# a training that is cut off


@pytest.fixture
def cut(monkeypatch):
    """Lets the next training end at a step, with an error or a signal to the process."""
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)

    def at(step: int, end: BaseException | signal.Signals):
        class Stopping(checkpoint.Checkpoints):
            def on_train_batch_end(self, trainer: pl.Trainer, *rest):
                super().on_train_batch_end(trainer, *rest)
                if trainer.global_step == step:
                    if isinstance(end, BaseException):
                        raise end
                    os.kill(os.getpid(), end)

        patch = pytest.MonkeyPatch()
        patch.setattr(runner, "Checkpoints", Stopping)
        return patch

    return at


def test_a_training_that_is_interrupted_goes_on_to_the_same_model(data, tmp_path, cut):
    whole, out = tmp_path / "whole", tmp_path / "model"
    assert call("train", data, "-o", whole, "--steps", 6, "--seed", 4).exit_code == 0
    patch = cut(3, KeyboardInterrupt())
    result = call("train", data, "-o", out, "--steps", 6, "--seed", 4)
    patch.undo()
    assert result.exit_code == 130
    assert f"chipvi train --resume -o {out}" in result.stdout.replace("\n", "")
    assert not out.exists()
    assert "was cut off. Go on with --resume" in one_line(call("train", data, "-o", out), exit_code=1)
    message = one_line(call("train", "--resume", "-o", out, "--steps", 7))
    assert "the unfinished training has steps 6, not 7" in message
    result = call("train", "--resume", "-o", out)
    assert result.exit_code == 0, result.output
    assert "Going on" in result.stdout
    assert_same_weights(weights(out, data), weights(whole, data))
    assert (out / "history.csv").read_text() == (whole / "history.csv").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]


def test_a_model_that_cannot_be_written_does_not_cost_its_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    whole, out = tmp_path / "whole", tmp_path / "model"
    assert call("train", data, "-o", whole, "--steps", 6, "--seed", 4).exit_code == 0

    def save(self, folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(ChipVI, "save", save)
        result = call("train", data, "-o", out, "--steps", 6, "--seed", 4)
    assert "no space left on device while writing" in one_line(result, exit_code=1)
    assert f"To go on: chipvi train --resume -o {out}" in result.stdout.replace("\n", "")
    with monkeypatch.context() as no_step:  # not even the last one is made again
        no_step.setattr(TrainingPlan, "training_step", lambda *_: pytest.fail("trained again"))
        result = call("train", "--resume", "-o", out)
    assert result.exit_code == 0, result.output
    assert_same_weights(weights(out, data), weights(whole, data))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]


def test_a_name_as_long_as_names_can_be_is_trained_to_and_gone_on_with(data, tmp_path, cut):
    out = tmp_path / f"{'model' * 50}é"  # 252 bytes
    patch = cut(2, OSError("power cut"))
    assert call("train", data, "-o", out, "--steps", 4).exit_code == 1
    patch.undo()
    assert "was cut off. Go on with --resume" in one_line(call("train", data, "-o", out), exit_code=1)
    assert call("train", "--resume", "-o", out).exit_code == 0
    assert list(tmp_path.iterdir()) == [out] and (out / "model.json").is_file()


def test_data_that_changed_since_are_not_gone_on_with(tmp_path, cut):
    path, out = tmp_path / "tracks.h5ad", tmp_path / "model"
    adata = make_data()
    adata.write_h5ad(path)
    patch = cut(2, OSError("power cut"))
    assert call("train", path, "-o", out, "--steps", 4).exit_code == 1
    patch.undo()
    adata.X[7, 1] += 1
    adata.write_h5ad(path)
    assert "is a checkpoint of another training: its reads is" in one_line(call("train", "--resume", "-o", out))
    assert call("train", path, "-o", out, "--steps", 4, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("error", "exit_code", "has_checkpoint"),
    [(KeyboardInterrupt(), 130, False), (FloatingPointError("training diverged."), 1, True)],
    ids=["before the first checkpoint", "diverged"],
)
def test_what_cannot_go_on_leaves_nothing(data, tmp_path, cut, monkeypatch, error, exit_code, has_checkpoint):
    patch = cut(2, error)
    if not has_checkpoint:
        monkeypatch.setattr(checkpoint, "_SECONDS", 1e6)
    result = call("train", data, "-o", tmp_path / "model", "--steps", 4)
    patch.undo()
    assert result.exit_code == exit_code, result.output
    assert ("no checkpoint yet" in result.stdout) == (not has_checkpoint)
    assert not list(tmp_path.iterdir())


def test_a_training_that_is_terminated_fails_and_goes_on(data, tmp_path, cut):
    out = tmp_path / "model"
    patch = cut(3, signal.SIGTERM)
    result = call("train", data, "-o", out, "--steps", 5)
    patch.undo()
    assert result.exit_code == 128 + 15
    assert f"chipvi train --resume -o {out}" in result.stdout.replace("\n", "")
    assert call("train", "--resume", "-o", out).exit_code == 0


@pytest.mark.filterwarnings("ignore:Category 0 in adata.obs:UserWarning")
def test_one_of_each_is_singular(tmp_path):
    adata = make_data(n_regions=1, n_biosamples=1, n_assays=2, n_chromosomes=1, controls=False, missing=[])
    adata.X[:], adata.var["depth"] = 3, 50.0
    adata.write_h5ad(tmp_path / "one.h5ad")
    result = call("train", tmp_path / "one.h5ad", "-o", tmp_path / "model", "--steps", 1, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("one.h5ad: 1 region in 1 stretch x 2 tracks of 1 biosample.")
    assert ", seed 0; 1 step." in result.stdout


def test_without_a_checkpoint_there_is_nothing_to_resume(data, tmp_path):
    assert "there is no unfinished training" in one_line(call("train", data, "-o", tmp_path / "model", "--resume"))
    assert "name the data to train on" in one_line(call("train", "-o", tmp_path / "model"))


def test_debug_shows_where_an_error_was_raised(tmp_path):
    result = call("--debug", "train", tmp_path / "none.h5ad", "-o", tmp_path / "model")
    assert isinstance(result.exception, ValueError)
