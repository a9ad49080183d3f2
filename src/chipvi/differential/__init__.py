"""What differs between two groups of biosamples: tests that replicates moderate, and intervals of changed regions."""

from .intervals import merge_regions

__all__ = ["merge_regions"]
