"""Training: what to hide, how the weights move, when to stop, what to record and what to warn of."""

from .advice import TrainingAdvice
from .plan import PlanOptions

__all__ = ["PlanOptions", "TrainingAdvice"]
