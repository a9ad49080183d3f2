"""A sample sheet becomes one AnnData that a model can be set up with."""

import os
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pybigtools
import pysam
import pytest

from chipvi import ChipVI, _files
from chipvi.io import count_sheet
from chipvi.io.sheets import assemble
from chipvi.io.sheets.tracks import plan_tracks

SIZES = {"chr1": 1_000, "chr2": 650}
SETUP = {"observed_layer": "observed", "depth_key": "depth", "control_key": "is_control"}


def write_bam(path, positions, sizes=SIZES):
    """Single-end reads of 30 bp on the plus strand, at (chromosome, start)."""
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": length} for name, length in sizes.items()]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for number, (chrom, start) in enumerate(positions):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.reference_name, read.reference_start = f"r{number}", chrom, start
            read.cigarstring, read.mapping_quality, read.flag = "30M", 60, 0
            file.write(read)


def write_bigwig(path, values, sizes=SIZES):
    pybigtools.open(str(path), "w").write(sizes, values)


def expected_counts(positions, bins):
    """Five prime ends per bin, one by one."""
    return [sum(c == chrom and start <= p < end for c, p in positions) for chrom, start, end in bins]


BINS = [(chrom, start, start + 100) for chrom, n in (("chr1", 10), ("chr2", 6)) for start in range(0, n * 100, 100)]
READS = {
    "a1": [("chr1", 5), ("chr1", 99), ("chr1", 100), ("chr2", 340)],
    "a2": [("chr1", 100), ("chr2", 599), ("chr2", 600)],
    "b": [("chr2", p) for p in range(0, 500, 7)],
    "input": [("chr1", p) for p in range(0, 900, 11)],
}


@pytest.fixture
def folder(tmp_path):
    for name, positions in READS.items():
        write_bam(tmp_path / f"{name}.bam", positions)
    (tmp_path / "genome.sizes").write_text("".join(f"{name}\t{length}\n" for name, length in SIZES.items()))
    write_bigwig(tmp_path / "p.bw", [("chr1", 0, 200, 3.0), ("chr2", 100, 200, 1.5)])
    write_bigwig(tmp_path / "fc.bw", [("chr1", 100, 300, 8.0)])
    return tmp_path


def write_sheet(folder, text):
    (folder / "sheet.csv").write_text(text)
    return folder / "sheet.csv"


def count(folder, sheet, **options):
    options = {"genome": folder / "genome.sizes", "bin_size": 100, "rule": "five_prime", "progress": False} | options
    return count_sheet(sheet, **options)


FULL = """biosample,assay,file,kind,sex,age
K562,H3K4me3,a1.bam,,F,53
K562,H3K4me3,p.bw,pvalue,F,53
H1,ATAC,b.bam,,M,0
H1,H3K27ac,p.bw,signal p-value,M,0
H1,H3K27ac,fc.bw,fold change,M,0
K562,Input,input.bam,,F,53
"""


@pytest.mark.filterwarnings("error")
def test_a_full_sheet_obeys_the_data_contract(folder):
    sheet = write_sheet(folder, FULL.replace("H1,H3K27ac,p.bw", "H1,H3K27ac,p2.bw"))
    write_bigwig(folder / "p2.bw", [("chr1", 50, 100, 2.0)])
    adata = count(folder, sheet)
    assert list(adata.var_names) == ["K562.H3K4me3", "H1.ATAC", "H1.H3K27ac", "K562.Input"]
    assert list(adata.obs.itertuples(index=False, name=None)) == BINS
    counts = np.asarray(adata.X.todense()) if not isinstance(adata.X, np.ndarray) else adata.X
    for column, name in ((0, "a1"), (1, "b"), (3, "input")):
        assert counts[:, column].tolist() == expected_counts(READS[name], BINS)
    assert not counts[:, 2].any()
    assert (adata.layers["observed"] == [1, 1, 0, 1]).all()
    signal = adata.layers["signal"]
    assert np.isnan(signal[:, [1, 3]]).all()
    covered = {0: 3.0, 1: 3.0, 11: 1.5}
    for row in range(len(BINS)):
        wanted = np.arcsinh(covered[row]) if row in covered else np.nan
        np.testing.assert_allclose(signal[row, 0], wanted, rtol=1e-6)
    np.testing.assert_allclose(signal[0, 2], np.arcsinh(2.0), rtol=1e-6)
    assert np.flatnonzero(np.isfinite(adata.layers["fold_change"][:, 2])).tolist() == [1, 2]
    assert adata.var["depth"].tolist()[:2] == [4, 72] and np.isnan(adata.var["depth"].iloc[2])
    assert adata.var["is_control"].tolist() == [False, False, False, True]
    assert adata.var["sex"].tolist() == ["F", "M", "M", "F"] and adata.var["age"].tolist() == [53, 0, 0, 53]
    ChipVI.setup_anndata(adata, signal_layer="signal", **SETUP)


