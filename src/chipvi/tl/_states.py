"""Chromatin states: regions of one kind, found as clusters and followed along the genome."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import SparseEfficiencyWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from .._arguments import LARGEST_SEED, checked, require_real, require_whole
from ..data.check import surveyed_once
from ..data.segments import Segments
from ..metrics import gaussian_smoothing
from ..model.chipvi import ChipVI
from ._chain import FLOOR, Chain, Stretches
from ._naming import KINDS, find_kind
from ._rates import Rates, open_rates

KEY = "states"
_MOST_DRAWN = 24_000  # regions x biosamples that states are learnt from
_LENGTH = 100  # regions of a stretch that is drawn
_EVERY = 4  # region of a stretch is clustered: those between are much like it
_WIDTH = 3.0  # standard deviation in regions, by which log rates are smoothed
_MARGIN = 25  # regions to either side of a stretch from which the chain is followed, to decode it
_CHUNK = 8_192  # regions in memory at a time
_NEIGHBOURS = 15
_PSEUDO = 0.1  # added to rates, in means of the track
_STARTS = 10  # of the mixture that states begin with


@checked
def states(
    model_or_adata: ChipVI | AnnData,
    n_states: int | None = None,
    resolution: float = 0.25,
    biosamples: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Find the chromatin state of each region in each biosample.

    A region is described by what the model makes of it in all assays, measured in its biosample or not: the log of
    the denoised rates, each in means of the track, smoothed over neighbours. Stretches are drawn (all of them, where
    there are few), and some of their regions clustered by a mixture of normal distributions, the most likely of ten
    starts; as many as :func:`scanpy.tl.leiden` finds, or `n_states`. With these clusters begins a hidden Markov model
    with normal log rates; it is fitted to the stretches, and gives
    each region of the genome its most probable state. States are shared between biosamples, so that these can be
    compared. Memory does not grow with the regions, but for the states themselves: a byte for each region and
    biosample.

    A model of signal alone has no rates: in their place is -log10 p, as it was measured, or imputed where it was not.
    What its `impute` returned has imputed -log10 p only.

    Parameters
    ----------
    model_or_adata
        A trained model, which is asked about the regions of its `adata`; or what its `impute` returned, or wrote.
    n_states
        Number of states, from 2 to 100; None leaves it to the resolution. Fewer, where some have no region.
    resolution
        Of :func:`scanpy.tl.leiden`, above 0: the higher, the more states. Without effect where `n_states` is given.
    biosamples
        Names; None for all.
    seed
        Of the draw and of the clusters.

    Returns
    -------
    None; scanpy's way, these are added to the AnnData, or to that of the model:

    - ``obsm["states"]``: a table, regions x biosamples, of the states by name, such as "1 Active TSS". To colour a map
      of scanpy: ``adata.obs["states"] = adata.obsm["states"]["K562"]``.
    - ``uns["states_colors"]``: the colour of each, "#rrggbb", in the order of their names.
    - ``uns["states"]["table"]``: a row for each state: `kind`, `color`, `regions` (number, over all biosamples),
      `share` of them (0 to 1), and the mean enrichment of each assay in it, by the assay's name: its denoised rate in
      means of the track (1 is average).
    - ``uns["states"]["transitions"]``: the chance that a region in a state (row) is followed by one (column).
    - ``uns["states"]["params"]``: how this was called.

    Kinds are suggestions, by rules on these means. A mark is there from 1.5 times the mean of its track on, and the
    first that fits is taken: H3K4me3 or H3K9ac at least as high as H3K4me1: active TSS, with H3K27me3 bivalent TSS.
    H3K4me1, H3K27ac or H3K9ac: with H3K36me3 genic enhancer, with H3K27me3 bivalent enhancer, with H3K27ac active
    enhancer, else enhancer. CTCF: insulator. H3K36me3: transcribed, with H3K9me3 ZNF genes and repeats. H3K27me3 or
    H3K9me3, whichever is higher: repressed (Polycomb) or heterochromatin. DNase or ATAC alone: open chromatin. None:
    quiescent.

    Raises
    ------
    ValueError
        For numbers out of range, unknown biosamples, a model that is not trained, an AnnData without denoised rates or
        imputed signal, or fewer than 50 regions.
    ImportError
        Where igraph, which counts clusters, is not installed, and no `n_states` is given.

    Examples
    --------
    >>> import chipvi
    >>> adata = chipvi.datasets.simulate(n_regions=1_000)
    >>> chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    >>> model = chipvi.ChipVI(adata)
    >>> model.train(max_steps=20, enable_progress_bar=False)
    >>> chipvi.tl.states(model, n_states=4)
    >>> adata.obsm["states"].shape, len(adata.uns["states"]["table"])
    ((1000, 3), 4)
    """
    if n_states is not None:
        require_whole("n_states", n_states, least=2, most=100)
    require_real("resolution", resolution, least=0)
    if resolution == 0:
        raise ValueError("resolution must be above 0; it is 0.")
    require_whole("seed", seed, least=0, most=LARGEST_SEED)
    if n_states is None and find_spec("igraph") is None:
        raise ImportError(
            "states are counted with igraph, which is not installed: pip install 'chipvi[states]', or give n_states."
        )
    with surveyed_once():
        rates = open_rates(model_or_adata, biosamples)
        if rates.adata.n_obs * len(rates.biosamples) < 50:
            raise ValueError(f"states need at least 50 regions to be found in; there are {rates.adata.n_obs}.")
        learnt = _learn(rates, n_states, resolution, np.random.default_rng(seed), seed)
        _record(rates, learnt, _decode(rates, learnt), {"n_states": n_states, "resolution": resolution, "seed": seed})


