"""ChromImpute beside chipvi: its input from an AnnData, the commands to run, and its output as an AnnData to score.

    python benchmarks/chromimpute.py write data.h5ad work/ --layer signal
    sh work/run.sh ChromImpute.jar
    python benchmarks/chromimpute.py read data.h5ad work/ -o chromimpute.h5ad
    chipvi score chromimpute.h5ad data.h5ad --signal-layer signal

ChromImpute (Ernst and Kellis 2015, Nature Biotechnology 33:364) is not part of chipvi, and needs Java. Regions must be
bins of one width that begin at 0. What is measured goes out as it is stored, in ChromImpute's own converted form; a
track without any data is imputed and never looked at. For a track that was measured ChromImpute learns from the other
samples, and does not see the track itself.
"""

from __future__ import annotations

import argparse
import gzip
import shlex
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

_STEPS = """\
#!/bin/sh
# Run ChromImpute on all tracks: sh run.sh ChromImpute.jar
set -eu
impute="java -mx4000M -jar $(realpath "$1")"
cd {folder}
mkdir -p distance traindata predictors imputed
$impute ComputeGlobalDist -r {width} converted tracks.txt chromosomes.txt distance
"""
_MARK = "$impute GenerateTrainData -r {width} converted distance tracks.txt chromosomes.txt traindata {mark}\n"
_TRACK = """\
$impute Train traindata tracks.txt predictors {sample} {mark}
$impute Apply -r {width} converted distance predictors tracks.txt chromosomes.txt imputed {sample} {mark}
"""


def values_of(adata: anndata.AnnData, layer: str | None) -> np.ndarray:
    """What was measured, regions x tracks; NaN where missing."""
    matrix = adata.X if layer is None else adata.layers[layer]
    values_rt = np.array(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)
    if "observed" in adata.layers and layer != "signal":
        values_rt[np.asarray(adata.layers["observed"]) == 0] = np.nan
    return values_rt


def bin_width(obs: pd.DataFrame) -> int:
    """Width of the bins, which must follow each other from the start of each chromosome."""
    width = int(obs["end"].iloc[0] - obs["start"].iloc[0])
    number_r = obs.groupby("chrom", observed=True, sort=False).cumcount()
    if (obs["start"] != number_r * width).any():
        raise SystemExit(f"regions must be bins of {width} bp, one after the other from the start of each chromosome")
    return width


def write(adata: anndata.AnnData, layer: str | None, folder: Path) -> None:
    """Write tracks, tables and commands."""
    values_rt, width, chroms = values_of(adata, layer), bin_width(adata.obs), adata.obs["chrom"].astype(str)
    (folder / "converted").mkdir(parents=True, exist_ok=True)
    is_there_t = np.isfinite(values_rt).any(axis=0)
    table = adata.var[["biosample", "assay"]].astype(str)
    table[is_there_t].assign(file=[f"{name}.signal" for name in table.index[is_there_t]]).to_csv(
        folder / "tracks.txt", sep="\t", header=False, index=False
    )
    ends = adata.obs.groupby(chroms, sort=False)["end"].max()
    ends.to_csv(folder / "chromosomes.txt", sep="\t", header=False)
    for t in np.flatnonzero(is_there_t):
        for chrom in ends.index:
            column_r = np.nan_to_num(values_rt[(chroms == chrom).to_numpy(), t])
            with gzip.open(folder / "converted" / f"{chrom}_{table.index[t]}.signal.wig.gz", "wt") as file:
                file.write(f"track type=wiggle_0 name={table.index[t]}\n")
                file.write(f"fixedStep chrom={chrom} start=1 step={width} span={width}\n")
                file.writelines(f"{value:.4g}\n" for value in column_r)
    script = _STEPS.format(folder=shlex.quote(str(folder.resolve())), width=width)
    script += "".join(_MARK.format(width=width, mark=shlex.quote(mark)) for mark in table["assay"].unique())
    for sample, mark in table.itertuples(index=False):
        script += _TRACK.format(width=width, sample=shlex.quote(sample), mark=shlex.quote(mark))
    (folder / "run.sh").write_text(script)


def read(adata: anndata.AnnData, folder: Path) -> anndata.AnnData:
    """What ChromImpute imputed, at the same regions and tracks; NaN where it wrote nothing."""
    imputed_rt = np.full(adata.shape, np.nan)
    chroms = adata.obs["chrom"].astype(str)
    for t, (sample, mark) in enumerate(adata.var[["biosample", "assay"]].astype(str).itertuples(index=False)):
        for chrom in chroms.unique():
            path = folder / "imputed" / f"{chrom}_impute_{sample}_{mark}.wig.gz"
            if path.is_file():
                rows = np.flatnonzero(chroms == chrom)
                values_r = pd.read_csv(path, skiprows=2, header=None)[0].to_numpy()
                imputed_rt[rows[: len(values_r)], t] = values_r[: len(rows)]
    if np.isnan(imputed_rt).all():
        raise SystemExit(f"nothing is imputed in {folder / 'imputed'}; run {folder / 'run.sh'} first")
    return anndata.AnnData(imputed_rt, obs=adata.obs[["chrom", "start", "end"]], var=adata.var)


def main() -> int:
    """Write or read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["write", "read"])
    parser.add_argument("data", type=Path, help="regions x tracks, .h5ad")
    parser.add_argument("folder", type=Path, help="for ChromImpute's files")
    parser.add_argument("--layer", help="what to write; without it, X")
    parser.add_argument("-o", "--out", type=Path, default=Path("chromimpute.h5ad"))
    options = parser.parse_args()
    adata = anndata.read_h5ad(options.data)
    if options.step == "write":
        write(adata, options.layer, options.folder)
        print(f"Wrote: {options.folder}. Next: sh {options.folder / 'run.sh'} ChromImpute.jar")
    else:
        read(adata, options.folder).write_h5ad(options.out)
        print(f"Wrote: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
