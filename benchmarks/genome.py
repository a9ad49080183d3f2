"""From BAM files to bigWig files with the five commands that a user has, timed, and the results held against the truth.

Three chromosomes of 18 simulated tracks (3 cell types x 6 assays, bins of 200 bp) stand for a genome: each stage is a
process of its own, whose wall and CPU seconds and largest memory, with its workers, are kept in FOLDER/figures.json as
it ends. Stopped, the same command goes on where it was. At the end there is a table, with what 15.4 million bins, hg38,
would take at the same rates.

    python benchmarks/genome.py FOLDER [--regions 120000] [--steps 3000]

The stages: simulate (BAM files of the counts), count, train (one pass over the regions), impute, write (bigWig files),
score (R2 of the true rates, beside Gaussian smoothing and the average of the other cell types), and share-1 to
share-100: R2 on the last chromosome of a model that learnt from so many per cent of the others, in equal steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import psutil
import pysam

import chipvi
from chipvi.metrics import gaussian_smoothing, leave_one_out_average, r2
from chipvi.train.runner import default_batch_size

BIN, READ_LENGTH = 200, 36
GENOME = 15_400_000  # bins of 200 bp in hg38
N_BIOSAMPLES, N_ASSAYS, N_CHROMOSOMES = 3, 6, 3
SHARES, STRETCH = (1, 3, 10, 30, 100), 200  # per cent, in stretches of so many regions
WIDTHS = (0.5, 1, 2, 4)  # of Gaussians, in bins


def write_bam(path: Path, counts_r: np.ndarray, obs: pd.DataFrame, sizes: pd.Series) -> None:
    """Write reads that begin at random in their bin, sorted; half are on the minus strand, and begin at their end."""
    random = np.random.default_rng(0)
    header = pysam.AlignmentHeader.from_references(list(sizes.index), sizes.tolist())
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for contig, name in enumerate(sizes.index):
            rows = np.flatnonzero(obs["chrom"].to_numpy() == name)
            five_prime = np.repeat(obs["start"].to_numpy()[rows], counts_r[rows].astype(int))
            five_prime = five_prime + random.integers(0, BIN, len(five_prime))
            is_minus = (random.random(len(five_prime)) < 0.5) | (five_prime > sizes[name] - READ_LENGTH)
            is_minus &= five_prime >= READ_LENGTH
            starts = np.where(is_minus, five_prime - READ_LENGTH + 1, five_prime)
            order = np.argsort(starts, kind="stable")
            for start, minus in zip(starts[order].tolist(), is_minus[order].tolist(), strict=True):
                read = pysam.AlignedSegment(header)
                read.query_name, read.flag, read.reference_id, read.reference_start = "r", 16 * minus, contig, start
                read.mapping_quality, read.cigarstring = 40, f"{READ_LENGTH}M"
                file.write(read)
    pysam.index(str(path))


def simulate(folder: Path, n_regions: int) -> None:
    """Write a BAM file of each track, a sample sheet, sizes of chromosomes, and the truth."""
    adata = chipvi.datasets.simulate(n_regions, N_BIOSAMPLES, N_ASSAYS, n_chromosomes=N_CHROMOSOMES)
    sizes = adata.obs.groupby("chrom", observed=True, sort=False)["end"].max()
    sizes.to_csv(folder / "sizes.tsv", sep="\t", header=False)
    np.savez(folder / "truth.npz", counts=adata.X, rate=adata.layers["rate"])
    (folder / "reads").mkdir(exist_ok=True)
    for t, name in enumerate(adata.var_names):
        write_bam(folder / "reads" / f"{name}.bam", np.asarray(adata.X[:, t]), adata.obs, sizes)
    sheet = adata.var[["biosample", "assay"]].assign(file=[f"reads/{name}.bam" for name in adata.var_names])
    sheet.to_csv(folder / "sheet.csv", index=False)


def write(folder: Path) -> None:
    """Write bigWig files of all that was imputed."""
    genome = folder / "sizes.tsv"
    chipvi.io.write_tracks(folder / "imputed.h5ad", folder / "tracks", genome=genome, progress=False)


def score(folder: Path) -> dict[str, float]:
    """R2 of the true rates, mean over tracks."""
    counted, result = (anndata.read_h5ad(folder / f"{name}.h5ad") for name in ("counts", "imputed"))
    with np.load(folder / "truth.npz") as truth:
        counts, rate = truth["counts"], truth["rate"]
    measured = np.asarray(counted.X.toarray() if hasattr(counted.X, "toarray") else counted.X, dtype=np.float64)
    if not np.array_equal(measured, counts):
        raise ValueError("the counts of the BAM files are not those that were simulated.")
    chrom = counted.obs["chrom"].to_numpy()
    offsets = np.flatnonzero(np.r_[True, chrom[1:] != chrom[:-1], True])
    smoothed = [r2(rate, gaussian_smoothing(measured, offsets, width)) for width in WIDTHS]
    depth_t = measured.sum(axis=0)
    labels = counted.var["biosample"], counted.var["assay"]
    average = depth_t * leave_one_out_average(measured / depth_t, np.isfinite(measured), *labels)
    return {
        "imputed": float(np.mean(r2(rate, result.X))),
        "average of the others": float(np.mean(r2(rate, average))),
        "denoised": float(np.mean(r2(rate, result.layers["denoised"]))),
        "best Gaussian, by the truth": float(np.mean(np.max(smoothed, axis=0))),
        "raw counts": float(np.mean(r2(rate, measured))),
    }


def learn_share(folder: Path, share: int, n_steps: int) -> dict[str, float]:
    """R2 on the last chromosome after training on a share of the others, in stretches from end to end."""
    adata = anndata.read_h5ad(folder / "counts.h5ad")
    with np.load(folder / "truth.npz") as truth:
        rate = truth["rate"]
    is_test_r = (adata.obs["chrom"] == adata.obs["chrom"].iloc[-1]).to_numpy()
    stretch_r = np.arange(adata.n_obs) // STRETCH
    order = np.random.default_rng(0).permutation(stretch_r[~is_test_r].max() + 1)
    n_learnt = max(1, round(share / 100 * len(order)))
    is_train_r = ~is_test_r & np.isin(stretch_r, order[:n_learnt])
    adata.obs["split"] = np.select([is_test_r, is_train_r], ["test", "train"], "none")
    learnt = adata[is_test_r | is_train_r].copy()
    chipvi.ChipVI.setup_anndata(learnt, depth_key="depth")
    model = chipvi.ChipVI(learnt)
    model.train(max_steps=n_steps, split_key="split", seed=0, accelerator="cpu", enable_progress_bar=False)
    test = (learnt.obs["split"] == "test").to_numpy()
    imputed, denoised = (
        predict(indices=test, return_numpy=True)
        for predict in (model.get_imputed_counts, model.get_normalized_expression)
    )
    found = {"imputed": np.mean(r2(rate[is_test_r], imputed)), "denoised": np.mean(r2(rate[is_test_r], denoised))}
    return {"regions": int(is_train_r.sum())} | {name: float(value) for name, value in found.items()}


def run(command: list[str], folder: Path) -> dict[str, float]:
    """Wall and CPU seconds, and the largest memory in GB, of a process and all that it starts, looked at in turns.

    What processes share counts for each of them.
    """
    start, cpu_of, peak = time.perf_counter(), {}, 0
    with open(folder / "log.txt", "a") as log:
        process = psutil.Popen(command, stdout=log, stderr=log, cwd=folder)
        while process.poll() is None:
            with suppress(psutil.Error):  # one that ended meanwhile
                every = [process, *process.children(recursive=True)]
                cpu_of |= {one.pid: sum(one.cpu_times()[:2]) for one in every}
                peak = max(peak, sum(one.memory_info().rss for one in every))
            time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}; see {folder / 'log.txt'}.")
    wall = time.perf_counter() - start
    return {"wall s": round(wall, 1), "CPU s": round(sum(cpu_of.values()), 1), "peak GB": round(peak / 1e9, 2)}


def main() -> None:
    """Do the stages that are not done, and print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--regions", type=int, default=120_000)
    parser.add_argument("--steps", type=int, default=3_000, help="of each training of the shares")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.stage is not None:
        warnings.filterwarnings("ignore", module="lightning")
        name, _, share = asked.stage.partition("-")
        stages: dict[str, Callable[[], dict[str, float] | None]] = {
            "simulate": lambda: simulate(folder, asked.regions),
            "write": lambda: write(folder),
            "score": lambda: score(folder),
            "share": lambda: learn_share(folder, int(share), asked.steps),
        }
        (folder / f"{asked.stage}.json").write_text(json.dumps(stages[name]() or {}))
        return
    folder.mkdir(parents=True, exist_ok=True)
    here = [sys.executable, str(Path(__file__).resolve()), str(folder), "--regions", str(asked.regions)]
    here += ["--steps", str(asked.steps), "--stage"]
    command = [sys.executable, "-m", "chipvi"]
    workers = ["--workers", str(asked.workers)]
    bins = ["--genome", "sizes.tsv", "--bin", str(BIN), "--chromosomes", "chr.*", "--rule", "five_prime"]
    n_tracks = N_BIOSAMPLES * N_ASSAYS
    one_pass = str(-(-asked.regions // default_batch_size(asked.regions, n_tracks)))
    commands = {
        "simulate": [*here, "simulate"],
        "count": [*command, "count", "sheet.csv", "-o", "counts.h5ad", *bins, *workers],
        "train": [*command, "train", "counts.h5ad", "-o", "model", "--steps", one_pass, "--accelerator", "cpu"],
        "impute": [*command, "impute", "model", "-o", "imputed.h5ad", "--accelerator", "cpu", *workers],
        "write": [*here, "write"],
        "score": [*here, "score"],
    } | {f"share-{share}": [*here, f"share-{share}"] for share in SHARES}
    kept = folder / "figures.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    for stage, words in commands.items():
        if stage not in figures:
            print(f"{stage} ...", flush=True)
            figures[stage] = run(words, folder)
            found = folder / f"{stage}.json"
            figures[stage] |= json.loads(found.read_text()) if found.exists() else {}
            kept.write_text(json.dumps(figures, indent=1))
    factor = GENOME / asked.regions
    table = pd.DataFrame(figures).T
    table["CPU h of hg38"] = table["CPU s"].where([not name.startswith("s") for name in table.index]) * factor / 3600
    print(f"{asked.regions:,} regions x {N_BIOSAMPLES * N_ASSAYS} tracks on {N_CHROMOSOMES} simulated chromosomes;")
    print(f"hg38 has {factor:,.0f} times as many bins.")
    print(table.round(3).to_string(na_rep=""))


if __name__ == "__main__":
    main()
