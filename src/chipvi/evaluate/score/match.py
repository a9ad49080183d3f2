"""The tracks and regions that a prediction and the truth have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from ... import _keys
from ..._messages import and_more, listed


@dataclass(frozen=True, eq=False)
class Match:
    """What a prediction and the truth have in common.

    Parameters
    ----------
    tracks
        Names, in the order of the prediction.
    truth_rows, prediction_rows
        Regions, in the order of the truth.
    unmatched
        Tracks of the prediction that the truth has not.
    by
        What the regions were matched by.
    n_regions
        Regions of the prediction.
    """

    tracks: list[str]
    truth_rows: np.ndarray
    prediction_rows: np.ndarray
    unmatched: list[str]
    by: str
    n_regions: int

    def describe(self) -> str:
        """Say what was matched, in a sentence or two."""
        n_tracks = len(self.tracks) + len(self.unmatched)
        said = (
            f"Matched {len(self.tracks)} of {n_tracks} tracks by name, and {len(self.truth_rows):,} of "
            f"{self.n_regions:,} regions by {self.by}."
        )
        return f"{said} Without a match: {listed(self.unmatched)}." if self.unmatched else said


def match_anndata(prediction: AnnData, truth: AnnData) -> Match:
    """Find the tracks and regions that two AnnData have in common.

    Raises
    ------
    ValueError
        If they have none, or if names come back.
    """
    for what, names in (("tracks", prediction.var_names), ("regions", prediction.obs_names)):
        repeated = names.duplicated()
        if repeated.any():
            more = and_more(int(repeated.sum()))
            raise ValueError(f"the {what} of the prediction must be unique; {names[repeated][0]} comes back{more}.")
    known = prediction.var_names.isin(truth.var_names)
    if not known.any():
        raise ValueError(
            "no track of the prediction is in the truth; tracks are matched by name (var_names). "
            f"Prediction: {listed(prediction.var_names, 3)}. Truth: {listed(truth.var_names, 3)}."
        )
    by, of_truth, of_prediction = "name", truth.obs_names, prediction.obs_names
    placed = _coordinates(truth), _coordinates(prediction)
    if placed[0] is not None and placed[1] is not None:
        by, (of_truth, of_prediction) = "coordinates", placed
    rows = of_prediction.get_indexer(of_truth)
    if not (rows >= 0).any():
        raise ValueError(
            f"no region of the prediction is in the truth; regions were matched by {by}. "
            f"Prediction: {of_prediction[0]}, ... Truth: {of_truth[0]}, ..."
        )
    return Match(
        tracks=[str(name) for name in prediction.var_names[known]],
        truth_rows=np.flatnonzero(rows >= 0),
        prediction_rows=rows[rows >= 0],
        unmatched=[str(name) for name in prediction.var_names[~known]],
        by=by,
        n_regions=prediction.n_obs,
    )


def _coordinates(adata: AnnData) -> pd.MultiIndex | None:
    """Places of the regions; None where they are not known, or not unique, as those of overlapping windows may be."""
    columns = [_keys.CHROM, _keys.START, _keys.END]
    if not set(columns) <= set(adata.obs):
        return None
    index = pd.MultiIndex.from_frame(adata.obs[columns].astype({_keys.CHROM: str}))
    return index if index.is_unique else None
