"""Count tables of other tools: EpiCSeg, multiBamSummary, featureCounts, bedtools multicov."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from .._arguments import checked
from .._messages import and_more, listed
from .genomes import cut_regions
from .inputs import read_bed
from .places import PLACE, check_regions
from .text import numbered_lines, open_text

_WHAT = "a table of counts"
_RAW_COUNTS = ("#'chr'\t", "#chr\t")
_FEATURE_COLUMNS = ["Geneid", "Chr", "Start", "End", "Strand", "Length"]
_ENDINGS = re.compile(r"(\.sorted)?\.(bam|cram|sam|bed|tagalign)(\.gz)?$", re.IGNORECASE)
_LARGEST, _LARGEST_FLOAT32 = 2**53 - 1, 2**24 - 1  # beyond which not every whole number is a float64 or float32
_PATTERN = r"(?P<biosample>[^._]+)[._](?P<assay>[^._]+)"


@checked
def from_matrix(
    counts: str | Path | pd.DataFrame,
    regions: pd.DataFrame | str | Path | None = None,
    *,
    tracks: Sequence[str] | pd.DataFrame | None = None,
    biosample: str | None = None,
    pattern: str = _PATTERN,
) -> AnnData:
    """Take over a count table that another tool made.

    Parameters
    ----------
    counts
        The content of a file decides which tool made it:

        - EpiCSeg: ``counts.txt``, a column per mark and a header; with its regions, ``contigs.bed``.
        - deepTools multiBamSummary: the ``.npz``, with its regions; or the table of ``--outRawCounts``.
        - featureCounts: the table with its ``#`` line; each feature must be one interval, as in SAF files.
        - bedtools multicov: BED columns, then counts; with `tracks`, as the file has no names.

        Or a table with `chrom`, `start`, `end` and a column per track, or with such columns only and `regions`.
    regions
        Where the rows are, in their order: a table or BED file with an interval per row; or with few intervals, which
        are cut into bins of the one width that fits.
    tracks
        Names of the columns, in their order; or a table with these as index and with `biosample`, `assay` and perhaps
        `depth`, `is_control` and covariates. By default the names in the file, without folder and ending.
    biosample
        Biosample of all tracks, whose names are then assays.
    pattern
        Regular expression that matches a whole name and has the groups `biosample` and `assay`; by default
        ``K562.H3K4me3`` or ``K562_H3K4me3``.

    Returns
    -------
    Regions x tracks, named ``biosample.assay``; X int32, or float32 with NaN if a table has missing values, or int64
    and float64 where a count needs it. `obs` has `chrom`, `start` and `end` (0-based, half-open). These tables do not
    hold the depth of a track: without a column `depth` in `tracks`, leave out `depth_key` when setting up, so that the
    counts are added up.

    Raises
    ------
    ValueError
        If a file is of no such form, rows and regions do not fit, counts are not whole, or a name does not hold
        biosample and assay.
    """
    table, places = _read(counts, tracks)
    where = "the table" if isinstance(counts, pd.DataFrame) else Path(counts).name
    if regions is not None:
        if places is not None:
            raise ValueError(f"{where} places its rows itself; leave out regions.")
        places = _fit_regions(regions, len(table), where)
    elif places is None:
        raise ValueError(f"{where} does not place its rows; give regions, such as a BED file.")
    else:
        places = check_regions(places)
    names = [_ENDINGS.sub("", Path(str(name)).name) for name in table.columns]
    var = _describe(names, tracks, biosample, pattern)
    index = (
        places[_keys.CHROM].astype(str) + ":" + places[_keys.START].astype(str) + "-" + places[_keys.END].astype(str)
    )
    return AnnData(_whole(table, where, list(index)), obs=places.set_axis(pd.Index(index)), var=var)


def _read(
    counts: str | Path | pd.DataFrame, tracks: Sequence[str] | pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Counts with the names in the file, and the places of the rows where the table holds them."""
    if isinstance(counts, pd.DataFrame):
        return _split(counts, PLACE) if set(PLACE) <= set(counts.columns) else (counts, None)
    path = Path(counts)
    if not path.is_file():
        raise ValueError(f"there is no {path}.")
    if path.suffix == ".npz":
        return _read_npz(path), None
    n_comments, first, second = _head(path)
    if first.startswith(_RAW_COUNTS):
        return _split(_read_table(path, skiprows=n_comments, quotechar="'"), PLACE, renamed=True)
    fields = first.split("\t")
    if fields[:6] == _FEATURE_COLUMNS:
        return _read_features(_read_table(path, skiprows=n_comments), path.name)
    if len(fields) > 3 and fields[1].isdecimal() and fields[2].isdecimal():
        return _read_multicov(_read_table(path, skiprows=n_comments, header=None), path.name, tracks)
    if set(PLACE) <= set(fields) or (second and all(_is_number(cell) for cell in second.split("\t"))):
        return _read(_read_table(path, skiprows=n_comments), tracks)
    raise ValueError(
        f"{path.name} must be a count table of EpiCSeg, multiBamSummary, featureCounts or bedtools multicov, "
        f"separated by tabs; it begins with {first.strip()[:60]!r}."
    )


