"""Shards in processes of their own, at the same time, of which one is killed and run again."""

import os
import signal
import time
from pathlib import Path

import anndata
import numpy as np
import pytest

COUNT = ("count", "{in}/sheet.csv", "--genome", "{in}/chrom.sizes", "--bin", 40, "-o", "out.zarr")
IMPUTE = ("impute", "{in}/model", "-o", "out.zarr", "--depth", 30_000)
BIGWIG = ("impute", "{in}/model", "--bigwig", "out", "--depth", 30_000)
N_SHARDS = 3


def read(out: Path) -> dict[str, np.ndarray | bytes]:
    """What a command wrote: matrices by name, or files."""
    if out.suffix != ".zarr":
        return {path.name: path.read_bytes() for path in out.iterdir()}
    adata = anndata.read_zarr(out)
    matrices = {"X": adata.X, **adata.layers}
    return {name: x.toarray() if hasattr(x, "toarray") else np.asarray(x) for name, x in matrices.items()}


@pytest.mark.parametrize("argv", [COUNT, IMPUTE, BIGWIG], ids=["count", "impute", "impute --bigwig"])
def test_shards_of_which_one_is_killed_and_run_again_give_what_one_command_gives(forks, inputs, tmp_path, argv):
    argv = [str(one).replace("{in}", str(inputs)) for one in argv]
    out = "out" if "--bigwig" in argv else "out.zarr"
    alone = tmp_path / "alone"
    alone.mkdir()
    assert forks.run(alone, *argv).status == 0
    work = tmp_path / "work"
    work.mkdir()
    folders = [tmp_path / f"shard {part}" for part in range(1, N_SHARDS + 1)]
    for folder in folders:
        folder.mkdir()
        (folder / "work").symlink_to(work)
    pids = [forks.start(folder, *argv, "--shard", f"{folder.name[-1]}/{N_SHARDS}") for folder in folders]
    unfinished = work / f".{out}.unfinished"
    stop = time.monotonic() + 60
    while not (list(unfinished.glob("done/*")) or list(unfinished.glob("*.npz"))):
        assert time.monotonic() < stop
        time.sleep(0.001)
    os.kill(pids[1], signal.SIGKILL)
    ended = [forks.wait(pid, folder) for pid, folder in zip(pids, folders, strict=True)]
    assert [one.status for one in ended if one is not ended[1]] == [0, 0], ended
    assert f"Shard 1/3 of {out} is done." in ended[0].stdout
    assert ended[1].status in (0, -signal.SIGKILL)
    assert not (work / out).exists()
    assert forks.run(folders[1], *argv, "--shard", f"2/{N_SHARDS}").status == 0
    assert forks.run(tmp_path, *argv).status == 0
    found, expected = read(work / out), read(alone / "work" / out)
    assert found.keys() == expected.keys() and len(found) >= 2
    for name, values in expected.items():
        if isinstance(values, bytes):
            assert found[name] == values
        else:
            np.testing.assert_array_equal(found[name], values)
    assert [path.name for path in work.iterdir()] == [out]
