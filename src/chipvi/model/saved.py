"""What a saved model holds, and its files: JSON and safetensors, in which nothing can run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .._keys import MODEL_FILE, PICKLE_FILE, WEIGHTS_FILE
from .._messages import and_more
from ..data.check import SetupKeys
from ..data.track_data import ViewKind
from ..train.findings import Finding
from .encoding import decode, encode, from_text, to_text
from .field import TRACKS_FIELD

FORMAT = 2
"""Version of the format."""

# what files of other versions or makers may lead to
_WRONG = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
_ENCODED = ("versions", "init_params", "registry", "attributes")


@dataclass(frozen=True, eq=False)
class SavedModel:
    """What the files of a model hold.

    Parameters
    ----------
    class_name
        Name of its class.
    versions
        Versions of the packages that wrote it, by name.
    init_params
        Arguments of its class.
    registry
        Where its data keep what, and what was found there, in the form of scvi-tools.
    attributes
        Its state by name: all attributes that end in an underscore, such as `is_trained_`, `history_`, `seeds_`.
    weights
        Parameters and buffers of its module, by name.
    """

    class_name: str
    versions: Mapping[str, str]
    init_params: Mapping[str, Any]
    registry: Mapping[str, Any]
    attributes: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def var_names(self) -> list[str]:
        """Names of the tracks."""
        return self.registry["field_registries"][TRACKS_FIELD]["state_registry"]["names"]

    def files(self) -> dict[str, bytes]:
        """Contents of the files, by name.

        Raises
        ------
        ValueError
            For an attribute that they cannot hold.
        """
        # of their own memory each, which safetensors asks for
        apart = {name: value.cpu().clone().contiguous() for name, value in self.weights.items()}
        weights = safetensors.torch.save(apart)
        document = {"format": FORMAT, "class": self.class_name, "var_names": self.var_names}
        document |= {name: encode(getattr(self, name), name) for name in _ENCODED}
        digests = {"weights": _digest(weights), "all of the above": _digest(to_text(document).encode())}
        return {MODEL_FILE: f"{to_text(document | {'sha256': digests})}\n".encode(), WEIGHTS_FILE: weights}

    @classmethod
    def read(cls, folder: Path, prefix: str = "") -> SavedModel:
        """Read the files of a folder, whose names may have a prefix.

        Raises
        ------
        ValueError
            If they are not there, are damaged, of a later format, or hold something else: which file, and why.
        """
        path, weights_path = folder / f"{prefix}{MODEL_FILE}", folder / f"{prefix}{WEIGHTS_FILE}"
        _require_files(path, weights_path, folder / f"{prefix}{PICKLE_FILE}")
        with cannot_be_read(path):
            document, digests = _open_document(path.read_bytes())
            parts = {name: decode(document[name]) for name in _ENCODED}
            saved = cls(class_name=document["class"], weights={}, **parts)
            saved._require_sound(document["var_names"])
        with cannot_be_read(weights_path):
            weights = weights_path.read_bytes()
            if _digest(weights) != digests["weights"]:
                raise ValueError(f"it is damaged, or is not of the model of {path.name}")
            return replace(saved, weights=safetensors.torch.load(weights))

    def _require_sound(self, var_names: object) -> None:
        """Refuse what no model of chipvi holds."""
        for name in ("versions", "init_params", "attributes"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be names with values")
        _require_registry(self.registry)
        if var_names != self.var_names:
            raise ValueError("var_names are not the tracks of the registry")
        for name in self.attributes:
            if not name.isidentifier() or name.startswith("_") or not name.endswith("_"):
                raise ValueError(f"{name!r} is no attribute of a model")
        history, findings = self.attributes.get("history_"), self.attributes.get("findings_")
        if not isinstance(self.attributes.get("is_trained_"), bool):
            raise ValueError("is_trained_ must be true or false")
        if history is not None and not (
            isinstance(history, dict) and all(isinstance(table, pd.DataFrame) for table in history.values())
        ):
            raise ValueError("history_ must be a table per quantity")
        seeds, n_steps = self.attributes.get("seeds_", ()), self.attributes.get("n_steps_", 0)
        if not isinstance(seeds, tuple) or any(type(number) is not int for number in (*seeds, n_steps)):
            raise ValueError("seeds_ and n_steps_ must be whole numbers")
        if not isinstance(findings, list):
            raise ValueError("findings_ must be a list")
        for finding in findings:
            _require_finding(finding)

    def weights_under(self, prefix: str) -> dict[str, Tensor]:
        """Weights whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}

    def require_weights_of(self, expected: Mapping[str, Tensor]) -> None:
        """Refuse weights that are not those of a module.

        Parameters
        ----------
        expected
            The state of the module: names, shapes and dtypes; whole numbers, which number its tracks, are values too.

        Raises
        ------
        ValueError
            Naming the first that differs.
        """
        known, there = expected.keys(), self.weights.keys()
        author = f"chipvi {self.versions.get('chipvi')} wrote it"
        for what, names in (("without", known - there), ("with", there - known)):
            if names:
                raise ValueError(f"it is {what} weights {min(names)}{and_more(len(names))}; {author}")
        for name, value in expected.items():
            found = self.weights[name]
            if (found.shape, found.dtype) != (value.shape, value.dtype):
                raise ValueError(f"weights {name} are {_form(found)}, not {_form(value)}; {author}")
            if not (value.is_floating_point() or value.dtype is torch.bool or torch.equal(found, value.cpu())):
                raise ValueError(f"{name} does not number the tracks of the model")


