"""Time and memory for a million regions: set-up, one epoch of training, imputation of everything to a file.

The data are simulated by another process and written to a temporary folder, so that the peak of the process that
measures holds nothing of the simulator: its own libraries, the data (dense float32 in memory) and what chipvi adds.

    python benchmarks/scale.py [--regions 100000]

Exits with 1 if the peak memory is above four times the counts in float32 plus 1 GB.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLOAT32_BYTES = 4
COPIES, CONSTANT_BYTES = 4, 1e9


def simulate(path: Path, n_regions: int, n_biosamples: int, n_assays: int) -> None:
    """Write counts and what belongs to them; the true rates would only take up memory."""
    import chipvi

    adata = chipvi.datasets.simulate(n_regions, n_biosamples, n_assays, n_chromosomes=20)
    for name in list(adata.layers):
        del adata.layers[name]
    del adata.obsm["state"]
    adata.write_h5ad(path)


def peak_bytes() -> int:
    """Largest memory this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def measured(name: str, n_regions: int) -> Iterator[None]:
    print(f"  {name:<24}", end="", flush=True)
    start, cpu_start = time.perf_counter(), time.process_time()
    yield
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    rate, peak = n_regions / seconds, peak_bytes()
    print(f"{seconds:10.1f} s {cpu_seconds:10.1f} s CPU {rate:12,.0f} rows/s {peak / 1e9:8.2f} GB peak", flush=True)


def measure(path: Path, out: Path, threads: int) -> int:
    """Go through the steps; the peak in bytes."""
    import anndata
    import torch

    import chipvi

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(threads)
    adata = anndata.read_h5ad(path)
    n = adata.n_obs
    print(f"  {'libraries and data':<24}{'':>54}{peak_bytes() / 1e9:8.2f} GB peak", flush=True)
    with measured("set-up", n):
        chipvi.ChipVI.setup_anndata(adata, depth_key="depth", control_key="is_control")
        model = chipvi.ChipVI(adata)
    with measured("one epoch", n):
        model.train(max_epochs=1, seed=0, accelerator="cpu", enable_progress_bar=False)
    with measured("imputation to a file", n):
        model.impute(out=out)
    print(f"  {'file written':<24}{out.stat().st_size / 1e9:10.2f} GB")
    return peak_bytes()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=1_000_000)
    parser.add_argument("--biosamples", type=int, default=3)
    parser.add_argument("--assays", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    n_tracks = arguments.biosamples * arguments.assays
    counts_bytes = FLOAT32_BYTES * arguments.regions * n_tracks
    most_bytes = COPIES * counts_bytes + CONSTANT_BYTES
    print(
        f"{arguments.regions:,} regions x {n_tracks} tracks, {counts_bytes / 1e6:.0f} MB as float32, "
        f"{arguments.threads} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "counts.h5ad", Path(folder) / "imputed.h5ad"
        start = time.perf_counter()
        size = (arguments.regions, arguments.biosamples, arguments.assays)
        simulator = multiprocessing.get_context("spawn").Process(target=simulate, args=(path, *size))
        simulator.start()
        simulator.join()
        if simulator.exitcode:
            print("the simulation failed.")
            return 1
        print(f"  {'simulated':<24}{time.perf_counter() - start:10.1f} s", flush=True)
        peak = measure(path, out, arguments.threads)
    is_small = peak <= most_bytes
    print(f"\n{'ok' if is_small else 'TOO MUCH'}: peak {peak / 1e9:.2f} GB, at most {most_bytes / 1e9:.2f} GB")
    return 0 if is_small else 1


if __name__ == "__main__":
    sys.exit(main())
