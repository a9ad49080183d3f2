"""Settings of a training: from options or a TOML file, and back to such a file beside the model."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

from .. import _keys
from .._messages import unknown
from ..data.fingerprint import fingerprint
from ..data.setup_keys import SetupKeys
from .options import require_usable

if TYPE_CHECKING:
    from ..data.track_data import TrackData

SETTINGS_FILE = "settings.toml"
MADE = "made"  # the table of a settings file that records what a model was made of
NONE = "none"  # leaves out what is otherwise found by itself

Settings = dict[str, Any]
Known = Mapping[str, tuple[Any, OptionInfo]]  # type and option by name, as options.Given has them

_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Made:
    """What a model was made of, as stored beside its settings.

    Parameters
    ----------
    chipvi
        Version of the package.
    data
        File of the data.
    regions, tracks, fingerprint
        Of the data.
    stamp
        Size and time of the file: where they are the same the data need not be read to see that they are; empty if not
        recorded.
    """

    chipvi: str
    data: str
    regions: int
    tracks: int
    fingerprint: str
    stamp: str = ""

    @classmethod
    def of(cls, path: Path, data: TrackData) -> Made:
        """Record the data of a file."""
        size = data.n_regions, data.n_tracks
        return cls(version("chipvi"), str(path.resolve()), *size, fingerprint(data), stamp_of(path))

    def is_of(self, data: TrackData) -> bool:
        """Whether it was made of these data, which are read for it only where the file has changed or is another."""
        path = Path(self.data)
        is_all = data.n_regions == self.regions  # and not some chromosomes of the file, or more than were trained on
        is_untouched = is_all and not data.in_memory and path.exists() and self.stamp == stamp_of(path)
        return is_untouched or self.fingerprint == fingerprint(data)


def stamp_of(path: Path) -> str:
    """Size and time of a file, or of the description of a store, which is written anew with it."""
    names = ("zarr.json", ".zmetadata", ".zattrs")
    found = next((path / name for name in names if (path / name).is_file()), path).stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def read_config(path: Path, known: Known) -> Settings:
    """Read settings from a TOML file; its names are those of the options, with - or _.

    Parameters
    ----------
    path
        The file. A table `made`, which chipvi adds to the settings that it stores, is passed over.
    known
        The settings that there may be.

    Raises
    ------
    ValueError
        For a file that is no TOML, a name that is not known, or a value of another type or out of range.
    """
    return _check(_read_toml(path), known, path)


def read_stored(folder: Path, known: Known) -> tuple[Settings, Made]:
    """Read the settings that chipvi stored in a folder, and what the model was made of.

    Raises
    ------
    ValueError
        As :func:`read_config`, and if the table `made` is not there, is incomplete, or holds values of another type.
    """
    path = folder / SETTINGS_FILE
    given = _read_toml(path)
    made = given.get(MADE)
    if not isinstance(made, dict):
        raise ValueError(f"{path} has no table [{MADE}], so chipvi did not write it, or it was cut off.")
    kinds = get_type_hints(Made)
    for name in made:
        if name not in kinds:
            raise ValueError(unknown("name", name, list(kinds), f"table [{MADE}] of {path}"))
    for name, kind in kinds.items():
        if type(made.get(name, "" if name == "stamp" else None)) is not kind:
            found = f"it is {made[name]!r}" if name in made else "it is not there"
            raise ValueError(f"{name} in table [{MADE}] of {path} must be {_KINDS[kind]}; {found}.")
    return _check(given, known, path), Made(**made)


def write_settings(folder: Path, settings: Mapping[str, Any], made: Made) -> None:
    """Write settings, named as the options, such that :func:`read_config` reads them again, and the table `made`."""
    from .._files import written_whole

    lines = [f"{_flag(name)} = {_toml(value)}" for name, value in settings.items() if value is not None]
    lines += ["", f"[{MADE}]", *(f"{name} = {_toml(value)}" for name, value in asdict(made).items())]
    with written_whole(folder / SETTINGS_FILE) as partial:  # others may be reading it
        partial.write_text("\n".join(lines) + "\n", "utf-8")


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}.") from error


def _check(given: Mapping[str, Any], known: Known, path: Path) -> Settings:
    """The settings by the names of Python, if all names, types and ranges are right."""
    flags = {_flag(name): name for name in known}
    found = {}
    for key, value in given.items():
        if key == MADE:
            continue
        name = flags.get(_flag(key))
        if name is None:
            raise ValueError(unknown("setting", key, list(flags), path.name))
        kind, option = known[name]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or value == "":
            raise ValueError(f"setting {key!r} of {path.name} must be {_KINDS[kind]}, got {value!r}.")
        require_usable(f"setting {key!r} of {path.name}", value)
        if option.min is not None and value < option.min:
            raise ValueError(f"setting {key!r} of {path.name} must be at least {option.min}, got {value}.")
        found[name] = value
    return found


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # of texts, numbers and booleans it is TOML as well


# What is used without being named, for chipvi itself writes it.
_FOUND = {
    "observed_layer": _keys.OBSERVED,
    "signal_layer": _keys.SIGNAL,
    "depth_key": _keys.DEPTH,
    "control_key": _keys.IS_CONTROL,
}


def find_keys(
    layers: Collection[str], var_columns: Collection[str], given: Mapping[str, str]
) -> tuple[SetupKeys, list[str]]:
    """The setup keys: those given, and what the data have under the names that chipvi itself writes.

    Parameters
    ----------
    layers, var_columns
        Names that the data have.
    given
        Keys by name, as texts; "none" for no such thing.

    Returns
    -------
    The keys, and in words what was found without being named.
    """
    found, words = {}, []
    for name, usual in _FOUND.items():
        where, present = ("layer", layers) if name.endswith("layer") else ("column", var_columns)
        if name not in given and usual in present and usual != given.get("layer"):
            found[name] = usual
            words.append(f"{where} {usual}")
    return setup_keys({**given, **found}), words


def setup_keys(given: Mapping[str, str]) -> SetupKeys:
    """The setup keys from texts: those of several names have commas between them, "none" is for no such thing.

    >>> setup_keys({"layer": "counts", "depth_key": "none"}) == SetupKeys(layer="counts")
    True
    """
    values: Settings = {}
    for field in fields(SetupKeys):
        text = given.get(field.name)
        if text is not None and not (text == NONE and not field.default):
            values[field.name] = _split(text) if _holds_several(field.name) else text
    return SetupKeys(**values)


def key_texts(keys: SetupKeys) -> dict[str, str]:
    """The texts that :func:`find_keys` makes the same keys of, whatever the data have."""
    texts = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in asdict(keys).items()}
    return {name: text or NONE for name, text in texts.items() if text or name in _FOUND}


def _holds_several(name: str) -> bool:
    kind = get_type_hints(SetupKeys)[name]
    return tuple in (get_origin(kind), *map(get_origin, get_args(kind)))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