def test_a_sheet_of_signal_alone_can_be_set_up(folder):
    adata = count(folder, write_sheet(folder, "biosample,assay,file,kind\nK562,H3K4me3,p.bw,pvalue\n"))
    assert not adata.X.nnz and not adata.layers["observed"].nnz and np.isfinite(adata.layers["signal"]).sum() == 3
    ChipVI.setup_anndata(adata, signal_layer="signal", **SETUP)
    zero = count(folder, folder / "sheet.csv", uncovered="zero")
    assert np.isfinite(zero.layers["signal"]).all()


REPLICATES = "biosample,assay,file,replicate\nK562,H3K4me3,a1.bam,1\nK562,H3K4me3,a2.bam,2\nH1,ATAC,b.bam,1\n"


def test_replicates_are_biosamples_of_their_own_where_there_are_several(folder):
    adata = count(folder, write_sheet(folder, REPLICATES))
    assert list(adata.var_names) == ["K562_rep1.H3K4me3", "K562_rep2.H3K4me3", "H1.ATAC"]
    assert adata.var["depth"].tolist() == [4, 3, 72]
    ChipVI.setup_anndata(adata, **SETUP)


def test_merged_replicates_are_the_sum_of_counts_and_depths(folder):
    apart = count(folder, write_sheet(folder, REPLICATES))
    merged = count(folder, folder / "sheet.csv", merge_replicates=True)
    assert list(merged.var_names) == ["K562.H3K4me3", "H1.ATAC"]
    assert merged.var["depth"].tolist() == [7, 72]
    assert (merged.X[:, [0]] != apart.X[:, [0]] + apart.X[:, [1]]).sum() == 0
    assert merged.X.sum() == apart.X.sum() > 0


def rows(*lines):
    names = ["biosample", "assay", "file", "kind", "control", "replicate"]
    return pd.DataFrame(lines, columns=names, index=pd.RangeIndex(2, len(lines) + 2, name="line"))


@pytest.mark.parametrize(
    ("sheet", "merge", "message"),
    [
        (rows(("K", "A", "1.bam", "alignments", False, ""), ("K", "A", "2.bam", "alignments", False, "")), False,
         "lines 2, 3 of the sheet must have different replicates, as K.A has 2 files"),
        (rows(("K", "A", "1.bam", "alignments", False, "1"), ("K", "A", "2.bam", "alignments", False, "2"),
              ("K", "Input", "3.bam", "alignments", True, "")), False,
         "line 4 of the sheet must have a replicate: K has several"),
        (rows(("K", "A", "1.bw", "pvalue", False, "1"), ("K", "A", "2.bw", "pvalue", False, "2")), True,
         "lines 2, 3 of the sheet name 2 files of kind pvalue for K.A, which cannot be added up"),
        (rows(("K", "A", "1.bam", "alignments", False, ""), ("K", "A", "1.bw", "pvalue", True, "")), False,
         "so all or none must be a control"),
        (rows(("K.A", "B", "1.bam", "alignments", False, ""), ("K", "A.B", "2.bam", "alignments", False, "")), False,
         "two biosamples and assays make K.A.B"),
    ],
)  # fmt: skip
def test_lines_that_contradict_each_other_are_named(sheet, merge, message):
    with pytest.raises(ValueError, match=message):
        plan_tracks(sheet, merge)


def test_regions_are_sorted_cut_and_checked(folder):
    sheet = write_sheet(folder, "biosample,assay,file\nH1,ATAC,b.bam\n")
    (folder / "r.bed").write_text("chr2\t400\t650\nchr2\t0\t250\nchr1\t0\t100\n")
    whole = count(folder, sheet, regions=folder / "r.bed", bin_size=None)
    places = [("chr2", 0, 250), ("chr2", 400, 650), ("chr1", 0, 100)]
    assert list(whole.obs.itertuples(index=False, name=None)) == places
    assert np.ravel(whole.X.sum(axis=1)).tolist() == expected_counts(READS["b"], places)
    cut = count(folder, sheet, regions=folder / "r.bed", chromosomes="chr2")
    assert cut.obs["start"].tolist() == [0, 100, 400, 500]
    (folder / "r.bed").write_text("chr2\t0\t250\nchr2\t249\t300\n")
    with pytest.raises(ValueError, match="regions must not overlap; chr2:249-300 does"):
        count(folder, sheet, regions=folder / "r.bed")
    with pytest.raises(ValueError, match="say where to count"):
        count(folder, sheet, genome=None)


