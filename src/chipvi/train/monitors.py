"""Signs of the health of the model in a single step: clamps, dispersion, latents, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from ..data.track_data import ViewKind
from ..module.inputs import Truth, ViewPrediction
from ..module.vae import ChipVAE
from .ranks import Ranks

ACTIVE = 0.01  # nat: a latent with less carries nothing
_GRADIENTS = {ViewKind.COUNTS: "grad_norm_count_head", ViewKind.SIGNAL: "grad_norm_signal_head"}


@torch.no_grad()
def watch_heads(
    module: ChipVAE,
    truth: Mapping[ViewKind, Truth],
    predicted: Mapping[ViewKind, ViewPrediction],
    ranks: Ranks,
) -> dict[str, float]:
    """Share of the target entries at a clamp, bound or floor, and geometric means of dispersion and spread.

    Parameters
    ----------
    module, truth, predicted
        The module, what :func:`apply_task` made of the minibatch, and what came of it.
    ranks
        Over whose minibatches the means are.

    Returns
    -------
    `clamped_<coordinate>` as far as the count head has it, `dispersion` and `moment_dispersion` (that of
    the moments of the entries' tracks), `floored_std` and `signal_std`. Without target entries nothing.
    """
    values: dict[str, Tensor] = {}
    for view in module.views:
        weight_rqg, one = truth[view.kind].scored_rqg, predicted[view.kind]
        at_bounds = view.head.at_bounds(
            one.head_inputs.raw_rqgo, one.head_inputs.start_rqg, one.head_inputs.log_spread_rqg
        )
        if view.kind is ViewKind.SIGNAL:
            values["floored_std"] = _mean(at_bounds["std"], weight_rqg, ranks)
            values["signal_std"] = _mean(one.distribution.stddev.log(), weight_rqg, ranks).exp()
            continue
        values |= {f"clamped_{name}": _mean(is_held, weight_rqg, ranks) for name, is_held in at_bounds.items()}
        if hasattr(one.distribution, "theta"):
            values["dispersion"] = _mean(one.distribution.theta.log(), weight_rqg, ranks).exp()
            values["moment_dispersion"] = _mean(one.head_inputs.log_spread_rqg, weight_rqg, ranks).exp()
    return {name: value for name, value in _to_floats(values).items() if value == value}


@torch.no_grad()
def watch_latents(qz: Distribution, ranks: Ranks) -> dict[str, float]:
    """`kl_by_latent.<number>`, in nat, averaged over regions and queries of all ranks, and how many are active."""
    kl_nk = kl_divergence(qz, Normal(0.0, 1.0)).flatten(0, 1)
    kl_k = ranks.total(kl_nk.sum(dim=0)) / ranks.total(torch.tensor(float(len(kl_nk)), device=kl_nk.device))
    by_latent = {f"kl_by_latent.{k}": kl for k, kl in enumerate(kl_k.tolist())}
    return by_latent | {"active_latents": float(sum(kl > ACTIVE for kl in by_latent.values()))}


def watch_gradients(module: ChipVAE) -> dict[str, float]:
    """Norm of the gradient that reaches the trunk, and each head's own rows of the decoder."""
    norms = {"grad_norm_trunk": norm([p.grad for p in module.encoder.parameters()])}
    shared_oh, own_ako = cast(nn.Linear, module.decoder.shared[-1]).weight.grad, module.decoder.weight_ako.grad
    first = 0
    for view in module.views:
        o = slice(first, first + view.n_outputs)
        gradients = [] if shared_oh is None or own_ako is None else [shared_oh[o], own_ako[..., o]]
        norms[_GRADIENTS[view.kind]] = norm(gradients)  # no gradient at all is one of 0
        first = o.stop
    return {name: float(value) for name, value in norms.items()}


def norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Norm of all of them together; 0 of none."""
    present = [g for g in gradients if g is not None]
    return torch.stack(torch._foreach_norm(present)).norm() if present else torch.tensor(0.0)


def _mean(value_rqg: Tensor, weight_rqg: Tensor, ranks: Ranks) -> Tensor:
    """Over the entries of weight 1; NaN where there is none."""
    return ranks.total((value_rqg * weight_rqg).sum()) / ranks.total(weight_rqg.sum())


def _to_floats(values: dict[str, Tensor]) -> dict[str, float]:
    """In one transfer from the device."""
    return dict(zip(values, torch.stack([*values.values()]).tolist(), strict=True)) if values else {}
