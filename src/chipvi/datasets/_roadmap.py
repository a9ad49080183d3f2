"""Real counts around transcription start sites, downloaded once and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
from anndata import AnnData

from .. import _keys
from .._arguments import checked
from .._messages import unknown
from .._quiet import print_aside, quiet_loggers

_COMMIT = "2aef9c5520595b14da265578c2c04c3d65a4ad01"
_BASE_URL = f"https://raw.githubusercontent.com/QData/DeepDiffChrome/{_COMMIT}/data/"
_SHA256 = {
    "Cell1.train.csv": "fe89e96b429a68252c86ec3f05f8ef3bc384fd0141a32fe558e3913e3e7fd38e",
    "Cell1.valid.csv": "384e81d11cadc981c77941fab14634478a2484bf077d502ae2bb71f1a934dff8",
    "Cell1.test.csv": "b61e90913832b1011b0a853fcff92192bdfc9fe85ff00f6dfeba2be9dd112aa9",
    "Cell2.train.csv": "22d7ea31479ee2a73a2b2391037cd98e462f36e3ccbc40b26c4272903ecee18a",
    "Cell2.valid.csv": "6f2357d58147dba8bfa3c5ef7393787121c84b500ea1522d7a40a48a2bc34d76",
    "Cell2.test.csv": "5c656bbb81344c424260a7ace6cc3387f7fddbe2f1e461182b126d2f8f67b4f9",
}
_RETRIES = 2

_SPLITS = ("train", "valid", "test")
_ASSAYS = ("H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3")  # columns of every file, after the window's name
# File prefix, name, Roadmap identifier and reads per assay over all three splits of the two biosamples.
_BIOSAMPLES = (
    ("Cell1", "K562", "E123", (356_360, 437_381, 173_310, 130_720, 201_114)),
    ("Cell2", "H1", "E003", (275_526, 862_999, 183_933, 425_596, 260_123)),
)
_BIN_SIZE = 100
_N_WINDOWS = 200


@checked
def roadmap_tss(
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    splits: str | Sequence[str] = ("train", "valid"),
    base_url: str = _BASE_URL,
) -> AnnData:
    """Load histone mark counts of K562 and H1 around transcription start sites.

    Read counts of Roadmap Epigenomics alignments (hg19) in 200 bins of 100 bp around the start of each gene, for five
    marks in two biosamples, as published with DeepDiff [1]_ under the Apache-2.0 licence. Counted with
    ``bedtools multicov``, which counts a read in every bin that it touches, so that neighbours share reads. About 3 MB
    per split are downloaded from a fixed commit on the first call and checked against their sha256; later calls need no
    network.

    Parameters
    ----------
    cache_dir
        Where the files are kept; by default the user's cache folder (``pooch.os_cache("chipvi")``).
    splits
        Which genes: ``"train"``, ``"valid"``, ``"test"``, 200 genes each, in the order given.
    base_url
        Folder from which to download: a mirror of the original.

    Returns
    -------
    AnnData
        Windows x 10 tracks, 40,000 windows per split.

        - ``X``: read counts, float32, dense.
        - ``obs``: ``gene_id`` (Ensembl), ``gene_name``, ``window`` (1 to 200), ``offset`` (of the window's start from
          the transcription start site, in bp) and ``split``. There are no genome coordinates: rows are neighbours
          within a gene, so use ``segment_key="gene_id"``.
        - ``var``: ``biosample``, ``roadmap_id``, ``assay``, ``is_control`` (nowhere true) and ``depth`` (reads of the
          track over all three splits).
        - ``uns``: ``assembly``, ``bin_size`` (bp) and ``source``.

    Raises
    ------
    ValueError
        Where a split is unknown, or a downloaded file is not the published one; such a file is not kept.
    ConnectionError
        Where a file can be neither found in the cache nor downloaded.

    References
    ----------
    .. [1] Sekhon A, Singh R, Qi Y. DeepDiff: DEEP-learning for predicting DIFFerential gene expression from histone
       modifications. Bioinformatics 34:i891 (2018). https://github.com/QData/DeepDiffChrome

    Examples
    --------
    >>> adata = chipvi.datasets.roadmap_tss()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (80000, 10)
    """
    splits = list(dict.fromkeys([splits] if isinstance(splits, str) else splits))
    for split in splits:
        if split not in _SPLITS:
            raise ValueError(unknown("split", split, _SPLITS, "the Roadmap TSS counts"))
    if not splits:
        raise ValueError(f"splits must name at least one of {', '.join(_SPLITS)}; got none.")
    cache = pooch.create(
        path=Path(pooch.os_cache("chipvi") if cache_dir is None else cache_dir) / "roadmap_tss",
        base_url=base_url.rstrip("/") + "/",
        registry=_SHA256,
        retry_if_failed=_RETRIES,
    )
    counts = pd.concat([_read_split(cache, split) for split in splits], keys=splits, names=["split"])
    obs = _windows(counts.index.get_level_values(1))
    obs["split"] = pd.Categorical(counts.index.get_level_values("split"))
    uns = {"assembly": "hg19", "bin_size": _BIN_SIZE, "source": f"QData/DeepDiffChrome@{_COMMIT}"}
    return AnnData(counts.to_numpy(np.float32), obs=obs, var=_tracks(), uns=uns)


def _read_split(cache: pooch.Pooch, split: str) -> pd.DataFrame:
    """Read windows x tracks of one split, with the windows' names as index."""
    parts = [
        pd.read_csv(
            _fetch(cache, f"{cell}.{split}.csv"), header=None, index_col=0, dtype=dict.fromkeys(range(1, 6), "f4")
        )
        for cell, *_ in _BIOSAMPLES
    ]
    return pd.concat(parts, axis=1)


