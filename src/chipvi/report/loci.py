"""Stretches of neighbouring regions: which to judge the model on, and where it gains most and least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from ..data.segments import Segments
from ..data.track_data import TrackData
from ..evaluate.references import average_of_others
from ..metrics import fit_average, nb_nll
from ..model.chipvi import ChipVI

LENGTH = 200  # regions in a stretch
MOST_REGIONS = 8_000  # to judge on
N_SHOWN = 2  # best, and as many worst
MOST_TRACKS = 8  # in a picture
_SCATTERED = 50  # median run of neighbours below which stretches reach over gaps
_LEAST_STD = 0.1  # of signal, in arcsinh units


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some regions in a row, and how much the model gains there.

    Parameters
    ----------
    start, stop
        First of the judged regions, and the one after the last.
    gain
        Gain in log-likelihood over the average, in nat: its mean over measured entries, and that over targets.
    gain_n
        The same by target; NaN for what was not measured.
    """

    start: int
    stop: int
    gain: float
    gain_n: np.ndarray


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


def find_gains(model: ChipVI, data: TrackData, rows: np.ndarray, result: AnnData) -> np.ndarray:
    """Gain in log-likelihood over the average of the other biosamples, in nat, for each measured entry.

    The average becomes a layer of the result, to be drawn. Where no other biosample has the assay, it is
    the gain over the track's own mean. The likelihood of the average is that which suits these very regions best, so
    the gain is not flattered.

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
    Shape (rows, targets), NaN where nothing was measured.
    """
    block = data.read_rows(rows)
    columns = [data.tracks.index(str(name)) for name in result.var_names]
    has_counts = _keys.DISPERSION in result.layers
    if has_counts:
        entries, depth_t = block.counts, np.exp(model.log_depths(data))
    else:
        assert block.signal is not None  # a model of signal only
        entries, depth_t = block.signal, None
    average_rt = average_of_others(data.tracks, entries, depth_t)
    truth_rn = entries.measured_rt[:, columns].astype(np.float64)
    result.layers[_keys.AVERAGE] = average_rt[:, columns]
    own_rn = np.broadcast_to(_means(truth_rn), truth_rn.shape)
    average_rn = np.where(np.isnan(average_rt[:, columns]), own_rn, average_rt[:, columns])
    return (
        _gain_of_counts(truth_rn, average_rn, result) if has_counts else _gain_of_signal(truth_rn, average_rn, result)
    )


def _gain_of_counts(truth_rn: np.ndarray, average_rn: np.ndarray, result: AnnData) -> np.ndarray:
    share_n, dispersion_n = fit_average(truth_rn, average_rn)
    mean_rn = (1 - share_n) * average_rn + share_n * _means(average_rn)
    return nb_nll(truth_rn, mean_rn, dispersion_n) - nb_nll(truth_rn, result.X, result.layers[_keys.DISPERSION])


def _gain_of_signal(truth_rn: np.ndarray, average_rn: np.ndarray, result: AnnData) -> np.ndarray:
    std_n = np.maximum(np.sqrt(_means((truth_rn - average_rn) ** 2)), _LEAST_STD)
    std_rn = np.maximum(result.layers[_keys.PVAL_STD], _LEAST_STD)

    def nll(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        return np.log(std) + 0.5 * ((truth_rn - mean) / std) ** 2

    return nll(average_rn, std_n) - nll(result.layers[_keys.PVAL], std_rn)


def _means(values_rn: np.ndarray) -> np.ndarray:
    """Mean of each column, NaN left out; NaN for an empty one."""
    there_rn = ~np.isnan(values_rn)
    number_n = there_rn.sum(axis=0)
    return np.where(there_rn, values_rn, 0.0).sum(axis=0) / np.where(number_n > 0, number_n, np.nan)


def rank_stretches(gain_rn: np.ndarray, lengths: list[int]) -> tuple[list[Stretch], list[Stretch], float]:
    """Where the model gains most and least, best and worst first, and the middle gain of all stretches.

    Stretches of less than half of the longest, and those where nothing was measured, are left out: few regions may
    have any gain by chance.
    """
    edges = np.r_[0, np.cumsum(lengths)]
    found = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        gain_n = _means(gain_rn[start:stop])
        if 2 * (stop - start) >= max(lengths) and not np.isnan(gain_n).all():
            found.append(Stretch(int(start), int(stop), float(np.nanmean(gain_n)), gain_n))
    ranked = sorted(found, key=lambda stretch: -stretch.gain)
    n_worst = min(N_SHOWN, len(ranked) // 2)
    best = ranked[: min(N_SHOWN, len(ranked) - n_worst)]
    worst = ranked[::-1][:n_worst]
    return best, worst, float(np.median([stretch.gain for stretch in ranked])) if ranked else np.nan


def choose_tracks(stretch: Stretch, names: list[str], is_best: bool) -> list[str]:
    """Up to `MOST_TRACKS` tracks, those that decide first, and below them up to two that were never measured."""
    measured = np.flatnonzero(~np.isnan(stretch.gain_n))
    order = measured[np.argsort(-stretch.gain_n[measured] if is_best else stretch.gain_n[measured], kind="stable")]
    never = np.flatnonzero(np.isnan(stretch.gain_n))[:2]
    return [names[n] for n in [*order[:MOST_TRACKS], *never]]


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
