"""Steps per second of `ChipVI.train` beside a plain torch loop that does the same steps.

Both start from the same weights and draw the same minibatches, hidden tracks, thinned reads and dropout, with the same
optimiser and schedule; that they end with the same weights is checked. What `ChipVI.train` does on top is Lightning's
machinery, the average of the weights, the history and, every so many steps, its log. Validation and the progress bar
are off. The two take turns, so that whatever else the machine does meets both alike, and the ratio is the median over
the turns.

    python benchmarks/throughput.py [--accelerator gpu] [--threads 2]
    python benchmarks/throughput.py --devices 2

Exits with 1 if `ChipVI.train` makes less than 0.7 of the plain loop's steps per second. With `--devices`,
`ChipVI.train` on so many devices takes turns with itself on one, each process on a thread of its own; it exits with 1
if it reads less than 0.85 of the regions per second and device.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest.mock import patch

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import chipvi
from chipvi._messages import counted
from chipvi.data.loader import RegionLoader
from chipvi.data.splits import split_regions
from chipvi.train.masking import apply_task, choose_n_queries, draw_task
from chipvi.train.plan import PlanOptions, TrainingPlan

LEAST_RATIO = 0.7
LEAST_PER_DEVICE = 0.85  # of the regions per second of one
BATCH_SIZE = 512  # what ChipVI.train takes of few regions
WARM_UP = 10  # steps before the clock starts
PHASES = ("loader", "masking", "forward", "loss", "backward", "clipping", "optimiser")


class Clock(Callback):
    """Notes when the clock starts and stops, and the weights that the last step left."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == WARM_UP:
            synchronise(pl_module.device)
            self.start, self.cpu_start = time.perf_counter(), time.process_time()
        if batch_idx + 1 == trainer.num_training_batches:
            synchronise(pl_module.device)
            self.seconds = time.perf_counter() - self.start
            self.cpu_seconds = time.process_time() - self.cpu_start
            self.weights = [p.detach().clone() for p in cast(nn.Module, pl_module.module).parameters()]


