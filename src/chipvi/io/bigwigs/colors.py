"""Colours of assays, as epigenome browsers show them."""

from __future__ import annotations

import re

from ... import _keys

# Kinds of files and rows, beside the layers of a result
IMPUTED, OBSERVED, OBSERVED_PVAL = "imputed", "observed", "observed_pval"

Color = tuple[int, int, int]

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (150, 156, 162)
# The interval lies behind the imputed counts: pale up to its upper end, dark up to its lower end.
_SHADES: dict[str, tuple[Color, float]] = {_keys.UPPER: (_WHITE, 0.6), _keys.LOWER: (_BLACK, 0.35)}
_OTHER: Color = (102, 102, 102)
# The custom of the Roadmap and ENCODE browsers: promoters red, enhancers orange and yellow, transcription green,
# repression grey and purple, open chromatin blue. Searched from the top, without regard to case.
_COLORS: dict[str, Color] = {
    "h3k4me3": (215, 25, 28),
    "h3k4me2": (244, 109, 67),
    "h3k4me1": (230, 171, 2),
    "h3k9ac": (231, 84, 128),
    "h3k27ac": (253, 127, 0),
    "h3k36me3": (0, 136, 55),
    "h3k79me2": (102, 166, 30),
    "h4k20me1": (51, 160, 122),
    "h3k27me3": (96, 112, 128),
    "h3k9me3": (117, 79, 161),
    "h2az": (166, 86, 40),
    "h2afz": (166, 86, 40),
    "dnase": (31, 120, 180),
    "atac": (44, 123, 182),
    "faire": (65, 149, 194),
    "ctcf": (0, 150, 160),
    "rad21": (0, 120, 130),
    "smc3": (0, 105, 120),
    "polr2": (140, 81, 10),
    "pol2": (140, 81, 10),
    "ep300": (204, 76, 2),
    "p300": (204, 76, 2),
    "input": (150, 150, 150),
    "control": (150, 150, 150),
}


def assay_color(assay: str) -> Color:
    """Red, green and blue, 0 to 255, of an assay; dark grey for one that has no colour of its own.

    >>> assay_color("H3K27ac"), assay_color("DNase-seq"), assay_color("H2A.Z"), assay_color("MAFK")
    ((253, 127, 0), (31, 120, 180), (166, 86, 40), (102, 102, 102))
    """
    plain = re.sub(r"[^a-z0-9]", "", str(assay).lower())
    return next((color for name, color in _COLORS.items() if name in plain), _OTHER)


def blend(color: Color, other: Color, share: float) -> Color:
    """Mix two colours.

    >>> blend((200, 0, 100), (255, 255, 255), 0.5)
    (228, 128, 178)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def kind_color(assay: str, kind: str) -> Color:
    """Colour of what is shown of a track: grey where it was measured, else that of the assay, paler or darker.

    >>> kind_color("H3K27ac", "observed"), kind_color("H3K27ac", "imputed"), kind_color("H3K27ac", "upper")
    ((150, 156, 162), (253, 127, 0), (254, 204, 153))
    """
    return _GREY if kind in (OBSERVED, OBSERVED_PVAL) else blend(assay_color(assay), *_SHADES.get(kind, (_BLACK, 0.0)))
