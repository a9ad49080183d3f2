"""Scores of the steps between two log entries, summed up where the tensors are."""

from __future__ import annotations

import torch
from torch import Tensor


class FitScores:
    """R2 and Pearson correlation per track, from sums over minibatches.

    Averages of minibatch scores would be wrong, for neither score is a mean over entries.

    Parameters
    ----------
    n_tracks, device
        Of the model.
    """

    def __init__(self, n_tracks: int, device: torch.device) -> None:
        # number, truth, prediction, their squares, their product
        self._sums_6t = torch.zeros(6, n_tracks, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, truth_rqg: Tensor, prediction_rqg: Tensor, weight_rqg: Tensor, track_qg: Tensor) -> None:
        """Count in the entries of weight 1."""
        y, p, w = truth_rqg.double(), prediction_rqg.double(), weight_rqg.double()
        terms_6qg = torch.stack([(w * x).sum(dim=0) for x in (torch.ones_like(y), y, p, y * y, p * p, y * p)])
        self._sums_6t.index_add_(1, track_qg.flatten(), terms_6qg.flatten(1))

    def take(self) -> dict[str, float]:
        """`r2`, `pcc`, `predicted` and `true` mean, averaged over the tracks that have them; and start anew."""
        sums_6t = self._sums_6t.cpu().numpy().copy()
        self._sums_6t.zero_()
        n, y, p, yy, pp, yp = sums_6t[:, sums_6t[0] > 1]
        var_y, var_p, cov = yy - y**2 / n, pp - p**2 / n, yp - y * p / n
        varied = var_y > 1e-9
        if not varied.any():
            return {}
        n, y, p, yy, pp, yp, var_y, var_p, cov = (x[varied] for x in (n, y, p, yy, pp, yp, var_y, var_p, cov))
        correlation = cov / (var_y * var_p.clip(1e-12)) ** 0.5
        return {
            "r2": float((1 - (yy - 2 * yp + pp) / var_y).mean()),
            "pcc": float(correlation.mean()),
            "predicted": float((p / n).mean()),
            "true": float((y / n).mean()),
        }
