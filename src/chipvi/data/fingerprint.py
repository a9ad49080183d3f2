"""A short text that says whether data are those of before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def identify(data: TrackData) -> str:
    """As :func:`fingerprint`; what lies in files is not read for it, but taken for the same by their size and time."""
    stamps = [_stamp(matrix.source) for matrix in data.matrices]
    if data.in_memory or not all(stamps):
        return fingerprint(data)
    return hashlib.sha256(" ".join([*stamps, *data.tracks.names]).encode()).hexdigest()[:16]


def _stamp(source: Any) -> str:
    """Path, size and time of the file of a matrix; empty for another kind."""
    source = getattr(source, "group", source)
    root = getattr(getattr(source, "store", None), "root", None)  # of a zarr store on disk
    if root is not None:
        folder = Path(root) / source.path
        file = next((folder / name for name in ("zarr.json", ".zarray", ".zgroup") if (folder / name).is_file()), None)
    else:
        file = Path(source.file.filename) if hasattr(source, "file") else None
    if file is None:
        return ""
    found = file.stat()
    return f"{file} {found.st_size} {found.st_mtime_ns}"
