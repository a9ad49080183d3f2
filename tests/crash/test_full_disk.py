"""A disk without space: one line, status 1, what was there is as it was, and nothing is left half-written.

A file may have only so many bytes here, which the system refuses as it does on a full disk, and needs no disk of its
own.
"""

import os
import shutil
from pathlib import Path

import pytest

OLD = "what was there before"


def tree(folder: Path) -> dict[str, bytes]:
    """All files in a folder, hidden ones too, and what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_no_space(ended, path: str):
    assert (ended.status, len(ended.lines)) == (1, 1), ended
    assert f"file too large while writing {path}; what was there before is as it was." in ended.lines[0]
    assert "Traceback" not in ended.stderr and "panicked" not in ended.stderr and "HDF5" not in ended.stderr, ended


COUNT = ("count", "{in}/sheet.csv", "--genome", "{in}/chrom.sizes", "--bin", 100)
IMPUTE = ("impute", "{in}/model")
CASES = {
    "count to h5ad": ((*COUNT, "-o", "out.h5ad"), "out.h5ad"),
    "count to zarr": ((*COUNT, "-o", "out.zarr"), "out.zarr"),
    "impute to h5ad": ((*IMPUTE, "-o", "out.h5ad"), "out.h5ad"),
    "impute to zarr": ((*IMPUTE, "-o", "out.zarr"), "out.zarr"),
    "impute to bigWig": ((*IMPUTE, "--bigwig", "out"), "out"),
    "report": (("report", "{in}/model", "-o", "out.html", "--overwrite"), "out.html"),
    "score": (("score", "{in}/imputed.h5ad", "{in}/data.h5ad", "--out", "out.csv"), "out.csv"),
    "train": (("train", "{in}/data.h5ad", "-o", "out", "--steps", 3, "--overwrite"), "out"),
}


def put_old(name: str, out: Path, model: Path) -> None:
    """Put something where a command that may replace it writes to."""
    if name == "train":
        shutil.copytree(model, out)
    elif name == "impute to bigWig":
        out.mkdir()
        (out / "cell1.H3K4me1.imputed.bw").write_text(OLD)
    elif name in ("report", "score"):
        out.write_text(OLD)


@pytest.mark.parametrize("name", CASES)
def test_without_space_a_command_ends_in_one_line_and_leaves_all_as_it_was(forks, inputs, tmp_path, name):
    argv, out = CASES[name]
    work = tmp_path / "work"
    work.mkdir()
    put_old(name, work / out, inputs / "model")
    before = tree(work)
    ended = forks.run(tmp_path, *(str(one).replace("{in}", str(inputs)) for one in argv), limit=2_000)
    assert_no_space(ended, out)
    assert tree(work) == before


@pytest.mark.parametrize("name", ["count to h5ad", "impute to h5ad"])
def test_hdf5_does_not_crash_wherever_the_space_ends(forks, inputs, tmp_path, name):
    argv, out = CASES[name]
    argv = [str(one).replace("{in}", str(inputs)) for one in argv]
    assert forks.run(tmp_path, *argv).status == 0
    size = os.path.getsize(tmp_path / "work" / out)
    (tmp_path / "work" / out).unlink()
    for share in (0.5, 0.99):
        assert_no_space(forks.run(tmp_path, *argv, limit=int(share * size)), out)
        assert {path.name for path in (tmp_path / "work").iterdir()} <= {f".{out}.unfinished"}
    assert forks.run(tmp_path, *argv).status == 0  # it goes on with what was done
    assert {path.name for path in (tmp_path / "work").iterdir()} == {out}
