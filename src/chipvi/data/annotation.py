"""What an AnnData says of its regions and tracks, in memory; the names of regions only where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api.types import is_integer_dtype

from .. import _keys

_PLACE = (_keys.CHROM, _keys.START, _keys.END)


class PlaceNames:
    """Names such as `chr1:0-200` of regions that have none of their own: a genome has too many to keep.

    Parameters
    ----------
    obs
        With `chrom`, `start` and `end`.

    Examples
    --------
    >>> names = PlaceNames(pd.DataFrame({"chrom": ["chr1", "chr2"], "start": [0, 50], "end": [50, 90]}))
    >>> names[1], list(names[np.array([1, 0])])
    ('chr2:50-90', ['chr2:50-90', 'chr1:0-50'])
    """

    def __init__(self, obs: pd.DataFrame) -> None:
        self._columns = [obs[name] for name in _PLACE]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, rows: int | np.integer | slice | np.ndarray) -> str | pd.Index:
        """The name of a row, or those of several."""
        if isinstance(rows, int | np.integer):
            return str(self[np.array([rows])][0])
        chrom, start, end = (column.iloc[rows].astype(str).astype(object) for column in self._columns)
        return pd.Index((chrom + ":" + start + "-" + end).to_numpy())

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """Numbers and bytes that differ where the names do."""
        codes, names = pd.factorize(self._columns[0])
        starts, ends = (column.to_numpy(dtype=np.int64) for column in self._columns[1:])
        return np.frombuffer("\n".join(map(str, names)).encode(), dtype=np.uint8), codes, starts, ends


RegionNames: TypeAlias = "pd.Index | PlaceNames"


def region_names(obs: pd.DataFrame) -> RegionNames:
    """Names of the regions: those that they have, or if they are only numbered those of their places."""
    is_numbered = isinstance(obs.index, pd.RangeIndex) and set(_PLACE) <= set(obs.columns)
    return PlaceNames(obs) if is_numbered else obs.index


def named(obs: pd.DataFrame) -> pd.DataFrame:
    """The same regions with names; not for a whole genome."""
    names = region_names(obs)
    return obs.set_axis(names[:]) if isinstance(names, PlaceNames) else obs


def take_rows(obs: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Some regions; those that are only numbered are numbered anew."""
    part = obs.iloc[rows]
    return part.set_axis(pd.RangeIndex(len(part))) if isinstance(obs.index, pd.RangeIndex) else part


def find_rows(obs: pd.DataFrame, part: pd.DataFrame) -> np.ndarray:
    """Row of each region of a part, found by name, or in numbered regions by place; -1 where there is none."""
    names = region_names(obs)
    if not isinstance(names, PlaceNames):
        return names.get_indexer(part.index)
    (_, code_r, start_r, end_r), row_n = names.parts, np.full(len(part), -1)
    known = list(pd.factorize(obs[_keys.CHROM])[1])
    for name, places in part.groupby(part[_keys.CHROM].astype(str), sort=False).indices.items():
        rows = np.flatnonzero(code_r == (known.index(name) if name in known else -1))
        starts, ends = (part[key].to_numpy()[places] for key in (_keys.START, _keys.END))
        if len(rows):
            at = rows[np.minimum(np.searchsorted(start_r[rows], starts), len(rows) - 1)]
            row_n[places] = np.where((start_r[at] == starts) & (end_r[at] == ends), at, -1)
    return row_n


def without_matrices(obs: pd.DataFrame, var: pd.DataFrame, uns: Mapping[str, Any]) -> AnnData:
    """An AnnData of regions and tracks alone, of whose numbers of regions no texts are made."""
    adata = AnnData(var=var, uns=dict(uns))
    adata._obs = obs
    return adata


def load_annotation(adata: AnnData) -> None:
    """Read `obs` and `var` of a lazily opened AnnData into memory, in place; its matrices stay where they are."""
    for name in ("_obs", "_var"):  # anndata's own setters would make a text of every row number
        frame = getattr(adata, name)
        if not isinstance(frame, pd.DataFrame):
            setattr(adata, name, number_rows(frame.to_memory()))


def number_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that a file only numbers, with an index that takes no memory."""
    return frame.set_axis(pd.RangeIndex(len(frame))) if is_integer_dtype(frame.index.dtype) else frame
