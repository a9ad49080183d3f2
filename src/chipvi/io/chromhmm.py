"""What ChromHMM segments: marks in bins of the genome, measured where they were, imputed elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from anndata import AnnData

from .. import _keys
from .._arguments import checked, require_real
from .._files import claimed, written_whole
from .._messages import listed, unknown
from ..data.segments import refuse_overlaps
from ..data.track_data import Matrix, find_present
from .assembly import lengths_by_chrom
from .bigwigs.matrices import open_matrices
from .bigwigs.write import file_stems
from .genomes import assembly_of, chrom_sizes

_ROWS = 2**16  # in memory at a time
_UNKNOWN = 2  # in a binary file
_NO_SIGNAL = -1


@checked
def write_chromhmm(
    result: AnnData | str | PathLike,
    folder: str | PathLike,
    counts: AnnData | None = None,
    *,
    layer: str | None = None,
    observed_layer: str | None = None,
    genome: str | Path | pd.Series | None = None,
    poisson: float = 1e-4,
) -> dict[str, list[Path]]:
    """Write the input of ChromHMM: its binarised files, and the signal that they were made of.

    A mark of a biosample is what was measured, where it was, and what was imputed elsewhere. It is present (1) from a
    count on that a Poisson distribution with the mean of the track reaches with a probability of at least `poisson`,
    that is of ``scipy.stats.poisson.ppf(1 - poisson, mean)`` and at least 1, as ChromHMM's BinarizeBed has it without a
    control [1]_. Imputed are expected counts, at the depth that they were imputed at. What is neither measured nor
    imputed is unknown (2): marks that the result lacks in that biosample, and bins that are no region.

    Parameters
    ----------
    result
        What `model.impute()` returned, or the `.h5ad` or `.zarr` file that it wrote, which is read in pieces. Its
        regions are bins of one width, each beginning at a multiple of it, as ChromHMM counts them from 0.
    folder
        To write to; made if need be. Files of the same names are replaced.
    counts
        The data that the result was imputed from; without, everything is imputed.
    layer, observed_layer
        Of `counts`, as `ChipVI.setup_anndata` has them.
    genome
        As for :func:`write_tracks`: it says how many bins a chromosome has. Without, it ends with its last region.
    poisson
        Between 0 and 1.

    Returns
    -------
    Files by biosample: `binary/K562_chr1_binary.txt.gz`, for ``LearnModel`` and ``MakeSegmentation``, and
    `signal/K562_chr1_signal.txt.gz` (-1 is unknown), for ``BinarizeSignal``. Each begins with a line with biosample and
    chromosome, and one with the marks.

    Raises
    ------
    ValueError
        For regions that are no such bins, a result without counts or of other regions than `counts`, and a probability
        out of range.
    BlockingIOError
        If another process is writing to the folder with this function.
    OSError
        If a file cannot be written, as where the disk is full.

    References
    ----------
    .. [1] Ernst, Kellis 2017. Chromatin-state discovery and genome annotation with ChromHMM. Nature Protocols 12:2478.

    Examples
    --------
    >>> files = write_chromhmm(model.impute(), "chromhmm", model.adata)  # doctest: +SKIP
    """
    require_real("poisson", poisson, least=0, below=1)
    if poisson == 0:
        raise ValueError("poisson must be above 0; it is 0.")
    folder = Path(folder)
    with claimed(folder), open_matrices(result) as matrices:
        if _keys.PVAL in matrices.layers and _keys.DEPTH not in matrices.var:
            raise ValueError("ChromHMM needs counts, and the result is of a model of signal only.")
        genome = assembly_of(matrices.uns) if genome is None else genome
        bins = _Bins.of(matrices.obs, None if genome is None else chrom_sizes(genome))
        tracks = _Tracks(matrices.matrix(None), matrices.var, matrices.obs.index, counts, layer, observed_layer)
        threshold_t = np.maximum(scipy.stats.poisson.ppf(1 - poisson, tracks.mean()), 1)
        return _write(folder, bins, tracks, threshold_t)


@dataclass(frozen=True, eq=False)
class _Bins:
    """Bins of a genome: those of every chromosome that has regions.

    Parameters
    ----------
    blocks
        Chromosome, and the rows from and to which it reaches.
    place_r
        Which bin of its chromosome a region is.
    n_bins
        Of every chromosome.
    """

    blocks: list[tuple[str, int, int]]
    place_r: np.ndarray
    n_bins: dict[str, int]

    @classmethod
    def of(cls, obs: pd.DataFrame, sizes: pd.Series | None) -> _Bins:
        """Take regions for bins, if they are."""
        absent = [name for name in (_keys.CHROM, _keys.START, _keys.END) if name not in obs]
        if absent:
            raise ValueError(f"ChromHMM needs bins, and obs has no {listed(absent)}.")
        refuse_overlaps(obs)
        start, end = (obs[name].to_numpy(np.int64) for name in (_keys.START, _keys.END))
        width = int(end[0] - start[0])
        wrong = np.flatnonzero((end - start != width) | (start % width != 0))
        if len(wrong):
            chrom = obs[_keys.CHROM].iloc[wrong[0]]
            raise ValueError(
                f"ChromHMM needs bins of one width, each at a multiple of it; the first region has {width} bp, and "
                f"{chrom}:{start[wrong[0]]}-{end[wrong[0]]} does not go with it. Count in bins of the genome."
            )
        name_r = obs[_keys.CHROM].astype(str).to_numpy()
        edges = np.r_[0, np.flatnonzero(name_r[1:] != name_r[:-1]) + 1, len(obs)]
        blocks = [(name_r[low], int(low), int(high)) for low, high in zip(edges[:-1], edges[1:], strict=True)]
        known = {} if sizes is None else lengths_by_chrom([name for name, *_ in blocks], sizes)
        n_bins = {name: max(known.get(name, 0) // width, int(end[high - 1]) // width) for name, _, high in blocks}
        return cls(blocks, start // width, n_bins)


class _Tracks:
    """Counts of the tracks of a result: measured where they are, imputed elsewhere; NaN where neither."""

    def __init__(
        self,
        imputed: Matrix,
        var: pd.DataFrame,
        names: pd.Index,
        counts: AnnData | None,
        layer: str | None,
        observed_layer: str | None,
    ) -> None:
        self._imputed, self.var, self.n_regions = imputed, var, len(names)
        self._counts = None
        if counts is not None:
            row_r = counts.obs_names.get_indexer(names)
            if (row_r < 0).any():
                raise ValueError(f"counts must have the regions of the result; they lack {names[row_r < 0][0]}.")
            column_t = counts.var_names.get_indexer(var.index)
            for argument, asked in (("layer", layer), ("observed_layer", observed_layer)):
                if asked is not None and asked not in counts.layers:
                    raise ValueError(unknown(argument, asked, list(counts.layers), "counts.layers"))
            values = Matrix("counts", counts.X if layer is None else counts.layers[layer])
            observed = None if observed_layer is None else Matrix("observed", counts.layers[observed_layer])
            self._counts = row_r, column_t, values, observed
        elif layer is not None or observed_layer is not None:
            given = "layer" if layer is not None else "observed_layer"
            raise ValueError(f"{given} is one of counts, which are not given; got {layer or observed_layer!r}.")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Regions x tracks."""
        value_rt = np.asarray(self._imputed.read(start, stop), dtype=np.float64)
        if self._counts is None:
            return value_rt
        row_r, column_t, values, observed = self._counts
        measured_rc = values.read_rows(row_r[start:stop])
        present_rc = find_present(measured_rc, None if observed is None else observed.read_rows(row_r[start:stop]) != 0)
        is_there_rt = present_rc[:, column_t] & (column_t >= 0)
        return np.where(is_there_rt, measured_rc[:, column_t], value_rt)

    def mean(self) -> np.ndarray:
        """Mean of each track over the regions where it is known."""
        total_t, number_t = np.zeros((2, len(self.var)))
        for start in range(0, self.n_regions, _ROWS):
            value_rt = self.read(start, min(start + _ROWS, self.n_regions))
            total_t += np.nansum(value_rt, axis=0)
            number_t += np.isfinite(value_rt).sum(axis=0)
        return total_t / np.maximum(number_t, 1)


