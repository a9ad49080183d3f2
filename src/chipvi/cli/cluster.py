"""Who works for a command: processes of this computer, the workers of a cluster, or one of several such commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager


@contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[Executor | None]:
    """An executor of the dask cluster with a scheduler at that address; None where none is named.

    Raises
    ------
    ValueError
        If dask.distributed is not installed, or processes are asked for beside it.
    OSError
        If no scheduler answers.
    """
    if scheduler is None:
        yield None
        return
    if workers is not None:
        raise ValueError(
            "--workers is for processes of this computer, and a cluster has its own; leave one of them out."
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            "--scheduler needs dask.distributed, which is not installed: pip install 'chipvi[dask]'."
        ) from error
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise OSError(f"no scheduler of dask answers at {scheduler}: {error}") from error
    with client:
        yield client.get_executor()


def read_shard(text: str | None) -> tuple[int, int] | None:
    """Which part of how many.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> read_shard("2/4")
    (2, 4)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"--shard must be a part and the number of parts, from 1/4 to 4/4; it is {text!r}.")
    return int(found[1]), int(found[2])
