"""Chromatin states along a chromosome, shared in part between biosamples."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

STATES = ("quiescent", "promoter", "enhancer", "transcribed", "repressed", "heterochromatin", "insulator")

# How a segment of one state (row) is followed by the next (column), its mean length in bp, and how often another
# biosample has it too: promoters and insulators are mostly shared between cells, enhancers and polycomb are not.
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


def biosample_states(
    n_regions: int, n_biosamples: int, bin_size: int, seed: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each biosample the state of every region, and its place within the segment (-1 to 1).

    A biosample follows the shared chain, but in some of its segments a chain of its own.
    """
    shared_state, shared_position, segment = _chain(n_regions, bin_size, np.random.default_rng([*seed, 4]))
    first = np.flatnonzero(np.diff(segment, prepend=-1))
    for b in range(n_biosamples):
        rng = np.random.default_rng([*seed, 5, b])
        own_state, own_position, _ = _chain(n_regions, bin_size, rng)
        keep = (rng.random(len(first)) < _CONSERVED[shared_state[first]])[segment]
        yield np.where(keep, shared_state, own_state), np.where(keep, shared_position, own_position)


def _chain(n_regions: int, bin_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw state, place within the segment (-1 to 1) and segment number of each region from a semi-Markov chain."""
    n_segments = min(n_regions, 100 + n_regions * bin_size // 2_000)  # more than enough: a segment has 4 kb on average
    cumulative = _TRANSITIONS.cumsum(axis=1)[:, :-1].tolist()
    draws = rng.random(n_segments - 1).tolist()
    state_s = np.array(list(accumulate(draws, lambda state, u: bisect(cumulative[state], u), initial=0)), np.int8)
    length_s = np.maximum(1, np.rint(rng.gamma(2, _LENGTHS[state_s] / 2 / bin_size))).astype(int)
    length_s[-1] += n_regions
    segment = np.repeat(np.arange(n_segments), length_s)[:n_regions]
    start_s = np.cumsum(length_s) - length_s
    position = 2 * (np.arange(n_regions) - start_s[segment] + 0.5) / length_s[segment] - 1
    return state_s[segment], position.astype(np.float32), segment
