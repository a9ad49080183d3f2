"""Tracks to bigWig and bedGraph files, one of each track."""

from __future__ import annotations

import os
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pybigtools
from anndata import AnnData

from ... import _keys
from ..._arguments import checked
from ..._files import require_space, written_whole
from ..._messages import and_more, levels_to_caller, listed, unknown
from ..._workers import progress_bar
from ...data.segments import refuse_overlaps
from ...data.track_data import Matrix
from ..assembly import lengths_by_chrom
from ..genomes import chrom_sizes
from .matrices import Matrices, open_matrices

_ENDINGS = {"bigwig": ".bw", "bedgraph": ".bedgraph"}
_MOST_VALUES = 2**26  # in memory at a time, 256 MB; but at least one track
_ROWS = 2**18  # turned into records at a time
_LONGEST = 150  # letters of a file name, which file systems limit
_LONGEST_CHROM = 2**32 - 1  # bp, which the format gives 32 bits
_LAST_BASE = 2**32 - 2**24  # pybigtools' coarsest summary reaches 10 million bp further, and would never end
_MOST_DIGITS = 9  # distinguish every float32 from the next
_LARGEST_ARCSINH = 80  # beyond, the hyperbolic sine leaves float32 soon
_MAGIC = struct.pack("=I", 0x888FFC26)
_PANIC = "PanicException"  # of Rust, which pybigtools lets out, and no Exception

Record = tuple[str, int, int, float]


@dataclass(frozen=True, eq=False)
class Places:
    """Regions by chromosome, in the order of the chromosomes' names, which readers of bigWig files search by halves.

    Parameters
    ----------
    blocks
        Chromosome, and the rows from and to which it reaches.
    start, end
        In bp, of every row.
    sizes
        Length of every chromosome.
    """

    blocks: list[tuple[str, int, int]]
    start: np.ndarray
    end: np.ndarray
    sizes: dict[str, int]


@checked
def write_bigwigs(
    adata: AnnData | str | PathLike,
    folder: str | PathLike,
    *,
    layer: str | None = None,
    observed_layer: str | None = None,
    genome: str | Path | pd.Series | None = None,
    tracks: Sequence[str] | None = None,
    scale: Literal["stored", "-log10p"] = "stored",
    digits: int | None = 4,
    suffix: str = "",
    format: Literal["bigwig", "bedgraph"] = "bigwig",
    progress: bool = True,
) -> dict[str, Path]:
    """Write one bigWig or bedGraph file of each track.

    Missing entries (NaN) and gaps between regions are left out, never written as zero. Neighbours of one value are
    written as one interval.

    Parameters
    ----------
    adata
        Regions x tracks, or an `.h5ad` or `.zarr` file of them, which is read in pieces. Its regions are sorted and do
        not overlap.
    folder
        To write to; made if need be. Files of the same names are replaced, each when its successor is whole.
    layer
        Matrix to write; by default X.
    observed_layer
        Layer that is 0 where entries of the matrix are missing.
    genome
        Name, file or lengths, as for :func:`chrom_sizes`. By default a chromosome ends with its last region, which
        browsers bear, but tools that compare files may not.
    tracks
        Names out of `var_names`; by default all.
    scale
        "-log10p" writes the hyperbolic sine of the matrix, which holds arcsinh(-log10 p), as do `pval` and `signal`.
    digits
        Significant digits of a value, 1 to 9; None keeps float32 as it is. By default a value is off by 0.05 % at most,
        and files are smaller.
    suffix
        What file names end in before `.bw` or `.bedgraph`, such as ".lower".
    format
        "bigwig", or "bedgraph" for text, sorted as UCSC's tools need it.
    progress
        Show a progress bar, on standard error.

    Returns
    -------
    Path by track. A file is called as its track, other characters than letters, digits, `.`, `_`, `+` and `-` replaced
    by `_`. A track without a value has no file, with a warning.

    Raises
    ------
    FileNotFoundError
        If there is no such `adata`.
    ValueError
        For unknown names, regions that overlap, are not sorted or lie beyond their chromosome or what the format can
        hold (bigWig: 4,294,967,295 bp), and infinite values.
    BlockingIOError
        If another process is writing one of the files.
    OSError
        If a file cannot be written, as where the disk is full.

    Examples
    --------
    >>> files = write_bigwigs(model.impute(), "tracks", layer="upper", genome="hg38")  # doctest: +SKIP
    """
    require_options(scale, digits, format)
    with open_matrices(adata) as matrices:
        columns = choose_columns(matrices.var.index, tracks)
        written = write_matrix(
            matrices,
            Path(folder),
            Source(layer, observed_layer, scale),
            genome=genome,
            columns=columns,
            digits=digits,
            suffix=suffix,
            format=format,
            progress=progress,
        )
        for name in columns:
            if name not in written:
                warnings.warn(
                    f"track {name} holds no value in {matrices.matrix(layer).label}; no file is written.",
                    stacklevel=levels_to_caller(),
                )
    return {name: one.file for name, one in written.items()}


