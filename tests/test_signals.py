"""Signals that come where their interrupt would be lost."""

import os
import signal
import subprocess
import sys

import anndata
import numpy as np
import pytest

from chipvi import _files
from chipvi._files import new_h5ad, written_whole
from chipvi._signals import deferred


@pytest.fixture(autouse=True)
def keys():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores them
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_until_it_is_asked_for_and_comes_once():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred() as deliver:
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("after the signal")
        deliver()
        reached.append("after its delivery")
    assert reached == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_while_hdf5_writes_leaves_no_file_with_lost_values(tmp_path, monkeypatch):
    """HDF5 drops an exception of a write that it makes when it closes a dataset, and the values with it."""
    write, path, n = _files._Sink.write, tmp_path / "out.h5ad", [0]

    def interrupted(sink, data):
        n[0] += 1
        if n[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return write(sink, data)

    monkeypatch.setattr(_files._Sink, "write", interrupted)
    values = np.random.default_rng(0).poisson(4, (9_000, 7)).astype(np.float32)
    with pytest.raises(KeyboardInterrupt), written_whole(path) as partial, new_h5ad(partial) as (file, _):
        anndata.io.write_elem(file, "/", anndata.AnnData(values), dataset_kwargs={"compression": "gzip"})
    assert n[0] > 3
    assert not list(tmp_path.iterdir())


LOST = """
import os, signal, sys
from chipvi import _signals

class Finaliser:
    def __del__(self):
        {ends}

_signals.interrupt_at_signals()
Finaliser()
print(_signals.take().name if {ends!r}.startswith("os") else None)
"""


@pytest.mark.parametrize(
    ("ends", "printed", "error"),
    [("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM", ""), ("raise ValueError('kept')", "None", "ValueError: kept")],
)
def test_an_interrupt_that_nobody_can_catch_prints_no_traceback_and_is_not_forgotten(ends, printed, error):
    code = LOST.format(ends=ends)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [printed]
    assert error in ended.stderr and bool(ended.stderr) is bool(error)
