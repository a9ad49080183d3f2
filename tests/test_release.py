"""A release has the version of its tag, in its files, its citation and its changelog."""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GIT = [
    "git",
    "-c",
    "user.name=x",
    "-c",
    "user.email=x@example.org",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "tag.gpgsign=false",
]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RELEASE = load(ROOT / ".ci" / "release.py")
CITATION, CHANGELOG = "version: 0.3.1\n", "# Changelog\n\n## [0.3.1] - 2030-01-02\n"


def pack(folder: Path, version: str, lacking: str = "") -> Path:
    """A wheel and an sdist that hold what one needs, but for one file."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"chipvi-{version}-py3-none-any.whl", "w") as wheel:
        for name in RELEASE.NEEDED[".whl"]:
            if name != lacking:
                wheel.writestr(name.replace("licenses", f"chipvi-{version}.dist-info/licenses"), "")
    with tarfile.open(folder / f"chipvi-{version}.tar.gz", "w:gz") as sdist:
        for name in RELEASE.NEEDED[".gz"]:
            sdist.addfile(tarfile.TarInfo(f"chipvi-{version}/{name}"))
    return folder


def test_a_release_in_order_has_no_fault(tmp_path):
    assert RELEASE.faults(pack(tmp_path, "0.3.1"), "v0.3.1", CITATION, CHANGELOG) == []
    assert RELEASE.faults(pack(tmp_path, "0.3.1"), None, "", "") == []


def test_what_is_wrong_with_a_release_is_named(tmp_path):
    found = RELEASE.faults(pack(tmp_path, "0.3.1", "chipvi/report/page.html.j2"), "v0.4.0", CITATION, CHANGELOG)
    assert [fault.partition(":")[0] for fault in found] == [
        "chipvi-0.3.1-py3-none-any.whl lacks chipvi/report/page.html.j2",
        "the tag is v0.4.0, the files are ['0.3.1']",
        "CITATION.cff is not of version 0.4.0",
        "CHANGELOG.md has no section [0.4.0]",
    ]
    assert "one wheel and one sdist" in RELEASE.faults(pack(tmp_path, "0.3.2"), None, "", "")[0]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_version_is_that_of_the_tag_and_without_one_a_development_of_the_first(tmp_path):
    def version() -> str:
        command = [sys.executable, "-m", "hatchling", "version"]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    def git(*arguments: str) -> None:
        subprocess.run([*GIT, *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert version().startswith("0.1.0.dev")
    git("tag", "v0.3.1")
    assert version() == "0.3.1"
    git("commit", "--allow-empty", "-m", "second")
    assert version().startswith("0.3.2.dev1+g")
    shutil.rmtree(tmp_path / ".git")
    assert version() == "0.1.0.dev0"
