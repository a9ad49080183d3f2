"""How a command ends that is asked to: by Ctrl-C (SIGINT), or by SIGTERM, as schedulers and `timeout` send it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []


def interrupt_at_signals() -> None:
    """Let both raise KeyboardInterrupt, once, so that what is half-written is removed; a second one ends at once."""
    _received.clear()
    sys.unraisablehook = _show_lost
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and & set it
            signal.signal(number, _interrupt)


def end_at_signals() -> None:
    """Let both end the process without a word, as when Python itself comes to its end."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    sys.unraisablehook = sys.__unraisablehook__


def take() -> signal.Signals | None:
    """The signal that has come, whatever became of the interrupt that it raised; once, for who takes it reports it."""
    return signal.Signals(_received.pop()) if _received else None


def raise_swallowed() -> None:
    """Interrupt once more if a signal has come and is not reported: a library may have lost its interrupt.

    Raises
    ------
    KeyboardInterrupt
        If there is one.
    """
    if _received:
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Keep both back until the end, or until what is returned is called: HDF5 loses an interrupt, and what it wrote."""
    arrived: list[int] = []
    before: dict[int, Any] = {}

    def deliver() -> None:
        if arrived:
            number = arrived.pop()
            before[number](number, None)

    if threading.current_thread() is threading.main_thread():  # the only one that is interrupted
        for number in _ENDING:
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda came, _: arrived.append(came))
    try:
        yield deliver
    finally:
        for ended, handler in before.items():
            signal.signal(ended, handler)
        deliver()


def _show_lost(lost: Any) -> None:
    """Print an exception that nobody can catch, as of a finaliser, but no interrupt: that is reported at the end."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