def _head(path: Path) -> tuple[int, str, str]:
    """How many lines stand before the first row, and that row and the next."""
    n_before = 0
    rows: list[str] = []
    for _, line in numbered_lines(path, _WHAT):
        # multiBamSummary's row of names begins as a comment does
        if rows or line.startswith(_RAW_COUNTS) or (line.strip() and line[0] != "#"):
            rows.append(line)
        else:
            n_before += 1
        if len(rows) == 2:
            break
    first, second = [*rows, "", ""][:2]
    return n_before, first, second


def _read_table(path: Path, **options: object) -> pd.DataFrame:
    try:
        with open_text(path, _WHAT) as file:
            return pd.read_csv(file, sep="\t", low_memory=False, **options)
    except pd.errors.ParserError as error:
        raise ValueError(f"{path} cannot be read as {_WHAT}: {str(error).strip()}.") from error


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\s*\d+(\.\d*)?\s*", cell) is not None


def _split(table: pd.DataFrame, columns: list[str], renamed: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    places = table.iloc[:, :3] if renamed else table[columns]
    return table.drop(columns=list(places.columns)), places.set_axis(PLACE, axis=1).reset_index(drop=True)


def _read_npz(path: Path) -> pd.DataFrame:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels = [label.decode() if isinstance(label, bytes) else str(label) for label in arrays["labels"]]
            return pd.DataFrame(arrays["matrix"], columns=labels)
    except (BadZipFile, EOFError, KeyError, OSError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path.name} must hold matrix and labels, as multiBamSummary writes them: {error}."
        ) from error


