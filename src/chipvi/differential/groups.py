"""Which tracks are compared: two groups of biosamples, assay by assay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._messages import listed, unknown


@dataclass(frozen=True, eq=False)
class Contrast:
    """Tracks of one assay in two groups.

    Parameters
    ----------
    assay
        What was measured.
    columns
        Columns of the data, first those of the first group.
    is_first_t
        Which of them are of the first group.
    first, second
        Names of the groups.
    """

    assay: str
    columns: np.ndarray
    is_first_t: np.ndarray
    first: Sequence[str]
    second: Sequence[str]

    @property
    def singles(self) -> list[str]:
        """Names of groups of which one biosample was measured."""
        groups = ((self.first, self.is_first_t), (self.second, ~self.is_first_t))
        return [listed(names) for names, is_group_t in groups if np.count_nonzero(is_group_t) == 1]


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
    is_first_t, is_second_t = np.isin(label_t, first) & is_measured_t, np.isin(label_t, second) & is_measured_t
    assay_t = np.asarray(assays, dtype=object)
    for assay in asked or ():
        if assay not in assays:
            raise ValueError(unknown("assay", assay, list(dict.fromkeys(assays)), "the data"))
    found = []
    for assay in dict.fromkeys(assays if asked is None else asked):
        columns = [np.flatnonzero(is_group_t & (assay_t == assay)) for is_group_t in (is_first_t, is_second_t)]
        if all(map(len, columns)):
            is_first = np.repeat([True, False], [len(part) for part in columns])
            found.append(Contrast(str(assay), np.concatenate(columns), is_first, first, second))
        elif asked is not None:
            lacking = listed(first if not len(columns[0]) else second)
            raise ValueError(
                f"{assay} must be measured in both groups; it has no counts in {lacking}. What is imputed is no "
                "evidence of a change: look at get_imputed_counts, or name another assay."
            )
    if not found:
        raise ValueError(f"no assay was measured in both groups, {listed(first)} and {listed(second)}.")
    return found
