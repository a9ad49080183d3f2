"""Draw the rooms of the package and the imports between them, and write their table in ARCHITECTURE.md.

    python docs/images/rooms.py            # after a room, its first line or an import between rooms has changed
    python docs/images/rooms.py --check    # writes nothing; exit status 1 if the table is out of date

The rows of rooms, and how imports are read, are those of tests/test_layout.py.
"""

from __future__ import annotations

import argparse
import ast
import runpy
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- rooms: written by docs/images/rooms.py -->", "<!-- end of rooms -->"
LAYOUT = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "test_layout.py")))
GROUND, *FLOORS = [rooms for rooms, _ in LAYOUT.ROWS]
PACKAGE = "chipvi"  # the room of its __init__.py

Graph = dict[str, set[str]]
Point = tuple[float, float]


def sources() -> dict[str, str]:
    """Text of every file, by its path below src/chipvi."""
    return {path.relative_to(LAYOUT.SOURCE).as_posix(): path.read_text("utf-8") for path in LAYOUT.SOURCE.rglob("*.py")}


def read_imports(texts: dict[str, str]) -> Graph:
    """Rooms that each room imports; of files given by path."""
    rooms = {LAYOUT.room_of(LAYOUT.module_name(path)) for path in texts}
    imports: Graph = {room: set() for room in rooms}
    for path, text in texts.items():
        here = LAYOUT.room_of(LAYOUT.module_name(path))
        for _, name in LAYOUT.imported_names(path, text):
            top, _, rest = name.partition(".")
            there = rest.partition(".")[0]
            if top == PACKAGE:
                imports[here].add(there if there in rooms else PACKAGE)
    return {room: found - {room} for room, found in imports.items()}


def packages(texts: dict[str, str]) -> dict[str, str]:
    """First line of the docstring of every room and of the rooms within it, by its path below src/chipvi."""
    found = {}
    for path, text in texts.items():
        if Path(path).name == "__init__.py" or "/" not in path:
            lines = (ast.get_docstring(ast.parse(text)) or "").splitlines() or [""]
            found[path.removesuffix("__init__.py")] = lines[0]
    return found


def table(texts: dict[str, str]) -> str:
    """The rooms from the top floor to the ground, what each is for, and the rooms that it imports."""
    imports, purpose = read_imports(texts), packages(texts)
    order = {room: (-row, place) for row, rooms in enumerate([GROUND, *FLOORS]) for place, room in enumerate(rooms)}
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    rooms = {path: LAYOUT.room_of(LAYOUT.module_name(path or "__init__.py")) for path in purpose}
    for path in sorted(rooms, key=lambda path: (*order.get(rooms[path], (0, 0)), path)):
        is_within = path.count("/") > 1
        found = sorted(imports[rooms[path]] - set(GROUND), key=lambda room: order.get(room, (0, 0)))
        shown = "" if is_within else ", ".join(f"`{room}`" for room in found)
        label = "__init__.py" if path == "" else path
        lines.append(f"| [`{label}`](src/chipvi/{label}) | {purpose[path]} | {shown} |")
    return "\n".join(lines)


