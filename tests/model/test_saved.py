"""The files of a saved model: what they hold comes back as it was, and what is wrong in them is one sentence."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chipvi import ChipVI
from chipvi.model.encoding import decode, encode, from_text, to_text
from chipvi.model.saved import FORMAT, SavedModel

MODEL, WEIGHTS = "model.json", "model.safetensors"


def round_trip(value: object) -> object:
    return decode(from_text(to_text(encode(value, "it"))))


@pytest.fixture(scope="module")
def files(kit) -> dict[str, bytes]:
    """Files of a model with a history, small enough to be damaged many times."""
    return kit.train(kit.model(kit.data(n_regions=40), n_latent=3, n_hidden=4), max_steps=2)._saved().files()


@pytest.fixture
def folder(files, tmp_path) -> Path:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(ValueError) as found:
        SavedModel.read(folder)
    assert "\n" not in str(found.value)
    return str(found.value)


# --- values ---


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2**60,
        0.1 + 0.2,
        'Zelle µ\n"[b]"',
        [],
        {},
        (),
        (1, ("a", [2.5, None])),
        {"a": {"b": [False, {"c": ()}]}},
    ],
    ids=repr,
)
def test_a_plain_value_comes_back_with_its_type(value):
    back = round_trip(value)
    assert back == value and type(back) is type(value)


# texts without lone surrogates, which no file can hold
TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXTS.filter(lambda name: not name.startswith("$")), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_nested_values_come_back_as_they_were(value):
    assert repr(round_trip(value)) == repr(value)  # which distinguishes 1, 1.0 and True, 0.0 and -0.0, and knows NaN


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=str)
def test_a_number_that_is_not_finite_is_valid_json_and_comes_back(number):
    text = to_text(encode({"x": number, "y": np.array([0.5, number])}, "it"))
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = decode(from_text(text))
    np.testing.assert_array_equal([back["x"], *back["y"]], [number, 0.5, number])


@pytest.mark.parametrize("scalar", [np.float32(0.1), np.int8(-4), np.bool_(True), np.str_("a")], ids=repr)
def test_a_numpy_scalar_comes_back_as_its_number(scalar):
    back = round_trip(scalar)
    assert back == scalar and type(back) in (float, int, bool, str)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3), (3, 0)], ids=str)
def test_an_array_comes_back_with_its_dtype_and_shape(dtype, shape):
    array = (
        np.resize(np.array([0, 1, 3, 7, 11, 13]), shape).astype(dtype) if math.prod(shape) else np.empty(shape, dtype)
    )
    np.testing.assert_array_equal(round_trip(array), array, strict=True)


def test_texts_come_back_as_objects_whatever_held_them():
    for array in (np.array(["a", "bc"]), np.array(["a", "bc"], dtype=object), pd.Index(["a", "bc"]).to_numpy()):
        back = round_trip(array)
        assert back.dtype == object and back.tolist() == ["a", "bc"]


def test_a_table_comes_back_with_its_index():
    table = pd.DataFrame({"kl.0": [0.5, np.nan], "kl.$1": [np.inf, -2.0]}, index=pd.Index([0, 50], name="step"))
    pd.testing.assert_frame_equal(round_trip(table), table, check_exact=True)


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {"$array": 1}, b"a", {1, 2}, np.array([object()]), pd.Series([1]), 1j],
    ids=["object", "whole key", "key with a dollar", "bytes", "set", "array of objects", "series", "complex"],
)
def test_another_value_is_refused(value):
    with pytest.raises(ValueError, match="the thing is of the type .*which the file of a model cannot hold"):
        encode(value, "the thing")


@pytest.mark.parametrize(
    "encoded",
    [
        {"$run": "rm"},
        {"$number": "1e3"},
        {"$number": "nan", "more": 1},
        {"$tuple": 3},
        {"$array": [1, 2], "dtype": "int64", "shape": [3]},
        {"$array": [1, 2], "dtype": "int64", "shape": [-1, -2]},
        {"$array": [1.5], "dtype": "int64", "shape": [1]},
        {"$array": [True], "dtype": "int64", "shape": [1]},
        {"$array": [300], "dtype": "int8", "shape": [1]},
        {"$array": [1], "dtype": "object", "shape": [1]},
        {"$array": [1], "dtype": "text", "shape": [1]},
        {"$array": ["x"], "dtype": "float64", "shape": [1]},
        {"$array": [1]},
        {"$table": {"a": [1, 2]}, "index": [0, 1], "index_name": None},
        {
            "$table": {"a": {"$array": [1], "dtype": "int64", "shape": [1]}},
            "index": {"$array": [0, 1], "dtype": "int64", "shape": [2]},
            "index_name": None,
        },
    ],
    ids=str,
)
def test_json_that_is_no_value_is_refused(encoded):
    with pytest.raises(ValueError):
        decode(encoded)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "", "[" * 100_000, '{"a": ' * 100_000], ids=lambda t: t[:9])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(ValueError):
        from_text(text)


def test_values_nested_too_deeply_are_refused():
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(json.loads("[" * 200 + "]" * 200))


# --- files ---


def test_what_is_read_is_what_was_written(folder, files):
    assert SavedModel.read(folder).files() == files


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
def test_a_damaged_file_is_refused_in_a_sentence_that_names_it(folder, files, name):
    whole, random_ = files[name], random.Random(3)

    def flip(content: bytearray) -> None:
        content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)

    def cut(content: bytearray) -> None:
        del content[random_.randrange(len(content)) :]

    def drop(content: bytearray) -> None:
        del content[(start := random_.randrange(len(content))) : start + random_.randrange(1, 99)]

    def repeat(content: bytearray) -> None:
        start = random_.randrange(len(content))
        content[start:start] = content[start : start + random_.randrange(1, 99)]

    for change in (flip, cut, drop, repeat) * 25:
        damaged = bytearray(whole)
        change(damaged)
        (folder / name).write_bytes(damaged)
        try:
            unharmed = SavedModel.read(folder).files() == files
        except ValueError as error:
            assert re.match(rf"\S*/{name} cannot be read as a model of chipvi: .+\.$", str(error)), str(error)
        else:
            assert name == MODEL and unharmed, change.__name__  # spaces between values carry nothing


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", b"[]", b"3", b'{"format": "1"}', b'{"format": 0}', b'{"format": 1}', b"\xff\xfe"]
)
def test_a_file_of_something_else_is_refused(folder, content):
    (folder / MODEL).write_bytes(content)
    assert "model.json cannot be read as a model of chipvi" in refused(folder)


def test_weights_of_another_model_are_refused(kit, folder):
    other = kit.model(kit.data(n_regions=40), n_latent=3, n_hidden=4)._saved().files()
    (folder / WEIGHTS).write_bytes(other[WEIGHTS])
    assert "model.safetensors cannot be read as a model of chipvi: it is damaged, or is not of" in refused(folder)


def test_a_later_format_is_refused_whatever_it_holds(folder):
    (folder / MODEL).write_text(json.dumps({"format": FORMAT + 1, "new": True}))
    assert f"its format is {FORMAT + 1}, and chipvi " in refused(folder)
    assert f"reads up to {FORMAT}; install a later version." in refused(folder)


def write(folder: Path, saved: SavedModel) -> None:
    for name, content in saved.files().items():
        (folder / name).write_bytes(content)


def tracks_with(saved: SavedModel, **changes: object) -> SavedModel:
    state = saved.registry["field_registries"]["tracks"]["state_registry"] | changes
    return fields_with(saved, tracks={"state_registry": state})


def fields_with(saved: SavedModel, **changes: object) -> SavedModel:
    fields = {**saved.registry["field_registries"], **changes}
    return replace(saved, registry={**saved.registry, "field_registries": fields})


def setup_with(saved: SavedModel, **changes: object) -> SavedModel:
    return replace(saved, registry={**saved.registry, "setup_args": saved.registry["setup_args"] | changes})


def attributes_with(saved: SavedModel, **changes: object) -> SavedModel:
    return replace(saved, attributes={**saved.attributes, **changes})


WRONG = {
    "init_params as a list": (lambda saved: replace(saved, init_params=[1]), "init_params must be names with values"),
    "no registry": (
        lambda saved: replace(saved, registry={"field_registries": saved.registry["field_registries"]}),
        "its registry is not one of chipvi",
    ),
    "no batch": (lambda saved: fields_with(saved, batch={}), "its registry is not one of chipvi"),
    "another field": (lambda saved: fields_with(saved, labels={}), "its registry is not one of chipvi"),
    "too many columns": (
        lambda saved: fields_with(saved, X={"state_registry": {"n_vars": 16}}),
        "its X has not as many columns as there are tracks",
    ),
    "a track too few": (lambda saved: tracks_with(saved, assays=["H3K4me3"]), "a name, a biosample and an assay each"),
    "a number as a track": (lambda saved: tracks_with(saved, names=[*saved.var_names[:-1], 3]), "a name, a biosample"),
    "controls as texts": (lambda saved: tracks_with(saved, is_control=["no"] * 15), "is_control of its tracks"),
    "another kind of data": (lambda saved: tracks_with(saved, seen=["pictures"]), "'pictures' is not a valid ViewKind"),
    "no kind of data": (lambda saved: tracks_with(saved, views=[]), "views of its tracks must be kinds of data"),
    "a key as a number": (lambda saved: setup_with(saved, depth_key=3), "depth_key of its setup is 3"),
    "no biosample key": (lambda saved: setup_with(saved, biosample_key=None), "biosample_key of its setup is None"),
    "a text of covariates": (
        lambda saved: setup_with(saved, covariate_keys="gc"),
        "covariate_keys of its setup is 'gc'",
    ),
    "an attribute of Python": (lambda saved: attributes_with(saved, __class__=1), "'__class__' is no attribute"),
    "a method": (lambda saved: attributes_with(saved, impute=1), "'impute' is no attribute of a model"),
    "no word on training": (lambda saved: attributes_with(saved, is_trained_="yes"), "is_trained_ must be true or"),
    "history as numbers": (lambda saved: attributes_with(saved, history_={"kl": [1.0]}), "history_ must be a table"),
    "a text as a seed": (lambda saved: attributes_with(saved, seeds_=("1",)), "seeds_ and n_steps_ must be whole"),
    "no findings": (lambda saved: attributes_with(saved, findings_=None), "findings_ must be a list"),
    "a finding of another version": (
        lambda saved: attributes_with(saved, findings_=[{"sign": "odd", "numbers": {}, "where": {}}]),
        "'odd' is not a valid Sign",
    ),
    "a finding without numbers": (
        lambda saved: attributes_with(saved, findings_=[{"sign": "plateau", "numbers": {"x": "1"}, "where": {}}]),
        "the finding of plateau must have numbers",
    ),
}


@pytest.mark.parametrize(("change", "expected"), WRONG.values(), ids=WRONG)
def test_a_whole_file_that_holds_what_no_model_has_is_refused(folder, change, expected):
    write(folder, change(SavedModel.read(folder)))
    assert re.search(f"model.json cannot be read as a model of chipvi: .*{expected}", refused(folder))


def without(weights, name):
    return {one: value for one, value in weights.items() if one != name}


WRONG_MODELS = {
    "an option that there is not": (
        lambda saved: replace(saved, init_params={"depth": 3}),
        "model.json cannot be .*argument 'depth' is no",
    ),
    "an option out of range": (
        lambda saved: replace(saved, init_params={**saved.init_params, "n_latent": 0}),
        "model.json cannot be .*n_latent must be at least 1",
    ),
    "weights too few": (
        lambda saved: replace(saved, weights=without(saved.weights, "log_center")),
        "model.safetensors cannot be .*it is without weights log_center; chipvi .* wrote it.",
    ),
    "weights too many": (
        lambda saved: replace(saved, weights={**saved.weights, "zz": torch.ones(2), "zy": torch.ones(2)}),
        r"model.safetensors cannot be .*it is with weights zy \(and 1 more\); chipvi .* wrote it.",
    ),
    "weights of another dtype": (
        lambda saved: replace(saved, weights={**saved.weights, "log_center": torch.tensor(1.0)}),
        "weights log_center are a number of float32, not a number of float64",
    ),
    "tracks in other places": (
        lambda saved: replace(saved, weights={**saved.weights, "tracks.assay_t": torch.full((15,), 99)}),
        "tracks.assay_t does not number the tracks of the model",
    ),
}


@pytest.mark.parametrize(("change", "expected"), WRONG_MODELS.values(), ids=WRONG_MODELS)
def test_a_whole_file_that_makes_no_model_is_refused(kit, folder, change, expected):
    write(folder, change(SavedModel.read(folder)))
    with pytest.raises(ValueError, match=expected) as found:
        ChipVI.load(folder, kit.data(n_regions=40), accelerator="cpu")
    assert "\n" not in str(found.value)
