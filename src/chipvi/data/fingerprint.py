"""A short text that says whether data are those of before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .track_data import TrackData


def fingerprint(data: TrackData) -> str:
    """Short text that differs for data of other regions, tracks, reads or signal."""
    from .annotation import PlaceNames  # which takes time to import

    digest = hashlib.sha256()
    counts, signal = data.summary.counts, data.summary.signal
    digest.update("\n".join(data.tracks.names).encode())
    if isinstance(data.region_names, PlaceNames):
        for part in data.region_names.parts:
            digest.update(part.tobytes())
    else:
        digest.update("\n".join(map(str, data.region_names)).encode())
    digest.update(data.segments.offsets.tobytes())
    for numbers in (counts.number_t, counts.total_t, counts.squares_t, signal.number_t):
        digest.update(" ".join(f"{value:.0f}" for value in numbers).encode())
    digest.update(" ".join(f"{value:.6g}" for value in signal.total_t).encode())
    return digest.hexdigest()[:16]
