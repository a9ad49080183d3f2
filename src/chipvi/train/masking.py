"""What to hide from the encoder, and what is then to be predicted: pure functions of data and generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..module.vae import NO_ASSAY, ChipVAE

LEAST_HIDDEN = 0.05
LITTLE, MUCH = 0.2, 0.65  # that is hidden, at most
STRANGER_SHARE = 0.3
_FEW_REGIONS = 10_000
THINNED_SHARE = 0.5
LEAST_KEPT, MOST_KEPT = 0.3, 0.9


@dataclass(frozen=True)
class Task:
    """What the module is to do with a minibatch.

    Parameters
    ----------
    hidden_rt
        Tracks that the encoder must not see, bool.
    keep
        Share of the reads that the encoder sees of the other tracks; the rest is to be predicted.
    biosample_q
        Biosamples to predict.
    embedding_q
        Their embeddings: their own, or the generic one.
    """

    hidden_rt: Tensor
    keep: float
    biosample_q: Tensor
    embedding_q: Tensor


def choose_most_hidden(n_regions: int) -> float:
    """Largest share of the tracks to hide, given the number of regions to learn from.

    A track is imputed from all others, so that little should be hidden; but few regions would be learnt by heart.

    >>> choose_most_hidden(3_000), choose_most_hidden(30_000)
    (0.65, 0.2)
    """
    return MUCH if n_regions < _FEW_REGIONS else LITTLE


def draw_task(
    module: ChipVAE,
    n_regions: int,
    n_queries: int,
    generator: torch.Generator,
    most_hidden: float = LITTLE,
    vary: bool = True,
    among_q: Tensor | None = None,
) -> Task:
    """Draw a task: a share of the targets hidden afresh in each region, reads thinned in half of the minibatches.

    In some minibatches the biosamples are taken for strangers: they get the generic embedding, and more is hidden.

    Parameters
    ----------
    module
        Knows the tracks and where it runs.
    n_regions
        Regions of the minibatch.
    n_queries
        Biosamples to predict, at most.
    generator
        On the CPU.
    most_hidden
        Largest share of the targets to hide, `LEAST_HIDDEN` to 1; of strangers at least `MUCH`.
    vary
        Whether reads may be thinned, and biosamples taken for strangers.
    among_q
        Biosamples to choose from; None for all.
    """
    device = module.assay_t.device
    is_target_t = torch.zeros(len(module.assay_t), dtype=torch.bool)
    is_target_t[module.target_bg[module.target_bg >= 0].cpu()] = True
    are_strangers = vary and float(torch.rand((), generator=generator)) < STRANGER_SHARE
    if are_strangers:
        most_hidden = max(most_hidden, MUCH)
    rate_r1 = LEAST_HIDDEN + (most_hidden - LEAST_HIDDEN) * torch.rand(n_regions, 1, generator=generator)
    hidden_rt = (torch.rand(n_regions, len(is_target_t), generator=generator) < rate_r1) & is_target_t
    keep = 1.0
    if vary and module.has_counts and float(torch.rand((), generator=generator)) < THINNED_SHARE:
        keep = LEAST_KEPT + (MOST_KEPT - LEAST_KEPT) * float(torch.rand((), generator=generator))
    has_targets = (module.target_bg >= 0).any(dim=1).nonzero()[:, 0].cpu()
    if among_q is not None:
        has_targets = has_targets[torch.isin(has_targets, among_q.cpu())]
    biosample_q = has_targets[torch.randperm(len(has_targets), generator=generator)[:n_queries]]
    embedding_q = torch.full_like(biosample_q, module.biosamples.generic) if are_strangers else biosample_q
    return Task(hidden_rt.to(device), keep, biosample_q.to(device), embedding_q.to(device))


def hide_nothing(module: ChipVAE, n_regions: int) -> Task:
    """Everything visible, all biosamples asked for: the task of reconstruction."""
    hidden_rt = torch.zeros(n_regions, len(module.assay_t), dtype=torch.bool, device=module.assay_t.device)
    biosample_q = torch.arange(len(module.target_bg), device=module.assay_t.device)
    return Task(hidden_rt, 1.0, biosample_q, biosample_q)


def apply_task(
    module: ChipVAE,
    tensors: dict[str, Tensor],
    task: Task,
    generator: torch.Generator | None,
    log_depth_t: Tensor | None = None,
) -> dict[str, Tensor]:
    """Turn a minibatch into the inputs and targets of the module.

    Hidden tracks are predicted from all their reads. Visible tracks are predicted only where their reads are split at
    random into two parts, independent given the rate, of which the encoder sees one: to predict what it sees would
    teach the identity.

    Parameters
    ----------
    module, tensors, task
        The tensors are of :class:`chipvi.train.RegionLoader`, on the device of the module.
    generator
        Of the split, on that device; None for torch's own.
    log_depth_t
        Log depth of the tracks less the centre; None for that of training.
    """
    log_depth_t = module.log_depth_t if log_depth_t is None else log_depth_t
    own_row_r = tensors["low_rs"][:, 0]
    target_qg = module.target_bg[task.biosample_q]
    is_target_qg = (target_qg >= 0).float()
    target_qg = target_qg.clamp_min(0)
    hidden_rqg = task.hidden_rt[:, target_qg].float() * is_target_qg
    visible_rqg = (1 - task.hidden_rt[:, target_qg].float()) * is_target_qg
    counts_lt = tensors["counts_lt"]
    log_depth_qg = log_depth_t[target_qg]
    inputs = dict(tensors)
    if task.keep < 1:
        inputs["counts_lt"] = torch.binomial(counts_lt, torch.full_like(counts_lt, task.keep), generator=generator)
        rest_rqg = (counts_lt - inputs["counts_lt"])[own_row_r][:, target_qg]
        is_rest_rqg = visible_rqg > 0
        log_depth_rqg = log_depth_qg + is_rest_rqg * torch.log1p(torch.tensor(-task.keep))
        target_rqg = torch.where(is_rest_rqg, rest_rqg, counts_lt[own_row_r][:, target_qg])
    else:
        log_depth_rqg = log_depth_qg[None]
        target_rqg = counts_lt[own_row_r][:, target_qg]
        visible_rqg = torch.zeros_like(visible_rqg)
    counted_rqg = tensors["counted_lt"][own_row_r][:, target_qg]
    inputs |= {
        "visible_rt": ~task.hidden_rt,
        "log_keep": torch.log(torch.tensor(task.keep, device=counts_lt.device)),
        "log_depth_t": log_depth_t,
        "biosample_q": task.biosample_q,
        "embedding_q": task.embedding_q,
        "leave_out_q": torch.full_like(task.biosample_q, NO_ASSAY),
        "assay_qg": module.assay_t[target_qg],
        "track_qg": target_qg,
        "log_depth_rqg": log_depth_rqg,
        "target_counts_rqg": target_rqg,
        "hidden_counts_rqg": hidden_rqg * counted_rqg,
        "spared_counts_rqg": visible_rqg * counted_rqg,
        "observed_counts_rqg": is_target_qg * counted_rqg,
    }
    if module.has_signal:
        inputs["target_signal_rqg"] = tensors["signal_lt"][own_row_r][:, target_qg]
        signalled_rqg = tensors["signalled_lt"][own_row_r][:, target_qg]
        inputs["hidden_signal_rqg"] = hidden_rqg * signalled_rqg
        inputs["observed_signal_rqg"] = is_target_qg * signalled_rqg
    return inputs
