"""A store of counts: the same as counted in memory, compact, and made wider without touching what is there."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pybigtools
import pysam
import pytest

from chipvi.data.annotation import region_names
from chipvi.io import count_sheet, inputs, reading, stores
from chipvi.io.sheets import pieces

SIZES = {"chr1": 1_000, "chr2": 650}
READS = {
    "a1": [("chr1", 5), ("chr1", 99), ("chr1", 100), ("chr2", 340)],
    "a2": [("chr1", 100), ("chr2", 599), ("chr2", 599)],
    "b": [("chr2", p) for p in range(0, 500, 7)],
    "c": [("chr1", p) for p in range(0, 900, 11)],
    "deep": [("chr1", 250)] * 300,
}
SHEET = ["K562,A,a1.bam,", "K562,A,a2.bam,", "H1,A,b.bam,", "H1,B,p.bw,pvalue"]
MORE = ["H9,A,deep.bam,", "H9,B,c.bam,", "H9,B,q.bw,pvalue"]


@pytest.fixture
def folder(tmp_path):
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": length} for name, length in SIZES.items()]}
    for name, places in READS.items():
        with pysam.AlignmentFile(str(tmp_path / f"{name}.bam"), "wb", header=header) as file:
            for number, (chrom, start) in enumerate(places):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.reference_name, read.reference_start = f"r{number}", chrom, start
                read.cigarstring, read.mapping_quality, read.flag = "30M", 60, 0
                file.write(read)
    (tmp_path / "genome.sizes").write_text("".join(f"{name}\t{length}\n" for name, length in SIZES.items()))
    for name in ("p", "q"):
        pybigtools.open(str(tmp_path / f"{name}.bw"), "w").write(
            SIZES, [("chr1", 0, 200, 3.0), ("chr2", 100, 200, 1.5)]
        )
    return tmp_path


def count(folder, lines, **options):
    (folder / "sheet.csv").write_text("\n".join(["biosample,assay,file,kind", *lines]) + "\n")
    where = {} if "append" in options else {"bin_size": 100}
    options = {"genome": folder / "genome.sizes", "rule": "five_prime", "progress": False} | where | options
    return count_sheet(folder / "sheet.csv", merge_replicates=True, **options)


def assert_alike(store, memory):
    np.testing.assert_array_equal(np.asarray(store.X), memory.to_df().to_numpy())
    assert set(store.layers) == set(memory.layers)
    for name in memory.layers:
        np.testing.assert_array_equal(np.asarray(store.layers[name]), np.asarray(memory.layers[name]))
    pd.testing.assert_frame_equal(store.obs, memory.obs, check_dtype=False, check_categorical=False)
    pd.testing.assert_frame_equal(store.var, memory.var, check_dtype=False, check_categorical=False, check_like=True)
    assert store.uns["chipvi_counting"]["rule"] == memory.uns["chipvi_counting"]["rule"]


@pytest.fixture
def short_stretches(monkeypatch):
    for module in (reading, stores, pieces):
        monkeypatch.setattr(module, "STRETCH", 7)


def metadata(path):
    return json.loads((path / "X" / "zarr.json").read_text())


@pytest.mark.usefixtures("short_stretches")
def test_a_store_holds_what_is_counted_in_memory_in_the_narrowest_type(folder):
    store = count(folder, SHEET, out=folder / "counts.zarr")
    assert_alike(store, count(folder, SHEET))
    assert store.X.dtype == np.uint8
    pytest.importorskip("zarr", minversion="3")
    shape = metadata(folder / "counts.zarr")["chunk_grid"]["configuration"]["chunk_shape"]
    (shards,) = metadata(folder / "counts.zarr")["codecs"]
    assert shards["name"] == "sharding_indexed" and shards["configuration"]["chunk_shape"][1] == shape[1] == 3


@pytest.mark.usefixtures("short_stretches")
def test_tracks_are_appended_as_if_counted_together_and_no_file_of_the_others_is_written(folder):
    pytest.importorskip("zarr", minversion="3")
    out = folder / "counts.zarr"
    count(folder, SHEET[:2], out=out)
    before = {file: file.stat().st_ino for file in (out / "X" / "c").rglob("*") if file.is_file()}
    count(folder, SHEET, out=out, append=True)
    assert before and all(file.stat().st_ino == number for file, number in before.items())
    assert len([*(out / "X" / "c").rglob("*")]) > len(before)
    store = count(folder, SHEET + MORE, out=out, append=True)  # with more reads than a byte holds
    assert store.X.dtype == np.uint16
    assert_alike(store, count(folder, SHEET + MORE))
    assert_alike(anndata.read_zarr(out), count(folder, SHEET + MORE))
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (SHEET, {}, "has all tracks of the sheet already"),
        (["K562,A,a1.bam,"], {}, r"track K562.A is in the store already, of other files: .*a1.bam;.*a2.bam"),
        (MORE, {"rule": "center"}, "was counted with rule five_prime, and is to be appended to with center"),
        (MORE, {"bin_size": 100}, "in the regions of the store; leave out bin_size\\."),
        (MORE, {"out": "counts.h5ad"}, "appended to a .zarr store"),
        (MORE, {"out": "none.zarr"}, "there is no store .*none.zarr to append tracks to"),
    ],
)
def test_what_cannot_be_appended_is_refused_and_the_store_stays(folder, lines, options, message):
    out = folder / "counts.zarr"
    count(folder, SHEET, out=out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    options = options | {"out": folder / options.get("out", "counts.zarr"), "append": True}
    with pytest.raises(ValueError, match=message):
        count(folder, lines, **options)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_an_append_that_fails_leaves_the_store_and_goes_on_with_what_was_counted(folder, monkeypatch):
    out = folder / "counts.zarr"
    count(folder, SHEET, out=out)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(pieces, "finish", full)
        count(folder, MORE, out=out, append=True)
    assert_alike(inputs.open_anndata(out), count(folder, SHEET))
    (folder / "deep.bam").touch()  # of another time, so that it is read again, and the other is not
    assert_alike(count(folder, MORE, out=out, append=True), count(folder, SHEET + MORE))


def test_regions_of_a_genome_have_no_texts_in_the_store_and_are_named_by_their_places(folder, monkeypatch):
    monkeypatch.setattr(stores, "_MOST_NAMED", 5)
    named = count(folder, SHEET)
    store = count(folder, SHEET, out=folder / "counts.zarr")
    assert isinstance(store.obs.index, pd.RangeIndex)
    assert store.obs["start"].dtype == store.obs["end"].dtype == np.int32
    assert list(region_names(store.obs)[:]) == list(named.obs_names)
    np.testing.assert_array_equal(store.obs["end"], named.obs["end"])
    again = count(folder, SHEET + MORE, out=folder / "counts.zarr", append=True)
    np.testing.assert_array_equal(again.to_df().to_numpy(), count(folder, SHEET + MORE).to_df().to_numpy())
    names = [path for path in Path(folder / "counts.zarr" / "obs").iterdir() if path.name == "_index"]
    assert len(names) == 1
