"""Networks and distributions, in plain torch: what a module is built from."""

from ._affinity import BiosampleAffinity, similarity_scores
from ._coders import BiosampleEmbedding, Decoder, Encoder, TrainableEntries
from ._context import window_means, window_sums
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
from ._offsets import log_ratio, log_update
from ._trees import N_SPLITS, TREE_DEPTH, BoostedTrees, TreeSum

__all__ = [
    "COUNT_HEADS",
    "N_SPLITS",
    "TREE_DEPTH",
    "BiosampleAffinity",
    "BiosampleEmbedding",
    "BoostedTrees",
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
    "TreeSum",
    "ZeroInflated",
    "ZeroInflatedNegativeBinomial",
    "log_ratio",
    "log_update",
    "make_count_head",
    "similarity_scores",
    "window_means",
    "window_sums",
]
