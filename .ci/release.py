"""Check the wheel and the sdist in dist before they are uploaded: are they whole, and the release of the tag?"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {
    ".whl": ("chipvi/__main__.py", "chipvi/py.typed", "chipvi/report/page.html.j2", "licenses/LICENSE"),
    ".gz": ("PKG-INFO", "src/chipvi/__main__.py", "tests/conftest.py", "docs/conf.py", "tutorials/01_quickstart.ipynb"),
}


def names(archive: Path) -> list[str]:
    """Files in a wheel or an sdist."""
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).namelist()
    with tarfile.open(archive) as tar:
        return tar.getnames()


def version_of(archive: Path) -> str:
    """The version in the name of a wheel or an sdist."""
    return archive.name.removesuffix(".tar.gz").split("-")[1]


def faults(folder: Path, tag: str | None, citation: str, changelog: str) -> list[str]:
    """What is wrong with the files of a release, in sentences; `tag` is None for a trial."""
    archives = sorted(folder.glob("chipvi-*"))
    if [archive.suffix for archive in archives] != [".whl", ".gz"] and [a.suffix for a in archives] != [".gz", ".whl"]:
        return [f"{folder} must hold one wheel and one sdist, not {[archive.name for archive in archives]}"]
    found = [
        f"{archive.name} lacks {name}"
        for archive in archives
        for name in NEEDED[archive.suffix]
        if not any(member.endswith(name) for member in names(archive))
    ]
    versions = {version_of(archive) for archive in archives}
    if len(versions) > 1:
        found.append(f"wheel and sdist are of different versions, {sorted(versions)}")
    if tag is not None:
        version = tag.removeprefix("v")
        if versions != {version}:
            found.append(
                f"the tag is {tag}, the files are {sorted(versions)}: is the tag at this commit, and no file changed?"
            )
        if not re.search(rf"^version: {re.escape(version)}$", citation, flags=re.M):
            found.append(f"CITATION.cff is not of version {version}")
        if not re.search(rf"^## \[{re.escape(version)}\]", changelog, flags=re.M):
            found.append(f"CHANGELOG.md has no section [{version}]")
    return found


def try_out(archive: Path) -> None:
    """Install into an empty environment, and run the demo from it, elsewhere."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "venv", f"{scratch}/env"], check=True)
        bins = Path(scratch, "env", "bin")
        subprocess.run([bins / "python", "-m", "pip", "install", "--quiet", archive.resolve()], check=True)
        printed = subprocess.run(
            [bins / "chipvi", "--version"], check=True, cwd=scratch, capture_output=True, text=True
        )
        if printed.stdout.split() != ["chipvi", version_of(archive)]:
            raise SystemExit(f"{archive.name} calls itself {printed.stdout!r}")
        subprocess.run([bins / "chipvi", "demo", "--steps", "50"], check=True, cwd=scratch)
        print(f"{archive.name}: installed, and its demo run", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="tag of the release, v0.2.0; by default the files are only looked at")
    parser.add_argument("--try", dest="tries", action="store_true", help="install each, and run the demo from it")
    options = parser.parse_args()
    texts = [(ROOT / name).read_text("utf-8") for name in ("CITATION.cff", "CHANGELOG.md")]
    found = faults(ROOT / "dist", options.tag, *texts)
    print("\n".join(found) or "wheel and sdist are whole")
    if options.tries and not found:
        for archive in sorted((ROOT / "dist").glob("chipvi-*")):
            try_out(archive)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