def _write(folder: Path, bins: _Bins, tracks: _Tracks, threshold_t: np.ndarray) -> dict[str, list[Path]]:
    biosamples, assays = (list(dict.fromkeys(map(str, tracks.var[key]))) for key in (_keys.BIOSAMPLE, _keys.ASSAY))
    pairs = list(zip(map(str, tracks.var[_keys.BIOSAMPLE]), map(str, tracks.var[_keys.ASSAY]), strict=True))
    track_ba = np.array([[pairs.index((b, a)) if (b, a) in pairs else -1 for a in assays] for b in biosamples])
    stems = dict(zip(biosamples, file_stems(biosamples), strict=True))
    files: dict[str, list[Path]] = {biosample: [] for biosample in biosamples}
    for kind in ("binary", "signal"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for chrom, low, high in bins.blocks:
        for b, biosample in enumerate(biosamples):
            header = f"{_one_word(biosample)}\t{chrom}\n" + "\t".join(map(_one_word, assays)) + "\n"
            for kind, lines in (("binary", _binary_lines), ("signal", _signal_lines)):
                path = folder / kind / f"{stems[biosample]}_{chrom}_{kind}.txt.gz"
                with written_whole(path) as partial, gzip.open(partial, "wb", compresslevel=4) as file:
                    file.write(header.encode())
                    for value_na in _chunks(bins, tracks, chrom, (low, high), track_ba[b]):
                        file.write(lines(value_na, threshold_t[track_ba[b]]))
                files[biosample].append(path)
    return files


def _chunks(
    bins: _Bins, tracks: _Tracks, chrom: str, rows: tuple[int, int], track_a: np.ndarray
) -> Iterator[np.ndarray]:
    """Counts of the bins of a chromosome, some at a time: bins x assays, NaN where they are not known."""
    low, high = rows
    place_r = bins.place_r[low:high]
    for first in range(0, bins.n_bins[chrom], _ROWS):
        stop = min(first + _ROWS, bins.n_bins[chrom])
        value_na = np.full((stop - first, len(track_a)), np.nan)
        start, end = (low + int(row) for row in np.searchsorted(place_r, [first, stop]))
        if end > start:
            value_rt = tracks.read(start, end)
            value_na[bins.place_r[start:end] - first] = np.where(track_a >= 0, value_rt[:, track_a], np.nan)
        yield value_na


def _binary_lines(value_na: np.ndarray, threshold_a: np.ndarray) -> bytes:
    digit_na = np.where(np.isnan(value_na), _UNKNOWN, value_na >= threshold_a)
    text_na2 = np.full((*digit_na.shape, 2), ord("\t"), dtype=np.uint8)
    text_na2[..., 0] = ord("0") + digit_na
    text_na2[:, -1, 1] = ord("\n")
    return text_na2.tobytes()


def _signal_lines(value_na: np.ndarray, threshold_a: np.ndarray) -> bytes:
    signal_na = np.where(np.isnan(value_na), _NO_SIGNAL, value_na)
    return pd.DataFrame(signal_na).to_csv(sep="\t", header=False, index=False, float_format="%.6g").encode()


def _one_word(name: str) -> str:
    """A name without blanks, at which ChromHMM would cut it."""
    return "_".join(name.split())
