"""How far to look around a region: windows of several widths, lengths in base pairs where bins are narrow."""

from __future__ import annotations

WINDOW_BIN = 200  # bp, of the bins that the windows were chosen for
_HALF_WIDTHS = (0, 1, 3, 10, 30)  # of windows, in bins of that width: up to 6 kb to either side
_NEAREST = (1, 3)  # bins to either side of narrower ones, beside the same lengths


def choose_half_widths(bin_width: int | None) -> tuple[int, ...]:
    """Regions that each window reaches to either side, narrowest window first.

    In bins narrower than 200 bp the windows span as many base pairs as they would there, and two more look at the
    nearest bins. Wider bins, and regions of unequal width, have windows of as many regions.

    Parameters
    ----------
    bin_width
        Width of the regions in bp; None where it is not the same for nearly all, or not known.

    Examples
    --------
    >>> choose_half_widths(200), choose_half_widths(25), choose_half_widths(None)
    ((0, 1, 3, 10, 30), (0, 1, 3, 8, 24, 80, 240), (0, 1, 3, 10, 30))
    """
    if bin_width is None or bin_width >= WINDOW_BIN:
        return _HALF_WIDTHS
    return tuple(sorted({*_NEAREST, *(round(n * WINDOW_BIN / bin_width) for n in _HALF_WIDTHS)}))


def count_per_window_bin(bin_width: int | None) -> int:
    """How many narrower bins make one of 200 bp: neighbours that near hardly differ."""
    return 1 if bin_width is None else max(1, round(WINDOW_BIN / bin_width))


def count_at_window_bin(n_regions: int, bin_width: int | None) -> int:
    """How many bins of 200 bp narrower bins amount to."""
    return n_regions // count_per_window_bin(bin_width)