@dataclass(frozen=True, eq=False)
class _Learnt:
    """States, and what rates are standardised by.

    Parameters
    ----------
    chain
        The states.
    mean_ba
        Mean rate of each track.
    centre_a, scale_a
        Mean and standard deviation of log rates.
    """

    chain: Chain
    mean_ba: np.ndarray
    centre_a: np.ndarray
    scale_a: np.ndarray

    def describe(self, rate_rba: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """What the chain sees of consecutive regions, whose segments begin at some of them: standardised, smooth."""
        return _smooth((_log(rate_rba / self.mean_ba) - self.centre_a) / self.scale_a, offsets)


def _log(enrichment_rba: np.ndarray) -> np.ndarray:
    return np.log(enrichment_rba + _PSEUDO)


def _pieces(segments: Segments, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First row, and row after the last, of pieces of at most some length that segments are cut into."""
    starts, stops = segments.offsets[:-1], segments.offsets[1:]
    first = np.concatenate([np.arange(start, stop, length) for start, stop in zip(starts, stops, strict=True)])
    return first, np.minimum(first + length, segments.bounds(first)[1])


def _learn(rates: Rates, n_states: int | None, resolution: float, rng: np.random.Generator, seed: int) -> _Learnt:
    first_p, stop_p = _pieces(rates.segments, _LENGTH)
    order_p = rng.permutation(len(first_p))
    size_p = np.cumsum((stop_p - first_p)[order_p]) * len(rates.biosamples)
    drawn_p = np.sort(order_p[: max(1, int(np.searchsorted(size_p, _MOST_DRAWN, side="right")))])
    first_p, stop_p = first_p[drawn_p], stop_p[drawn_p]
    rows = np.concatenate([np.arange(start, stop) for start, stop in zip(first_p, stop_p, strict=True)])
    offsets = np.r_[0, np.cumsum(stop_p - first_p)]
    rate_rba = np.concatenate([rates.read(part) for part in np.array_split(rows, -(-len(rows) // _CHUNK))])
    mean_ba = rate_rba.mean(axis=0, dtype=np.float64)
    log_rba = _log(rate_rba / mean_ba)
    centre_a, scale_a = log_rba.mean(axis=(0, 1)), log_rba.std(axis=(0, 1)) + 1e-6
    x_rba = _smooth((log_rba - centre_a) / scale_a, offsets)
    x_nf = x_rba[rng.integers(_EVERY) :: _EVERY].reshape(-1, x_rba.shape[-1])
    chain = Chain.of_clusters(x_nf, _cluster(x_nf, n_states, resolution, seed))
    return _Learnt(chain.fit(_stack(x_rba, offsets[:-1], offsets[1:])), mean_ba, centre_a, scale_a)


def _smooth(x_rba: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return gaussian_smoothing(x_rba.reshape(len(x_rba), -1), offsets, _WIDTH).reshape(x_rba.shape)


def _cluster(x_nf: np.ndarray, n_states: int | None, resolution: float, seed: int) -> np.ndarray:
    """Cluster of each region: components of the most likely of some mixtures of normal distributions."""
    n_clusters = _count_clusters(x_nf, resolution, seed) if n_states is None else min(n_states, len(x_nf))
    mixture = GaussianMixture(n_clusters, n_init=_STARTS, reg_covar=FLOOR, random_state=seed % 2**32)
    with warnings.catch_warnings():  # the chain goes on from wherever it ends, and with fewer where regions are alike
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.unique(mixture.fit_predict(x_nf), return_inverse=True)[1]


def _count_clusters(x_nf: np.ndarray, resolution: float, seed: int) -> int:
    """How many clusters Leiden's algorithm finds."""
    import scanpy as sc

    cells = AnnData(x_nf.astype(np.float32))
    with warnings.catch_warnings():  # of regions without reads, which are alike, scanpy sets distances anew
        warnings.simplefilter("ignore", SparseEfficiencyWarning)
        # exact, the same everywhere, and for so few regions faster than to compile what finds them nearly
        sc.pp.neighbors(cells, n_neighbors=min(_NEIGHBOURS, len(x_nf) - 1), use_rep="X", transformer="sklearn")
    sc.tl.leiden(cells, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed % 2**31)
    return cells.obs["leiden"].nunique()


def _stack(x_rba: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> Stretches:
    """Runs of rows, each biosample by itself, below each other at one length."""
    length, n_assays = int((stops - starts).max()), x_rba.shape[-1]
    x_lpba = np.zeros((length, len(starts), *x_rba.shape[1:]))
    is_there_lpb = np.zeros(x_lpba.shape[:-1], dtype=bool)
    for p, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        x_lpba[: stop - start, p], is_there_lpb[: stop - start, p] = x_rba[start:stop], True
    return Stretches(x_lpba.reshape(length, -1, n_assays), is_there_lpb.reshape(length, -1))


@dataclass(frozen=True, eq=False)
class _Decoded:
    """State of each region, and the sums of rates that the means of the table are made of.

    Parameters
    ----------
    state_rb
        Number of the state, int8.
    total_kba
        Sum of the rates, in means of the track.
    """

    state_rb: np.ndarray
    total_kba: np.ndarray


def _decode(rates: Rates, learnt: _Learnt) -> _Decoded:
    """The most probable state of every region, some regions at a time."""
    chain, n_biosamples = learnt.chain, len(rates.biosamples)
    state_rb = np.empty((rates.adata.n_obs, n_biosamples), dtype=np.int8)
    total_kba = np.zeros((len(chain.mean_kf), n_biosamples, len(rates.assays)))
    for first_p, stop_p in _chunks(rates.segments):
        low_r, high_r = rates.segments.bounds(first_p)
        starts, stops = np.maximum(first_p - _MARGIN, low_r), np.minimum(stop_p + _MARGIN, high_r)
        begin, end = int(starts[0]), int(stops[-1])
        rate_rba = rates.read(np.arange(begin, end))
        x_rba = learnt.describe(rate_rba, np.unique(np.r_[low_r, end].clip(begin, end)) - begin)
        weight_lnk, _ = chain.posterior(_stack(x_rba, starts - begin, stops - begin))
        state_lpb = weight_lnk.argmax(axis=-1).reshape(len(weight_lnk), -1, n_biosamples)
        for p, (start, first, stop) in enumerate(zip(starts, first_p, stop_p, strict=True)):
            state_rb[first:stop] = state_lpb[first - start : stop - start, p]
        here = slice(int(first_p[0]), int(stop_p[-1]))
        enrichment_rba = rate_rba[here.start - begin : here.stop - begin] / learnt.mean_ba
        for b in range(n_biosamples):
            for k in range(len(total_kba)):
                total_kba[k, b] += enrichment_rba[state_rb[here, b] == k, b].sum(axis=0)
    return _Decoded(state_rb, total_kba)


def _chunks(segments: Segments) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Consecutive pieces of segments, as many as are held in memory together."""
    first_p, stop_p = _pieces(segments, _LENGTH)
    n_pieces = max(1, _CHUNK // _LENGTH)
    begin = 0
    while begin < len(first_p):
        # short segments make more pieces of as many regions
        end = max(begin + n_pieces, int(np.searchsorted(stop_p, first_p[begin] + _CHUNK, side="right")))
        yield first_p[begin:end], stop_p[begin:end]
        begin = end


def _record(rates: Rates, learnt: _Learnt, decoded: _Decoded, params: dict[str, Any]) -> None:
    """Put states that occur into the AnnData, ordered by their kind and, of one kind, by their number."""
    number_k = np.bincount(decoded.state_rb.ravel(), minlength=len(decoded.total_kba))
    enrichment_ka = decoded.total_kba.sum(axis=1) / np.maximum(number_k, 1)[:, None]
    kind_k = [find_kind(dict(zip(rates.assays, row, strict=True))) for row in enrichment_ka]
    order = [k for k in sorted(range(len(number_k)), key=lambda k: (kind_k[k], -number_k[k])) if number_k[k]]
    names = [f"{place} {KINDS[kind_k[k]].name}" for place, k in enumerate(order, start=1)]
    code_k = np.zeros(len(number_k), dtype=np.int8)
    code_k[order] = np.arange(len(order))
    colors = [KINDS[kind_k[k]].color for k in order]
    adata = rates.adata
    adata.obsm[KEY] = pd.DataFrame(
        {
            biosample: pd.Categorical.from_codes(code_k[decoded.state_rb[:, b]], categories=names)
            for b, biosample in enumerate(rates.biosamples)
        },
        index=adata.obs_names,
    )
    table = pd.DataFrame(
        {
            "kind": [KINDS[kind_k[k]].name for k in order],
            "color": colors,
            "regions": number_k[order],
            "share": number_k[order] / number_k.sum(),
        },
        index=pd.Index(names, name="state"),
    )
    enrichment = pd.DataFrame(enrichment_ka[order], index=table.index, columns=list(rates.assays))
    kept_kk = learnt.chain.transition_kk[np.ix_(order, order)]
    transitions = pd.DataFrame(kept_kk / kept_kk.sum(axis=1, keepdims=True), index=table.index, columns=names)
    asked = {name: value for name, value in params.items() if value is not None}
    adata.uns[KEY] = {
        "table": table.join(enrichment),
        "transitions": transitions,
        "params": asked | {"biosamples": list(rates.biosamples), "assays": list(rates.assays)},
    }
    adata.uns[f"{KEY}_colors"] = colors
