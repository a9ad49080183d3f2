"""Runs the command line again and again, in forks of a process that has imported all there is, which takes seconds.

A line of JSON on standard input starts one: `argv`, `folder`, and perhaps `limit`, the bytes that a file may have. The
answer is its process id; a line with that id as `wait` is answered with its exit status, as of subprocess.
"""

import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path

from chipvi.__main__ import main
from chipvi.predict import imputation, predictor
from chipvi.train import checkpoint


def run(argv: list[str], folder: str, limit: int | None = None) -> None:
    os.setsid()  # so that a signal can go to it and the processes that it starts, as from a terminal
    stdout = Path(folder, "stdout") if limit is None else os.devnull  # tables may be longer
    for number, file in enumerate((os.devnull, stdout, Path(folder, "stderr"))):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    work = Path(folder, "work")
    os.chdir(work)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["chipvi", *argv]
    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    for name in (
        "chipvi.cli.app",
        "chipvi.model.chipvi",
        "chipvi.compare.comparison",
        "chipvi.report.contents",
        "torch",
    ):
        import_module(name)
    checkpoint._SECONDS = 0.0  # a checkpoint after every step, for trainings are short here
    predictor._MOST_REGIONS, imputation._MOST_ENTRIES = 64, 1  # several stretches of few regions
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        elif not (answer := os.fork()):
            run(**asked)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
