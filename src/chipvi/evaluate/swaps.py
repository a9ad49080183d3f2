"""Biosamples that seem swapped or to be there twice, judged by which others they are predicted from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd

_REPLICATE = re.compile(r"(.+?)(?:[\s._-]+(?:r|rep|replicate)?[\s._-]*|rep(?:licate)?)\d+", re.IGNORECASE)
_IDENTICAL = 0.999  # correlation of counts; replicates, which were sequenced apart, differ by chance alone in more
_NEARLY_ALL = 0.8  # of the weight; two replicates of three share .88 after a short training
_MAJORITY = 0.5
_TIMES = 3  # the largest weight on another group over that on the own one, so that nearly equal weights raise no alarm
_NAMED = 0.9  # share of that group's weight that the biosamples named as sources hold


class Suspicion(Enum):
    """What may be wrong with the labels of biosamples."""

    DUPLICATE = "the same data under two names"
    SWAP = "predicted from another group and not from its own"


@dataclass(frozen=True)
class Suspect:
    """Biosamples whose labels may be wrong.

    Parameters
    ----------
    suspicion
        What may be wrong.
    biosamples
        The copies, or the one that seems swapped.
    sources
        What it is predicted from, if it seems swapped: members of one other group, heaviest first.
    weight
        Of that group, or that of the copies on each other, the least of them.
    own_weight
        Of the other biosamples of its own group, if it seems swapped.
    correlation
        Of the counts of copies, the least of them.
    """

    suspicion: Suspicion
    biosamples: tuple[str, ...]
    sources: tuple[str, ...] = ()
    weight: float = np.nan
    own_weight: float = np.nan
    correlation: float = np.nan

    @property
    def has_one_source(self) -> bool:
        """Whether a single other biosample has nearly all the weight."""
        return len(self.sources) == 1 and self.weight >= _NEARLY_ALL


def judge_swaps(
    affinity: pd.DataFrame, correlation: pd.DataFrame | None = None, groups: Sequence[str] | None = None
) -> list[Suspect]:
    """Find biosamples that seem swapped or to be there twice.

    Copies have the same counts, and nearly all of their weight on each other. A biosample seems swapped if most of its
    weight lies on one other group, and no member of its own has a third as much as the heaviest of that one. Those
    without another member of their group that they could be predicted from are not judged.

    Parameters
    ----------
    affinity
        Weights with which each biosample (row) is predicted from the others (columns); NaN where it cannot be, for
        want of an assay in common.
    correlation
        Pearson correlation of the counts of two biosamples over all that was measured in both; None finds no copies.
    groups
        Group of each row, such as its cell type; None goes by the names (:func:`group_by_name`).

    Returns
    -------
    Copies first, each set once, then swaps in the order of the rows.
    """
    rows = list(affinity.index)
    names = [str(name) for name in rows]
    weight_bb = affinity[rows].to_numpy(dtype=np.float64, copy=True)
    np.fill_diagonal(weight_bb, np.nan)
    copies = [] if correlation is None else _find_copies(names, weight_bb, correlation.loc[rows, rows].to_numpy())
    explained = {name for one in copies for name in one.biosamples}
    group_b = np.array(group_by_name(names) if groups is None else [str(group) for group in groups])
    swaps = [_judge_one(b, names, weight_bb[b], group_b) for b, name in enumerate(names) if name not in explained]
    return [*copies, *(swap for swap in swaps if swap is not None)]


def group_by_name(names: Sequence[str]) -> list[str]:
    """What stands before the number of the replicate, set off by a sign or by "rep"; else the name itself.

    >>> group_by_name(["neuron_1", "neuron_2", "oligo-rep1", "K562", "cell1"])
    ['neuron', 'neuron', 'oligo', 'K562', 'cell1']
    """
    return [found[1] if (found := _REPLICATE.fullmatch(name)) else name for name in names]


def _find_copies(names: list[str], weight_bb: np.ndarray, correlation_bb: np.ndarray) -> list[Suspect]:
    found: list[Suspect] = []
    done: set[int] = set()
    is_copy_bb = (correlation_bb >= _IDENTICAL) & ~np.eye(len(names), dtype=bool)
    for b in np.flatnonzero(is_copy_bb.any(axis=1)):
        copies = np.r_[b, np.flatnonzero(is_copy_bb[b])]
        weight = float(np.nansum(weight_bb[np.ix_(copies, copies)], axis=1).min())
        if int(b) not in done and weight >= _NEARLY_ALL:
            done.update(copies.tolist())
            biosamples = tuple(names[copy] for copy in copies)
            correlation = float(correlation_bb[b, copies[1:]].min())
            found.append(Suspect(Suspicion.DUPLICATE, biosamples, weight=weight, correlation=correlation))
    return found


def _judge_one(b: int, names: list[str], weight_o: np.ndarray, group_b: np.ndarray) -> Suspect | None:
    """The suspicion that a biosample is swapped, given its weights on the others."""
    is_known_o = ~np.isnan(weight_o)
    own_o = weight_o[is_known_o & (group_b == group_b[b])]
    others = sorted(set(group_b[is_known_o]) - {group_b[b]})
    if not len(own_o) or not others:
        return None
    weight_by_group = {group: weight_o[is_known_o & (group_b == group)].sum() for group in others}
    heaviest = max(others, key=lambda group: weight_by_group[group])
    members = np.flatnonzero(is_known_o & (group_b == heaviest))
    members = members[np.argsort(-weight_o[members], kind="stable")]
    if weight_by_group[heaviest] <= _MAJORITY or weight_o[members[0]] < _TIMES * own_o.max():
        return None
    share_o = weight_o[members].cumsum() / weight_by_group[heaviest]
    sources = [names[o] for o in members[: 1 + np.searchsorted(share_o, _NAMED)]]
    return Suspect(
        Suspicion.SWAP,
        (names[b],),
        tuple(sources),
        weight=float(weight_by_group[heaviest]),
        own_weight=float(own_o.sum()),
    )
