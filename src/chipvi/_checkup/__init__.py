"""The check-up of a trained model, once its predictions are made: numbers, verdicts, report."""

from ._report import Diagnosis, report
from ._verdicts import BAR, RIGHT, TOO_FEW, VAGUE

__all__ = ["BAR", "RIGHT", "TOO_FEW", "VAGUE", "Diagnosis", "report"]
