"""bigWig and bedGraph files of tracks: what is in them, that they read back, and that nothing is left half-written."""

import os
import signal
import struct
import threading
from functools import partial
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pybigtools
import pytest
import zarr
from anndata import AnnData
from rich.console import Console
from scipy import sparse

from chipvi import _workers, io
from chipvi.io.bigwigs import write as write_module

TRACKS = ["K562.H3K27ac", "K562/H3K4me3 (rep 1)", "H1.DNase"]
SIZES = pd.Series({"chr1": 12_345, "chr2": 6_000, "chr10": 7_001, "chrX": 900})
write = partial(io.write_bigwigs, progress=False)
read = partial(io.read_bigwigs, progress=False)


def regions() -> pd.DataFrame:
    """Bins of 100 bp of three chromosomes, in the order of genomes, with gaps."""
    places = [(c, s, s + 100) for c, n in (("chr1", 60), ("chr2", 35), ("chr10", 47)) for s in range(0, 100 * n, 100)]
    obs = pd.DataFrame(places, columns=["chrom", "start", "end"]).drop([0, 17, 18, 70])
    return obs.set_axis([f"r{i}" for i in range(len(obs))])


@pytest.fixture
def adata() -> AnnData:
    rng = np.random.default_rng(1)
    obs = regions()
    values_rt = rng.gamma(0.5, 30, size=(len(obs), 3)).astype(np.float32)
    values_rt[rng.random(values_rt.shape) < 0.2] = np.nan
    values_rt[20:40, 1] = 3.0
    values_rt[30, 1] = np.nan
    adata = AnnData(values_rt, obs=obs, var=pd.DataFrame(index=TRACKS))
    adata.layers["pval"] = np.arcsinh(rng.gamma(0.4, 9, size=values_rt.shape))
    return adata


def records(path: Path) -> list[tuple[str, int, int, float]]:
    reader = pybigtools.open(str(path))
    return [(chrom, *record) for chrom in reader.chroms() for record in reader.records(chrom)]


def significant(values: np.ndarray, digits: int) -> np.ndarray:
    """Rounded by text, an independent way."""
    return np.array([float(f"{value:.{digits - 1}e}") for value in values.ravel()]).reshape(values.shape)


def test_what_is_written_reads_back_equal(adata, tmp_path):
    files = write(adata, tmp_path / "new" / "folder", digits=None)
    assert list(files) == TRACKS
    np.testing.assert_array_equal(read(files, adata.obs).X, adata.X)


def test_by_default_values_have_four_significant_digits(adata, tmp_path):
    found = read(write(adata, tmp_path), adata.obs).X
    np.testing.assert_array_equal(found, significant(adata.X, 4).astype(np.float32))
    np.testing.assert_allclose(found, adata.X, rtol=5.01e-4)
    assert (found != adata.X)[~np.isnan(adata.X)].mean() > 0.9


def test_zero_and_tiny_values_keep_their_digits(tmp_path):
    obs = regions().iloc[:5]
    values = np.array([[0.0], [1.23456e-12], [9.99996], [-4.56789], [123456.0]], dtype=np.float32)
    files = write(AnnData(values, obs=obs, var=pd.DataFrame(index=["a"])), tmp_path)
    assert read(files, obs).X[:, 0] == pytest.approx([0, 1.235e-12, 10, -4.568, 123500], rel=1e-7)


def test_missing_entries_and_gaps_are_left_out_and_equal_neighbours_merged(adata, tmp_path):
    path = write(adata, tmp_path, digits=None)[TRACKS[1]]
    found = {(c, s): (e, v) for c, s, e, v in records(path)}
    covered = {c: np.zeros(SIZES[c], dtype=bool) for c in ("chr1", "chr2", "chr10")}
    for (c, s), (e, _) in found.items():
        assert not covered[c][s:e].any()
        covered[c][s:e] = True
    for (c, s, e), value in zip(adata.obs.itertuples(index=False), adata.X[:, 1], strict=True):
        assert covered[c][s:e].all() if not np.isnan(value) else not covered[c][s:e].any()
    assert sum(x.sum() for x in covered.values()) == 100 * np.isfinite(adata.X[:, 1]).sum()
    # rows 20 to 39 hold one value, but for row 30
    first, gap = int(adata.obs["start"].iloc[20]), int(adata.obs["start"].iloc[30])
    assert found["chr1", first] == (gap, 3.0)
    assert found["chr1", gap + 100] == (int(adata.obs["end"].iloc[39]), 3.0)


