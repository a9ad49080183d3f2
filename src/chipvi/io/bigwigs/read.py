"""Signal of bigWig files, averaged over regions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pybigtools
from anndata import AnnData

from ... import _keys
from ..._arguments import checked, require_processes
from ..._files import digest
from ..._messages import and_more, listed
from ..contigs import log_renamed, match_contigs, renamed_contigs
from ..inputs import is_url
from ..places import PLACE, check_places
from ..reading import Arrays, FileToRead, Reading, cut, joined

_FILE = "file"
_LONGEST = 2**31 - 1  # bp; of longer chromosomes, which the format allows, pybigtools reads nothing
_BINS = 2**16  # looked through at a time for stored NaN
_BASES = 2**22  # read one by one at a time, 32 MB; but at least one region
_Column = tuple[np.ndarray, dict[str, str]]  # values, and chromosomes that the file calls otherwise


@checked
def read_bigwigs(
    files: str | PathLike | Sequence[str | PathLike] | Mapping[str, str | PathLike],
    regions: pd.DataFrame,
    *,
    uncovered: Literal["missing", "zero"] = "missing",
    arcsinh: bool = False,
    names: Sequence[str] | None = None,
    processes: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> AnnData:
    """Average bigWig files over regions, such as p-values or fold changes over bins.

    The means are of the values of every base, not of the summaries that a bigWig file holds for a browser.

    Parameters
    ----------
    files
        Paths or URLs, or a mapping of track names to them. Of a URL only the parts that hold the regions are fetched.
    regions
        With `chrom`, `start` and `end` (0-based, half-open), in any order; further columns are kept. Bins that follow
        each other in order are read fastest.
    uncovered
        What a base is that has no value in the file, or NaN. "missing": it is left out of the mean, which is NaN where
        no base is covered. "zero": it counts as 0, as for files that leave zeros out.
    arcsinh
        Take the inverse hyperbolic sine of each mean, as the `signal` layer of a model needs it of -log10 p.
    names
        Track names; by default those of the files, without folder and ending.
    processes
        Files to read at the same time. By default as many as there are cores and memory for, of files of more than 50
        MB and URLs.
    executor
        Reads the files in place of processes of this computer, as in :func:`count_reads`.
    progress
        Show a progress bar, on standard error.

    Returns
    -------
    Regions x tracks, X float32; `var.file` is where each track is from. A chromosome that is not in a file is
    uncovered: a bigWig file names only those with data. One that a file calls `1` and the regions `chr1`, or the other
    way round, is taken to be the same, and a line of the log says so.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file cannot be read as bigWig, or is cut off; if it has none of the regions' chromosomes, or shorter ones
        than the regions need; if one of these has more than 2,147,483,647 bp; if a mean is negative where `arcsinh` was
        asked for; and if names come back.

    Examples
    --------
    >>> regions = make_bins("hg38", bin_size=200)  # doctest: +SKIP
    >>> adata = read_bigwigs({"K562.H3K27ac": "ENCFF381NDD.bigWig"}, regions, arcsinh=True)  # doctest: +SKIP
    """
    require_processes(processes)
    columns = read_columns(files, regions, uncovered, arcsinh, names, Reading(processes, executor, progress))
    assert columns is not None  # it is no shard
    return columns


def read_columns(
    files: str | PathLike | Sequence[str | PathLike] | Mapping[str, str | PathLike],
    regions: pd.DataFrame,
    uncovered: Literal["missing", "zero"],
    arcsinh: bool,
    names: Sequence[str] | None,
    reading: Reading,
) -> AnnData | None:
    """As :func:`read_bigwigs`; None for a shard."""
    require_uncovered(uncovered)
    sources = _name_files(files, names)
    obs = _place(regions)
    columns = read_means(sources, obs[PLACE], uncovered, arcsinh, reading)
    if columns is None:
        return None
    values_rt = np.empty((len(obs), len(sources)), dtype=np.float32)
    for t, arrays in enumerate(columns):
        values_rt[:, t] = joined(arrays)
    return AnnData(values_rt, obs=obs, var=pd.DataFrame({_FILE: sources.values()}, index=pd.Index(sources)))


def read_means(
    sources: Mapping[str, str],
    places: pd.DataFrame,
    uncovered: Literal["missing", "zero"],
    arcsinh: bool,
    reading: Reading,
) -> Iterator[Arrays] | None:
    """Means of each file, float32 as :func:`chipvi.io.reading.cut` cuts them; None for a shard.

    Parameters
    ----------
    sources
        Path or URL by track.
    places
        `chrom`, `start` and `end` of the regions.
    uncovered, arcsinh, reading
        As for :func:`read_columns`.
    """
    fill = 0.0 if uncovered == "zero" else None
    read = partial(_read_arrays, places=places, fill=fill, arcsinh=arcsinh)
    asked = digest(*_digested(places), repr((fill, arcsinh)))
    tasks = [FileToRead(source, partial(read, source), asked) for source in sources.values()]
    columns = reading.read(tasks, "Reading", "bigWig file", len(places))
    return None if columns is None else _noted(sources.values(), columns)


def _noted(sources: Iterable[str], columns: Iterator[Arrays]) -> Iterator[Arrays]:
    """The same, with a line of the log about chromosomes by another name."""
    for source, arrays in zip(sources, columns, strict=True):
        log_renamed(source, json.loads(str(arrays["renamed"])))
        yield arrays


def _digested(places: pd.DataFrame) -> list[Any]:
    """Regions as bytes and texts."""
    codes, names = pd.factorize(places[_keys.CHROM])
    bounds = [places[key].to_numpy(np.int64) for key in (_keys.START, _keys.END)]
    return [codes, *bounds, repr(list(map(str, names)))]


def require_uncovered(uncovered: object) -> None:
    """Refuse what is no value of the argument `uncovered`."""
    if uncovered not in ("missing", "zero"):
        raise ValueError(f"uncovered must be 'missing' or 'zero'; got {uncovered!r}.")


@checked
def bigwig_sizes(file: str | PathLike) -> pd.Series:
    """Length in bp, int64, of every chromosome that a bigWig file has data of, by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read as bigWig.
    """
    (source,) = _name_files(file, None).values()
    with _open(source) as reader:
        return pd.Series(reader.chroms(), dtype=np.int64)


def _name_files(files: Any, names: Sequence[str] | None) -> dict[str, str]:
    """Path or URL of each track."""
    if isinstance(files, Mapping):
        if names is not None:
            raise ValueError("names must not be given where files is a mapping, which has them.")
        names, files = list(files), list(files.values())
    else:
        files = [files] if isinstance(files, str | PathLike) else list(files)
        names = [_stem(os.fspath(file)) for file in files] if names is None else list(names)
    if not files:
        raise ValueError("files must name at least one bigWig file; it names none.")
    if len(names) != len(files):
        raise ValueError(f"names must be one per file; there are {len(names)} names and {len(files)} files.")
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        raise ValueError(
            f"track names must differ; {repeated[0]!r} comes back{and_more(len(repeated))}. Give others with names."
        )
    sources = {str(name): os.fspath(file) for name, file in zip(names, files, strict=True)}
    for source in sources.values():
        if not is_url(source) and not Path(source).is_file():
            raise FileNotFoundError(f"there is no file {source}.")
    return sources


def _stem(source: str) -> str:
    return PurePosixPath(unquote(urlsplit(source).path)).stem if is_url(source) else Path(source).stem


def _place(regions: pd.DataFrame) -> pd.DataFrame:
    """Regions as obs: named by their places, unless they have names."""
    if not len(regions):
        raise ValueError("regions must hold at least one region; they hold none.")
    obs = check_places(regions, "regions")
    if isinstance(obs.index, pd.RangeIndex):
        return obs.set_axis([f"{c}:{s}-{e}" for c, s, e in zip(*(obs[name] for name in PLACE), strict=True)])
    return obs.set_axis(obs.index.astype(str))


def _where(regions: pd.DataFrame, row: int) -> str:
    chrom, start, end = regions[PLACE].iloc[row]
    return f"{chrom}:{start}-{end}"


def _read_arrays(source: str, places: pd.DataFrame, fill: float | None, arcsinh: bool) -> Arrays:
    means_r, renamed = _read_track(source, places, fill, arcsinh)
    return {**cut(means_r), "renamed": np.array(json.dumps(renamed))}


def _read_track(source: str, places: pd.DataFrame, fill: float | None, arcsinh: bool) -> _Column:
    """Mean of each region, float32, and which contigs are which chromosomes by another name."""
    with _open(source) as reader:
        sizes = {str(name): int(size) for name, size in reader.chroms().items()}
        matched = _match(source, sizes, places)
        contigs = {name: contig for contig, name in matched.items()}
        means_r = np.full(len(places), np.nan if fill is None else fill)
        chrom, start, end = _arrays(places)
        first = _first_of_runs(chrom, start, end)
        for run, stop in zip(first, np.r_[first[1:], len(chrom)], strict=True):
            if chrom[run] in contigs:
                bins = _Bins(contigs[chrom[run]], int(start[run]), int(end[run] - start[run]), int(stop - run))
                means_r[run:stop] = _means(reader, bins, fill)
    if arcsinh:
        _require_positive(source, means_r, places)
        means_r = np.arcsinh(means_r)
    return means_r.astype(np.float32), renamed_contigs(matched)


@dataclass(frozen=True)
class _Bins:
    """Equally wide neighbours on one contig: `number` of them from `start` on, in bp."""

    contig: str
    start: int
    width: int
    number: int

    def part(self, first: int, last: int) -> _Bins:
        """Those from the first to before the last."""
        return _Bins(self.contig, self.start + first * self.width, self.width, last - first)

    def read(self, reader: Any, fill: float | None) -> np.ndarray:
        """Mean of each, NaN where one of its bases is NaN in the file."""
        end = self.start + self.number * self.width
        return reader.values(self.contig, self.start, end, self.number, exact=True, uncovered=fill, fillna=None)

    def read_bases(self, reader: Any) -> np.ndarray:
        """Value of every base, NaN where there is none: (number, width)."""
        values = reader.values(self.contig, self.start, self.start + self.number * self.width, fillna=None)
        return values.reshape(self.number, self.width)


def _means(reader: Any, bins: _Bins, fill: float | None) -> np.ndarray:
    """Mean of each bin; `fill` takes the place of what is not covered or NaN, which None leaves out."""
    means = bins.read(reader, fill)
    for first in range(0, bins.number, _BINS):
        last = min(first + _BINS, bins.number)
        if np.isnan(means[first:last]).any():
            # with a value for what is not covered only stored NaN stay
            stored = first + np.flatnonzero(np.isnan(bins.part(first, last).read(reader, 0.0)))
            for rows in _runs(stored, max(1, _BASES // bins.width)):
                means[rows] = _mean_of_covered(bins.part(rows[0], rows[-1] + 1).read_bases(reader), fill)
    return means


def _runs(rows: np.ndarray, longest: int) -> list[np.ndarray]:
    """Rows that follow each other, of which there are any, in pieces of a length at most."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [run[at : at + longest] for run in runs for at in range(0, len(run), longest)]


