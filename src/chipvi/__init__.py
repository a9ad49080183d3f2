"""Variational inference for ChIP-seq, ATAC-seq and DNase-seq: impute, denoise and embed counts over the genome."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ._quiet import kept_levels
from .report import report

# What is public is imported when it is first used: torch and scvi-tools take seconds to import, and counting reads,
# the processes that do so, and --help need neither.
_HOMES = {"ChipVI": ".model", "compare_heads": ".compare"}
_MODULES = ("datasets", "differential", "io", "metrics", "model", "nn", "pl", "tl", "train")

__version__ = version("chipvi")

__all__ = ["ChipVI", "compare_heads", "datasets", "differential", "io", "metrics", "pl", "report", "tl"]

if TYPE_CHECKING:
    from . import datasets, differential, io, metrics, pl, tl
    from .compare import compare_heads
    from .model import ChipVI
else:  # or else a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _HOMES or name in _MODULES:
            with kept_levels():
                home = import_module(_HOMES.get(name, f".{name}"), __name__)
            globals()[name] = found = getattr(home, name) if name in _HOMES else home
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
