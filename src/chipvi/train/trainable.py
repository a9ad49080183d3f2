"""Training of some entries of a module, while the rest stays as it is to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..module.vae import ChipVAE
from ..nn import TrainableEntries


@dataclass(frozen=True, eq=False)
class TrainableMask:
    """What of a module may move.

    Parameters
    ----------
    entries
        Parameters with their movable entries; parameters that are not here stay.
    biosample_q
        Biosamples to predict in training: those of which the entries can learn.
    """

    entries: TrainableEntries
    biosample_q: Tensor

    @classmethod
    def of_query(cls, module: ChipVAE, n_biosamples: int, n_assays: int, n_tracks: int) -> TrainableMask:
        """The vectors of new biosamples and the weights of new assays, given how many of each are known.

        Raises
        ------
        ValueError
            If there are neither.
        """
        found = [
            *module.biosamples.new_entries(n_biosamples),
            *module.encoder.new_entries(n_assays),
            *module.decoder.new_entries(n_assays),
        ]
        entries = [(parameter, is_new) for parameter, is_new in found if is_new.any()]
        if not entries:
            raise ValueError(
                "the query has neither a new biosample nor a new assay, so there is nothing to train on it; it can "
                "predict as it is. To learn from its tracks, train a model on all of them."
            )
        return cls(entries, module.tracks.biosample_t[n_tracks:].unique())

    @contextmanager
    def alone(self, module: ChipVAE) -> Iterator[None]:
        """Within, only these entries of the module get a gradient."""
        movable = {id(parameter): is_movable for parameter, is_movable in self.entries}
        hooks = []
        for parameter in module.parameters():
            if id(parameter) in movable:
                hooks.append(parameter.register_hook(_masked_by(movable[id(parameter)])))
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
