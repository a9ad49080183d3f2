"""Boosted regression trees as tensors, so that they are saved, moved and evaluated like the rest of a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

TREE_DEPTH = 4
N_SPLITS, N_LEAVES = 2**TREE_DEPTH - 1, 2**TREE_DEPTH  # of every tree


@dataclass(frozen=True, eq=False)
class TreeSum:
    """The trees (j) of one view of one track, complete: split k has the children 2k + 1 and 2k + 2.

    Parameters
    ----------
    track, view
        Which track and, by its number, which view they predict.
    base
        To be added to the sum of the leaves.
    feature_jk, threshold_jk
        A region goes left at a split where this feature is at most the threshold, float32.
    missing_left_jk
        Whether it goes left where the feature is missing, bool.
    leaf_jl
        What a tree adds in each leaf, float32.
    needs_f
        Features that the trees look at and that were never missing when they were learnt, bool.
    """

    track: int
    view: int
    base: float
    feature_jk: np.ndarray
    threshold_jk: np.ndarray
    missing_left_jk: np.ndarray
    leaf_jl: np.ndarray
    needs_f: np.ndarray


_KEPT = {  # buffers: the field of a TreeSum that each holds of all sums, and its type
    "track_n": ("track", torch.int64),
    "view_n": ("view", torch.int64),
    "base_n": ("base", torch.float64),
    "feature_njk": ("feature_jk", torch.int64),
    "threshold_njk": ("threshold_jk", torch.float32),
    "missing_left_njk": ("missing_left_jk", torch.bool),
    "leaf_njl": ("leaf_jl", torch.float32),
    "needs_nf": ("needs_f", torch.bool),
}


class BoostedTrees(nn.Module):
    """Sums of boosted trees, one for each view of a track that has any (n); none at first.

    Parameters
    ----------
    n_features
        Features that a tree may look at.
    """

    track_n: Tensor
    view_n: Tensor
    base_n: Tensor
    feature_njk: Tensor
    threshold_njk: Tensor
    missing_left_njk: Tensor
    leaf_njl: Tensor
    needs_nf: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self._n_features = n_features
        self.clear()

    def clear(self) -> None:
        """Have no trees."""
        self.set([])

    def set(self, sums: Sequence[TreeSum]) -> None:
        """Have these trees, and no other."""
        shapes = self._shapes(len(sums), len(sums[0].feature_jk) if sums else 0)
        arrays = {name: np.array([getattr(one, field) for one in sums]) for name, (field, _) in _KEPT.items()}
        self.take({name: torch.from_numpy(arrays[name].reshape(shapes[name])).to(_KEPT[name][1]) for name in _KEPT})

    def find(self, track: int, view: int) -> int | None:
        """Position of the trees of a view of a track; None where there are none."""
        is_it_n = (self.track_n == track) & (self.view_n == view)
        return int(is_it_n.nonzero()[0, 0]) if bool(is_it_n.any()) else None

    def forward(self, feature_rf: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sums of some trees, float64, and where they may be believed, bool: nothing that they need is missing (r, n).

        Parameters
        ----------
        feature_rf
            Features of the regions, float32, NaN where missing.
        numbers
            Of :meth:`find`.
        """
        is_missing_rf = feature_rf.isnan()
        may_believe_rn = is_missing_rf.float() @ self.needs_nf[numbers].float().T == 0
        # twice: NaN, which goes right, for NaN is not at most a threshold, and for splits where it goes left as -inf
        feature_fr = torch.cat([feature_rf.T, feature_rf.masked_fill(is_missing_rf, -torch.inf).T])
        return torch.stack([self._sum(feature_fr, n) for n in numbers], dim=1), may_believe_rn

    def _sum(self, feature_fr: Tensor, n: int) -> Tensor:
        """Sum of some trees, given all features twice: what is missing goes right by the first, left by the second."""
        feature_kj = (self.feature_njk[n] + self._n_features * self.missing_left_njk[n]).T
        value_kjr = feature_fr.index_select(0, feature_kj.flatten()).unflatten(0, feature_kj.shape)
        # 1 where a region would go left, else 0: to look at all splits is quicker than to follow paths one by one
        goes_left_kjr = value_kjr.le_(self.threshold_njk[n].T.unsqueeze(-1))
        path: list[Tensor] = []
        for below_kjr in goes_left_kjr.split([2**depth for depth in range(TREE_DEPTH)]):
            for went_left_jr in path:
                left_kjr, right_kjr = below_kjr.chunk(2)
                below_kjr = torch.lerp(right_kjr, left_kjr, went_left_jr)
            path.append(below_kjr[0])
        from_right_jr = path[0]
        for went_left_jr in path[1:]:
            from_right_jr = 2 * from_right_jr + went_left_jr
        last_j1 = torch.arange(N_LEAVES - 1, self.leaf_njl[n].numel(), N_LEAVES, device=feature_fr.device)[:, None]
        leaf_jr = last_j1 - from_right_jr.long()
        value_jr = self.leaf_njl[n].flatten().index_select(0, leaf_jr.flatten()).view_as(leaf_jr)
        return self.base_n[n] + value_jr.sum(dim=0, dtype=torch.float64)

    @torch.no_grad()
    def extend_from(self, known: BoostedTrees) -> None:
        """Take the trees of the first of these features."""
        buffers = dict(known.named_buffers())
        buffers["needs_nf"] = nn.functional.pad(known.needs_nf, (0, self._n_features - known._n_features))
        self.take(buffers)

    @torch.no_grad()
    def take(self, buffers: Mapping[str, Tensor]) -> None:
        """Have the trees of these buffers, however many there are.

        Raises
        ------
        ValueError
            If they do not fit each other, or look at features that there are not.
        """
        for name, shape in self._shapes(*buffers["feature_njk"].shape[:2]).items():
            if tuple(buffers[name].shape) != shape or buffers[name].dtype != _KEPT[name][1]:
                raise ValueError(f"trees.{name} is not of the shape {shape} and the type of its kind")
        feature_njk = buffers["feature_njk"]
        if len(feature_njk) and not 0 <= int(feature_njk.min()) <= int(feature_njk.max()) < self._n_features:
            raise ValueError(f"the trees look at other features than the {self._n_features} there are")
        device = getattr(self, "track_n", buffers["track_n"]).device  # before the first trees there is none
        for name in _KEPT:
            self.register_buffer(name, buffers[name].to(device, copy=True))

    def _shapes(self, n: int, j: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the buffers for so many sums of so many trees."""
        return {
            **dict.fromkeys(("track_n", "view_n", "base_n"), (n,)),
            **dict.fromkeys(("feature_njk", "threshold_njk", "missing_left_njk"), (n, j, N_SPLITS)),
            "leaf_njl": (n, j, N_LEAVES),
            "needs_nf": (n, self._n_features),
        }
