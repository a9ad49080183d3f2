"""The training plan: what happens in a step, how the weights move, what is logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..module import ChipVAE
from ._history import FitScores
from ._masking import apply_task, draw_task

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]

_LEAST_SCHEDULE = 10  # steps: shorter ones leave the schedule's rise without a step


@dataclass(frozen=True)
class PlanOptions:
    """Options of training, `plan_kwargs` of :meth:`chipvi.ChipVI.train`.

    Parameters
    ----------
    lr
        Largest learning rate of the one-cycle schedule.
    weight_decay
        Of the weight matrices; embeddings, norms and biases have none.
    clip_norm
        Largest norm of the gradient.
    kl_warmup
        Share of the steps over which the KL weight rises from 0 to 1.
    ema_decay
        Of the moving average of the weights, which is what is validated and kept, 0 to below 1.
    biosamples_per_step
        Biosamples to predict in a step, at most.
    log_every_n_steps
        Steps between two entries of the history.
    """

    lr: float = 2e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    kl_warmup: float = 0.3
    ema_decay: float = 0.998
    biosamples_per_step: int = 2
    log_every_n_steps: int = 50


class TrainingPlan(pl.LightningModule):
    """Trains a :class:`chipvi.module.ChipVAE`.

    Parameters
    ----------
    module
        To train, in place.
    n_steps
        Length of the schedules.
    seed
        Of what is hidden and of how reads are split.
    options
        See :class:`PlanOptions`.
    """

    def __init__(self, module: ChipVAE, n_steps: int, seed: int, options: PlanOptions) -> None:
        super().__init__()
        self.module = module
        self.records: dict[str, dict[int, float]] = {}
        self._n_steps, self._seed, self._options = n_steps, seed, options
        self.average = AveragedModel(module, multi_avg_fn=self._average_weights, use_buffers=False)

    def on_fit_start(self) -> None:
        """Make the generators and sums where the module is."""
        self._task_generator = torch.Generator().manual_seed(self._seed)
        self._split_generator = torch.Generator(self.device).manual_seed(self._seed)
        n_tracks = len(self.module.assay_t)
        self._scores = {name: FitScores(n_tracks, self.device) for name in ("imp_count", "obs_count", "imp_pval")}
        self._losses: dict[str, list[Tensor]] = {}

    def training_step(self, tensors: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one minibatch."""
        task = draw_task(self.module, len(tensors["low_rs"]), self._options.biosamples_per_step, self._task_generator)
        inputs = apply_task(self.module, tensors, task, self._split_generator)
        _, generative, losses = self.module(inputs, loss_kwargs={"kl_weight": self._kl_weight()})
        self._note(inputs, generative, losses)
        return losses.loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Move the weights, and their average after them."""
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.module)

    @torch.no_grad()
    def _average_weights(self, average: _Tensors, current: _Tensors, n_averaged: Tensor | int) -> None:
        """Exponential moving average, over fewer steps while there have been few."""
        n = int(n_averaged)
        decay = min(self._options.ema_decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(average, current, 1 - decay)

    def _kl_weight(self) -> float:
        return min(1.0, self.global_step / max(1.0, self._options.kl_warmup * self._n_steps))

    def _note(self, inputs: dict[str, Tensor], generative: dict[str, Any], losses: Any) -> None:
        """Add a step to the sums for the history."""
        parts = {"train_loss": losses.loss, "kl": losses.kl_local["kl"], **losses.extra_metrics}
        for name, value in parts.items():
            # a minibatch without thinned reads has no such loss, rather than one of 0
            if name != "obs_count_loss" or inputs["log_keep"] < 0:
                self._losses.setdefault(name, []).append(value.detach())
        for name, view, weight in (
            ("imp_count", "counts", "hidden"),
            ("obs_count", "counts", "spared"),
            ("imp_pval", "signal", "hidden"),
        ):
            if generative[view] is not None:
                truth, weight_rqg = inputs[f"target_{view}_rqg"], inputs[f"{weight}_{view}_rqg"]
                self._scores[name].add(truth, generative[view].mean.detach(), weight_rqg, inputs["track_qg"])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient, and log when it is time."""
        is_time = (self.global_step + 1) % self._options.log_every_n_steps == 0 or self.global_step == 0
        norms = self._gradient_norms() if is_time else {}
        total = nn.utils.clip_grad_norm_(self.module.parameters(), self._options.clip_norm)
        if is_time:
            self.record(norms | {"grad_norm": float(total)} | self._summarise())

    def _gradient_norms(self) -> dict[str, float]:
        """Norm of the gradient that reaches the trunk, and each head's own rows of the decoder."""
        module = self.module
        n_counts = module.n_count_outputs
        branches = {"trunk": [p.grad for p in module.encoder.parameters()]}
        shared_oh, own_ako = cast(nn.Linear, module.decoder.shared[-1]).weight.grad, module.decoder.weight_ako.grad
        if shared_oh is not None and own_ako is not None:
            if module.has_counts:
                branches["count_head"] = [shared_oh[:n_counts], own_ako[..., :n_counts]]
            if module.has_signal:
                branches["signal_head"] = [shared_oh[n_counts:], own_ako[..., n_counts:]]
        return {f"grad_norm_{name}": float(_norm(gradients)) for name, gradients in branches.items()}

    def _summarise(self) -> dict[str, float]:
        summary = {name: float(torch.stack(values).mean()) for name, values in self._losses.items()}
        self._losses.clear()
        for name, scores in self._scores.items():
            taken = scores.take()
            summary |= {f"{name}_{kind}": taken[kind] for kind in ("r2", "pcc") if taken}
            if name == "imp_count" and taken:
                summary |= {"predicted_mean": taken["predicted"], "true_mean": taken["true"]}
        return summary | {"kl_weight": self._kl_weight(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}

    def record(self, values: dict[str, float]) -> None:
        """Write values of this step to the history and to the trainer's logger."""
        for name, value in values.items():
            self.records.setdefault(name, {})[self.global_step] = value
        if self.trainer.logger is not None:
            self.trainer.logger.log_metrics(values, step=self.global_step)

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """A table per quantity, indexed by step."""
        return {
            name: pd.DataFrame({name: pd.Series(values, dtype=float)}).rename_axis(index="step")
            for name, values in self.records.items()
        }

    def on_validation_epoch_start(self) -> None:
        """Hide the same entries in every validation, and draw the same latents."""
        self._validation_generator = torch.Generator().manual_seed(0)
        self._validation_noise = torch.Generator(self.device).manual_seed(0)
        self._validation_losses: dict[str, list[Tensor]] = {}
        n_tracks = len(self.module.assay_t)
        self._validation_scores = {name: FitScores(n_tracks, self.device) for name in ("counts", "signal")}

    def validation_step(self, tensors: dict[str, Tensor], batch_idx: int) -> None:
        """Imputation loss of one minibatch of held-out regions."""
        n_biosamples = len(self.module.track_ba)
        module = cast(ChipVAE, self.average.module)
        task = draw_task(module, len(tensors["low_rs"]), n_biosamples, self._validation_generator, thin=False)
        inputs = apply_task(module, tensors, task, None)
        _, generative, losses = module(inputs, inference_kwargs={"generator": self._validation_noise})
        for name in ("imp_count_loss", "imp_signal_loss"):
            if name in losses.extra_metrics:
                self._validation_losses.setdefault(name, []).append(losses.extra_metrics[name])
        for view, scores in self._validation_scores.items():
            if generative[view] is not None:
                truth, weight = inputs[f"target_{view}_rqg"], inputs[f"hidden_{view}_rqg"]
                scores.add(truth, generative[view].mean, weight, inputs["track_qg"])

    def on_validation_epoch_end(self) -> None:
        """Log the loss that early stopping watches."""
        losses = {f"validation_{k}": float(torch.stack(v).mean()) for k, v in self._validation_losses.items()}
        losses["validation_loss"] = sum(losses.values())
        for view, name in (("counts", "imp_count"), ("signal", "imp_pval")):
            taken = self._validation_scores[view].take()
            losses |= {f"validation_{name}_{kind}": taken[kind] for kind in ("r2", "pcc") if taken}
        self.record(losses)
        self.log("validation_loss", losses["validation_loss"], logger=False, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, one cycle of the learning rate over all steps."""
        embeddings = {id(p) for m in self.module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            is_matrix = parameter.ndim >= 2 and id(parameter) not in embeddings and "bias" not in name
            (decayed if is_matrix else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self._options.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self._options.lr, betas=(0.9, 0.99), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._options.lr, total_steps=max(_LEAST_SCHEDULE, self._n_steps), pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _norm(gradients: list[Tensor | None]) -> Tensor:
    present = [g.norm() for g in gradients if g is not None]
    return torch.stack(present).norm() if present else torch.tensor(0.0)
