"""How a command ends that is asked to: by Ctrl-C (SIGINT), or by SIGTERM, as schedulers and `timeout` send it."""

from __future__ import annotations

import signal
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []


def interrupt_at_signals() -> None:
    """Let both raise KeyboardInterrupt, once, so that what is half-written is removed; a second one ends at once."""
    _received.clear()
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and & set it
            signal.signal(number, _interrupt)


def end_at_signals() -> None:
    """Let both end the process without a word, as when Python itself comes to its end."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def take() -> signal.Signals | None:
    """The signal that has come, whatever became of the interrupt that it raised; once, for who takes it reports it."""
    return signal.Signals(_received.pop()) if _received else None


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