def test_pieces_of_rows_leave_no_trace(adata, tmp_path, monkeypatch):
    whole = read(write(adata, tmp_path / "whole"), adata.obs).X
    monkeypatch.setattr(write_module, "_ROWS", 7)
    monkeypatch.setattr(write_module, "_MOST_VALUES", 1)
    np.testing.assert_array_equal(read(write(adata, tmp_path / "pieces"), adata.obs).X, whole)


def test_chromosomes_have_the_lengths_of_the_genome_or_end_with_their_last_region(adata, tmp_path):
    path = write(adata, tmp_path, genome=SIZES)[TRACKS[0]]
    assert pybigtools.open(str(path)).chroms() == SIZES[["chr1", "chr10", "chr2"]].to_dict()
    path = write(adata, tmp_path)[TRACKS[0]]
    assert pybigtools.open(str(path)).chroms() == {"chr1": 6_000, "chr10": 4_700, "chr2": 3_500}


def test_a_genome_is_known_by_name(adata, tmp_path):
    path = write(adata, tmp_path, genome="hg38")[TRACKS[0]]
    assert pybigtools.open(str(path)).chroms("chr1") == 248_956_422


def test_chromosome_names_are_sorted_in_the_index_which_readers_search_by_halves(adata, tmp_path):
    content = write(adata, tmp_path, genome=SIZES)[TRACKS[0]].read_bytes()
    (tree,) = struct.unpack_from("<Q", content, 8)
    magic, _, key_size, value_size, n_chroms = struct.unpack_from("<IIIIQ", content, tree)
    assert (magic, n_chroms) == (0x78CA8C91, 3)
    keys = [content[tree + 36 + i * (key_size + value_size) :][:key_size].rstrip(b"\0") for i in range(3)]
    assert keys == [b"chr1", b"chr10", b"chr2"]


def test_file_names_are_safe_and_differ(adata, tmp_path):
    adata.var_names = ["a/b", "a b", "A B"]
    files = write(adata, tmp_path, suffix=".lower")
    assert [path.name for path in files.values()] == ["a_b.lower.bw", "a_b-2.lower.bw", "A_B-3.lower.bw"]
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in files.values())
    # a track is called the same when it is written alone
    assert write(adata, tmp_path, suffix=".lower", tracks=["A B"]) == {"A B": files["A B"]}


@pytest.mark.parametrize("name", ["o[", "o[x]", "bold[bold]"])
def test_a_folder_with_brackets_is_named_in_the_progress_bar(adata, tmp_path, name, capfd, monkeypatch):
    monkeypatch.setattr(_workers, "Console", partial(Console, force_terminal=True, width=80))
    assert len(io.write_bigwigs(adata, tmp_path / name, progress=True)) == len(TRACKS)
    assert f"Writing {name}" in capfd.readouterr().err.replace("\n", "")


def test_without_a_terminal_writing_a_few_tracks_prints_nothing(adata, tmp_path, capfd):
    assert len(io.write_bigwigs(adata, tmp_path, progress=True)) == len(TRACKS)
    assert capfd.readouterr() == ("", "")


def test_names_of_parent_folders_do_not_lead_out(adata, tmp_path):
    adata.var_names = ["../../x", "..", "/etc/y"]
    for path in write(adata, tmp_path / "in").values():
        assert path.resolve().parent == (tmp_path / "in").resolve()


def test_layers_are_written_and_p_values_as_minus_log10_p(adata, tmp_path):
    files = write(adata, layer="pval", folder=tmp_path, scale="-log10p", digits=None, tracks=TRACKS[:2])
    assert list(files) == TRACKS[:2]
    np.testing.assert_allclose(read(files, adata.obs).X, np.sinh(adata.layers["pval"][:, :2]), rtol=1e-6)
    np.testing.assert_allclose(read(files, adata.obs, arcsinh=True).X, adata.layers["pval"][:, :2], atol=1e-6)


