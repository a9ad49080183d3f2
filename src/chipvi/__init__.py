"""Variational inference for ChIP-seq, ATAC-seq and DNase-seq: impute, denoise and embed counts over the genome."""

from importlib.metadata import version

from . import datasets, io, metrics, pl
from ._compare import compare_heads
from ._report import report
from .model import ChipVI

__version__ = version("chipvi")

__all__ = ["ChipVI", "compare_heads", "datasets", "io", "metrics", "pl", "report"]
