"""The training plan: what happens in a step, how the weights move, what is logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, cast

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from scvi.module.base import LossOutput
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .._arguments import refuse_unknown, require_real, require_whole
from ..data.minibatch import Minibatch
from ..data.track_data import ViewKind
from ..module.inputs import Encoding, Example, LossWeights, ViewPrediction
from ..module.vae import ChipVAE
from .advice import Advisor, Diverged, judge_kl_weight, warn
from .findings import Finding
from .masking import LEAST_HIDDEN, apply_task, choose_imputable, choose_most_hidden, choose_n_queries, draw_task
from .monitors import norm, watch_gradients, watch_heads, watch_latents
from .ranks import Ranks
from .recorder import FitScores, to_tables
from .trainable import TrainableMask

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]

_LEAST_SCHEDULE = 10  # steps: shorter ones leave the schedule's rise without a step
_LEAST_SCALE = 1e-3  # of the loss in half precision: below, no scale makes its gradient finite


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
        Biosamples to predict in a step, at most. None: as many as have twelve tracks together, but 2 at least and 6 at
        most.
    most_hidden
        Largest share of the tracks to hide in a region; the share is drawn between 0.05 and this. None: 0.2, or 0.65
        where there are fewer than 10,000 regions to learn from.
    log_every_n_steps
        Steps between two entries of the history.
    """

    lr: float = 2e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    kl_warmup: float = 0.3
    ema_decay: float = 0.998
    biosamples_per_step: int | None = None
    most_hidden: float | None = None
    log_every_n_steps: int = 50

    def __post_init__(self) -> None:
        require_real("lr", self.lr, least=0)
        require_real("weight_decay", self.weight_decay, least=0)
        require_real("clip_norm", self.clip_norm, least=0)
        require_real("kl_warmup", self.kl_warmup, least=0)
        require_real("ema_decay", self.ema_decay, least=0, below=1)
        if self.biosamples_per_step is not None:
            require_whole("biosamples_per_step", self.biosamples_per_step, least=1)
        require_whole("log_every_n_steps", self.log_every_n_steps, least=1)
        if self.most_hidden is not None:
            require_real("most_hidden", self.most_hidden, least=LEAST_HIDDEN)
            if self.most_hidden > 1:
                raise ValueError(f"most_hidden must be at most 1, the share of all tracks; it is {self.most_hidden}.")

    @classmethod
    def of(cls, plan_kwargs: Mapping[str, Any] | None) -> PlanOptions:
        """Options by name, as `plan_kwargs` of :meth:`chipvi.ChipVI.train` has them; an unknown name is an error."""
        refuse_unknown(plan_kwargs or {}, [field.name for field in fields(cls)], "chipvi.train.PlanOptions")
        return cls(**(plan_kwargs or {}))


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
    track_names
        Names of all tracks, for the history.
    n_regions
        Number of regions to learn from.
    mask
        What of the module may move, if not all of it is trained.
    ranks
        The processes that train it together. What is drawn for all regions of a step, they draw alike; what is hidden
        in each region, its thinning, dropout and latents, each draws for itself.
    """

    def __init__(
        self,
        module: ChipVAE,
        n_steps: int,
        seed: int,
        options: PlanOptions,
        track_names: Sequence[str],
        n_regions: int,
        mask: TrainableMask | None = None,
        ranks: Ranks = Ranks(),  # noqa: B008 - immutable
    ) -> None:
        super().__init__()
        self.module, self._ranks = module, ranks
        self.records: dict[str, dict[int, float]] = {}
        self.findings: list[Finding] = []
        self.was_interrupted = False
        self._advisor = Advisor()
        self._mask = mask
        self._n_steps, self._seed, self._options = n_steps, seed, options
        given = options.most_hidden
        self._most_hidden = choose_most_hidden(n_regions) if given is None else given
        n_queries = options.biosamples_per_step
        self._n_queries = choose_n_queries(module.tracks.target_bg) if n_queries is None else n_queries
        is_target_t = module.tracks.is_target_t.cpu()
        self._target_names = {t: name for t, name in enumerate(track_names) if is_target_t[t]}
        self.average = AveragedModel(module, multi_avg_fn=self._average_weights, use_buffers=False)
        self.average.requires_grad_(False)  # or ranks would wait for its gradient

    def on_fit_start(self) -> None:
        """Make the generators and sums where the module is."""
        self._task_generator = self._hiding_generator = torch.Generator().manual_seed(self._seed)
        own_seed = self._seed
        if self._ranks.size > 1:
            own_seed = self._ranks.seed(self._seed)
            self._hiding_generator = torch.Generator().manual_seed(own_seed)
            torch.manual_seed(own_seed)  # of dropout and latents
        self._split_generator = torch.Generator(self.device).manual_seed(own_seed)
        n_tracks = len(self.module.tracks.assay_t)
        names = [name for name, _, _ in self._scored()]
        self._scores = {name: FitScores(n_tracks, self.device) for name in names}
        self._imputable_scores = FitScores(n_tracks, self.device)
        self._losses: dict[str, list[Tensor]] = {}
        self._seen: dict[str, float] = {}
        # counted on the device: to look at it after every step would halt a GPU
        self._nonfinite = torch.zeros((), dtype=torch.int64, device=self.device)

    def _scored(self) -> list[tuple[str, ViewKind, bool]]:
        """Name in the history, view, and whether of thinned entries rather than hidden ones, of each kind of score."""
        found = []
        for view in self.module.views:
            found.append((view.names.imputed, view.kind, False))
            if view.names.denoised is not None:
                found.append((view.names.denoised, view.kind, True))
        return found

    def training_step(self, minibatch: Minibatch, batch_idx: int) -> Tensor:
        """Loss of one minibatch."""
        task = draw_task(
            self.module,
            minibatch.n_regions,
            self._n_queries,
            self._task_generator,
            self._most_hidden,
            among_q=None if self._mask is None else self._mask.biosample_q,
            of_regions=self._hiding_generator,
        )
        example = apply_task(self.module, minibatch, task, self._split_generator)
        weights = self.module.weigh(example, self._ranks.total, self._ranks.size)
        encoding, predicted, losses = self.module(example, kl_weight=self._kl_weight(), weights=weights)
        self._note(example, encoding, predicted, losses, weights, is_thinned=task.keep < 1)
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

    def _note(
        self,
        example: Example,
        encoding: Encoding,
        predicted: Mapping[ViewKind, ViewPrediction],
        losses: LossOutput,
        weights: LossWeights,
        is_thinned: bool,
    ) -> None:
        """Add a step to the sums for the history; look closer when it is time to log."""
        of_thinned = {view.names.denoised_loss for view in self.module.views}
        kl = losses.kl_local["kl"]
        hidden = zip(self.module.views, weights.hidden_v / weights.latents, strict=True)
        elbo = kl + sum(losses.extra_metrics[view.names.imputed_loss] * share for view, share in hidden)
        parts = {"train_loss": losses.loss, "elbo_train": elbo, "kl": kl, **losses.extra_metrics}
        for name, value in parts.items():
            # a minibatch without thinned reads has no such loss, rather than one of 0
            if is_thinned or name not in of_thinned:
                self._losses.setdefault(name, []).append(value.detach())
        for name, kind, wants_thinned in self._scored():
            truth = example.truth[kind]
            weight_rqg = truth.thinned_rqg if wants_thinned else truth.hidden_rqg
            mean_rqg = predicted[kind].distribution.mean.detach()
            self._scores[name].add(truth.value_rqg, mean_rqg, weight_rqg, example.track_qg)
            if kind is ViewKind.COUNTS and not wants_thinned and self._mask is None:
                weight_rqg = weight_rqg * choose_imputable(self.module, example)
                self._imputable_scores.add(truth.value_rqg, mean_rqg, weight_rqg, example.track_qg)
        if self._is_time():
            heads = watch_heads(self.module, example.truth, predicted, self._ranks)
            self._seen = heads | watch_latents(encoding.posterior, self._ranks)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient, stop if it is not finite, and log when it is time."""
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        total = norm(gradients)
        self._nonfinite += ~torch.isfinite(total)
        is_time = self._is_time()
        has_diverged = (is_time or self.device.type == "cpu") and self._has_diverged()
        if is_time or has_diverged:
            self._log(float(total), has_diverged)
        torch._foreach_mul_(gradients, (self._options.clip_norm / (total + 1e-6)).clamp(max=1.0))

    def _log(self, grad_norm: float, has_diverged: bool) -> None:
        """Write down what was seen since the last log, and judge it."""
        values = {"epoch": float(self.current_epoch), "grad_norm": grad_norm}
        values |= watch_gradients(self.module) | self._seen | self._summarise()
        self.record(values)
        if has_diverged:
            raise self._divergence(values)
        if self._mask is None:  # where some weights stay, gradients of 0 are as they should be
            self._imputable_scores.pool(self._ranks)
            taken = self._imputable_scores.take()
            imputable = {"imputable_count_pcc": taken["pcc"]} if taken else {}
            self.advise(self._advisor.add({"step": self.global_step} | values | imputable))

    def _is_time(self) -> bool:
        """Whether this step is logged."""
        return (self.global_step + 1) % self._options.log_every_n_steps == 0 or self.global_step == 0

    def _has_diverged(self) -> bool:
        """Whether a gradient since the last log was not finite, but for those that half precision leaves out."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return bool(self._nonfinite) and (scaler is None or scaler.get_scale() < _LEAST_SCALE)

    def _divergence(self, values: dict[str, float]) -> Diverged:
        """Where a step went wrong, and a learning rate to try instead."""
        watched = {name: value for name, value in values.items() if name.startswith("grad_norm") or "loss" in name}
        broken = {name: value for name, value in watched.items() if not math.isfinite(value)}
        return Diverged(self.global_step, broken, lr=min(self._options.lr / 10, PlanOptions.lr))

    def _summarise(self) -> dict[str, float]:
        """Means of the losses and scores since the last log; they start anew."""
        losses = {name: torch.stack(values).mean() for name, values in self._losses.items()}
        summary = {name: float(self._ranks.total(value)) / self._ranks.size for name, value in losses.items()}
        self._losses.clear()
        for scores in self._scores.values():
            scores.pool(self._ranks)
        if self.module.has_counts:
            for kind, value_t in self._scores["imp_count"].by_track().items():
                summary |= {f"{kind}_by_track.{name}": float(value_t[t]) for t, name in self._target_names.items()}
        for name, scores in self._scores.items():
            taken = scores.take()
            summary |= {f"{name}_{kind}": taken[kind] for kind in ("r2", "pcc") if taken}
            if name == "imp_count" and taken:
                summary |= {"predicted_mean": taken["predicted"], "true_mean": taken["true"]}
        summary["nonfinite_steps"] = float(self._nonfinite)
        self._nonfinite.zero_()
        return summary | {"kl_weight": self._kl_weight(), "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}

    def record(self, values: dict[str, float]) -> None:
        """Write values of this step to the history and to the trainer's loggers."""
        for name, value in values.items():
            self.records.setdefault(name, {})[self.global_step] = value
        for logger in self.trainer.loggers if self._ranks.is_first else ():
            logger.log_metrics(dict(values), step=self.global_step)

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """A table per quantity, indexed by step."""
        return to_tables(self.records)

    def progress(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and optimiser, as plain values and tensors."""
        return {
            "records": self.records,
            "findings": [finding.plain() for finding in self.findings],
            "advisor": self._advisor.state(),
            "generators": [generator.get_state() for generator in self._generators],
            "scores": {name: scores.state() for name, scores in self._scores.items()},
            "imputable_scores": self._imputable_scores.state(),
            "losses": self._losses,
            "seen": self._seen,
            "nonfinite": self._nonfinite,
        }

    @property
    def _generators(self) -> tuple[torch.Generator, ...]:
        return self._task_generator, self._hiding_generator, self._split_generator

    def resume(self, progress: dict[str, Any]) -> None:
        """Go on from such a state; after :meth:`on_fit_start`."""
        self.records = progress["records"]
        self.findings = [Finding.of(plain) for plain in progress["findings"]]
        self._advisor.load(progress["advisor"])
        for generator, state in zip(self._generators, progress["generators"], strict=True):
            generator.set_state(state)
        for name, state in progress["scores"].items():
            self._scores[name].load(state)
        self._imputable_scores.load(progress["imputable_scores"])
        self._losses = {name: [v.to(self.device) for v in values] for name, values in progress["losses"].items()}
        self._seen, self._nonfinite = progress["seen"], progress["nonfinite"].to(self.device)

    def advise(self, findings: Sequence[Finding]) -> None:
        """Warn of what was found, and keep it."""
        self.findings += findings
        if self._ranks.is_first:
            warn(findings)

    def on_train_end(self) -> None:
        """Look back; not after an interrupt."""
        if self.module.options.kl_weight > 0:
            self.advise(judge_kl_weight(self._kl_weight(), self.global_step))

    def stop_if_diverged(self) -> None:
        """Look at the steps since the last log, as is due after the last step."""
        if self._has_diverged():
            raise self._divergence(watch_gradients(self.module))

    def on_validation_epoch_start(self) -> None:
        """Hide the same entries in every validation, and draw the same latents."""
        self._validation_generator = torch.Generator().manual_seed(self._ranks.rank)
        self._validation_noise = torch.Generator(self.device).manual_seed(self._ranks.rank)
        self._validation_losses: dict[str, list[Tensor]] = {}
        n_tracks = len(self.module.tracks.assay_t)
        self._validation_scores = {view.kind: FitScores(n_tracks, self.device) for view in self.module.views}

    def validation_step(self, minibatch: Minibatch, batch_idx: int) -> None:
        """Imputation loss of one minibatch of held-out regions."""
        module, generator = cast(ChipVAE, self.average.module), self._validation_generator
        n_biosamples = len(module.tracks.track_ba)
        task = draw_task(module, minibatch.n_regions, n_biosamples, generator, self._most_hidden, vary=False)
        example = apply_task(module, minibatch, task, None)
        _, predicted, losses = module(example, self._validation_noise)
        for view in module.views:
            name, truth = view.names.imputed_loss, example.truth[view.kind]
            self._validation_losses.setdefault(name, []).append(losses.extra_metrics[name])
            mean_rqg = predicted[view.kind].distribution.mean
            self._validation_scores[view.kind].add(truth.value_rqg, mean_rqg, truth.hidden_rqg, example.track_qg)

    def on_validation_epoch_end(self) -> None:
        """Log the loss that early stopping watches."""
        losses = {}
        for name, values in self._validation_losses.items():
            number = self._ranks.total(torch.tensor(float(len(values)), device=self.device))
            losses[f"validation_{name}"] = float(self._ranks.total(torch.stack(values).sum()) / number)
        losses["validation_loss"] = sum(losses.values())
        for view in self.module.views:
            self._validation_scores[view.kind].pool(self._ranks)
            taken = self._validation_scores[view.kind].take()
            losses |= {f"validation_{view.names.imputed}_{score}": taken[score] for score in ("r2", "pcc") if taken}
        self.record(losses)
        if not math.isfinite(losses["validation_loss"]):
            raise self._divergence(losses)
        # all ranks have the same, but Lightning warns unless it may sum up itself
        self.log("validation_loss", losses["validation_loss"], logger=False, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, one cycle of the learning rate over all steps."""
        embeddings = {id(p) for m in self.module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            is_matrix = parameter.ndim >= 2 and id(parameter) not in embeddings and "bias" not in name
            # decay would move what has no gradient
            (decayed if is_matrix and self._mask is None else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self._options.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self._options.lr, betas=(0.9, 0.99), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._options.lr, total_steps=max(_LEAST_SCHEDULE, self._n_steps), pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