@pytest.mark.parametrize("kind", ["bam", "bw"])
def test_a_file_of_another_assembly_is_named_before_anything_is_counted(folder, kind, monkeypatch):
    sizes = {"chr1": 1_000, "chr2": 660}
    write_bam(folder / "x.bam", READS["a1"], sizes)
    write_bigwig(folder / "x.bw", [("chr1", 0, 200, 3.0), ("chr2", 0, 200, 3.0)], sizes)
    monkeypatch.setattr(assemble, "count_tracks", lambda *_, **__: pytest.fail("counted"))
    rest = ",pvalue" if kind == "bw" else ","
    sheet = write_sheet(folder, f"biosample,assay,file,kind\nH1,ATAC,b.bam,\nK562,ATAC,x.{kind}{rest}\n")
    with pytest.raises(ValueError, match=rf"x\.{kind} is of another assembly.*660"):
        count(folder, sheet)
    with pytest.raises(ValueError, match="files must be of one assembly"):
        count(folder, sheet, genome=None, regions=pd.DataFrame({"chrom": ["chr2"], "start": [0], "end": [100]}))


@pytest.mark.parametrize(
    "text", [FULL.splitlines()[0] + "\nK562,ATAC,a1.bam,,F,5\n", "biosample,assay,file,kind\nK,A,p.bw,pvalue\n"]
)
def test_blacklisted_regions_are_left_out_of_counts_and_of_signal(folder, text):
    (folder / "black.bed").write_text("chr1\t250\t320\nchr2\t0\t1\n")
    adata = count(folder, write_sheet(folder, text), blacklist=folder / "black.bed")
    assert len(adata) == len(BINS) - 3
    assert not {"chr1:200-300", "chr1:300-400", "chr2:0-100"} & set(adata.obs_names)
    (folder / "black.bed").write_text("chr7\t250\t320\n")
    with pytest.warns(UserWarning, match="the blacklist leaves out no region: it names chr7"):
        adata = count(folder, folder / "sheet.csv", blacklist=folder / "black.bed")
    assert len(adata) == len(BINS)


@pytest.mark.parametrize("name", ["data.h5ad", "data.zarr"])
def test_the_written_file_reads_back_and_is_all_there_is(folder, name):
    before = set(folder.iterdir())
    adata = count(
        folder, write_sheet(folder, FULL.replace("H1,H3K27ac,p.bw,signal p-value,M,0\n", "")), out=folder / name
    )
    back = (anndata.read_h5ad if name.endswith("h5ad") else anndata.read_zarr)(folder / name)
    assert set(folder.iterdir()) - before == {folder / name, folder / "sheet.csv"}
    pd.testing.assert_frame_equal(back.obs, adata.obs, check_dtype=False, check_categorical=False)
    assert back.var["file"].tolist() == adata.var["file"].tolist()
    assert abs(back.X - adata.X).sum() == 0
    np.testing.assert_array_equal(back.layers["signal"], adata.layers["signal"])
    ChipVI.setup_anndata(back, signal_layer="signal", **SETUP)
    with pytest.raises(FileExistsError, match="exists already"):
        count(folder, folder / "sheet.csv", out=folder / name)


@pytest.mark.parametrize("name", ["data.h5ad", "data.zarr"])
def test_an_interrupted_write_leaves_nothing(tmp_path, name, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files, "os", SimpleNamespace(**vars(os) | {"replace": interrupt}))  # zarr replaces files, too
    with pytest.raises(KeyboardInterrupt):
        assemble.write_whole(anndata.AnnData(np.ones((3, 2))), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_counts_of_an_independent_program_are_reproduced(shared_data, tmp_path):
    folder = shared_data / "bam"
    sheet = write_sheet(
        tmp_path,
        f"biosample,assay,file\nIMR90,H3K4me3,{folder}/H3K4me3.bam\nIMR90,H3K36me3,{folder}/H3K36me3.bam\n",
    )
    adata = count_sheet(
        sheet, regions=folder / "contigs.bed", genome="hg19", bin_size=200, duplicates=True, progress=False
    )
    assert (adata.X.toarray() == np.loadtxt(folder / "counts.txt", skiprows=1)).all()
    assert adata.uns["assembly"] == "hg19" and adata.uns["bin_size"] == 200
    ChipVI.setup_anndata(adata, **SETUP)
