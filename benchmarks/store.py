"""Memory and speed with a store that is larger than memory: count, train, impute, each in a process of its own.

A store of 15.4 million regions (hg38 in bins of 200 bp) x 100 tracks is written in pieces, with counts that are drawn
once and then shuffled, for their size matters here and their meaning does not. Every step reports the peak memory of
its whole process, libraries included.

    python benchmarks/store.py FOLDER [--regions 15400000] [--tracks 100] [--fine 123000000]

Needs some gigabytes in FOLDER, which is made and, but for what was there before, removed. Exits with 1 if a step takes
more than 3 GB, or 4 GB for the fine store.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import multiprocessing
import resource
import shutil
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SIZES = [248, 242, 198, 190, 181, 170, 159, 145, 138, 133, 135, 133, 114, 107, 101, 90, 83, 80, 58, 64, 46, 50, 156, 57]
NAMES = [*(f"chr{number}" for number in range(1, 23)), "chrX", "chrY"]
MOST_GB = 3.0
MOST_GB_FINE = 4.0
BATCH = 512


def peak_gb() -> float:
    """Largest memory this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e9


def places(n_regions: int, bin_size: int) -> pd.DataFrame:
    """Bins of chromosomes whose lengths are in the ratios of those of hg38."""
    number = np.floor(np.array(SIZES) / sum(SIZES) * n_regions).astype(np.int64)
    first = np.repeat(np.cumsum(number) - number, number)
    start = ((np.arange(number.sum()) - first) * bin_size).astype(np.int32)
    chrom = pd.Categorical.from_codes(np.repeat(np.arange(len(NAMES), dtype=np.int8), number), categories=NAMES)
    return pd.DataFrame({"chrom": chrom, "start": start, "end": start + np.int32(bin_size)})


def tracks(n_tracks: int) -> pd.DataFrame:
    """All cells of a grid of 10 assays."""
    var = pd.DataFrame(
        {
            "biosample": [f"cell{number // 10}" for number in range(n_tracks)],
            "assay": [f"assay{number % 10}" for number in range(n_tracks)],
            "depth": 2e7,
        }
    )
    return var.set_axis(var["biosample"] + "." + var["assay"])


