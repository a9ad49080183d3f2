"""The scores of a prediction, and of two without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from ... import _keys, metrics
from ...data.check import SetupKeys
from ..track_scores import central_interval, score_intervals
from .match import match_anndata
from .task import Task, open_truth, prepare, repeat

_MOST_FITTED = 10_000  # regions to fit the likelihood of the references on


def score_anndata(
    prediction: AnnData,
    truth: AnnData,
    keys: SetupKeys | None = None,
    promoters: pd.DataFrame | None = None,
    genes: pd.DataFrame | None = None,
    enhancers: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score a prediction track by track, and beside it two predictions without a model, on the same entries.

    Tracks are matched by name; regions by `chrom`, `start` and `end` where both have them and they are unique, else by
    name. An entry that is missing in truth or prediction counts nowhere.

    Parameters
    ----------
    prediction
        X holds expected counts, at the depths of the truth; the layers `dispersion` (variance m + m^2 / dispersion),
        and `lower` and `upper` (an interval, both ends included) are used if they are there. What is scored then is
        the negative binomial: of a model with another head, the one with its mean and variance, of which :meth:`impute`
        takes the interval, too. With a signal layer in
        `keys` it holds signal instead, in the layer `pval` or else in X.
    truth
        Measured counts, or signal in `keys.signal_layer`, and what the tracks are; of all tracks that were measured,
        also those that were not predicted, so that there are other biosamples to average.
    keys
        Where the truth keeps what. With a signal layer, signal is scored, and no counts.
    promoters, genes, enhancers
        Intervals, for :func:`chipvi.metrics.mseprom` and its like. Genes with a strand give promoters too.

    Returns
    -------
    A table each for `prediction`, `average` (of the other biosamples, at the depth of the track) and `marginal` (every
    track at its mean), below each other: the index has the levels `by` and `track`, the last row of each table is
    `macro_mean`, the mean over the tracks that have the score. `entries` is how many were scored.

    Of counts: `r2`, `r2_arcsinh`, `pearson`, `c_index`, `mse`. With a dispersion also `nll`, `crps`, `crps_scale` (its
    part that a factor would mend), `deviance_explained` and `pit_deviation`, and with an interval `coverage` and the
    `expected_coverage`. The references then have the likelihood that fits the scored counts best, so they know more
    than a prediction may. Of signal: the measures of :func:`chipvi.metrics.encode_scores`; the variance is that of the
    other biosamples.

    Raises
    ------
    ValueError
        If nothing matches, or if either breaks the above.
    """
    keys = keys or SetupKeys()
    data = open_truth(truth, keys)
    match = match_anndata(prediction, truth)
    return score(prepare(prediction, truth, data, match, keys, promoters, genes, enhancers))


def score(task: Task) -> pd.DataFrame:
    """As :func:`score_anndata`."""
    tables = _score_signal(task) if task.of_signal else _score_counts(task)
    for table, predicted in zip(tables.values(), (task.prediction, task.average, task.marginal), strict=True):
        table.insert(0, "entries", (task.truth.notna() & predicted.notna()).sum())
        table.loc["macro_mean"] = table.mean()
    return pd.concat(tables, names=["by", "track"])


def _score_signal(task: Task) -> dict[str, pd.DataFrame]:
    predictions = {"prediction": task.prediction, "average": task.average, "marginal": task.marginal}
    return {by: metrics.encode_scores(task.truth, x, **task.weights).iloc[:-1] for by, x in predictions.items()}


def _score_counts(task: Task) -> dict[str, pd.DataFrame]:
    dispersion, lower, upper = (task.layers.get(name) for name in (_keys.DISPERSION, _keys.LOWER, _keys.UPPER))
    parts = [_score_means(task, task.prediction)]
    if dispersion is not None:
        parts.append(_score_likelihood(task.truth, task.prediction, dispersion))
    if lower is not None and upper is not None:
        parts.append(_score_interval(task.truth, task.prediction, dispersion, lower, upper))
    tables = {"prediction": pd.concat(parts, axis=1)}
    for by, mean in (("average", task.average), ("marginal", task.marginal)):
        tables[by] = _score_means(task, mean)
        if dispersion is not None:
            tables[by] = tables[by].join(_score_fitted(task, mean, by))
    return tables


def _score_means(task: Task, mean: pd.DataFrame) -> pd.DataFrame:
    plain = metrics.score_tracks(task.truth, mean).iloc[:-1]
    plain.insert(1, "r2_arcsinh", metrics.r2_arcsinh(task.truth, mean))
    plain.insert(3, "c_index", metrics.c_index(task.truth, mean).c_index)
    if not task.weights:
        return plain
    return plain.join(metrics.encode_scores(task.truth, mean, **task.weights).iloc[:-1].filter(regex="prom|gene|enh"))


def _score_likelihood(truth: pd.DataFrame, mean: pd.DataFrame, dispersion: pd.DataFrame) -> pd.DataFrame:
    scores = metrics.score_tracks(truth, mean, dispersion).iloc[:-1][["nll", "crps", "pit_deviation"]]
    scores.insert(2, "crps_scale", metrics.crps_split(truth, mean, dispersion).scale)
    scores.insert(3, "deviance_explained", metrics.deviance_explained(truth, mean, dispersion))
    return scores


def _score_interval(
    truth: pd.DataFrame, mean: pd.DataFrame, dispersion: pd.DataFrame | None, lower: pd.DataFrame, upper: pd.DataFrame
) -> pd.DataFrame:
    if dispersion is None:
        return pd.DataFrame({"coverage": metrics.coverage(truth, lower, upper)}, index=truth.columns)
    return score_intervals(truth, mean, dispersion, lower, upper)


def _score_fitted(task: Task, mean: pd.DataFrame, by: str) -> pd.DataFrame:
    """Scores of the likelihood that suits a reference best."""
    truth = task.truth
    rows = slice(None, None, -(-len(truth) // _MOST_FITTED))
    if by == "average":
        spread_t, dispersion_t = metrics.fit_average(truth.to_numpy()[rows], mean.to_numpy()[rows])
        mean = (1 - spread_t) * mean + spread_t * mean.mean()
    else:
        dispersion_t = metrics.fit_dispersion(truth.to_numpy()[rows], mean.to_numpy()[rows])
    fitted = np.isfinite(dispersion_t)
    truth, mean = truth.loc[:, fitted], mean.loc[:, fitted]
    dispersion = repeat(pd.Series(dispersion_t[fitted], mean.columns), mean)
    scores = _score_likelihood(truth, mean, dispersion)
    if _keys.LOWER in task.layers:
        ends = central_interval(mean.fillna(0), dispersion.fillna(1))
        lower, upper = (pd.DataFrame(end, columns=mean.columns).where(mean.notna()) for end in ends)
        scores = scores.join(_score_interval(truth, mean, dispersion, lower, upper))
    return scores.reindex(task.truth.columns)
