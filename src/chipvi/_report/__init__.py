"""A page for a lab meeting: what a model was trained on, how that went, how good it is, and what to beware of."""

from ._command import run
from ._report import report

__all__ = ["report", "run"]