class Phases:
    """Seconds spent in the phases of a step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        synchronise(self._device)
        self.seconds[name] += time.perf_counter() - start


@contextmanager
def untimed(name: str) -> Iterator[None]:
    yield


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PlainLoop:
    """The steps of `ChipVI.train` as a torch user would write them down."""

    def __init__(self, model: chipvi.ChipVI, device: torch.device) -> None:
        self._model, self._device = model, device

    def start(self, seed: int, n_steps: int) -> None:
        """Make module, minibatches and optimiser anew, as `ChipVI.train` does with this seed."""
        data = self._model.data
        split = split_regions(data.segments, None, 0.0, np.random.default_rng(seed))
        data = data.within(split.cut(data.segments), split.train)
        torch.manual_seed(seed)
        module = self._model._make_module(data, split.train)
        self._options = PlanOptions()
        plan = TrainingPlan(module, n_steps, seed, self._options, data.tracks.names, data.n_regions)
        configured: Any = plan.configure_optimizers()
        self._optimizer, self._schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        self._module = module.to(self._device).train()
        self._minibatches = iter(
            RegionLoader(data, split.train, module.half_widths, BATCH_SIZE, n_steps, np.random.default_rng(seed))
        )
        self._task_generator = torch.Generator().manual_seed(seed)
        self._split_generator = torch.Generator(self._device).manual_seed(seed)
        self._n_steps = n_steps

    def run(self, first: int, last: int, phase: Any = untimed) -> None:
        """Make the steps from first to last, excluded."""
        module, options = self._module, self._options
        for step in range(first, last):
            with phase("loader"):
                minibatch = next(self._minibatches).to(self._device)
            with phase("masking"):
                n_queries = choose_n_queries(module.tracks.target_bg)
                task = draw_task(module, minibatch.n_regions, n_queries, self._task_generator)
                example = apply_task(module, minibatch, task, self._split_generator)
            with phase("forward"):
                encoding = module.inference(example.visible, example.queries)
                predicted = module.generative(encoding, example.queries, example.log_depth_rqg)
            with phase("loss"):
                kl_weight = min(1.0, step / max(1.0, options.kl_warmup * self._n_steps))
                loss = module.loss(example, encoding, predicted, kl_weight).loss
            with phase("backward"):
                self._optimizer.zero_grad()
                loss.backward()
            with phase("clipping"):
                nn.utils.clip_grad_norm_(module.parameters(), options.clip_norm)
            with phase("optimiser"):
                self._optimizer.step()
                self._schedule.step()

    def time(self, seed: int, n_steps: int) -> tuple[float, float, list[Tensor]]:
        """Wall and CPU seconds of the steps after the first few, and the weights at the end."""
        self.start(seed, n_steps)
        self.run(0, WARM_UP)
        synchronise(self._device)
        start, cpu_start = time.perf_counter(), time.process_time()
        self.run(WARM_UP, n_steps)
        synchronise(self._device)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        return seconds, cpu_seconds, [p.detach().clone() for p in self._module.parameters()]

    def time_phases(self, seed: int, n_steps: int) -> dict[str, float]:
        """Seconds per step of each phase."""
        self.start(seed, n_steps)
        self.run(0, WARM_UP)
        phases = Phases(self._device)
        self.run(WARM_UP, n_steps, phases)
        return {name: seconds / (n_steps - WARM_UP) for name, seconds in phases.seconds.items()}

    def time_loader(self, seed: int, n_steps: int) -> float:
        """Regions per second of the loader alone."""
        self.start(seed, n_steps)
        start = time.perf_counter()
        n_regions = sum(minibatch.n_regions for minibatch in self._minibatches)
        return n_regions / (time.perf_counter() - start)


def train(adata: Any, seed: int, n_steps: int, accelerator: str, devices: int = 1) -> tuple[float, float, list[Tensor]]:
    """Wall and CPU seconds of `ChipVI.train` for the steps after the first few, and the weights at the end."""
    clock = Clock()
    chipvi.ChipVI(adata).train(
        max_steps=n_steps,
        batch_size=BATCH_SIZE,
        validation_size=0.0,
        early_stopping=False,
        seed=seed,
        accelerator=accelerator,
        devices=devices,
        callbacks=[clock],
        enable_progress_bar=False,
    )
    return clock.seconds, clock.cpu_seconds, clock.weights


def time_monitors(adata: Any, seed: int, n_steps: int, accelerator: str) -> float:
    """Share of the steps of `ChipVI.train` that goes into noting, logging and judging, by CPU time."""
    spent = 0.0

    def timed(method: Any) -> Any:
        def call(plan: TrainingPlan, *arguments: Any) -> None:
            nonlocal spent
            synchronise(plan.device)
            start = time.process_time()
            method(plan, *arguments)
            synchronise(plan.device)
            spent += (time.process_time() - start) * (plan.global_step >= WARM_UP)

        return call

    with ExitStack() as patches:
        for name in ("_note", "_log"):
            patches.enter_context(patch.object(TrainingPlan, name, timed(getattr(TrainingPlan, name))))
        _, cpu_seconds, _ = train(adata, seed, n_steps, accelerator)
    return spent / cpu_seconds


def compare_devices(adata: Any, arguments: argparse.Namespace) -> int:
    """Print regions per second on one device and on several, in turns; the exit status."""
    timed, n = arguments.steps - WARM_UP, arguments.devices
    is_first = "LOCAL_RANK" not in os.environ  # the others are started with it, and train only where all do
    seconds: dict[int, list[float]] = {1: [], n: []}
    cpu_seconds: dict[int, list[float]] = {1: [], n: []}
    for turn in range(arguments.turns):
        for devices in (1, n):
            if is_first or devices > 1:
                wall, cpu, _ = train(adata, turn, arguments.steps, arguments.accelerator, devices)
                seconds[devices].append(wall)
                cpu_seconds[devices].append(cpu)
        if is_first:
            rates = {d: timed * BATCH_SIZE * d / seconds[d][-1] for d in seconds}
            print(
                f"  turn {turn + 1}: " + ", ".join(f"{d} {rate:,.0f} regions/s" for d, rate in rates.items()),
                flush=True,
            )
    if not is_first:
        return 0
    ratios = [n * one / several for one, several in zip(seconds[1], seconds[n], strict=True)]
    print("\nmedian over the turns")
    for devices in seconds:
        rate = timed * BATCH_SIZE * devices / statistics.median(seconds[devices])
        report(f"{counted(devices, 'device')}, regions/s", f"{rate:,.0f}")
        report("CPU ms per step and device", f"{statistics.median(cpu_seconds[devices]) / timed * 1e3:.2f}")
    ratio = statistics.median(ratios)
    report("ratio of regions/s", f"{ratio:.3f}")
    report("ratio by CPU time", f"{n * statistics.median(cpu_seconds[1]) / statistics.median(cpu_seconds[n]):.3f}")
    is_fast = ratio >= LEAST_PER_DEVICE * n
    print(f"\n{'ok' if is_fast else 'TOO SLOW'}: ratio {ratio:.3f}, at least {LEAST_PER_DEVICE * n} is asked for")
    return 0 if is_fast else 1


def largest_difference(some: list[Tensor], others: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))


def report(name: str, value: str) -> None:
    print(f"  {name:<44} {value:>12}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=20_000)
    parser.add_argument("--biosamples", type=int, default=2)
    parser.add_argument("--assays", type=int, default=5)
    parser.add_argument("--steps", type=int, default=110, help=f"of a turn; the first {WARM_UP} are not timed")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="more wait for each other where the machine is shared")
    parser.add_argument("--devices", type=int, default=1, help="more than one: compare with one")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP:
        parser.error(f"--steps must be more than {WARM_UP}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu" if arguments.accelerator == "cpu" else "cuda")
    adata = chipvi.datasets.simulate(arguments.regions, arguments.biosamples, arguments.assays)
    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    if arguments.devices > 1:
        return compare_devices(adata, arguments)
    loop = PlainLoop(chipvi.ChipVI(adata), device)
    timed = arguments.steps - WARM_UP
    print(
        f"{arguments.regions:,} regions x {adata.n_vars} tracks, {BATCH_SIZE} regions in a minibatch, "
        f"{device.type}, {arguments.threads} threads; {arguments.turns} turns of {timed} timed steps"
    )

    seconds: dict[str, list[float]] = {"train": [], "loop": [], "train cpu": [], "loop cpu": []}
    for turn in range(arguments.turns):
        # whoever goes first may find the machine warmer
        for who in ("train", "loop") if turn % 2 else ("loop", "train"):
            if who == "train":
                *spent, trained = train(adata, turn, arguments.steps, arguments.accelerator)
            else:
                *spent, looped = loop.time(turn, arguments.steps)
            seconds[who].append(spent[0])
            seconds[f"{who} cpu"].append(spent[1])
        difference = largest_difference(trained, looped)
        print(
            f"  turn {turn + 1}: ChipVI.train {timed / seconds['train'][-1]:6.1f} steps/s, "
            f"plain loop {timed / seconds['loop'][-1]:6.1f}, largest difference of a weight {difference:.1e}",
            flush=True,
        )
        if device.type == "cpu" and difference > 0.01:  # rounding may grow over the steps, more than this is other work
            print("the two did not do the same work: the comparison means nothing.")
            return 1

    def ratio(suffix: str) -> float:
        pairs = zip(seconds[f"loop{suffix}"], seconds[f"train{suffix}"], strict=True)
        return statistics.median(loop_seconds / train_seconds for loop_seconds, train_seconds in pairs)

    print("\nmedian over the turns")
    for who, name in (("train", "ChipVI.train"), ("loop", "plain loop")):
        per_second = timed / statistics.median(seconds[who])
        report(f"{name}, steps/s", f"{per_second:.1f}")
        report(f"{name}, regions/s", f"{per_second * BATCH_SIZE:,.0f}")
        report(f"{name}, CPU ms per step", f"{statistics.median(seconds[f'{who} cpu']) / timed * 1e3:.2f}")
    report("ratio of steps/s", f"{ratio(''):.3f}")
    report("ratio by CPU time", f"{ratio(' cpu'):.3f}")

    shares = [time_monitors(adata, turn, arguments.steps, arguments.accelerator) for turn in range(3)]
    report("noting and logging, share of a step", f"{statistics.median(shares):.1%}")

    phases = [loop.time_phases(turn, arguments.steps) for turn in range(3)]
    milliseconds = {name: 1e3 * statistics.median(phase[name] for phase in phases) for name in PHASES}
    total = sum(milliseconds.values())
    print("\nwhere a step of the plain loop goes, ms")
    for name, value in milliseconds.items():
        report(name, f"{value:.2f}  {value / total:4.0%}")
    report("loader alone, regions/s", f"{loop.time_loader(0, 200):,.0f}")

    is_fast = ratio("") >= LEAST_RATIO
    print(f"\n{'ok' if is_fast else 'TOO SLOW'}: ratio {ratio(''):.3f}, at least {LEAST_RATIO} is asked for")
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
