"""Pictures: tracks along the genome, training curves, quality per track."""

from ._quality import quality
from ._tracks import tracks
from ._training import training

__all__ = ["quality", "tracks", "training"]
