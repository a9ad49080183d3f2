"""Pictures: tracks along the genome, training, quality per track, calibration, count heads, affinity, differences."""

from ._affinity import affinity
from ._calibration import calibration
from ._differential import differential_loci, ma, volcano
from ._heads import heads
from ._quality import quality
from ._tracks import tracks
from ._training import training

__all__ = [
    "affinity",
    "calibration",
    "differential_loci",
    "heads",
    "ma",
    "quality",
    "tracks",
    "training",
    "volcano",
]
