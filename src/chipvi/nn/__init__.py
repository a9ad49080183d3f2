"""Networks and distributions, in plain torch: what a module is built from."""

from ._affinity import BiosampleAffinity, similarity_scores
from ._coders import BiosampleEmbedding, Decoder, Encoder, TrainableEntries
from ._context import window_means
from ._distributions import NegativeBinomial, Poisson, TwoStateNegativeBinomial, ZeroInflatedNegativeBinomial
from ._heads import (
    COUNT_HEADS,
    ClampedNP,
    CountHead,
    CountLogits,
    GaussianHead,
    MeanDispersion,
    PoissonHead,
    TwoState,
    ZeroInflated,
    make_count_head,
)
from ._offsets import log_ratio, log_update

__all__ = [
    "COUNT_HEADS",
    "BiosampleAffinity",
    "BiosampleEmbedding",
    "ClampedNP",
    "CountHead",
    "CountLogits",
    "Decoder",
    "Encoder",
    "GaussianHead",
    "MeanDispersion",
    "NegativeBinomial",
    "Poisson",
    "PoissonHead",
    "TrainableEntries",
    "TwoState",
    "TwoStateNegativeBinomial",
    "ZeroInflated",
    "ZeroInflatedNegativeBinomial",
    "log_ratio",
    "log_update",
    "make_count_head",
    "similarity_scores",
    "window_means",
]
