"""What to hide from the encoder, and what is then to be predicted: pure functions of data and generator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.imputable import find_imputable
from ..data.minibatch import Minibatch, ViewRows
from ..data.track_data import ViewKind
from ..module.inputs import NO_ASSAY, Example, Queries, Truth, Visible
from ..module.vae import ChipVAE
from .thinning import thin

LEAST_HIDDEN = 0.05
LITTLE, MUCH = 0.2, 0.65  # that is hidden, at most
DROPOUT_SHARE = 0.3  # of the minibatches, in which biosamples get the generic embedding
_FEW_REGIONS = 10_000
THINNED_SHARE = 0.5
_TRACKS_PER_STEP, _FEWEST_QUERIES, _MOST_QUERIES = 12, 2, 6
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


def choose_n_queries(target_bg: Tensor) -> int:
    """Biosamples to predict in a step, given the target tracks of each (-1 for none): more where each has few.

    >>> choose_n_queries(torch.arange(12)[:, None]), choose_n_queries(torch.arange(60).view(6, 10))
    (6, 2)
    """
    is_target_bg = target_bg >= 0
    n_biosamples = int(is_target_bg.any(dim=1).sum())
    return min(max(round(_TRACKS_PER_STEP * n_biosamples / int(is_target_bg.sum())), _FEWEST_QUERIES), _MOST_QUERIES)


def draw_task(
    module: ChipVAE,
    n_regions: int,
    n_queries: int,
    generator: torch.Generator,
    most_hidden: float = LITTLE,
    vary: bool = True,
    among_q: Tensor | None = None,
    of_regions: torch.Generator | None = None,
) -> Task:
    """Draw a task: a share of the targets hidden afresh in each region, reads thinned in half of the minibatches.

    In some minibatches there is biosample dropout: biosamples get the generic embedding, and more is hidden.

    Parameters
    ----------
    module
        Knows the tracks and its device.
    n_regions
        Regions of the minibatch.
    n_queries
        Biosamples to predict, at most.
    generator
        On the CPU.
    most_hidden
        Largest share of the targets to hide, `LEAST_HIDDEN` to 1; under biosample dropout at least `MUCH`.
    vary
        Whether there may be data thinning and biosample dropout.
    among_q
        Biosamples to choose from; None for all.
    of_regions
        Draws what is hidden in each region, on the CPU, while `generator` draws what all regions share; None: it draws
        both. Where several minibatches make one step, they differ in this one only.
    """
    of_regions = generator if of_regions is None else of_regions
    tracks, device = module.tracks, module.tracks.assay_t.device
    is_target_t = tracks.is_target_t.cpu()
    is_dropout = vary and float(torch.rand((), generator=generator)) < DROPOUT_SHARE
    if is_dropout:
        most_hidden = max(most_hidden, MUCH)
    rate_r1 = LEAST_HIDDEN + (most_hidden - LEAST_HIDDEN) * torch.rand(n_regions, 1, generator=of_regions)
    hidden_rt = (torch.rand(n_regions, len(is_target_t), generator=of_regions) < rate_r1) & is_target_t
    keep = 1.0
    if vary and module.has_counts and float(torch.rand((), generator=generator)) < THINNED_SHARE:
        keep = LEAST_KEPT + (MOST_KEPT - LEAST_KEPT) * float(torch.rand((), generator=generator))
    has_targets = (tracks.target_bg >= 0).any(dim=1).nonzero()[:, 0].cpu()
    if among_q is not None:
        has_targets = has_targets[torch.isin(has_targets, among_q.cpu())]
    biosample_q = has_targets[torch.randperm(len(has_targets), generator=generator)[:n_queries]]
    embedding_q = torch.full_like(biosample_q, module.biosamples.generic) if is_dropout else biosample_q
    return Task(hidden_rt.to(device), keep, biosample_q.to(device), embedding_q.to(device))


def hide_nothing(module: ChipVAE, n_regions: int) -> Task:
    """Everything visible, all biosamples asked for: the task of reconstruction."""
    device = module.tracks.assay_t.device
    hidden_rt = torch.zeros(n_regions, len(module.tracks.assay_t), dtype=torch.bool, device=device)
    biosample_q = torch.arange(len(module.tracks.target_bg), device=device)
    return Task(hidden_rt, 1.0, biosample_q, biosample_q)


def apply_task(
    module: ChipVAE,
    minibatch: Minibatch,
    task: Task,
    generator: torch.Generator | None,
    log_depth_t: Tensor | None = None,
) -> Example:
    """Turn a minibatch into a question to the module, and its answer.

    Hidden tracks are predicted from all their reads. Visible tracks are predicted only where their reads are thinned
    into two parts, independent given the rate, of which the encoder sees one: to predict what it sees would teach the
    identity.

    Parameters
    ----------
    module, minibatch, task
        The minibatch is on the device of the module.
    generator
        Of the thinning, on that device; None for torch's own.
    log_depth_t
        Log depth of the tracks less the centre; None for that of training.
    """
    log_depth_t = module.log_depth_t if log_depth_t is None else log_depth_t
    places = _Places(module, minibatch, task)
    counts, is_thinned = minibatch.counts, task.keep < 1
    kept_lt = thin(counts.value_lt, task.keep, generator) if is_thinned else counts.value_lt
    log_depth_rqg, value_rqg = log_depth_t[places.track_qg][None], places.take(counts.value_lt)
    thinned_rqg = torch.zeros_like(places.visible_rqg)
    if is_thinned:
        thinned_rqg = places.visible_rqg
        is_rest_rqg = thinned_rqg > 0
        value_rqg = torch.where(is_rest_rqg, places.take(counts.value_lt) - places.take(kept_lt), value_rqg)
        log_depth_rqg = log_depth_t[places.track_qg] + is_rest_rqg * torch.log1p(torch.tensor(-task.keep))
    truth = {ViewKind.COUNTS: places.truth(value_rqg, counts.present_lt, thinned_rqg)}
    if minibatch.signal is not None:
        value_rqg = places.take(minibatch.signal.value_lt)
        no_rqg = torch.zeros_like(places.visible_rqg)
        truth[ViewKind.SIGNAL] = places.truth(value_rqg, minibatch.signal.present_lt, no_rqg)
    return Example(
        visible=Visible(
            minibatch=replace(minibatch, counts=ViewRows(kept_lt, counts.present_lt)),
            visible_rt=~task.hidden_rt,
            log_depth_t=log_depth_t,
            log_keep=torch.log(torch.tensor(task.keep, device=kept_lt.device)),
        ),
        queries=Queries(
            biosample_q=task.biosample_q,
            embedding_q=task.embedding_q,
            leave_out_q=torch.full_like(task.biosample_q, NO_ASSAY),
            assay_qg=module.tracks.assay_t[places.track_qg],
        ),
        track_qg=places.track_qg,
        log_depth_rqg=log_depth_rqg,
        truth=truth,
    )


def choose_imputable(module: ChipVAE, example: Example) -> Tensor:
    """Of the targets (r, q, g), those that could be imputed from what the encoder sees in their region, bool."""
    tracks, minibatch = module.tracks, example.visible.minibatch
    views = [minibatch.view(kind) for kind in example.truth]
    present_rt = torch.stack([view.present_lt[minibatch.own_row_r] for view in views]).any(dim=0)
    visible_rt = present_rt & example.visible.visible_rt
    return find_imputable(visible_rt, tracks.biosample_t, tracks.assay_t, tracks.is_target_t)[:, example.track_qg]


class _Places:
    """Where the targets of a task stand among the tracks, and which of them are hidden in which region."""

    def __init__(self, module: ChipVAE, minibatch: Minibatch, task: Task) -> None:
        target_qg = module.tracks.target_bg[task.biosample_q]
        self._is_target_qg = (target_qg >= 0).float()
        self._own_row_r = minibatch.own_row_r
        self.track_qg = target_qg.clamp_min(0)
        hidden_rqg = task.hidden_rt[:, self.track_qg].float()
        self.hidden_rqg, self.visible_rqg = hidden_rqg * self._is_target_qg, (1 - hidden_rqg) * self._is_target_qg

    def take(self, x_lt: Tensor) -> Tensor:
        """Of rows of tracks, the regions themselves and the targets."""
        return x_lt[self._own_row_r[:, None, None], self.track_qg]

    def truth(self, value_rqg: Tensor, present_lt: Tensor, thinned_rqg: Tensor) -> Truth:
        """Values to predict, with the weights of measured entries."""
        present_rqg = self.take(present_lt)
        return Truth(
            value_rqg=value_rqg,
            hidden_rqg=self.hidden_rqg * present_rqg,
            thinned_rqg=thinned_rqg * present_rqg,
            observed_rqg=self._is_target_qg * present_rqg,
        )
