"""Advice on the command line names options, commands and files that the command line has."""

import re
from io import StringIO

import pytest
import typer
from rich.console import Console

from chipvi._messages import Place
from chipvi.cli import compare_heads, train
from chipvi.cli.app import app
from chipvi.evaluate.advice import Advice, Fault
from chipvi.evaluate.words import describe
from chipvi.train.findings import Finding, Sign
from chipvi.train.words import describe as describe_finding

HELD = ("logit", "count", "losses", "zero_logit", "mean", "dispersion", "own")  # that clamps may hold
NAMES = ("steps", "first", "loss", "correlation", "norm", "most", "least", "records", "asleep", "latents", "dispersion")
NUMBERS = dict.fromkeys((*NAMES, "moments", "share", "weight", "depth_high", "depth_low", "lr"), 1.0)
TEXTS = [
    *(describe(Advice(fault, 2, 3), Place.COMMAND_LINE) for fault in Fault),
    *(
        describe_finding(Finding(sign, NUMBERS, dict.fromkeys(where, 1.0)), Place.COMMAND_LINE)
        for sign in Sign
        for where in (HELD, ("a", "b"))
        if (sign in (Sign.EQUAL_DEPTHS, Sign.UNLIKELY_DEPTHS)) == (len(where) == 2)
    ),
]


def options_of(command: str) -> set[str]:
    group = typer.main.get_command(app)
    return {option for parameter in group.commands[command].params for option in parameter.opts}


@pytest.mark.parametrize("text", TEXTS)
def test_every_option_and_command_exists(text):
    elsewhere = re.findall(r"chipvi ([a-z-]+) (--[a-z-]+)", text)
    for command, option in elsewhere:
        assert option in options_of(command)
    own = re.findall(r"--[a-z-]+", re.sub(r"chipvi [a-z-]+ --[a-z-]+", "", text))
    assert set(own) <= options_of("train")
    commands = typer.main.get_command(app).commands
    assert all(name in commands for name in re.findall(r"chipvi ([a-z-]+)", text))


def test_options_and_files_are_named_at_all():
    assert {option for text in TEXTS for option in re.findall(r"--[a-z-]+", text)} >= {
        "--steps", "--depth-key", "--head", "--signal-layer", "--early-stopping", "--blacklist",
    }  # fmt: skip
    files = {name for text in TEXTS for name in re.findall(r"\w+\.(?:csv|png)", text)}
    assert files == {"history.csv", "training.png"} <= set(train.FILES)
    assert "runs.csv" in compare_heads.FILES


def test_quality_and_advice_are_printed_in_these_words(model, monkeypatch):
    finding = Finding(Sign.LOW_KL_WEIGHT, {"weight": 0.25, "steps": 40})
    monkeypatch.setattr(model, "findings_", [finding.plain()])
    printed = StringIO()
    table = train._judge(model, {"validation_size": 0.0, "seed": 1}, Console(file=printed, width=400))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    *advice, of_training = [line for line in lines if line.startswith("- ")]
    assert of_training.startswith("- From training: the KL weight was still 0.25 of 1")
    assert of_training.endswith("Train without --early-stopping.")
    assert len(advice) == len(model.diagnose().suggestions) > 0
    assert not re.search(r"max_steps|chipvi\.", printed.getvalue())
    for track, row in table.iterrows():
        (line,) = [line for line in lines if line.startswith(f"{track} {row['quantity']} ")]
        assert line.endswith(f" {row['beats']} {row['mean']} {row['spread']}")
