"""What data can give, before a model is trained on them: which tracks have others to be imputed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .track_data import TrackData, ViewKind

FEWEST_OTHERS = 3  # tracks of a biosample that stand in for the assay in another biosample


@dataclass(frozen=True)
class Outlook:
    """How much there is to go by.

    Parameters
    ----------
    n_tracks, n_biosamples
        Measured tracks that are no controls, and their biosamples.
    alone, scarce
        Names of tracks beside which nothing is measured that they could be imputed from: neither another track of the
        biosample nor the assay in another one; and of those with one or two tracks of the biosample and no more.
    n_gaps
        Experiments that nobody has run, of these biosamples and assays.
    has_counts
        Whether there are counts, which can be denoised.
    """

    n_tracks: int
    n_biosamples: int
    alone: tuple[str, ...]
    scarce: tuple[str, ...]
    n_gaps: int
    has_counts: bool

    @property
    def is_poor(self) -> bool:
        """Whether no track has enough beside it to be imputed from."""
        return len(self.alone) + len(self.scarce) == self.n_tracks

    @classmethod
    def of(cls, data: TrackData) -> Outlook:
        """Look at what is measured anywhere in the data."""
        tracks = data.tracks
        t = np.flatnonzero(data.measured_t & ~tracks.is_control)
        biosample_t, assay_t = np.array(tracks.biosamples)[t], np.array(tracks.assays)[t]
        n_own_t = (biosample_t[:, None] == biosample_t).sum(axis=1) - 1
        n_elsewhere_t = (assay_t[:, None] == assay_t).sum(axis=1) - 1
        is_lonely_t = (n_elsewhere_t == 0) & (n_own_t < FEWEST_OTHERS)
        names_t = np.array(tracks.names, dtype=object)[t]
        labels = [np.array(names)[~tracks.is_control] for names in (tracks.biosamples, tracks.assays)]
        return cls(
            n_tracks=len(t),
            n_biosamples=len(set(biosample_t)),
            alone=tuple(names_t[is_lonely_t & (n_own_t == 0)]),
            scarce=tuple(names_t[is_lonely_t & (n_own_t > 0)]),
            n_gaps=len(set(labels[0])) * len(set(labels[1])) - len(t),
            has_counts=ViewKind.COUNTS in data.views,
        )
