"""Files read side by side: the same counts whoever reads them, and nothing twice."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pybigtools
import pytest

from chipvi import io
from chipvi._files import claimed, shard_of, unfinished_of
from chipvi.io.bigwigs import read
from chipvi.io.counting import files
from chipvi.io.counting.regions import Intervals, Regions

SIZES = pd.Series({"chr1": 30_000, "chr2": 9_050})
N_READS = {"a": 400, "b": 300, "c": 230, "d": 90}
ASKED = {"genome": SIZES, "bin_size": 100, "progress": False}


@pytest.fixture
def sheet(tmp_path) -> pd.DataFrame:
    """Four files of reads and one of p-values."""
    random = np.random.default_rng(5)
    rows = []
    for name, number in N_READS.items():
        starts = np.sort(random.integers(0, 8_000, number))
        chroms = random.choice(["chr1", "chr2"], number)
        (tmp_path / f"{name}.bed").write_text(
            "".join(f"{chrom}\t{start}\t{start + 36}\t.\t0\t+\n" for chrom, start in zip(chroms, starts, strict=True))
        )
        rows.append(("K562", name, str(tmp_path / f"{name}.bed"), ""))
    pybigtools.open(str(tmp_path / "a.bw"), "w").write(SIZES.to_dict(), [("chr1", 10, 900, 2.5), ("chr2", 0, 50, 0.5)])
    rows.append(("K562", "a", str(tmp_path / "a.bw"), "pvalue"))
    return pd.DataFrame(rows, columns=["biosample", "assay", "file", "kind"])


@pytest.fixture
def read_now(monkeypatch) -> list[str]:
    """Names of the files that are read in this process, in that order."""
    names: list[str] = []
    count_file, read_track = files.count_file, read._read_track
    monkeypatch.setattr(
        files, "count_file", lambda source, *r: names.append(source.path.name) or count_file(source, *r)
    )
    monkeypatch.setattr(
        read, "_read_track", lambda source, *r: names.append(Path(source).name) or read_track(source, *r)
    )
    return names


def assert_same(one: anndata.AnnData, other: anndata.AnnData) -> None:
    dense = [[x.toarray() if hasattr(x, "toarray") else x for x in (a.X, *a.layers.values())] for a in (one, other)]
    assert list(one.layers) == list(other.layers) and len(dense[0]) == 3
    for first, second in zip(*dense, strict=True):
        np.testing.assert_array_equal(first, second)
    assert one.var.astype(str).equals(other.var.astype(str))
    assert one.obs.astype(str).equals(other.obs.astype(str)) and str(one.uns) == str(other.uns)


def test_counts_are_the_same_with_one_and_two_processes_and_an_executor(sheet, tmp_path):
    expected = io.count_sheet(sheet, **ASKED)
    assert expected.X.sum() > 900
    assert_same(io.count_sheet(sheet, **ASKED, processes=2, out=tmp_path / "two.h5ad"), expected)
    with ThreadPoolExecutor(2) as executor:
        assert_same(io.count_sheet(sheet, **ASKED, executor=executor), expected)
        assert_same(io.count_sheet(sheet, **ASKED, executor=executor, out=tmp_path / "three.h5ad"), expected)
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".h5ad" or path.name[0] == "."} == {
        "two.h5ad",
        "three.h5ad",
    }


def test_shards_read_each_file_once_and_the_last_step_none(sheet, tmp_path, read_now):
    out = tmp_path / "out.h5ad"
    for part in (3, 1, 2):
        assert io.count_sheet(sheet, **ASKED, out=out, shard=(part, 3)) is None
        assert not out.exists()
    assert sorted(read_now) == ["a.bed", "a.bw", "b.bed", "c.bed", "d.bed"]
    read_now.clear()
    merged = io.count_sheet(sheet, **ASKED, out=out)
    assert read_now == [] and not unfinished_of(out).exists()
    assert_same(merged, io.count_sheet(sheet, **ASKED))


def test_after_an_error_only_what_is_missing_is_read(sheet, tmp_path, read_now):
    out, good = tmp_path / "out.h5ad", (tmp_path / "c.bed").read_text()
    (tmp_path / "c.bed").write_text(good + "chr1\thalf a li")
    with pytest.raises(ValueError, match=r"c\.bed"):
        io.count_sheet(sheet, **ASKED, out=out)
    assert read_now == ["a.bed", "b.bed", "c.bed"] and not out.exists()
    (tmp_path / "c.bed").write_text(good)
    read_now.clear()
    found = io.count_sheet(sheet, **ASKED, out=out)
    assert read_now == ["c.bed", "d.bed", "a.bw"]
    assert_same(found, io.count_sheet(sheet, **ASKED))


@pytest.mark.parametrize(
    "change",
    [{"rule": "center"}, {"bin_size": 50}, {"min_mapq": 1}, {"blacklist": pd.DataFrame([("chr1", 0, 90)])}, "touched"],
    ids=lambda change: change if isinstance(change, str) else next(iter(change)),
)
def test_what_was_read_otherwise_or_of_another_file_is_read_again(sheet, tmp_path, read_now, change):
    out = tmp_path / "out.h5ad"
    io.count_sheet(sheet, **ASKED, out=out, shard=(1, 1))
    read_now.clear()
    if change == "touched":
        text = (tmp_path / "b.bed").read_text()
        (tmp_path / "b.bed").write_text(text.replace("chr1\t", "chr2\t", 1) + "chr2\t77\t113\t.\t0\t+\n")
        change, expected = {}, ["b.bed"]
    else:
        expected = ["a.bed", "b.bed", "c.bed", "d.bed"]
    if "blacklist" in change:
        change = {"blacklist": change["blacklist"].set_axis(["chrom", "start", "end"], axis=1)}
    found = io.count_sheet(sheet, **(ASKED | change), out=out)
    assert [name for name in read_now if name.endswith("bed")] == expected
    assert_same(found, io.count_sheet(sheet, **(ASKED | change)))


def test_a_shard_needs_a_file_and_must_be_one_of_so_many(sheet, tmp_path):
    with pytest.raises(ValueError, match="name the file with out"):
        io.count_sheet(sheet, **ASKED, shard=(1, 2))
    for shard in ((0, 2), (3, 2), (1.5, 2), (1, 2, 3)):
        with pytest.raises(ValueError, match="shard must be"):
            io.count_sheet(sheet, **ASKED, out=tmp_path / "out.h5ad", shard=shard)


def test_two_shards_may_be_read_at_once_and_the_same_one_not_twice(sheet, tmp_path):
    out = tmp_path / "out.h5ad"
    with ThreadPoolExecutor(1) as other, claimed(shard_of(out, (1, 2))):
        other.submit(io.count_sheet, sheet, **ASKED, out=out, shard=(2, 2)).result()
        with pytest.raises(BlockingIOError, match="is writing"):
            other.submit(io.count_sheet, sheet, **ASKED, out=out, shard=(1, 2)).result()
    assert len(list(unfinished_of(out).iterdir())) == 2  # of the four files of reads; that of p-values is in the other


@pytest.mark.parametrize("shuffled", [False, True])
def test_bins_are_short_to_send_and_any_intervals_arrive_as_they_are(shuffled):
    table = io.make_bins(SIZES, 100)
    if shuffled:
        table = table.sample(frac=1, random_state=1)
    regions = Regions.from_frame(table)
    sent = pickle.dumps(regions.intervals)
    assert len(sent) < 1_500 < 16 * len(table)
    arrived = pickle.loads(sent)
    assert arrived.chroms == regions.intervals.chroms
    for name in ("offsets", "starts", "ends"):
        np.testing.assert_array_equal(getattr(arrived, name), getattr(regions.intervals, name), strict=True)
    odd = Intervals(("chr1",), np.array([0, 99]), np.array([0, 5, 5, 70]), np.array([9, 9, 50, 99]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(odd)).ends, odd.ends)