@contextmanager
def cannot_be_read(path: Path) -> Iterator[None]:
    """Name the file of an error, in one line."""
    try:
        yield
    except _WRONG as error:
        reason = " ".join(str(error).split())[:300].removesuffix(".") or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it has no {reason}, so that another version wrote it or it is damaged; train it anew"
        raise ValueError(f"{path} cannot be read as a model of chipvi: {reason}.") from error


def _require_files(path: Path, weights_path: Path, pickle_path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}. Name one that chipvi train or model.save wrote.")
    if not path.is_file() and pickle_path.is_file():
        raise ValueError(
            f"{pickle_path} is a pickle, which can run code when it is opened, so chipvi does not open it. Train the "
            "model again (chipvi train --config takes the settings.toml of its folder); or, if you trust the file, "
            "convert it by hand as docs/saved_models.md in chipvi's repository shows."
        )
    for file in (path, weights_path):
        if not file.is_file():
            raise ValueError(
                f"{folder} holds no model ({file.name}). Name a folder that chipvi train or model.save wrote."
            )


def _open_document(text: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the JSON file holds, undamaged and of a format that is known; and its digests."""
    document = from_text(text.decode("utf-8"))
    if not isinstance(document, dict) or type(document.get("format")) is not int or document["format"] < 1:
        raise ValueError("it has no format")
    if document["format"] > FORMAT:
        raise ValueError(
            f"its format is {document['format']}, and chipvi {version('chipvi')} reads up to {FORMAT}; install a later "
            "version"
        )
    if document["format"] < FORMAT:
        raise ValueError(
            f"its format is {document['format']}, of a network that is built otherwise by now; load it with the chipvi "
            "that wrote it, or train it anew"
        )
    digests = document.pop("sha256")
    if _digest(to_text(document).encode()) != digests["all of the above"]:
        raise ValueError("it is damaged, or was changed by hand")
    return document, digests


def _require_registry(registry: Any) -> None:
    """Refuse a registry that is not one of chipvi."""
    match registry:
        case {
            "setup_method_name": "setup_anndata",
            "setup_args": dict(arguments),
            "field_registries": {
                "tracks": {"state_registry": dict(state)},
                "batch": {"state_registry": {"categorical_mapping": np.ndarray()}},
                **others,
            },
        } if others.keys() <= {"X"}:
            pass
        case _:
            raise ValueError("its registry is not one of chipvi")
    for name, default in asdict(SetupKeys()).items():
        value = arguments[name]
        is_text = isinstance(value, str) or (value is None and default is None)
        if not (isinstance(value, tuple) and _are_texts(value) if isinstance(default, tuple) else is_text):
            raise ValueError(f"{name} of its setup is {value!r}")
    texts = [state[name] for name in ("names", "biosamples", "assays")]
    if state["conditions"] is not None:
        texts.append(state["conditions"])
    flags = state["is_control"]
    if "X" in others and registry["field_registries"]["X"]["state_registry"]["n_vars"] != len(texts[0]):
        raise ValueError("its X has not as many columns as there are tracks")
    if not all(isinstance(values, list) and _are_texts(values) and len(values) == len(texts[0]) for values in texts):
        raise ValueError("its tracks must have a name, a biosample and an assay each, and all or none a condition")
    if not isinstance(flags, list) or len(flags) != len(texts[0]) or any(type(one) is not bool for one in flags):
        raise ValueError("is_control of its tracks must be true or false")
    for name in ("bin_width", "typical_width"):
        if state[name] is not None and (type(state[name]) is not int or state[name] < 1):
            raise ValueError(f"{name} of its regions must be a whole number of at least 1, or null")
    for name in ("seen", "views"):
        if not isinstance(state[name], list) or not state[name]:
            raise ValueError(f"{name} of its tracks must be kinds of data")
        for kind in state[name]:
            ViewKind(kind)


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _require_finding(plain: Any) -> None:
    if not all(isinstance(plain[name], dict) for name in ("numbers", "where")):
        raise ValueError("a finding must have numbers")
    found = Finding.of(plain)
    if any(type(number) is not float for number in (*found.numbers.values(), *found.where.values())):
        raise ValueError(f"the finding of {found.sign.value} must have numbers")


def _form(tensor: Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape)) or 'a number'} of {str(tensor.dtype).removeprefix('torch.')}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
