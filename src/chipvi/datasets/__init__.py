"""Data to try things on: counts simulated with known truth, and real counts downloaded once and checked."""

from ._roadmap import roadmap_tss
from ._simulate import simulate

__all__ = ["roadmap_tss", "simulate"]
