"""Data to try things on: counts simulated with known truth, and real counts downloaded once and checked."""

from ._simulate import simulate

__all__ = ["simulate"]
