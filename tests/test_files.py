"""What is written is whole, by one process at a time, and what a killed one left is cleared."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from chipvi._files import claimed, digest, partial_of, written_whole

# Claims a path, starts to write beside it, and waits to be killed.
HOLD = """
import sys, time
from pathlib import Path
from chipvi._files import written_whole
with written_whole(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("holding", flush=True)
    time.sleep(600)
"""


def test_a_digest_goes_by_the_values_of_an_array_and_not_by_how_it_lies_in_memory():
    rows = np.arange(6).reshape(2, 3)
    assert digest(rows) == digest(np.asfortranarray(rows)) == digest(np.hstack([rows, rows])[:, :3])
    assert digest(rows) != digest(rows[::-1])


@pytest.fixture
def hold():
    """Starts a process that writes to a path."""
    started = []

    def start(path: Path) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "holding\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_what_another_process_writes_is_refused_by_its_number_and_cleared_once_it_is_dead(tmp_path, hold):
    path = tmp_path / ("n" * 246 + ".h5ad")  # as long as names can be
    process = hold(path)
    with pytest.raises(BlockingIOError, match=rf"another process \({process.pid} on .*\) is writing "), claimed(path):
        pass
    assert len(list(tmp_path.iterdir())) == 2  # the lock and the partial file of the living process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with written_whole(path) as partial:
        assert not partial.exists()
        partial.write_text("new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [(path.name, "new")]


def test_another_thread_is_refused_and_the_same_one_may_claim_twice(tmp_path):
    path, refused = tmp_path / "out.csv", []

    def claim():
        try:
            with claimed(path):
                pass
        except BlockingIOError as error:
            refused.append(error)

    with claimed(path), claimed(path):
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert not list(tmp_path.iterdir())


def test_other_paths_are_free_meanwhile(tmp_path, hold):
    hold(tmp_path / "a.csv")
    with written_whole(tmp_path / "b.csv") as partial:
        partial.write_text("b")
    assert (tmp_path / "b.csv").read_text() == "b"
    assert partial_of(tmp_path / "a.csv").read_text() == "half"


def test_a_folder_that_was_moved_away_for_its_successor_comes_back(tmp_path):
    model = tmp_path / "model"
    old = Path(str(partial_of(model)).removesuffix("-model") + ".old")
    old.mkdir()
    (old / "weights").write_text("old")
    with claimed(model):
        pass
    assert [(one.name, one.is_dir()) for one in tmp_path.iterdir()] == [("model", True)]
    assert (model / "weights").read_text() == "old"


def test_folders_made_for_a_claim_go_again_if_nothing_was_written(tmp_path):
    with claimed(tmp_path / "new" / "deep" / "out.csv"):
        assert (tmp_path / "new" / "deep").is_dir()
    assert not list(tmp_path.iterdir())
