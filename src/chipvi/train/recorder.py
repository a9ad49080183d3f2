"""Scores of the steps between two log entries, summed up where the tensors are, and the tables they end in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .ranks import Ranks


class FitScores:
    """R2, Pearson correlation, mean and maximum per track, from sums over minibatches.

    Averages of minibatch scores would be wrong, for neither score is a mean over entries.

    Parameters
    ----------
    n_tracks, device
        Of the model.
    """

    def __init__(self, n_tracks: int, device: torch.device) -> None:
        # number, truth, prediction, their squares, their product
        self._sums_6t = torch.zeros(6, n_tracks, dtype=torch.float64, device=device)
        # truth, prediction
        self._max_2t = torch.full((2, n_tracks), -torch.inf, device=device)

    @torch.no_grad()
    def add(self, truth_rqg: Tensor, prediction_rqg: Tensor, weight_rqg: Tensor, track_qg: Tensor) -> None:
        """Count in the entries of weight 1."""
        y, p, w = truth_rqg.double(), prediction_rqg.double(), weight_rqg.double()
        terms_6qg = torch.stack([(w * x).sum(dim=0) for x in (torch.ones_like(y), y, p, y * y, p * p, y * p)])
        self._sums_6t.index_add_(1, track_qg.flatten(), terms_6qg.flatten(1))
        absent_rqg = weight_rqg == 0
        max_2qg = torch.stack([x.masked_fill(absent_rqg, -torch.inf).amax(dim=0) for x in (truth_rqg, prediction_rqg)])
        self._max_2t.scatter_reduce_(1, track_qg.flatten().expand(2, -1), max_2qg.flatten(1).float(), "amax")

    def pool(self, ranks: Ranks) -> None:
        """Make the sums so far those over all ranks."""
        self._sums_6t.copy_(ranks.total(self._sums_6t))
        self._max_2t.copy_(ranks.largest(self._max_2t))

    def take(self) -> dict[str, float]:
        """`r2`, `pcc`, `predicted` and `true` mean, averaged over the tracks that have them; and start anew."""
        sums_6t = self._sums_6t.cpu().numpy().copy()
        self._sums_6t.zero_()
        self._max_2t.fill_(-torch.inf)
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

    def state(self) -> tuple[Tensor, Tensor]:
        """The sums so far."""
        return self._sums_6t, self._max_2t

    def load(self, state: tuple[Tensor, Tensor]) -> None:
        """Go on from such sums."""
        self._sums_6t.copy_(state[0])
        self._max_2t.copy_(state[1])

    def by_track(self) -> dict[str, np.ndarray]:
        """Number of `entries`, and mean and maximum of truth and prediction, of each track; NaN without entries."""
        n_t, true_t, predicted_t = self._sums_6t[:3].cpu().numpy().copy()
        max_2t = self._max_2t.double().cpu().numpy()
        some_t = np.where(n_t > 0, n_t, np.nan)
        return {
            "entries": n_t,
            "predicted_mean": predicted_t / some_t,
            "true_mean": true_t / some_t,
            "predicted_max": np.where(n_t > 0, max_2t[1], np.nan),
            "true_max": np.where(n_t > 0, max_2t[0], np.nan),
        }


def to_tables(records: Mapping[str, Mapping[int, float]]) -> dict[str, pd.DataFrame]:
    """A table per quantity, indexed by step, of ``{column: {step: value}}``.

    What comes before the first dot of a column names its table.

    Examples
    --------
    >>> to_tables({"kl_by_latent.0": {0: 0.5}, "kl_by_latent.1": {0: 0.25}})["kl_by_latent"]
          kl_by_latent.0  kl_by_latent.1
    step
    0                0.5            0.25
    """
    columns: dict[str, dict[str, pd.Series]] = {}
    for name, values in records.items():
        columns.setdefault(name.partition(".")[0], {})[name] = pd.Series(values, dtype=float)
    return {name: pd.DataFrame(table).rename_axis(index="step") for name, table in columns.items()}


def extend_history(before: Mapping[str, pd.DataFrame], history: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Put a training after those before, steps counted on."""
    extended = dict(before)
    last = max((int(table.index[-1]) for table in before.values()), default=-1) + 1
    for name, table in history.items():
        table = table.set_axis(table.index + last)
        extended[name] = pd.concat([before[name], table]) if name in before else table
    return extended
