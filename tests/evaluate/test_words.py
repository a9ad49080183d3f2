"""Verdicts and advice in words: those of the table, of Python and of the command line."""

import re
from dataclasses import replace

import pytest

from chipvi._messages import Place
from chipvi.evaluate.advice import Advice, Fault, advise
from chipvi.evaluate.verdicts import Intervals, Level, Spread, Standing, TrackVerdict
from chipvi.evaluate.words import describe, table_words

GOOD = TrackVerdict("counts", Level.RIGHT, Spread.RIGHT, Standing.BEATS_BOTH, Intervals.RIGHT, 1.04, 0.3, 0.97, 0.96)
UNJUDGED = replace(
    GOOD, level=Level.TOO_FEW, spread=Spread.TOO_FEW, standing=Standing.TOO_FEW, intervals=Intervals.TOO_FEW
)


@pytest.mark.parametrize(
    ("changes", "column", "words"),
    [
        ({}, "mean", "right"),
        ({"level": Level.HIGH, "ratio": 1.234}, "mean", "23 % too high"),
        ({"level": Level.LOW, "ratio": 0.8}, "mean", "20 % too low"),
        ({"level": Level.HIGH, "ratio": 2.06}, "mean", "too high by a factor of 2.1"),
        ({"level": Level.LOW, "ratio": 0.25}, "mean", "too low by a factor of 4.0"),
        ({"level": Level.HIGH, "quantity": "signal"}, "mean", "0.30 too high"),
        ({"level": Level.LOW, "difference": -0.126, "quantity": "signal"}, "mean", "0.13 too low"),
        ({"level": Level.UNCERTAIN}, "mean", "cannot be judged"),
        ({}, "spread", "right"),
        ({"spread": Spread.NARROW}, "spread", "too narrow"),
        ({"spread": Spread.WIDE}, "spread", "too wide"),
        ({"spread": Spread.LOPSIDED}, "spread", "lopsided"),
        ({"spread": Spread.UNCLEAR}, "spread", "unclear while the mean is off"),
        ({"spread": Spread.UNCERTAIN}, "spread", "cannot be judged"),
        ({}, "beats", "beats both"),
        ({"standing": Standing.BEATS_MARGINAL}, "beats", "beats the marginal (no average to compare)"),
        ({"standing": Standing.LEVEL_WITH_AVERAGE}, "beats", "level with the average"),
        ({"standing": Standing.BELOW_AVERAGE}, "beats", "below the average"),
        ({"standing": Standing.LEVEL_WITH_MARGINAL}, "beats", "level with the marginal"),
        ({"standing": Standing.BELOW_MARGINAL}, "beats", "below the marginal"),
        ({"standing": Standing.NOT_IMPUTABLE}, "beats", "nothing to impute from"),
        ({}, "intervals", "right"),
        ({"intervals": Intervals.OFF, "coverage": 0.9}, "intervals", "cover 90 % where 96 % was expected"),
        ({"intervals": Intervals.UNCERTAIN}, "intervals", "cannot be judged"),
    ],
)
def test_the_table_has_the_words_it_always_had(changes, column, words):
    assert table_words(replace(GOOD, **changes))[column] == words


@pytest.mark.parametrize(
    ("quantity", "words"), [("counts", "too few reads to judge"), ("signal", "too little signal to judge")]
)
def test_a_track_with_too_few_data_has_one_word_for_all(quantity, words):
    in_words = table_words(replace(UNJUDGED, quantity=quantity))
    assert in_words.pop("grade") == "not judged"
    assert set(in_words.values()) == {words}


FAULTY = [
    pytest.param({"standing": Standing.BELOW_MARGINAL}, Fault.NOT_LEARNT, id="not learnt"),
    pytest.param({"standing": Standing.NOT_IMPUTABLE}, Fault.NOT_IMPUTABLE, id="nothing to impute from"),
    pytest.param({"level": Level.LOW}, Fault.LEVEL_OFF, id="level"),
    pytest.param({"standing": Standing.BELOW_AVERAGE}, Fault.BELOW_AVERAGE, id="below average"),
    pytest.param({"standing": Standing.LEVEL_WITH_AVERAGE}, Fault.LEVEL_WITH_AVERAGE, id="level with average"),
    pytest.param({"explained": 0.49}, Fault.LITTLE_EXPLAINED, id="little explained"),
    pytest.param({"spread": Spread.NARROW, "intervals": Intervals.OFF}, Fault.TOO_NARROW, id="narrow"),
    pytest.param({"spread": Spread.WIDE, "intervals": Intervals.OFF}, Fault.TOO_WIDE, id="wide"),
    pytest.param({"spread": Spread.LOPSIDED}, Fault.LOPSIDED, id="lopsided"),
    pytest.param({"intervals": Intervals.OFF}, Fault.COVERAGE_OFF, id="coverage"),
    pytest.param({"spread": Spread.UNCERTAIN}, Fault.UNDECIDED, id="undecided"),
]


@pytest.mark.parametrize(("changes", "fault"), FAULTY)
def test_each_fault_is_counted_in_the_tracks_that_have_it(changes, fault):
    assert advise([GOOD, replace(GOOD, **changes), GOOD]) == [Advice(fault, 1, 3)]


def test_every_fault_is_tested():
    assert {parameters.values[1] for parameters in FAULTY} == set(Fault)


def test_faults_of_counts_come_before_those_of_signal_and_name_them():
    verdicts = [
        replace(GOOD, quantity="signal", spread=Spread.WIDE),
        replace(GOOD, level=Level.LOW, standing=Standing.LEVEL_WITH_MARGINAL),
        UNJUDGED,
    ]
    assert advise(verdicts) == [
        Advice(Fault.NOT_LEARNT, 1, 2, "counts"),
        Advice(Fault.LEVEL_OFF, 1, 2, "counts"),
        Advice(Fault.UNDECIDED, 1, 2, "counts"),
        Advice(Fault.TOO_WIDE, 1, 1, "signal"),
    ]
    assert advise([GOOD, GOOD]) == []


def test_advice_begins_with_how_many_tracks_it_is_about():
    advice = Advice(Fault.UNDECIDED, 1_003, 2_000, "signal")
    assert describe(advice, Place.PYTHON).startswith("In 1,003 of 2,000 tracks of signal some verdict")
    assert describe(replace(advice, n_found=1, n_tracks=1, quantity=None), Place.PYTHON).startswith("In 1 of 1 track s")


@pytest.mark.parametrize("fault", Fault)
def test_advice_is_in_the_words_of_the_place(fault):
    python, command_line = (describe(Advice(fault, 1, 3), place) for place in Place)
    assert python.endswith(".") and command_line.endswith(".")
    assert not re.search(r"--|\{", python)
    assert not re.search(r"chipvi\.|max_steps|depth_key|\{", command_line)
    assert ("max_steps" in python) == ("--steps" in command_line)
    assert ("(depth_key)" in python) == ("(--depth-key)" in command_line)
