"""Which tracks are compared, two groups of biosamples by assay, and which others say what replicates differ by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._messages import listed, unknown

_MOST_OTHERS = 12  # tracks of other groups: more would hardly say more of the spread, and all are denoised


@dataclass(frozen=True, eq=False)
class Contrast:
    """Tracks of one assay in two groups, and in others that have replicates.

    Parameters
    ----------
    assay
        What was measured.
    columns
        Columns of the data, those of a group beside each other.
    group_t
        Group of each: 0 the first, 1 the second, from 2 on the others.
    first, second
        Names of the two groups.
    """

    assay: str
    columns: np.ndarray
    group_t: np.ndarray
    first: Sequence[str]
    second: Sequence[str]

    @property
    def singles(self) -> list[str]:
        """Names of the compared groups of which one biosample was measured."""
        number_g = np.bincount(self.group_t)
        return [
            listed(names) for names, number in zip((self.first, self.second), number_g, strict=False) if number == 1
        ]

    @property
    def n_variances(self) -> int:
        """Of how many biosamples the variance is known by replicates; that of a pair is one."""
        return sum(1 if number == 2 else int(number) for number in np.bincount(self.group_t) if number > 1)

    def typical(self, log_depth_t: np.ndarray) -> np.ndarray:
        """Mean over the compared tracks of log depths of all tracks of the data, for each column."""
        return np.full(len(self.columns), log_depth_t[self.columns[self.group_t < 2]].mean())


def find_contrasts(
    labels: pd.Series,
    assays: Sequence[str],
    is_measured_t: np.ndarray,
    groups: tuple[Sequence[str], Sequence[str] | None],
    asked: Sequence[str] | None,
) -> list[Contrast]:
    """Tracks to compare, by assay.

    Parameters
    ----------
    labels
        What each track belongs to; its name is that of the column of `var`.
    assays
        Assay of each track.
    is_measured_t
        Which tracks have counts and are no control.
    groups
        Labels of the first group, and of the second; None for all others.
    asked
        Assays; None for all that both groups have.

    Raises
    ------
    ValueError
        For unknown labels or assays, groups that overlap, and assays that a group was not measured in.
    """
    label_t = labels.astype(str).to_numpy()
    known = list(dict.fromkeys(label_t))
    first, second = (None if group is None else [str(name) for name in group] for group in groups)
    for name, group in (("group1", first), ("group2", second)):
        if group is not None and not group:
            raise ValueError(f"{name} must name at least one {labels.name}.")
        for label in group or ():
            if label not in known:
                raise ValueError(unknown(f"{name}: {labels.name}", label, known, "the data"))
    assert first is not None
    second = [label for label in known if label not in first] if second is None else second
    if both := [label for label in first if label in second]:
        raise ValueError(f"group1 and group2 must not overlap; {listed(both)} is in both.")
    assay_t = np.asarray(assays, dtype=object)
    for assay in asked or ():
        if assay not in assays:
            raise ValueError(unknown("assay", assay, list(dict.fromkeys(assays)), "the data"))
    others = [label for label in dict.fromkeys(label_t[labels.notna()]) if label not in first and label not in second]
    found = []
    for assay in dict.fromkeys(assays if asked is None else asked):
        of_assay_t = is_measured_t & (assay_t == assay)
        columns = [np.flatnonzero(of_assay_t & np.isin(label_t, group)) for group in (first, second)]
        if all(map(len, columns)):
            columns += _replicated([np.flatnonzero(of_assay_t & (label_t == label)) for label in others])
            group_t = np.repeat(np.arange(len(columns)), [len(part) for part in columns])
            found.append(Contrast(str(assay), np.concatenate(columns), group_t, first, second))
        elif asked is not None:
            lacking = listed(first if not len(columns[0]) else second)
            raise ValueError(
                f"{assay} must be measured in both groups; it has no counts in {lacking}. What is imputed is no "
                "evidence of a change: look at get_imputed_counts, or name another assay."
            )
    if not found:
        raise ValueError(f"no assay was measured in both groups, {listed(first)} and {listed(second)}.")
    return found


def _replicated(groups: list[np.ndarray]) -> list[np.ndarray]:
    """Those with replicates; of many, the first."""
    n_before = np.cumsum([0, *map(len, groups)])[:-1]
    kept = [group[: max(_MOST_OTHERS - before, 0)] for group, before in zip(groups, n_before, strict=True)]
    return [group for group in kept if len(group) > 1]
