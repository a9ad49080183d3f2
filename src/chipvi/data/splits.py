"""Which regions to train on and which to hold out: whole stretches, for neighbouring regions leak."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pandas as pd

from .._messages import and_more, levels_to_caller, listed
from .context import choose_half_widths, count_at_window_bin, count_per_window_bin
from .segments import Segments

_LABELS = {"train": "train", "valid": "validation", "validation": "validation", "val": "validation", "test": "test"}
# What is written for a label by mistake, or by another program, beside the slips that look like one.
_NEAR = ("training", "testing", "dev", "held_out", "heldout", "held-out", "holdout", "hold_out", "hold-out")
_FEWEST_REGIONS = 200  # of 200 bp at least; below, held-out regions say nothing
_PIECES = 20  # stretches to cut the data into, at least
_BLOCK = 64  # neighbouring regions of 200 bp that are drawn together: fewer would need much context for each

# Rows that are looked at, at most, where some stand for all.
MOST_VALIDATED = 8_192  # while a model is trained
MOST_RECALIBRATED = 32_768
MOST_TRIED = 8_192  # of a held-out track
MOST_DIAGNOSED = 20_000
MOST_STANDARDISED = 4_096  # to standardise the inputs


def check_labels(labels: pd.Series) -> list[str]:
    """Distinct labels of a split column, refused where a region has none or only some are those of a split.

    A column of groups, such as chromosomes, has none of the labels of a split, nor one that looks like a slip of one:
    if it were taken for groups, a model would be trained on what was meant for testing.

    Parameters
    ----------
    labels
        The column of obs.

    Raises
    ------
    ValueError
        Naming the labels that were found, and what to write.
    """
    column = f"column {labels.name!r} of obs"
    if number := int(labels.isna().sum()):
        first = labels.index[int(np.argmax(labels.isna()))]
        raise ValueError(
            f"{column} must label every region; region {first} has no label{and_more(number)}. Fill it in, or leave "
            "those regions out."
        )
    values = sorted(set(map(str, labels.unique())))
    known = [value for value in values if value in _LABELS]
    other = [value for value in values if value not in _LABELS]
    slips = [value for value in other if _is_near(value)]
    if other and (known or slips):
        understood = f"understood are {listed(map(repr, known))}" if known else "none is understood"
        raise ValueError(
            f"{column} must hold the labels train, valid and test and no other, or groups such as chromosomes; it "
            f"holds {listed(map(repr, values))}, of which {understood}, not {listed(map(repr, slips or other))}. Write "
            "train, valid and test, in small letters and without blanks."
        )
    return values


def _is_near(value: str) -> bool:
    """Whether a label was probably meant to be one of a split."""
    plain = value.strip().lower()
    return plain in (*_LABELS, *_NEAR) or bool(
        get_close_matches(plain, ("train", "valid", "test", *_NEAR), cutoff=0.85)
    )


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on and rows to validate on, ascending int64; other rows are not used."""

    train: np.ndarray
    validation: np.ndarray

    def cut(self, segments: Segments) -> Segments:
        """Segments cut wherever the use of the rows changes, so that no context reaches across."""
        use_r = np.zeros(segments.n_regions, dtype=np.int8)
        use_r[self.train], use_r[self.validation] = 1, 2
        return replace(segments, offsets=np.union1d(segments.offsets, np.flatnonzero(np.diff(use_r)) + 1))


def split_regions(
    segments: Segments, labels: pd.Series | None, validation_size: float, random: np.random.Generator
) -> Split:
    """Hold out whole groups of regions for validation.

    Parameters
    ----------
    segments
        Runs of neighbouring regions. Without labels they are the groups, long ones cut into pieces.
    labels
        A label per region: either "train", "valid" and "test" (then that is the split, and "test" is not looked at),
        or anything else, such as chromosomes, whose values are the groups.
    validation_size
        Share of the regions to hold out, 0 to below 1.
    random
        Draws the groups.

    Raises
    ------
    ValueError
        For a share out of range, as :func:`check_labels`, and for labels that leave nothing to train on.

    Warns
    -----
    UserWarning
        If labels change so often along the genome that regions lose their context.
    """
    if not 0 <= validation_size < 1:
        raise ValueError(f"validation_size must be at least 0 and below 1, got {validation_size}.")
    n_regions = segments.n_regions
    if labels is not None:
        values = check_labels(labels)
        if set(values) <= set(_LABELS):
            code_r, found = pd.factorize(labels)
            part = np.array([_LABELS[str(label)] for label in found])
            split = Split(*(np.flatnonzero((part == name)[code_r]) for name in ("train", "validation")))
            if not len(split.train):
                raise ValueError(f"column {labels.name!r} of obs labels no region 'train'; found {values}.")
            _warn_of_short_pieces(split, segments, labels.name)
            return split
        group_r, _ = pd.factorize(labels)
        if len(values) < 2:
            raise ValueError(
                f"column {labels.name!r} of obs must hold at least 2 groups to hold one out, or the labels train, "
                f"valid and test; found only {values}. Leave out split_key to hold out stretches."
            )
    else:
        if not validation_size or count_at_window_bin(n_regions, segments.bin_width) < _FEWEST_REGIONS:
            return Split(np.arange(n_regions), np.arange(0))
        rows = np.arange(n_regions)
        low_r, _ = segments.bounds(rows)
        piece_r = (rows - low_r) // -(-n_regions // _PIECES)
        group_r = np.cumsum(np.r_[0, (np.diff(low_r) != 0) | (np.diff(piece_r) != 0)])
    held = _draw_groups(group_r, validation_size * n_regions, random)
    is_held_r = held[group_r]
    split = Split(np.flatnonzero(~is_held_r), np.flatnonzero(is_held_r))
    if labels is not None:
        _warn_of_short_pieces(split, segments, labels.name)
    return split


