"""The site has a page for all that is public, and tutorials with their pictures."""

import base64
import importlib
import inspect
import json
import pydoc
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import chipvi

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
API = (SITE / "api.md").read_text("utf-8")
MODULES = (
    "chipvi",
    *(f"chipvi.{name}" for name in chipvi.__all__ if inspect.ismodule(getattr(chipvi, name))),
    "chipvi.nn",
    "chipvi.train",
)
TUTORIALS = sorted(ROOT.glob("tutorials/*.ipynb"))
LARGEST = 1_000_000  # bytes of a notebook with its pictures


def pages() -> set[str]:
    """Names in tables of functions that make a page of each."""
    tables = re.findall(r"^```\{eval-rst\}\n(.*?)^```", API, flags=re.M | re.S)
    return {
        f"chipvi.{name}" for text in tables if ":toctree:" in text for name in re.findall(r"^   (\w\S*)$", text, re.M)
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_and_function_has_a_page_of_the_api(module):
    home = importlib.import_module(module)
    public = {
        name for name in home.__all__ if inspect.isclass(found := getattr(home, name)) or inspect.isroutine(found)
    }
    assert {f"{module}.{name}" for name in public} - pages() == set()


def test_every_page_of_the_api_is_of_something_that_exists():
    for page in pages():
        module, _, name = page.rpartition(".")
        assert hasattr(importlib.import_module(module), name), page


def test_every_method_that_the_api_lists_exists():
    named = re.findall(r"^   ChipVI\.(\w+)$", API, flags=re.M)
    assert {"setup_anndata", "train", "impute", "diagnose", "save", "load"} <= set(named)
    assert [name for name in named if not hasattr(chipvi.ChipVI, name)] == []


def listed() -> list[tuple[Path, str]]:
    """Folder and pattern of every entry of a table of contents."""
    found = []
    for page in SITE.glob("*.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), flags=re.M | re.S):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    entry = re.sub(r"^.*<(.*)>$", r"\1", line)
                    found.append((ROOT, entry[1:]) if entry.startswith("/") else (SITE, entry))
    return found


@pytest.mark.parametrize(
    "page",
    [*TUTORIALS, *ROOT.glob("docs/*.md"), *SITE.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("*.md")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_page_is_in_a_table_of_contents(page):
    name = page.with_suffix("").as_posix()
    patterns = [(folder / entry).resolve().as_posix() for folder, entry in listed()]
    assert page == SITE / "index.md" or any(fnmatch(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_shows_what_its_cells_print_and_draw(tutorial):
    text = tutorial.read_text("utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)], "run `make tutorials`"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    pictures = [base64.b64decode(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]
    assert pictures and all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(text) < LARGEST


def test_every_name_that_the_site_links_to_elsewhere_exists():
    for path in (ROOT / "docs" / "inventories").glob("*.inv"):
        head, _, _, *lines = path.read_text("utf-8").splitlines()
        assert head == "# Sphinx inventory version 1"
        for name in (line.split()[0] for line in lines):
            assert name == "None" or pydoc.locate(name) is not None, name


def test_the_addresses_of_the_project_are_those_of_its_metadata():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    assert {"Homepage", "Source", "Documentation", "Changelog"} <= urls.keys()
    known = tuple(urls.values())
    for path in [*ROOT.glob("*.md"), ROOT / "CITATION.cff", *SITE.glob("*.md"), *ROOT.glob("contrib/**/*.*")]:
        for url in re.findall(r"https://(?:github\.com/|chipvi\.)[^\s)\"'>]*", path.read_text("utf-8")):
            assert url.startswith(known) or "chipvi" not in url, (path, url)
