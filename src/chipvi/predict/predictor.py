"""Predictions of a trained module, a batch of regions at a time, so that memory does not grow with the genome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from .._files import digest
from .._workers import keep_freed_memory
from ..data.grid import Grid
from ..data.loader import FixedMinibatches
from ..data.minibatch import Minibatch
from ..data.track_data import TrackData, ViewKind
from ..data.tracks import Targets, parse_targets
from ..module.inputs import NO_ASSAY, Encoding, Queries, Surroundings, Visible
from ..module.vae import ChipVAE
from ..module.views import Reference, View

_MOST_ENTRIES = 2**18  # regions times tracks that are looked at together
_MOST_TARGETS = 256  # of a biosample in one pass through the network
_FEWEST_REGIONS, _MOST_REGIONS = 32, 1_024
TREES_WEIGHT = 0.5  # of the boosted trees beside the network: no worse than weights by likelihood, which overfit

Latents: TypeAlias = Callable[[Normal], Iterable[Tensor]]
"""Draws of the latent, shape (r, q, k) each, given its posterior."""


def posterior_mean(posterior: Normal) -> list[Tensor]:
    """One draw, which is the mean."""
    return [posterior.loc]


def shared_draws(noise_sk: Tensor) -> Latents:
    """Draws by standard normal numbers that all regions and queries share: none depends on what else is asked."""

    def draw(posterior: Normal) -> list[Tensor]:
        return [posterior.loc + posterior.scale * noise_k for noise_k in noise_sk.to(posterior.loc.device)]

    return draw


def independent_draws(n_draws: int, generator: torch.Generator) -> Latents:
    """Draws of every region and query by itself."""

    def draw(posterior: Normal) -> Iterator[Tensor]:
        for _ in range(n_draws):
            noise_rqk = torch.randn(posterior.loc.shape, generator=generator, device=posterior.loc.device)
            yield posterior.loc + posterior.scale * noise_rqk

    return draw


@dataclass(frozen=True, eq=False)
class TargetQueries:
    """What to ask the module for all targets (n).

    Parameters
    ----------
    parts
        Queries that share an encoder pass: for some targets of a biosample a query each, or one for all of them.
    place_n
        Where each target stands among the targets of all parts.
    queries
        A query for each target.
    is_imputed_n
        Whether it is predicted without its own data.
    """

    parts: list[Queries]
    place_n: Tensor
    queries: Queries
    is_imputed_n: Tensor


@dataclass(frozen=True, eq=False)
class ViewAnswer:
    """One view of targets: draws of the latent x regions x targets.

    Parameters
    ----------
    mean_srn, spread_srn
        Mean, and dispersion of the counts or standard deviation of the signal.
    network_mean_srn
        Mean by the network alone, without the share of the average of the other biosamples.
    average_rn
        That average, at the depth of the target.
    may_blend_rn
        1 where there is such an average, and no visible reads of the target that would say more.
    """

    mean_srn: Tensor
    spread_srn: Tensor
    network_mean_srn: Tensor
    average_rn: Tensor
    may_blend_rn: Tensor


Answer: TypeAlias = Mapping[ViewKind, ViewAnswer]
"""What is predicted of targets, by view."""


@dataclass(frozen=True, eq=False)
class ImputedTrack:
    """One view of a measured track in some regions, and what is imputed of it without its own data; float64.

    Parameters
    ----------
    column, kind
        Which track, and which view.
    rows
        The regions in which it was measured, ascending.
    measured_r
        The data.
    mean_r, spread_r
        Mean, and dispersion or standard deviation.
    network_r
        Mean by the network alone.
    average_r
        Average of the other biosamples where there is one, or else as the network has it.
    """

    column: int
    kind: ViewKind
    rows: np.ndarray
    measured_r: np.ndarray
    mean_r: np.ndarray
    spread_r: np.ndarray
    network_r: np.ndarray
    average_r: np.ndarray


class Predictor:
    """Predicts targets in the regions of a data set; can be pickled, and does not hold the data.

    Parameters
    ----------
    module, grid
        Trained, and its grid.
    data
        Where to predict; its tracks are those of the grid.
    targets
        What to predict.
    log_depth_t, log_depth_n
        Log depth of the tracks of the data, and of the targets to predict, less the module's centre.
    """

    def __init__(
        self,
        module: ChipVAE,
        grid: Grid,
        data: TrackData,
        targets: Targets,
        log_depth_t: np.ndarray,
        log_depth_n: np.ndarray,
    ) -> None:
        self._module = module
        self._device = module.known_ba.device
        self._log_depth_t = torch.as_tensor(log_depth_t, dtype=torch.float32, device=self._device)
        self.log_depth_n = log_depth_n
        self._log_depth_n = torch.as_tensor(log_depth_n, dtype=torch.float32, device=self._device)
        self._biosample_n = self._indices([grid.biosamples.index(label) for label in targets.biosamples])
        self._assay_n = self._indices([grid.assays.index(label) for label in targets.assays])
        cells_n = (self._biosample_n, self._assay_n)
        is_known_n = module.known_ba[cells_n]
        self._is_known_n = is_known_n
        is_measured_n = (targets.columns >= 0) & data.measured_t[targets.columns]
        self._is_measured_n = torch.as_tensor(is_measured_n, device=self._device)
        # a never-seen combination would make the biosample's own vector extrapolate
        generic = torch.full_like(self._biosample_n, module.biosamples.generic)
        self._embedding_n = torch.where(is_known_n, self._biosample_n, generic)
        track_n = torch.where(is_known_n, module.tracks.track_ba[cells_n], -1).tolist()
        self._trees = {view.kind: [module.trees.find(t, view.number) for t in track_n] for view in module.views}
        self._biosample_b = self._biosample_n.unique()

    def _indices(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def without_own_data(self) -> TargetQueries:
        """Ask for each target without its own counts and signal; those of a biosample that have none share a query."""
        return self._ask(self._is_measured_n)

    def with_own_data(self) -> TargetQueries:
        """Ask for all targets of a biosample together, with all of its data."""
        return self._ask(torch.zeros_like(self._is_measured_n))

    def _ask(self, is_left_out_n: Tensor) -> TargetQueries:
        """Ask for all targets, some of them without their own data, in a query of their own."""
        places_n = torch.searchsorted(self._biosample_b, self._biosample_n)
        leave_out_n = torch.where(is_left_out_n, self._assay_n, NO_ASSAY)
        key_n3 = torch.stack([self._biosample_n, self._embedding_n, is_left_out_n.long()], dim=1)
        key_u3, group_n = key_n3.unique(dim=0, return_inverse=True)
        parts, order = [], []
        for u, (*_, is_left_out) in enumerate(key_u3.tolist()):
            for n in (group_n == u).nonzero()[:, 0].split(_MOST_TARGETS):
                first, assay_n = n[:1], self._assay_n[n]
                leave_out_q, assay_qg = (
                    (assay_n, assay_n[:, None]) if is_left_out else (leave_out_n[first], assay_n[None])
                )
                biosample_q, embedding_q, place_q = (x[first] for x in (self._biosample_n, self._embedding_n, places_n))
                parts.append(Queries(biosample_q, embedding_q, leave_out_q, assay_qg, place_q))
                order.append(n)
        every = Queries(self._biosample_n, self._embedding_n, leave_out_n, self._assay_n[:, None], places_n)
        return TargetQueries(parts, torch.cat(order).argsort(), every, is_left_out_n | ~self._is_measured_n)

    def choose_batch_size(self, batch_size: int | None) -> int:
        """Regions at a time: those asked for, or as many as their tracks allow."""
        require_batch_size(batch_size)
        n_tracks = max(len(self._log_depth_t), len(self._assay_n))
        return batch_size or max(_FEWEST_REGIONS, min(_MOST_REGIONS, _MOST_ENTRIES // n_tracks))

    def minibatches(self, data: TrackData, rows: np.ndarray, batch_size: int | None) -> FixedMinibatches:
        """Minibatches of ascending rows of the data."""
        return FixedMinibatches(data, rows, self._module.half_widths, self.choose_batch_size(batch_size))

    @torch.no_grad()
    def see(self, minibatch: Minibatch, is_visible_t: Tensor | None = None) -> Surroundings:
        """All that a minibatch holds, or some of its tracks, ready for the module."""
        keep_freed_memory()
        visible = Visible.everything(minibatch.to(self._device), self._log_depth_t)
        if is_visible_t is not None:
            visible = replace(visible, visible_rt=visible.visible_rt & is_visible_t)
        return self._module.look(visible, self._biosample_b)

    def digest(self) -> str:
        """Short text that differs for another model, other targets or depths."""
        states = [(name, tensor.cpu().contiguous().numpy()) for name, tensor in self._module.state_dict().items()]
        asked = (self._log_depth_t, self._log_depth_n, self._biosample_n, self._assay_n, self._embedding_n)
        arrays = [part for state in states for part in state] + [tensor.cpu().numpy() for tensor in asked]
        return digest(repr((self._module, self._module.half_widths)), *arrays)

    @torch.no_grad()
    def predict(self, around: Surroundings, asked: TargetQueries, latents: Latents = posterior_mean) -> Answer:
        """Predict the targets.

        Parameters
        ----------
        around
            A minibatch by :meth:`see`.
        asked
            Of :meth:`without_own_data` or :meth:`with_own_data`.
        latents
            Draws of the latent: :func:`posterior_mean`, :func:`shared_draws` or :func:`independent_draws`.
        """
        encodings = [self._module.encode(around, part) for part in asked.parts]
        trees = self._ask_trees(around, asked.is_imputed_n)
        draws = [
            self._ask_network(
                around, [e.with_latent(z_rqk) for e, z_rqk in zip(encodings, z, strict=True)], asked, trees
            )
            for z in zip(*(latents(encoding.posterior) for encoding in encodings), strict=True)
        ]
        answers = {}
        for view in self._module.views:
            average_rn, may_blend_rn = self._average(around, asked.queries, view.kind)
            network = [draw[view.kind] for draw in draws]
            predicted = [self._expect(view, one, average_rn, may_blend_rn, asked.is_imputed_n) for one in network]
            answers[view.kind] = ViewAnswer(
                mean_srn=torch.stack([mean_rn for mean_rn, _ in predicted]),
                spread_srn=torch.stack([spread_rn for _, spread_rn in predicted]),
                network_mean_srn=torch.stack([one.mean for one in network]),
                average_rn=average_rn,
                may_blend_rn=may_blend_rn,
            )
        return answers

    def _expect(
        self, view: View, network: Distribution, average_rn: Tensor, may_blend_rn: Tensor, is_imputed_n: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and spread: the network's where training saw the experiment, else over what may be expected of it."""
        mean_rn, spread_rn = network.mean, view.spread(network)
        n = torch.nonzero(~self._is_known_n).squeeze(-1)
        if not len(n):
            return mean_rn, spread_rn
        # so as not to extrapolate where training never saw the combination
        reference = Reference(average_rn[:, n], may_blend_rn[:, n], is_imputed_n[n])
        cells_n = (self._biosample_n[n], self._assay_n[n])
        expected = view.expect(mean_rn[:, n], spread_rn[:, n], reference, cells_n)
        return mean_rn.index_copy(1, n, expected[0]), spread_rn.index_copy(1, n, expected[1])

    def _ask_trees(self, around: Surroundings, is_imputed_n: Tensor) -> dict[ViewKind, tuple[Tensor, Tensor]]:
        """What the boosted trees predict, and its weight, both (r, n), of the views that have any to ask."""
        shape, found = (len(around.log_width_r), len(is_imputed_n)), {}
        is_asked = is_imputed_n.tolist()
        asked = {
            kind: {n: tree for n, tree in enumerate(tree_n) if tree is not None and is_asked[n]}
            for kind, tree_n in self._trees.items()
        }
        if not any(asked.values()):
            return {}
        feature_rf = self._module.tree_features(around.visible, around.means)
        for kind, trees in asked.items():
            value_rn = torch.zeros(shape, dtype=torch.float64, device=self._device)
            weight_rn = torch.zeros(shape, device=self._device)
            if trees:
                value_rn[:, list(trees)], may_believe_rn = self._module.trees(feature_rf, list(trees.values()))
                weight_rn[:, list(trees)] = TREES_WEIGHT * may_believe_rn.float()
            found[kind] = value_rn, weight_rn
        return found

    def _ask_network(
        self,
        around: Surroundings,
        encodings: list[Encoding],
        asked: TargetQueries,
        trees: Mapping[ViewKind, tuple[Tensor, Tensor]],
    ) -> dict[ViewKind, Distribution]:
        """Distributions of the targets given the latents, moved towards the trees, recalibrated, shape (r, n)."""
        raw = [self._module.decode(e, part).flatten(1, 2) for e, part in zip(encodings, asked.parts, strict=True)]
        raw_rn1o = torch.cat(raw, dim=1).index_select(1, asked.place_n).unsqueeze(2)
        predicted = self._module.predict(raw_rn1o, around, asked.queries, self._log_depth_n[None, :, None])
        cells_n, found = (self._biosample_n, self._assay_n), {}
        every_n, first_n = torch.arange(len(self._assay_n), device=self._device), torch.zeros_like(self._assay_n)
        log_exposure_rn = self._log_depth_n + around.log_width_r[:, None]
        for view in self._module.views:
            distribution = view.collect(predicted[view.kind].distribution, every_n, first_n)
            if view.kind in trees:
                distribution = view.move(distribution, *trees[view.kind], log_exposure_rn)
            # trees and recalibration are of imputation: a target that is predicted with its own data is left alone
            found[view.kind] = view.calibration(distribution, cells_n, asked.is_imputed_n)
        return found

    def _average(self, around: Surroundings, queries: Queries, kind: ViewKind) -> tuple[Tensor, Tensor]:
        """Average of the other biosamples in the region, as a count of each target, and where it may be used."""
        average = around.views[kind].reference.pick(queries)
        average_rn, may_blend_rn = average.region_rqa.squeeze(-1), average.has_rqa.squeeze(-1)
        if kind is ViewKind.COUNTS and around.own_counts is not None:
            # its own reads say more than the average
            may_blend_rn = may_blend_rn * (1 - around.own_counts.pick(queries).is_seen_rqa.squeeze(-1))
        log_exposure_rn = self._log_depth_n + around.log_width_r[:, None]
        return self._module.view(kind).at_exposure(average_rn, log_exposure_rn), may_blend_rn


