"""What genome browsers open: a track hub for the UCSC browser, a session for IGV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pandas as pd

from ... import _keys
from ..._arguments import checked
from ..._files import written_whole
from ..._messages import listed
from .colors import IMPUTED, kind_color

COLUMNS = ["track", "kind", _keys.BIOSAMPLE, _keys.ASSAY, "file"]

_OVERLAY = (_keys.UPPER, IMPUTED, _keys.LOWER)  # from back to front
_KINDS = {
    IMPUTED: "imputed counts",
    _keys.LOWER: "lower end of the interval",
    _keys.UPPER: "upper end of the interval",
    _keys.DENOISED: "denoised counts",
    _keys.PVAL: "imputed -log10 p",
}
_SHORT, _LONG = 17, 76  # letters that the UCSC browser shows of a label


@checked
def write_track_hub(
    files: pd.DataFrame,
    folder: str | PathLike,
    genome: str,
    *,
    name: str = "chipvi",
    email: str = "nobody@example.org",
) -> Path:
    """Write a track hub, which the UCSC browser opens by the address of its `hub.txt`.

    All addresses in it are relative, so the folder and the files can be put on any web server. Tracks are grouped by
    biosample; imputed counts lie over their interval, in the colour of the assay.

    Parameters
    ----------
    files
        A row per bigWig file, as of :func:`write_tracks`: `track`, `kind` (such as "imputed", "lower", "upper",
        "denoised", "pval", "observed"), `biosample`, `assay` and `file` (path).
    folder
        To write to; made if need be. Put it above or beside the files, for a web server to find them.
    genome
        Name of the assembly at UCSC, such as "hg38".
    name
        Of the hub.
    email
        Of whom to ask about the hub, which UCSC demands.

    Returns
    -------
    Path of `hub.txt`; `genomes.txt` and `trackDb.txt` are beside it.

    Raises
    ------
    ValueError
        If a column is missing, or a file is not there or no bigWig file.
    """
    _require_files(files)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    label = _one_line(name)
    hub = {
        "hub": _plain(name),
        "shortLabel": label[:_SHORT],
        "longLabel": label[:_LONG],
        "genomesFile": "genomes.txt",
        "email": _one_line(email),
    }
    _write_text(folder / "trackDb.txt", _stanzas(_hub_tracks(files, folder)))
    _write_text(folder / "genomes.txt", _stanzas([{"genome": genome, "trackDb": "trackDb.txt"}]))
    _write_text(folder / "hub.txt", _stanzas([hub]))
    return folder / "hub.txt"


@checked
def write_igv_session(files: pd.DataFrame, path: str | PathLike, genome: str, *, locus: str | None = None) -> Path:
    """Write a session of IGV Desktop, which opens all files in the colours of their assays.

    Parameters
    ----------
    files
        As for :func:`write_track_hub`.
    path
        To write to, ending in `.xml`. The files are named relative to it, so all can be moved together.
    genome
        IGV's name of the assembly, such as "hg38", or the path of a FASTA file.
    locus
        Place to show, such as "chr1:1000-20000"; by default the whole genome.

    Returns
    -------
    The path.

    Raises
    ------
    ValueError
        If a column is missing, or a file is not there or no bigWig file, or for another ending.
    """
    _require_files(files)
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(f"a session of IGV must be a file ending in .xml; got {path.name!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    session = ElementTree.Element("Session", genome=genome, locus=locus or "All", version="8")
    resources = ElementTree.SubElement(session, "Resources")
    panel = ElementTree.SubElement(session, "Panel", name="DataPanel")
    for row in files.itertuples():
        ElementTree.SubElement(resources, "Resource", path=_relative(row.file, path.parent), type="bw")
    for track, rows in _by_track(files):
        overlay, alone = _overlay(rows)
        if overlay:
            merged = _igv_track(panel, f"{track} overlay", f"{track}, with interval", _color(overlay[1]))
            merged.set("clazz", "org.broad.igv.track.MergedTracks")
            merged.set("alpha", "0.8")
            for row in overlay:
                _igv_track(merged, _relative(row.file, path.parent), _title(row), _color(row))
        for row in alone:
            _igv_track(panel, _relative(row.file, path.parent), _title(row), _color(row))
    ElementTree.indent(session)
    text = ElementTree.tostring(session, encoding="unicode")
    _write_text(path, f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n{text}\n')
    return path


def _require_files(files: pd.DataFrame) -> None:
    absent = [name for name in COLUMNS if name not in files]
    if absent:
        raise ValueError(f"the table of files must have the columns {listed(COLUMNS)}; it has no {listed(absent)}.")
    if files.empty:
        raise ValueError("the table of files must name at least one; it names none.")
    for file in map(Path, files["file"]):
        if file.suffix.lower() not in (".bw", ".bigwig"):
            raise ValueError(f"browsers must be given bigWig files, ending in .bw or .bigWig; got {file.name!r}.")
        if not file.is_file():
            raise ValueError(f"there is no {file}. Write the bigWig files first.")


def _by_track(files: pd.DataFrame) -> Iterable[tuple[str, list[Any]]]:
    for track, rows in files.groupby("track", sort=False, observed=True):
        yield str(track), list(rows.itertuples())


def _overlay(rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """Rows to lay over each other, from back to front, where there is an interval; and all others."""
    by_kind = {row.kind: row for row in rows}
    if not set(_OVERLAY) <= set(by_kind):
        return [], rows
    return [by_kind[kind] for kind in _OVERLAY], [row for row in rows if row.kind not in _OVERLAY]


def _hub_tracks(files: pd.DataFrame, folder: Path) -> list[dict[str, str]]:
    taken: set[str] = set()
    parents: dict[str, str] = {}
    stanzas = []
    shared = {
        "type": "bigWig",
        "visibility": "full",
        "autoScale": "on",
        "alwaysZero": "on",
        "maxHeightPixels": "128:40:8",
    }
    for track, rows in _by_track(files):
        biosample = str(rows[0].biosample)
        if biosample not in parents:
            parents[biosample] = _name(f"biosample_{biosample}", taken)
            about = _labels(biosample, biosample) | {"superTrack": "on show"}
            stanzas.append({"track": parents[biosample]} | about)
        parent = {"parent": parents[biosample]}
        overlay, alone = _overlay(rows)
        if overlay:
            top = _name(track, taken)
            about = _labels(_short(rows[0]), f"{track}: imputed counts, with interval")
            kind = {"container": "multiWig", "aggregate": "solidOverlay", "showSubtrackColorOnUi": "on"}
            stanzas.append({"track": top} | parent | kind | about | shared | _painted(overlay[1]))
            for priority, row in enumerate(overlay, start=1):
                below = {"parent": top, "priority": str(priority), "type": "bigWig"}
                stanzas.append({"track": _name(f"{track}_{row.kind}", taken)} | below | _data(row, folder))
        for row in alone:
            stanzas.append({"track": _name(f"{track}_{row.kind}", taken)} | parent | shared | _data(row, folder))
    return stanzas


def _data(row: Any, folder: Path) -> dict[str, str]:
    return {"bigDataUrl": quote(_relative(row.file, folder))} | _labels(_short(row), _title(row)) | _painted(row)


def _painted(row: Any) -> dict[str, str]:
    return {"color": _color(row)}


def _labels(short: str, long: str) -> dict[str, str]:
    return {"shortLabel": _one_line(short)[:_SHORT], "longLabel": _one_line(long)[:_LONG]}


def _short(row: Any) -> str:
    return f"{row.assay} {row.biosample}"


def _title(row: Any) -> str:
    return _one_line(f"{row.track}: {_KINDS.get(row.kind, row.kind)}")


def _color(row: Any) -> str:
    return ",".join(map(str, kind_color(row.assay, row.kind)))


def _igv_track(parent: ElementTree.Element, key: str, name: str, color: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        parent,
        "Track",
        {
            "id": key,
            "name": _one_line(name),
            "color": color,
            "altColor": color,
            "autoScale": "true",
            "height": "50",
            "renderer": "BAR_CHART",
            "visible": "true",
            "windowFunction": "mean",
        },
    )


def _relative(file: str | PathLike, folder: Path) -> str:
    """Path as seen from the folder, with slashes, as in an address."""
    return Path(os.path.relpath(file, folder)).as_posix()


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", str(name), flags=re.ASCII).strip("_") or "x"


def _name(name: str, taken: set[str]) -> str:
    """Name of a track in a hub: letters, digits and `_`, a letter first, and no other's."""
    plain = _plain(name)
    plain = plain if plain[0].isalpha() else f"t_{plain}"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}_{number}"
    taken.add(found)
    return found


def _one_line(text: str) -> str:
    """Text without line ends and control characters, which neither format can hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _stanzas(stanzas: Iterable[Mapping[str, str]]) -> str:
    return "\n".join("".join(f"{key} {value}\n" for key, value in stanza.items()) for stanza in stanzas)


def _write_text(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