def _fetch(cache: pooch.Pooch, name: str) -> str:
    """Give the path of the file in the cache; download it first where it is not there or not intact."""
    if not (cache.abspath / name).exists():
        print_aside(f"Downloading {cache.get_url(name)}")
    try:
        with quiet_loggers([pooch.get_logger().name]):  # a line for every try
            return cache.fetch(name)
    except ValueError as error:
        raise ValueError(
            f"{cache.get_url(name)} must have the sha256 {cache.registry[name]}; the file that came has another and "
            "was not kept. Try again; if it stays so, a proxy may alter it, or base_url does not hold the original."
        ) from error
    except PermissionError:
        raise  # pooch says which folder cannot be written
    except OSError as error:
        reason = str(getattr(error.args[0] if error.args else None, "reason", error))  # of the last of all retries
        reason = re.sub(r"^<?\w+\(.*?\)>?: ", "", reason)  # urllib3 begins with the object
        raise ConnectionError(
            f"{cache.get_url(name)} could not be downloaded: {reason}. Check the network and try again, put the file "
            f"into {cache.path} yourself, or name a mirror as base_url of chipvi.datasets.roadmap_tss."
        ) from error


def _windows(names: pd.Index) -> pd.DataFrame:
    """Take the windows' names, such as ENSG00000130749_ZC3H4_1, apart."""
    obs = names.to_series().str.extract(r"^(?P<gene_id>[^_]+)_(?P<gene_name>.+)_(?P<window>\d+)$")
    obs = obs.astype({"gene_id": "category", "gene_name": "category", "window": np.int64})
    obs["offset"] = (obs["window"] - 1 - _N_WINDOWS // 2) * _BIN_SIZE
    return obs.rename_axis(None)


def _tracks() -> pd.DataFrame:
    rows = [
        (name, roadmap_id, assay, False, reads)
        for _, name, roadmap_id, depths in _BIOSAMPLES
        for assay, reads in zip(_ASSAYS, depths, strict=True)
    ]
    columns = [_keys.BIOSAMPLE, "roadmap_id", _keys.ASSAY, _keys.IS_CONTROL, _keys.DEPTH]
    var = pd.DataFrame(rows, columns=columns, index=[f"{name}.{assay}" for name, _, assay, *_ in rows])
    for key in (_keys.BIOSAMPLE, "roadmap_id", _keys.ASSAY):
        var[key] = pd.Categorical(var[key], categories=var[key].unique())
    return var