@dataclass(frozen=True)
class Source:
    """What to write of some matrices.

    Parameters
    ----------
    layer, observed_layer, scale
        As for :func:`write_bigwigs`.
    rows
        First region, and the one after the last; None for all.
    """

    layer: str | None = None
    observed_layer: str | None = None
    scale: str = "stored"
    rows: tuple[int, int] | None = None


class Written(NamedTuple):
    """A file that was written, and whether it is 0 everywhere."""

    file: Path
    is_zero: bool


def write_matrix(
    matrices: Matrices,
    folder: Path,
    source: Source,
    *,
    genome: str | Path | pd.Series | None,
    columns: Mapping[str, int],
    digits: int | None,
    suffix: str,
    progress: bool,
    format: str = "bigwig",
) -> dict[str, Written]:
    """As :func:`write_bigwigs`, of some columns by name; tracks without a value have no file, and no warning."""
    matrix = matrices.matrix(source.layer)
    observed = None if source.observed_layer is None else matrices.matrix(source.observed_layer)
    first, stop = source.rows or (0, len(matrices.obs))
    obs = matrices.obs.iloc[first:stop]
    places = _place(obs, genome)
    if format == "bigwig":
        _require_reach(places)
    stems = dict(zip(matrices.var.index, file_stems(matrices.var.index), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    text = f"Writing {folder.name}{suffix}"
    with (
        _own_stderr() as stderr,
        progress_bar(text, len(columns), "tracks", shown=progress, file=stderr) as show,
    ):
        for t, (name, values_r) in enumerate(_read_tracks(matrix, observed, columns, first, len(obs)), 1):
            _refuse_infinite(name, values_r, obs, source.scale)
            if not np.isnan(values_r).all():
                path = folder / f"{stems[name]}{suffix}{_ENDINGS[format]}"
                records = _records(places, values_r, _Change(source.scale, digits))
                with written_whole(path) as partial:
                    _WRITERS[format](partial, records, places.sizes)
                written[name] = Written(path, not np.nan_to_num(values_r).any())
            show(t)
    return written


@dataclass(frozen=True)
class _Change:
    """What becomes of a value on its way to the file."""

    scale: str
    digits: int | None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64)
        if self.scale == "-log10p":
            values = np.sinh(values)
        if self.digits is not None:
            exponent = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
            unit = 10.0 ** (self.digits - 1 - exponent)
            values = np.round(values * unit) / unit
        return values.astype(np.float32)


def require_options(scale: str, digits: int | None, format: str) -> None:
    """Refuse what :func:`write_bigwigs` cannot write by.

    Raises
    ------
    ValueError
        Which names the argument.
    """
    if scale not in ("stored", "-log10p"):
        raise ValueError(f"scale must be 'stored' or '-log10p'; got {scale!r}.")
    if digits is not None and not 1 <= digits <= _MOST_DIGITS:
        raise ValueError(f"digits must be 1 to {_MOST_DIGITS}, or None; got {digits!r}.")
    if format not in _ENDINGS:
        raise ValueError(f"format must be {' or '.join(map(repr, _ENDINGS))}; got {format!r}.")


def choose_columns(names: pd.Index, tracks: Sequence[str] | None) -> dict[str, int]:
    """Column of each track that is asked for, in the order of the columns."""
    if isinstance(tracks, str):
        raise ValueError(f"tracks must be a list of names; got {tracks!r}. Write [{tracks!r}].")
    if names.has_duplicates:
        raise ValueError(f"tracks must have names of their own; {names[names.duplicated()][0]!r} comes back.")
    for name in tracks or []:
        if name not in names:
            raise ValueError(unknown("track", name, list(names), "var_names"))
    return {str(name): t for t, name in enumerate(names) if tracks is None or name in set(tracks)}


def file_stems(names: Iterable[str]) -> list[str]:
    """File names without ending: of harmless letters, and different also where case does not count.

    >>> file_stems(["K562.CTCF", "k562.ctcf", "H1/H3K27ac (rep 1)", ".."])
    ['K562.CTCF', 'k562.ctcf-2', 'H1_H3K27ac_rep_1_', '_']
    """
    taken: set[str] = set()
    stems = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._+-]+|^[.-]+", "_", str(name))[:_LONGEST] or "_"
        stem, number = plain, 1
        while stem.lower() in taken:
            number += 1
            stem = f"{plain}-{number}"
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def require_places(obs: pd.DataFrame) -> None:
    """Refuse regions that lie nowhere."""
    absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in obs]
    if absent:
        raise ValueError(f"regions can be written only where obs has chrom, start and end; it has no {listed(absent)}.")


