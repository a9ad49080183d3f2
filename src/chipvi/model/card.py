"""A card for a saved model, with which scvi-tools' hub opens the folder."""

from __future__ import annotations

import json
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .._arguments import checked
from .._files import written_whole
from .._keys import MODEL_FILE
from .._messages import counted
from ..data.grid import Grid
from ..module.vae import ModuleOptions

if TYPE_CHECKING:
    from anndata import AnnData

CARD_FILE, METADATA_FILE = "README.md", "_scvi_required_metadata.json"
"""Names that :class:`scvi.hub.HubModel` looks for."""


class CardMixin:
    """How :class:`chipvi.ChipVI` is handed on."""

    if TYPE_CHECKING:
        adata: AnnData
        module_options: ModuleOptions

        @property
        def grid(self) -> Grid: ...  # noqa: D102
        @property
        def context(self) -> str: ...  # noqa: D102
        @property
        def advice(self) -> list[str]: ...  # noqa: D102

    @checked
    def write_model_card(self, dir_path: str | PathLike, license: str, description: str = "") -> None:
        """Write a model card and the metadata of scvi-tools' hub into the folder of this model, saved before.

        :class:`scvi.hub.HubModel` opens the folder then, also after it was uploaded and downloaded with
        `huggingface_hub`. A card that is there is replaced.

        Parameters
        ----------
        dir_path
            Folder that :meth:`save` wrote.
        license
            Under which the model may be used, by its short name, such as "cc-by-4.0".
        description
            What the data are, and what the model is meant for.

        Raises
        ------
        ValueError
            If the folder holds no model.
        """
        folder = Path(dir_path)
        if not (folder / MODEL_FILE).is_file():
            raise ValueError(f"{folder} holds no {MODEL_FILE}; save the model there first.")
        versions = {"scvi": version("scvi-tools"), "anndata": version("anndata")}
        metadata = {f"{name}_version": number for name, number in versions.items()}
        metadata |= {"model_cls_name": type(self).__name__, "model_parent_module": "chipvi"}
        for name, text in (
            (METADATA_FILE, json.dumps(metadata, indent=4)),
            (CARD_FILE, self._card(license, description, metadata)),
        ):
            with written_whole(folder / name) as partial:
                partial.write_text(text, "utf-8")

    def _card(self, license: str, description: str, metadata: dict[str, str]) -> str:
        grid = self.grid
        kinds = [kind for kind, there in (("counts", grid.has_counts), ("signal", grid.has_signal)) if there]
        tags = ["biology", "genomics", "epigenomics", *(f"{name}:{value}" for name, value in metadata.items())]
        shown = [
            "---",
            f"license: {license}",
            "library_name: scvi-tools",
            "tags:",
            *(f"- {json.dumps(tag)}" for tag in tags),
            "---",
            "",
            f"# {type(self).__name__}",
            "",
            description or "A model of chipvi, which imputes and denoises tracks of ChIP-seq, ATAC-seq and DNase-seq.",
            "",
            f"* Trained on {' and '.join(kinds)} of {counted(self.adata.n_obs, 'region')} x "
            f"{counted(len(grid.biosample_t), 'track')}.",
            f"* Biosamples: {', '.join(grid.biosamples)}.",
            f"* Assays: {', '.join(grid.assays)}.",
            f"* Context: {self.context} of a region. Count head: {self.module_options.head}.",
            *(f"* Training warned: {text}" for text in self.advice),
            "",
            "```python",
            "import chipvi",
            "",
            'model = chipvi.ChipVI.load("this_folder", adata)  # regions x tracks, with these tracks',
            "result = model.impute()",
            "```",
            "",
        ]
        return "\n".join(shown)
