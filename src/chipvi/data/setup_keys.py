"""Names of what an AnnData keeps, apart from what checks them: importing this takes no time."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _keys


@dataclass(frozen=True)
class SetupKeys:
    """Where an AnnData keeps what; the arguments of `ChipVI.setup_anndata`, with its defaults."""

    layer: str | None = None
    observed_layer: str | None = None
    signal_layer: str | None = None
    biosample_key: str = _keys.BIOSAMPLE
    assay_key: str = _keys.ASSAY
    depth_key: str | None = None
    control_key: str | None = None
    condition_key: str | None = None
    segment_key: str | None = None
    covariate_keys: tuple[str, ...] = ()
