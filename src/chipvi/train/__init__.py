"""Training: what to hide, in which order to read, when to stop, what to write down and what to warn of."""

from ._diagnostics import TrainingAdvice
from ._history import extend_history
from ._loader import FixedMinibatches, RegionLoader
from ._masking import Task, apply_task, draw_task, hide_nothing
from ._part import Part
from ._plan import PlanOptions, TrainingPlan
from ._runner import choose_accelerator, fit
from ._splits import Split, split_regions, spread

__all__ = [
    "Part",
    "PlanOptions",
    "RegionLoader",
    "Split",
    "Task",
    "TrainingAdvice",
    "TrainingPlan",
    "apply_task",
    "choose_accelerator",
    "draw_task",
    "extend_history",
    "fit",
    "FixedMinibatches",
    "hide_nothing",
    "split_regions",
    "spread",
]
