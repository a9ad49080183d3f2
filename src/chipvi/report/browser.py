"""The genome browser in the page: igv.js and the tracks around the loci shown, so that a reader can move along.

igv.js (https://github.com/igvteam/igv.js, MIT licence) comes with the package igv-notebook, which is not imported. The
page has it, its setup and the values of all tracks in itself; its content security policy lets nothing be fetched.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from anndata import AnnData
from markupsafe import Markup

from .. import _keys
from ..data.track_data import Entries, TrackData, ViewKind
from ..io.bigwigs.colors import IMPUTED, OBSERVED, kind_color
from ..io.genomes import assembly_of, chrom_sizes
from ..model.chipvi import ChipVI

LACKING = "igv.js is not installed, which `pip install 'chipvi[browser]'` brings"
AROUND = 2  # lengths of a locus on either side of it
MOST_TRACKS = 12
_PLACE = [_keys.CHROM, _keys.START, _keys.END]
_HEIGHT = 45  # of a row, in pixels
_DIGITS = 3
_PACKAGE, _FILE = "igv_notebook", Path("js", "igv.min.js")
_OVERLAY = (_keys.UPPER, IMPUTED, _keys.LOWER)  # from back to front
# Names are not cut off, and the bar on top fits a phone.
_STYLE = """
.igv-track-label { max-width: 96% !important; }
@media (max-width: 50rem) {
  .igv-logo, .igv-current-genome, .igv-chromosome-select-widget-container, .igv-windowsize-panel-container,
  .igv-navbar-toggle-button-container { display: none !important; }
  .igv-search-container { width: 200px !important; }
}
"""
_OPEN = f"""
const setup = JSON.parse(document.getElementById("browser-setup").textContent);
const place = document.getElementById("browser");
igv.createBrowser(place, setup).then(browser => {{
  const style = document.createElement("style");
  style.textContent = `{_STYLE}`;
  place.shadowRoot.append(style);
  for (const track of browser.findTracks("type", "sequence")) browser.removeTrack(track);
  for (const button of document.querySelectorAll("button[data-locus]")) {{
    button.hidden = false;
    button.addEventListener("click", () => {{ browser.search(button.dataset.locus); place.scrollIntoView(); }});
  }}
  place.dataset.opened = "";
}});
"""


@dataclass(frozen=True)
class Browser:
    """What the page needs to open a browser: igv.js, its setup as JSON, and the script that opens it.

    Parameters
    ----------
    library, opener
        Scripts.
    setup
        For igv.js; what could end the element that it stands in is escaped.
    n_tracks
        Shown.
    """

    library: Markup
    opener: Markup
    setup: Markup
    n_tracks: int

    @property
    def hashes(self) -> str:
        """Of the scripts, as a content security policy names those that may run."""
        return " ".join(f"'sha256-{_sha256(script)}'" for script in (self.library, self.opener))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def find_library() -> str | None:
    """igv.js as text; None where the package that brings it is not installed."""
    package = find_spec(_PACKAGE)
    folders = [Path(folder) for folder in (package and package.submodule_search_locations) or ()]
    file = next((folder / _FILE for folder in folders if (folder / _FILE).is_file()), None)
    return None if file is None else file.read_text("utf-8")


def link_to_ucsc(assembly: str | None, place: pd.DataFrame) -> str | None:
    """Address of regions in the UCSC browser; None where they have no place, or the assembly is not known."""
    if assembly is None or not has_places(place):
        return None
    return f"https://genome.ucsc.edu/cgi-bin/hgTracks?db={assembly}&position={quote(locus_of(place))}"


def has_places(obs: pd.DataFrame) -> bool:
    """Whether regions lie on a genome."""
    return set(_PLACE) <= set(obs.columns)


def locus_of(place: pd.DataFrame) -> str:
    """Regions of a chromosome as browsers name them: counted from 1, the end included."""
    return f"{place[_keys.CHROM].iloc[0]}:{place[_keys.START].iloc[0] + 1}-{place[_keys.END].iloc[-1]}"


def embed(
    model: ChipVI, adata: AnnData | None, data: TrackData, loci: Sequence[np.ndarray], tracks: Sequence[str]
) -> Browser | None:
    """A browser of the tracks around some loci: measured, imputed with its interval, and denoised.

    Parameters
    ----------
    model, adata, data
        As for :func:`report`, and the data opened.
    loci
        Rows of the data of each locus, the first of which is opened.
    tracks
        Names; no more than `MOST_TRACKS` are shown.

    Returns
    -------
    None where there is nothing to show, the regions have no place on a genome, or igv.js is not installed.
    """
    source = model.adata if adata is None else adata
    library = find_library()
    if library is None or not loci or not has_places(source.obs):
        return None
    rows = _around(loci, source.obs[_keys.CHROM].astype(str).to_numpy())
    result = model.impute(adata, rows, list(tracks)[:MOST_TRACKS])
    assert isinstance(result, AnnData)  # without `out`
    place = source.obs.iloc[rows][_PLACE].astype({_keys.CHROM: str})
    setup = {
        "reference": _reference(source, place),
        "locus": locus_of(source.obs.iloc[loci[0]]),
        "loadDefaultGenomes": False,
        "showIdeogram": False,
        "showSVGButton": False,
        "tracks": list(_tracks(result, data, rows, place)),
    }
    text = json.dumps(setup, separators=(",", ":")).replace("<", "\\u003c")
    return Browser(Markup(library), Markup(_OPEN), Markup(text), len(result.var))


def _around(loci: Sequence[np.ndarray], chrom_r: np.ndarray) -> np.ndarray:
    """Rows of the loci and around them, on the same chromosome."""
    wanted = []
    for rows in loci:
        reach = AROUND * len(rows)
        near = np.arange(max(rows[0] - reach, 0), min(rows[-1] + reach + 1, len(chrom_r)))
        wanted.append(near[chrom_r[near] == chrom_r[rows[0]]])
    return np.unique(np.concatenate(wanted))


def _reference(source: AnnData, place: pd.DataFrame) -> dict[str, Any]:
    """The genome as names and lengths of its chromosomes, without a sequence, which would have to be fetched."""
    assembly = assembly_of(source.uns)
    ends = source.obs.groupby(source.obs[_keys.CHROM].astype(str))[_keys.END].max()
    known = ends if assembly is None else chrom_sizes(assembly)
    sizes = {name: max(int(known.get(name, 0)), int(ends[name])) for name in dict.fromkeys(place[_keys.CHROM])}
    text = "".join(f"{name}\t{size}\n" for name, size in sizes.items())
    name = assembly or "regions"
    # without any sequence igv.js does not open; this one is never shown
    sequence = _data_address(f">{next(iter(sizes))}\nN\n".encode())
    return {"id": name, "name": name, "fastaURL": sequence, "chromSizesURL": _data_address(text.encode())}


def _tracks(result: AnnData, data: TrackData, rows: np.ndarray, place: pd.DataFrame) -> Iterator[dict[str, Any]]:
    block = data.read_rows(rows)
    for n, name in enumerate(map(str, result.var_names)):
        column = data.tracks.index(name)
        # igv.js takes names for HTML
        label = escape(" ".join(map(str, result.var.loc[name, [_keys.BIOSAMPLE, _keys.ASSAY]])))
        assay = str(result.var[_keys.ASSAY].iloc[n])
        if _keys.LOWER in result.layers:
            series = {kind: result.layers[kind][:, n] for kind in (_keys.LOWER, _keys.UPPER, _keys.DENOISED)}
            measured = _measured(block.view(ViewKind.COUNTS), column)
            series |= {IMPUTED: result.X[:, n], OBSERVED: measured}
            series[_keys.DENOISED] = np.where(np.isnan(measured), np.nan, series[_keys.DENOISED])
            yield from _rows(label, assay, "", f"{n}-counts", series, place)
        if _keys.PVAL in result.layers and (entries := block.view(ViewKind.SIGNAL)) is not None:
            measured = _measured(entries, column)
            if _keys.LOWER not in result.layers or not np.isnan(measured).all():
                series = {IMPUTED: np.sinh(result.layers[_keys.PVAL][:, n]), OBSERVED: np.sinh(measured)}
                yield from _rows(label, assay, " -log10 p", f"{n}-signal", series, place)


def _measured(entries: Entries | None, column: int) -> np.ndarray:
    assert entries is not None
    return entries.measured_rt[:, column].astype(np.float64)


def _rows(
    label: str, assay: str, unit: str, group: str, series: Mapping[str, np.ndarray], place: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """The rows of a track: measured, imputed over its interval, and denoised; those without any value are left out."""

    def wig(kind: str, **more: Any) -> dict[str, Any]:
        data = _data_address(gzip.compress(bed_graph(place, series[kind]).encode(), mtime=0), "application/gzip")
        color = f"rgb{kind_color(assay, kind)}"
        return {"type": "wig", "format": "bedgraph", "url": data, "indexed": False, "color": color, **more}

    shared = {"height": _HEIGHT, "autoscaleGroup": group}
    if not np.isnan(series[OBSERVED]).all():
        yield wig(OBSERVED, name=f"{label} measured{unit}", **shared)
    if _keys.LOWER in series:
        parts = [wig(kind, name=kind) for kind in _OVERLAY]
        yield {"type": "merged", "name": f"{label} imputed{unit}", "alpha": 1, "tracks": parts, **shared}
    else:
        yield wig(IMPUTED, name=f"{label} imputed{unit}", **shared)
    if _keys.DENOISED in series and not np.isnan(series[_keys.DENOISED]).all():
        yield wig(_keys.DENOISED, name=f"{label} denoised{unit}", **shared)


def bed_graph(place: pd.DataFrame, values_r: np.ndarray) -> str:
    """Values by region, as text; neighbours of one value are one line, and what is NaN has none.

    >>> place = pd.DataFrame({"chrom": "chr1", "start": [0, 200, 400, 800], "end": [200, 400, 600, 1000]})
    >>> print(bed_graph(place, np.array([1.5, 1.5, np.nan, 0.12345])), end="")
    chr1	0	400	1.5
    chr1	800	1000	0.123
    """
    chrom, start, end = (place[name].to_numpy() for name in _PLACE)
    text = np.array([f"{value:.{_DIGITS}g}" for value in values_r])
    there = np.flatnonzero(~np.isnan(values_r))
    is_new = np.ones(len(there), dtype=bool)
    before, here = there[:-1], there[1:]
    is_new[1:] = (text[here] != text[before]) | (start[here] != end[before]) | (chrom[here] != chrom[before])
    first, last = there[is_new], there[np.r_[is_new[1:], True]] if len(there) else there
    return "".join(f"{chrom[i]}\t{start[i]}\t{end[j]}\t{text[i]}\n" for i, j in zip(first, last, strict=True))


def _data_address(data: bytes, kind: str = "text/plain") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
