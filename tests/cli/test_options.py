"""Options: a dataclass becomes the signature that typer reads, and each option is declared once."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from chipvi import ChipVI, __version__
from chipvi.cli import settings
from chipvi.cli.app import app
from chipvi.cli.options import KEY_HELP, Given, takes_options
from chipvi.data.setup_keys import SetupKeys


@dataclass(frozen=True)
class Inner:
    width: Annotated[int, typer.Option(help="Width.", min=1)] = 5
    loud: Annotated[bool, typer.Option("--loud")] = False
    name: Annotated[str | None, typer.Option()] = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    place: Annotated[Path, typer.Argument()]
    inner: Annotated[Mapping[str, Any], Given(Inner)]
    keys: Annotated[Mapping[str, str], Given(SetupKeys, {"layer": "The layer."})]
    pair: Annotated[tuple[int, int], typer.Option("--two")] = (3, 4)
    share: Annotated[float | None, typer.Option(min=0)] = None


def run(*arguments: str) -> tuple[Result, list[Outer]]:
    seen: list[Outer] = []

    def command(options: Outer) -> None:
        """Help of the command."""
        seen.append(options)

    one = typer.Typer(add_completion=False)
    one.command()(takes_options(command))
    return CliRunner().invoke(one, arguments), seen


def test_values_arrive_as_the_types_of_the_fields_and_defaults_are_those_of_the_dataclass():
    _, (options,) = run("here")
    assert options == Outer(place=Path("here"), inner={}, keys={}, pair=(3, 4), share=None)
    _, (options,) = run("here", "--two", "7", "-8", "--share", "0.5", "--layer", "counts")
    assert options == Outer(place=Path("here"), inner={}, keys={"layer": "counts"}, pair=(7, -8), share=0.5)


def test_of_a_group_only_what_was_given_arrives_even_if_it_is_the_default():
    _, (options,) = run("here", "--width", "5", "--loud")
    assert options.inner == {"width": 5, "loud": True}


def test_help_shows_the_docstring_and_the_defaults_of_a_group():
    text = " ".join(run("--help")[0].output.replace("│", " ").split())
    assert "Help of the command." in text and "Width." in text and "default: (5)" in text and "The layer." in text
    assert "--observed-layer" not in text  # without a text it is no option here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("here", "--width", "0"), "--width"),
        (("",), "it must not be empty"),
        (("here", "--name", ""), "it must not be empty"),
        (("here", "--share", "nan"), "--share"),
        (("here", "--share", "inf"), "it must be a finite number"),
        (("here", "--two", "1", "9" * 19), "it must be a whole number of at most 18 digits"),
    ],
)
def test_values_of_no_use_are_refused_before_the_command(arguments, message):
    result, seen = run(*arguments)
    assert result.exit_code == 2 and not seen
    assert message in " ".join(result.stderr.replace("│", " ").split())


# setup keys


def test_every_setup_key_has_a_text_and_is_an_argument_of_setup_anndata_with_its_default():
    names = {field.name: field.default for field in fields(SetupKeys)}
    assert set(KEY_HELP) == set(names)
    arguments = signature(ChipVI.setup_anndata).parameters
    assert {name: arguments[name].default for name in names} == names


@pytest.mark.parametrize("command", ["train", "compare-heads"])
def test_every_setup_key_is_an_option(command):
    options = {option for parameter in get_command(app).commands[command].params for option in parameter.opts}
    assert {f"--{field.name.replace('_', '-')}" for field in fields(SetupKeys)} <= options


@dataclass(frozen=True)
class MoreKeys:
    layer: str | None = None
    biosample_key: str = "biosample"
    depth_key: str | None = None
    covariate_keys: tuple[str, ...] = ()
    other_keys: tuple[str, ...] | None = None


def test_a_key_of_several_columns_has_commas_between_them_there_and_back(monkeypatch):
    monkeypatch.setattr(settings, "SetupKeys", MoreKeys)
    keys = settings.setup_keys({"covariate_keys": "gc, map", "other_keys": "x", "layer": "none"})
    assert keys == MoreKeys(covariate_keys=("gc", "map"), other_keys=("x",))
    texts = settings.key_texts(keys)
    assert texts == {"biosample_key": "biosample", "depth_key": "none", "covariate_keys": "gc,map", "other_keys": "x"}
    assert settings.setup_keys(texts) == keys


def test_what_chipvi_writes_is_found_unless_named_or_taken():
    found, words = settings.find_keys(["observed", "counts"], ["depth"], {})
    assert found == SetupKeys(observed_layer="observed", depth_key="depth")
    assert words == ["layer observed", "column depth"]
    found, words = settings.find_keys(["observed"], ["depth", "reads"], {"layer": "observed", "depth_key": "reads"})
    assert found == SetupKeys(layer="observed", depth_key="reads") and words == []
    assert settings.find_keys(["signal"], [], {"signal_layer": "none"}) == (SetupKeys(), [])


# the house


def test_every_option_of_every_command_has_a_text():
    for name, command in get_command(app).commands.items():
        for parameter in command.params:
            assert parameter.help, f"chipvi {name}: {parameter.opts}"


LIGHT = """
import json, sys
from chipvi.cli import app
for command in [[], *([name] for name in {names})]:
    try:
        app([*command, "--help"])
    except SystemExit as end:
        assert not end.code, end
heavy = {{"anndata", "lightning", "matplotlib", "numpy", "pandas", "scanpy", "scipy", "scvi", "torch", "zarr"}}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""


def test_no_help_waits_for_a_library_of_data_or_models():
    names = list(get_command(app).commands)
    assert len(names) == 9
    script = LIGHT.format(names=names)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []


def test_the_version_is_plain_text_whatever_the_terminal():
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "PATH": ""}
    script = "from chipvi.cli import app\napp(['--version'])"
    paths = {"PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment | paths)
    assert (result.returncode, result.stdout) == (0, f"chipvi {__version__}\n")
