"""Worker processes that start clean, for files that are read side by side."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_all_start_methods, get_context, parent_process, resource_tracker
from multiprocessing.context import BaseContext
from typing import Any

from .._signals import deferred


def clean_context(module: str) -> BaseContext:
    """Processes that inherit no thread or lock of this one, for a fork of a process that has run torch may hang.

    Parameters
    ----------
    module
        Where the work is: it is imported once for all workers, where the system can.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def begin_worker() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one at work, and end when it has ended.

    A worker whose parent was killed would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def script_not_run_again() -> Iterator[None]:
    """Keep processes that start meanwhile from importing the user's script, of which they need nothing.

    It would run from its top in each of them unless it has an ``if __name__ == "__main__"``. They inherit that Ctrl-C,
    which a terminal sends to all, is blocked, and so print no traceback; here it waits until they are known.
    """
    resource_tracker.ensure_running()  # its start would unblock it
    blocks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
    main: Any = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if hasattr(main, name)]
    saved = {name: getattr(main, name) for name in names}
    try:
        for name in names:
            setattr(main, name, None)
        with deferred():
            yield
    finally:
        for name, value in saved.items():
            setattr(main, name, value)
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
