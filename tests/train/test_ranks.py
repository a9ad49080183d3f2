"""Several processes train as one, with gloo on this machine; rank.py is what each of them does."""

from __future__ import annotations

import os
import pickle
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed

from chipvi.data.loader import BLOCK, RegionLoader
from chipvi.data.minibatch import take_regions
from chipvi.train import masking, ranks
from chipvi.train.masking import apply_task
from chipvi.train.ranks import Ranks, find_ranks

RANK = Path(__file__).with_name("rank.py")
SECONDS = 240  # on a busy machine; a hang would be one of half an hour
together = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="PyTorch without gloo"
)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def environment(**more):
    """That of this process, with one thread, and on this machine alone."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "PYTEST_"))}
    source = str(Path(sys.modules["chipvi"].__file__).parents[1])
    paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    local = {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"}
    return plain | local | {"MASTER_PORT": str(free_port())} | more


def start(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, str(RANK), *map(str, arguments)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Exit status, and what it wrote to standard error."""
    try:
        _, text = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, text


def run_both(folder, task, *, by):
    """What two processes made, by rank, started one by one as `by` starts them."""
    port = str(free_port())
    starters = {
        "srun": lambda r: {
            "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "train",
            "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1", "SLURM_PROCID": str(r), "SLURM_LOCALID": str(r),
        },
        "torchrun": lambda r: {
            "TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": str(r), "LOCAL_RANK": str(r), "GROUP_RANK": "0",
        },
    }  # fmt: skip
    processes = [start(folder, task, MASTER_PORT=port, **starters[by](rank)) for rank in range(2)]
    for status, text in [end(process) for process in processes]:
        assert status == 0, text
    return [pickle.loads((folder / f"{task}.{rank}").read_bytes()) for rank in range(2)]


# --- the regions of each rank ---


def test_ranks_share_the_regions_that_one_would_read_in_larger_minibatches(monkeypatch):
    read = []
    monkeypatch.setattr("chipvi.data.loader.take_regions", lambda data, rows, half_widths: read.append(rows))
    data, rows = SimpleNamespace(segments=SimpleNamespace(bin_width=None), in_memory=True), np.r_[5:700, 900:1_485]

    def read_by(rank, n_ranks, batch_size):
        read.clear()
        list(RegionLoader(data, rows, (0, 2), batch_size, 9, np.random.default_rng(4), rank, n_ranks))
        return list(read)

    by_rank, alone = [read_by(rank, 3, 2 * BLOCK) for rank in range(3)], read_by(0, 1, 6 * BLOCK)
    for step, expected in enumerate(alone):
        parts = [of_rank[step] for of_rank in by_rank]
        assert all(0 < len(part) <= 2 * BLOCK for part in parts)
        np.testing.assert_array_equal(np.unique(np.concatenate(parts)), expected)
    first_six = np.concatenate([part for of_rank in by_rank for part in of_rank[:6]])
    assert len(np.unique(first_six)) == len(first_six)  # a pass is 41 blocks, of which six steps read 36
    first_seven = np.concatenate([part for of_rank in by_rank for part in of_rank[:7]])
    np.testing.assert_array_equal(np.unique(first_seven), rows)


def test_seeds_of_ranks_differ_and_are_the_same_again():
    seeds = [[Ranks(rank, 4).seed(seed) for rank in range(4)] for seed in (0, 1, 2**63 - 1)]
    assert len({one for several in seeds for one in several}) == 12
    assert seeds == [[Ranks(rank, 4).seed(seed) for rank in range(4)] for seed in (0, 1, 2**63 - 1)]


# --- steps and trainings ---


