"""Count heads compared on the user's own data, under equal conditions."""

from ._comparison import HeadComparison, compare_heads
from ._report import run

__all__ = ["HeadComparison", "compare_heads", "run"]
