"""Run every tutorial from top to bottom in another folder, and fail if one of them does; the files do not change."""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"


def run(notebook: Path, out: Path) -> tuple[float, str | None]:
    """Execute one notebook and write it, with its outputs, to `out`; the seconds, and what went wrong or None."""
    start = time.monotonic()
    book = nbformat.read(notebook, as_version=4)
    client = NotebookClient(book, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(out)}})
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return time.monotonic() - start, str(error)
    finally:
        nbformat.write(book, out / notebook.name)
    return time.monotonic() - start, None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to keep the executed notebooks in (default: a temporary one)")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to run (default: all tutorials)")
    options = parser.parse_args()
    os.environ.setdefault("CHIPVI_TUTORIAL_STEPS", "250")  # of tutorials that train many models
    os.environ.setdefault("CHIPVI_SHARED_DATA", str(TUTORIALS.parents[1] / "shared" / "data"))  # may be absent
    # modules beside the notebooks are found as if they ran where they lie
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TUTORIALS), os.environ.get("PYTHONPATH")]))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # finds `chipvi`

    notebooks = options.notebooks or sorted(TUTORIALS.glob("*.ipynb"))
    if not notebooks:
        print(f"no notebooks found in {TUTORIALS.name}/")
        return 1
    failed = []
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(os.cpu_count()) as pool:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        for notebook, (seconds, error) in zip(notebooks, pool.map(partial(run, out=out), notebooks), strict=True):
            print(f"{notebook.name}: {'FAILED' if error else 'ok'}, {seconds:.0f} s", flush=True)
            if error:
                failed.append(notebook.name)
                print(error, file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(notebooks)} notebooks failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
