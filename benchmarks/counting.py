"""Counting of reads per bin by `chipvi.io.count_reads`, deepTools' multiBamSummary and bedtools multicov.

One simulated BAM, or a given one, is counted over the same bins by each program that is installed, with the rule that
all three know: a read counts in every bin that it touches. A row is a program: wall seconds (for chipvi without the
start of Python, which has a row of its own), their ratio to chipvi's, the largest memory of a process, and whether the
counts agree.

    python benchmarks/counting.py [--reads 2000000] [--bam FILE] [--chromosomes chr20,chr21,chr22] [--bin 200]

Programs are looked for on the PATH; `--programs FOLDER` names a further folder. Exits with 1 if counts differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import scipy.sparse as sp

from chipvi import io

READ_LENGTH = 50
FEW_BINS = 1_000  # for bedtools, whose time grows with the bins and not with the reads
PLACE = ["chrom", "start", "end"]


def simulate(path: Path, n_reads: int, sizes: pd.Series) -> None:
    """Write sorted single reads with bases: half of them evenly, half in peaks; one in twenty is a duplicate."""
    rng = np.random.default_rng(0)
    header = pysam.AlignmentHeader.from_references(list(sizes.index), sizes.tolist())
    bases = ["".join(rng.choice(list("ACGT"), READ_LENGTH)) for _ in range(1_000)]
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for contig, (length, number) in enumerate(
            zip(sizes, np.round(n_reads * sizes / sizes.sum()).astype(int), strict=True)
        ):
            peaks = rng.integers(0, length, max(1, length // 50_000))
            in_peaks = rng.choice(peaks, number // 2) + rng.normal(0, 300, number // 2).astype(int)
            starts = np.r_[in_peaks, rng.integers(0, length, number - number // 2)]
            starts = np.sort(np.clip(starts, 0, length - READ_LENGTH))
            flags = np.where(rng.random(number) < 0.5, 16, 0) + np.where(rng.random(number) < 0.05, 1_024, 0)
            for row, (start, flag) in enumerate(zip(starts.tolist(), flags.tolist(), strict=True)):
                read = pysam.AlignedSegment(header)
                read.query_name, read.flag, read.reference_id, read.reference_start = f"r{row}", flag, contig, start
                read.mapping_quality, read.cigarstring = 40, f"{READ_LENGTH}M"
                read.query_sequence = bases[row % len(bases)]
                read.query_qualities_str = "I" * READ_LENGTH
                file.write(read)
    pysam.index(str(path))


def count_here(bam: Path, bins: Path, out: Path) -> None:
    """What the process that is timed for chipvi does."""
    regions = pd.read_csv(bins, sep="\t", header=None, names=PLACE, dtype={"chrom": "category"})
    start = time.perf_counter()
    adata = io.count_reads(bam, regions, rule="overlap", duplicates=True, progress=False)
    seconds = time.perf_counter() - start
    counts = adata.X.toarray() if sp.issparse(adata.X) else adata.X
    np.save(out, counts[:, 0])
    out.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "reads": int(adata.var["n_records"].iloc[0])}))


def run(command: Sequence[str | Path], out: Path | None = None) -> tuple[float, float]:
    """Wall seconds, and the largest memory in MB of the command's processes, each for itself."""
    with open(out or os.devnull, "w") as file:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {told[-500:]}")
    return time.perf_counter() - start, usage.ru_maxrss / 1_000


def find(program: str, folder: Path | None) -> str | None:
    found = shutil.which(program) or (folder and shutil.which(program, path=str(folder)))
    if not found:
        print(f"{program}: not installed, left out")
    return found or None


def read_deeptools(path: Path) -> pd.DataFrame:
    """Its bins, which leave the grid of the width after some megabases, and its counts."""
    table = pd.read_csv(path, sep="\t", skiprows=1, header=None, names=[*PLACE, "count"])
    return table.sort_values(PLACE[:2], ignore_index=True)


