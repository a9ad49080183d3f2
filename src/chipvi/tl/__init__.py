"""Answers beyond tracks: the chromatin state of each region in each biosample."""

from ._states import states

__all__ = ["states"]
