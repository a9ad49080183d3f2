"""Training of a part of a module, while the rest stays as it is to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..module.vae import ChipVAE


@dataclass(frozen=True, eq=False)
class Part:
    """What of a module may move.

    Parameters
    ----------
    movable
        By the name of the parameter, which of its entries, bool; parameters that are not named stay.
    biosample_q
        Biosamples to predict in training: those of which the part can learn.
    """

    movable: dict[str, Tensor]
    biosample_q: Tensor

    @contextmanager
    def alone(self, module: ChipVAE) -> Iterator[None]:
        """Within, only this part of the module gets a gradient."""
        hooks = []
        for name, parameter in module.named_parameters():
            if name in self.movable:
                hooks.append(parameter.register_hook(_masked_by(self.movable[name])))
            else:
                parameter.requires_grad_(False)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            module.requires_grad_(True)


def _masked_by(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook that leaves no gradient where the mask is not set."""
    return lambda gradient: torch.where(mask.to(gradient.device), gradient, 0.0)
