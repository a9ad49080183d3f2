"""The processes that train a model together, one for each device: which one this is, and sums over all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch.distributed as dist
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from .._quiet import quiet_lightning

_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")


@dataclass(frozen=True)
class Ranks:
    """The processes of a training. What they exchange, all of them must ask for, and in the same order.

    Parameters
    ----------
    rank
        Which of them this is, from 0 on.
    size
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and warns."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """A seed of this rank's own, 0 to below 2**63; the same for the same seed, rank and size.

        >>> len({Ranks(rank, 3).seed(0) for rank in range(3)})
        3
        """
        return int(np.random.SeedSequence([seed, self.rank, self.size]).generate_state(1, np.uint64)[0] >> 1)

    def total(self, x: Tensor) -> Tensor:
        """Sum over the ranks, without a gradient; of one, the tensor itself."""
        return x if self.size == 1 else self._reduced(x, dist.ReduceOp.SUM)

    def largest(self, x: Tensor) -> Tensor:
        """Maximum over the ranks; of one, the tensor itself."""
        return x if self.size == 1 else self._reduced(x, dist.ReduceOp.MAX)

    def _reduced(self, x: Tensor, by: Any) -> Tensor:
        reduced = x.detach().clone()
        dist.all_reduce(reduced, by)
        return reduced

    def gather(self, mine: Any) -> list[Any]:
        """What each of them has, by rank: plain values and tensors."""
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def share(self, module: nn.Module) -> None:
        """Give all the weights and buffers of the first, in place."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """End, with one sentence, where another rank has ended.

        Raises
        ------
        ConnectionError
            If a message to or from another rank fails, or takes longer than half an hour.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise ConnectionError(
                f"another of the {self.size} processes that train together has ended or cannot be reached, so process "
                f"{self.rank + 1} ends, too. Its own message says why; a training with a checkpoint can go on."
            ) from error


def find_ranks(accelerator: str, devices: Any, strategy: Any = "auto", num_nodes: Any = 1) -> Ranks:
    """The processes that are to train together, and which of them this one is, as torchrun, srun or Lightning has it.

    Parameters
    ----------
    accelerator, devices, strategy, num_nodes
        Of Lightning's trainer; "auto" is one device of each node.

    Raises
    ------
    ValueError
        For arguments that Lightning refuses or that are not those that this process was started with, for another
        strategy than "ddp" on several devices, and where further processes cannot be started.
    """
    n_started = int(os.environ["WORLD_SIZE"]) if dist.is_available() and dist.is_torchelastic_launched() else 1
    if devices in ("auto", 1, "1") and num_nodes == 1:
        size, trainer = 1, None
    else:
        with quiet_lightning(), refused_by_lightning(devices=devices, num_nodes=num_nodes):
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=1 if devices == "auto" else devices,
                num_nodes=num_nodes,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            size = trainer.world_size
    if size == 1 or trainer is None:
        if n_started > 1:
            raise ValueError(
                f"torchrun has started {n_started} processes, and one device is asked for, in each of them. Ask for as "
                "many devices as there are processes on a machine, and for as many nodes as there are machines."
            )
        return Ranks()
    if strategy not in _STRATEGIES:
        raise ValueError(f"several devices are trained on with strategy='ddp', not {strategy!r}.")
    assert isinstance(trainer.strategy, ParallelStrategy) and trainer.strategy.cluster_environment is not None
    environment = trainer.strategy.cluster_environment
    if not environment.creates_processes_externally and not _can_be_started_again():
        raise ValueError(
            f"on {size} devices this program is started once more for each, so it must be a script or a module, not a "
            "notebook, a prompt or a text given to python -c. Write it into a file, use the command chipvi train, or "
            "train on one device."
        )
    with refused_by_lightning(devices=devices, num_nodes=num_nodes):
        environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    return Ranks(trainer.global_rank, size)


def _can_be_started_again() -> bool:
    is_module = getattr(sys.modules["__main__"], "__spec__", None) is not None
    return not hasattr(sys, "ps1") and (is_module or Path(sys.argv[0]).is_file())


@contextmanager
def refused_by_lightning(**given: Any) -> Iterator[None]:
    """Say in a sentence which arguments the trainer of Lightning does not take, and why.

    Raises
    ------
    ValueError
        If there are any.
    """
    try:
        yield
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(f"the trainer of Lightning refuses its arguments ({arguments}): {error}") from error
