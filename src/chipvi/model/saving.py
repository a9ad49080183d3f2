"""How a model is saved and loaded: as scvi-tools has it, in files that run nothing."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import asdict
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.pretty  # noqa: F401 - scvi-tools prints with it, and does not import it
from anndata import AnnData
from anndata.io import write_h5ad
from scvi.data import AnnDataManager
from scvi.model._utils import parse_device_args

from .._arguments import checked
from .._files import written_whole
from .._keys import DATA_FILE, MODEL_FILE, WEIGHTS_FILE
from ..data.check import surveyed_once
from ..io.inputs import read_anndata
from ..train.runner import choose_accelerator
from .query import ReferenceSize
from .saved import SavedModel, cannot_be_read

weights_follow: ContextVar[bool] = ContextVar("weights_follow", default=False)
"""Whether a model is made to load weights into, so that it need not look at the data."""


class SaveMixin:
    """How :class:`chipvi.ChipVI` is saved and loaded."""

    if TYPE_CHECKING:
        adata: AnnData
        module: Any
        init_params_: dict[str, Any]
        registry_: dict[str, Any]
        reference_size_: ReferenceSize | None

        def __init__(self, adata: AnnData, **options: Any) -> None: ...
        @classmethod
        def setup_anndata(cls, adata: AnnData, **kwargs: Any) -> None: ...  # noqa: D102
        def to_device(self, device: Any) -> None: ...  # noqa: D102

    @checked
    def save(
        self,
        dir_path: str | PathLike,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        legacy_mudata_format: bool = False,
        datamodule: Any = None,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Save the model: `model.json` and `model.safetensors`, and at will its data as `adata.h5ad`.

        All of it is written, or nothing: what was there stays until the new files are complete.

        Parameters
        ----------
        dir_path
            Folder to make.
        prefix
            Text to begin the names of the files with, so that a folder may hold several models.
        overwrite
            Whether to write into a folder that is there, over files of the same names.
        save_anndata
            Whether to save the data too, so that the model loads without others.
        save_kwargs, legacy_mudata_format, datamodule
            Of scvi-tools, for files and data that chipvi does not have; an error if given.
        **anndata_write_kwargs
            Go to :meth:`anndata.AnnData.write_h5ad`, such as `compression="gzip"`.

        Raises
        ------
        ValueError
            If the folder is there and may not be written into, or for an attribute that cannot be saved.
        """
        _refuse("save_kwargs", save_kwargs, "it is for torch.save, which chipvi does not use")
        _refuse("legacy_mudata_format", legacy_mudata_format, "a model of chipvi has no MuData")
        _refuse("datamodule", datamodule, "a model of chipvi has an AnnData")
        if anndata_write_kwargs and not save_anndata:
            name = next(iter(anndata_write_kwargs))
            raise ValueError(f"{name} is for writing the data; give save_anndata=True as well, or leave it out.")
        folder, prefix = Path(dir_path), prefix or ""
        if folder.exists() and not (overwrite and folder.is_dir()):
            how = "or write into it with overwrite=True" if folder.is_dir() else "for it is a file"
            raise ValueError(f"{folder} already exists. Name another folder, {how}.")
        files = self._saved().files()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as complete:
            target = folder
            if not folder.exists():
                target = complete.enter_context(written_whole(folder))
                target.mkdir()
            # what is opened first takes its place last: the file that names the others' contents
            for name, content in files.items():
                complete.enter_context(written_whole(target / f"{prefix}{name}")).write_bytes(content)
            if save_anndata:
                path = complete.enter_context(written_whole(target / f"{prefix}{DATA_FILE}"))
                write_h5ad(path, self.adata, **anndata_write_kwargs)

    def _saved(self) -> SavedModel:
        attributes = {name: value for name, value in vars(self).items() if name.endswith("_")}
        registry, arguments = attributes.pop("registry_"), attributes.pop("init_params_")
        if self.reference_size_ is not None:
            attributes["reference_size_"] = asdict(self.reference_size_)
        return SavedModel(
            class_name=type(self).__name__,
            versions={name: version(name) for name in ("chipvi", "scvi-tools")},
            init_params={**arguments["non_kwargs"], **ChainMap(*arguments["kwargs"].values())},
            registry=registry,
            attributes=attributes,
            weights=self.module.state_dict(),
        )

    @classmethod
    @checked
    def load(
        cls,
        dir_path: str | PathLike,
        adata: AnnData | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: str | None = None,
        datamodule: Any = None,
        allowed_classes_names_list: Sequence[str] | None = None,
    ) -> Any:
        """Load a saved model on data with its tracks, in its order. Nothing in the files can run.

        Parameters
        ----------
        dir_path
            Folder that :meth:`save` or `chipvi train` wrote.
        adata
            Regions x tracks, on the same keys as the data of training, not set up; None for those saved with the model.
        accelerator, device
            Where to compute, as Lightning has it: "cpu", "gpu", "auto", ...
        prefix
            What the names of the files begin with.
        backup_url, datamodule
            Of scvi-tools, for files and data that chipvi does not have; an error if given.
        allowed_classes_names_list
            Names of other classes whose models may be loaded as one of this class.

        Raises
        ------
        ValueError
            If the files are not there, damaged, of a later version or of another class, for a pickle (`model.pt`), and
            for data that do not fit.
        """
        _refuse("backup_url", backup_url, f"download {MODEL_FILE} and {WEIGHTS_FILE} to the folder first")
        _refuse("datamodule", datamodule, "a model of chipvi is loaded on an AnnData")
        accelerator = choose_accelerator(accelerator)
        folder, prefix = Path(dir_path), prefix or ""
        saved, path = SavedModel.read(folder, prefix), folder / f"{prefix}{MODEL_FILE}"
        if saved.class_name not in (cls.__name__, *(allowed_classes_names_list or ())):
            raise ValueError(f"{path} holds a model of the class {saved.class_name}, not {cls.__name__}.")
        if adata is None:
            adata = _read_data(folder / f"{prefix}{DATA_FILE}")
        _, _, torch_device = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
        with surveyed_once():
            cls.setup_anndata(adata, source_registry=saved.registry, **saved.registry["setup_args"])
            token = weights_follow.set(True)
            try:
                with cannot_be_read(path):
                    model = cls(adata, **saved.init_params)
            finally:
                weights_follow.reset(token)
        with cannot_be_read(path):
            size = saved.attributes.get("reference_size_")
            for name, value in saved.attributes.items():
                setattr(model, name, value)
            model.reference_size_ = None if size is None else ReferenceSize(**size)
        with cannot_be_read(folder / f"{prefix}{WEIGHTS_FILE}"):
            model.module.trees.take(saved.weights_under("trees."))  # a model that is not trained has none
            saved.require_weights_of(model.module.state_dict())
            model.module.load_state_dict(saved.weights)
        model.to_device(torch_device)
        model.module.eval()
        return model

    @staticmethod
    @checked
    def load_registry(dir_path: str | PathLike, prefix: str | None = None) -> dict[str, Any]:
        """What a saved model knows of its data: scvi-tools' registry.

        Parameters
        ----------
        dir_path, prefix
            As in :meth:`load`.

        Raises
        ------
        ValueError
            If the files are not there or are damaged.
        """
        return dict(SavedModel.read(Path(dir_path), prefix or "").registry)

    @staticmethod
    @checked
    def view_setup_args(dir_path: str | PathLike, prefix: str | None = None) -> None:
        """Print the arguments of `setup_anndata` of a saved model.

        Parameters
        ----------
        dir_path, prefix
            As in :meth:`load`.
        """
        AnnDataManager.view_setup_method_args(SaveMixin.load_registry(dir_path, prefix))

    @classmethod
    def convert_legacy_save(
        cls,
        dir_path: str | PathLike,
        output_dir_path: str | PathLike,
        overwrite: bool = False,
        prefix: str | None = None,
        **save_kwargs: Any,
    ) -> None:
        """Refuse: chipvi never wrote the files of scvi-tools before 0.15, which are pickles.

        Parameters
        ----------
        dir_path, output_dir_path, overwrite, prefix, **save_kwargs
            As scvi-tools has them; not used.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(f"{dir_path} cannot be converted: chipvi never wrote files of scvi-tools before 0.15.")


def _refuse(name: str, value: object, reason: str) -> None:
    """Refuse an argument of scvi-tools that would do nothing here."""
    if value is not None and value is not False and value != {}:
        raise ValueError(f"{name} cannot be used: {reason}.")


def _read_data(path: Path) -> AnnData:
    if not path.is_file():
        raise ValueError(
            f"{path.parent} holds a model without its data ({path.name}). Name data with its tracks, as in "
            "ChipVI.load(folder, adata), or save it with save_anndata=True."
        )
    return read_anndata(path)
