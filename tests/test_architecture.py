"""The map of the code and the rules for those who change it name rooms, files, functions and commands that exist."""

import ast
import re
import runpy
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "chipvi"
MAP, RULES = ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"
PAGES = [MAP, RULES, *sorted((ROOT / ".github").rglob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
PICTURE = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "images" / "rooms.py")))
SUFFIXES = ("cff", "csv", "md", "py", "svg", "toml", "txt", "yml")


def read(page: Path) -> str:
    return page.read_text("utf-8")


def sections(page: Path) -> dict[str, str]:
    """Text below each heading of the second level."""
    _, *parts = re.split(r"^## (.*)$", read(page), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))


def members(body: list[ast.stmt]) -> Iterator[str]:
    """Names that a file or a class defines: functions, classes and their own, constants and fields."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in members(node.body))
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name))


@cache
def parsed() -> dict[str, ast.Module]:
    return {path.relative_to(SOURCE).as_posix(): ast.parse(read(path)) for path in SOURCE.rglob("*.py")}


@cache
def identifiers() -> frozenset[str]:
    """Every name in the package: of functions, classes, arguments, attributes and variables."""
    found = set()
    for node in (node for tree in parsed().values() for node in ast.walk(tree)):
        for field in ("name", "arg", "attr", "id"):
            if isinstance(name := getattr(node, field, None), str):
                found.add(name)
    return frozenset(found)


@cache
def methods() -> frozenset[str]:
    """`Class.member` for every class of the package, members of its bases included."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for node in (node for tree in parsed().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        own.setdefault(node.name, set()).update(members(node.body))
        bases.setdefault(node.name, set()).update(base.id for base in node.bases if isinstance(base, ast.Name))

    def all_of(name: str) -> set[str]:
        return own.get(name, set()).union(*(all_of(base) for base in bases.get(name, set())))

    return frozenset(f"{name}.{member}" for name in own for member in all_of(name))


def is_file(path: str) -> bool:
    return any((folder / path).is_file() for folder in (SOURCE, ROOT))


def fault(span: str) -> str | None:
    """Why a span of a page names something that does not exist, or None; None too for spans that name no code."""
    if found := re.fullmatch(r"([\w./-]+\.py): ([\w.]+)", span):
        path, name = found.groups()
        tree = parsed().get(path)
        if tree is None:
            return f"there is no src/chipvi/{path}"
        return None if name in set(members(tree.body)) else f"{path} defines no {name}"
    if re.fullmatch(rf"[\w./-]+\.({'|'.join(SUFFIXES)})", span):
        return None if is_file(span) else f"there is no file {span}"
    if found := re.match(r"(?:\.venv/bin/)?python ([\w./]+\.py)", span):
        return None if is_file(found[1]) else f"there is no script {found[1]}"
    if found := re.fullmatch(r"chipvi\.(\w+)(\.\w+)?(\(.*\))?", span):
        has = hasattr(import_module("chipvi"), found[1])
        return None if has else f"chipvi has no {found[1]}"
    if found := re.fullmatch(r"([A-Z]\w+\.\w+)(\(.*\))?", span):
        return None if found[1] in methods() else f"no class of chipvi has {found[1]}"
    return None


@every_page
def test_whatever_a_page_names_exists(page):
    assert [reason for span in spans(read(page)) if (reason := fault(span))] == []


@pytest.mark.parametrize(
    "section", [title for title in sections(MAP) if title.startswith(("The life of", "Where do I", "What is promised"))]
)
def test_a_bare_word_in_code_is_a_name_of_the_package(section):
    words = [span for span in spans(sections(MAP)[section]) if re.fullmatch(r"[A-Za-z_]\w*", span)]
    folders = {"benchmarks", "chipvi", *(path.name for path in SOURCE.iterdir())}
    elsewhere = {"LossOutput", "ROWS"}  # of scvi-tools, and of tests/test_layout.py
    assert set(words) - identifiers() - folders - elsewhere == set()


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ("data/track_data.py: TrackData.raed", "data/track_data.py defines no TrackData.raed"),
        ("data/trackdata.py: TrackData", "there is no src/chipvi/data/trackdata.py"),
        ("tests/test_rooms.py", "there is no file tests/test_rooms.py"),
        ("python docs/rooms.py --check", "there is no script docs/rooms.py"),
        ("chipvi.plot", "chipvi has no plot"),
        ("ChipVI.imputed", "no class of chipvi has ChipVI.imputed"),
    ],
)
def test_a_name_that_does_not_exist_is_found(span, reason):
    assert fault(span) == reason


