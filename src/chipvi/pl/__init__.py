"""Pictures: tracks along the genome, training curves, quality per track, calibration, count heads, affinity, states."""

from ._affinity import affinity
from ._calibration import calibration
from ._heads import heads
from ._quality import quality
from ._states import states
from ._tracks import tracks
from ._training import training

__all__ = ["affinity", "calibration", "heads", "quality", "states", "tracks", "training"]