def page_with(text: str, new: str) -> str:
    """A page with another table between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"


def is_current() -> bool:
    """Whether the table in ARCHITECTURE.md is that of the code."""
    text = PAGE.read_text("utf-8")
    return page_with(text, table(sources())) == text


def reduce(imports: Graph) -> Graph:
    """The imports that do not follow from others: of a -> b -> c and a -> c, the last goes without saying."""
    below: Graph = {}

    def reach(room: str) -> set[str]:
        if room not in below:
            below[room] = imports[room].union(*(reach(other) for other in imports[room]))
        return below[room]

    return {room: {b for b in found if not any(b in reach(c) for c in found)} for room, found in imports.items()}


# --- the picture ---

WIDTH, STEP, HEIGHT, GAP, MARGIN = 800, 64, 34, 34, 12  # in pixels
PER_LINE, LEAST = 0.075, 92  # width of a room, by its lines of code
INK, EDGE, FILL, ARROW, LONG = "#22303c", "#5f7d99", "#e9f0f6", "#5f7d99", "#a9bccd"


class Drawing:
    """Rooms on their floors, the highest first, and a chain of places for every arrow: one on each floor it passes.

    Parameters
    ----------
    floors
        Rooms by floor.
    imports
        What to draw as arrows.
    widths
        Of the rooms.
    """

    def __init__(self, floors: list[list[str]], imports: Graph, widths: dict[str, float]) -> None:
        self.widths = dict(widths)
        self.floors = [list(rooms) for rooms in floors]
        floor_of = {room: floor for floor, rooms in enumerate(floors) for room in rooms}
        self.chains = []
        for upper in floor_of:
            for lower in sorted(imports[upper], key=list(floor_of).index):
                passed = [f"{upper}>{lower}@{floor}" for floor in range(floor_of[upper] + 1, floor_of[lower])]
                for floor, name in enumerate(passed, floor_of[upper] + 1):
                    self.floors[floor].append(name)
                    self.widths[name] = 0.0
                self.chains.append([upper, *passed, lower])
        self.x = {name: WIDTH / 2 for names in self.floors for name in names}
        for _ in range(12):
            self._settle(self.floors[1:], is_down=True)
            self._settle(self.floors[-2::-1], is_down=False)

    def _settle(self, floors: list[list[str]], is_down: bool) -> None:
        """Move what is on these floors to the middle of its neighbours on the floor before."""
        neighbours: dict[str, list[str]] = {}
        for chain in self.chains:
            for upper, lower in pairwise(chain):
                here, there = (lower, upper) if is_down else (upper, lower)
                neighbours.setdefault(here, []).append(there)
        for names in floors:
            wanted = {name: _mean([self.x[n] for n in neighbours.get(name, [name])]) for name in names}
            names.sort(key=lambda name: wanted[name])
            self._spread(names, wanted)

    def _spread(self, names: list[str], wanted: dict[str, float]) -> None:
        """Place a floor from left to right without overlaps, on average where its rooms want to be."""
        left, places = 0.0, []
        for name in names:
            half = self.widths[name] / 2
            places.append(max(left + half, wanted[name]))
            left = places[-1] + half + GAP
        shift = _mean([wanted[name] - place for name, place in zip(names, places, strict=True)])
        first = places[0] + shift - self.widths[names[0]] / 2
        last = places[-1] + shift + self.widths[names[-1]] / 2
        shift += max(0, MARGIN - first) - max(0, last - (WIDTH - MARGIN))
        self.x.update({name: place + shift for name, place in zip(names, places, strict=True)})

    @property
    def reach(self) -> Point:
        """Left and right end: a floor may be wider than all should be."""
        left = min(x - self.widths[name] / 2 for name, x in self.x.items())
        right = max(x + self.widths[name] / 2 for name, x in self.x.items())
        return min(left - MARGIN, 0), max(right + MARGIN, WIDTH)

    def draw(self, ax: Axes) -> None:
        """Draw arrows below rooms."""
        y = {name: floor * STEP for floor, names in enumerate(self.floors) for name in names}
        for chain in self.chains:
            self._draw_arrow(ax, [(self.x[name], y[name]) for name in chain])
        for name, width in self.widths.items():
            if width:
                _draw_box(ax, self.x[name], y[name], width, name)

    @staticmethod
    def _draw_arrow(ax: Axes, points: list[Point]) -> None:
        """Curve between floors, and pass a floor straight down."""
        vertices, codes = [(points[0][0], points[0][1] + HEIGHT / 2)], [Curve.MOVETO]
        for x, y in points[1:]:
            (before, start), end = vertices[-1], y - HEIGHT / 2
            middle = (start + end) / 2
            vertices += [(before, middle), (x, middle), (x, end), (x, y + HEIGHT / 2)]
            codes += [Curve.CURVE4] * 3 + [Curve.LINETO]
        x, tip = vertices[-2]
        vertices[-2:] = [(x, tip - 6)]  # the head covers the end
        colour = ARROW if len(points) == 2 else LONG
        ax.add_patch(PathPatch(Curve(vertices, codes[:-1]), edgecolor=colour, facecolor="none", linewidth=1.3))
        ax.fill([x - 4, x + 4, x], [tip - 7, tip - 7, tip], color=colour, linewidth=0)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _draw_box(ax: Axes, x: float, y: float, width: float, text: str, height: float = HEIGHT) -> None:
    corner = (x - width / 2, y - height / 2)
    box = FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=6", facecolor=FILL, edgecolor=EDGE)
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", color=INK, fontsize=12)


def draw(texts: dict[str, str], path: Path) -> None:
    """Write the picture; equal code gives an equal file."""
    matplotlib.rcParams["svg.hashsalt"] = path.name
    imports = read_imports(texts)
    above = [[room for room in rooms if room != "__main__"] for rooms in reversed(FLOORS)]
    floors = [rooms for rooms in above if rooms]
    lines = {room: 0 for rooms in floors for room in rooms}
    for name, text in texts.items():
        room = LAYOUT.room_of(LAYOUT.module_name(name))
        if room in lines:
            lines[room] += len(text.splitlines())
    shown = reduce({room: imports[room] & lines.keys() for room in lines})
    drawing = Drawing(floors, shown, {room: max(LEAST, PER_LINE * number) for room, number in lines.items()})
    (left, right), height = drawing.reach, (len(floors) + 1) * STEP
    figure = Figure(figsize=((right - left) / 100, height / 100), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(left, right)
    ax.set_ylim(height - STEP / 2, -STEP / 2)
    ax.axis("off")
    drawing.draw(ax)
    ground = f"{',  '.join(GROUND)}\nany room may import these"
    _draw_box(ax, (left + right) / 2, len(floors) * STEP, right - left - 2 * MARGIN, ground, 1.4 * HEIGHT)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Write the table and the picture, or only check the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the table is out of date")
    if parser.parse_args().check:
        if is_current():
            return 0
        print("ARCHITECTURE.md is out of date: run `python docs/images/rooms.py`.", file=sys.stderr)
        return 1
    texts = sources()
    PAGE.write_text(page_with(PAGE.read_text("utf-8"), table(texts)), "utf-8")
    draw(texts, Path(__file__).with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
