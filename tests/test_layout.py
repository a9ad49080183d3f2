"""The layout that every part relies on: who may import whom, how long a file may be, what an import may touch."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import chipvi

SOURCE = Path(__file__).resolve().parent.parent / "src" / "chipvi"

# A room never imports one of a later row, nor, but for the ground, another room of its own row.
# A room is a file or a folder right under src/chipvi; `chipvi` is its __init__.py, which only the command line imports.
ROWS = (
    (
        ("_keys", "_messages", "_arguments", "_docstrings", "_files", "_quiet", "_signals", "_workers"),
        "ground: names, wording, checks, atomic files, workers",
    ),
    (("metrics", "nn", "datasets"), "scores, layers and example data, which stand alone"),
    (("data",), "what an AnnData holds"),
    (("io", "module"), "files in and out; the network"),
    (
        ("train", "evaluate", "differential"),
        "how the network learns; how predictions are judged; tests of what differs",
    ),
    (("predict",), "answers of a trained module"),
    (("calibrate",), "what is learnt after training"),
    (("model",), "the model as users know it"),
    (("tl",), "answers beyond tracks: chromatin states"),
    (("pl",), "pictures"),
    (("compare", "report"), "heads side by side; a page for a lab meeting"),
    (("chipvi",), "the public names"),
    (("cli",), "the command line"),
    (("__main__",), "python -m chipvi"),
)
ROW = {room: row for row, (rooms, _) in enumerate(ROWS) for room in rooms}

MAY_IMPORT_SCVI = (
    "chipvi.nn._distributions",
    "chipvi.nn._heads",
    "chipvi.module",
    "chipvi.train",
    "chipvi.model",
)
# The only libraries that these rooms know, so that they stay quick to import and easy to reuse.
LIBRARIES = {"_keys": set(), "metrics": {"numpy", "pandas", "scipy"}}


def module_name(path: str) -> str:
    """Dotted name of a file given relative to src/chipvi."""
    parts = Path("chipvi", path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room that a module of chipvi belongs to: its second name, or `chipvi` for the package itself."""
    return module.split(".")[1] if "." in module else module


