"""What genome browsers open: a track hub for the UCSC browser, a session for IGV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import version
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
from .colors import IMPUTED, OBSERVED, OBSERVED_PVAL, kind_color

COLUMNS = ["track", "kind", _keys.BIOSAMPLE, _keys.ASSAY, "file"]

_OVERLAY = (_keys.UPPER, IMPUTED, _keys.LOWER)  # from back to front
_KINDS = {
    OBSERVED: "measured counts",
    IMPUTED: "imputed counts",
    _keys.LOWER: "lower end of the interval",
    _keys.UPPER: "upper end of the interval",
    _keys.DENOISED: "denoised counts",
    OBSERVED_PVAL: "measured -log10 p",
    _keys.PVAL: "imputed -log10 p",
}
_GLOSSES = {
    OBSERVED: "Reads counted in each region.",
    IMPUTED: "Expected reads at the depth of the track, predicted from the other tracks, without its own reads.",
    _keys.LOWER: "Lower end of the 95 % interval in which a count should lie, by the same prediction.",
    _keys.UPPER: "Upper end of that interval.",
    _keys.DENOISED: "Expected reads at the depth of the track, predicted from all tracks, its own reads included.",
    OBSERVED_PVAL: "Significance of a peak caller, from the data.",
    _keys.PVAL: "The same, predicted from the other tracks, without its own data.",
}
# What short labels end in, so that those of a track differ.
_ENDINGS = {
    OBSERVED: "meas",
    IMPUTED: "imp",
    _keys.LOWER: "low",
    _keys.UPPER: "up",
    _keys.DENOISED: "den",
    OBSERVED_PVAL: "meas p",
    _keys.PVAL: "imp p",
}
_SHORT, _LONG = 17, 76  # letters that the UCSC browser shows of a label
_DESCRIPTION = "description.html"


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
        Contact address of the hub, which UCSC requires.

    Returns
    -------
    Path of `hub.txt`; `genomes.txt`, `trackDb.txt` and `description.html`, the page of the hub and of every track, are
    beside it.

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
        "descriptionUrl": _DESCRIPTION,
    }
    _write_text(folder / _DESCRIPTION, _describe(files, name, email))
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
        for some in _in_order(rows):
            place = panel
            if len(some) > 1:
                place = _igv_track(panel, f"{track} overlay", f"{track}, with interval", _color(some[1]))
                place.set("clazz", "org.broad.igv.track.MergedTracks")
                place.set("alpha", "0.8")
            for row in some:
                _igv_track(place, _relative(row.file, path.parent), _title(row), _color(row))
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
    if not {_keys.UPPER, IMPUTED} <= set(by_kind):
        return [], rows
    return [by_kind[kind] for kind in _OVERLAY if kind in by_kind], [row for row in rows if row.kind not in _OVERLAY]


def _in_order(rows: list[Any]) -> list[list[Any]]:
    """What to show of a track from top to bottom, each by one row, or by several that lie over each other."""
    overlay, alone = _overlay(rows)
    shown = [[row] for row in alone] + ([overlay] if overlay else [])
    order = list(_KINDS)
    return sorted(shown, key=lambda some: order.index(some[-1].kind) if some[-1].kind in order else len(order))


def _hub_tracks(files: pd.DataFrame, folder: Path) -> list[dict[str, str]]:
    names: set[str] = set()
    short: set[str] = set()
    parents: dict[str, str] = {}
    stanzas: list[dict[str, str]] = []
    shared = {
        "type": "bigWig",
        "visibility": "full",
        "autoScale": "on",
        "alwaysZero": "on",
        "maxHeightPixels": "128:40:8",
    }

    def add(name: str, label: str, ending: str, long: str, settings: Mapping[str, str]) -> str:
        track = _name(name, names)
        labels = {"shortLabel": _short(label, ending, short), "longLabel": _one_line(long)[:_LONG]}
        stanzas.append({"track": track} | labels | {"priority": str(len(stanzas) + 1)} | dict(settings))
        return track

    for track, rows in _by_track(files):
        biosample = str(rows[0].biosample)
        if biosample not in parents:
            settings = {"superTrack": "on show", "html": _DESCRIPTION}  # its tracks have the page from it
            parents[biosample] = add(f"biosample_{biosample}", biosample, "", biosample, settings)
        parent, label = {"parent": parents[biosample]}, f"{rows[0].assay} {biosample}"
        for some in _in_order(rows):
            if len(some) > 1:
                kind = {"container": "multiWig", "aggregate": "solidOverlay", "showSubtrackColorOnUi": "on"}
                long, painted = f"{track}: imputed counts, with interval", _painted(some[1])
                top = {"parent": add(track, label, "imp", long, parent | kind | shared | painted), "type": "bigWig"}
            for row in some:
                own = {"bigDataUrl": quote(_relative(row.file, folder))} | _painted(row)
                ending = _ENDINGS.get(row.kind, str(row.kind))
                add(
                    f"{track}_{row.kind}", label, ending, _title(row), (top if len(some) > 1 else parent | shared) | own
                )
    return stanzas


def _describe(files: pd.DataFrame, name: str, email: str) -> str:
    """The page that UCSC shows of a hub and below each of its tracks, which hubCheck asks for."""
    kinds = dict.fromkeys(map(str, files["kind"]))
    shown = [kind for kind in _KINDS if kind in kinds]
    glosses = "".join(f"<dt>{_KINDS[kind]}</dt><dd>{_GLOSSES[kind]}</dd>\n" for kind in shown)
    names = "".join(f"<li>{escape(_one_line(track))}</li>\n" for track in dict.fromkeys(map(str, files["track"])))
    return (
        f"<h2>Description</h2>\n<p>{escape(_one_line(name))}: tracks of ChIP-seq, ATAC-seq or DNase-seq, grouped by "
        f"biosample, in the colours of their assays.</p>\n<ul>\n{names}</ul>\n"
        f"<h2>Display conventions</h2>\n<dl>\n{glosses}</dl>\n"
        "<p>Where there is an interval, the imputed counts lie over it. A gap is a region without a value.</p>\n"
        f"<h2>Methods</h2>\n<p>Predicted by chipvi {version('chipvi')}, "
        '<a href="https://github.com/chipvi/chipvi">github.com/chipvi/chipvi</a>, a model of read counts over '
        "biosamples, assays and neighbouring regions.</p>\n"
        f"<h2>Contact</h2>\n<p>{escape(_one_line(email))}</p>\n"
    )


def _painted(row: Any) -> dict[str, str]:
    return {"color": _color(row)}


def _short(label: str, ending: str, taken: set[str]) -> str:
    """A label of at most 17 letters that no other track has, with the ending.

    >>> taken = set()
    >>> [_short("H3K27ac fetal brain", "imp", taken) for _ in range(2)], _short("H1", "", taken)
    (['H3K27ac fetal imp', 'H3K27ac fet 2 imp'], 'H1')
    """
    tail, number = _one_line(ending), 1
    while True:
        end = (f" {number}" if number > 1 else "") + (f" {tail}" if tail else "")
        found = f"{_one_line(label)[: max(1, _SHORT - len(end))].rstrip()}{end}"[:_SHORT]
        if found not in taken:
            taken.add(found)
            return found
        number += 1


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