def _place(obs: pd.DataFrame, genome: str | Path | pd.Series | None) -> Places:
    require_places(obs)
    refuse_overlaps(obs)
    chrom = obs[_keys.CHROM].astype(str).to_numpy(dtype=object)
    start, end = (obs[name].to_numpy(dtype=np.int64) for name in (_keys.START, _keys.END))
    first = np.flatnonzero(np.r_[True, chrom[1:] != chrom[:-1]])[: len(chrom)]
    blocks = sorted((chrom[i], int(i), int(j)) for i, j in zip(first, np.r_[first[1:], len(chrom)], strict=True))
    sizes = {name: int(end[stop - 1]) for name, _, stop in blocks}
    if genome is not None:
        sizes = _sizes_of_genome(genome, sizes, chrom, start, end)
    return Places(blocks, start, end, sizes)


def _require_reach(places: Places) -> None:
    for chrom, _, stop in places.blocks:
        end, size = int(places.end[stop - 1]), places.sizes[chrom]
        if size > _LONGEST_CHROM or end > _LAST_BASE:
            raise ValueError(
                f"bigWig files can be written of chromosomes up to {_LONGEST_CHROM:,} bp and regions up to "
                f"{_LAST_BASE:,}; {chrom} has {size:,} bp, and its last region ends at {end:,}. "
                "Write format='bedgraph'."
            )


def _sizes_of_genome(
    genome: str | Path | pd.Series, needed: dict[str, int], chrom: np.ndarray, start: np.ndarray, end: np.ndarray
) -> dict[str, int]:
    known = chrom_sizes(genome)
    what = "the genome" if isinstance(genome, pd.Series) else str(genome)
    sizes = lengths_by_chrom(needed, known)
    absent = [name for name in needed if name not in sizes]
    if absent:
        raise ValueError(
            f"regions must lie on chromosomes of {what}; it has no {listed(absent, 3)}, but {listed(known.index, 3)}."
        )
    beyond = np.flatnonzero(end > np.array([sizes[name] for name in chrom]))
    if len(beyond):
        row = beyond[0]
        raise ValueError(
            f"regions must lie within the chromosomes of {what}; {chrom[row]}:{start[row]}-{end[row]}"
            f"{and_more(len(beyond))} does not, for {chrom[row]} has {sizes[chrom[row]]:,} bp. "
            "Name the genome that the regions are of."
        )
    return sizes


