"""Imputing in stretches: the same bits whoever does them, nothing twice, and nothing half-written under its name."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from chipvi import _workers
from chipvi._files import unfinished_of
from chipvi.predict import imputation

BATCH = 32
N_STRETCHES = 9  # of 280 regions, a minibatch each


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    monkeypatch.setattr(imputation, "_MOST_ENTRIES", 1)


@pytest.fixture(scope="module")
def executor():
    with ProcessPoolExecutor(2, _workers.clean_context("chipvi.predict.imputation")) as pool:
        with _workers.script_not_run_again():
            pool.submit(int).result()
        yield pool


@pytest.fixture
def impute(model):
    return partial(model.impute, batch_size=BATCH)


@pytest.fixture
def done_now(monkeypatch) -> list[int]:
    """Number of regions of each minibatch that is imputed in this process."""
    numbers: list[int] = []
    whole = imputation.Imputer.impute
    monkeypatch.setattr(
        imputation.Imputer, "impute", lambda self, batch: numbers.append(batch.n_regions) or whole(self, batch)
    )
    return numbers


def read(path: Path) -> anndata.AnnData:
    return (anndata.read_zarr if path.suffix == ".zarr" else anndata.read_h5ad)(path)


def assert_same_bits(one: anndata.AnnData, other: anndata.AnnData) -> None:
    assert set(one.layers) == set(other.layers) >= {"lower", "upper", "dispersion", "denoised", "pval", "pval_std"}
    for name in [None, *one.layers]:
        first, second = (a.X if name is None else a.layers[name] for a in (one, other))
        assert first.dtype == second.dtype == np.float32
        np.testing.assert_array_equal(first, second)
    assert list(one.obs_names) == list(other.obs_names) and list(one.var_names) == list(other.var_names)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("ending", ["zarr", "h5ad"])
def test_a_file_holds_the_same_bits_whoever_imputes(impute, executor, tmp_path, ending):
    expected = impute(processes=1)
    for name, options in {"one": {"processes": 1}, "two": {"executor": executor}}.items():
        out = impute(out=tmp_path / f"{name}.{ending}", **options)
        assert_same_bits(read(out), expected)
    assert names_in(tmp_path) == {f"one.{ending}", f"two.{ending}"}


def test_in_memory_they_come_in_the_order_asked_for_whoever_imputes(impute, executor):
    order = [200, 5, 60, 279]
    assert_same_bits(impute(indices=order, executor=executor), impute(indices=order))
    with ThreadPoolExecutor(2) as threads:
        assert_same_bits(impute(executor=threads), impute())


def test_stretches_are_whole_minibatches_so_that_their_length_changes_no_bit(impute, monkeypatch):
    expected = impute()
    monkeypatch.setattr(imputation, "_MOST_ENTRIES", 100 * 15)  # 96 regions of 12 targets and 3 controls
    assert_same_bits(impute(), expected)


def test_torch_works_on_one_thread_and_then_on_as_many_as_before(impute, monkeypatch):
    found = []
    whole = imputation.Imputer.impute
    monkeypatch.setattr(
        imputation.Imputer, "impute", lambda *args: found.append(torch.get_num_threads()) or whole(*args)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        impute(indices=[1])
        assert found == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("ending", ["zarr", "h5ad"])
def test_shards_impute_each_region_once_and_the_last_step_none(impute, tmp_path, done_now, ending):
    out = tmp_path / f"out.{ending}"
    expected = impute()
    done_now.clear()
    for part in (4, 2, 1, 3):
        impute(out=out, shard=(part, 4))
        assert names_in(tmp_path) == {f".out.{ending}.unfinished"}
    assert sum(done_now) == 280 and len(done_now) == N_STRETCHES
    done_now.clear()
    impute(out=out)
    assert done_now == [] and names_in(tmp_path) == {out.name}
    assert_same_bits(read(out), expected)


def test_a_shard_that_is_missing_is_made_up_for_by_the_last_step(impute, tmp_path, done_now):
    for part in (1, 3):
        impute(out=tmp_path / "out.zarr", shard=(part, 3))
    done_now.clear()
    impute(out=tmp_path / "out.zarr")
    assert sum(done_now) == 3 * BATCH


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_is_cut_off_goes_on_with_what_is_missing(impute, tmp_path, monkeypatch, error):
    out, expected, n_calls = tmp_path / "out.zarr", impute(), []
    whole = imputation.Imputer.impute

    def cut_off(self, minibatch):
        n_calls.append(1)
        if len(n_calls) == 4:
            raise error("enough")
        return whole(self, minibatch)

    monkeypatch.setattr(imputation.Imputer, "impute", cut_off)
    with pytest.raises(error):
        impute(out=out)
    assert names_in(tmp_path) == {".out.zarr.unfinished"}
    impute(out=out)
    assert len(n_calls) == 4 + N_STRETCHES - 3
    assert_same_bits(read(out), expected)


def test_what_is_cut_off_before_anything_is_done_leaves_nothing(impute, tmp_path, monkeypatch):
    monkeypatch.setattr(imputation.Imputer, "impute", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        impute(out=tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []


def test_if_the_file_cannot_be_written_all_stretches_are_kept(impute, tmp_path, monkeypatch, done_now):
    def full(*_):
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(imputation, "write_h5ad", full)
        with pytest.raises(OSError, match="full"):
            impute(out=tmp_path / "out.h5ad")
    done_now.clear()
    impute(out=tmp_path / "out.h5ad")
    assert done_now == [] and names_in(tmp_path) == {"out.h5ad"}


@pytest.mark.parametrize(
    "change",
    [{"depth": 5e4}, {"level": 0.5}, {"tracks": ["cell1.H3K4me3"]}, {"indices": range(1, 280)}, {"batch_size": 16}, {}],
    ids=str,
)
def test_what_another_request_has_begun_is_begun_anew_with_a_warning(kit, model, tmp_path, done_now, change):
    out, asked = tmp_path / "out.zarr", {"batch_size": BATCH}
    model.impute(out=out, shard=(1, 2), **asked)
    done_now.clear()
    other = model
    if not change:  # other data
        adata = model.adata.copy()
        adata.X[5, 3] += 1
        asked["adata"] = adata
    with pytest.warns(UserWarning, match="was begun by another model, on other data or with other options"):
        other.impute(out=out, **(asked | change))
    assert sum(done_now) == len(change.get("indices", range(280)))
    assert_same_bits(read(out), other.impute(**(asked | change)))


def test_another_model_begins_anew(kit, adata, model, tmp_path):
    model.impute(out=tmp_path / "out.zarr", shard=(1, 2))
    other = kit.train(kit.model(adata.copy()), max_steps=2, calibrate_unseen=False)
    with pytest.warns(UserWarning, match="was begun by another model"):
        other.impute(out=tmp_path / "out.zarr")
    np.testing.assert_array_equal(read(tmp_path / "out.zarr").X, other.impute().X)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_a_process_that_is_killed_in_the_middle_costs_its_stretch_alone(kit, model, tmp_path):
    longer = kit.data(n_regions=2_000)
    out, n_stretches, killed = tmp_path / "out.zarr", -(-2_000 // BATCH), []
    done, others = unfinished_of(out) / "done", multiprocessing.active_children()

    def kill_one() -> None:
        stop = time.monotonic() + 120
        while time.monotonic() < stop:
            if done.is_dir() and (n_done := len(list(done.iterdir()))) >= 3:
                victim = next(child for child in multiprocessing.active_children() if child not in others)
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(n_done)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=kill_one)
    thread.start()
    model.impute(longer, batch_size=BATCH, processes=2, out=out)
    thread.join()
    (n_done,) = killed
    assert n_done < n_stretches
    assert_same_bits(read(out), model.impute(longer, batch_size=BATCH, processes=1))


def test_a_worker_without_the_folder_says_so(tmp_path):
    stretch = imputation.Stretch(None, (), 0, 0, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="What is written must lie where all workers see it by the same path"):
        stretch()


def test_processes_are_started_where_it_is_worth_it_and_there_is_room(model, monkeypatch):
    plan = partial(model.plan_imputation, None, None, None, None, 0.95)
    monkeypatch.setattr(_workers, "n_cores", lambda: 5)
    monkeypatch.setattr(_workers, "free_memory", lambda: 2**40)
    assert plan().workers.are_here
    monkeypatch.setattr(imputation, "_LARGE", 280 * 12)
    assert plan().workers.processes == 5
    monkeypatch.setattr(_workers, "free_memory", lambda: 3 * imputation._MEMORY)
    assert plan().workers.processes == 3
    assert plan(processes=2).workers.processes == 2
    with ThreadPoolExecutor() as threads:
        assert not plan(executor=threads).workers.are_here


def test_a_shard_needs_a_file(model):
    with pytest.raises(ValueError, match="name the file with out"):
        model.impute(shard=(1, 2))


def test_the_bar_counts_regions_over_all_workers_and_begins_with_what_is_done(impute, executor, tmp_path, monkeypatch):
    bars = []
    bar = imputation.progress_bar

    def noted(text, total, unit, *, done, shown):
        bars.append([total, unit, done])
        return bar(text, total, unit, done=done, shown=shown)

    monkeypatch.setattr(imputation, "progress_bar", noted)
    impute(out=tmp_path / "out.zarr", shard=(2, 3))
    impute(out=tmp_path / "out.zarr", executor=executor)
    assert bars == [[96, "regions", 0], [280, "regions", 96]]
