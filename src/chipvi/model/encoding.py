"""Python values as JSON and back: what is written is listed here, and nothing read can run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

_TEXT = "text"
_NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64")
_DEEPEST = 50


def encode(value: Any, where: str) -> Any:
    """A value in terms of JSON.

    Empty values, true and false, whole and finite numbers, texts, lists and mappings by text are themselves; a NumPy
    scalar is its number. The rest is a mapping whose first name begins with a dollar sign:

    * ``{"$number": "nan"}``, or "inf" or "-inf";
    * ``{"$tuple": [...]}``;
    * ``{"$array": [...], "dtype": "float32", "shape": [3]}``, row by row; the dtype of texts is "text", and numbers
      that are not finite are texts;
    * ``{"$table": {"column": array, ...}, "index": array, "index_name": "step"}``.

    Parameters
    ----------
    value
        What to encode.
    where
        What it is, for the error.

    Raises
    ------
    ValueError
        For any other value.

    Examples
    --------
    >>> encode({"sizes": (3, float("inf"))}, "the model")
    {'sizes': {'$tuple': [3, {'$number': 'inf'}]}}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$number": str(value)}
    if isinstance(value, list):
        return [encode(one, where) for one in value]
    if isinstance(value, tuple):
        return {"$tuple": [encode(one, where) for one in value]}
    if isinstance(value, np.ndarray):
        return _encode_array(value, where)
    if isinstance(value, pd.DataFrame):
        columns = {str(name): _encode_array(value[name].to_numpy(), where) for name in value.columns}
        index = _encode_array(value.index.to_numpy(), where)
        return {"$table": columns, "index": index, "index_name": value.index.name}
    if isinstance(value, Mapping) and all(isinstance(name, str) and not name.startswith("$") for name in value):
        return {name: encode(one, f"{name} of {where}") for name, one in value.items()}
    raise ValueError(f"{where} is of the type {type(value).__name__}, which the file of a model cannot hold.")


def _encode_array(array: np.ndarray, where: str) -> dict[str, Any]:
    flat, dtype = array.ravel().tolist(), array.dtype.name
    if dtype in _FLOATS:
        flat = [number if math.isfinite(number) else str(number) for number in flat]
    elif dtype not in _NUMBERS:
        if not all(isinstance(one, str) for one in flat):
            raise ValueError(f"{where} is of the type array of {dtype}, which the file of a model cannot hold.")
        dtype = _TEXT
    return {"$array": flat, "dtype": dtype, "shape": list(array.shape)}


def decode(value: Any, depth: int = 0) -> Any:
    """The value that :func:`encode` made this of.

    Raises
    ------
    ValueError
        For what :func:`encode` does not make.
    """
    if depth > _DEEPEST:
        raise ValueError("its values are nested too deeply")
    if isinstance(value, list):
        return [decode(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    kind = next((name for name in value if name.startswith("$")), None)
    if kind is None:
        return {name: decode(one, depth + 1) for name, one in value.items()}
    match value:
        case {"$number": "nan" | "inf" | "-inf" as number, **rest} if not rest:
            return float(number)
        case {"$tuple": list(values), **rest} if not rest:
            return tuple(decode(one, depth + 1) for one in values)
        case {"$array": _, **rest} if rest.keys() == {"dtype", "shape"}:
            return _decode_array(value)
        case {"$table": dict(columns), "index": index, "index_name": str() | None as name, **rest} if not rest:
            table, labels = {column: _decode_array(array) for column, array in columns.items()}, _decode_array(index)
            if any(column.shape != (len(labels),) for column in (labels, *table.values())):
                raise ValueError("a table holds columns of several lengths")
            return pd.DataFrame(table, index=pd.Index(labels, name=name))
    raise ValueError(f"{kind} holds what is no value")


def _decode_array(value: Any) -> np.ndarray:
    """An array, if its values are of its dtype and as many as its shape has."""
    match value:
        case {"$array": list(flat), "dtype": str(dtype), "shape": list(shape)}:
            pass
        case _:
            raise ValueError("an array holds what is no array")
    kinds: dict[str, tuple[type, ...]] = dict.fromkeys(_NUMBERS, (int,)) | dict.fromkeys(_FLOATS, (float, int, str))
    kinds |= {_TEXT: (str,), "bool": (bool,)}
    if dtype not in kinds or any(type(one) not in kinds[dtype] for one in flat):
        raise ValueError(f"an array of {dtype} holds something else")
    if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) != len(flat):
        raise ValueError(f"an array of shape {shape} holds {len(flat)} values")
    if dtype in _FLOATS:
        flat = [float(one) for one in flat]
    try:
        array = np.array(flat, dtype=object if dtype == _TEXT else dtype)
        if dtype in _NUMBERS and array.tolist() != flat:
            raise OverflowError  # NumPy 1 wraps around
        return array.reshape(shape)
    except OverflowError as error:
        raise ValueError(f"an array of {dtype} holds a number beyond its range") from error


def to_text(value: Any, margin: str = "") -> str:
    """JSON text of encoded values: a line for each name, lists and arrays within a line.

    >>> print(to_text({"sizes": [3, 4], "names": {"first": "a"}}))
    {
     "sizes": [3, 4],
     "names": {
      "first": "a"
     }
    }
    """
    if not isinstance(value, dict) or not value or "$array" in value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    lines = (
        f"{margin} {json.dumps(name, ensure_ascii=False)}: {to_text(one, f'{margin} ')}" for name, one in value.items()
    )
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"


def from_text(text: str) -> Any:
    """The encoded values of a JSON text.

    Raises
    ------
    ValueError
        For what is no JSON, among it numbers that are not finite.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