def count_in(bam: Path, regions: pd.DataFrame) -> np.ndarray:
    adata = io.count_reads(bam, regions[PLACE], rule="overlap", duplicates=True, progress=False)
    return adata.X.toarray()[:, 0] if sp.issparse(adata.X) else adata.X[:, 0]


def compare(bam: Path, bins: pd.DataFrame, width: int, folder: Path, programs: Path | None) -> bool:
    bed = folder / "bins.bed"
    bins.to_csv(bed, sep="\t", header=False, index=False)
    ours = folder / "chipvi.npy"
    seconds, memory = run([sys.executable, __file__, "--count", bam, bed, ours])
    counts = np.load(ours)
    told = json.loads(ours.with_suffix(".json").read_text())
    rate = told["reads"] / told["seconds"]
    print(f"\n{told['reads']:,} reads, {len(bins):,} bins of {width} bp, one process each")
    print(f"{'':>18} {'seconds':>9} {'ratio':>7} {'memory/MB':>10}  counts")
    print(f"{'chipvi':>18} {told['seconds']:9.1f} {1:7.2f} {memory:10,.0f}  {rate:,.0f} reads/s")
    print(f"{'with its start':>18} {seconds:9.1f} {seconds / told['seconds']:7.2f}")
    agree = True
    if program := find("multiBamSummary", programs):
        table = folder / "deeptools.tab"
        options = ["-bs", width, "-p", 1, "--outRawCounts", table, "-o", folder / "deeptools.npz"]
        wall, memory = run([program, "bins", "-b", bam, *map(str, options)])
        theirs = read_deeptools(table)
        agree &= report("multiBamSummary", wall, told["seconds"], memory, count_in(bam, theirs), theirs["count"])
    if program := find("bedtools", programs):
        table, few = folder / "bedtools.tab", np.linspace(0, len(bins) - 1, FEW_BINS).astype(int)
        bins.iloc[few].to_csv(bed, sep="\t", header=False, index=False)
        wall, memory = run([program, "multicov", "-D", "-bams", bam, "-bed", bed], table)
        theirs = pd.read_csv(table, sep="\t", header=None, usecols=[3])[3].to_numpy()
        agree &= report("bedtools multicov", wall, told["seconds"], memory, counts[few], theirs)
        print(f"(it looks every bin up in the index, so it was given only {FEW_BINS:,} of them)")
    return agree


def report(
    name: str, wall: float, ours: float, memory: float, counts: np.ndarray, theirs: np.ndarray | pd.Series
) -> bool:
    n_other = int((counts != np.asarray(theirs)).sum())
    verdict = "the same" if not n_other else f"{n_other:,} of {len(counts):,} bins differ"
    print(f"{name:>18} {wall:9.1f} {wall / ours:7.2f} {memory:10,.0f}  {verdict}")
    return not n_other


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bam", type=Path, help="count this indexed file, not a simulated one")
    parser.add_argument("--reads", type=int, default=2_000_000)
    parser.add_argument("--genome", default="hg38")
    parser.add_argument("--chromosomes", default="chr20,chr21,chr22")
    parser.add_argument("--bin", type=int, default=200)
    parser.add_argument("--programs", type=Path, help="folder with multiBamSummary or bedtools")
    parser.add_argument("--count", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        count_here(*options.count)
        return 0
    bins = io.make_bins(options.genome, options.bin, options.chromosomes or None)
    with tempfile.TemporaryDirectory() as folder:
        bam = options.bam
        if bam is None:
            bam = Path(folder, "simulated.bam")
            simulate(bam, options.reads, io.chrom_sizes(options.genome)[list(bins["chrom"].cat.categories)])
            print(f"simulated {bam.stat().st_size / 1e6:,.0f} MB of BAM")
        return 0 if compare(bam, bins, options.bin, Path(folder), options.programs) else 1


if __name__ == "__main__":
    sys.exit(main())
