"""Settings of the commands: from flags or a TOML file, and back to such a file beside the result."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import _keys
from .._messages import unknown
from ..data.track_data import TrackData

SETTINGS_FILE = "settings.toml"
MADE = "made"  # the table of a settings file that tells how a model was made
NONE = "none"  # switches off what is otherwise found by itself

Settings = dict[str, Any]


def read_config(path: Path, defaults: Mapping[str, tuple[type, Any]]) -> Settings:
    """Read settings from a TOML file; its names are those of the flags, with - or _.

    Parameters
    ----------
    path
        The file. A table `made`, which chipvi adds to the settings that it stores, is passed over.
    defaults
        Type and default of every setting.

    Raises
    ------
    ValueError
        For a file that is no TOML, a name that is not known, or a value of another type.
    """
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}.") from error
    given.pop(MADE, None)
    flags = {name.replace("_", "-"): name for name in defaults}
    found = {}
    for key, value in given.items():
        flag = key.replace("_", "-")
        if flag not in flags:
            raise ValueError(unknown("setting", key, list(flags), path.name))
        kind = defaults[flags[flag]][0]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            wanted = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
            raise ValueError(f"setting {key!r} of {path.name} must be {wanted}, got {value!r}.")
        found[flags[flag]] = value
    return found


def write_toml(path: Path, settings: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Write settings, named as the flags, such that :func:`read_config` reads them again, and how they were used."""
    lines = [f"{name.replace('_', '-')} = {_toml(value)}" for name, value in settings.items() if value is not None]
    lines += ["", f"[{MADE}]", *(f"{name} = {_toml(value)}" for name, value in made.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def read_made(folder: Path) -> tuple[Settings, Settings]:
    """What a model's settings file holds: the settings, and the table `made`.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    try:
        given = tomllib.loads((folder / SETTINGS_FILE).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / SETTINGS_FILE} cannot be read: {error}.") from error
    made = given.pop(MADE, {})
    return {name.replace("-", "_"): value for name, value in given.items()}, made


def _toml(value: Any) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)  # of texts, numbers and booleans it is TOML as well


def find_setup(layers: Any, var_columns: Any, given: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Arguments of `setup_anndata`: those given, and what is there under the names that chipvi itself writes.

    Parameters
    ----------
    layers, var_columns
        Names that the data have.
    given
        Arguments by name; None where nothing was said, "none" for no such thing.

    Returns
    -------
    The arguments, and in words what was found without being named.
    """
    setup: Settings = {}
    found = []
    for name, usual, there, where in (
        ("observed_layer", _keys.OBSERVED, layers, "layer"),
        ("signal_layer", _keys.SIGNAL, layers, "layer"),
        ("depth_key", _keys.DEPTH, var_columns, "column"),
        ("control_key", _keys.IS_CONTROL, var_columns, "column"),
    ):
        value = given.get(name)
        if value is None and usual in there and usual != given.get("layer"):
            value = usual
            found.append(f"{where} {usual}")
        setup[name] = value
    setup |= {name: given.get(name) for name in ("layer", "segment_key")}
    setup |= {name: given.get(name) or usual for name, usual in _LABELS.items()}
    return {name: None if value == NONE else value for name, value in setup.items()}, found


_LABELS = {"biosample_key": _keys.BIOSAMPLE, "assay_key": _keys.ASSAY}


def fingerprint(data: TrackData) -> str:
    """Short text that differs for data of other regions, tracks, reads or signal."""
    digest = hashlib.sha256()
    counts, signal = data.summary.counts, data.summary.signal
    for names in (data.tracks.names, data.region_names):
        digest.update("\n".join(map(str, names)).encode())
    digest.update(data.segments.offsets.tobytes())
    for numbers in (counts.number_t, counts.total_t, counts.squares_t, signal.number_t):
        digest.update(" ".join(f"{value:.0f}" for value in numbers).encode())
    digest.update(" ".join(f"{value:.6g}" for value in signal.total_t).encode())
    return digest.hexdigest()[:16]
