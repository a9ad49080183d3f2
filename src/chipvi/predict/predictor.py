"""Predictions of a trained module, a batch of regions at a time, so that memory does not grow with the genome."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.grid import Layout, has_data
from ..data.loader import FixedMinibatches
from ..data.track_data import TrackData
from ..data.tracks import Targets
from ..module.vae import NO_ASSAY, ChipVAE
from ..nn import NegativeBinomial

_MOST_QUERIES = 16_384  # regions times queries in one pass through the network
_MOST_TARGETS = 256
_MOST_REGIONS = 2_048


@dataclass(frozen=True, eq=False)
class Queries:
    """What to ask the module for a list of targets.

    Parameters
    ----------
    target_n
        Which targets these are.
    biosample_q, embedding_q, leave_out_q, assay_qg
        As in :class:`chipvi.module.ChipVAE`.
    query_n, place_n
        Where among (q, g) each target stands.
    """

    target_n: Tensor
    biosample_q: Tensor
    embedding_q: Tensor
    leave_out_q: Tensor
    assay_qg: Tensor
    query_n: Tensor
    place_n: Tensor


class Predictor:
    """Predicts targets in the regions of a data set.

    Parameters
    ----------
    module, layout
        Trained, and its grid.
    data
        Where to predict; its tracks are those of the layout.
    targets
        What to predict.
    log_depth_t, log_depth_n
        Log depth of the tracks of the data, and of the targets to predict, less the module's centre.
    """

    def __init__(
        self,
        module: ChipVAE,
        layout: Layout,
        data: TrackData,
        targets: Targets,
        log_depth_t: np.ndarray,
        log_depth_n: np.ndarray,
    ) -> None:
        self._module, self._data = module, data
        self._device = module.assay_t.device
        self._log_depth_t = torch.as_tensor(log_depth_t, dtype=torch.float32, device=self._device)
        self.log_depth_n = log_depth_n
        self._log_depth_n = torch.as_tensor(log_depth_n, dtype=torch.float32, device=self._device)
        self._biosample_n = self._indices([layout.biosamples.index(label) for label in targets.biosamples])
        self._assay_n = self._indices([layout.assays.index(label) for label in targets.assays])
        is_known_n = module.known_ba[self._biosample_n, self._assay_n]
        self._share_n = torch.where(is_known_n, 0.0, module.unseen_share_ba[self._biosample_n, self._assay_n])
        is_measured_n = (targets.columns >= 0) & has_data(data)[targets.columns]
        self._is_measured_n = torch.as_tensor(is_measured_n, device=self._device)
        # a never-seen combination would make the biosample's own vector extrapolate
        generic = torch.full_like(self._biosample_n, module.biosamples.generic)
        self._embedding_n = torch.where(is_known_n, self._biosample_n, generic)

    def _indices(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def without_own_data(self) -> list[Queries]:
        """Ask for each target without its own counts and signal."""
        everything = torch.arange(len(self._assay_n), device=self._device)
        return [
            Queries(
                target_n=part_n,
                biosample_q=self._biosample_n[part_n],
                embedding_q=self._embedding_n[part_n],
                leave_out_q=self._assay_n[part_n],
                assay_qg=self._assay_n[part_n][:, None],
                query_n=torch.arange(len(part_n), device=self._device),
                place_n=torch.zeros_like(part_n),
            )
            for part_n in everything.split(_MOST_TARGETS)
        ]

    def with_own_data(self) -> list[Queries]:
        """Ask for all targets of a biosample together, with all of its data."""
        both_n2 = torch.stack([self._biosample_n, self._embedding_n], dim=1)
        both_q2, query_n = both_n2.unique(dim=0, return_inverse=True)
        place_n = torch.zeros_like(query_n)
        for q in range(len(both_q2)):
            is_here_n = query_n == q
            place_n[is_here_n] = torch.arange(int(is_here_n.sum()), device=self._device)
        assay_qg = torch.zeros(len(both_q2), int(place_n.max()) + 1, dtype=torch.int64, device=self._device)
        assay_qg[query_n, place_n] = self._assay_n
        return [
            Queries(
                target_n=torch.arange(len(query_n), device=self._device),
                biosample_q=both_q2[:, 0],
                embedding_q=both_q2[:, 1],
                leave_out_q=torch.full_like(both_q2[:, 0], NO_ASSAY),
                assay_qg=assay_qg,
                query_n=query_n,
                place_n=place_n,
            )
        ]

    def n_batches(self, n_rows: int, batch_size: int | None) -> int:
        """Number of batches of that many rows."""
        return -(-n_rows // self._size(batch_size))

    def _size(self, batch_size: int | None) -> int:
        n_queries = max(1, min(len(self._assay_n), _MOST_TARGETS))
        return batch_size or max(32, min(_MOST_REGIONS, _MOST_QUERIES // n_queries))

    def batches(self, rows: np.ndarray, batch_size: int | None) -> Iterator[dict[str, Tensor]]:
        """Minibatches of ascending rows, ready for the module."""
        for minibatch in FixedMinibatches(self._data, rows, self._size(batch_size)):
            tensors = {name: values.to(self._device) for name, values in minibatch.items()}
            tensors["visible_rt"] = torch.ones(
                len(tensors["low_rs"]), len(self._log_depth_t), dtype=torch.bool, device=self._device
            )
            yield tensors | {"log_depth_t": self._log_depth_t, "log_keep": torch.zeros((), device=self._device)}

    def impute(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What :meth:`predict` gives for all targets in ascending rows, without their own data: float64."""
        queries = self.without_own_data()
        return _stack([self.predict(tensors, queries) for tensors in self.batches(rows, None)])

    @torch.no_grad()
    def impute_apart(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """As :meth:`impute`, from the network alone; and the means from the average alone, where there is one."""
        network, average = [], []
        queries = self.without_own_data()
        for tensors in self.batches(rows, None):
            network_parts, average_parts = [], []
            for part in queries:
                inferred = self._infer(tensors, part, None)
                network_parts.append(self._ask_network(inferred, inferred["qz"].loc, part))
                average_parts.append(self._blend(network_parts[-1], inferred, part, torch.ones_like(self._share_n)))
            network.append(_beside(network_parts))
            average.append(_beside(average_parts))
        return _stack(network), _stack(average)

    @torch.no_grad()
    def predict(
        self, tensors: dict[str, Tensor], queries: list[Queries], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Moments of the targets.

        Parameters
        ----------
        tensors
            Of :meth:`batches`.
        queries
            Of :meth:`without_own_data` or :meth:`with_own_data`.
        generator
            Draws the latent; None takes its posterior mean, and leaves torch's own random state alone.

        Returns
        -------
        `mean` and `dispersion` of the negative binomial with the moments of the counts, `signal` and `signal_std`: as
        far as the module has them, each (regions, targets).
        """
        parts = []
        for part in queries:
            inferred = self._infer(tensors, part, generator)
            latent_rqk = inferred["qz"].loc if generator is None else inferred["z_rqk"]
            parts.append(self._moments(inferred, latent_rqk, part))
        return _beside(parts)

    @torch.no_grad()
    def predict_draws(self, tensors: dict[str, Tensor], queries: list[Queries], noise_sk: Tensor) -> dict[str, Tensor]:
        """Moments of the targets for each of several draws of the latent.

        Parameters
        ----------
        tensors, queries
            As in :meth:`predict`.
        noise_sk
            Standard normal numbers, draws x latents. All regions and queries share them, so that what comes out for
            one depends on no other.

        Returns
        -------
        As :meth:`predict`, each (draws, regions, targets).
        """
        parts = []
        for part in queries:
            inferred = self._infer(tensors, part, None)
            posterior = inferred["qz"]
            draws = [
                self._moments(inferred, posterior.loc + posterior.scale * noise_k, part)
                for noise_k in noise_sk.to(self._device)
            ]
            parts.append({name: torch.stack([draw[name] for draw in draws]) for name in draws[0]})
        return {name: torch.cat([part[name] for part in parts], dim=2) for name in parts[0]}

    def _infer(self, tensors: dict[str, Tensor], queries: Queries, generator: torch.Generator | None) -> dict[str, Any]:
        noise = generator or torch.Generator(self._device)
        return self._module.inference(
            tensors, queries.biosample_q, queries.embedding_q, queries.leave_out_q, tensors["log_keep"], noise
        )

    def _moments(self, inferred: dict[str, Any], latent_rqk: Tensor, queries: Queries) -> dict[str, Tensor]:
        """What the latent says of the targets, recalibrated, with the share of the average in the means."""
        network = self._ask_network(inferred, latent_rqk, queries)
        # so as not to extrapolate where training never saw the combination
        return network | self._blend(network, inferred, queries, self._share_n)

    def _ask_network(self, inferred: dict[str, Any], latent_rqk: Tensor, queries: Queries) -> dict[str, Tensor]:
        """What the latent says of the targets, recalibrated."""
        n, q, g = queries.target_n, queries.query_n, queries.place_n
        log_depth_qg = torch.zeros(queries.assay_qg.shape, device=self._device)
        log_depth_qg[q, g] = self._log_depth_n[n]
        generated = self._module.generative(
            latent_rqk,
            inferred["others_rqaxv"],
            inferred["slots_rqai"],
            inferred["own_rqax"],
            queries.biosample_q,
            queries.embedding_q,
            queries.assay_qg,
            log_depth_qg[None],
        )
        predicted = {}
        if generated["counts"] is not None:
            mean_rn = generated["counts"].mean[:, q, g]
            dispersion_rn = NegativeBinomial.from_moments(mean_rn, generated["counts"].variance[:, q, g]).theta
            predicted["mean"] = mean_rn * torch.exp(self._calibrated("log_mean_factor_ba", queries))
            factor_n = torch.exp(self._calibrated("log_dispersion_factor_ba", queries))
            predicted["dispersion"] = dispersion_rn * factor_n
        if generated["signal"] is not None:
            predicted["signal"] = generated["signal"].mean[:, q, g] + self._calibrated("signal_shift_ba", queries)
            std_factor_n = torch.exp(self._calibrated("log_std_factor_ba", queries))
            predicted["signal_std"] = generated["signal"].stddev[:, q, g] * std_factor_n
        return predicted

    def _blend(
        self, network: dict[str, Tensor], inferred: dict[str, Any], queries: Queries, share_n: Tensor
    ) -> dict[str, Tensor]:
        """The means with a share of the average of the other biosamples, where there is one."""
        n, q = queries.target_n, queries.query_n
        _, average_rnv, has_rnv = inferred["others_rqaxv"][:, q, self._assay_n[n]].unbind(dim=2)
        share_rnv = share_n[n, None] * has_rnv
        blended = {}
        if "mean" in network:
            average_rn = average_rnv[..., 0] * torch.exp(self._log_depth_n[n])
            seen_rn = inferred["own_rqax"][:, q, self._assay_n[n], 1]  # its own reads say more than the average
            blended["mean"] = torch.lerp(network["mean"], average_rn, share_rnv[..., 0] * (1 - seen_rn))
        if "signal" in network:
            blended["signal"] = torch.lerp(network["signal"], average_rnv[..., -1], share_rnv[..., -1])
        return blended

    def _calibrated(self, name: str, queries: Queries) -> Tensor:
        """What recalibration found for each target; 0 where a target is predicted with its own data."""
        n = queries.target_n
        value_n = getattr(self._module, name)[self._biosample_n[n], self._assay_n[n]]
        is_without_n = (queries.leave_out_q[queries.query_n] == self._assay_n[n]) | ~self._is_measured_n[n]
        return torch.where(is_without_n, value_n, 0.0)


def log_depths(module: ChipVAE, data: TrackData) -> np.ndarray:
    """Log depth of each track less the module's centre: of the data where they tell, else as in training."""
    given_t = np.log(data.depth_t) - float(module.log_center)
    return np.where(np.isfinite(given_t), given_t, module.log_depth_t.double().cpu().numpy())


def _beside(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Targets of several queries, beside each other."""
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}


def _stack(batches: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """Rows of several batches below each other, float64."""
    return {name: torch.cat([batch[name] for batch in batches]).double().cpu().numpy() for name in batches[0]}
