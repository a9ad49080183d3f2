"""What is printed beside results, on standard error, and how to have less of it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_LOGGER = logging.getLogger("chipvi")
_by_command = ContextVar("by_command", default=False)
_HOSTS = ("lightning.pytorch", "lightning.fabric", "scvi")


def is_silenced() -> bool:
    """Whether the user wants neither bars nor lines: by the logger "chipvi", by logging, or by `scvi.settings`."""
    host = sys.modules.get("scvi")  # what is not imported was not set
    verbosity = host.settings.verbosity if host else logging.INFO
    if isinstance(verbosity, str):
        verbosity = logging.getLevelNamesMapping()[verbosity]
    return max(verbosity, _LOGGER.level, logging.root.manager.disable + 1) > logging.INFO


def announce(text: str) -> None:
    """Print a line ahead of long work, unless silenced or called by a command, which prints in its own words."""
    if not _by_command.get():
        print_aside(text)


def print_aside(text: str) -> None:
    """Print a line on standard error, or give it to the handlers of logging where there are some, unless silenced."""
    if is_silenced():
        return
    if _LOGGER.hasHandlers():
        record = _LOGGER.makeRecord(_LOGGER.name, logging.INFO, __file__, 0, text, (), None)
        _LOGGER.handle(record)  # whatever the level of the root, which most leave at warnings
    else:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def kept_levels() -> Iterator[None]:
    """Keep the levels that the user gave to the loggers of our hosts, which set their own when they are imported."""
    levels = {name: logging.getLogger(name).level for name in _HOSTS}
    try:
        yield
    finally:
        for name, level in levels.items():
            if level != logging.NOTSET:
                logging.getLogger(name).setLevel(level)


@contextmanager
def quiet_loggers(names: Sequence[str] = _HOSTS) -> Iterator[None]:
    """Silence what Lightning and scvi-tools, or others, print about themselves; their warnings stay."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep their warnings out of the way, too, as commands do, which print in their own words."""
    token = _by_command.set(True)
    try:
        with quiet_loggers(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        _by_command.reset(token)