@pytest.mark.parametrize(
    "span",
    [
        "data/track_data.py: TrackData.read",
        "nn/_heads.py: COUNT_HEADS",
        "module/inputs.py: Example.truth",
        "Makefile",
        "tests/test_layout.py",
        "ChipVI.impute",
        "chipvi.io",
        "chipvi count",
        "make test",
    ],
)
def test_a_name_that_exists_passes(span):
    assert fault(span) is None


def table_of(section: str) -> list[list[str]]:
    """Cells of the rows of a section's table, without its head."""
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def test_every_room_has_its_line_with_the_first_sentence_of_its_docstring():
    expected = {}
    for path in SOURCE.rglob("*.py"):
        if path.parent == SOURCE or path.name == "__init__.py":
            label = path.relative_to(SOURCE).as_posix()
            label = label if path.parent == SOURCE else label.removesuffix("__init__.py")
            first, *_ = (ast.get_docstring(ast.parse(read(path))) or "").splitlines()
            expected[label] = first
    rows = table_of(sections(MAP)["The rooms"])
    lines = {re.fullmatch(r"\[`(.*)`\]\(src/chipvi/\1\)", room)[1]: purpose for room, purpose, _ in rows}
    assert lines == expected
    assert len(lines) == len(rows)


def test_the_table_of_rooms_is_written_anew_after_a_change():
    assert PICTURE.is_current(), "run `python docs/images/rooms.py`"


def test_the_picture_has_every_room():
    svg = read(ROOT / "docs" / "images" / "rooms.svg")
    shown = {word.strip(":,") for comment in re.findall(r"<!-- (.*?) -->", svg) for word in comment.split()}
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} <= shown


def test_the_picture_is_the_same_twice(tmp_path):
    first, second = [tmp_path / name / "rooms.svg" for name in ("a", "b")]
    for path in (first, second):
        path.parent.mkdir()
        PICTURE.draw(PICTURE.sources(), path)
    assert first.read_bytes() == second.read_bytes()


def test_imports_are_those_between_rooms_wherever_they_stand():
    texts = {
        "__init__.py": "from .top import f",
        "low.py": "import numpy",
        "mid/__init__.py": "",
        "mid/inner.py": "from ..low import x\nfrom . import other",
        "mid/other.py": "def f():\n    from .. import low",
        "top.py": "if TYPE_CHECKING:\n    from .mid.inner import x\nfrom . import __version__",
    }
    found = PICTURE.read_imports(texts)
    assert found == {"chipvi": {"top"}, "low": set(), "mid": {"low"}, "top": {"mid", "chipvi"}}


def test_arrows_that_follow_from_others_are_left_out_and_no_others():
    imports = {"e": {"d", "b", "a"}, "d": {"c", "a"}, "c": {"a"}, "b": {"a"}, "a": set()}
    assert PICTURE.reduce(imports) == {"e": {"d", "b"}, "d": {"c"}, "c": {"a"}, "b": {"a"}, "a": set()}


