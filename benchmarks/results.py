"""All tasks of the independent scorer, chipvi beside baselines and other tools: RESULTS.md, results.png, results.csv.

    python benchmarks/results.py --referee ../shared/referee --data ../shared/data --seeds 3

Each run (task, method, seed) is a process of its own whose scores are kept, so a command that was stopped goes on where
it was. What is kept is told apart by the sources of chipvi and of the scorer and by the data: nothing old is shown for
new code. `--quick` tries the whole path in minutes and writes into the cache, not here.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pooch
from _results.figure import draw
from _results.jobs import (
    TASKS,
    Job,
    Setting,
    all_jobs,
    cached,
    chipvi_folder,
    has_avocado,
    run_missing,
    sources_hash,
)
from _results.page import Facts, write
from _results.tables import collect

HERE = Path(__file__).resolve().parent
QUICK_TASKS = ("pilot", "signal-trackout")
PACKAGES = ("chipvi", "scvi-tools", "torch", "scikit-learn")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--referee", type=Path, required=True, help="folder of the scorer")
    add("--data", type=Path, required=True, help="folder of its data")
    add("--seeds", type=int, default=3, help="of chipvi; the others run once; %(default)s")
    add("--task", action="append", choices=TASKS, help="repeatable; default: all")
    add("--processes", type=int, default=2, help="runs at a time, one thread each; %(default)s")
    add("--peers", type=Path, help="folder with packages that are not installed, see _results/peers.txt")
    add("--cache", type=Path, default=Path(pooch.os_cache("chipvi")) / "results", help="where scores are kept")
    add("--out", type=Path, help="folder of the page, figure and table; default: this one, or the cache with --quick")
    add(
        "--train",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of ChipVI.train, for trials; repeatable",
    )
    add("--quick", action="store_true", help="one seed, two tasks, few regions and steps")
    add("--only-report", action="store_true", help="run nothing; write from what is kept")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Stop in one line where the scorer or its data are absent."""
    if not (options.referee / "referee.py").is_file():
        sys.exit(f"results.py: no scorer in {options.referee}; it is not part of this repository. Name it: --referee.")
    if not options.data.is_dir():
        sys.exit(f"results.py: {options.data} is not a folder; name the folder of the scorer's data: --data.")


def run_all(jobs: list[Job], setting: Setting, options: argparse.Namespace) -> None:
    """Run what is missing and tell of each."""
    n_missing = sum(not cached(job, setting, options.cache).exists() for job in jobs)
    print(f"{len(jobs)} runs, {n_missing} to do")
    start = time.perf_counter()
    for i, (job, went_well) in enumerate(run_missing(jobs, setting, options.cache, options.processes), start=1):
        log = cached(job, setting, options.cache).with_suffix(".log")
        end = "done" if went_well else f"FAILED, see {log}"
        minutes = (time.perf_counter() - start) / 60
        print(f"{i}/{n_missing}  {job.task}, {job.method}, seed {job.seed}: {end} ({minutes:.0f} min)", flush=True)


def command(options: argparse.Namespace) -> str:
    """What to type to write the page anew; folders by their names only."""
    words = ["python", "benchmarks/results.py", "--referee", "REFEREE", "--data", "DATA", "--seeds", str(options.seeds)]
    words += ["--peers", "PEERS"] if options.peers else []
    for task in options.task or []:
        words += ["--task", task]
    for pair in options.train:
        words += ["--train", pair]
    return shlex.join([*words, *(["--quick"] if options.quick else [])])


def replace(path: Path, save: Callable[[Path], object]) -> None:
    """Write beside the path and move there, so that nothing half-written is left."""
    part = path.with_name(f".part.{path.name}")
    save(part)
    os.replace(part, path)


def report(jobs: list[Job], setting: Setting, options: argparse.Namespace) -> bool:
    """Write page, figure and table from what is kept; whether all runs are in."""
    paths = {job: cached(job, setting, options.cache) for job in jobs}
    there = [(job, path) for job, path in paths.items() if path.exists()]
    missing = [f"{job.task} {job.method} {job.seed}" for job, path in paths.items() if not path.exists()]
    if not there:
        sys.exit("results.py: no run is kept for these sources and data; run without --only-report.")
    raw = collect(there)
    facts = Facts(
        command=command(options),
        seeds=options.seeds,
        processes=options.processes,
        source=sources_hash(chipvi_folder()),
        versions={name: version(name) for name in PACKAGES},
        quick=options.quick,
        failed=missing,
        avocado=has_avocado(setting.peers),
        train=options.train,
    )
    out = options.out or (options.cache if options.quick else HERE)
    out.mkdir(parents=True, exist_ok=True)
    replace(out / "results.csv", lambda path: raw.to_csv(path, index=False, float_format="%.6g"))
    replace(out / "results.png", lambda path: draw(raw).savefig(path, dpi=160))
    replace(out / "RESULTS.md", lambda path: path.write_text(write(raw, facts)))
    print(
        f"wrote RESULTS.md, results.png and results.csv in {out}" + (f"; {len(missing)} runs missing" * bool(missing))
    )
    return not missing


def main() -> int:
    options = parse()
    check(options)
    if options.quick:
        options.seeds = 1
    folders = (options.referee.resolve(), options.data.resolve(), options.peers and options.peers.resolve())
    setting = Setting(*folders, tuple(options.train), options.quick)
    tasks = options.task or (QUICK_TASKS if options.quick else TASKS)
    jobs = all_jobs(tasks, options.seeds, setting)
    if not options.only_report:
        run_all(jobs, setting, options)
    return 0 if report(jobs, setting, options) else 1


if __name__ == "__main__":
    sys.exit(main())
