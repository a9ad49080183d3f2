"""What can be found wrong with a training, with the numbers that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Sign(Enum):
    """A sign of a model that does not learn as it should."""

    PLATEAU = "plateau"
    STARVED_HEAD = "starved head"
    CLAMPED = "clamped"
    BIASED_TRACKS = "biased tracks"
    EMPTY_LATENTS = "empty latents"
    COLLAPSED_DISPERSION = "collapsed dispersion"
    EXPLODED_DISPERSION = "exploded dispersion"
    FLOORED_SPREAD = "floored spread"
    DROWNED_COUNTS = "drowned counts"
    LOW_KL_WEIGHT = "low KL weight"
    EQUAL_DEPTHS = "equal depths"
    UNLIKELY_DEPTHS = "unlikely depths"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Finding:
    """A sign that was found.

    Parameters
    ----------
    sign
        Which.
    numbers
        What shows it, by name.
    where
        Tracks or quantities that it was found in, with the number of each.
    """

    sign: Sign
    numbers: Mapping[str, float]
    where: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Plain values, for a file; :meth:`of` reads them."""
        numbers, where = ({k: float(v) for k, v in values.items()} for values in (self.numbers, self.where))
        return {"sign": self.sign.value, "numbers": numbers, "where": where}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Finding:
        """The finding of such values."""
        return cls(Sign(plain["sign"]), plain["numbers"], plain["where"])
