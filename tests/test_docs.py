"""The pages for users name commands, options, functions and files that there are."""

import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import chipvi.io
from chipvi.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / f"{page}.md" for page in ("README", "ARCHITECTURE", "CONTRIBUTING")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("tutorials/*.ipynb")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def read(page: Path) -> str:
    """Text of a page, or of all cells of a notebook."""
    if page.suffix == ".md":
        return page.read_text("utf-8")
    cells = json.loads(page.read_text("utf-8"))["cells"]
    return "\n\n".join(
        f"```\n{''.join(c['source'])}\n```" if c["cell_type"] == "code" else "".join(c["source"]) for c in cells
    )


def commands(text: str) -> list[list[str]]:
    """Calls of chipvi, in blocks of a shell or within a line."""
    fenced = "\n".join(re.findall(r"^ *```.*?\n(.*?)^ *```", text, flags=re.M | re.S))
    blocks = re.findall(r"^\s*(?:\S+/)?(chipvi [a-z-].*)$", fenced, flags=re.M)
    inline = re.findall(r"`(chipvi [a-z-]+[^`]*)`", text)
    calls = [shlex.split(call, comments=True)[1:] for call in [*blocks, *inline]]
    calls = [call[1:] if call[0] == "--debug" else call for call in calls]
    return [call for call in calls if call != ["--version"]]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_and_option_that_a_page_names_exists(page):
    known = get_command(app).commands
    for name, *arguments in commands(read(page)):
        assert name in known, f"chipvi {name}"
        options = {
            option for parameter in known[name].params for option in [*parameter.opts, *parameter.secondary_opts]
        }
        for option in (argument for argument in arguments if re.match(r"--?[a-z]", argument)):
            assert option in {*options, "--help"}, f"chipvi {name} {option}"


def test_the_options_of_counting_that_its_page_names_exist():
    options = {option for parameter in get_command(app).commands["count"].params for option in parameter.opts}
    spans = re.findall(r"`[^`\n]+`", read(ROOT / "docs" / "counting.md"))
    named = set(re.findall(r"(--[a-z-]+)", " ".join(spans)))
    assert {"--rule", "--strand-shift", "--blacklist"} <= named <= options


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_function_that_a_page_names_exists(page):
    for part, name in set(re.findall(r"\bchipvi\.(io|pl|metrics|datasets)\.(\w+)", read(page))):
        assert hasattr(importlib.import_module(f"chipvi.{part}"), name), f"chipvi.{part}.{name}"


def test_the_oldest_versions_to_test_with_are_the_lower_bounds():
    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    oldest = [line.split("==") for line in lines if not line.startswith("#")]
    lowest = dict(re.match(r"([\w-]+)>=([0-9.]+)", bound).groups() for bound in bounds)
    assert {name: ".".join([*bound.split("."), "0", "0"][:3]) for name, bound in lowest.items()} == dict(oldest)


def test_the_changelog_names_all_functions_for_files():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert [name for name in chipvi.io.__all__ if f"{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_to_a_file_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)", read(page)):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_calls_are_found_in_blocks_and_in_lines():
    text = "```sh\nchipvi count a.csv -o b.h5ad  # ten minutes\n```\nor `chipvi --debug train x` and\nchipvi is good.\n"
    assert commands(text) == [["count", "a.csv", "-o", "b.h5ad"], ["train", "x"]]
