"""What replicates differ by beyond the chance of reads, of which denoising takes so much out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from ..data.grid import Grid
from ..data.splits import MOST_RECALIBRATED, draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..module.vae import ChipVAE
from ..module.views import CountView

_LOG_LEAST, _LOG_MOST = np.log(1e-6), np.log(10.0)


def learn_noise(module: ChipVAE, grid: Grid, data: TrackData, trained: np.ndarray, conditions: Sequence[str]) -> None:
    """Give the count view of a trained module the noise between replicates of each assay, in place; 0 without any.

    Parameters
    ----------
    module, grid
        Trained, and its grid.
    data
        What it was trained on.
    trained
        Ascending rows that it was trained on.
    conditions
        What replicates share, of each track.
    """
    rows = draw_blocks(trained, MOST_RECALIBRATED, bin_width=data.segments.bin_width)
    entries = data.read_rows(rows).view(ViewKind.COUNTS)
    view = module.view(ViewKind.COUNTS)
    assert entries is not None and isinstance(view, CountView)
    _, condition_t = np.unique(conditions, return_inverse=True)
    is_counted_t = (data.summary.counts.number_t > 0) & grid.is_target_t
    for a in range(len(grid.assays)):
        groups = [is_counted_t & (grid.assay_t == a) & (condition_t == c) for c in np.unique(condition_t)]
        counts = [entries.measured_rt[:, is_one_t] for is_one_t in groups if is_one_t.sum() > 1]
        view.noise_a[a] = replicate_noise(counts) if counts else 0.0


def replicate_noise(counts: Sequence[np.ndarray]) -> float:
    """Dispersion of the negative binomial that replicates scatter by: the c of a variance of m + c m^2.

    Each group is thinned to the reads of its shallowest replicate. Then c maximises the likelihood of the reads of each
    replicate given their sum, which does not depend on the mean (Robinson and Smyth 2008, Biostatistics 9:321).

    Parameters
    ----------
    counts
        For each group, the reads of its replicates, regions x 2 or more; NaN where missing.

    Returns
    -------
    The dispersion, 1e-6 to 10, one for all groups; 0 if no region has reads.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> rate = random.gamma(2, 10, size=(20_000, 1)) * random.gamma(1 / 0.1, 0.1, size=(20_000, 2))
    >>> round(replicate_noise([random.poisson(rate * [1, 3])]), 2)
    0.1
    """
    random = np.random.default_rng(0)
    equal = [_thinned(group_rt, random) for group_rt in counts]
    equal = [group_rt[group_rt.sum(axis=1) > 0] for group_rt in equal]
    if not sum(map(len, equal)):
        return 0.0

    def loss(log_dispersion: float) -> float:
        size = np.exp(-log_dispersion)
        return -sum(float(_conditional_log_prob(group_rt, size).sum()) for group_rt in equal)

    return float(np.exp(minimize_scalar(loss, bounds=(_LOG_LEAST, _LOG_MOST), method="bounded").x))


def _thinned(group_rt: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Replicates where all are measured, each read kept by chance so that all have as many as the shallowest."""
    group_rt = group_rt[np.isfinite(group_rt).all(axis=1)].astype(np.int64)
    reads_t = group_rt.sum(axis=0)
    return random.binomial(group_rt, reads_t.min() / np.maximum(reads_t, 1))


def _conditional_log_prob(group_rt: np.ndarray, size: float) -> np.ndarray:
    """Log probability of negative binomial counts of one mean and size, given their sum, but for what is constant."""
    n, sum_r = group_rt.shape[1], group_rt.sum(axis=1)
    return gammaln(group_rt + size).sum(axis=1) - n * gammaln(size) - gammaln(sum_r + n * size) + gammaln(n * size)
