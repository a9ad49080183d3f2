"""The recipe, the image and the modules of workflows agree with the package, its metadata and its command line."""

import re
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment
from typer.main import get_command

from chipvi.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES = sorted((ROOT / "contrib" / "nf-core" / "chipvi").iterdir())
CONDA = {"matplotlib": "matplotlib-base", "torch": "pytorch"}  # the names of conda, where they differ

every_module = pytest.mark.parametrize("module", MODULES, ids=lambda folder: folder.name)


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def released() -> str:
    return yaml.safe_load(read("CITATION.cff"))["version"]


def recipe() -> dict:
    known = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    return yaml.safe_load(Environment().from_string(read("contrib/bioconda/meta.yaml")).render(known))


def parts(requirement: str) -> tuple[str, str]:
    """Name and range."""
    name, bounds = re.fullmatch(r"([\w-]+)\s*(\S*)", requirement).groups()
    return CONDA.get(name, name), bounds


def test_the_recipe_asks_for_what_the_package_asks_for():
    project = PROJECT["project"]
    asked = dict(map(parts, recipe()["requirements"]["run"]))
    python = asked.pop("python")
    assert asked == dict(map(parts, project["dependencies"]))
    assert python == project["requires-python"]
    assert set(map(parts, PROJECT["build-system"]["requires"])) < set(map(parts, recipe()["requirements"]["host"]))


def test_the_recipe_says_what_the_metadata_say():
    project, found = PROJECT["project"], recipe()
    assert found["about"]["summary"] == project["description"]
    assert found["about"]["license"] == project["license"]
    assert (found["about"]["home"], found["about"]["doc_url"]) == (
        project["urls"]["Homepage"],
        project["urls"]["Documentation"],
    )
    assert found["build"]["entry_points"] == [f"{name} = {place}" for name, place in project["scripts"].items()]
    assert found["package"] == {"name": project["name"], "version": released()}
    assert found["source"]["url"].endswith(f"chipvi-{released()}.tar.gz")


def test_the_extras_are_those_that_the_page_on_installing_names():
    named = re.findall(r"^\| `(\w+)` \|", read("docs/site/install.md"), flags=re.M)
    assert sorted(named) == sorted(PROJECT["project"]["optional-dependencies"])


def test_the_image_gets_all_that_the_build_needs():
    kept = [line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")]
    project = PROJECT["project"]
    assert {"pyproject.toml", "src", project["readme"], *project["license-files"]} == set(kept)


def block(module: Path, name: str) -> str:
    """The shell commands of a module, what Nextflow would put into them put in."""
    text = (module / "main.nf").read_text("utf-8")
    (shell,) = re.findall(rf'^    {name}:\n(?:    [^\n"]* = [^\n]*\n)*    """\n(.*?)^    """', text, flags=re.M | re.S)
    values = {"prefix": "atlas", "args": "", "task.cpus": "2", "bin_size": "200", "task.process": "CHIPVI"}
    shell = re.sub(r"(?<!\\)\$\{?([\w.]+)\}?", lambda name: values.get(name[1], name[1]), shell)
    lines = shell.replace("\\\\", "\\").replace("\\$", "$").splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines)


@every_module
def test_a_module_calls_its_command_with_options_that_exist(module):
    call, _, _ = block(module, "script").partition("\n\n")
    program, name, *arguments = shlex.split(call.replace("\\\n", " "))
    assert (program, name) == ("chipvi", module.name)
    command = get_command(app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} <= known
    command.make_context(name, arguments)  # no argument is missing or too many


@every_module
def test_the_stub_of_a_module_writes_what_the_module_promises(module, tmp_path):
    (tmp_path / "bin").mkdir()
    chipvi = tmp_path / "bin" / "chipvi"
    chipvi.write_text("#!/bin/bash\necho chipvi 1.2.3\n")
    chipvi.chmod(stat.S_IRWXU)
    work = tmp_path / "work"
    work.mkdir()
    path = {"PATH": f"{chipvi.parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", block(module, "stub")], cwd=work, check=True, env=path)
    text = (module / "main.nf").read_text("utf-8")
    outputs = re.search(r"output:\n(.*?)\n\n", text, flags=re.S)[1]
    for pattern in re.findall(r'path\(?\s*"([^"]+)"', outputs):
        assert list(work.glob(pattern.replace("${prefix}", "atlas"))), pattern
    assert yaml.safe_load((work / "versions.yml").read_text()) == {"CHIPVI": {"chipvi": "1.2.3"}}


@every_module
def test_names_in_outputs_are_those_that_nextflow_sees_there(module):
    text = (module / "main.nf").read_text("utf-8")
    outputs = re.search(r"output:\n(.*?)\n\n", text, flags=re.S)[1]
    for name in re.findall(r"\$\{?(\w+)", outputs):  # not those of a block, which begin with def
        assert re.findall(rf"^    (.*?)\b{name} += ", text, flags=re.M) == ["", ""]


@every_module
def test_a_module_is_described_as_it_is(module):
    text, about = (module / "main.nf").read_text("utf-8"), yaml.safe_load((module / "meta.yml").read_text("utf-8"))
    assert about["name"] == f"chipvi_{module.name}" and f"process CHIPVI_{module.name.upper()} {{" in text
    inputs, outputs = re.search(r"input:\n(.*?)\n\n    output:\n(.*?)\n\n", text, flags=re.S).groups()
    described = [list(map(next, map(iter, one))) if isinstance(one, list) else list(one) for one in about["input"]]
    assert described == [re.findall(r"(?:val|path)[( ](\w+)", line) for line in inputs.splitlines()]
    assert list(about["output"]) == re.findall(r"emit: (\w+)", outputs)


@every_module
def test_a_module_runs_in_the_released_version(module):
    asked = yaml.safe_load((module / "environment.yml").read_text("utf-8"))["dependencies"]
    assert asked == [f"bioconda::chipvi={released()}"]
    assert re.findall(r"chipvi:([\d.]+)--", (module / "main.nf").read_text("utf-8")) == [released()] * 2
