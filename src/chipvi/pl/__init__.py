"""Pictures: tracks along the genome, training, quality, calibration, count heads, affinity, differences, states."""

from ._affinity import affinity
from ._calibration import calibration
from ._differential import differential_loci, ma, volcano
from ._heads import heads
from ._quality import quality
from ._states import states
from ._tracks import tracks
from ._training import training

__all__ = [
    "affinity",
    "calibration",
    "differential_loci",
    "heads",
    "ma",
    "quality",
    "states",
    "tracks",
    "training",
    "volcano",
]
