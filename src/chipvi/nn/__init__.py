"""Networks and distributions, in plain torch: what a module is built from."""

from ._distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from ._heads import (
    COUNT_HEADS,
    ClampedNP,
    CountHead,
    CountLogits,
    GaussianHead,
    MeanDispersion,
    PoissonHead,
    ZeroInflated,
    make_count_head,
)

__all__ = [
    "COUNT_HEADS",
    "ClampedNP",
    "CountHead",
    "CountLogits",
    "GaussianHead",
    "MeanDispersion",
    "NegativeBinomial",
    "Poisson",
    "PoissonHead",
    "ZeroInflated",
    "ZeroInflatedNegativeBinomial",
    "make_count_head",
]
