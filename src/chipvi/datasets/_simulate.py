"""Counts simulated from chromatin states, with the true rate under every one of them."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter
from scipy.special import gammainc, gammaln, hyp1f1

STATES = ("quiescent", "promoter", "enhancer", "transcribed", "repressed", "heterochromatin", "insulator")

# How a segment of one state (row) is followed by the next (column), its mean length in bp, and how often another
# biosample has it too: promoters and insulators are mostly shared between cells, enhancers and polycomb are not.
_TRANSITIONS = np.array(
    [
        [0.00, 0.14, 0.36, 0.06, 0.16, 0.14, 0.14],
        [0.25, 0.00, 0.22, 0.43, 0.10, 0.00, 0.00],
        [0.52, 0.13, 0.00, 0.20, 0.15, 0.00, 0.00],
        [0.35, 0.10, 0.40, 0.00, 0.05, 0.00, 0.10],
        [0.60, 0.10, 0.15, 0.00, 0.00, 0.15, 0.00],
        [0.80, 0.00, 0.00, 0.00, 0.20, 0.00, 0.00],
        [0.70, 0.00, 0.00, 0.15, 0.15, 0.00, 0.00],
    ]
)
_LENGTHS = np.array([9_000, 2_000, 1_400, 12_000, 10_000, 18_000, 400])
_CONSERVED = np.array([0.7, 0.8, 0.5, 0.7, 0.5, 0.6, 0.9])


@dataclass(frozen=True)
class _Assay:
    """How one assay reads the states."""

    levels: tuple[float, ...]  # expected reads in each state, relative to each other
    spread: float  # s.d. of the log rate between regions of one enriched state
    sharpness: float  # of the peak in an enriched segment: 0 flat, > 0 a summit, < 0 two shoulders
    dispersion: float  # technical negative-binomial dispersion: variance = mean + mean^2 / dispersion


_ASSAYS = {
    "H3K4me3": _Assay((1.0, 28.0, 3.0, 1.0, 1.3, 0.9, 1.0), 1.0, 2.0, 15.0),
    "H3K4me1": _Assay((1.0, 5.0, 8.0, 1.7, 1.2, 0.7, 1.2), 0.8, -0.7, 15.0),
    "H3K36me3": _Assay((1.0, 0.9, 1.6, 6.0, 0.7, 0.8, 1.0), 0.5, 0.0, 15.0),
    "H3K27me3": _Assay((1.0, 0.9, 1.0, 0.7, 3.5, 1.1, 1.0), 0.6, 0.0, 15.0),
    "H3K9me3": _Assay((1.0, 0.9, 0.9, 0.9, 1.2, 2.6, 1.0), 0.6, 0.0, 15.0),
    "H3K27ac": _Assay((1.0, 40.0, 16.0, 1.3, 0.8, 0.7, 1.5), 1.1, 1.0, 12.0),
    "DNase": _Assay((1.0, 30.0, 12.0, 1.1, 0.9, 0.7, 18.0), 1.5, 5.0, 10.0),
    "ATAC": _Assay((1.0, 25.0, 11.0, 1.1, 0.9, 0.7, 12.0), 1.4, 5.0, 8.0),
    "CTCF": _Assay((1.0, 6.0, 2.5, 1.0, 1.0, 0.9, 60.0), 1.2, 5.0, 12.0),
    "H3K9ac": _Assay((1.0, 35.0, 9.0, 1.2, 0.9, 0.8, 1.2), 1.1, 1.5, 12.0),
    "POLR2A": _Assay((1.0, 30.0, 6.0, 2.5, 0.7, 0.7, 1.2), 1.2, 3.0, 12.0),
}
_INPUT = _Assay((1.0, 1.2, 1.1, 1.0, 1.0, 0.9, 1.1), 0.0, 0.0, 30.0)

_COMMON_SPREAD = 0.3  # s.d. of the log rate that all tracks share: mappability, GC content, copy number
_QUIET_SPREAD = 0.35  # s.d. of the log rate of one track outside its enriched states
_SHARES = np.sqrt([0.35, 0.25, 0.4])  # of the effects: the assay in every biosample, the biosample, the track alone
_SMOOTH_BP = 500  # over which these effects fade
_BACKGROUND_BP = 100_000  # the window in which the signal layer looks for the local background


def simulate(
    n_regions: int = 10_000,
    n_biosamples: int = 3,
    n_assays: int = 5,
    *,
    bin_size: int = 200,
    n_chromosomes: int = 4,
    mean_count: float = 2.2,
    depth_spread: float = 0.35,
    missing: float | Sequence[str] = 0.0,
    controls: bool = False,
    signal: bool = False,
    seed: int = 0,
) -> AnnData:
    """Counts of regions x tracks with known true rates.

    Parameters
    ----------
    n_regions
        Regions, of ``bin_size`` bp each, end to end along ``n_chromosomes`` chromosomes.
    """
    _check_sizes(
        n_regions=n_regions,
        n_biosamples=n_biosamples,
        n_assays=n_assays,
        bin_size=bin_size,
        n_chromosomes=n_chromosomes,
    )
    if n_assays > len(_ASSAYS):
        raise ValueError(f"n_assays must be at most {len(_ASSAYS)} ({', '.join(_ASSAYS)}); got {n_assays}.")
    assays = {name: _ASSAYS[name] for name in list(_ASSAYS)[:n_assays]}
    if controls:
        assays["Input"] = _INPUT
    var = _tracks(n_biosamples, assays)
    missing_t = _choose_missing(missing, var, np.random.default_rng([seed, 1]))

    chromosomes = _chromosomes(n_regions, n_chromosomes)
    rate_rt = np.empty((n_regions, len(var)), dtype=np.float32)
    state_rb = np.empty((n_regions, n_biosamples), dtype=np.int8)
    for c, rows in enumerate(chromosomes):
        _fill_rates(rate_rt[rows], state_rb[rows], list(assays.values()), bin_size, seed=[seed, 2, c])
    X = np.empty_like(rate_rt)
    depth_t = np.empty(len(var), dtype=np.int64)
    for t, (b, a) in enumerate(np.ndindex(n_biosamples, len(assays))):
        rng = np.random.default_rng([seed, 3, b, _key(a, n_assays)])
        depth = mean_count * n_regions * np.exp(depth_spread * rng.standard_normal())
        rate_rt[:, t] *= depth / rate_rt[:, t].sum(dtype=float)
        theta = list(assays.values())[a].dispersion
        X[:, t] = rng.poisson(rng.standard_gamma(theta, n_regions) * (rate_rt[:, t] / theta))
        depth_t[t] = X[:, t].sum(dtype=float)
    var["depth"] = depth_t

    layers = {"rate": rate_rt, "observed": np.broadcast_to(~missing_t, X.shape).astype(np.int8)}
    if signal:
        signal_rt = np.full_like(X, np.nan)
        for t in np.flatnonzero(~missing_t & ~var["is_control"].to_numpy()):
            for rows in chromosomes:
                signal_rt[rows, t] = _signal(X[rows, t], X[:, t].mean(dtype=float), bin_size)
        layers["signal"] = signal_rt
    X[:, missing_t] = 0

    obs = _regions(chromosomes, bin_size)
    biosamples = var["biosample"].cat.categories
    states = pd.DataFrame(
        {
            biosample: pd.Categorical.from_codes(state_rb[:, b], categories=list(STATES))
            for b, biosample in enumerate(biosamples)
        },
        index=obs.index,
    )
    obs["state"] = states[biosamples[0]]
    parameters: dict[str, Any] = {
        "bin_size": bin_size,
        "mean_count": mean_count,
        "depth_spread": depth_spread,
        "missing": list(var.index[missing_t]),
        "dispersion": {name: assay.dispersion for name, assay in assays.items()},
        "seed": seed,
    }
    return AnnData(X, obs=obs, var=var, layers=layers, obsm={"state": states}, uns={"simulation": parameters})


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {size}.")
    if sizes["n_chromosomes"] > sizes["n_regions"]:
        raise ValueError(
            f"n_chromosomes={sizes['n_chromosomes']} is more than n_regions={sizes['n_regions']}: "
            "ask for fewer chromosomes or more regions."
        )


def _key(a: int, n_assays: int) -> int:
    """A seed for an assay that does not move when a control is added."""
    return 1_000 if a == n_assays else a


def _tracks(n_biosamples: int, assays: dict[str, _Assay]) -> pd.DataFrame:
    biosamples = [f"cell{b + 1}" for b in range(n_biosamples)]
    pairs = [(biosample, assay) for biosample in biosamples for assay in assays]
    var = pd.DataFrame(pairs, columns=["biosample", "assay"], index=[".".join(pair) for pair in pairs])
    var["biosample"] = pd.Categorical(var["biosample"], categories=biosamples)
    var["assay"] = pd.Categorical(var["assay"], categories=list(assays))
    var["is_control"] = (var["assay"] == "Input").to_numpy()
    return var


def _chromosomes(n_regions: int, n_chromosomes: int) -> list[slice]:
    """The rows of each chromosome."""
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
    """Which tracks are missing; a share is drawn so that every assay and every biosample keeps a track."""
    if not isinstance(missing, (int, float)):
        unknown = [name for name in missing if name not in var.index]
        if unknown:
            raise ValueError(f"missing names tracks that are not there: {unknown}; choose from {list(var.index)}.")
        return var.index.isin(list(missing))
    if not 0 <= missing < 1:
        raise ValueError(f"missing must be a share in [0, 1) or a list of track names; got {missing}.")
    targets = var[~var["is_control"]]
    gone: list[str] = []
    wanted = round(missing * len(targets))
    for name in rng.permutation(targets.index):
        rest = targets.drop(index=[*gone, name])
        if len(gone) < wanted and all((rest[key] == targets.at[name, key]).any() for key in ("biosample", "assay")):
            gone.append(name)
    if len(gone) < wanted:
        raise ValueError(
            f"missing={missing} of {len(targets)} tracks would leave an assay or a biosample without data; "
            f"name the tracks in a list, or ask for at most {len(gone) / len(targets):.2f}."
        )
    return var.index.isin(gone)


def _fill_rates(
    rate_rt: np.ndarray, state_rb: np.ndarray, assays: list[_Assay], bin_size: int, seed: Sequence[int]
) -> None:
    """Write the relative rates and the states of one chromosome."""
    n_regions, n_biosamples = state_rb.shape
    n_assays = len(assays)

    def field(*key: int) -> np.ndarray:
        return _smooth_noise(n_regions, bin_size, np.random.default_rng([*seed, *key]))

    keys = [1_000 if assay is _INPUT else a for a, assay in enumerate(assays)]
    common = _COMMON_SPREAD * field(0)
    per_assay = [field(1, key) for key in keys]
    for b, (states, position) in enumerate(_biosample_states(n_regions, n_biosamples, bin_size, seed)):
        state_rb[:, b] = states
        per_biosample = field(2, b)
        for a, assay in enumerate(assays):
            levels = np.asarray(assay.levels)
            enriched = levels > 1.5
            spread = np.where(enriched, assay.spread, _QUIET_SPREAD if assay is not _INPUT else 0.0)
            log_level = np.log(levels) - spread**2 / 2
            effect = _SHARES[0] * per_assay[a] + _SHARES[1] * per_biosample + _SHARES[2] * field(3, b, keys[a])
            peak = np.where(enriched, -assay.sharpness, 0.0)[states] * (position**2 - 1 / 3)
            rate_rt[:, b * n_assays + a] = np.exp(log_level[states] + common + spread[states] * effect + peak)


def _biosample_states(
    n_regions: int, n_biosamples: int, bin_size: int, seed: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The state of every region and its place within the segment (-1 to 1), per biosample.

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
    """State, place within the segment (-1 to 1) and segment number of each region, from a semi-Markov chain."""
    cumulative = np.cumsum(_TRANSITIONS, axis=1)
    cumulative[:, -1] = 1.0
    rows = cumulative.tolist()
    draws = rng.random(n_regions).tolist()  # no chain has more segments than regions
    state_s = np.fromiter(accumulate(draws, lambda state, u: bisect(rows[state], u), initial=0), dtype=np.int8)
    length_s = np.maximum(1, np.rint(rng.gamma(2.0, _LENGTHS[state_s] / 2 / bin_size))).astype(int)
    n_segments = int(np.searchsorted(np.cumsum(length_s), n_regions)) + 1
    state_s, length_s = state_s[:n_segments], length_s[:n_segments]
    segment = np.repeat(np.arange(n_segments), length_s)[:n_regions]
    start_s = np.cumsum(length_s) - length_s
    position = 2 * (np.arange(n_regions) - start_s[segment] + 0.5) / length_s[segment] - 1
    return state_s[segment], position.astype(np.float32), segment


def _smooth_noise(n_regions: int, bin_size: int, rng: np.random.Generator) -> np.ndarray:
    """Unit-variance Gaussian noise that forgets itself over ``_SMOOTH_BP`` (first-order autoregressive)."""
    keep = np.float32(np.exp(-bin_size / _SMOOTH_BP))
    noise = rng.standard_normal(n_regions, dtype=np.float32)
    noise[1:] *= np.sqrt(1 - keep**2)
    return lfilter(np.ones(1, np.float32), np.array([1, -keep], np.float32), noise)


def _signal(count_r: np.ndarray, track_mean: float, bin_size: int) -> np.ndarray:
    """arcsinh(-log10 p) of each count of one chromosome, p = P(Poisson(background) >= count)."""
    window = min(len(count_r), 2 * (_BACKGROUND_BP // bin_size // 2) + 1)
    local = uniform_filter1d(count_r.astype(float), window, mode="nearest")
    return np.arcsinh(-_log_survival(count_r.astype(float), np.maximum(local, track_mean)) / np.log(10))


def _log_survival(count: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """log P(Poisson(mean) >= count), also where the probability is below the smallest float."""
    tail = np.where(count > 0, gammainc(np.maximum(count, 1), mean), 1.0)
    small = tail < 1e-200
    k, m = count[small], mean[small]
    log_tail = np.log(np.where(small, 1.0, tail))
    log_tail[small] = k * np.log(m) - m - gammaln(k + 1) + np.log(hyp1f1(1, k + 1, m))
    return log_tail