def _mean_of_covered(values: np.ndarray, fill: float | None) -> np.ndarray:
    number = np.isfinite(values).sum(axis=1)
    total = np.nansum(values, axis=1)
    if fill is not None:
        return (total + fill * (values.shape[1] - number)) / values.shape[1]
    return np.divide(total, number, where=number > 0, out=np.full(len(values), np.nan))


def _arrays(places: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chrom = places[_keys.CHROM].astype(str).to_numpy(dtype=object)
    return chrom, places[_keys.START].to_numpy(np.int64), places[_keys.END].to_numpy(np.int64)


def _first_of_runs(chrom: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rows at which a run of equally wide neighbours begins, which one call reads."""
    width = end - start
    parts = (chrom[1:] != chrom[:-1]) | (start[1:] != end[:-1]) | (width[1:] != width[:-1])
    return np.flatnonzero(np.r_[True, parts])


@contextmanager
def _open(source: str) -> Iterator[Any]:
    """Open a bigWig file; an error, also one while it is read, is one sentence."""
    advice = "Fetch or make the file again." if not is_url(source) else "Check the address and the connection."
    expected = f"{source} must be a bigWig file"
    file = None
    try:
        # a local file is opened here, for pybigtools goes by the ending of its name
        file = None if is_url(source) else open(source, "rb")  # noqa: SIM115
        reader = pybigtools.open(source if file is None else file)
        if not reader.is_bigwig:
            raise ValueError(f"{expected}; it is a bigBed file, which holds intervals and no signal.")
        yield reader
    except (OSError, pybigtools.BBIReadError) as error:
        raise ValueError(f"{expected}; it cannot be read, or is cut off. {advice}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # how pybigtools reports a block that is broken
            raise ValueError(f"{expected}; a part of it is damaged. {advice}") from error
        raise
    finally:
        if file is not None:
            file.close()


def _match(source: str, sizes: dict[str, int], places: pd.DataFrame) -> dict[str, str]:
    """Which chromosome of the regions each contig is; refused where none is one, or one is too short."""
    chroms = places[_keys.CHROM].astype(str)
    matched = match_contigs(chroms.unique(), sizes)
    if not matched:
        raise ValueError(
            f"{source} must name chromosomes as the regions do, with or without chr; the regions have "
            f"{listed(chroms.unique(), 3)}, the file has {listed(sizes, 3)}. Rename the chromosomes of the regions."
        )
    size_by_name = {name: sizes[contig] for contig, name in matched.items()}
    if too_long := [name for name, size in size_by_name.items() if size > _LONGEST]:
        raise ValueError(
            f"{source} can be read of chromosomes up to {_LONGEST:,} bp; its {too_long[0]} has "
            f"{size_by_name[too_long[0]]:,} bp{and_more(len(too_long))}. Leave its regions out."
        )
    size_r = chroms.map(size_by_name).to_numpy(dtype=np.float64)  # NaN where the file has no such chromosome
    beyond = np.flatnonzero(places[_keys.END].to_numpy() > size_r)
    if len(beyond):
        row = beyond[0]
        raise ValueError(
            f"regions must lie within the chromosomes of {source}; {_where(places, row)}{and_more(len(beyond))} does "
            f"not, for {chroms.iloc[row]} has {int(size_r[row]):,} bp. Is the file of another assembly, or was "
            "it written without the length of its chromosomes?"
        )
    return matched


def _require_positive(source: str, means_r: np.ndarray, places: pd.DataFrame) -> None:
    negative = np.flatnonzero(means_r < 0)
    if len(negative):
        row = negative[0]
        raise ValueError(
            f"{source} must hold -log10 p where arcsinh is asked for; region {_where(places, row)} is "
            f"{means_r[row]:g}{and_more(len(negative))}. Is it the log of a fold change? Read it without arcsinh."
        )
