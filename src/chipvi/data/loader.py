"""Minibatches of contiguous blocks of regions, indexed by NumPy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np

from .context import count_per_window_bin
from .minibatch import Minibatch, take_regions
from .splits import Blocks
from .track_data import TrackData

BLOCK = 32  # regions; longer blocks read less context per region, shorter ones mix better
_AHEAD = 4  # minibatches that are read from files while the ones before are computed with


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
        self._n_given = 0
        self._rows_of_steps: Iterator[np.ndarray] | None = None

    def __len__(self) -> int:
        return self._n_steps

    def __iter__(self) -> Iterator[Minibatch]:
        if self._rows_of_steps is None:  # those before a checkpoint are drawn, for the order's sake, and not read
            self._rows_of_steps = islice(self._draw_steps(), self._n_given, None)
        epoch = islice(self._rows_of_steps, self._n_steps - self._n_given % self._n_steps)
        for minibatch in taken(self._data, self._half_widths, epoch):
            self._n_given += 1
            yield minibatch

    def _draw_steps(self) -> Iterator[np.ndarray]:
        """Rows of each step, without end."""
        blocks: Iterator[np.ndarray] = iter(())
        while True:
            chosen = list(islice(blocks, self._n_blocks))
            while len(chosen) < self._n_blocks:
                blocks = self._draw_pass()
                chosen += islice(blocks, self._n_blocks - len(chosen))
            yield np.unique(np.concatenate(chosen[self._rank :: self._n_ranks]))

    def state_dict(self) -> dict[str, int]:
        """How many minibatches were given, for a checkpoint of Lightning."""
        return {"n_given": self._n_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin after as many minibatches: those before are drawn, for the order's sake, and not read."""
        self._n_given = state["n_given"]

    def _draw_pass(self) -> Iterator[np.ndarray]:
        """All rows once, in blocks that begin elsewhere in every pass; of narrow bins a block takes one in so many."""
        n_rows = BLOCK * self._stride
        first = int(self._random.integers(1, n_rows + 1))
        blocks = Blocks(np.r_[0, np.arange(first, len(self._rows), n_rows), len(self._rows)], self._stride)
        return (self._rows[blocks[block]] for block in self._random.permutation(len(blocks)))


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
        starts = range(0, len(self._rows), self._batch_size)
        chosen = (self._rows[start : start + self._batch_size] for start in starts)
        return taken(self._data, self._half_widths, chosen)


def taken(data: TrackData, half_widths: tuple[int, ...], chosen: Iterator[np.ndarray]) -> Iterator[Minibatch]:
    """The minibatches of these rows, in this order; from files a thread reads some ahead of who takes them.

    Parameters
    ----------
    data, half_widths
        As for :func:`chipvi.data.minibatch.take_regions`.
    chosen
        Rows of each minibatch.
    """
    calls = (partial(take_regions, data, rows, half_widths) for rows in chosen)
    return (call() for call in calls) if data.in_memory else _ahead(calls)


def _ahead(calls: Iterator[Callable[[], Minibatch]]) -> Iterator[Minibatch]:
    """Results of calls, in their order, which a thread makes some ahead; an error comes where its result would."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = deque(pool.submit(call) for call in islice(calls, _AHEAD))
        try:
            while waiting:
                minibatch = waiting.popleft().result()
                waiting.extend(pool.submit(call) for call in islice(calls, 1))
                yield minibatch
        finally:
            pool.shutdown(cancel_futures=True)
