"""Tracks: what experiment each column of an AnnData is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from .. import _keys
from .._arguments import LARGEST_DEPTH
from .._messages import and_more, listed, unknown


@dataclass(frozen=True, eq=False)
class Tracks:
    """The columns of an AnnData: one experiment each.

    Parameters
    ----------
    names
        Name of each track, as in `var_names`.
    biosamples, assays
        What was measured in each, as text; no two tracks have both in common.
    is_control
        Which tracks are input only, always visible and never a target: bool, (n_tracks,).
    depth
        Reads of each track, float64, NaN where unknown; None if no depth was given at all.
    conditions
        What replicates share, as text: tracks of one condition and assay are replicates; None if it was not given.
    """

    names: tuple[str, ...]
    biosamples: tuple[str, ...]
    assays: tuple[str, ...]
    is_control: np.ndarray
    depth: np.ndarray | None = None
    conditions: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_tracks(self) -> int:
        """Number of tracks, controls included."""
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a track.

        Raises
        ------
        ValueError
            If there is no such track; the message lists what it may have been.
        """
        if name not in self.names:
            raise ValueError(unknown("track", name, self.names, "the tracks"))
        return self.names.index(name)

    def select(self, names: Iterable[str]) -> Tracks:
        """Keep the tracks of these names, in this order."""
        columns = [self.index(name) for name in names]
        return Tracks(
            names=tuple(self.names[column] for column in columns),
            biosamples=tuple(self.biosamples[column] for column in columns),
            assays=tuple(self.assays[column] for column in columns),
            is_control=self.is_control[columns],
            depth=None if self.depth is None else self.depth[columns],
            conditions=None if self.conditions is None else tuple(self.conditions[column] for column in columns),
        )

    def require_same(self, other: Tracks) -> None:
        """Check that other tracks are these, in this order, whatever their depth.

        Raises
        ------
        ValueError
            Naming the tracks that are missing, extra, in another order, or that are labelled otherwise.
        """
        missing = [name for name in self.names if name not in other.names]
        extra = [name for name in other.names if name not in self.names]
        if missing or extra:
            problems = [f"{what} {listed(names)}" for what, names in (("missing", missing), ("extra", extra)) if names]
            raise ValueError(
                f"adata must have the {len(self)} tracks that the model was set up with; {'; '.join(problems)}. Keep a "
                "missing track as a column without data (NaN, or 0 in the observed layer), and leave extra tracks out."
            )
        if self.names != other.names:
            column = next(column for column, name in enumerate(self.names) if name != other.names[column])
            raise ValueError(
                "adata must have its tracks in the order that the model was set up with; column "
                f"{column} is {other.names[column]}, expected {self.names[column]}. "
                "Reorder with `adata = adata[:, names].copy()`, names as in the AnnData of the setup."
            )
        mine, theirs = self._labels(), other._labels()
        relabelled = [name for name in self.names if mine[name] != theirs[name]]
        if relabelled:
            name = relabelled[0]
            raise ValueError(
                "adata must label its tracks as the model was set up with; track "
                f"{name} is {_describe(*theirs[name])}, expected {_describe(*mine[name])}{and_more(len(relabelled))}. "
                "Correct the columns of adata.var, or train a model on the new labels."
            )

    def _labels(self) -> dict[str, tuple[str, str, bool]]:
        labels = zip(self.biosamples, self.assays, self.is_control.tolist(), strict=True)
        return dict(zip(self.names, labels, strict=True))


