"""The command line in processes of its own, which can be killed, and find no space on a disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipvi import datasets

COUNTS = pytest.StashKey[Counter]()


@dataclass(frozen=True)
class Ended:
    """What came of a command: its exit status, as of subprocess, and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """The errors that it printed; a progress bar does not count."""
        return [line for line in self.stderr.splitlines() if line.startswith("Error: ")]


class Forks:
    """Starts commands in forks of one process; `folder` holds `work`, where they run."""

    def __init__(self) -> None:
        file = Path(__file__).with_name("forks.py")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0", "COLUMNS": "300"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._answer() == "ready"

    def start(self, folder: Path, *argv: object, **options: Any) -> int:
        """Start a command; its process id."""
        (folder / "work").mkdir(exist_ok=True)
        return int(self._ask({"argv": list(map(str, argv)), "folder": str(folder)} | options))

    def wait(self, pid: int, folder: Path) -> Ended:
        """Wait for its end."""
        status = int(self._ask({"wait": pid}))
        stdout, stderr = (folder / name for name in ("stdout", "stderr"))
        return Ended(status, stdout.read_text() if stdout.exists() else "", stderr.read_text())

    def run(self, folder: Path, *argv: object, **options: Any) -> Ended:
        """Run a command to its end."""
        return self.wait(self.start(folder, *argv, **options), folder)

    def close(self) -> None:
        """End the process that the commands are forks of."""
        self._process.communicate()

    def _ask(self, asked: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that can be forked")
    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def inputs(forks, tmp_path_factory) -> Path:
    """Data to train on, a sheet of three files to count over a small genome, a trained model and what it imputes."""
    folder = tmp_path_factory.mktemp("inputs")
    work = folder / "work"
    work.mkdir()
    sizes = {"n_regions": 720, "n_biosamples": 3, "n_assays": 2, "n_chromosomes": 4}
    datasets.simulate(**sizes, signal=True, missing=["cell2.H3K4me3"], seed=3).write_h5ad(work / "data.h5ad")
    random = np.random.default_rng(1)
    for name in ("a", "b", "c"):
        starts = np.sort(random.integers(0, 900_000, 40_000))
        (work / f"{name}.bed").write_text("".join(f"chr1\t{s}\t{s + 36}\t.\t0\t+\n" for s in starts))
    (work / "chrom.sizes").write_text("chr1\t1000000\n")
    rows = ["biosample,assay,file", *(f"K562,{one},{work / one}.bed" for one in "abc")]
    (work / "sheet.csv").write_text("\n".join(rows) + "\n")
    for argv in (
        ("train", "data.h5ad", "-o", "model", "--steps", 6),
        ("impute", "model", "-o", "imputed.h5ad"),
    ):
        ended = forks.run(folder, *argv)
        assert ended.status == 0, ended
    return work


@pytest.fixture
def figures(pytestconfig) -> Counter:
    """Numbers by command, signal and what was counted, for the summary."""
    return pytestconfig.stash[COUNTS]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTS] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many cases there were of each command and signal, and how many of them failed."""
    counts = config.stash.get(COUNTS, Counter())
    if counts:
        terminalreporter.section("endings by command and signal: cases, cut off before their end, failures")
        for command, number in sorted({key[:2] for key in counts}):
            row = [counts[command, number, what] for what in ("cases", "cut off", "failures")]
            terminalreporter.line(f"{command:<16}{number:<8}{row[0]:>6}{row[1]:>6}{row[2]:>6}")
