"""Predictions without a model, to hold imputation against."""

from __future__ import annotations

import numpy as np
import torch

from ..data.imputable import find_imputable
from ..data.track_data import Entries
from ..data.tracks import Tracks
from ..metrics import fit_dispersion, leave_one_out_average


def average_of_others(tracks: Tracks, entries: Entries, depth_t: np.ndarray | None = None) -> np.ndarray:
    """The same assay averaged over the other biosamples, region by region: what one would guess without a model.

    Parameters
    ----------
    tracks
        What the columns are.
    entries
        Counts or signal, and where they were measured.
    depth_t
        Of counts: depth of each track, up to a factor that all share. They are averaged per unit of depth, and the
        average comes at each track's own. None averages the values as they are, as befits signal.

    Returns
    -------
    float64, NaN where no other biosample was measured.
    """
    scale_t = np.ones(tracks.n_tracks) if depth_t is None else depth_t
    return scale_t * leave_one_out_average(
        entries.value_rt / scale_t, entries.present_rt, tracks.biosamples, tracks.assays
    )


def is_imputable(tracks: Tracks, present_rt: np.ndarray) -> np.ndarray:
    """Entries for which another track of the biosample, or the assay in another biosample, was measured in the region.

    Parameters
    ----------
    tracks
        What the columns are.
    present_rt
        Where any view of them was measured, bool.

    Returns
    -------
    bool, regions x tracks, as :func:`chipvi.data.imputable.find_imputable` finds them.
    """
    biosample_t, assay_t = (np.unique(labels, return_inverse=True)[1] for labels in (tracks.biosamples, tracks.assays))
    arrays = (present_rt, biosample_t, assay_t, ~tracks.is_control)
    return find_imputable(*map(torch.from_numpy, arrays)).numpy()


def fit_marginal(counts_rt: np.ndarray, mean_t: np.ndarray) -> np.ndarray:
    """Dispersion of the marginal: one negative binomial for all regions of a track, around a mean that is given.

    Parameters
    ----------
    counts_rt
        Counts to fit, NaN where missing.
    mean_t
        Mean of each track.

    Returns
    -------
    float64, one per track; NaN for a track without entries.
    """
    return fit_dispersion(counts_rt, np.broadcast_to(mean_t, counts_rt.shape))