def test_what_the_observed_layer_marks_is_left_out(adata, tmp_path):
    adata.layers["observed"] = (np.arange(adata.n_obs)[:, None] % [2, 3, 5] > 0).astype(np.int8)
    found = read(write(adata, tmp_path, observed_layer="observed", digits=None), adata.obs).X
    np.testing.assert_array_equal(found, np.where(adata.layers["observed"] == 1, adata.X, np.nan))


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_files_are_written_without_being_read_as_a_whole(adata, tmp_path, ending, form, monkeypatch):
    adata.layers["counts"] = form(np.nan_to_num(adata.X))
    (adata.write_h5ad if ending == ".h5ad" else adata.write_zarr)(tmp_path / f"data{ending}")
    monkeypatch.setattr(write_module, "_ROWS", 50)
    for options in ({}, {"layer": "pval", "scale": "-log10p"}, {"layer": "counts"}):
        expected = {p.name: p.read_bytes() for p in write(adata, tmp_path / "a", **options).values()}
        found = {p.name: p.read_bytes() for p in write(tmp_path / f"data{ending}", tmp_path / "b", **options).values()}
        assert found == expected


def test_a_file_is_read_in_pieces(adata, tmp_path, monkeypatch):
    adata.write_h5ad(tmp_path / "a.h5ad")
    monkeypatch.setattr(write_module, "_ROWS", 31)
    most = []
    getitem = h5py.Dataset.__getitem__

    def watched(self, place):
        values = getitem(self, place)
        if self.name == "/X":
            most.append(len(values))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    write(tmp_path / "a.h5ad", tmp_path / "b")
    assert max(most) == 31 and len(most) == -(-adata.n_obs // 31)


def test_backed_data_are_written(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(read(write(backed, tmp_path, digits=None), adata.obs).X, adata.X)
    backed.file.close()


def test_bedgraph_holds_the_same(adata, tmp_path):
    bigwigs = write(adata, tmp_path)
    for name, path in write(adata, tmp_path, format="bedgraph").items():
        assert path.name == bigwigs[name].name.replace(".bw", ".bedgraph")
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        assert [(c, int(s), int(e), np.float32(v)) for c, s, e, v in lines] == records(bigwigs[name])
        assert [line[0] for line in lines] == sorted(line[0] for line in lines)
        assert max(len(line[3].replace(".", "").strip("0")) for line in lines) == 4


def test_a_track_without_a_value_has_no_file(adata, tmp_path):
    adata.X[:, 2] = np.nan
    with pytest.warns(UserWarning, match=r"track H1\.DNase holds no value in X; no file is written"):
        files = write(adata, tmp_path)
    assert list(files) == TRACKS[:2] and len(os.listdir(tmp_path)) == 2


def test_an_interrupt_leaves_neither_half_a_file_nor_harms_the_old_one(adata, tmp_path, monkeypatch):
    old = {path.name: path.read_bytes() for path in write(adata, tmp_path).values()}
    records_of = write_module._records

    def interrupted(*arguments):
        for i, record in enumerate(records_of(*arguments)):
            if i == 9:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(write_module, "_records", interrupted)
    for form in ("bigwig", "bedgraph"):
        with pytest.raises(KeyboardInterrupt):
            write(adata, tmp_path, format=form)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_the_keys_of_an_interrupt_are_heard_while_a_file_is_written(adata, tmp_path, monkeypatch):
    def long(*_):
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        return (("chr1", i, i + 1, 1.0) for i in range(10**7))

    monkeypatch.setattr(write_module, "_records", long)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores the keys
    try:
        with pytest.raises(KeyboardInterrupt):
            write(adata, tmp_path, genome=pd.Series({"chr1": 2 * 10**9, "chr2": 10**4, "chr10": 10**4}))
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_the_way_is_raised_and_leaves_nothing(adata, tmp_path, monkeypatch):
    def broken(*_):
        yield "chr1", 0, 10, 1.0
        raise RuntimeError("the disk of the input broke")

    monkeypatch.setattr(write_module, "_records", broken)
    with pytest.raises(RuntimeError, match="the disk of the input broke"):
        write(adata, tmp_path)
    assert list(tmp_path.iterdir()) == []


def shuffled(adata: AnnData) -> AnnData:
    return adata[[1, 0, *range(2, adata.n_obs)]].copy()


def overlapping(adata: AnnData) -> AnnData:
    adata.obs.iloc[3, 2] += 150
    return adata


def infinite(adata: AnnData) -> AnnData:
    adata.X[[5, 8], 0] = np.inf
    return adata


def nameless(adata: AnnData) -> AnnData:
    adata.obs = adata.obs.drop(columns="start")
    return adata


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (shuffled, {}, "sorted by start within a chromosome; region r0 is chr1:100-200"),
        (overlapping, {}, "cannot hold regions that overlap; region r4 is chr1:500-600"),
        (infinite, {}, r"region r5, track K562\.H3K27ac is inf \(and 1 more\)"),
        (nameless, {}, "obs has chrom, start and end; it has no start"),
        (None, {"layer": "pvals"}, "layer 'pvals' is not in the layers; did you mean 'pval'"),
        (None, {"tracks": ["H1.DNas"]}, "did you mean 'H1.DNase'"),
        (None, {"tracks": "H1.DNase"}, r"tracks must be a list of names; got 'H1\.DNase'"),
        (None, {"scale": "log"}, "scale must be 'stored' or '-log10p'"),
        (None, {"scale": "-log10p"}, "needs arcsinh.*below 80; region r.* track"),
        (None, {"digits": 0}, "digits must be 1 to 9, or None; got 0"),
        (None, {"format": "wig"}, "format must be 'bigwig' or 'bedgraph'; got 'wig'"),
        (None, {"genome": SIZES.drop("chr2")}, "chromosomes of the genome; it has no chr2, but chr1, chr10, chrX"),
        (None, {"genome": SIZES - 7_000}, r"chr1:5300-5400 \(and \d+ more\) does not, for chr1 has 5,345 bp"),
    ],
)
def test_what_cannot_be_written_is_refused(adata, tmp_path, change, options, message):
    if "genome" in options:
        options = {"genome": options["genome"].clip(lower=5_000)}
    with pytest.raises(ValueError, match=message):
        write(change(adata) if change else adata, tmp_path / "out", **options)
    assert not list(tmp_path.rglob("*.bw"))


