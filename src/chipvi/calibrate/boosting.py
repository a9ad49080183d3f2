"""Boosted trees beside the network: another kind of learner, which errs elsewhere."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from .._workers import progress_bar
from ..data.context import count_at_window_bin, count_per_window_bin
from ..data.loader import FixedMinibatches
from ..data.splits import draw_blocks
from ..data.track_data import TrackData, ViewKind
from ..module.inputs import Visible
from ..module.vae import ChipVAE
from ..nn import N_SPLITS, TREE_DEPTH, TreeSum

_MOST_TARGETS = 64  # tracks: of more, boosting would take longer than training
_MANY_REGIONS = 10_000  # of fewer, leaves reach across the sharp peaks of counts
_FEWEST_REGIONS, _MOST_REGIONS = 2_000, 50_000
_MOST_TRACKS = 40  # that a track is predicted from
_REGIONS_AT_ONCE = 2_048
_N_TREES, _LEARNING_RATE = 150, 0.1
_FEATURES_PER_SPLIT = 0.3
_FEWEST_IN_LEAF = 100  # bins of 200 bp: neighbours are alike, so that fewer carry little information


def choose_boosted(wish: bool | None, n_targets: int, n_regions: int, bin_width: int | None) -> tuple[ViewKind, ...]:
    """Views that get trees: all or none if that is asked for, or those for which they are good and worth their time.

    Signal, an arcsinh, has no peaks so sharp that leaves of few regions would flatten them, as counts have.

    Parameters
    ----------
    wish
        What is asked for; None: nothing.
    n_targets
        Measured tracks but the controls.
    n_regions
        That are trained on.
    bin_width
        Of these, in bp; None where they are no bins.

    Examples
    --------
    >>> [len(choose_boosted(None, *size, None)) for size in [(15, 40_000), (15, 3_750), (400, 40_000)]]
    [2, 1, 0]
    """
    if wish is not None:
        return tuple(ViewKind) if wish else ()
    if n_targets > _MOST_TARGETS:
        return ()
    has_many = count_at_window_bin(n_regions, bin_width) >= _MANY_REGIONS
    return tuple(ViewKind) if has_many else (ViewKind.SIGNAL,)


@torch.no_grad()
def boost(
    module: ChipVAE,
    data: TrackData,
    trained: np.ndarray,
    kinds: Collection[ViewKind],
    seed: int,
    progress: bool = False,
) -> None:
    """Learn boosted trees for some views of each measured track but the controls, in place of those of before.

    The trees of a track see the covariates and the window means of other tracks, never its own: of its biosample
    first, then of its assay in the nearest biosamples, then of the others. Counts are learnt as rates under the Poisson
    loss with a log link, signal under the squared error, by scikit-learn's histogram gradient boosting (Friedman 2001,
    Annals of Statistics 29:1189; Ke et al. 2017, NeurIPS 30). Fewer regions than 2,000 are too few: no trees then.

    Parameters
    ----------
    module
        Trained; on any device.
    data, trained
        What it was trained on: ascending rows of the data. Of more than 50,000, that many stand for all.
    kinds
        The views.
    seed
        Draws the features that each split may use.
    progress
        Show a progress bar, on standard error.
    """
    module.trees.clear()
    views = [view for view in module.views if view.kind in kinds]
    if not views or count_at_window_bin(len(trained), data.segments.bin_width) < _FEWEST_REGIONS:
        return
    rows = draw_blocks(trained, _MOST_REGIONS, bin_width=data.segments.bin_width)
    features, widths = [], []
    for minibatch in FixedMinibatches(data, rows, module.half_widths, _REGIONS_AT_ONCE):
        visible = Visible.everything(minibatch.to(module.known_ba.device), module.log_depth_t)
        features.append(module.tree_features(visible).cpu().numpy())
        widths.append(minibatch.width_l[minibatch.own_row_r].double().numpy())
    feature_rf, width_r = np.concatenate(features), np.concatenate(widths)
    block, sums = data.read_rows(rows), []
    fewest_in_leaf = _FEWEST_IN_LEAF * count_per_window_bin(data.segments.bin_width)
    columns = module.tracks.is_target_t.nonzero()[:, 0].tolist()
    with progress_bar("Boosted trees", len(columns), "tracks", shown=progress) as show:
        for number, t in enumerate(columns, start=1):
            feature_f = module.tree_features_of(choose_tracks(module, t, data.measured_t))
            for view in views:
                entries = block.view(view.kind)
                if entries is None or not (present_r := entries.present_rt[:, t]).any():
                    continue
                value_r = entries.value_rt[present_r, t].astype(np.float64)
                if view.kind is ViewKind.COUNTS:
                    value_r = value_r / (np.exp(module.log_depth_array_t[t]) * width_r[present_r])
                # no tree can split what is missing in all of these regions, as the signal of a track of counts alone
                there_f = feature_f[~np.isnan(feature_rf[np.ix_(present_r, feature_f)]).all(axis=0)]
                if value_r.any() and len(there_f):  # a track without a read has no rate to learn
                    model = _learn(feature_rf[np.ix_(present_r, there_f)], value_r, view.kind, fewest_in_leaf, seed)
                    sums.append(_sum_of(model, feature_rf[present_r], there_f, t, view.number))
            show(number)
    module.trees.set(sums)


def choose_tracks(module: ChipVAE, track: int, measured_t: np.ndarray) -> np.ndarray:
    """Tracks to predict another one from, nearest first and no more than 40: never itself, nor one without data."""
    biosample_t, assay_t = module.tracks.biosample_t.cpu().numpy(), module.tracks.assay_t.cpu().numpy()
    score_t = module.affinity.score_bb[biosample_t[track]].cpu().numpy()[biosample_t]
    is_own_t, is_assay_t = biosample_t == biosample_t[track], assay_t == assay_t[track]
    order = np.lexsort((-score_t, ~is_assay_t, ~is_own_t))
    return order[measured_t[order] & (order != track)][:_MOST_TRACKS]


def _learn(
    feature_rf: np.ndarray, value_r: np.ndarray, kind: ViewKind, fewest_in_leaf: int, seed: int
) -> HistGradientBoostingRegressor:
    model = HistGradientBoostingRegressor(
        loss="poisson" if kind is ViewKind.COUNTS else "squared_error",
        max_iter=_N_TREES,
        learning_rate=_LEARNING_RATE,
        max_depth=TREE_DEPTH,
        max_features=_FEATURES_PER_SPLIT,
        min_samples_leaf=fewest_in_leaf,
        early_stopping=False,
        random_state=seed,
    )
    return model.fit(feature_rf, value_r)


def _sum_of(
    model: HistGradientBoostingRegressor, feature_rf: np.ndarray, feature_f: np.ndarray, track: int, view: int
) -> TreeSum:
    """What was learnt from these features, as numbers: an estimator of scikit-learn can only be pickled."""
    feature_jk = np.full((_N_TREES, N_SPLITS), feature_f[0])
    threshold_jk = np.full((_N_TREES, N_SPLITS), np.inf, dtype=np.float32)
    missing_left_jk = np.ones((_N_TREES, N_SPLITS), dtype=bool)
    leaf_jl = np.zeros((_N_TREES, N_SPLITS + 1), dtype=np.float32)

    def copy(nodes: np.ndarray, node: int, j: int, place: int) -> None:
        """Copy a node and what is below it; a leaf that comes early is repeated."""
        is_leaf = bool(nodes[node]["is_leaf"])
        if place >= N_SPLITS:
            leaf_jl[j, place - N_SPLITS] = nodes[node]["value"]
            return
        if not is_leaf:
            feature_jk[j, place] = feature_f[nodes[node]["feature_idx"]]
            threshold_jk[j, place] = _rounded_down(nodes[node]["num_threshold"])
            missing_left_jk[j, place] = nodes[node]["missing_go_to_left"]
        left, right = (node, node) if is_leaf else (int(nodes[node]["left"]), int(nodes[node]["right"]))
        copy(nodes, left, j, 2 * place + 1)
        copy(nodes, right, j, 2 * place + 2)

    for j, (tree,) in enumerate(model._predictors):
        copy(tree.nodes, 0, j, 0)
    needs_f = np.zeros(feature_rf.shape[1], dtype=bool)
    needs_f[np.unique(feature_jk)] = True
    needs_f &= ~np.isnan(feature_rf).any(axis=0)
    base = float(model._baseline_prediction.item())
    return TreeSum(track, view, base, feature_jk, threshold_jk, missing_left_jk, leaf_jl, needs_f)


def _rounded_down(threshold: float) -> np.float32:
    """The largest float32 that is no larger: a feature, being float32, is on the same side of both."""
    rounded = np.float32(threshold)
    return rounded if rounded <= threshold else np.nextafter(rounded, np.float32(-np.inf))
