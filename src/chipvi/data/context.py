"""How far to look around a region: windows of several widths, lengths in base pairs where there are coordinates."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW_BIN = 200  # bp, of the bins that the windows were chosen for
_HALF_WIDTHS = (0, 1, 3, 10, 30)  # of windows, in bins of that width: up to 6 kb to either side
_NEAREST = (1, 3)  # bins to either side of narrower ones, beside the same lengths


def choose_half_widths(typical_width: int | None) -> tuple[int, ...]:
    """How far each window reaches to either side of the middle of a region, narrowest window first.

    Around regions narrower than 200 bp the windows span as many base pairs as they would around those, and two more
    look at the nearest bins. Around wider ones they grow with the width.

    Parameters
    ----------
    typical_width
        Width of the regions in bp, of which the result is a multiple; None without coordinates, for rows.

    Examples
    --------
    >>> choose_half_widths(200), choose_half_widths(25), choose_half_widths(None)
    ((0, 200, 600, 2000, 6000), (0, 25, 75, 200, 600, 2000, 6000), (0, 1, 3, 10, 30))
    """
    if typical_width is None:
        return _HALF_WIDTHS
    numbers = set(_HALF_WIDTHS)
    if typical_width < WINDOW_BIN:
        numbers = {*_NEAREST, *(round(n * WINDOW_BIN / typical_width) for n in _HALF_WIDTHS)}
    return tuple(n * typical_width for n in sorted(numbers))


def describe_context(half_widths: Sequence[int], typical_width: int | None) -> str:
    """How far the widest window reaches, in words.

    >>> describe_context((0, 200, 6_000), 200), describe_context((0, 1, 30), None)
    ('6 kb to either side', '30 regions to either side')
    """
    reach = f"{max(half_widths)} regions" if typical_width is None else f"{max(half_widths) / 1_000:g} kb"
    return f"{reach} to either side"


def count_per_window_bin(bin_width: int | None) -> int:
    """How many narrower bins make one of 200 bp: neighbours that near hardly differ."""
    return 1 if bin_width is None else max(1, round(WINDOW_BIN / bin_width))


def count_at_window_bin(n_regions: int, bin_width: int | None) -> int:
    """How many bins of 200 bp narrower bins amount to."""
    return n_regions // count_per_window_bin(bin_width)