@pytest.mark.parametrize("name", ["no.h5ad", "no.zarr"])
def test_a_file_that_is_not_there_is_told(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"there is no .*{name}"):
        write(tmp_path / name, tmp_path)


def test_other_files_are_no_regions_x_tracks(tmp_path):
    with pytest.raises(ValueError, match="an AnnData, or a file ending in .h5ad or .zarr; got 'a.csv'"):
        write(tmp_path / "a.csv", tmp_path)
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    with pytest.raises(ValueError, match="must hold an AnnData; it has no obs and var"):
        write(tmp_path / "a.zarr", tmp_path)


def far(end: int, start: int = 0) -> AnnData:
    """One track of two regions of one chromosome, the last of which ends far along it."""
    obs = pd.DataFrame({"chrom": "chr1", "start": [start, end - 100], "end": [start + 100, end]}, index=["a", "b"])
    return AnnData(np.array([[1.5], [2.5]], dtype=np.float32), obs=obs, var=pd.DataFrame(index=["t"]))


@pytest.mark.parametrize(
    ("end", "length"), [(2**32 + 100, None), (5_000, 2**32), (5_000, 2**40), (2**32 - 2**24 + 1, None)]
)
def test_what_a_bigwig_file_cannot_hold_is_refused_and_bedgraph_holds_it(end, length, tmp_path):
    genome = None if length is None else pd.Series({"chr1": length})
    with pytest.raises(
        ValueError, match=rf"up to 4,294,967,295 bp and regions up to 4,278,190,080; chr1 has .*{end:,}"
    ):
        write(far(end), tmp_path, genome=genome)
    assert not list(tmp_path.iterdir())
    path = write(far(end), tmp_path, genome=genome, format="bedgraph")["t"]
    assert path.read_text() == f"chr1\t0\t100\t1.5\nchr1\t{end - 100}\t{end}\t2.5\n"


def test_positions_and_lengths_beyond_31_bits_are_written(tmp_path):
    start = 2**31 + 12_345
    path = write(far(start + 9_000, start), tmp_path, genome=pd.Series({"chr1": 2**32 - 1}))["t"]
    assert records(path) == [("chr1", start, start + 100, 1.5), ("chr1", start + 8_900, start + 9_000, 2.5)]
    assert io.bigwig_sizes(path).to_dict() == {"chr1": 2**32 - 1}


def test_a_genome_may_spell_the_chromosomes_of_the_regions_otherwise(tmp_path):
    path = write(far(900), tmp_path, genome=pd.Series({"1": 1_234}))["t"]
    assert io.bigwig_sizes(path).to_dict() == {"chr1": 1_234}
