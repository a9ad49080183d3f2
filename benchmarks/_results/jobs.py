"""Which runs there are, what each one's scores depend on, and how they are run and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = {
    "tss-masked": "roadmap_tss.h5ad",
    "h1-masked": "h1_seven.h5ad",
    "h1-fine": "h1_seven_25bp.h5ad",
    "brain-masked": "brain_h3k27ac.h5ad",
    "tss-trackout": "roadmap_tss.h5ad",
    "signal-trackout": "roadmap_pilot_signal.h5ad",
    "pilot": "roadmap_pilot.h5ad",
    "denoise": "roadmap_tss.h5ad",
}
TASKS = tuple(FILES)
IMPUTE = ("average", "marginal", "ridge", "boosting")
DENOISE = ("scaled counts", "smoothing")
BASELINES = (*IMPUTE, *DENOISE)
PEERS = {
    "scVI": ("tss-masked", "pilot", "denoise"),
    "PoissonVI": ("tss-masked", "pilot", "denoise"),
    "Avocado": ("tss-trackout", "signal-trackout"),
}
METHODS = ("chipvi", *BASELINES, *PEERS)


@dataclass(frozen=True)
class Setting:
    """What all runs share. `peers` is a folder with packages that are not installed, or None."""

    referee: Path
    data: Path
    peers: Path | None
    train: tuple[str, ...]
    quick: bool


@dataclass(frozen=True)
class Job:
    """One run."""

    task: str
    method: str
    seed: int


def methods_of(task: str, setting: Setting) -> list[str]:
    """Methods that can do a task and are there."""
    baselines = DENOISE if task == "denoise" else IMPUTE
    peers = [name for name, tasks in PEERS.items() if task in tasks]
    return ["chipvi", *baselines, *(name for name in peers if name != "Avocado" or has_avocado(setting.peers))]


def all_jobs(tasks: Sequence[str], seeds: int, setting: Setting) -> list[Job]:
    """Every run, the long ones first, so that no process idles at the end. Only chipvi runs with each seed."""
    jobs = [
        Job(task, method, seed)
        for seed in range(seeds)
        for task in tasks
        for method in methods_of(task, setting)
        if seed == 0 or method == "chipvi"
    ]
    quickest = ("marginal", "average", "scaled counts", "smoothing", "ridge")
    return sorted(jobs, key=lambda job: (job.seed, job.method in quickest, job.method != "chipvi"))


def has_avocado(peers: Path | None) -> bool:
    """Whether Avocado and Keras can be imported."""
    return all(installed(name) or (peers is not None and (peers / name).is_dir()) for name in ("avocado", "keras"))


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@cache
def sources_hash(folder: Path) -> str:
    """Of the Python files in a folder and below, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def chipvi_folder() -> Path:
    """Where the package that is imported lies."""
    spec = importlib.util.find_spec("chipvi")
    if spec is None or spec.origin is None:
        raise SystemExit("results.py: chipvi is not installed; install it with `pip install -e .`")
    return Path(spec.origin).parent


def cached(job: Job, setting: Setting, folder: Path) -> Path:
    """Where the scores of a run are kept: a name that changes with everything that the scores depend on."""
    depends = [sources_hash(setting.referee), file_hash(setting.data / FILES[job.task]), setting.quick]
    if job.method == "chipvi":
        depends += [sources_hash(chipvi_folder()), setting.train, version("torch")]
    elif job.method in PEERS:
        depends += [file_hash(HERE / "peers.py"), version("scvi-tools"), version("torch")]
    else:
        depends += [version("scikit-learn")]
    digest = hashlib.sha256(repr([*depends, file_hash(HERE / "worker.py")]).encode()).hexdigest()[:12]
    return folder / f"{job.task}.{job.method.replace(' ', '-')}.{job.seed}.{digest}.json"


def run_missing(jobs: Sequence[Job], setting: Setting, folder: Path, processes: int) -> Iterator[tuple[Job, bool]]:
    """Run what is not in the cache, several at a time; each job as it ends, and whether it went well."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not cached(job, setting, folder).exists()]
    with ThreadPoolExecutor(processes) as pool:
        yield from zip(missing, pool.map(lambda job: run_one(job, setting, folder), missing), strict=True)


def run_one(job: Job, setting: Setting, folder: Path) -> bool:
    """Run a job in a process of its own, with one thread. What it prints goes to a file beside its scores."""
    out = cached(job, setting, folder)
    spec = {
        "chipvi": sources_hash(chipvi_folder()) if job.method == "chipvi" else None,
        "task": job.task,
        "method": job.method,
        "seed": job.seed,
        "referee": str(setting.referee),
        "data": str(setting.data),
        "peers": str(setting.peers) if setting.peers else None,
        "train": setting.train,
        "quick": setting.quick,
        "out": str(out),
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with out.with_suffix(".log").open("w") as log:
        command = [sys.executable, "-m", f"{HERE.name}.worker", json.dumps(spec)]
        done = subprocess.run(command, cwd=HERE.parent, env=os.environ | threads, stdout=log, stderr=log, check=False)
    return done.returncode == 0 and out.exists()
