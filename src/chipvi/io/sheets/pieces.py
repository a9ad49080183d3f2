"""What was read of the files of a sample sheet, put together in a store a stretch of regions at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ... import _keys
from ..._files import written_whole
from ..counting.files import FileCounts
from ..reading import STRETCH, Arrays, stretch_of
from ..stores import copy_store, finish, narrowest, new_store, read_store, write_matrix


@dataclass(frozen=True, eq=False)
class Store:
    """What a store holds beside its matrices."""

    path: Path
    obs: pd.DataFrame
    var: pd.DataFrame
    uns: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Store:
        """Look into a store; errors as :func:`chipvi.io.stores.read_store`."""
        return cls(path, *read_store(path))


@dataclass(frozen=True, eq=False)
class Pieces:
    """What was read of files, kept in files of its own, a stretch of which is loaded at a time.

    Parameters
    ----------
    names
        Of the tracks.
    counts
        Of those with alignments: the counts of each file.
    layers
        Signal by layer, of the tracks that have any.
    """

    names: list[str]
    counts: Mapping[str, list[FileCounts]]
    layers: Mapping[str, Mapping[str, Arrays]]

    def write(
        self, out: Path, places: pd.DataFrame, var: pd.DataFrame, uns: Mapping[str, Any], store: Store | None
    ) -> None:
        """Write a new store, or the tracks to one that is there, all or nothing.

        Parameters
        ----------
        out
            The store.
        places
            Its regions.
        var, uns
            The tracks, and what else is known.
        store
            What is there; None for a new one.
        """
        with written_whole(out) as partial:
            if store is None:
                group = new_store(partial, places)
            else:
                group, old, uns = copy_store(out, partial), store.var, {**uns, **store.uns}
                texts = [name for name in {*old, *var} if "file" in name or name == "format"]
                var = pd.concat([old.astype({name: object for name in texts if name in old}), var])
                var = var.assign(**{name: var[name].fillna("") for name in texts})
            self._write_matrices(group, (len(places), len(var)))
            finish(group, var, uns)

    def _write_matrices(self, group: Any, shape: tuple[int, int]) -> None:
        n_stretches = -(-shape[0] // STRETCH)
        dtype = narrowest(max((self._largest(files, n_stretches) for files in self.counts.values()), default=0))
        write_matrix(group, "X", shape, dtype, 0, self._stretches(self._counts_of, shape[0], dtype, 0))
        is_counted_t = np.isin(self.names, list(self.counts))
        flags = (np.broadcast_to(is_counted_t.astype(np.uint8), (n, len(self.names))) for n in _lengths(shape[0]))
        # where all are counted nothing is written, and nothing need be read
        write_matrix(group, _keys.OBSERVED, shape, np.uint8, 1, () if is_counted_t.all() else flags)
        for layer in dict.fromkeys([*self.layers, *group["layers"]]):
            found = self.layers.get(layer, {})
            if layer == _keys.OBSERVED or (not found and layer not in group["layers"]):
                continue
            stretches = self._stretches(_SignalOf(found), shape[0], np.float32, np.nan) if found else ()
            write_matrix(group, layer, shape, np.float32, np.nan, stretches)

    def _stretches(
        self, values_of: Callable[[str, int], Any], n_regions: int, dtype: Any, fill: float
    ) -> Iterator[np.ndarray]:
        for number, length in enumerate(_lengths(n_regions)):
            values_rt = np.full((length, len(self.names)), fill, dtype=dtype)
            for t, name in enumerate(self.names):
                if (values_r := values_of(name, number)) is not None:
                    values_rt[:, t] = values_r
            yield values_rt

    def _counts_of(self, name: str, number: int) -> Any:
        files = self.counts.get(name)
        return None if files is None else _added(files, number)

    def _largest(self, files: list[FileCounts], n_stretches: int) -> int:
        """The largest count of a track, whose files are added up."""
        if len(files) == 1:
            return files[0].largest
        return max(int(_added(files, number).max()) for number in range(n_stretches))


@dataclass(frozen=True, eq=False)
class _SignalOf:
    """Signal of a stretch of a track; None where it has none."""

    found: Mapping[str, Arrays]

    def __call__(self, name: str, number: int) -> Any:
        return stretch_of(self.found[name], number) if name in self.found else None


def _added(files: Iterable[FileCounts], number: int) -> np.ndarray:
    """Counts of a stretch, added up over files."""
    total_r: np.ndarray = sum(stretch_of(file.counts, number).astype(np.uint64) for file in files)  # type: ignore[assignment]
    return total_r


def _lengths(n_regions: int) -> Iterator[int]:
    """Regions of each stretch."""
    return (min(STRETCH, n_regions - start) for start in range(0, n_regions, STRETCH))
