"""A model in its folder, and opened on the data that it was trained on, or on others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._keys import DATA_FILE
from .._quiet import quiet_lightning
from .places import open_places
from .settings import SETTINGS_FILE, Made, Settings, read_stored
from .train import KNOWN, require_accelerator

if TYPE_CHECKING:
    from anndata import AnnData

    from ..model.chipvi import ChipVI


@dataclass(frozen=True)
class Saved:
    """What a folder with a model holds, before the model is loaded.

    Parameters
    ----------
    folder
        That `chipvi train` or `model.save` wrote.
    tracks
        Names of the tracks that the model was trained on, in its order.
    settings, made
        How it was trained, and on what; empty and None if `model.save` wrote the folder.
    """

    folder: Path
    tracks: list[str]
    settings: Settings
    made: Made | None


def find_saved(folder: Path) -> Saved:
    """Look into a folder.

    Raises
    ------
    ValueError
        If it holds no model of chipvi, or one that cannot be read, or settings that cannot.
    """
    from ..model.saved import SavedModel

    with quiet_lightning():
        tracks = SavedModel.read(folder).var_names
    if not (folder / SETTINGS_FILE).exists():
        return Saved(folder, tracks, {}, None)
    try:
        settings, made = read_stored(folder, KNOWN)
    except ValueError as error:
        raise ValueError(f"{error} Remove the file and name the data with --data, or train again.") from error
    return Saved(folder, tracks, settings, made)


def load_saved(saved: Saved, adata: AnnData | None, accelerator: str) -> ChipVI:
    """Load a model on data with its tracks, in any order; None for those that it was trained on.

    Raises
    ------
    ValueError
        If the data do not fit; or, for those of training, if they are not there or have changed since.
    """
    if adata is not None:
        if list(adata.var_names) != saved.tracks and set(adata.var_names) == set(saved.tracks):
            adata = adata[:, saved.tracks].to_memory()
        return _load(saved.folder, adata, accelerator)
    path = _find_data(saved)
    places = (saved.settings.get(name) for name in ("chromosomes", "regions"))
    model = _load(saved.folder, open_places(path, *places), accelerator)
    if saved.made is not None and not saved.made.is_of(model.data):
        raise ValueError(
            f"{path} is not what the model was trained on any more: its regions, reads or signal changed. To use it "
            "as it is now, name it with --data."
        )
    return model


def _find_data(saved: Saved) -> Path:
    if (saved.folder / DATA_FILE).is_file():
        return saved.folder / DATA_FILE
    if saved.made is None:
        raise ValueError(f"{saved.folder} has no record of what it was trained on; name the data with --data.")
    path = Path(saved.made.data)
    if not path.exists():
        raise ValueError(
            f"the data that the model was trained on, {path}, are not there any more; name them with --data."
        )
    return path


def _load(folder: Path, adata: AnnData, accelerator: str) -> ChipVI:
    from ..model.chipvi import ChipVI

    accelerator = require_accelerator(accelerator)
    with quiet_lightning():
        model: ChipVI = ChipVI.load(folder, adata, accelerator=accelerator)
    return model
