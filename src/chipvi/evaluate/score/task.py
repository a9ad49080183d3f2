"""What is to be scored, read and checked before anything is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData

from ... import _keys, metrics
from ..._messages import and_more, listed
from ...data.check import SetupKeys, TrackData, open_track_data
from ...data.track_data import Matrix, names_of_layers
from ...data.tracks import read_tracks
from ..references import average_of_others
from .match import Match

_ONE_SEGMENT = "segment"


@dataclass(frozen=True, eq=False)
class Task:
    """What to score: tables of regions x tracks, NaN where missing.

    Parameters
    ----------
    truth, prediction
        Counts and their expectation, or signal.
    average
        Of the other biosamples, at the depth of the track; NaN where there is none.
    layers
        What else the prediction holds: `dispersion`, `lower` and `upper`.
    weights
        What the measures of the ENCODE Imputation Challenge need: `promoters`, `genes`, `enhancers`, `variance`.
    """

    truth: pd.DataFrame
    prediction: pd.DataFrame
    average: pd.DataFrame
    layers: dict[str, pd.DataFrame]
    weights: dict[str, np.ndarray]

    @property
    def marginal(self) -> pd.DataFrame:
        """Every track at the mean of the entries that are scored."""
        return repeat(self.truth.mean(), self.truth)

    @property
    def of_signal(self) -> bool:
        """Whether this is signal, not counts."""
        return "variance" in self.weights


def repeat(value_t: pd.Series, like: pd.DataFrame) -> pd.DataFrame:
    """One number per track, repeated where `like` is not missing."""
    return pd.DataFrame(np.where(like.notna(), value_t, np.nan), columns=like.columns)


def open_truth(truth: AnnData, keys: SetupKeys) -> TrackData:
    """Check the truth by the data contract, but for neighbours, which scores do not look at."""
    of_signal = keys.signal_layer is not None
    if of_signal:
        keys = SetupKeys(signal_layer=keys.signal_layer, biosample_key=keys.biosample_key, assay_key=keys.assay_key)
    obs = pd.DataFrame({_ONE_SEGMENT: np.zeros(truth.n_obs)}, index=truth.obs_names)
    plain = AnnData(
        X=None if of_signal else truth.X,
        obs=obs,
        var=truth.var,
        layers={name: truth.layers[name] for name in names_of_layers(truth)},
    )
    keys = replace(keys, segment_key=_ONE_SEGMENT)
    return open_track_data(plain, keys, read_tracks(truth.var, keys.biosample_key, keys.assay_key, keys.depth_key))


def prepare(
    prediction: AnnData,
    truth: AnnData,
    data: TrackData,
    match: Match,
    keys: SetupKeys,
    promoters: pd.DataFrame | None = None,
    genes: pd.DataFrame | None = None,
    enhancers: pd.DataFrame | None = None,
) -> Task:
    """Bring what is scored into one order, and find what it is compared with."""
    of_signal = keys.signal_layer is not None
    columns = [data.tracks.index(name) for name in match.tracks]
    weights = _weights(truth.obs.iloc[match.truth_rows], promoters, genes, enhancers)
    block = data.read_rows(match.truth_rows)
    if of_signal:
        assert block.signal is not None
        entries, depth_t = block.signal, None
        labels = data.tracks.biosamples, data.tracks.assays
        weights["variance"] = metrics.leave_one_out_variance(entries.value_rt, entries.present_rt, *labels)[:, columns]
    else:
        entries, depth_t = block.counts, data.depth_t
    average_rt = average_of_others(data.tracks, entries, depth_t)
    measured_rt = entries.measured_rt
    measured, average = (pd.DataFrame(x_rt[:, columns], columns=match.tracks) for x_rt in (measured_rt, average_rt))
    layers = _read_prediction(prediction, match, of_signal)
    predicted = layers.pop("prediction")
    # NaN in one is NaN in all, so that all are scored on the same entries
    scored = measured.notna() & predicted.notna()
    if not scored.any(axis=None):
        raise ValueError(
            "no entry is both measured and predicted; look for NaN, and at the observed layer of the truth."
        )
    return Task(measured.where(scored), predicted, average.where(scored), layers, weights)


def _read_prediction(prediction: AnnData, match: Match, of_signal: bool) -> dict[str, pd.DataFrame]:
    """The prediction, and its layers that are scored."""
    main = prediction.layers[_keys.PVAL] if of_signal and _keys.PVAL in prediction.layers else prediction.X
    if main is None:
        raise ValueError("the prediction holds nothing in X, where expected counts or signal should be.")
    used = [] if of_signal else [_keys.DISPERSION] * (_keys.DISPERSION in prediction.layers)
    if not of_signal and {_keys.LOWER, _keys.UPPER} <= set(prediction.layers):
        used += [_keys.LOWER, _keys.UPPER]
    columns = prediction.var_names.get_indexer(match.tracks)
    read = {}
    for name, values in {"prediction": main, **{name: prediction.layers[name] for name in used}}.items():
        rows = Matrix(name, values).read_rows(match.prediction_rows)[:, columns]
        read[name] = pd.DataFrame(np.asarray(rows, dtype=np.float64), columns=match.tracks)
    predicted = read["prediction"]
    if not of_signal:
        _refuse(predicted < 0, predicted, "expected counts must be 0 or more")
    _refuse(np.isinf(predicted), predicted, "a prediction must be finite, or NaN where there is none")
    if _keys.DISPERSION in read:
        dispersion = read[_keys.DISPERSION]
        _refuse(predicted.notna() & ~(dispersion > 0), dispersion, "layer 'dispersion' must be above 0")
    return read


def _refuse(broken: pd.DataFrame, values: pd.DataFrame, expected: str) -> None:
    rows, columns = np.nonzero(broken.to_numpy())
    if len(rows):
        found = f"track {values.columns[columns[0]]} has {values.iloc[rows[0], columns[0]]:g}{and_more(len(rows))}"
        raise ValueError(f"{expected}; {found}.")


def _weights(
    obs: pd.DataFrame, promoters: pd.DataFrame | None, genes: pd.DataFrame | None, enhancers: pd.DataFrame | None
) -> dict[str, np.ndarray]:
    """In how many promoters, genes and enhancers each region is, of what was given."""
    all_three = {"promoters": promoters, "genes": genes, "enhancers": enhancers}
    given = {name: intervals for name, intervals in all_three.items() if intervals is not None}
    if given and not {_keys.CHROM, _keys.START, _keys.END} <= set(obs):
        raise ValueError(f"{listed(given)} can be scored only where obs has chrom, start and end; the truth has not.")
    weights = {}
    for name, intervals in given.items():
        weights[name] = metrics.count_intervals(obs, intervals)
        if not weights[name].any():
            where = listed(sorted(set(intervals[_keys.CHROM])), 3)
            raise ValueError(f"no region lies in the {name}; they are on {where}. Compare the names of chromosomes.")
    if genes is not None and promoters is None and (genes.get(_keys.STRAND, pd.Series(["."])) != ".").any():
        weights["promoters"] = metrics.count_promoters(obs, genes)
    return weights
