"""Any tool's prediction scored against what was measured, beside predictions without a model."""

from ._report import run
from ._scores import score_anndata

__all__ = ["run", "score_anndata"]
