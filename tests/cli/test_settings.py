"""Settings files: whatever is damaged in one is named in a line, wherever it is read; what is written comes back."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chipvi.cli.app import app
from chipvi.cli.settings import Made, read_config, read_stored, write_settings
from chipvi.cli.train import KNOWN

MADE = Made(chipvi="0.1.0", data='/data/"odd"[/x].h5ad', regions=310, tracks=9, fingerprint="c0ffee")
WHOLE = """
steps = 4
seed = 0
head = "poisson"
early-stopping = false
validation-size = 0.5
layer = "counts"

[made]
chipvi = "0.1.0"
data = "data.h5ad"
regions = 310
tracks = 9
fingerprint = "c0ffee"
"""
DAMAGED = [
    pytest.param(b"", "has no table [made]", id="empty"),
    pytest.param(b"\xff\xfe\x00s", "cannot be read as TOML", id="not UTF-8"),
    pytest.param(WHOLE.encode()[:48], "cannot be read as TOML", id="cut off"),
    pytest.param(WHOLE.partition("[made]")[0].encode(), "has no table [made]", id="no table"),
    pytest.param(b"made = 3\n", "has no table [made]", id="no such table"),
    pytest.param(WHOLE.replace("[made]", "[[made]]").encode(), "has no table [made]", id="tables"),
    pytest.param(
        WHOLE.replace("regions = 310\n", "").encode(), "must be a whole number; it is not there", id="missing"
    ),
    pytest.param(WHOLE.replace("310", "31.5").encode(), "must be a whole number; it is 31.5", id="fraction"),
    pytest.param(WHOLE.replace('"data.h5ad"', "['a', 'b']").encode(), "data in table [made]", id="list in the table"),
    pytest.param(WHOLE.replace("tracks =", "trackz =").encode(), "did you mean 'tracks'", id="name in the table"),
    pytest.param(WHOLE.replace("seed", "sead").encode(), "did you mean 'seed'", id="name"),
    pytest.param(WHOLE.replace('"poisson"', "['poisson']").encode(), "must be text, got ['poisson']", id="list"),
    pytest.param(WHOLE.replace('"poisson"', "''").encode(), "must be text, got ''", id="empty text"),
    pytest.param(WHOLE.replace("= 4", "= '4'").encode(), "must be a whole number, got '4'", id="text"),
    pytest.param(WHOLE.replace("= 4", "= true").encode(), "must be a whole number, got True", id="truth"),
    pytest.param(WHOLE.replace("= 4", "= 0").encode(), "must be at least 1, got 0", id="too small"),
    pytest.param(WHOLE.replace("= 4", f"= {10**30}").encode(), "at most 18 digits", id="too large"),
    pytest.param(WHOLE.replace("0.5", "inf").encode(), "must be a finite number, got inf", id="infinite"),
    pytest.param(WHOLE.replace("false", "0").encode(), "must be true or false, got 0", id="number for truth"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_damaged_settings_are_named_where_a_training_is_to_go_on(tmp_path, content, message):
    unfinished = tmp_path / ".model.unfinished"
    unfinished.mkdir()
    (unfinished / "training.ckpt").touch()
    (unfinished / "settings.toml").write_bytes(content)
    result = CliRunner().invoke(app, ["train", "--resume", "-o", str(tmp_path / "model")])
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2
    assert line.startswith("Error: ") and "settings.toml" in line and message in line
    assert line.endswith("Start anew with --overwrite.")


def test_whole_settings_are_read_by_the_names_of_python(tmp_path):
    (tmp_path / "settings.toml").write_text(WHOLE)
    settings, made = read_stored(tmp_path, KNOWN)
    expected = {"steps": 4, "seed": 0, "head": "poisson", "early_stopping": False, "validation_size": 0.5}
    assert settings == expected | {"layer": "counts"}
    assert made == Made(chipvi="0.1.0", data="data.h5ad", regions=310, tracks=9, fingerprint="c0ffee")
    assert read_config(tmp_path / "settings.toml", KNOWN) == settings


def test_whole_numbers_are_taken_for_numbers(tmp_path):
    (tmp_path / "mine.toml").write_text("validation_size = 0\n")
    found = read_config(tmp_path / "mine.toml", KNOWN)
    assert found == {"validation_size": 0.0} and type(found["validation_size"]) is float


def test_what_is_written_is_toml_and_comes_back(tmp_path):
    settings = {"steps": 7, "validation_size": 0.25, "early_stopping": True, "layer": 'a "b" \\ é', "head": None}
    write_settings(tmp_path, settings, MADE)
    stored = tomllib.loads(Path(tmp_path, "settings.toml").read_text("utf-8"))
    assert stored["early-stopping"] is True and stored["made"]["data"] == MADE.data
    del settings["head"]  # of which nothing was said
    assert read_stored(tmp_path, KNOWN) == (settings, MADE)
