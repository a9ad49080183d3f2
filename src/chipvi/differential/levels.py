"""Log rates of the tracks of one assay, made comparable: what depends on the level alone is no change of a region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_STEP = 0.5  # width of a stratum, in log2 of the rate
_LEAST = 500  # regions of a stratum


def strata(level_r: np.ndarray) -> list[np.ndarray]:
    """Rows of regions of about one level (log2), ascending: half a doubling, or as much as holds 500 regions.

    Examples
    --------
    >>> [len(rows) for rows in strata(np.arange(1_800) / 600)]
    [600, 600, 600]
    """
    order = np.argsort(level_r, kind="stable")
    steps = np.split(order, np.flatnonzero(np.diff(np.floor(level_r[order] / _STEP))) + 1)
    found: list[np.ndarray] = []
    for rows in steps:
        if found and len(found[-1]) < _LEAST:
            found[-1] = np.concatenate([found[-1], rows])
        else:
            found.append(rows)
    if len(found) > 1 and len(found[-1]) < _LEAST:
        found[-2:] = [np.concatenate(found[-2:])]
    return found


def mean_by_row(values_rt: np.ndarray) -> np.ndarray:
    """Mean of what is not NaN in each row; NaN where all is."""
    present_rt = ~np.isnan(values_rt)
    number_r = present_rt.sum(axis=1)
    total_r = np.where(present_rt, values_rt, 0).sum(axis=1)
    return np.divide(total_r, number_r, out=np.full(len(values_rt), np.nan), where=number_r > 0)


@dataclass(frozen=True, eq=False)
class LevelTrend:
    """By how much each track departs from the mean of the tracks, given the level: its depth, and its enrichment.

    Parameters
    ----------
    level_m
        Levels (log2) at which it is known, ascending.
    shift_mt
        Median departure of each track there (log2).
    """

    level_m: np.ndarray
    shift_mt: np.ndarray

    @classmethod
    def fit(cls, log_rate_rt: np.ndarray) -> LevelTrend:
        """Estimate it from log2 rates, NaN where missing, of regions most of which do not change."""
        level_r = mean_by_row(log_rate_rt)
        parts = strata(level_r)
        level_m = np.array([level_r[rows].mean() for rows in parts])
        shift_mt = np.full((len(parts), log_rate_rt.shape[1]), np.nan)
        for m, rows in enumerate(parts):
            departure_rt = log_rate_rt[rows] - level_r[rows, None]
            is_there_t = ~np.isnan(departure_rt).all(axis=0)
            shift_mt[m, is_there_t] = np.nanmedian(departure_rt[:, is_there_t], axis=0)
        for shift_m in shift_mt.T:  # at levels that a track was not measured at, as near by
            known_m = ~np.isnan(shift_m)
            shift_m[:] = np.interp(level_m, level_m[known_m], shift_m[known_m]) if known_m.any() else 0.0
        return cls(level_m, shift_mt)

    def remove(self, log_rate_rt: np.ndarray) -> np.ndarray:
        """Log2 rates without it; in between levels, what is in between is taken."""
        level_r = mean_by_row(log_rate_rt)
        return log_rate_rt - np.stack(
            [np.interp(level_r, self.level_m, shift_m) for shift_m in self.shift_mt.T], axis=1
        )


@dataclass(frozen=True, eq=False)
class GroupTrends:
    """Trends of the tracks of several groups: those of the two compared to each other, every other group by itself.

    Parameters
    ----------
    parts
        Which tracks, and their trend.
    """

    parts: tuple[tuple[np.ndarray, LevelTrend], ...]

    @classmethod
    def fit(cls, log_rate_rt: np.ndarray, group_t: np.ndarray) -> GroupTrends:
        """Estimate them from log2 rates and the group of each track: 0 and 1 are compared, others have 2 or more."""
        parts = [np.flatnonzero(np.maximum(group_t, 1) == g) for g in range(1, group_t.max() + 1)]
        return cls(tuple((part, LevelTrend.fit(log_rate_rt[:, part])) for part in parts))

    def remove(self, log_rate_rt: np.ndarray) -> np.ndarray:
        """Log2 rates without them."""
        left_rt = np.empty_like(log_rate_rt)
        for part, trend in self.parts:
            left_rt[:, part] = trend.remove(log_rate_rt[:, part])
        return left_rt