def imported_names(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a file imports, wherever in the file it does."""
    package = Path("chipvi", path).parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_inside(name: str, modules: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def wrong_import(importer: str, name: str, rooms: set[str]) -> str | None:
    """Why `importer` may not import `name`, or None; `rooms` tells submodules of chipvi from mere names in it."""
    top, _, rest = name.partition(".")
    here = room_of(importer)
    if top != "chipvi":
        if top == "scvi" and not is_inside(importer, MAY_IMPORT_SCVI):
            return "only the model's own rooms know scvi"
        if here in LIBRARIES and top not in LIBRARIES[here] | sys.stdlib_module_names:
            return f"{here} knows no library but {sorted(LIBRARIES[here])}"
        return None
    there = rest.split(".")[0] if rest.split(".")[0] in rooms else "chipvi"
    if there == here:
        return None
    if here == "metrics":
        return None if there == "_arguments" else "metrics stands alone"
    if here not in ROW or there not in ROW:
        return None  # reported once, as a room without a row
    if ROW[there] > ROW[here]:
        return f"{there} lies to the right of {here}"
    if ROW[there] == ROW[here] > 0:
        return f"{there} and {here} lie side by side"
    return None


def violations(sources: dict[str, str]) -> list[str]:
    """Every breach of the layout in files given as {path relative to src/chipvi: text}."""
    found = []
    rooms = {room_of(module_name(path)) for path in sources} | set(ROW)
    for path, text in sources.items():
        importer = module_name(path)
        if room_of(importer) not in ROW:
            found.append(f"{path}: add {room_of(importer)!r} to a row of ROWS in tests/test_layout.py")
        for line, name in imported_names(path, text):
            reason = wrong_import(importer, name, rooms)
            if reason:
                found.append(f"{path}:{line} imports {name}: {reason}")
    return found


def test_the_package_keeps_its_layout():
    sources = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    assert "__init__.py" in sources
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("nn/_heads.py", "from ..module import ChipVAE", id="relative, to the right"),
        pytest.param("nn/_heads.py", "from .. import module", id="relative, the room as a name"),
        pytest.param("nn/_heads.py", "import chipvi.module", id="absolute, to the right"),
        pytest.param("nn/_heads.py", "from chipvi import module", id="absolute, the room as a name"),
        pytest.param("nn/__init__.py", "from ..module import ChipVAE", id="from a package's own file"),
        pytest.param("module/vae.py", "def f():\n    from ..train import plan", id="inside a function"),
        pytest.param("_keys.py", "if TYPE_CHECKING:\n    from .model import ChipVI", id="for types only"),
        pytest.param("io/genomes.py", "from ..module import ChipVAE", id="side by side"),
        pytest.param("model/query.py", "from .. import ChipVI", id="the package itself, relative"),
        pytest.param("model/query.py", "import chipvi", id="the package itself, absolute"),
        pytest.param("model/query.py", "from chipvi import *", id="the package itself, starred"),
        pytest.param("pl/_tracks.py", "from ..cli import app", id="the command line"),
        pytest.param("io/sheets/assemble.py", "import scvi", id="scvi outside the model"),
        pytest.param("nn/_coders.py", "from scvi.nn import FCLayers", id="scvi elsewhere in nn"),
        pytest.param("nn/_distributions_extra.py", "import scvi", id="scvi in a file with a longer name"),
        pytest.param("metrics/_counts.py", "import torch", id="metrics, torch"),
        pytest.param("metrics/_counts.py", "from .. import _keys", id="metrics, another room"),
        pytest.param("_keys.py", "import numpy", id="keys, numpy"),
    ],
)
def test_a_breach_is_found(path, text):
    assert [found.partition(":")[0].partition(" ")[0] for found in violations({path: text})] == [path]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("module/vae.py", "from ..nn._heads import MeanDispersion\nimport chipvi.nn", id="to the left"),
        pytest.param("nn/_heads.py", "from . import _coders\nfrom ._coders import Coder", id="inside one package"),
        pytest.param("_files.py", "from ._messages import listed", id="inside the ground"),
        pytest.param("__init__.py", "from . import pl\nfrom .model import ChipVI", id="the package gathers its rooms"),
        pytest.param("cli/app.py", "from .. import ChipVI, __version__, pl", id="the command line uses the package"),
        pytest.param("train/plan.py", "import scvi.train", id="scvi in the model"),
        pytest.param("metrics/_counts.py", "import math\nimport scipy.stats\nfrom ._tables import table", id="metrics"),
    ],
)
def test_what_the_layout_allows_passes(path, text):
    assert violations({path: text}) == []


def test_a_room_without_a_row_is_told_where_to_go():
    (found,) = violations({"utils.py": "from .model import ChipVI"})
    assert found == "utils.py: add 'utils' to a row of ROWS in tests/test_layout.py"


def test_no_file_imports_itself_by_way_of_others():
    sources = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    modules = {module_name(path): path for path in sources}
    above = {}
    for module, path in modules.items():
        names = {name for _, name in imported_names(path, sources[path])}
        above[module] = {n if n in modules else n.rpartition(".")[0] for n in names} & modules.keys() - {module}
        # the package's own file gathers public names; who needs the version from it is not part of a circle
        above[module].discard("chipvi")
    list(TopologicalSorter(above).static_order())  # raises CycleError, and names the circle


# Runs the first argument, then tells what the second one changed in the process or reached outside of it.
WATCH = """
import json, pkgutil, sys
reached = set()
sys.addaudithook(lambda event, _: reached.add(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
import numpy, torch

def state():
    return {
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "default device": str(torch.get_default_device()),
        "default dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": numpy.random.get_state()[1].tolist(),
        "validation": torch.distributions.Distribution._validate_args,
    }

exec(sys.argv[1])
before = state()
exec(sys.argv[2])
print(json.dumps(sorted([name for name, value in state().items() if value != before[name]] + list(reached))))
"""
IMPORT_ALL = """
import chipvi
for found in pkgutil.walk_packages(chipvi.__path__, "chipvi."):
    if not found.name.endswith("__main__"):
        __import__(found.name)
"""
MEDDLE = """
import socket
torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(True)
torch.rand(1)
socket.getaddrinfo("127.0.0.1", 80)
"""


def changed_by(statements: str, first: str = "") -> list[str]:
    run = subprocess.run([sys.executable, "-c", WATCH, first, statements], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_every_room_changes_nothing_in_torch_and_needs_no_network():
    # scvi goes first: it sets cudnn.benchmark by itself, and what the host does is not ours to hide
    assert changed_by(IMPORT_ALL, first="import scvi") == []


def test_a_meddling_import_is_found():
    assert changed_by(MEDDLE) == ["default dtype", "deterministic", "socket.getaddrinfo", "torch random state"]


# Runs the argument, then tells which libraries that take seconds it imported.
WEIGH = """
import json, sys
exec(sys.argv[1])
print(json.dumps(sorted({"lightning", "matplotlib", "scanpy", "scvi", "torch"} & set(sys.modules))))
"""
COMMAND = """
from chipvi.cli import app
try:
    app({})
except SystemExit as end:
    assert not end.code, end
"""


def heavy_after(statements: str, folder: Path) -> list[str]:
    run = subprocess.run([sys.executable, "-c", WEIGH, statements], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("import chipvi.io, chipvi.metrics, chipvi.datasets", id="what needs no model"),
        pytest.param("from chipvi.io.counting import files\nfrom chipvi.io.bigwigs import read", id="worker processes"),
        pytest.param(COMMAND.format(["--help"]), id="help"),
        pytest.param(COMMAND.format(["train", "--help"]), id="help of a command"),
        pytest.param(COMMAND.format(["count", "s.csv", "-o", "x.zarr", "--regions", "r.bed", "--dry-run"]), id="count"),
    ],
)
def test_what_needs_no_model_does_not_wait_for_torch(statements, tmp_path):
    (tmp_path / "r.bed").write_text("chr1\t0\t800\n")
    (tmp_path / "reads.bed").write_text("chr1\t10\t46\t.\t0\t+\n")
    (tmp_path / "s.csv").write_text("biosample,assay,file\nK562,CTCF,reads.bed\n")
    assert heavy_after(statements, tmp_path) == []


def test_all_that_is_public_is_there_without_being_imported_first(tmp_path):
    look = "import chipvi\nassert set(chipvi.__all__) <= set(dir(chipvi))\nfor n in chipvi.__all__: getattr(chipvi, n)"
    use = "chipvi.train.TrainingAdvice, chipvi.nn.COUNT_HEADS"
    assert {"lightning", "scvi", "torch"} <= set(heavy_after(f"{look}\n{use}", tmp_path))
    with pytest.raises(AttributeError, match="module 'chipvi' has no attribute 'chipvy'"):
        chipvi.chipvy  # noqa: B018
