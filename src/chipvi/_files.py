"""What is written: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import zarr


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside the one given, to write a file or a folder to, which takes its place at the end.

    An error or an interrupt leaves nothing behind, and what was there as it was.
    """
    partial = path.with_name(f".{uuid4().hex}{path.suffix}")  # not its name, which may be as long as names can be
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
        raise


def require_new(path: Path) -> None:
    """Refuse, before any work, what cannot become the file of an AnnData.

    Raises
    ------
    ValueError
        For another ending than `.h5ad` or `.zarr`.
    FileExistsError
        If there is such a file.
    """
    if path.suffix not in (".h5ad", ".zarr"):
        raise ValueError(f"out must end in .h5ad or .zarr; got {path.name!r}.")
    if path.exists():
        raise FileExistsError(f"{path} exists already. Remove it, or write elsewhere.")


def require_writable(path: Path) -> None:
    """As :func:`require_new`, and in a folder that is there.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    require_new(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder. Make it first.")


def new_zarr(path: Path) -> Any:
    """An empty zarr group for an AnnData."""
    # anndata before 0.12, which comes with zarr 2, reads this format only
    version: dict[str, Any] = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}
    return zarr.open_group(str(path), mode="w", **version)
