"""A page for a lab meeting: what a model was trained on, how that went, how good it is, and what to beware of.

Imports wait for the first call: this name is public from the start, and torch and Matplotlib take seconds.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .._arguments import checked, require_type

if TYPE_CHECKING:
    from anndata import AnnData

    from ..model import ChipVI
    from ..predict.request import Indices

__all__ = ["report"]


@checked
def report(
    model: ChipVI,
    path: str | PathLike,
    adata: AnnData | None = None,
    indices: Indices = None,
    overwrite: bool = False,
) -> Path:
    """Write a page about a model for a lab meeting: one HTML file that opens anywhere, with all that it shows inside.

    It shows what was measured and can be imputed, how training went, how good the imputation of each track is beside
    the average of the other biosamples and what the noise of the reads allows, the stretches with signal where
    imputation is best and worst (none are named so among fewer than 20), and what to beware of. It judges on at most
    some 8,000 regions, in stretches from all over.

    With igv-notebook installed (``pip install 'chipvi[browser]'``) the page has a genome browser, igv.js, in which a
    reader can move along the loci shown and what is around them; nothing is fetched from elsewhere. Loci link to the
    UCSC browser where ``adata.uns["assembly"]`` is a name that UCSC knows.

    Parameters
    ----------
    model
        A trained model.
    path
        File to write, `.html`.
    adata
        Another AnnData with the same tracks; None: that of the model.
    indices
        Regions to judge on, row numbers or a boolean mask, best those held out from training; None: all.
    overwrite
        Replace the file, if there is one.

    Returns
    -------
    The path written.

    Raises
    ------
    ValueError
        For a model that is not trained, and as :meth:`chipvi.ChipVI.diagnose`.
    FileExistsError
        If there is such a file, and `overwrite` is not set.
    BlockingIOError
        If another process is writing it.
    OSError
        If the page cannot be written, as where the disk is full; an older one is then as it was.

    Examples
    --------
    >>> import chipvi
    >>> adata = chipvi.datasets.simulate(n_regions=500)
    >>> chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    >>> model = chipvi.ChipVI(adata)
    >>> model.train(max_steps=100)  # doctest: +SKIP
    >>> chipvi.report(model, "report.html")  # doctest: +SKIP
    """
    from .._files import claimed
    from ..data.check import surveyed_once
    from ..model import ChipVI
    from .contents import make_page, require_path
    from .page import write_whole

    require_type("model", model, ChipVI)
    path = require_path(Path(path), overwrite, "overwrite=True")
    where = None if adata is None and indices is None else "regions chosen to judge on"
    with claimed(path), surveyed_once():
        return write_whole(make_page(model, None, adata, indices, where).text, path)