def draw(n_regions: int, n_tracks: int) -> np.ndarray:
    """Counts with peaks that tracks share, smooth along the regions, uint8."""
    random = np.random.default_rng(0)
    state = np.repeat(random.gamma(0.2, 5.0, (-(-n_regions // 8), 10)), 8, axis=0)[:n_regions]
    found = np.empty((n_regions, n_tracks), dtype=np.uint8)
    for t in range(n_tracks):
        found[:, t] = np.minimum(random.poisson(0.4 + state[:, t % 10] * random.gamma(4.0, 0.25)), 255)
    return found


def write(path: Path, n_regions: int, n_tracks: int, bin_size: int) -> None:
    """Write a store some regions at a time."""
    from chipvi.io.reading import STRETCH
    from chipvi.io.stores import finish, new_store, write_matrix

    obs = places(n_regions, bin_size)
    group, random = new_store(path, obs), np.random.default_rng(1)
    pool = draw(STRETCH, n_tracks)
    lengths = (min(STRETCH, len(obs) - start) for start in range(0, len(obs), STRETCH))
    stretches = (np.roll(pool, int(random.integers(STRETCH)), axis=0)[:length] for length in lengths)
    write_matrix(group, "X", (len(obs), n_tracks), np.uint8, 0, stretches)
    finish(group, tracks(n_tracks), {})


def quiet() -> None:
    warnings.filterwarnings("ignore")
    import torch

    import chipvi.model  # noqa: F401 - with Lightning, which sets its level

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    torch.set_num_threads(1)


def count(folder: Path, n_regions: int, n_files: int) -> dict[str, Any]:
    """Count files of reads into a store of the whole genome."""
    from chipvi.io import count_sheet

    obs, random = places(n_regions, 200), np.random.default_rng(2)
    ends = obs.groupby("chrom", observed=True)["end"].max()
    pd.Series(ends).to_csv(folder / "genome.sizes", sep="\t", header=False)
    names = ends.index.to_numpy()
    rows = []
    for number in range(n_files):
        chrom = random.integers(0, len(names), 200_000)
        start = (random.random(len(chrom)) * (ends.to_numpy()[chrom] - 50)).astype(int)
        lines = "".join(f"{names[c]}\t{s}\t{s + 36}\t.\t0\t+\n" for c, s in zip(chrom, start, strict=True))
        with gzip.open(folder / f"reads{number}.bed.gz", "wt", compresslevel=1) as file:
            file.write(lines)
        rows.append((f"cell{number // 10}", f"assay{number % 10}", f"reads{number}.bed.gz"))
    del obs
    pd.DataFrame(rows, columns=["biosample", "assay", "file"]).to_csv(folder / "sheet.csv", index=False)
    start = time.perf_counter()
    out = folder / "counted.zarr"
    adata = count_sheet(
        folder / "sheet.csv", genome=folder / "genome.sizes", bin_size=200, processes=1, progress=False, out=out
    )
    found = {"regions": adata.n_obs, "tracks": adata.n_vars, "seconds": time.perf_counter() - start}
    shutil.rmtree(out)
    return found


def train(path: Path, n_steps: int, model_folder: Path | None) -> dict[str, Any]:
    """Open, set up and train on a store, without what follows training."""
    import chipvi
    from chipvi.io.inputs import open_anndata

    quiet()
    start = time.perf_counter()
    adata = open_anndata(path)
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth")
    model = chipvi.ChipVI(adata)
    set_up, peak = time.perf_counter(), peak_gb()
    model.train(
        max_steps=n_steps,
        batch_size=BATCH,
        seed=0,
        accelerator="cpu",
        enable_progress_bar=False,
        calibrate_unseen=False,
        boosted_trees=False,
    )
    trained = time.perf_counter()
    if model_folder is not None:
        model.save(model_folder)
    return {"set-up s": set_up - start, "set-up GB": peak, "steps": n_steps, "training s": trained - set_up}


def impute(path: Path, model_folder: Path, out: Path, n_targets: int) -> dict[str, Any]:
    """Impute some tracks of one chromosome, to a store."""
    import chipvi
    from chipvi.io.inputs import open_anndata

    quiet()
    start = time.perf_counter()
    adata = open_anndata(path)
    model = chipvi.ChipVI.load(model_folder, adata, accelerator="cpu")
    rows = np.flatnonzero((adata.obs["chrom"] == "chr21").to_numpy())
    opened = time.perf_counter()
    model.impute(indices=rows, tracks=list(adata.var_names[:n_targets]), out=out, processes=1)
    seconds = time.perf_counter() - opened
    shutil.rmtree(out)
    return {"open s": opened - start, "regions": len(rows), "targets": n_targets, "seconds": seconds}


class Enough(Exception):
    """Ends a training that has been timed."""


def timer(n_steps: int, times: list[tuple[float, float]]) -> Any:
    """A callback that notes wall and processor time of the steps after the first ten, and then ends training."""
    import lightning.pytorch as pl

    class Timer(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step in (10, n_steps):
                times.append((time.perf_counter(), time.process_time()))
            if trainer.global_step == n_steps:
                raise Enough

    return Timer()


def compare(path: Path, n_steps: int) -> dict[str, Any]:
    """Steps of a store, lazily and in memory, in turns; what comes before and after them is left out."""
    import chipvi
    from chipvi.io import inputs

    quiet()
    models, seconds = {}, {}
    for name, limit in (("lazily", 0), ("in memory", 2**40)):
        inputs._IN_MEMORY = limit
        adata = inputs.open_anndata(path)
        chipvi.ChipVI.setup_anndata(adata, depth_key="depth")
        models[name], seconds[name] = chipvi.ChipVI(adata), []
    for _ in range(3):
        for name, model in models.items():
            times: list[tuple[float, float]] = []
            with suppress(Enough):
                model.train(
                    max_steps=2 * n_steps,
                    batch_size=BATCH,
                    seed=0,
                    accelerator="cpu",
                    enable_progress_bar=False,
                    callbacks=[timer(n_steps, times)],
                )
            seconds[name].append(np.diff(times, axis=0)[0] / (n_steps - 10))
    wall, cpu = np.median(np.array(seconds["in memory"]) / np.array(seconds["lazily"]), axis=0)
    steps = {f"{name}, s/step": [[round(float(one), 3) for one in pair] for pair in seconds[name]] for name in models}
    return steps | {"ratio": float(wall), "CPU ratio": float(cpu)}


def _report(queue: Any, call: Any, arguments: tuple[Any, ...]) -> None:
    try:
        queue.put((call(*arguments) or {}) | {"peak GB": peak_gb()})
    except BaseException as error:
        queue.put({"error": repr(error), "peak GB": float("nan")})
        raise


def measured(name: str, call: Any, *arguments: Any) -> dict[str, Any]:
    """Do a step in a process of its own, and print what it found and its peak memory."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_report, args=(queue, call, arguments))
    start = time.perf_counter()
    process.start()
    found: dict[str, Any] = queue.get()
    process.join()
    found |= {"wall s": time.perf_counter() - start}
    shown = {key: round(value, 2) if isinstance(value, float) else value for key, value in found.items()}
    print(f"{name:<28}{json.dumps(shown)}", flush=True)
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--regions", type=int, default=15_400_000)
    parser.add_argument("--tracks", type=int, default=100)
    parser.add_argument("--fine", type=int, default=123_000_000, help="regions of the store of 25-bp bins; 0 for none")
    parser.add_argument("--files", type=int, default=10, help="files to count")
    parser.add_argument(
        "--steps", type=int, default=300, help="four times those of a turn, thrice those of the fine store"
    )
    parser.add_argument("--targets", type=int, default=4, help="tracks to impute on one chromosome")
    parser.add_argument("--part", type=int, default=1_000_000, help="regions to compare with memory on")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    folder: Path = arguments.folder
    folder.mkdir(parents=True)
    store, part, fine, model = (folder / name for name in ("store.zarr", "part.zarr", "fine.zarr", "model"))
    n, t = arguments.regions, arguments.tracks
    try:
        measured(f"write {n:,} x {t}", write, store, n, t, 200)
        steps = [
            measured("train a pass over a tenth", train, store, n // (10 * BATCH), model),
            measured("impute chr21", impute, store, model, folder / "imputed.zarr", arguments.targets),
            measured(f"count {arguments.files} files", count, folder, n, arguments.files),
        ]
        measured(f"write {arguments.part:,} x {t}", write, part, arguments.part, t, 200)
        measured("lazily and in memory", compare, part, arguments.steps // 4)
        is_small = max(step["peak GB"] for step in steps) <= MOST_GB
        if arguments.fine:
            shutil.rmtree(store)
            measured(f"write {arguments.fine:,} x 10", write, fine, arguments.fine, 10, 25)
            is_small &= measured("train on it", train, fine, arguments.steps // 3, None)["peak GB"] <= MOST_GB_FINE
    finally:
        shutil.rmtree(folder)
    print("ok" if is_small else "TOO MUCH")
    return 0 if is_small else 1


if __name__ == "__main__":
    sys.exit(main())
