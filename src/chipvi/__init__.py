"""Variational inference for ChIP-seq, ATAC-seq and DNase-seq: impute, denoise and embed counts over the genome."""

from importlib.metadata import version

__version__ = version("chipvi")
