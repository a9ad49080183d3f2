"""What one of two processes does that train together, for test_ranks.py: `rank.py FOLDER TASK`, or a command."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

import chipvi
from chipvi.data import loader
from chipvi.train import checkpoint, masking, plan

STEPS, SEEDS = 16, (0, 1, 2)
RANK = int(os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", 0)))


def uneven_data(kit):
    """Data of which the halves of a minibatch have different numbers of measured entries."""
    adata = kit.data()
    adata.layers["observed"][60:200, 2:7] = 0
    return adata


def remove_chance():
    """Make thinning and latents certain, for nobody could draw them again for both halves together."""
    masking.thin = lambda count, keep, generator: torch.floor(count * keep)
    torch.randn = lambda *shape, generator=None, device=None: torch.zeros(*shape, device=device)


def record_gradients(kit, folder):
    """What each step read, hid and came to, with weights that do not move."""
    taken, tasks, gradients = [], [], []
    take_regions, draw_task = loader.take_regions, plan.draw_task

    def take(data, rows, half_widths):
        taken.append(rows)
        return take_regions(data, rows, half_widths)

    def draw(*args, **kwargs):
        tasks.append(draw_task(*args, **kwargs))
        return tasks[-1]

    class Note(pl.Callback):
        def on_train_start(self, *_):
            remove_chance()

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            gradients.append({name: p.grad.clone() for name, p in pl_module.module.named_parameters()})

    loader.take_regions, plan.draw_task = take, draw
    model = kit.model(uneven_data(kit), dropout=0.0)
    kit.train(model, STEPS, devices=2, callbacks=[Note()], validation_size=0.0, plan_kwargs={"lr": 0.0})
    return {"rows": taken[:STEPS], "tasks": tasks[:STEPS], "gradients": gradients[:STEPS]}


def train_with_all(kit, folder):
    """A training with all that there is, and what it leaves."""
    from lightning.pytorch.loggers import CSVLogger

    model = kit.model(kit.data())
    logger = CSVLogger(folder, "log", version="")
    options = {"plan_kwargs": {"lr": 0.3, "ema_decay": 0.5, "log_every_n_steps": 5}, "early_stopping_patience": 3}
    kit.train(model, 60, devices=2, strategy="ddp", early_stopping=True, logger=logger, seed=4, **options)
    state = {name: value.numpy() for name, value in model.module.state_dict().items()}
    return {"state": state, "history": model.history, "advice": model.advice}


def score_seeds(kit, folder, devices=2, batch_size=32):
    """How imputed counts and true rates correlate, mean over tracks, after training with each seed."""
    scores = []
    for seed in SEEDS:
        adata = chipvi.datasets.simulate(n_regions=1_000, n_biosamples=3, n_assays=4, seed=5)
        model = kit.model(adata, {"observed_layer": "observed", "depth_key": "depth"})
        kit.train(model, 120, devices=devices, batch_size=batch_size, seed=seed, validation_size=0.0)
        imputed, rate = model.get_imputed_counts(return_numpy=True), adata.layers["rate"]
        scores.append(np.mean([np.corrcoef(imputed[:, t], rate[:, t])[0, 1] for t in range(adata.n_vars)]))
    return scores


def run_chipvi(arguments):
    """The command line, with a checkpoint every tenth step; DIE_AT is the step in which the second process dies."""
    from chipvi.__main__ import main

    step = plan.TrainingPlan.training_step

    def training_step(self, *args):
        if RANK == 1 and self.global_step == int(os.environ.get("DIE_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *args)

    checkpoint._SECONDS, plan.TrainingPlan.training_step = 0.0, training_step
    main()


def run_task(folder, task):
    """Do it, and write what came of it."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from conftest import KIT

    made = {"gradients": record_gradients, "all": train_with_all, "scores": score_seeds}[task](KIT, folder)
    (folder / f"{task}.{RANK}").write_bytes(pickle.dumps(made))


if __name__ == "__main__":
    if sys.argv[1] == "train":
        run_chipvi(sys.argv[1:])
    else:
        run_task(Path(sys.argv[1]), sys.argv[2])
