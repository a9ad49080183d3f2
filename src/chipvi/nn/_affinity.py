"""How much biosamples have to say about each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_N_FEATURES = 16
_LARGEST_SCORE = 10.0  # weights of exp(-10) are nothing, and can still be learnt


class BiosampleAffinity(nn.Module):
    """Learnt weights of the other biosamples in an average of them.

    The log weight of biosample c in what is expected of assay a in biosample b is a scalar product, as in attention: of
    a query vector of b, scaled by a vector of a, and a key vector of c. Queries start at zero, where all weights are
    equal, and so does what assays say.

    Parameters
    ----------
    n_biosamples, n_assays
        Sizes.
    """

    def __init__(self, n_biosamples: int, n_assays: int) -> None:
        super().__init__()
        self.query_bd = nn.Parameter(torch.zeros(n_biosamples, _N_FEATURES))
        self.key_bd = nn.Parameter(torch.randn(n_biosamples, _N_FEATURES))
        self.log_scale_ad = nn.Parameter(torch.zeros(n_assays, _N_FEATURES))

    def forward(self, biosample_q: Tensor) -> Tensor:
        """Log weights, shape (q, a, b)."""
        query_qad = self.query_bd[biosample_q, None] * torch.exp(self.log_scale_ad)
        score_qab = query_qad @ self.key_bd.T
        return _LARGEST_SCORE * torch.tanh(score_qab / _LARGEST_SCORE)
