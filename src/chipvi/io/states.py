"""Chromatin states to BED files that genome browsers draw in colour."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from .._arguments import checked
from .._files import written_whole
from .bigwigs.write import file_stems

_KEY = "states"


@checked
def write_states(adata: AnnData, folder: str | PathLike) -> dict[str, Path]:
    """Write the chromatin states of each biosample to a BED file, for UCSC's browser and IGV.

    Parameters
    ----------
    adata
        In which :func:`chipvi.tl.states` found states; its regions have `chrom`, `start` and `end`.
    folder
        To write to; made if need be. Files of the same names are replaced.

    Returns
    -------
    Path by biosample, such as `K562.states.bed`. After a line for the browser, it has nine columns: the place, the name
    of the state (`_` for blanks), 0, `.`, the place again and its colour. Neighbours of one state that touch are one
    line.

    Raises
    ------
    ValueError
        If there are no states yet, or the regions have no place.
    """
    if _KEY not in adata.uns or _KEY not in adata.obsm:
        raise ValueError("adata has no states yet; find them with chipvi.tl.states first.")
    absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in adata.obs]
    if absent:
        raise ValueError(f"adata must have the columns chrom, start and end of obs; {', '.join(absent)} not found.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    colors, states = adata.uns[_KEY]["table"]["color"], adata.obsm[_KEY]
    files = {}
    for biosample, stem in zip(states, file_stems(states), strict=True):
        files[biosample] = folder / f"{stem}.states.bed"
        with written_whole(files[biosample]) as partial:
            _write_bed(adata.obs, states[biosample], colors, biosample, partial)
    return files


def _write_bed(obs: pd.DataFrame, state: pd.Series, colors: pd.Series, biosample: str, path: Path) -> None:
    chrom, code = pd.factorize(obs[_keys.CHROM].astype(str))[0], state.cat.codes.to_numpy()
    start, end = obs[_keys.START].to_numpy(), obs[_keys.END].to_numpy()
    is_first = np.r_[True, (np.diff(chrom) != 0) | (np.diff(code) != 0) | (start[1:] != end[:-1])]
    first = np.flatnonzero(is_first)
    last = np.r_[first[1:], len(obs)] - 1
    rgb = [",".join(str(int(color[place : place + 2], 16)) for place in (1, 3, 5)) for color in colors]
    lines = pd.DataFrame({"chrom": obs[_keys.CHROM].astype(str).to_numpy()[first], "start": start[first]})
    lines["end"] = end[last]
    lines["name"] = np.array([name.replace(" ", "_") for name in colors.index])[code[first]]
    lines["score"], lines["strand"], lines["thickStart"], lines["thickEnd"] = 0, ".", lines["start"], lines["end"]
    lines["rgb"] = np.array(rgb)[code[first]]
    with open(path, "w", encoding="utf-8") as file:
        label = biosample.replace('"', "'")
        file.write(f'track name="{label} states" description="Chromatin states of {label}, chipvi" itemRgb="On"\n')
        lines.to_csv(file, sep="\t", header=False, index=False)
