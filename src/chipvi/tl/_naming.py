"""Names and colours of chromatin states, by rules on the marks that they are enriched in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ENRICHED = 1.5  # times the mean of the track, from which on a mark counts as there
MARKS = {
    "H3K4me3": ("h3k4me3",),
    "H3K9ac": ("h3k9ac",),
    "H3K4me1": ("h3k4me1",),
    "H3K27ac": ("h3k27ac",),
    "H3K36me3": ("h3k36me3", "h3k79me2"),
    "H3K27me3": ("h3k27me3",),
    "H3K9me3": ("h3k9me3",),
    "open": ("dnase", "atac", "faire"),
    "CTCF": ("ctcf", "rad21", "smc3"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of state.

    Parameters
    ----------
    name
        In the words of the field.
    color
        Red, green and blue, "#rrggbb".
    fits
        Whether a state is of that kind, by the enrichment of its marks (0 for one that nobody measured).
    """

    name: str
    color: str
    fits: Callable[[Mapping[str, float]], bool]


def _has(*marks: str) -> Callable[[Mapping[str, float]], bool]:
    return lambda level: all(level[mark] >= ENRICHED for mark in marks)


def _is_promoter(level: Mapping[str, float]) -> bool:
    return max(level["H3K4me3"], level["H3K9ac"]) >= max(ENRICHED, level["H3K4me1"])


def _is_enhancer(level: Mapping[str, float]) -> bool:
    return max(level["H3K4me1"], level["H3K27ac"], level["H3K9ac"]) >= ENRICHED


# The first that fits is the name. Colours are those of the Roadmap Epigenomics models of 15 and 18 states, that of an
# insulator is of the nine cell types of Ernst et al. 2011, that of open chromatin of the 25 states.
KINDS = (
    Kind("Bivalent TSS", "#cd5c5c", lambda level: _is_promoter(level) and level["H3K27me3"] >= ENRICHED),
    Kind("Active TSS", "#ff0000", _is_promoter),
    Kind("Genic enhancer", "#c2e105", lambda level: _is_enhancer(level) and level["H3K36me3"] >= ENRICHED),
    Kind("Bivalent enhancer", "#bdb76b", lambda level: _is_enhancer(level) and level["H3K27me3"] >= ENRICHED),
    Kind("Active enhancer", "#ffc34d", lambda level: _is_enhancer(level) and level["H3K27ac"] >= ENRICHED),
    Kind("Enhancer", "#ffff00", _is_enhancer),
    Kind("Insulator", "#0abefe", _has("CTCF")),
    Kind("ZNF genes and repeats", "#66cdaa", _has("H3K36me3", "H3K9me3")),
    Kind("Transcribed", "#008000", _has("H3K36me3")),
    Kind("Repressed (Polycomb)", "#808080", lambda level: level["H3K27me3"] >= max(ENRICHED, level["H3K9me3"])),
    Kind("Heterochromatin", "#8a91d0", _has("H3K9me3")),
    Kind("Open chromatin", "#ffff66", _has("open")),
    Kind("Quiescent", "#ffffff", lambda level: True),
)


def find_kind(enrichment: Mapping[str, float]) -> int:
    """Which of :data:`KINDS` a state is.

    Parameters
    ----------
    enrichment
        Mean of each assay in the state, in means of the track.

    Examples
    --------
    >>> KINDS[find_kind({"H3K4me3": 9.0, "H3K4me1": 1.7, "H3K27me3": 0.6})].name
    'Active TSS'
    >>> KINDS[find_kind({"H3K4me3": 1.1, "H3K36me3": 2.1, "DNase-seq": 0.9})].name
    'Transcribed'
    """
    level = dict.fromkeys(MARKS, 0.0)
    for assay, value in enrichment.items():
        plain = re.sub(r"[^a-z0-9]", "", assay.lower())
        for mark, names in MARKS.items():
            if any(name in plain for name in names):
                level[mark] = max(level[mark], value)
    return next(number for number, kind in enumerate(KINDS) if kind.fits(level))
