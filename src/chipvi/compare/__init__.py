"""Count heads under equal conditions, on held-out regions of one's own data."""

from .comparison import HeadComparison, compare_heads

__all__ = ["HeadComparison", "compare_heads"]