def _read_features(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    several = table["Start"].astype(str).str.contains(";").to_numpy()
    if several.any():
        row = table.iloc[int(several.argmax())]
        raise ValueError(
            f"{where} must have one interval per feature; {row['Geneid']} has several{and_more(int(several.sum()))}. "
            "Count again with a SAF file of regions."
        )
    places = pd.DataFrame({_keys.CHROM: table["Chr"], _keys.START: table["Start"] - 1, _keys.END: table["End"]})
    return table.drop(columns=_FEATURE_COLUMNS), places  # its starts are 1-based


def _read_multicov(
    table: pd.DataFrame, where: str, tracks: Sequence[str] | pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if tracks is None:
        raise ValueError(f"{where} is a table of bedtools multicov, which has no names; give tracks, in its order.")
    names = _names_of(tracks)
    if len(names) > table.shape[1] - 3:
        raise ValueError(
            f"{where} has {table.shape[1]} columns, 3 of them for the region, so at most {table.shape[1] - 3} tracks; "
            f"there are {len(names)}."
        )
    return table.iloc[:, -len(names) :].set_axis(names, axis=1), table.iloc[:, :3].set_axis(PLACE, axis=1)


def _fit_regions(regions: pd.DataFrame | str | Path, n_rows: int, where: str) -> pd.DataFrame:
    table = regions if isinstance(regions, pd.DataFrame) else read_bed(Path(regions))
    table = check_regions(table)[PLACE].reset_index(drop=True)
    if len(table) == n_rows:
        return table
    length = (table[_keys.END] - table[_keys.START]).to_numpy()
    bin_size, left = divmod(int(length.sum()), n_rows)
    if left or not bin_size or (length % bin_size).any():
        raise ValueError(
            f"{where} has {n_rows:,} rows, which fit neither {len(table):,} regions nor bins of one width in their "
            f"{length.sum():,} bp. Give the regions that were counted."
        )
    return cut_regions(table, bin_size)


def _names_of(tracks: Sequence[str] | pd.DataFrame) -> list[str]:
    return [str(name) for name in (tracks.index if isinstance(tracks, pd.DataFrame) else tracks)]


def _describe(
    names: list[str], tracks: Sequence[str] | pd.DataFrame | None, biosample: str | None, pattern: str
) -> pd.DataFrame:
    """Biosample and assay of each column, and what else is known of it."""
    given = names if tracks is None else _names_of(tracks)
    if len(given) != len(names):
        raise ValueError(f"tracks must name every column; there are {len(given)} names for {listed(names)}.")
    if isinstance(tracks, pd.DataFrame):
        absent = [name for name in (_keys.BIOSAMPLE, _keys.ASSAY) if name not in tracks]
        if absent:
            raise ValueError(f"tracks must have the columns biosample and assay; {listed(absent)} not found.")
        if set(given) == set(names):
            given = names  # by name rather than by place
        var = tracks.set_axis(_names_of(tracks)).loc[given]
    elif biosample is not None:
        var = pd.DataFrame({_keys.BIOSAMPLE: biosample, _keys.ASSAY: given})
    else:
        found = [re.fullmatch(pattern, name) for name in given]
        unclear = [name for name, match in zip(given, found, strict=True) if match is None]
        if unclear:
            raise ValueError(
                f"the names of tracks must hold biosample and assay, as K562_H3K4me3 does; {unclear[0]!r} does not"
                f"{and_more(len(unclear))}. Give biosample, pattern, or a table as tracks."
            )
        groups = [match.groupdict() for match in found if match is not None]
        if not groups or not {_keys.BIOSAMPLE, _keys.ASSAY} <= set(groups[0]):
            raise ValueError(f"pattern must have the groups biosample and assay; it is {pattern!r}.")
        var = pd.DataFrame(groups)[[_keys.BIOSAMPLE, _keys.ASSAY]]
    index = pd.Index([f"{row[_keys.BIOSAMPLE]}.{row[_keys.ASSAY]}" for _, row in var.iterrows()])
    if index.has_duplicates:
        raise ValueError(f"tracks must differ in biosample or assay; {index[index.duplicated()][0]} comes back.")
    return var.set_axis(index)


def _whole(table: pd.DataFrame, where: str, regions: list[str]) -> np.ndarray:
    try:
        values_rt = table.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} must hold numbers in every column of a track: {error}.") from error
    missing = np.isnan(values_rt)
    broken = ~missing & ((values_rt < 0) | (values_rt != np.floor(values_rt)))
    if broken.any():
        row, column = np.argwhere(broken)[0]
        raise ValueError(
            f"{where} must hold whole counts; region {regions[row]}, track {table.columns[column]} is "
            f"{values_rt[row, column]:g}{and_more(int(broken.sum()))}. Count without scaling or normalisation."
        )
    too_large = values_rt > _LARGEST
    if too_large.any():
        row, column = np.argwhere(too_large)[0]
        raise ValueError(
            f"{where} must hold counts up to {_LARGEST:,}, beyond which whole numbers are not exact; region "
            f"{regions[row]}, track {table.columns[column]} is {values_rt[row, column]:g}"
            f"{and_more(int(too_large.sum()))}."
        )
    return values_rt.astype(_narrowest(np.nanmax(values_rt, initial=0), bool(missing.any())))


def _narrowest(largest: float, has_missing: bool) -> type[np.generic]:
    """The usual type, or else a wider one that holds the largest count exactly."""
    if has_missing:
        return np.float32 if largest <= _LARGEST_FLOAT32 else np.float64
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64
