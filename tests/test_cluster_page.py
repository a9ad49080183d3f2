"""The scripts of docs/cluster.md run, with `sbatch` and, for imputing, `chipvi` itself replaced by scripts."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pytest

from chipvi import io

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "cluster.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.M | re.S)

# Runs the jobs of an array side by side, as Slurm does, or a command, and prints a number.
SBATCH = r"""#!/bin/bash
while [[ $1 == --* && $1 != --wrap ]]; do shift; done
if [[ $1 == --wrap ]]; then bash -c "$2" >&2 || exit 1; echo 2; exit; fi
last=$(sed -n 's/^#SBATCH --array=1-//p' "$1")
for task in $(seq "$last"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$last bash "$1" >&2 & jobs="$jobs $!"
done
for job in $jobs; do wait "$job" || exit 1; done
echo 1
"""
NOTES = "#!/bin/bash\nIFS=$'\\t'; echo \"$*\" >> calls\n"  # a line at once, for jobs run side by side


def script(text: str) -> str:
    """The block of the page that holds a text."""
    (found,) = (block for block in BLOCKS if text in block)
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs bash in a folder, where `sbatch` and `chipvi` are these."""
    (tmp_path / "bin").mkdir()

    def put(name: str, text: str) -> None:
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(stat.S_IRWXU)

    def run(text: str, chipvi: str) -> None:
        put("sbatch", SBATCH)
        put("chipvi", chipvi)
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        subprocess.run(["bash", "-ec", text], cwd=tmp_path, check=True, env=os.environ | {"PATH": path})

    return run


def test_the_array_that_counts_writes_what_one_command_would(tmp_path, run):
    genome = tmp_path / "genome.sizes"
    genome.write_text("chr1\t90000\n")
    random = np.random.default_rng(2)
    rows = ["biosample,assay,file"]
    for name in "abc":
        starts = np.sort(random.integers(0, 89_000, 300))
        (tmp_path / f"{name}.bed").write_text("".join(f"chr1\t{s}\t{s + 36}\t.\t0\t+\n" for s in starts))
        rows.append(f"K562,{name},{name}.bed")
    (tmp_path / "samples.csv").write_text("\n".join(rows) + "\n")

    def small(text: str) -> str:
        return text.replace("hg38", "genome.sizes").replace("--array=1-8", "--array=1-2").replace("--workers 2 ", "")

    (tmp_path / "count.sh").write_text(small(script("#SBATCH --job-name=chipvi-count")))
    python = shlex.quote(sys.executable)
    run(small(script("sbatch --parsable count.sh")), f'#!/bin/bash\nexec {python} -m chipvi "$@"\n')
    found = anndata.read_h5ad(tmp_path / "counts.h5ad")
    files = {f"K562.{name}": tmp_path / f"{name}.bed" for name in "abc"}
    expected = io.count_reads(files, genome=genome, bin_size=200, progress=False)
    np.testing.assert_array_equal(found.to_df(), expected.to_df())
    assert found.X.sum() == 900
    assert not list(tmp_path.glob(".*"))


def test_the_array_that_imputes_asks_for_all_shards_and_then_for_the_whole(tmp_path, run):
    text = script("#SBATCH --job-name=chipvi-impute").replace("--array=1-16", "--array=1-3")
    (tmp_path / "impute.sh").write_text(text)
    run(script("sbatch --parsable impute.sh"), NOTES)
    *shards, last = [line.split("\t") for line in (tmp_path / "calls").read_text().splitlines()]
    assert sorted(call[-2:] for call in shards) == [["--shard", f"{part}/3"] for part in (1, 2, 3)]
    assert {tuple(call[:-4]) for call in shards} == {("impute", "model", "-o", "imputed.zarr", "--accelerator", "cpu")}
    assert last[: len(shards[0]) - 4] == shards[0][:-4] and "--shard" not in last
