"""The quality of each track as a table of MultiQC: custom content, which it finds by the end of the file's name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from ..evaluate.diagnosis import Diagnosis

_END = "_mqc.json"
_SHARE: dict[str, object] = {"min": 0, "max": 1, "scale": "RdYlGn"}
# columns of Diagnosis.table: title, what it is, and how MultiQC draws it
_HEADERS: dict[str, tuple[str, str, dict[str, object]]] = {
    "reads": ("Reads", "Reads judged on", {"min": 0, "scale": "Blues", "format": "{:,.0f}"}),
    "ratio": ("Imputed / measured", "Mean imputed over mean measured: 1 is right", {"min": 0, "scale": False}),
    "r2": ("R2", "Share of the ups and downs that is imputed", _SHARE),
    "r2_average": ("R2, average", "The same of the average of the other biosamples", _SHARE),
    "pearson": ("Pearson", "Correlation of imputed and measured values", _SHARE),
    "pit_deviation": ("PIT deviation", "0 where the spread is right", {"min": 0, "scale": "OrRd"}),
    "coverage": ("Coverage", "Share of values within their 95 % interval", {"min": 0, "max": 1, "scale": False}),
}


def require_multiqc(path: Path, overwrite: bool) -> None:
    """Refuse what MultiQC would not find, and a file that is there, before any work."""
    if not path.name.endswith(_END):
        raise ValueError(f"MultiQC finds files that end in {_END}, got {path.name!r}. Name it chipvi{_END}, say.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to. Make it first.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already. Name another file, or replace it with --overwrite.")


def multiqc_content(diagnosis: Diagnosis) -> str:
    """A section of MultiQC with a row per track, and per quantity where counts and signal were judged."""
    table = diagnosis.table
    several = table["quantity"].nunique() > 1
    rows = {
        f"{track} ({row['quantity']})" if several else str(track): {
            name: float(row[name]) for name in _HEADERS if pd.notna(row[name])
        }
        for track, row in table.iterrows()
    }
    headers = {
        name: {"title": title, "description": gloss, "format": "{:,.2f}", **style}
        for name, (title, gloss, style) in _HEADERS.items()
    }
    content = {
        "id": "chipvi",
        "section_name": "chipvi",
        "description": "How well each track is imputed without its own reads.",
        "plot_type": "table",
        "pconfig": {"id": "chipvi_tracks", "title": "chipvi: imputation by track", "col1_header": "Track"},
        "headers": headers,
        "data": rows,
    }
    return json.dumps(content, indent=1, allow_nan=False)
