"""Draw the picture of docs/counting.md: where single reads and a pair count, under each rule."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chipvi.io.counting.rules import CountingRule, Reads

FRAGMENT = (100, 250)  # bp, of all three
READ = 36
STRANDS = {"single read, + strand": (1, False), "single read, - strand": (-1, False), "proper pair": (1, True)}
RULES = {"shifted": "#2f6db3", "five_prime": "#d9722e", "center": "#7a4fa3"}
BAR = {"height": 0.16, "linewidth": 0}


def draw(ax: Axes, y: float, strand: int, is_pair: bool) -> None:
    """Draw one fragment, what of it was read, and where it counts."""
    start, end = FRAGMENT
    ax.barh(y, end - start, left=start, color="#e7eaed", **BAR)
    for at in [start] * (strand > 0 or is_pair) + [end - READ] * (strand < 0 or is_pair):
        ax.barh(y, READ, left=at, color="#8b939b", **BAR)
        ax.annotate("", (at + (READ if at == start else 0), y), (at + READ / 2, y), arrowprops={"arrowstyle": "->"})
    first, last = (start, end) if is_pair else (start, start + READ) if strand > 0 else (end - READ, end)
    one = [np.array([value]) for value in (0, first, last, strand, is_pair)]
    for number, (name, colour) in enumerate(RULES.items()):
        places, _ = CountingRule(name, fragment_length=end - start).place(Reads(("chr1",), *one))
        ax.plot(places[0], y - 0.2 - 0.1 * number, marker="^", color=colour, markersize=6)
    ax.hlines(y - 0.5, first, last, color="black", linewidth=2)


def main() -> None:
    """Write the picture beside this script."""
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    ax = figure.subplots()
    for number, (strand, is_pair) in enumerate(STRANDS.values()):
        draw(ax, -number, strand, is_pair)
    ax.set_yticks(-np.arange(len(STRANDS)), STRANDS, fontsize=9)
    ax.set_xlim(60, 290)
    ax.set_ylim(-2.65, 0.25)
    ax.set_xlabel("bp; pale: the fragment, of which a single read shows one end", fontsize=9)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(left=False)
    for name, colour in RULES.items():
        ax.plot([], [], marker="^", color=colour, linestyle="", label=name)
    ax.plot([], [], color="black", linewidth=2, label="overlap")
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
