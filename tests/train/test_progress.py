"""What is shown while training goes on: a named bar for each phase, lines where there is no terminal, no chatter."""

import io
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
from rich.console import Console

import chipvi
from chipvi import _quiet, _workers
from chipvi.calibrate.holdout import choose_held_out
from chipvi.train.progress import StepProgress

PHASES = ["Training", "Boosted trees", "Calibration 1 of 2", "Calibration 2 of 2"]


def trainer(step: int = 0, is_first: bool = True) -> Any:
    return SimpleNamespace(global_step=step, is_global_zero=is_first)


@pytest.fixture
def screen(monkeypatch) -> io.StringIO:
    """What a terminal of 80 columns is sent."""
    file = io.StringIO()
    monkeypatch.setattr(
        _workers, "Console", lambda **_: Console(file=file, force_terminal=True, width=80, color_system=None)
    )
    return file


@pytest.fixture
def lines(monkeypatch) -> list[str]:
    """What is printed beside results, as lines; time moves on by a second whenever it is looked at."""
    printed: list[str] = []
    clock = iter(range(10**6))
    monkeypatch.setattr(_workers, "print_aside", printed.append)
    monkeypatch.setattr(_workers, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    return printed


def train(bar: StepProgress, n_steps: int, first: int = 0) -> None:
    bar.on_train_start(trainer(first), None)
    for step in range(first, n_steps):
        bar.on_train_batch_end(trainer(step + 1), None, None, step)
    bar.teardown(trainer(n_steps), None, "fit")


def shown(screen: io.StringIO) -> list[str]:
    """Lines of the terminal, without its codes."""
    return [line.strip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()))]


def test_a_training_has_its_name_as_it_is_written(screen):
    train(StepProgress("Learning [/x]", 7), 7)
    assert "Learning [/x]" in screen.getvalue() and "7 of 7 steps" in screen.getvalue()


def test_a_training_that_goes_on_begins_at_its_step(screen):
    train(StepProgress("Training", 9), 9, first=6)
    assert "6 of 9 steps" in screen.getvalue() and "0 of 9" not in screen.getvalue()


def test_a_bar_keeps_within_80_columns_however_long_the_numbers(screen):
    with _workers.progress_bar("Calibration 2 of 2", 15_437_650, "regions") as show:
        show(12_345_678)
    widths = [len(line) for line in shown(screen)]
    assert 60 < max(widths) <= 80
    assert any("12,345,678 of 15,437,650 regions" in line for line in shown(screen))


def test_without_a_terminal_there_is_a_line_every_half_minute(lines):
    train(StepProgress("Training", 100), 100)
    # a second a step, and one at the start: lines at second 30, 60 and 90
    assert lines == [
        "Training: 30 of 100 steps, 70 s left",
        "Training: 60 of 100 steps, 40 s left",
        "Training: 90 of 100 steps, 10 s left",
    ]


def test_lines_count_bytes_in_megabytes_and_what_was_there_before(lines, monkeypatch):
    monkeypatch.setattr(_workers, "_LINE_SECONDS", 1.0)
    with _workers.progress_bar("Counting", 9_000_000_000, "bytes", done=3_000_000_000) as show:
        show(1_000_000)  # after a second, 5,999 MB are left
    assert lines == ["Counting: 3,001 of 9,000 MB, 100 min left".replace("100 min", "1 h 40 min")]


def test_nothing_else_makes_bars():
    # but by way of progress_bar, which can be silenced, prints lines in a log and keeps within the terminal
    sources = Path(chipvi.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if re.search(r"rich\.progress|tqdm", path.read_text("utf-8"))] == [
        "_workers.py"
    ]


