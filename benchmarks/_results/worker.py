"""One run: a method on a task with a seed, by the scorer's own functions. Started by `jobs.run_one`."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

QUICK_FRACTION = 0.1  # less has too few regions for PoissonVI
QUICK_STEPS = 30


def check_sources(expected: str | None) -> None:
    """Stop where chipvi is no longer what its scores would be filed under; None where it plays no part."""
    from .jobs import chipvi_folder, sources_hash

    if expected is not None and sources_hash(chipvi_folder()) != expected:
        raise SystemExit("the sources of chipvi changed since the command was started; start it again")


class Clock:
    """CPU seconds of the calls of a method's functions."""

    def __init__(self, method: Any, names: tuple[str, ...]) -> None:
        self.seconds = 0.0
        for name in names:
            if hasattr(method, name):
                setattr(method, name, self._timed(getattr(method, name)))

    def _timed(self, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.process_time() - start

        return call


def make_method(spec: dict, referee: ModuleType, options: Any) -> Any:
    """The scorer's own chipvi and baselines; peers from here."""
    if spec["method"] == "chipvi":
        train = {"seed": spec["seed"], "enable_progress_bar": False} | dict(options.train)
        return referee.ChipVI({}, ({"max_steps": QUICK_STEPS} if spec["quick"] else {}) | train)
    baselines = referee.baselines
    known = [*baselines.imputation_baselines(spec["seed"]), *baselines.denoising_baselines()]
    for method in known:
        if method.name == spec["method"]:
            return method
    from . import peers

    return peers.make(spec["method"], spec["seed"], QUICK_STEPS if spec["quick"] else None)


def run(spec: dict) -> dict:
    """Scores: a list of title, track, metric and value."""
    sys.path.insert(0, spec["referee"])
    if spec["peers"]:
        sys.path.append(spec["peers"])
    import referee

    check_sources(spec["chipvi"])
    task = spec["task"]
    arguments = [task, "--data", spec["data"], "--seed", str(spec["seed"])]
    arguments += ["--fraction", str(QUICK_FRACTION)] if spec["quick"] else []
    for pair in spec["train"]:
        arguments += ["--train", pair]
    options = referee.parse(arguments)
    problem = referee.TASKS[task](options)
    method = make_method(spec, referee, options)
    training, prediction = Clock(method, ("fit",)), Clock(method, ("impute", "denoise"))
    done = (referee.run_denoising if task == "denoise" else referee.run_imputation)(method, problem)

    truths = {"counts": problem.truth} if task == "denoise" else problem.truth
    tables = {
        task if len(truths) == 1 else f"{task}, {quantity}": referee.score_points(done, truth, quantity)
        for quantity, truth in truths.items()
        if quantity in done.predictions
    }
    if task == "tss-masked":
        tables["calibration"] = referee.score_calibration(done, problem, spec["seed"])
    costs = {
        "train_cpu_s": training.seconds,
        "train_wall_s": done.train_seconds,
        "predict_cpu_s": prediction.seconds,
        "predict_wall_s": done.predict_seconds,
        "parameters": count_parameters(method),
    }
    rows = [
        [title, track, *pair] for title, scores in tables.items() for track, s in scores.items() for pair in s.items()
    ]
    rows = [row for row in rows if not isinstance(row[3], list)]  # the bars of a histogram
    rows += [[task, "", name, value] for name, value in costs.items()]
    return {"spec": spec, "scores": [row for row in rows if row[3] is not None and math.isfinite(row[3])]}


def count_parameters(method: Any) -> int | None:
    """Of a network; None for the other methods."""
    if hasattr(method, "n_parameters"):
        return method.n_parameters()
    network = getattr(getattr(method, "_model", None), "module", None)
    return None if network is None else sum(p.numel() for p in network.parameters())


def main() -> None:
    spec = json.loads(sys.argv[1])
    out = Path(spec["out"])
    part = out.with_suffix(".part")
    part.write_text(json.dumps(run(spec)))
    os.replace(part, out)


if __name__ == "__main__":
    main()