@dataclass(frozen=True, eq=False)
class Targets:
    """Experiments to predict, each with its column among the known tracks.

    Parameters
    ----------
    names, biosamples, assays
        As in :class:`Tracks`.
    depth
        Reads to predict at, float64; NaN asks for the default.
    columns
        Position among the known tracks, int64; -1 for an experiment that is not one of them.
    """

    names: tuple[str, ...]
    biosamples: tuple[str, ...]
    assays: tuple[str, ...]
    depth: np.ndarray
    columns: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def read_tracks(
    var: pd.DataFrame,
    biosample_key: str = _keys.BIOSAMPLE,
    assay_key: str = _keys.ASSAY,
    depth_key: str | None = None,
    control_key: str | None = None,
    condition_key: str | None = None,
) -> Tracks:
    """Read and check what `var` says about the tracks.

    Parameters
    ----------
    var
        One row per track; its index names them.
    biosample_key, assay_key
        Columns that say what was measured.
    depth_key
        Column with reads per track, above 0; NaN where unknown.
    control_key
        Column that is true, or 1, for control tracks. Without it no track is a control.
    condition_key
        Column that replicates share.

    Raises
    ------
    ValueError
        Where `var` breaks the above; the message names the track.
    """
    names = tuple(str(name) for name in var.index)
    _require_unique(names, "var_names", "Rename them with adata.var_names_make_unique().")
    biosamples = _texts(var, biosample_key, "biosample_key")
    assays = _texts(var, assay_key, "assay_key")
    _require_one_track_each(names, biosamples, assays)
    return Tracks(
        names=names,
        biosamples=biosamples,
        assays=assays,
        is_control=np.zeros(len(var), dtype=bool) if control_key is None else _flags(var, control_key),
        depth=None if depth_key is None else _depths(var, depth_key),
        conditions=None if condition_key is None else _texts(var, condition_key, "condition_key"),
    )


def parse_targets(tracks: Sequence[str] | pd.DataFrame | None, known: Tracks) -> Targets:
    """Resolve the `tracks` argument of a prediction.

    Parameters
    ----------
    tracks
        Names of known tracks; or a table with the columns `biosample` and `assay`, and `depth` if it matters, whose
        index names the experiments (without names they are called `biosample.assay`); or None for all known tracks
        but the controls.
    known
        The tracks of the AnnData, which know all biosamples and assays that can be combined.

    Raises
    ------
    ValueError
        For a track, biosample, assay or column that is not known, a control, or an experiment that is asked for twice.
    """
    if isinstance(tracks, pd.DataFrame):
        return _targets_from_table(tracks, known)
    if tracks is None:
        tracks = [name for name, control in zip(known.names, known.is_control, strict=True) if not control]
    names = tuple([tracks] if isinstance(tracks, str) else tracks)
    columns = np.array([known.index(name) for name in names], dtype=np.int64)
    chosen = known.select(names)
    return _checked(Targets(names, chosen.biosamples, chosen.assays, np.full(len(names), np.nan), columns), known)


def _targets_from_table(table: pd.DataFrame, known: Tracks) -> Targets:
    allowed = [_keys.BIOSAMPLE, _keys.ASSAY, _keys.DEPTH]
    for column in table.columns:
        if column not in allowed:
            raise ValueError(unknown("column", column, allowed, "the columns that a table of tracks may have"))
    biosamples = _texts(table, _keys.BIOSAMPLE, "column", "the table of tracks")
    assays = _texts(table, _keys.ASSAY, "column", "the table of tracks")
    for what, values, there in (("biosample", biosamples, known.biosamples), ("assay", assays, known.assays)):
        for value in values:
            if value not in there:
                raise ValueError(unknown(what, value, sorted(set(there)), f"the {what}s of the tracks"))
    column_of = {pair: column for column, pair in enumerate(zip(known.biosamples, known.assays, strict=True))}
    pairs = list(zip(biosamples, assays, strict=True))
    columns = np.array([column_of.get(pair, -1) for pair in pairs], dtype=np.int64)
    if is_integer_dtype(table.index):
        made = [f"{biosample}.{assay}" for biosample, assay in pairs]
        names = tuple(known.names[c] if c >= 0 else name for c, name in zip(columns, made, strict=True))
    else:
        names = tuple(str(name) for name in table.index)
    for name, column, pair in zip(names, columns, pairs, strict=True):
        if name in known.names and known.index(name) != column:
            found = _describe(known.biosamples[known.index(name)], known.assays[known.index(name)])
            raise ValueError(
                f"the table of tracks calls {_describe(*pair)} {name}, but that name is taken: track {name} of adata "
                f"is {found}. Give the experiment another name."
            )
    has_depth = _keys.DEPTH in table
    depth = _depths(table, _keys.DEPTH) if has_depth else np.full(len(table), np.nan)
    return _checked(Targets(names, biosamples, assays, depth, columns), known)


