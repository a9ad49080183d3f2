"""Stretches of neighbouring regions: which to judge the model on, and where it imputes best and worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from ..data.segments import Segments
from ..data.track_data import TrackData
from ..evaluate.references import average_of_others
from ..metrics import r2
from ..model.chipvi import ChipVI

BEST, WORST, STRONGEST = "Best", "Worst", "Strongest signal"  # headings
LENGTH = 200  # regions in a stretch
MOST_REGIONS = 8_000  # to judge on
N_SHOWN = 2  # best, and as many worst
FEWEST = 20  # stretches among which a best and a worst one mean anything
MOST_TRACKS = 8  # in a picture
_SCATTERED = 50  # median run of neighbours below which stretches reach over gaps
_NOISE = 3.0  # times the variance that Poisson reads have anyway, above which counts are more than noise


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some regions in a row, and how well the tracks that have signal there are imputed.

    Parameters
    ----------
    start, stop
        First of the judged regions, and the one after the last.
    r2, r2_average
        R2 within the stretch, its median over these tracks: of the imputation, and of the average of the other
        biosamples, NaN where there is none.
    r2_n
        Of the imputation, by target; NaN where there is no signal to impute.
    variance
        That of the measured values, as a multiple of the variance of the whole track, summed over these tracks.
    """

    start: int
    stop: int
    r2: float
    r2_average: float
    r2_n: np.ndarray
    variance: float

    @property
    def n_tracks(self) -> int:
        """Tracks with signal."""
        return int((~np.isnan(self.r2_n)).sum())


