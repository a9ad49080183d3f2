"""Counts simulated from chromatin states, with the true rate under every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter
from scipy.special import gammainc, gammaln, hyp1f1

from .. import _keys
from .._arguments import checked, require_whole
from .._messages import unknown
from ._states import STATES, cell_states


@dataclass(frozen=True)
class _Relations:
    """Numbers of cell types, of replicates of each, and of families. Relatives follow each other."""

    n_cells: int
    n_replicates: int
    n_families: int

    @property
    def families(self) -> list[int]:
        """The family of each cell type."""
        return [c * self.n_families // self.n_cells for c in range(self.n_cells)]

    @property
    def biosamples(self) -> pd.DataFrame:
        """A row per biosample, by name, with what it shares with others."""
        of_cell = np.repeat(np.arange(self.n_cells), self.n_replicates)
        replicate = np.tile(np.arange(1, self.n_replicates + 1), self.n_cells)
        cell = [f"cell{c + 1}" for c in of_cell]
        columns: dict[str, Any] = {}
        if self.n_replicates > 1:
            columns |= {"cell": _categorical(cell), "replicate": replicate}
        if self.n_families > 1:
            columns |= {"family": _categorical([f"family{self.families[c] + 1}" for c in of_cell])}
        names = [f"{c}_{r}" for c, r in zip(cell, replicate, strict=True)] if self.n_replicates > 1 else cell
        return pd.DataFrame(columns, index=names)


@dataclass(frozen=True)
class _Assay:
    """How one assay reads the states."""

    reads: float  # relative to the other assays
    levels: tuple[float, ...]  # median reads in each state, relative to each other
    spread: float  # s.d. of the log rate between regions of one enriched state
    sharpness: float  # of the peak in an enriched segment: 0 flat, > 0 a summit, < 0 two shoulders
    dispersion: float  # technical negative-binomial dispersion: variance = mean + mean^2 / dispersion


_ASSAYS = {
    "H3K4me3": _Assay(1.0, (1.0, 13.0, 1.8, 1.0, 1.2, 0.9, 1.0), 0.9, 1.5, 15.0),
    "H3K4me1": _Assay(1.0, (1.0, 2.8, 4.8, 1.7, 1.1, 0.7, 1.2), 0.9, -0.7, 15.0),
    "H3K36me3": _Assay(1.0, (1.0, 0.9, 2.2, 4.3, 0.7, 0.8, 1.0), 0.6, 0.0, 15.0),
    "H3K27me3": _Assay(0.7, (1.0, 0.9, 0.9, 0.8, 2.7, 1.1, 1.0), 0.5, 0.0, 15.0),
    "H3K9me3": _Assay(0.9, (1.0, 0.9, 0.9, 0.9, 1.2, 2.0, 1.0), 0.5, 0.0, 15.0),
    "H3K27ac": _Assay(0.8, (1.0, 18.0, 5.5, 1.3, 0.8, 0.7, 1.5), 1.2, 1.2, 12.0),
    "DNase": _Assay(1.6, (1.0, 6.0, 2.1, 1.1, 0.9, 0.7, 4.5), 1.6, 4.5, 10.0),
    "ATAC": _Assay(1.3, (1.0, 6.0, 2.4, 1.1, 0.9, 0.7, 4.0), 1.5, 4.5, 8.0),
    "CTCF": _Assay(1.0, (1.0, 2.7, 1.3, 1.0, 1.0, 0.9, 27.0), 1.0, 4.0, 12.0),
    "H3K9ac": _Assay(1.0, (1.0, 15.0, 4.0, 1.2, 0.9, 0.8, 1.2), 1.0, 1.2, 12.0),
    "POLR2A": _Assay(1.0, (1.0, 12.0, 2.4, 1.5, 0.8, 0.7, 1.2), 1.1, 2.2, 12.0),
    "Input": _Assay(0.5, (1.0, 1.2, 1.1, 1.0, 1.0, 0.9, 1.1), 0.0, 0.0, 30.0),
}
_NUMBERS = {name: a for a, name in enumerate(_ASSAYS)}  # of the assays in the seeds: they do not depend on the choice
_MOST_ASSAYS = len(_ASSAYS) - 1  # without the control

_ENRICHED = 1.5  # a state with at least this level is one that the assay marks
_QUIET_SPREAD = 0.35  # s.d. of the log rate of one track in the states that it does not mark
_COMMON_SPREAD = 0.42  # s.d. of the log rate that all tracks share: mappability, GC content, copy number
# Squared shares of the other effects, and the bp over which they fade: of the assay at this place in every cell type,
# of the cell type's activity around here, and of assay and cell type together.
_SHARES = np.sqrt([0.55, 0.25, 0.2])
_OF_FAMILY, _OF_CELL = np.sqrt([0.7, 0.3])  # squared shares of the latter two, where there are families
_FAMILY_KINDS = 5  # from the effects of a cell type to those of its family, in the seeds
_REPLICATE_SPREAD = 0.2  # s.d. of the log rate of one track between replicates, beyond their depths
_MOST_EFFECT = 2.2  # in s.d.: even the highest peak is bounded
_PEAK_BP, _ACTIVITY_BP = 600, 10_000
_BACKGROUND_BP = 100_000  # the window in which the signal layer looks for the local background


@checked
def simulate(
    n_regions: int = 10_000,
    n_biosamples: int = 3,
    n_assays: int = 5,
    *,
    n_replicates: int = 1,
    lineage: int = 1,
    bin_size: int = 200,
    n_chromosomes: int = 4,
    mean_count: float = 2.2,
    depth_spread: float = 0.35,
    missing: float | Sequence[str] = 0.0,
    controls: bool = False,
    signal: bool = False,
    seed: int = 0,
) -> AnnData:
    """Simulate read counts of regions x tracks, and keep the true rate under each of them.

    Chromatin states follow each other in segments of realistic length. Every cell type keeps most segments of a
    shared genome and has its own state in the others. The rate of a region and track is

        depth factor x level of the assay in the state x peak shape x smooth effects,

    with bounded log-normal effects common to all tracks, to an assay, to a cell type, and of the assay in this cell
    type alone. With families (`lineage`), of the segments that are not those of the shared genome 7 of 10 are a
    family's and the others a cell type's own, and so are the squared shares of the latter two effects. Replicates
    (`n_replicates`) have the states and effects of their cell type; the rate of each of their tracks differs by an
    effect of its own, normal on the log scale with a standard deviation of 0.2, and by its depth. All of
    this is biology, and what a denoiser should recover. Technical noise comes on top: the count is negative binomial
    around the rate, with variance ``rate + rate**2 / dispersion`` and one dispersion per assay. Levels, lengths and
    spreads are set so that mean, variance, zeros, tails and the correlations between neighbours and between biosamples
    resemble Roadmap and ENCODE counts in bins of 100 to 200 bp.

    Parameters
    ----------
    n_regions
        Number of regions, which lie end to end along each chromosome, from 0 on.
    n_biosamples
        Number of cell types, ``cell1``, ``cell2``, ... Each is a biosample, or `n_replicates` of them.
    n_assays
        Number of assays, 1 to 11: in this order H3K4me3, H3K4me1, H3K36me3, H3K27me3, H3K9me3, H3K27ac, DNase, ATAC,
        CTCF, H3K9ac, POLR2A. Each is run in every biosample.
    n_replicates
        Number of biosamples of each cell type, named ``cell1_1``, ``cell1_2``, ... where there are several.
    lineage
        Number of families, as equal in size as can be, that the cell types belong to: the first few to ``family1``,
        the next to ``family2``, and so on. Those of one family are more alike than those of two. With 1, no two cell
        types are closer than others.
    bin_size
        Length of a region, in bp. Segments are at least one region long.
    n_chromosomes
        Number of chromosomes, ``chr1``, ``chr2``, ..., of equal length (to one region) and drawn
        independently of each other.
    mean_count
        Expected reads per region of an average track. Assays differ: DNase gets 1.6 times as many, a control half.
    depth_spread
        Standard deviation of the log depth between the tracks of one assay.
    missing
        Tracks that are wholly missing: their names, or a share of the tracks between 0 and 1, drawn so that every assay
        and every biosample keeps a measured track.
    controls
        Whether every biosample has a control track ``Input``, on top of its assays.
    signal
        Whether to add the layer ``signal``.
    seed
        Seed of all draws. Neither `missing`, `controls` nor `signal` changes the rates and counts of a track, so the
        same call with ``missing=0`` gives the counts that were held out.

    Returns
    -------
    AnnData
        Regions x tracks, float32, dense.

        - ``X``: counts; 0 where missing.
        - ``layers["observed"]``: 1 measured, 0 missing (int8).
        - ``layers["rate"]``: expected count at the track's depth, also where missing; above 0.
        - ``layers["signal"]``: arcsinh(-log10 p), where p is the chance that a Poisson count around the local
          background is at least as high; NaN for missing and control tracks. The background is the track's mean count
          per region, or the mean within 50 kb (mirrored at the chromosome's ends) where that is higher.
        - ``obs``: ``chrom``, ``start``, ``end`` (bp, 0-based, half-open), and ``state`` of the first biosample.
        - ``obsm["state"]``: the chromatin state in every biosample, a column each.
        - ``var``: ``biosample``, ``assay``, ``is_control``, ``depth`` (reads drawn, of a missing track too) and the
          technical ``dispersion``; with replicates ``cell`` and ``replicate`` (1, 2, ...), with families ``family``.
        - ``uns["simulation"]``: the parameters of this call.

    Raises
    ------
    ValueError
        Where a size or share is out of range, or `missing` names unknown tracks or would leave an assay or a biosample
        without any data.

    Examples
    --------
    >>> adata = simulate(n_regions=500, missing=["cell2.H3K4me3"])
    >>> adata.shape, adata.var_names[0], adata.obs_names[0]
    ((500, 15), 'cell1.H3K4me3', 'chr1:0-200')
    >>> related = simulate(n_regions=500, n_biosamples=4, n_assays=1, n_replicates=2, lineage=2)
    >>> related.var.loc["cell3_2.H3K4me3", ["cell", "family"]].tolist()
    ['cell3', 'family2']
    """
    parameters = dict(locals(), missing=missing if isinstance(missing, int | float | str) else list(missing))
    _check(parameters)
    assays = [*list(_ASSAYS)[:n_assays], *(["Input"] if controls else [])]
    relations = _Relations(n_biosamples, n_replicates, lineage)
    var = _tracks(relations.biosamples, assays)
    missing_t = _choose_missing(missing, var, np.random.default_rng([seed, 0]))

    chromosomes = _chromosomes(n_regions, n_chromosomes)
    rate_rt = np.empty((n_regions, len(var)), dtype=np.float32)
    state_rb = np.empty((n_regions, n_biosamples * n_replicates), dtype=np.int8)
    for c, rows in enumerate(chromosomes):
        _fill_rates(rate_rt[rows], state_rb[rows], relations, assays, bin_size, seed=[seed, 1, c])
    count_rt = np.empty_like(rate_rt)
    for t, (b, a) in enumerate(np.ndindex(n_biosamples * n_replicates, len(assays))):
        rng = np.random.default_rng([seed, 2, b, _NUMBERS[assays[a]]])
        _draw_track(rate_rt[:, t], count_rt[:, t], _ASSAYS[assays[a]], mean_count, depth_spread, rng)
    var[_keys.DEPTH] = count_rt.sum(axis=0, dtype=np.float64).astype(np.int64)

    layers = {_keys.RATE: rate_rt, _keys.OBSERVED: np.tile((~missing_t).astype(np.int8), (n_regions, 1))}
    if signal:
        signal_rt = layers[_keys.SIGNAL] = np.full_like(count_rt, np.nan)
        for t in map(int, np.flatnonzero(~missing_t & ~var[_keys.IS_CONTROL].to_numpy())):
            track_mean = var[_keys.DEPTH].iloc[t] / n_regions
            for rows in chromosomes:
                signal_rt[rows, t] = _signal(count_rt[rows, t].astype(np.float64), track_mean, bin_size)
    count_rt[:, missing_t] = 0

    obs = _regions(chromosomes, bin_size)
    states = pd.DataFrame(
        {
            biosample: pd.Categorical.from_codes(state_rb[:, b], categories=list(STATES))
            for b, biosample in enumerate(var[_keys.BIOSAMPLE].cat.categories)
        },
        index=obs.index,
    )
    obs["state"] = states.iloc[:, 0]
    return AnnData(count_rt, obs=obs, var=var, layers=layers, obsm={"state": states}, uns={"simulation": parameters})


# Whose product, with the highest peaks, a Poisson draw in int64 can still hold.
_LARGEST = {"mean_count": 1e9, "depth_spread": 3}


def _check(parameters: dict[str, Any]) -> None:
    for name in (
        "n_regions",
        "n_biosamples",
        "n_assays",
        "n_replicates",
        "lineage",
        "bin_size",
        "n_chromosomes",
        "seed",
    ):
        require_whole(name, parameters[name], least=0 if name == "seed" else 1, most=2**31 - 1)
    n_regions, n_chromosomes, n_assays = (parameters[name] for name in ("n_regions", "n_chromosomes", "n_assays"))
    if n_assays > _MOST_ASSAYS:
        raise ValueError(
            f"n_assays must be at most {_MOST_ASSAYS} ({', '.join(list(_ASSAYS)[:_MOST_ASSAYS])}); got {n_assays}. "
            "For more tracks, ask for more biosamples."
        )
    if n_chromosomes > n_regions:
        raise ValueError(
            f"n_chromosomes must be at most n_regions; got {n_chromosomes} chromosomes for {n_regions} regions. "
            "Ask for fewer chromosomes or more regions."
        )
    if parameters["lineage"] > parameters["n_biosamples"]:
        raise ValueError(
            f"lineage must be at most n_biosamples; got {parameters['lineage']} families for "
            f"{parameters['n_biosamples']} cell types. Ask for fewer families or more biosamples."
        )
    for name, range_ in (("mean_count", "above 0"), ("depth_spread", "of at least 0")):
        value = parameters[name]
        if not 0 <= value < np.inf or (name == "mean_count" and value == 0):
            raise ValueError(f"{name} must be a finite number {range_}; got {value!r}.")
        if value > (most := _LARGEST[name]):
            raise ValueError(f"{name} must be at most {most:g}, or counts are beyond what can be drawn; got {value!r}.")


def _tracks(biosamples: pd.DataFrame, assays: list[str]) -> pd.DataFrame:
    pairs = [(biosample, assay) for biosample in biosamples.index for assay in assays]
    var = pd.DataFrame(index=[".".join(pair) for pair in pairs])
    var[_keys.BIOSAMPLE] = _categorical([biosample for biosample, _ in pairs])
    var[_keys.ASSAY] = _categorical([assay for _, assay in pairs])
    var[_keys.IS_CONTROL] = [assay == "Input" for _, assay in pairs]
    var["dispersion"] = [_ASSAYS[assay].dispersion for _, assay in pairs]
    for column, values in biosamples.items():
        var[column] = values.repeat(len(assays)).array
    return var


def _categorical(names: list[str]) -> pd.Categorical:
    """Names as categories, in the order in which they come."""
    return pd.Categorical(names, categories=list(dict.fromkeys(names)))


def _chromosomes(n_regions: int, n_chromosomes: int) -> list[slice]:
    """Give the rows of each chromosome."""
    edges = np.linspace(0, n_regions, n_chromosomes + 1).astype(int)
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


def _regions(chromosomes: list[slice], bin_size: int) -> pd.DataFrame:
    names = [f"chr{c + 1}" for c in range(len(chromosomes))]
    lengths = [rows.stop - rows.start for rows in chromosomes]
    start = np.concatenate([np.arange(n) for n in lengths]) * bin_size
    chrom = pd.Categorical.from_codes(np.repeat(np.arange(len(names)), lengths), categories=names)
    obs = pd.DataFrame({"chrom": chrom, "start": start, "end": start + bin_size})
    obs.index = pd.Index([f"{c}:{s}-{s + bin_size}" for c, s in zip(chrom, start, strict=True)])
    return obs


def _choose_missing(missing: float | Sequence[str], var: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Mark the tracks that are missing: (n_tracks), bool."""
    if isinstance(missing, str):
        missing = [missing]
    if not isinstance(missing, int | float):
        for name in missing:
            if name not in var.index:
                raise ValueError(unknown("missing track", name, list(var.index), "the simulation"))
        return var.index.isin(missing)
    if not 0 <= missing < 1:
        raise ValueError(f"missing must be a share from 0 to below 1, or the names of tracks; got {missing!r}.")
    targets = var[~var[_keys.IS_CONTROL]]
    n_missing = round(missing * len(targets))
    gone: list[str] = []
    for name in rng.permutation(targets.index):
        rest = targets.drop(index=[*gone, name])
        kept = all((rest[key] == targets.at[name, key]).any() for key in (_keys.BIOSAMPLE, _keys.ASSAY))
        if kept and len(gone) < n_missing:
            gone.append(name)
    if len(gone) < n_missing:
        raise ValueError(
            f"missing={missing} must leave every assay and every biosample a measured track; this draw found room for "
            f"{len(gone)} missing tracks of {len(targets)}, not {n_missing}. Lower the share, or name the tracks."
        )
    return var.index.isin(gone)


def _fill_rates(
    rate_rt: np.ndarray,
    state_rb: np.ndarray,
    relations: _Relations,
    assays: list[str],
    bin_size: int,
    seed: Sequence[int],
) -> None:
    """Write the relative rates and the states of one chromosome into the arrays given."""
    n_regions, n_replicates, families = len(rate_rt), relations.n_replicates, relations.families

    def noise(smooth_bp: int, *key: int) -> np.ndarray:
        return _smooth_noise(n_regions, bin_size / smooth_bp, np.random.default_rng([*seed, *key]))

    def of_cell(smooth_bp: int, kind: int, c: int, *key: int) -> np.ndarray:
        own = noise(smooth_bp, kind, c, *key)
        if relations.n_families == 1:
            return own
        return _OF_FAMILY * noise(smooth_bp, kind + _FAMILY_KINDS, families[c], *key) + _OF_CELL * own

    common = _COMMON_SPREAD * _saturate(noise(_PEAK_BP, 0))
    of_assay = [noise(_PEAK_BP, 1, _NUMBERS[name]) for name in assays]
    for c, (state, position) in enumerate(cell_states(n_regions, families, bin_size, seed)):
        state_rb[:, c * n_replicates : (c + 1) * n_replicates] = state[:, None]
        activity = of_cell(_ACTIVITY_BP, 2, c)
        for a, name in enumerate(assays):
            assay = _ASSAYS[name]
            level = np.asarray(assay.levels, dtype=np.float32)
            spread = np.where(level >= _ENRICHED, assay.spread, min(assay.spread, _QUIET_SPREAD)).astype(np.float32)
            sharpness = np.where(level >= _ENRICHED, assay.sharpness, 0).astype(np.float32)
            effects = (of_assay[a], activity, of_cell(_PEAK_BP, 3, c, _NUMBERS[name]))
            effect = sum(share * effect for share, effect in zip(_SHARES, effects, strict=True))
            log_rate = common + np.log(level)[state] - sharpness[state] * (position**2 - 1 / 3)
            log_rate += spread[state] * _saturate(effect)
            for r in range(n_replicates):
                deviation = noise(_PEAK_BP, 9, c, r, _NUMBERS[name]) if n_replicates > 1 else 0.0
                t = (c * n_replicates + r) * len(assays) + a
                rate_rt[:, t] = np.exp(log_rate + _REPLICATE_SPREAD * deviation)


def _saturate(effect: np.ndarray) -> np.ndarray:
    return _MOST_EFFECT * np.tanh(effect / _MOST_EFFECT)


def _draw_track(
    rate_r: np.ndarray,
    count_r: np.ndarray,
    assay: _Assay,
    mean_count: float,
    depth_spread: float,
    rng: np.random.Generator,
) -> None:
    """Scale the rates of one track to its depth, in place, and draw its counts around them."""
    mean = assay.reads * mean_count * np.exp(depth_spread * rng.standard_normal())
    rate_r *= mean / rate_r.mean(dtype=np.float64)
    count_r[:] = rng.poisson(rate_r * rng.standard_gamma(assay.dispersion, len(rate_r)) / assay.dispersion)


def _smooth_noise(n_regions: int, step: float, rng: np.random.Generator) -> np.ndarray:
    """Unit-variance Gaussian noise of which exp(-step) is left from one region to the next."""
    keep = np.float32(np.exp(-step))
    noise = rng.standard_normal(n_regions, dtype=np.float32)
    noise[1:] *= np.sqrt(1 - keep**2)
    return lfilter(np.ones(1, np.float32), np.array([1, -keep], np.float32), noise)


def _signal(count_r: np.ndarray, track_mean: float, bin_size: int) -> np.ndarray:
    """Compute arcsinh(-log10 p) of the counts of one chromosome against their local background."""
    half_window = min(_BACKGROUND_BP // bin_size, len(count_r) - 1) // 2
    local_mean = uniform_filter1d(count_r, 2 * half_window + 1, mode="reflect")
    return np.arcsinh(0 - _log_survival(count_r, np.maximum(local_mean, track_mean)) / np.log(10))


def _log_survival(count: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Compute log P(Poisson(mean) >= count), also where the probability is below the smallest float."""
    tail = np.where(count > 0, gammainc(np.maximum(count, 1), mean), 1.0)
    small = tail < 1e-200
    k, m = count[small], mean[small]
    log_tail = np.log(np.where(small, 1.0, tail))
    log_tail[small] = k * np.log(m) - m - gammaln(k + 1) + np.log(hyp1f1(1, k + 1, m))
    return log_tail
