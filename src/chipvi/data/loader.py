"""Minibatches of contiguous blocks of regions, indexed by NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .context import count_per_window_bin
from .minibatch import Minibatch, take_regions
from .track_data import TrackData

BLOCK = 32  # regions; longer blocks read less context per region, shorter ones mix better


class RegionLoader:
    """Minibatches for a number of steps, pass after pass over the rows, each pass in another order.

    Who iterates once more gets those that follow, as many again: an epoch is a number of steps.

    Parameters
    ----------
    data, rows
        What to read: ascending rows.
    half_widths
        How far windows reach to either side: bp, or without coordinates rows.
    batch_size
        Regions in a minibatch, at most.
    n_steps
        Length: steps of an epoch.
    random
        Order of the blocks.
    rank, n_ranks
        Which of how many loaders this is that read together, from 0 on: the blocks are dealt to them in turn. All draw
        the same order, so that over a pass they give every row once.
    """

    def __init__(
        self,
        data: TrackData,
        rows: np.ndarray,
        half_widths: tuple[int, ...],
        batch_size: int,
        n_steps: int,
        random: np.random.Generator,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self._data, self._rows, self._half_widths, self._random = data, rows, half_widths, random
        self._stride = count_per_window_bin(data.segments.bin_width)
        self._n_blocks = n_ranks * max(1, min(batch_size, len(rows) // n_ranks) // BLOCK)  # in a step of all ranks
        self._rank, self._n_ranks, self._n_steps = rank, n_ranks, n_steps
        self._n_given = self._n_drawn = 0
        self._blocks: list[np.ndarray] = []

    def __len__(self) -> int:
        return self._n_steps

    def __iter__(self) -> Iterator[Minibatch]:
        while self._n_drawn < self._n_given:  # those before a checkpoint
            self._draw()
        for _ in range(self._n_drawn % self._n_steps, self._n_steps):
            rows = self._draw()
            self._n_given = self._n_drawn
            yield take_regions(self._data, rows, self._half_widths)

    def _draw(self) -> np.ndarray:
        """Rows of the next minibatch."""
        while len(self._blocks) < self._n_blocks:
            self._blocks += self._draw_pass()
        chosen = self._blocks[self._rank : self._n_blocks : self._n_ranks]
        self._blocks, self._n_drawn = self._blocks[self._n_blocks :], self._n_drawn + 1
        return np.unique(np.concatenate(chosen))

    def state_dict(self) -> dict[str, int]:
        """How many minibatches were given, for a checkpoint of Lightning."""
        return {"n_given": self._n_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin after as many minibatches: those before are drawn, for the order's sake, and not read."""
        self._n_given = state["n_given"]

    def _draw_pass(self) -> list[np.ndarray]:
        """All rows once, in blocks that begin elsewhere in every pass; of narrow bins a block takes one in so many."""
        n_rows = BLOCK * self._stride
        edges = np.arange(self._random.integers(1, n_rows + 1), len(self._rows), n_rows)
        stretches = np.split(self._rows, edges)
        blocks = [rows[n :: self._stride] for rows in stretches for n in range(min(self._stride, len(rows)))]
        return [blocks[i] for i in self._random.permutation(len(blocks))]


class FixedMinibatches:
    """The same minibatches in the same order, whenever asked.

    Parameters
    ----------
    data, rows
        What to read: ascending rows.
    half_widths
        How far windows reach to either side: bp, or without coordinates rows.
    batch_size
        Regions in a minibatch.
    """

    def __init__(self, data: TrackData, rows: np.ndarray, half_widths: tuple[int, ...], batch_size: int) -> None:
        self._data, self._rows, self._half_widths, self._batch_size = data, rows, half_widths, batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[Minibatch]:
        for start in range(0, len(self._rows), self._batch_size):
            rows = self._rows[start : start + self._batch_size]
            yield take_regions(self._data, rows, self._half_widths)
