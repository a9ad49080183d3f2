"""Pictures: tracks along the genome, training curves, quality per track, calibration."""

from ._calibration import calibration
from ._quality import quality
from ._tracks import tracks
from ._training import training

__all__ = ["calibration", "quality", "tracks", "training"]