def test_what_lies_on_a_floor_does_not_overlap_and_stays_within_the_picture():
    floors = [["a"], ["b", "c"], ["d", "e", "f"]]
    imports = {"a": {"b", "c", "f"}, "b": {"d", "e"}, "c": {"e"}, "d": set(), "e": set(), "f": set()}
    widths = {"a": 90.0, "b": 300.0, "c": 110.0, "d": 100.0, "e": 150.0, "f": 95.0}
    drawing = PICTURE.Drawing(floors, imports, widths)
    assert sorted(map(len, drawing.floors)) == [1, 3, 3]  # the arrow from a to f passes between b and c or beside them
    for names in drawing.floors:
        ends = [(drawing.x[n] - drawing.widths[n] / 2, drawing.x[n] + drawing.widths[n] / 2) for n in names]
        assert all(right <= left for (_, right), (left, _) in zip(ends, ends[1:], strict=False))
        assert ends[0][0] >= 0
        assert ends[-1][1] <= PICTURE.WIDTH
    assert drawing.reach == (0, PICTURE.WIDTH)


def test_a_floor_that_is_wider_than_the_picture_makes_it_wider():
    widths = {"a": 90.0, "b": 500.0, "c": 400.0}
    drawing = PICTURE.Drawing([["a"], ["b", "c"]], {"a": {"b", "c"}, "b": set(), "c": set()}, widths)
    left, right = drawing.reach
    assert right - left >= 500 + 400 + PICTURE.GAP + PICTURE.MARGIN
    assert all(left < drawing.x[n] - w / 2 and drawing.x[n] + w / 2 < right for n, w in widths.items())


def test_the_order_of_rooms_is_that_of_the_layout():
    (block,) = re.findall(r"^ {4}ground -> .*(?:\n {4,}-> .*)*", sections(MAP)["The rooms"], flags=re.M)
    ground, *floors = [tuple(name.strip() for name in floor.split(",")) for floor in block.split("->")]
    _, *expected = [rooms for rooms, _ in PICTURE.LAYOUT.ROWS]
    assert ground == ("ground",)
    assert floors == expected


def test_whoever_asks_where_gets_a_file_and_what_complains():
    rows = table_of(sections(MAP)["Where do I ...?"])
    assert len(rows) >= 10
    for what, files, complains in rows:
        assert any(is_file(span.partition(":")[0]) for span in spans(files)) or what == "a room", what
        assert complains.startswith("nothing") or any(s.startswith("tests/") for s in spans(complains)), what


def test_every_axis_of_the_table_is_in_use():
    letters = [letter for row in table_of(sections(MAP)["Axes"]) for letter in spans(f"{row[0]} {row[2]}")]
    assert len(letters) == len(set(letters)) >= 15
    suffixes = {name.rpartition("_")[2] for name in identifiers() if "_" in name.strip("_")}
    axes = {suffix for suffix in suffixes if set(suffix) <= set(letters)}
    assert [letter for letter in letters if not any(letter in axis for axis in axes)] == []


@every_page
def test_every_link_of_a_page_leads_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", read(page)) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


@every_page
def test_every_target_of_make_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), flags=re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", read(page), flags=re.M))
    assert named <= targets
    assert page != RULES or named == {"env", "test", "lint", "docs", "notebooks", "tutorials", "dist", "distclean"}


def examples(page: Path) -> list[tuple[str, str]]:
    """File and passage of every block of Python, whose first line names the file."""
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```", read(page), flags=re.M | re.S)
    return [re.fullmatch(r"# (\S+)\n(.*)", dedent(text), flags=re.S).groups() for _, text in blocks]


@pytest.mark.parametrize(("path", "passage"), examples(RULES), ids=[path for path, _ in examples(RULES)])
def test_an_example_of_style_is_code_of_this_repository(path, passage):
    lines, wanted = [line.strip() for line in read(ROOT / path).splitlines()], [x.strip() for x in passage.splitlines()]
    assert any(lines[start : start + len(wanted)] == wanted for start in range(len(lines)))


def test_the_citation_has_the_version_of_the_last_release_or_of_the_first_to_come():
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", read(ROOT / "CHANGELOG.md"), flags=re.M)
    fallback = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["hatch"]["version"]["fallback-version"]
    expected = released[0] if released else fallback.removesuffix(".dev0")
    assert re.findall(r"^version: (.*)$", read(ROOT / "CITATION.cff"), flags=re.M) == [expected]