def cut_stretches(rows: np.ndarray, segments: Segments, chrom: np.ndarray | None) -> tuple[list[np.ndarray], bool]:
    """Cut ascending rows into stretches of at most `LENGTH` regions.

    Parameters
    ----------
    rows
        Regions that may be judged on.
    segments
        Which are neighbours.
    chrom
        Chromosome of each region of the data, if they have one.

    Returns
    -------
    The stretches, and whether they reach over gaps: so they do where neighbours are few, as in lists of peaks, but
    never from one chromosome to the next.
    """
    segment_r = segments.index(rows)
    ends = (np.diff(rows) != 1) | (np.diff(segment_r) != 0)
    lengths = np.diff(np.r_[0, np.flatnonzero(ends) + 1, len(rows)])
    is_scattered = bool(np.median(lengths) < _SCATTERED) and len(rows) > lengths[0]
    if is_scattered:
        ends = np.zeros(len(rows) - 1, dtype=bool) if chrom is None else chrom[rows][1:] != chrom[rows][:-1]
    runs = np.split(rows, np.flatnonzero(ends) + 1)
    return [part for run in runs for part in np.array_split(run, -(-len(run) // LENGTH))], is_scattered


def choose_stretches(stretches: list[np.ndarray], most: int = MOST_REGIONS) -> list[np.ndarray]:
    """All stretches, or as many drawn from all over (always the same) as have at least `most` regions together."""
    order = np.random.default_rng(0).permutation(len(stretches))
    total = np.cumsum([len(stretches[i]) for i in order])
    n_chosen = min(len(stretches), int(np.searchsorted(total, most)) + 1)
    return [stretches[i] for i in np.sort(order[:n_chosen])]


def add_average(model: ChipVI, data: TrackData, rows: np.ndarray, result: AnnData) -> np.ndarray:
    """Measured values of the targets; the average of the other biosamples becomes a layer of the result, to be drawn.

    Parameters
    ----------
    model, data
        And the data that it imputed.
    rows
        Regions of the result, ascending.
    result
        Of :meth:`chipvi.ChipVI.impute`.

    Returns
    -------
    Counts, or signal of a model of signal alone; float64, regions x targets, NaN where nothing was measured.
    """
    block = data.read_rows(rows)
    columns = [data.tracks.index(str(name)) for name in result.var_names]
    if model.grid.has_counts:
        entries, depth_t = block.counts, np.exp(model.log_depths(data))
    else:
        assert block.signal is not None  # a model of signal only
        entries, depth_t = block.signal, None
    result.layers[_keys.AVERAGE] = average_of_others(data.tracks, entries, depth_t)[:, columns]
    return entries.measured_rt[:, columns].astype(np.float64)


def judge_stretches(
    truth_rn: np.ndarray, imputed_rn: np.ndarray, average_rn: np.ndarray, lengths: list[int], are_counts: bool
) -> list[Stretch]:
    """How well each stretch with signal is imputed, in the order of the genome.

    A track has signal where its values vary at least as much as in all stretches together; counts also three times as
    much as Poisson reads would. Stretches without any are left out, and those of less than half of the longest.

    Parameters
    ----------
    truth_rn, imputed_rn, average_rn
        Values of all stretches; NaN where nothing was measured, or where there is no average.
    lengths
        Regions in each stretch.
    are_counts
        Or signal.
    """
    edges, whole_n = np.r_[0, np.cumsum(lengths)], _variances(truth_rn)
    found = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        truth, imputed, average = (x_rn[start:stop] for x_rn in (truth_rn, imputed_rn, average_rn))
        variance_n = _variances(truth)
        least_n = np.maximum(whole_n, _NOISE * _means(truth)) if are_counts else whole_n
        has_signal_n = (variance_n > 0) & (variance_n >= least_n)
        if not has_signal_n.any() or 2 * (stop - start) < max(lengths):
            continue
        r2_n, average_n = (np.where(has_signal_n, r2(truth, x_rn), np.nan) for x_rn in (imputed, average))
        variance = float((variance_n[has_signal_n] / whole_n[has_signal_n]).sum())
        found.append(Stretch(int(start), int(stop), _median(r2_n), _median(average_n), r2_n, variance))
    return found


def _variances(values_rn: np.ndarray) -> np.ndarray:
    return _means((values_rn - _means(values_rn)) ** 2)


def _means(values_rn: np.ndarray) -> np.ndarray:
    """Mean of each column, NaN left out; NaN for an empty one."""
    there_rn = ~np.isnan(values_rn)
    number_n = there_rn.sum(axis=0)
    return np.where(there_rn, values_rn, 0.0).sum(axis=0) / np.where(number_n > 0, number_n, np.nan)


def _median(values_n: np.ndarray) -> float:
    return float(np.nanmedian(values_n)) if not np.isnan(values_n).all() else np.nan


def choose_shown(judged: list[Stretch], n_stretches: int) -> dict[str, list[Stretch]]:
    """Stretches to show by what they are: best and worst, or of few ones those of the strongest signal.

    Parameters
    ----------
    judged
        Those with signal.
    n_stretches
        All.
    """
    if n_stretches < FEWEST:
        strongest = sorted(judged, key=lambda stretch: -stretch.variance)[:N_SHOWN]
        return {STRONGEST: strongest} if strongest else {}
    ranked = sorted(judged, key=lambda stretch: -stretch.r2)
    n_worst = min(N_SHOWN, len(ranked) // 2)
    shown = {BEST: ranked[: min(N_SHOWN, len(ranked) - n_worst)], WORST: ranked[::-1][:n_worst]}
    return {heading: some for heading, some in shown.items() if some}


def choose_tracks(stretch: Stretch, is_measured_n: np.ndarray, is_worst: bool) -> list[int]:
    """Up to `MOST_TRACKS` targets with signal there, best or worst first, and below them up to two never measured."""
    there = np.flatnonzero(~np.isnan(stretch.r2_n))
    order = there[np.argsort(stretch.r2_n[there] if is_worst else -stretch.r2_n[there], kind="stable")]
    return [*map(int, order[:MOST_TRACKS]), *map(int, np.flatnonzero(~is_measured_n)[:2])]


def name_place(obs: pd.DataFrame, segment_key: str | None) -> str:
    """Where a stretch lies, in words."""
    if {_keys.CHROM, _keys.START, _keys.END} <= set(obs.columns):
        chroms = obs[_keys.CHROM].astype(str)
        first = f"{chroms.iloc[0]}:{obs[_keys.START].iloc[0]:,}"
        last = f"{obs[_keys.END].iloc[-1]:,}"
        return f"{first}–{last}"
    if segment_key is not None and obs[segment_key].nunique() == 1:
        return f"{segment_key} {obs[segment_key].iloc[0]}"
    return f"{obs.index[0]} to {obs.index[-1]}"
