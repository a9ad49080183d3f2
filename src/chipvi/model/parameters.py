"""Descriptions of parameters that many methods share."""

from __future__ import annotations

from .. import _docstrings

_SHARED = {
    "adata": """adata
    Another AnnData with the same tracks; None: that of the model. Context is taken from the whole of it, whatever the
    indices.""",
    "indices": """indices
    Regions, row numbers or a boolean mask; None: all.""",
    "tracks": """tracks
    Names out of `var_names`; or a table with the columns `biosample` and `assay` (and `depth`, in reads) for
    experiments that nobody has run; None: all tracks but the controls.""",
    "depth": """depth
    Reads to predict all tracks at. None: each track's own, which is that in the `depth_key` column of the AnnData at
    hand, or without that column the depth of training, also in other regions; for a new experiment the median of its
    assay.""",
    "batch_size": """batch_size
    Regions at a time; None chooses.""",
    "return_numpy": """return_numpy
    An array in place of a table.""",
}
_SHARED["asked"] = "\n".join(_SHARED[name] for name in ("adata", "indices", "tracks", "depth"))

documented = _docstrings.documented(_SHARED)
