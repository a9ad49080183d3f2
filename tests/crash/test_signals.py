"""Commands that are killed, terminated or interrupted at any time: what is there is whole, and the next run succeeds.

CHIPVI_CRASH_CASES is the number of cases, CHIPVI_CRASH_SEED draws their times; `make test-crash` runs many.
"""

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from chipvi import ChipVI

N_CASES = int(os.environ.get("CHIPVI_CRASH_CASES", "5"))
SEED = int(os.environ.get("CHIPVI_CRASH_SEED", "0"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PLACES = ("--genome", "{in}/chrom.sizes", "--bin", "40", "--workers", "2")
COMMANDS = {
    "train": ("train", "{in}/data.h5ad", "-o", "out", "--steps", "40", "--seed", "5"),
    "count": ("count", "{in}/sheet.csv", *PLACES, "-o", "out.h5ad"),
    "impute": ("impute", "{in}/model", "-o", "out.h5ad", "--depth", "30000"),
    "impute --bigwig": ("impute", "{in}/model", "--bigwig", "out", "--depth", "30000"),
    "report": ("report", "{in}/model", "-o", "out.html", "--overwrite"),
}
REPLACES = ("train", "impute --bigwig", "report")
OLD = "old"


@dataclass(frozen=True)
class Case:
    """A command, the signal that it gets, after which share of the time that it takes, and whether a result is there.

    The signal goes to it alone, or to all processes that it started, as from a terminal.
    """

    command: str
    signal: signal.Signals
    share: float
    to_group: bool
    has_old: bool

    def __str__(self) -> str:
        what = f"{self.command}, {self.signal.name} at {self.share:.3f}"
        return what + ", to all" * self.to_group + ", over an old one" * self.has_old

    @property
    def out(self) -> str:
        """What the command writes."""
        return COMMANDS[self.command][COMMANDS[self.command].index("--bigwig" if "big" in self.command else "-o") + 1]


def draw(number: int) -> Case:
    commands = list(COMMANDS)
    command, by = (
        commands[number % len(commands)],
        SIGNALS[(number % len(commands) + number // len(commands)) % len(SIGNALS)],
    )
    drawn = random.Random(f"{SEED} {number}")
    share, to_group, has_old = drawn.uniform(0, 1.02), drawn.random() < 0.5, drawn.random() < 0.5
    return Case(command, by, share, to_group and by is not signal.SIGKILL, has_old and command in REPLACES)


def argv_of(case: Case, inputs: Path) -> list[str]:
    more = ["--overwrite"] if case.has_old and case.command == "train" else []
    return [*(one.replace("{in}", str(inputs)) for one in COMMANDS[case.command]), *more]


@pytest.fixture(scope="module")
def whole(forks, inputs, tmp_path_factory):
    """By command: a folder with what an undisturbed run writes, and the seconds that it took."""
    found = {}

    def run(case: Case) -> tuple[Path, float]:
        if case.command not in found:
            folder = tmp_path_factory.mktemp("whole")
            start = time.monotonic()
            ended = forks.run(folder, *argv_of(case, inputs))
            found[case.command] = folder / "work", time.monotonic() - start
            assert ended.status == 0, ended
        return found[case.command]

    return run


def put_old(case: Case, out: Path, inputs: Path) -> None:
    if case.command == "train":
        shutil.copytree(inputs / "model", out)
    elif case.command == "impute --bigwig":
        out.mkdir()
        (out / "cell1.H3K4me1.imputed.bw").write_text(OLD)
    else:
        out.write_text(OLD)


def weights(folder: Path, inputs: Path) -> dict[str, torch.Tensor]:
    return ChipVI.load(folder, anndata.read_h5ad(inputs / "data.h5ad"), accelerator="cpu").module.state_dict()


def same_weights(first: Path, second: Path, inputs: Path) -> bool:
    one, other = weights(first, inputs), weights(second, inputs)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_data(first: Path, second: Path) -> bool:
    one, other = anndata.read_h5ad(first), anndata.read_h5ad(second)
    assert one.obs.equals(other.obs) and one.var_names.equals(other.var_names)
    assert list(one.layers) == list(other.layers)
    dense = [[a.X, *a.layers.values()] for a in (one, other)]
    pairs = zip(*([x.toarray() if hasattr(x, "toarray") else x for x in arrays] for arrays in dense), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def assert_whole(case: Case, out: Path, expected: Path, inputs: Path) -> None:
    """What is there under its final name is what an undisturbed run writes, or what was there before."""
    if case.command == "train":
        assert case.has_old <= out.exists()
        assert not out.exists() or same_weights(out, expected, inputs) or same_weights(out, inputs / "model", inputs)
    elif case.command == "impute --bigwig":
        for file in out.glob("[!.]*"):
            assert file.read_bytes() in (OLD.encode(), (expected / file.name).read_bytes()), file
    elif case.command == "report":
        assert case.has_old <= out.exists()
        assert not out.exists() or out.read_text() == OLD or out.read_text().rstrip().endswith("</html>")
    else:
        assert not out.exists() or same_data(out, expected)


def assert_ended(case: Case, ended) -> None:
    """By the signal, and in one line."""
    if case.signal is signal.SIGKILL:
        assert ended.status == -signal.SIGKILL, ended
        return
    assert ended.status == 128 + case.signal, ended
    assert "Traceback" not in ended.stdout + ended.stderr, ended
    lines = [*ended.lines, *(line for line in ended.stdout.splitlines() if line.startswith("Interrupted. "))]
    assert len(lines) == 1, ended


def processes_of(group: int) -> list[str]:
    """Processes that a command started and that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == group and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.parametrize("case", [pytest.param(draw(n), id=f"{n}: {draw(n)}") for n in range(N_CASES)])
def test_whatever_ends_a_command_what_is_there_is_whole_and_the_next_run_succeeds(
    forks, inputs, whole, tmp_path, figures, case
):
    figures[case.command, case.signal.name, "cases"] += 1
    figures[case.command, case.signal.name, "failures"] += 1
    work, argv = tmp_path / "work", argv_of(case, inputs)
    work.mkdir()
    (expected, seconds), out = whole(case), work / case.out
    if case.has_old:
        put_old(case, out, inputs)

    pid = forks.start(tmp_path, *argv)
    time.sleep(case.share * seconds)
    try:
        (os.killpg if case.to_group else os.kill)(pid, case.signal)
    except ProcessLookupError:
        pass
    ended = forks.wait(pid, tmp_path)

    if ended.status == 0:
        assert_whole(case, out, expected / case.out, inputs)
    else:
        figures[case.command, case.signal.name, "cut off"] += 1
        assert_ended(case, ended)
        assert_whole(case, out, expected / case.out, inputs)
        if case.signal is not signal.SIGKILL:
            left = {path.name for path in work.iterdir()} - {case.out, f".{case.out}.unfinished"}
            assert left == set(), left
        left_running = time.monotonic() + 10
        while processes_of(pid):
            assert time.monotonic() < left_running, processes_of(pid)
            time.sleep(0.05)
        run_again(forks, case, tmp_path, argv)
    assert [path.name for path in work.iterdir()] == [case.out]
    assert not list(out.glob(".*")) if out.is_dir() else True
    if case.command == "train":
        assert same_weights(out, expected / case.out, inputs)
    elif case.command == "report":
        assert out.read_text().rstrip().endswith("</html>")
    elif case.command == "impute --bigwig":
        written = {path.name: path.read_bytes() for path in out.iterdir()}
        assert written == {path.name: path.read_bytes() for path in (expected / case.out).iterdir()}
    else:
        assert same_data(out, expected / case.out)
    figures[case.command, case.signal.name, "failures"] -= 1


def run_again(forks, case: Case, folder: Path, argv: list[str]) -> None:
    """As a user would: a training goes on from its checkpoint; what must not be there is removed."""
    out = folder / "work" / case.out
    if case.command in ("count", "impute") and out.exists():
        out.unlink()
    if case.command == "train":
        if (folder / "work" / ".out.unfinished" / "training.ckpt").exists():
            argv = [*(["train", "--resume"] + argv[2:])]
        elif out.exists() and not case.has_old:
            argv = [*argv, "--overwrite"]
    ended = forks.run(folder, *argv)
    assert ended.status == 0, ended
