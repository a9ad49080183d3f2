"""The command: read, match, score, print and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from .. import _keys
from ..data.check import SetupKeys
from ..evaluate.score.bigwigs import read_pair
from ..evaluate.score.match import match_anndata
from ..evaluate.score.scores import score
from ..evaluate.score.task import open_truth, prepare
from ..io.inputs import read_bed
from .console import plain_table

_NAMES = {
    "r2": "R²",
    "r2_arcsinh": "R² arcsinh",
    "pearson": "Pearson",
    "c_index": "C-index",
    "mse": "MSE",
    "nll": "NLL",
    "crps": "CRPS",
    "crps_scale": "CRPS scale",
    "deviance_explained": "deviance explained",
    "pit_deviation": "PIT dev.",
    "coverage": "coverage",
    "expected_coverage": "expected coverage",
}
_PER_TRACK = ("r2", "c_index", "nll", "mse", "gwcorr", "mse1obs")
_WIDEST = 6  # columns that fit side by side


def run(
    prediction: Path,
    truth: Path,
    setup: dict[str, Any],
    beds: dict[str, Path | None],
    out: Path | None,
    console: Console,
    regions: Path | None = None,
    bin_size: int | None = None,
    counts: bool = False,
) -> None:
    """Score the prediction of a file against the truth of another; print the scores, and write them.

    Parameters
    ----------
    prediction, truth
        AnnData, ending in `.h5ad` or `.zarr`, a bigWig file, or a folder of them.
    setup
        Fields of :class:`SetupKeys`.
    beds
        BED files by `promoters`, `genes` and `enhancers`.
    out
        Table to write.
    console
        Where to print.
    regions, bin_size, counts
        Of bigWig files, as for :func:`read_pair`.

    Raises
    ------
    ValueError
        As :func:`score_anndata`, and for files that cannot be read.
    OSError
        If `out` cannot be written.
    """
    if out is not None and out.suffix != ".csv":
        raise ValueError(f"out must be a file that ends in .csv; got {out.name!r}.")
    intervals = {name: read_bed(path) for name, path in beds.items() if path is not None}
    predicted, measured, keys = read_pair(prediction, truth, SetupKeys(**setup), regions, bin_size, counts)
    data = open_truth(measured, keys)
    match = match_anndata(predicted, measured)
    console.print(
        f"{prediction.name} against {truth.name}. {match.describe()}", markup=False, highlight=False, soft_wrap=True
    )
    if _keys.OBSERVED in measured.layers and keys.observed_layer is None and keys.signal_layer is None:
        console.print(
            f"Note: layer {_keys.OBSERVED!r} of {truth.name} is not looked at. If it marks what was measured, name it "
            f"with --observed-layer {_keys.OBSERVED}; else missing counts may be scored as zeros.",
            highlight=False,
            soft_wrap=True,
        )
    scores = score(prepare(predicted, measured, data, match, keys, **intervals))
    _print(scores, console)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        scores.to_csv(out, float_format="%.6g")
        console.print(f"Wrote {out}", soft_wrap=True)


def _print(scores: pd.DataFrame, console: Console) -> None:
    predicted, average, marginal = (scores.loc[by] for by in ("prediction", "average", "marginal"))
    tracks = predicted.index[:-1][predicted["entries"].iloc[:-1] > 0]
    averaged = tracks[average.loc[tracks, "entries"] > 0]
    means = {"PRED": predicted.loc["macro_mean"], "average": average.loc["macro_mean"]}
    if 0 < len(averaged) < len(tracks):
        means["PRED, same tracks"] = predicted.loc[averaged].mean()
    means["marginal"] = marginal.loc["macro_mean"]
    columns = [name for name in scores if name != "entries"]
    for start in range(0, len(columns), _WIDEST):
        part = columns[start : start + _WIDEST]
        _print_table("Mean over tracks", part, {by: list(row[part]) for by, row in means.items()}, console)
    console.print(
        f"average: of the other biosamples, for {len(averaged)} of {len(tracks)} tracks. marginal: of the track."
    )
    shown = [name for name in _PER_TRACK if name in columns][: _WIDEST // 2]
    rows = {str(t): [table.loc[t, name] for name in shown for table in (predicted, average)] for t in tracks}
    heads = [f"{_NAMES.get(name, name)}\n{by}" for name in shown for by in ("PRED", "average")]
    _print_table("Track by track", heads, rows, console)


def _print_table(title: str, columns: list[str], rows: dict[str, list[float]], console: Console) -> None:
    table = plain_table(title, "")
    for name in columns:
        table.add_column(_NAMES.get(name, name), justify="right")
    for name, values in rows.items():
        table.add_row(name, *("-" if np.isnan(value) else f"{value:.3f}" for value in values))
    console.print(table)