def _read_tracks(
    matrix: Matrix, observed: Matrix | None, columns: Mapping[str, int], first_row: int, n_regions: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Each track, float32 (regions), NaN where missing; several are read together where memory allows."""
    together = max(1, _MOST_VALUES // max(n_regions, 1))
    names = list(columns)
    for first in range(0, len(names), together):
        chosen = names[first : first + together]
        numbers = [columns[name] for name in chosen]
        values_tr = np.empty((len(chosen), n_regions), dtype=np.float32)
        for start in range(0, n_regions, _ROWS):
            stop = min(start + _ROWS, n_regions)
            values_rt = matrix.read(first_row + start, first_row + stop)[:, numbers].astype(np.float32)
            if observed is not None:
                values_rt[observed.read(first_row + start, first_row + stop)[:, numbers] == 0] = np.nan
            values_tr[:, start:stop] = values_rt.T
        yield from zip(chosen, values_tr, strict=True)


def _refuse_infinite(name: str, values_r: np.ndarray, obs: pd.DataFrame, scale: str) -> None:
    def found(broken: np.ndarray) -> str:
        return f"region {obs.index[broken[0]]}, track {name} is {values_r[broken[0]]:g}{and_more(len(broken))}"

    infinite = np.flatnonzero(np.isinf(values_r))
    if len(infinite):
        raise ValueError(f"values must be finite, or NaN where missing; {found(infinite)}. Mark the missing by NaN.")
    too_large = np.flatnonzero(np.abs(values_r) > _LARGEST_ARCSINH)
    if scale == "-log10p" and len(too_large):
        raise ValueError(
            f"the scale '-log10p' needs arcsinh(-log10 p), which is below {_LARGEST_ARCSINH}; {found(too_large)}. "
            "Name the layer that holds it, or write the scale 'stored'."
        )


def _records(places: Places, values_r: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> Iterator[Record]:
    """Intervals of one value each, sorted by chromosome and start."""
    for chrom, first, last in places.blocks:
        for start in range(first, last, _ROWS):
            rows = np.arange(start, min(start + _ROWS, last))
            rows = rows[~np.isnan(values_r[rows])]
            values, begin, end = change(values_r[rows]), places.start[rows], places.end[rows]
            parts = np.flatnonzero((values[1:] != values[:-1]) | (begin[1:] != end[:-1]))
            run_first, run_last = np.r_[0, parts + 1][: len(rows)], np.r_[parts, len(rows) - 1][: len(rows)]
            columns = begin[run_first].tolist(), end[run_last].tolist(), values[run_first].tolist()
            yield from zip([chrom] * len(run_first), *columns, strict=True)


def _write_bigwig(path: Path, records: Iterator[Record], sizes: dict[str, int]) -> None:
    stopped: list[BaseException] = []
    finished = False

    def relayed() -> Iterator[Record]:
        # pybigtools takes an exception, even Ctrl-C, for the end of the records
        nonlocal finished
        try:
            yield from records
            finished = True
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below
            stopped.append(error)

    cause = None
    try:
        with _panics_dropped():
            pybigtools.open(str(path), "w").write(sizes, relayed())
    except BaseException as error:
        if not isinstance(error, pybigtools.BBIReadError | OSError) and type(error).__name__ != _PANIC:
            raise
        cause = error
    if stopped:
        raise stopped[0]
    if not finished or not _is_whole(path):
        require_space(path)  # pybigtools hides errors of the disk, or returns as if there were none
        if cause is None and not finished:
            raise KeyboardInterrupt
        raise OSError(f"{path} could not be written whole.") from cause


def _is_whole(path: Path) -> bool:
    """Whether a bigWig file has its beginning, which is written last, and its end."""
    with path.open("rb") as file:
        first = file.read(len(_MAGIC))
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(_MAGIC)))
        return first == file.read() == _MAGIC


@contextmanager
def _panics_dropped() -> Iterator[None]:
    """Drop what pybigtools' threads print where they fail: backtraces, without the reason.

    They print below Python, on the process's own standard output and error; :func:`_own_stderr` is not held up.
    """
    sys.stdout.flush()
    with open(os.devnull, "w") as nowhere:
        before = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in before:
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            for number, saved in before.items():
                os.dup2(saved, number)
                os.close(saved)


@contextmanager
def _own_stderr() -> Iterator[Any]:
    """Standard error for a progress bar, also while :func:`_panics_dropped` keeps that of the process back."""
    try:
        file = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)
    except (AttributeError, OSError):  # not that of the process, but of a notebook or a test
        yield sys.stderr
        return
    with file:
        yield file


def _write_bedgraph(path: Path, records: Iterator[Record], sizes: dict[str, int]) -> None:
    with path.open("w") as file:
        # of float32 the shortest text that is no other float32
        file.writelines(f"{chrom}\t{start}\t{end}\t{np.float32(value)!s}\n" for chrom, start, end, value in records)


_WRITERS: dict[str, Any] = {"bigwig": _write_bigwig, "bedgraph": _write_bedgraph}