def _warn_of_short_pieces(split: Split, segments: Segments, name: object) -> None:
    """Context ends where the split does: whoever labels single regions at random trains without it."""
    before, after = (s.lengths[s.index(split.train)].mean() for s in (segments, split.cut(segments)))
    reach = max(choose_half_widths(segments.typical_width)) // (segments.typical_width or 1)
    if after < min(reach, before / 2):
        warnings.warn(
            f"column {name!r} of obs cuts the training regions into stretches of {after:.0f} neighbours on average, "
            f"from {before:.0f}, and context ends with a stretch. Label whole chromosomes or long stretches.",
            UserWarning,
            stacklevel=levels_to_caller(),
        )


def _draw_groups(group_r: np.ndarray, n_wanted: float, random: np.random.Generator) -> np.ndarray:
    """Random groups with about the wanted number of regions together, never all of them: bool per group."""
    size_g = np.bincount(group_r)
    order = random.permutation(len(size_g))
    total = np.cumsum(size_g[order])
    held = np.zeros(len(size_g), dtype=bool)
    held[order[total <= max(n_wanted, size_g.min() if n_wanted else 0)]] = True
    if n_wanted and not held.any():
        held[np.argmin(size_g)] = True
    if held.all():
        held[order[-1]] = False
    return held


def draw_blocks(
    rows: np.ndarray, most: int, segments: Segments | None = None, bin_width: int | None = None
) -> np.ndarray:
    """Blocks of neighbouring rows that stand for all: the same draw always, with no more rows than `most`.

    Drawn, for at equal steps the blocks could fall on the same part of every gene.

    Parameters
    ----------
    rows
        Ascending. If they are no more than `most`, all are returned.
    most
        Rows to return, at most; but one block at least.
    segments
        Cut the blocks at the borders of these and within each at equal places, whatever the rows; None: wherever the
        rows fall.
    bin_width
        Width of the regions in bp, if they have one. Of bins narrower than 200 bp a block takes one in so many, so that
        it spans as many base pairs as of those.

    Examples
    --------
    >>> len(draw_blocks(np.arange(960), most=300))
    256
    """
    if len(rows) <= most:
        return rows
    stride = count_per_window_bin(bin_width)
    n_rows = _BLOCK * stride
    if segments is None:
        edges = np.r_[np.arange(0, len(rows), n_rows), len(rows)]
    else:
        low_r, _ = segments.bounds(rows)
        is_first_r = np.r_[True, (np.diff(low_r) != 0) | (np.diff((rows - low_r) // n_rows) != 0)]
        edges = np.r_[np.flatnonzero(is_first_r), len(rows)]
    blocks = Blocks(edges, stride)
    order = np.random.default_rng(0).permutation(len(blocks))
    total = np.cumsum(blocks.lengths(order))
    n_chosen = max(1, int(np.searchsorted(total, most, side="right")))
    return np.sort(np.concatenate([rows[blocks[int(block)]] for block in order[:n_chosen]]))


class Blocks:
    """Stretches of rows cut into blocks, each with one row in so many: there may be millions, so none is kept.

    Parameters
    ----------
    edges
        Where stretches begin, and where the last one ends.
    stride
        A block takes every so-manieth row of its stretch, of which it is the first, the second, ...

    Examples
    --------
    >>> blocks = Blocks(np.array([0, 1, 5]), stride=2)
    >>> [blocks[block] for block in range(len(blocks))]
    [slice(0, 1, 2), slice(1, 5, 2), slice(2, 5, 2)]
    >>> blocks.lengths(np.array([2, 0]))
    array([2, 1])
    """

    def __init__(self, edges: np.ndarray, stride: int) -> None:
        self._edges, self._stride = edges, stride
        self._stops = np.cumsum(np.minimum(stride, np.diff(edges)))

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, block: int) -> slice:
        start, stop = self._bounds(np.array([block]))
        return slice(int(start[0]), int(stop[0]), self._stride)

    def lengths(self, blocks: np.ndarray) -> np.ndarray:
        """Number of rows of some blocks."""
        start, stop = self._bounds(blocks)
        return -(-(stop - start) // self._stride)

    def _bounds(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stretch = np.searchsorted(self._stops, blocks, side="right")
        first = np.where(stretch > 0, self._stops[stretch - 1], 0)
        return self._edges[stretch] + blocks - first, self._edges[stretch + 1]
