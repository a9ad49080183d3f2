"""Options that commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEMO_DATA = ("simulated", "roadmap-tss")

BiosampleKey: TypeAlias = Annotated[str | None, typer.Option(help="Column of var with the biosample.")]
AssayKey: TypeAlias = Annotated[str | None, typer.Option(help="Column of var with the assay.")]
DepthKey: TypeAlias = Annotated[
    str | None, typer.Option(help="Column of var with reads per track; by default counts are added up.")
]
ControlKey: TypeAlias = Annotated[str | None, typer.Option(help="Column of var that is true for controls.")]
SegmentKey: TypeAlias = Annotated[
    str | None, typer.Option(help="Column of obs whose equal values mark neighbours; by default chrom, start, end.")
]
Layer: TypeAlias = Annotated[str | None, typer.Option(help="Layer with counts; by default X.")]
ObservedLayer: TypeAlias = Annotated[str | None, typer.Option(help="Layer that is 0 where counts are missing.")]
SignalLayer: TypeAlias = Annotated[
    str | None, typer.Option(help="Layer with arcsinh(-log10 p), to learn from as well.")
]
Accelerator: TypeAlias = Annotated[str | None, typer.Option(help="Where to compute: auto, cpu, gpu, ...")]
Genome: TypeAlias = Annotated[
    str | None, typer.Option(help="hg19, hg38, mm10, mm39, or a file of chromosome sizes.", show_default=False)
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Check, tell what would be done, and write nothing.")
]
Out: TypeAlias = Annotated[Path, typer.Option("--out", "-o", help="File to write, .h5ad or .zarr.", show_default=False)]
