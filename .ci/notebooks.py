"""Run every tutorial from top to bottom in another folder, and fail if one does; with --keep, keep their outputs."""

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"


def run(notebook: Path, out: Path) -> tuple[float, str | None]:
    """Execute one notebook and write it, with its outputs, to `out`; the seconds, and what went wrong or None."""
    start = time.monotonic()
    book = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        book,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(out)}},
        extra_arguments=["--InlineBackend.figure_formats=retina"],
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return time.monotonic() - start, str(error)
    finally:
        nbformat.write(book, out / notebook.name)
    return time.monotonic() - start, None


def shrink(png: str) -> str:
    """A picture at most 1,600 wide and with 128 colours, as notebooks hold it."""
    picture, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.thumbnail((1_600, 1_600))
    picture.quantize(128).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def is_seen(output: nbformat.NotebookNode) -> bool:
    """Whether an output is for a reader: no message to stderr, and no bar that has gone."""
    return output.get("name") != "stderr" and output.get("data", {}).get("text/plain", "shown").strip() != ""


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs with what was printed in a row in one piece."""
    whole: list[nbformat.NotebookNode] = []
    for output in outputs:
        if whole and "text" in output and "text" in whole[-1]:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def tidy(book: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with what readers look at: no times, no `folder` that it ran in, no bars, small pictures."""
    book.metadata.language_info = {"name": "python"}
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        cell.metadata.pop("execution", None)
        cell.outputs = joined([output for output in cell.outputs if is_seen(output)])
        for output in cell.outputs:
            if "text" in output:
                output.text = re.sub(r".*\r(?!\n)", "", output.text).replace(f"{folder}{os.sep}", "")
            if "image/png" in (data := output.get("data", {})):
                data["image/png"] = shrink(data["image/png"])
    return book


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to keep the executed notebooks in (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="train in full, and write the outputs into the notebooks")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to run (default: all tutorials)")
    options = parser.parse_args()
    if not options.keep:
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
            if options.keep and not error:
                nbformat.write(tidy(nbformat.read(out / notebook.name, as_version=4), out), notebook)
            if error:
                failed.append(notebook.name)
                print(error, file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(notebooks)} notebooks failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
