"""What users of scvi-tools look for on a model: what needs help to work here, and why the rest cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..data.splits import Split

if TYPE_CHECKING:
    from anndata import AnnData
    from scvi.data import AnnDataManager

# Methods of other models of scvi-tools, and what to do in their place.
_ABSENT = {
    "get_feature_correlation_matrix": "correlate the columns of get_normalized_expression, which are tracks",
    "get_latent_library_size": "the depth of a track is known, not latent: depth_key of setup_anndata",
    "get_aggregated_posterior": "take mean and variance from get_latent_representation(return_dist=True)",
    "minify_adata": "a region's latents do not hold what its tracks are predicted from, which are other tracks",
    "prepare_query_anndata": "ChipVI.load_query_data takes other tracks as they are, without padding",
}


class HabitsMixin:
    """How :class:`chipvi.ChipVI` meets habits from other models of scvi-tools."""

    if TYPE_CHECKING:
        adata: AnnData
        adata_manager: AnnDataManager
    _split: Split | None = None  # of the last training, not saved

    if not TYPE_CHECKING:  # or else a type checker would take any name for one of ours

        def __getattr__(self, name: str) -> Any:
            """Say what to do in place of a method that other models have."""
            if name in _ABSENT:
                raise AttributeError(f"{type(self).__name__} has no {name!r}: {_ABSENT[name]}.")
            return super().__getattribute__(name)  # once more, for the error

    @property
    def train_indices(self) -> np.ndarray:
        """Rows that the last training learnt from, in ascending order."""
        return self._require_split().train

    @property
    def validation_indices(self) -> np.ndarray:
        """Rows that the last training validated on, in ascending order."""
        return self._require_split().validation

    @property
    def test_indices(self) -> np.ndarray:
        """Rows that the last training did not look at, in ascending order."""
        split = self._require_split()
        return np.setdiff1d(np.arange(self.adata.n_obs), np.r_[split.train, split.validation])

    def _require_split(self) -> Split:
        if self._split is None:
            raise ValueError(
                "which regions were held out is known after a training, and is not saved with a model; keep it in a "
                "column of obs and train with split_key."
            )
        return self._split

    def view_registry(self, hide_state_registries: bool = False) -> None:
        """Print where the data keep what.

        Parameters
        ----------
        hide_state_registries
            Leave out what the fields know of the data.
        """
        self.adata_manager.view_registry(hide_state_registries=hide_state_registries)

    def update_setup_method_args(self, setup_method_args: dict[str, Any]) -> NoReturn:
        """Refuse: another setup makes another model.

        Parameters
        ----------
        setup_method_args
            As scvi-tools has them; not used.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("the setup of a model cannot be changed; call setup_anndata and make a new one.")

    def differential_abundance(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: rows are regions of the genome, which have no samples.

        Parameters
        ----------
        *args, **kwargs
            As scvi-tools has them; not used.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            "differential_abundance compares samples of cells by their density in the latent space; here rows are "
            "regions of the genome, of which every biosample has each once."
        )
