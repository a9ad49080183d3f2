"""What a single step tells about the health of the model: clamps, dispersion, latents, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from ..module.vae import ChipVAE

ACTIVE = 0.01  # nat: a latent with less carries nothing


@torch.no_grad()
def watch_heads(module: ChipVAE, inputs: dict[str, Tensor], generative: dict[str, Any]) -> dict[str, float]:
    """Share of the target entries at a clamp, bound or floor, and geometric means of dispersion and spread.

    Parameters
    ----------
    module, inputs, generative
        The module, what :func:`apply_task` made of the minibatch, and what came of it.

    Returns
    -------
    `clamped_<coordinate>` as far as the count head has it, `dispersion` and `moment_dispersion` (that of
    the moments of the entries' tracks), `floored_std` and `signal_std`. Without target entries nothing.
    """
    values: dict[str, Tensor] = {}
    if generative["counts"] is not None:
        weight_rqg = inputs["hidden_counts_rqg"] + inputs["spared_counts_rqg"]
        at_bounds = module.count_head.at_bounds(*generative["count_inputs"])
        values |= {f"clamped_{name}": _mean(is_held, weight_rqg) for name, is_held in at_bounds.items()}
        if hasattr(generative["counts"], "theta"):
            values["dispersion"] = _mean(generative["counts"].theta.log(), weight_rqg).exp()
            values["moment_dispersion"] = _mean(generative["count_inputs"][2], weight_rqg).exp()
    if generative["signal"] is not None:
        weight_rqg = inputs["hidden_signal_rqg"]
        values["floored_std"] = _mean(module.signal_head.at_bounds(*generative["signal_inputs"])["std"], weight_rqg)
        values["signal_std"] = _mean(generative["signal"].stddev.log(), weight_rqg).exp()
    return {name: value for name, value in _to_floats(values).items() if value == value}


@torch.no_grad()
def watch_latents(qz: Distribution) -> dict[str, float]:
    """`kl_by_latent.<number>`, in nat, averaged over regions and queries, and how many are active."""
    kl_k = kl_divergence(qz, Normal(0.0, 1.0)).flatten(0, 1).mean(dim=0)
    by_latent = {f"kl_by_latent.{k}": kl for k, kl in enumerate(kl_k.tolist())}
    return by_latent | {"active_latents": float(sum(kl > ACTIVE for kl in by_latent.values()))}


def watch_gradients(module: ChipVAE) -> dict[str, float]:
    """Norm of the gradient that reaches the trunk, and each head's own rows of the decoder."""
    shared_oh, own_ako = cast(nn.Linear, module.decoder.shared[-1]).weight.grad, module.decoder.weight_ako.grad
    rows = {}
    if module.has_counts:
        rows["count_head"] = slice(module.n_count_outputs)
    if module.has_signal:
        rows["signal_head"] = slice(module.n_count_outputs, None)
    branches: dict[str, list[Tensor | None]] = {"trunk": [p.grad for p in module.encoder.parameters()]}
    for name, o in rows.items():  # no gradient at all is one of 0
        branches[name] = [] if shared_oh is None or own_ako is None else [shared_oh[o], own_ako[..., o]]
    return {f"grad_norm_{name}": float(norm(gradients)) for name, gradients in branches.items()}


def norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Norm of all of them together; 0 of none."""
    present = [g for g in gradients if g is not None]
    return torch.stack(torch._foreach_norm(present)).norm() if present else torch.tensor(0.0)


def _mean(value_rqg: Tensor, weight_rqg: Tensor) -> Tensor:
    """Over the entries of weight 1; NaN where there is none."""
    return (value_rqg * weight_rqg).sum() / weight_rqg.sum()


def _to_floats(values: dict[str, Tensor]) -> dict[str, float]:
    """In one transfer from the device."""
    return dict(zip(values, torch.stack([*values.values()]).tolist(), strict=True)) if values else {}
