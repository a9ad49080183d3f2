"""Matrices of an AnnData, in memory or left in their file, to be read in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import anndata
import h5py
import pandas as pd
import zarr
from anndata import AnnData

from ..._messages import unknown
from ...data.track_data import Matrix, names_of_layers


@dataclass(frozen=True, eq=False)
class Matrices:
    """Regions, tracks, and the matrices of both.

    Parameters
    ----------
    obs, var
        Regions and tracks.
    x
        The main matrix; None if there is none.
    layers
        Further ones, by name.
    uns
        What else is known of all of it.
    """

    obs: pd.DataFrame
    var: pd.DataFrame
    x: Any
    layers: Mapping[str, Any]
    uns: Mapping[str, Any]

    def matrix(self, layer: str | None) -> Matrix:
        """One of the layers, or X where `layer` is None."""
        if layer is None:
            if self.x is None:
                raise ValueError(f"there is nothing in X; name one of the layers: {', '.join(self.layers) or 'none'}.")
            return Matrix("X", self.x)
        if layer not in self.layers:
            raise ValueError(unknown("layer", layer, list(self.layers), "the layers"))
        return Matrix(f"layer {layer!r}", self.layers[layer])


@contextmanager
def open_matrices(adata: AnnData | str | PathLike) -> Iterator[Matrices]:
    """Open an AnnData, or a file of one without reading its matrices.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If its name ends in neither `.h5ad` nor `.zarr`, or it holds no AnnData.
    """
    if isinstance(adata, AnnData):
        layers = {name: adata.layers[name] for name in names_of_layers(adata)}
        yield Matrices(adata.obs, adata.var, adata.X, layers, adata.uns)
        return
    path = Path(adata)
    if path.suffix not in (".h5ad", ".zarr"):
        raise ValueError(f"regions x tracks must be an AnnData, or a file ending in .h5ad or .zarr; got {path.name!r}.")
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}.")
    if path.suffix == ".zarr":
        yield _of_group(zarr.open_group(str(path), mode="r"), path)
    else:
        with h5py.File(path) as file:
            yield _of_group(file, path)


def _of_group(group: Any, path: Path) -> Matrices:
    if not {"obs", "var"} <= set(group):
        raise ValueError(f"{path} must hold an AnnData; it has no obs and var.")
    frames = {name: anndata.io.read_elem(group[name]) for name in ("obs", "var")}
    layers = group["layers"] if "layers" in group else {}
    x = _in_place(group["X"]) if "X" in group else None
    uns = anndata.io.read_elem(group["uns"]) if "uns" in group else {}
    return Matrices(**frames, x=x, layers={name: _in_place(layers[name]) for name in layers}, uns=uns)


def _in_place(element: Any) -> Any:
    """The matrix without reading it; a sparse one is a group of arrays."""
    is_array = hasattr(element, "shape")
    return element if is_array else anndata.io.sparse_dataset(element)