def test_a_long_prediction_has_a_bar_on_a_terminal_that_goes(model, screen):
    model.get_imputed_counts(batch_size=10)  # 280 regions
    assert "28 of 28 batches" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[1A\x1b[2K")  # up a line, which is wiped


def test_a_long_prediction_prints_lines_in_a_log(model, lines):
    model.get_imputed_counts(batch_size=7)  # a second a batch
    assert lines == ["Predicting: 30 of 40 batches, 10 s left"]


def test_heads_that_are_compared_print_lines_in_a_log(lines):
    adata = chipvi.datasets.simulate(n_regions=600, n_biosamples=2, n_assays=3)
    chipvi.ChipVI.setup_anndata(adata, depth_key="depth")
    chipvi.compare_heads(adata, ["poisson"], steps=31, seeds=[3, 5])
    assert lines == [f"{i} of 2: poisson, seed {seed}: 30 of 31 steps, 1 s left" for i, seed in ((1, 3), (2, 5))]


def test_a_short_work_prints_no_line(lines):
    train(StepProgress("Training", 20), 20)
    assert lines == []


def test_a_training_that_never_began_may_end(capsys):
    StepProgress("Training", 3).teardown(trainer(), None, "fit")
    assert capsys.readouterr() == ("", "")


def test_of_several_processes_one_has_a_bar(screen):
    bar = StepProgress("Training", 3)
    bar.on_train_start(trainer(is_first=False), None)
    bar.teardown(trainer(is_first=False), None, "fit")
    assert screen.getvalue() == ""


def test_every_phase_has_one_named_bar_and_lightning_has_none(kit, screen, capsys, caplog):
    adata = chipvi.datasets.simulate(n_regions=2_400, n_biosamples=2, n_assays=3, missing=["cell2.H3K4me1"])
    model = kit.model(adata, {"observed_layer": "observed", "depth_key": "depth"})
    model.train(max_steps=3, batch_size=32, validation_size=0.1, seed=0, accelerator="cpu", boosted_trees=True)
    names = [line.partition("━")[0].strip() for line in shown(screen) if "━" in line]
    assert list(dict.fromkeys(names)) == PHASES
    assert all(len(line) <= 80 for line in shown(screen))
    assert capsys.readouterr() == ("", "")
    rounds = len(choose_held_out(model.grid, model.module.known_array_ba))
    assert [record.getMessage() for record in caplog.records] == [
        f"To train: 3 steps; then held-out-track calibration: {rounds} trainings of 3 steps without some of the "
        "tracks. calibrate_unseen=False leaves it out."
    ]


def silence_scvi():
    import scvi

    scvi.settings.verbosity = "ERROR"


WAYS = {
    "logger": lambda: logging.getLogger("chipvi").setLevel(logging.WARNING),
    "scvi.settings": silence_scvi,
    "logging": lambda: logging.disable(logging.INFO),
}


@pytest.mark.parametrize("way", WAYS)
def test_bars_and_lines_can_be_silenced(screen, way, monkeypatch, caplog, capsys):
    import scvi

    verbosity = scvi.settings.verbosity
    monkeypatch.setattr(logging.getLogger("chipvi"), "level", logging.NOTSET)

    def work():
        _quiet.announce("work ahead")
        with _workers.progress_bar("Work", 10, "steps") as show:
            show(5)

    try:
        WAYS[way]()
        work()
        assert (screen.getvalue(), caplog.records, capsys.readouterr()) == ("", [], ("", ""))
    finally:
        scvi.settings.verbosity = verbosity
        logging.disable(logging.NOTSET)
        logging.getLogger("chipvi").setLevel(logging.NOTSET)
    work()
    assert "5 of 10 steps" in screen.getvalue() and [one.getMessage() for one in caplog.records] == ["work ahead"]


def test_without_a_progress_bar_nothing_is_printed(kit, screen, caplog, capsys):
    kit.model(kit.data(n_regions=140)).train(
        max_steps=1, seed=0, batch_size=64, accelerator="cpu", enable_progress_bar=False
    )
    assert (screen.getvalue(), caplog.records, capsys.readouterr()) == ("", [], ("", ""))


def test_a_bar_of_the_users_own_takes_the_place_of_ours(kit, screen):
    class Own(pl.callbacks.ProgressBar):
        n_steps = 0

        def on_train_batch_end(self, *_):
            Own.n_steps += 1

    kit.train(kit.model(kit.data()), enable_progress_bar=True, calibrate_unseen=False, callbacks=[Own()])
    assert Own.n_steps == 5 and screen.getvalue() == ""


def test_a_script_that_trains_prints_one_line_and_levels_that_it_set_first_stay(tmp_path):
    code = (
        "import logging, chipvi\n"
        "names = ['scvi', 'lightning.pytorch', 'lightning.fabric']\n"
        "for name in names: logging.getLogger(name).setLevel(logging.ERROR)\n"  # before chipvi imports them
        "adata = chipvi.datasets.simulate(n_regions=300, missing=['cell2.H3K4me3'])\n"
        "chipvi.ChipVI.setup_anndata(adata, observed_layer='observed', depth_key='depth')\n"
        "chipvi.ChipVI(adata, n_hidden=24).train(max_steps=1, seed=0, accelerator='cpu')\n"
        "print([logging.getLogger(name).level for name in names])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[40, 40, 40]\n"
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["To train"]