def _checked(targets: Targets, known: Tracks) -> Targets:
    if not len(targets):
        raise ValueError("no track to predict; name at least one, or pass tracks=None for all that are not controls.")
    for name, column in zip(targets.names, targets.columns, strict=True):
        if column >= 0 and known.is_control[column]:
            raise ValueError(f"track {name} is a control, which is input only; leave it out of the tracks to predict.")
    _require_unique(targets.names, "the tracks to predict", "Ask for each once.")
    _require_one_track_each(targets.names, targets.biosamples, targets.assays)
    return targets


def _describe(biosample: str, assay: str, is_control: bool = False) -> str:
    return f"biosample {biosample!r}, assay {assay!r}{', a control' if is_control else ''}"


def _column(frame: pd.DataFrame, key: str, argument: str, where: str) -> pd.Series:
    if key not in frame:
        raise ValueError(unknown(argument, key, list(frame.columns), where))
    return frame[key]


def _texts(frame: pd.DataFrame, key: str, argument: str, where: str = "adata.var") -> tuple[str, ...]:
    column = _column(frame, key, argument, where)
    missing = column.isna().to_numpy()
    texts = tuple(str(value).strip() for value in column)
    empty = missing | np.array([not text for text in texts], dtype=bool)
    _refuse(column, empty, f"column {key!r} must be filled in for every track", "Fill it in, or leave the track out.")
    return texts


def _flags(var: pd.DataFrame, key: str) -> np.ndarray:
    column = _column(var, key, "control_key", "adata.var")
    expected, advice = f"column {key!r} must be True or False, or 1 or 0, for every track", "Correct the column."
    _refuse(column, column.isna().to_numpy(), expected, advice)
    _refuse(column, ~column.isin([True, False]).to_numpy(), expected, advice)
    return column.to_numpy(dtype=bool)


def _depths(frame: pd.DataFrame, key: str) -> np.ndarray:
    column = _column(frame, key, "depth_key", "adata.var")
    expected = f"column {key!r} must hold reads per track, above 0 and at most {LARGEST_DEPTH:g}"
    if not is_numeric_dtype(column):
        raise ValueError(f"{expected}; its dtype is {column.dtype}. Convert the column with .astype(float).")
    depth = column.to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse(
        column, (depth <= 0) | (depth > LARGEST_DEPTH), expected, "Correct it, or put NaN where there are no counts."
    )
    return depth


def _refuse(column: pd.Series, broken: np.ndarray, expected: str, advice: str) -> None:
    rows = np.flatnonzero(broken)
    if len(rows):
        found = f"track {column.index[rows[0]]} has {column.iloc[rows[:1]].tolist()[0]!r}{and_more(len(rows))}"
        raise ValueError(f"{expected}; {found}. {advice}")


def _require_unique(names: Sequence[str], what: str, advice: str) -> None:
    repeated = pd.Index(names).duplicated()
    if repeated.any():
        first = names[int(np.argmax(repeated))]
        raise ValueError(f"{what} must be unique; {first} comes back{and_more(int(repeated.sum()))}. {advice}")


def _require_one_track_each(names: Sequence[str], biosamples: Sequence[str], assays: Sequence[str]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for name, biosample, assay in zip(names, biosamples, assays, strict=True):
        if (biosample, assay) in seen:
            raise ValueError(
                f"a biosample and an assay must meet in one track only; {seen[biosample, assay]} and {name} are both "
                f"{_describe(biosample, assay)}. Keep replicates apart by biosamples such as '{biosample}_rep1' and "
                f"'{biosample}_rep2', or merge them by adding up their counts."
            )
        seen[biosample, assay] = name
