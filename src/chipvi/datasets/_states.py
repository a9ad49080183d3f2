"""Chromatin states along a chromosome, shared in part between cell types."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

STATES = ("quiescent", "promoter", "enhancer", "transcribed", "repressed", "heterochromatin", "insulator")

# How a segment of one state (row) is followed by the next (column), its mean length in bp, and how often another
# cell type has it too: promoters and insulators are mostly shared between cells, enhancers and polycomb are not.
_TRANSITIONS = np.array(
    [
        [0.00, 0.16, 0.30, 0.10, 0.16, 0.14, 0.14],
        [0.15, 0.00, 0.32, 0.45, 0.08, 0.00, 0.00],
        [0.28, 0.14, 0.00, 0.52, 0.06, 0.00, 0.00],
        [0.18, 0.20, 0.56, 0.00, 0.02, 0.00, 0.04],
        [0.60, 0.10, 0.15, 0.00, 0.00, 0.15, 0.00],
        [0.80, 0.00, 0.00, 0.00, 0.20, 0.00, 0.00],
        [0.70, 0.00, 0.00, 0.15, 0.15, 0.00, 0.00],
    ]
)
_LENGTHS = np.array([10_000, 2_000, 2_000, 9_000, 10_000, 18_000, 400])
_CONSERVED = np.array([0.88, 0.97, 0.82, 0.95, 0.72, 0.82, 0.95])


_CHANGED_IN_FAMILY = 0.7  # of what differs from the shared genome; the rest differs between the cells of a family


class _Chain(NamedTuple):
    """State, place within the segment (-1 to 1) and number of the segment of every region."""

    state: np.ndarray
    position: np.ndarray
    segment: np.ndarray


def cell_states(
    n_regions: int, families: Sequence[int], bin_size: int, seed: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each cell type the state of every region, and its place within the segment (-1 to 1).

    A cell type, whose family is given by number, follows the chain of its family, but in some of its segments a chain
    of its own; so does a family with the shared chain. A lone family is the shared chain.
    """
    shared = _draw_chain(n_regions, bin_size, np.random.default_rng([*seed, 4]))
    chain_f, changed = {families[0]: shared}, 1.0
    if len(set(families)) > 1:
        chain_f = {
            f: _descend(shared, bin_size, _CHANGED_IN_FAMILY, np.random.default_rng([*seed, 6, f]))
            for f in sorted(set(families))
        }
        changed -= _CHANGED_IN_FAMILY
    for c, f in enumerate(families):
        state, position, _ = _descend(chain_f[f], bin_size, changed, np.random.default_rng([*seed, 5, c]))
        yield state, position


def _descend(parent: _Chain, bin_size: int, changed: float, rng: np.random.Generator) -> _Chain:
    """Keep most segments of a chain, and follow a new one in the others: a share `changed` of what is not conserved."""
    own = _draw_chain(len(parent.state), bin_size, rng)
    first = np.flatnonzero(np.diff(parent.segment, prepend=-1))
    kept_s = rng.random(len(first)) < 1 - changed * (1 - _CONSERVED[parent.state[first]])
    keep = kept_s[parent.segment]
    number = np.where(keep, parent.segment, -1 - own.segment)
    return _Chain(
        np.where(keep, parent.state, own.state),
        np.where(keep, parent.position, own.position),
        np.cumsum(np.diff(number, prepend=number[0]) != 0),
    )


def _draw_chain(n_regions: int, bin_size: int, rng: np.random.Generator) -> _Chain:
    """Draw a semi-Markov chain."""
    n_segments = min(n_regions, 100 + n_regions * bin_size // 2_000)  # more than enough: a segment has 4 kb on average
    cumulative = _TRANSITIONS.cumsum(axis=1)[:, :-1].tolist()
    draws = rng.random(n_segments - 1).tolist()
    state_s = np.array(list(accumulate(draws, lambda state, u: bisect(cumulative[state], u), initial=0)), np.int8)
    length_s = np.maximum(1, np.rint(rng.gamma(2, _LENGTHS[state_s] / 2 / bin_size))).astype(int)
    length_s[-1] += n_regions
    segment = np.repeat(np.arange(n_segments), length_s)[:n_regions]
    start_s = np.cumsum(length_s) - length_s
    position = 2 * (np.arange(n_regions) - start_s[segment] + 0.5) / length_s[segment] - 1
    return _Chain(state_s[segment], position.astype(np.float32), segment)
