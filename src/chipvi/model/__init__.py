"""The model as users of scvi-tools know it: set up, train, predict, judge, take up a query."""

from .chipvi import ChipVI

__all__ = ["ChipVI"]