def impute_measured(
    module: ChipVAE,
    grid: Grid,
    data: TrackData,
    rows: np.ndarray,
    columns: np.ndarray | None = None,
    seen: TrackData | None = None,
    log_depth_t: np.ndarray | None = None,
    target_log_depth_t: np.ndarray | None = None,
    batch_size: int | None = None,
) -> list[ImputedTrack]:
    """Impute measured tracks without their own data, view by view.

    Parameters
    ----------
    module, grid
        Trained, and its grid.
    data
        What to compare with.
    rows
        Ascending rows.
    columns
        Tracks; None for all but the controls.
    seen
        What to impute from, if not `data`.
    log_depth_t, target_log_depth_t
        Log depth of each track less the centre, as it is and to impute at; None for that of training, and for the same.
    batch_size
        Regions at a time; None chooses.

    Returns
    -------
    Those that were measured in any of these rows, counts before signal.
    """
    log_depth_t = module.log_depth_array_t if log_depth_t is None else log_depth_t
    names = None if columns is None else [data.tracks.names[t] for t in columns]
    targets = parse_targets(names, data.tracks)
    log_depth_n = (log_depth_t if target_log_depth_t is None else target_log_depth_t)[targets.columns]
    seen = data if seen is None else seen
    predictor = Predictor(module, grid, seen, targets, log_depth_t, log_depth_n)
    asked = predictor.without_own_data()
    minibatches = predictor.minibatches(seen, rows, batch_size)
    answers = [predictor.predict(predictor.see(minibatch), asked) for minibatch in minibatches]
    block, found = data.read_rows(rows), []
    for kind in grid.views:
        if (entries := block.view(kind)) is not None:
            imputed = [answer[kind] for answer in answers]
            mean_rn = _stacked([one.mean_srn[0] for one in imputed])
            spread_rn = _stacked([one.spread_srn[0] for one in imputed])
            network_rn = _stacked([one.network_mean_srn[0] for one in imputed])
            average_rn = _stacked(
                [torch.lerp(one.network_mean_srn[0], one.average_rn, one.may_blend_rn) for one in imputed]
            )
            for n, t in enumerate(targets.columns):
                if (present_r := entries.present_rt[:, t]).any():
                    found.append(
                        ImputedTrack(
                            column=int(t),
                            kind=kind,
                            rows=rows[present_r],
                            measured_r=entries.value_rt[present_r, t].astype(np.float64),
                            mean_r=mean_rn[present_r, n],
                            spread_r=spread_rn[present_r, n],
                            network_r=network_rn[present_r, n],
                            average_r=average_rn[present_r, n],
                        )
                    )
    return found


def _stacked(batches: list[Tensor]) -> np.ndarray:
    """Batches below each other, float64, on the CPU."""
    return torch.cat(batches).double().cpu().numpy()


def log_depths(module: ChipVAE, data: TrackData) -> np.ndarray:
    """Log depth of each track less the module's centre: of the data where they have one, else as in training."""
    given_t = np.log(data.depth_t) - float(module.log_center)
    return np.where(np.isfinite(given_t), given_t, module.log_depth_array_t)


def require_batch_size(batch_size: int | None) -> None:
    """Refuse batches of less than one region."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}. None chooses one.")
