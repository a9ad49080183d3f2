"""Docstrings read whole: each argument has a description of its own, wherever it is written."""

from __future__ import annotations

import inspect
import re

import pytest

import chipvi

OURS = {
    name: member
    for name, member in inspect.getmembers(chipvi.ChipVI, inspect.isroutine)
    if not name.startswith("_") and (member.__module__ or "").startswith("chipvi.")
} | {f"pl.{name}": getattr(chipvi.pl, name) for name in chipvi.pl.__all__}
# short ones, whose arguments are those of the others
PLAIN = {"get_elbo", "get_reconstruction_error", "get_marginal_ll", "open_data"}


def described(doc):
    """Names that the section of parameters describes."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)", inspect.cleandoc(doc), flags=re.M | re.S)
    if section is None:
        return []
    return [name.lstrip("*") for line in re.findall(r"^(\S.*)$", section[1], flags=re.M) for name in line.split(", ")]


def test_all_methods_and_pictures_are_looked_at():
    assert {"impute", "train", "diagnose", "get_quantiles", "get_latent_representation", "pl.tracks"} <= OURS.keys()


@pytest.mark.parametrize("name", sorted(OURS.keys() - PLAIN))
def test_every_argument_is_described_where_help_shows_it(name):
    arguments = [p for p in inspect.signature(OURS[name]).parameters if p not in ("self", "cls")]
    assert described(OURS[name].__doc__) == arguments


@pytest.mark.parametrize("name", sorted(OURS))
def test_no_placeholder_is_left(name):
    assert not re.search(r"%\(|%%|See :class:", OURS[name].__doc__)