@together
def test_the_averaged_gradient_is_that_of_one_process_on_both_halves(kit, tmp_path, monkeypatch):
    made = runpy.run_path(str(RANK))
    first, second = run_both(tmp_path, "gradients", by="srun")
    model = kit.model(made["uneven_data"](kit), dropout=0.0)
    data = model.data
    with torch.random.fork_rng():
        torch.manual_seed(1)  # that of kit.train
        module = model._make_module(data, np.arange(data.n_regions)).train()
    for owner, name in ((masking, "thin"), (torch, "randn")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back at the end
    made["remove_chance"]()
    plain_differs = []
    for step in range(made["STEPS"]):
        halves, (task, other) = ([one[of][step] for one in (first, second)] for of in ("rows", "tasks"))
        if np.intersect1d(*halves).size:
            continue  # a pass ends here, and each half may have the same regions from another one
        assert task.keep == other.keep and torch.equal(task.biosample_q, other.biosample_q)
        assert not torch.equal(task.hidden_rt[:30], other.hidden_rt[:30])
        rows = np.concatenate(halves)
        order = np.argsort(rows)
        hidden_rt = torch.cat([task.hidden_rt, other.hidden_rt])[torch.from_numpy(order)]
        minibatch = take_regions(data, rows[order], module.half_widths)
        both = apply_task(module, minibatch, type(task)(hidden_rt, task.keep, task.biosample_q, task.embedding_q), None)
        kl_weight = min(1.0, step / (0.3 * made["STEPS"]))
        expected = gradient(module, module(both, kl_weight=kl_weight)[2].loss)
        largest = max(float(value.abs().max()) for value in expected.values())
        for one in (first, second):
            found = one["gradients"][step]
            assert found.keys() == expected.keys()
            worst = max(float((found[name] - expected[name]).abs().max()) for name in expected)
            assert worst < 2e-5 * largest, step
        own = [
            module(apply_task(module, take_regions(data, half, module.half_widths), task, None), kl_weight=kl_weight)[2]
            for half, task in zip(halves, (task, other), strict=True)
        ]
        plain = gradient(module, (own[0].loss + own[1].loss) / 2)
        plain_differs.append(max(float((plain[name] - expected[name]).abs().max()) for name in expected) / largest)
    assert (
        len(plain_differs) > 8 and max(plain_differs) > 1e-3
    )  # that of two means, which a different number of entries would make wrong
    assert {task.keep < 1 for task in first["tasks"]} == {True, False}


def gradient(module, loss):
    names, parameters = zip(*module.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@together
def test_both_ranks_end_with_the_same_model_to_the_last_bit(tmp_path):
    first, second = run_both(tmp_path, "all", by="torchrun")
    assert first["state"].keys() == second["state"].keys()
    different = [n for n, v in first["state"].items() if v.tobytes() != second["state"][n].tobytes()]
    assert different == []
    assert first["advice"] == second["advice"]
    for name, table in first["history"].items():
        pd.testing.assert_frame_equal(table, second["history"][name], check_exact=True)
    losses = first["history"]["validation_loss"]["validation_loss"]
    assert losses.index[-1] < 59  # early stopping has stopped both
    assert len(losses) - 1 - losses.to_numpy().argmin() == 3  # after as many validations in vain
    logged = pd.read_csv(tmp_path / "log" / "metrics.csv")
    assert (logged.groupby("step").size() <= 2).all()  # written by one: a step is logged, and validated
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.0", "all.1", "log"]


@together
def test_two_devices_learn_what_one_learns_from_as_many_regions(kit, tmp_path):
    made = runpy.run_path(str(RANK))
    both, again = run_both(tmp_path, "scores", by="srun")
    alone = made["score_seeds"](kit, tmp_path, devices=1, batch_size=64)
    assert both == again
    assert min(*alone, *both) > 0.55  # after a single step it is below 0
    assert abs(np.mean(both) - np.mean(alone)) < 3 * np.std([*both, *alone], ddof=1)


@together
def test_a_rank_that_dies_ends_the_other_with_one_line_and_resume_goes_on(kit, tmp_path):
    counts = tmp_path / "counts.h5ad"
    kit.data(missing=[], signal=False).write_h5ad(counts)
    asked = ["--devices", 2, "--steps", 30, "--accelerator", "cpu"]
    status, text = end(start("train", counts, "-o", tmp_path / "model", *asked, DIE_AT="17"))
    errors = [line for line in text.splitlines() if "Error" in line]
    assert status == 1 and len(errors) == 1 and "Traceback" not in text, text
    assert errors[0].startswith("Error: another of the 2 processes that train together has ended")
    unfinished = tmp_path / ".model.unfinished" / "training.ckpt"
    assert unfinished.exists() and not (tmp_path / "model").exists()

    status, text = end(start("train", "--resume", "-o", tmp_path / "model", "--devices", 1))
    assert status == 2 and "the unfinished training has devices 2, not 1" in text
    copied = tmp_path / "copied.ckpt"
    copied.write_bytes(unfinished.read_bytes())
    model = kit.model(anndata.read_h5ad(counts), {name: kit.keys[name] for name in kit.keys if name != "signal_layer"})
    with pytest.raises(ValueError, match="its processes is 2, not 1"):
        kit.train(model, 30, batch_size=512, validation_size=0.0, seed=0, checkpoint=copied)

    for name, resume in (("model", ["--resume"]), ("in_one_go", [counts, *asked])):
        status, text = end(start("train", *resume, "-o", tmp_path / name))
        assert status == 0, text
    for file in ("model.safetensors", "history.csv"):
        assert (tmp_path / "model" / file).read_bytes() == (tmp_path / "in_one_go" / file).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied.ckpt", "counts.h5ad", "in_one_go", "model"]


# --- what is refused ---


def test_what_cannot_train_together_is_refused(kit, monkeypatch):
    model = kit.model(kit.data())
    with monkeypatch.context() as patch:
        patch.setattr(
            ranks, "_can_be_started_again", lambda: True
        )  # pytest's own workers are a text given to python -c
        with pytest.raises(ValueError, match="on 2 devices, name a seed"):
            kit.train(model, devices=2, seed=None)
    with pytest.raises(ValueError, match="several devices are trained on with strategy='ddp', not 'ddp_spawn'"):
        kit.train(model, devices=2, strategy="ddp_spawn")
    with pytest.raises(ValueError, match="refuses its arguments .*num_nodes=0"):
        kit.train(model, num_nodes=0)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(ValueError, match="must be a script or a module, not a notebook"):
        kit.train(model, devices=2)
    assert not model.is_trained_


def test_one_device_in_each_process_of_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="torchrun has started 4 processes, and one device is asked for"):
        find_ranks("cpu", "auto")
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert find_ranks("cpu", 2, num_nodes=2) == Ranks(3, 4)
    with pytest.raises(ValueError, match="does not match the world size"):
        find_ranks("cpu", 3, num_nodes=2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert find_ranks("cpu", "auto") == Ranks(0, 1)
