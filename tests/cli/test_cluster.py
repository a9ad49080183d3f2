"""A cluster of dask: the same numbers as one process, also where a worker is killed, and what is refused."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pytest
from typer.testing import CliRunner

from chipvi._files import unfinished_of
from chipvi.cli import cluster
from chipvi.cli.app import app
from chipvi.predict import imputation, predictor

N_REGIONS = 1_600


def call(*arguments: object):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def scheduler():
    """Address of a cluster of two workers, and the processes of these."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        yield SimpleNamespace(address=local.scheduler_address, pids=lambda: list(client.run(os.getpid).values()))


@pytest.fixture(scope="module")
def folder(kit, model, tmp_path_factory) -> Path:
    """A trained model beside longer data."""
    path = tmp_path_factory.mktemp("trained")
    model.save(path / "model")
    kit.data(n_regions=N_REGIONS).write_h5ad(path / "data.h5ad")
    return path


@pytest.mark.filterwarnings("ignore")  # of dask and its libraries
def test_a_cluster_imputes_the_same_bits_though_a_worker_is_killed_in_the_middle(
    scheduler, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(predictor, "_MOST_REGIONS", 32)
    monkeypatch.setattr(imputation, "_MOST_ENTRIES", 1)
    asked = ("impute", folder / "model", "--data", folder / "data.h5ad", "--accelerator", "cpu")
    out, killed = tmp_path / "out.zarr", []

    def kill_one() -> None:
        stop, pids = time.monotonic() + 120, scheduler.pids()
        while time.monotonic() < stop:
            n_done = len(list((unfinished_of(out) / "done").glob("*")))
            if n_done >= 2:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(n_done)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=kill_one)
    thread.start()
    result = call(*asked, "-o", out, "--scheduler", scheduler.address)
    thread.join()
    assert result.exit_code == 0, result.output
    assert killed[0] < N_REGIONS // 32
    assert call(*asked, "-o", tmp_path / "here.zarr", "--workers", 1).exit_code == 0
    found, expected = (anndata.read_zarr(path) for path in (out, tmp_path / "here.zarr"))
    np.testing.assert_array_equal(found.X, expected.X)
    assert set(found.layers) == set(expected.layers)
    for name in expected.layers:
        np.testing.assert_array_equal(found.layers[name], expected.layers[name])


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_counts_the_same(scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(7)
    for name in "abc":
        starts = np.sort(random.integers(0, 8_000, 500))
        Path(f"{name}.bed").write_text("".join(f"chr1\t{s}\t{s + 36}\t.\t0\t+\n" for s in starts))
    Path("sheet.csv").write_text("biosample,assay,file\n" + "".join(f"K562,{name},{name}.bed\n" for name in "abc"))
    Path("genome.sizes").write_text("chr1\t9000\n")
    asked = ("count", "sheet.csv", "--genome", "genome.sizes", "--bin", 40)
    for options in (("-o", "here.h5ad"), ("-o", "there.h5ad", "--scheduler", scheduler.address)):
        result = call(*asked, *options)
        assert result.exit_code == 0, result.output
    here, there = anndata.read_h5ad("here.h5ad").to_df(), anndata.read_h5ad("there.h5ad").to_df()
    assert here.equals(there) and here.to_numpy().sum() == 1_500


def test_without_dask_a_cluster_is_refused_and_what_to_install_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = call(
        "impute", folder / "model", "--data", folder / "data.h5ad", "-o", tmp_path / "o.zarr", "--scheduler", "x"
    )
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "--scheduler needs dask.distributed, which is not installed: pip install 'chipvi[dask]'." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    def silent(address):
        raise OSError("timed out")

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=silent))
    with pytest.raises(OSError, match="no scheduler of dask answers at tcp://nowhere:1: timed out"):
        with cluster.connected("tcp://nowhere:1", None):
            pass


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/2/3", "-1/2", "a/b"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="--shard must be a part and the number of parts, from 1/4 to 4/4"):
        cluster.read_shard(text)
