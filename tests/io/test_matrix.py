"""Count tables of other tools, in the form in which these tools write them."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from chipvi import ChipVI
from chipvi.io import from_matrix

EXPECTED = [[3, 0], [12, 1], [0, 7]]
PLACES = [("chr1", 100, 300), ("chr1", 300, 500), ("chr2", 0, 200)]
TABLE = "#'chr'\t'start'\t'end'\t'K562_H3K4me3.bam'\t'K562_ATAC.bam'\n" + "".join(
    f"{chrom}\t{start}\t{end}\t{a}.0\t{b}.0\n" for (chrom, start, end), (a, b) in zip(PLACES, EXPECTED, strict=True)
)
FEATURES = (
    '# Program:featureCounts v2.0.3; Command:"featureCounts" "-F" "SAF" "-a" "bins.saf"\n'
    "Geneid\tChr\tStart\tEnd\tStrand\tLength\t/data/K562_H3K4me3.sorted.bam\t/data/K562_ATAC.bam\n"
    "b1\tchr1\t101\t300\t+\t200\t3\t0\nb2\tchr1\t301\t500\t+\t200\t12\t1\nb3\tchr2\t1\t200\t+\t200\t0\t7\n"
)
MULTICOV = "chr1\t100\t300\tb1\t3\t0\nchr1\t300\t500\tb2\t12\t1\nchr2\t0\t200\tb3\t0\t7\n"
EPICSEG = "H3K4me3\tATAC\n3\t0\n12\t1\n0\t7\n"
BED = "".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end in PLACES)


def check(adata, names=("K562.H3K4me3", "K562.ATAC")):
    assert adata.X.tolist() == EXPECTED
    assert adata.X.dtype == np.int32
    assert list(adata.obs.itertuples(index=False, name=None)) == PLACES
    assert list(adata.obs_names) == ["chr1:100-300", "chr1:300-500", "chr2:0-200"]
    assert tuple(adata.var_names) == names
    assert adata.var["biosample"].tolist() == ["K562", "K562"]
    ChipVI.setup_anndata(adata)


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_raw_counts_of_multibamsummary(tmp_path):
    check(from_matrix(write(tmp_path, "raw.tab", TABLE)))
    (tmp_path / "raw.tab.gz").write_bytes(gzip.compress(TABLE.encode()))
    check(from_matrix(tmp_path / "raw.tab.gz"))


def test_npz_of_multibamsummary_with_its_regions(tmp_path):
    labels = np.array(["K562_H3K4me3.bam", "K562_ATAC.bam"])
    np.savez_compressed(tmp_path / "counts.npz", matrix=np.array(EXPECTED, dtype=float), labels=labels)
    check(from_matrix(tmp_path / "counts.npz", write(tmp_path, "bins.bed", BED)))
    with pytest.raises(ValueError, match=r"counts\.npz does not place its rows; give regions"):
        from_matrix(tmp_path / "counts.npz")


def test_featurecounts_starts_are_moved_to_zero_based(tmp_path):
    check(from_matrix(write(tmp_path, "features.txt", FEATURES)))


def test_multicov_needs_names_and_may_have_more_bed_columns(tmp_path):
    path = write(tmp_path, "multicov.bed", MULTICOV)
    check(from_matrix(path, tracks=["K562.H3K4me3", "K562.ATAC"]))
    with pytest.raises(ValueError, match="has no names; give tracks"):
        from_matrix(path)
    with pytest.raises(ValueError, match="at most 3 tracks; there are 4"):
        from_matrix(path, tracks=["a.b", "a.c", "a.d", "a.e"])


def test_epicseg_counts_lie_in_bins_of_its_contigs(tmp_path):
    path = write(tmp_path, "counts.txt", EPICSEG)
    contigs = write(tmp_path, "contigs.bed", "chr1\t100\t500\nchr2\t0\t200\n")
    check(from_matrix(path, contigs, biosample="K562"))
    with pytest.raises(
        ValueError, match="has 3 rows, which fit neither 1 regions nor bins of one width in their 500 bp"
    ):
        from_matrix(path, write(tmp_path, "wrong.bed", "chr1\t0\t500\n"), biosample="K562")


def test_a_frame_with_or_without_places():
    frame = pd.DataFrame(EXPECTED, columns=["K562.H3K4me3", "K562.ATAC"])
    places = pd.DataFrame(PLACES, columns=["chrom", "start", "end"])
    check(from_matrix(pd.concat([places, frame], axis=1)))
    check(from_matrix(frame, places))
    with pytest.raises(ValueError, match="leave out regions"):
        from_matrix(pd.concat([places, frame], axis=1), places)


def test_missing_values_of_a_frame_stay_missing():
    places = pd.DataFrame(PLACES, columns=["chrom", "start", "end"])
    adata = from_matrix(places.assign(K562_ATAC=[1, np.nan, 3]))
    assert adata.X.dtype == np.float32 and np.isnan(adata.X[1, 0]) and adata.X[2, 0] == 3


@pytest.mark.parametrize(
    ("count", "has_missing", "dtype"),
    [
        (2**31 - 1, False, "int32"),
        (2**31, False, "int64"),
        (3_000_000_000, False, "int64"),
        (2**53 - 1, False, "int64"),
        (2**24 - 1, True, "float32"),
        (2**24 + 1, True, "float64"),
        (2**53 - 1, True, "float64"),
    ],
)
@pytest.mark.parametrize("form", ["frame", "file"])
def test_large_counts_are_held_exactly(count, has_missing, dtype, form, tmp_path):
    table = pd.DataFrame(PLACES, columns=["chrom", "start", "end"]).assign(K562_ATAC=[1, count, 3])
    if has_missing:
        table["K562_ATAC"] = table["K562_ATAC"].astype("Int64").mask([True, False, False])
    if form == "file":
        table.set_axis(["#chr", "start", "end", "K562_ATAC"], axis=1).to_csv(tmp_path / "t", sep="\t", index=False)
        table = tmp_path / "t"
    adata = from_matrix(table)
    assert adata.X.dtype == dtype and int(adata.X[1, 0]) == count and int(adata.X[2, 0]) == 3


@pytest.mark.parametrize("count", [2**53, 2**53 + 1, 2**63, 1e300, np.inf])
def test_counts_that_no_type_holds_exactly_are_refused_with_their_cell(count):
    table = pd.DataFrame(PLACES, columns=["chrom", "start", "end"]).assign(K562_ATAC=[1, count, 3])
    with pytest.raises(ValueError, match=r"counts up to 9,007,199,254,740,991, .*region chr1:300-500, track K562_ATAC"):
        from_matrix(table)


def test_a_table_of_tracks_is_matched_by_name_and_brings_depth_and_control(tmp_path):
    tracks = pd.DataFrame(
        {"biosample": ["H1", "K562"], "assay": ["ATAC", "Input"], "depth": [900, 400], "is_control": [False, True]},
        index=["K562_ATAC", "K562_H3K4me3"],
    )
    adata = from_matrix(write(tmp_path, "raw.tab", TABLE), tracks=tracks)
    assert list(adata.var_names) == ["K562.Input", "H1.ATAC"]
    assert adata.var["depth"].tolist() == [400, 900] and adata.var["is_control"].tolist() == [True, False]
    ChipVI.setup_anndata(adata, depth_key="depth", control_key="is_control")


def test_a_pattern_reads_other_names(tmp_path):
    path = write(
        tmp_path, "raw.tab", TABLE.replace("K562_H3K4me3", "x-H3K4me3-K562-1").replace("K562_ATAC", "x-ATAC-K562-1")
    )
    check(from_matrix(path, pattern=r"x-(?P<assay>\w+)-(?P<biosample>\w+)-1"))
    with pytest.raises(ValueError, match=re.escape("'x-H3K4me3-K562-1' does not (and 1 more)")):
        from_matrix(path)
    with pytest.raises(ValueError, match="pattern must have the groups biosample and assay"):
        from_matrix(path, pattern="x.*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TABLE.replace("\t12.0", "\t12.5"),
            "region chr1:300-500, track K562_H3K4me3.bam is 12.5. Count without scaling",
        ),
        (TABLE.replace("12.0", "-1.0"), "is -1"),
        (TABLE.replace("12.0", "many"), "must hold numbers"),
        (FEATURES.replace("301\t500", "301;401\t350;500"), "b2 has several. Count again with a SAF file"),
        (TABLE.replace("ATAC", "H3K4me3"), "K562.H3K4me3 comes back"),
        ("sample,value\na,b\n", "must be a count table of EpiCSeg"),
        ("", "must be a count table of EpiCSeg"),
    ],
)
def test_tables_that_are_no_counts_are_refused(tmp_path, text, message):
    if message.startswith("K562.H3K4me3"):
        text = text.replace("'K562_H3K4me3.bam'\t'K562_H3K4me3.bam'", "'K562_H3K4me3.bam'\t'K562.H3K4me3.bam'")
    with pytest.raises(ValueError, match=re.escape(message)):
        from_matrix(write(tmp_path, "table.txt", text))


def test_no_file_and_no_npz_of_that_form_are_told(tmp_path):
    with pytest.raises(ValueError, match="there is no "):
        from_matrix(tmp_path / "none.txt")
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    with pytest.raises(ValueError, match="must hold matrix and labels"):
        from_matrix(tmp_path / "other.npz")


def test_the_real_table_of_epicseg(shared_data):
    folder = shared_data / "bam"
    adata = from_matrix(folder / "counts.txt", folder / "contigs.bed", biosample="IMR90")
    assert adata.shape == (40_320, 2)
    assert list(adata.var_names) == ["IMR90.H3K4me3", "IMR90.H3K36me3"]
    assert adata.obs_names[14_748] == "chr21:42955200-42955400" and adata.obs_names[14_749] == "chr21:43005600-43005800"
    assert (adata.X == np.loadtxt(folder / "counts.txt", skiprows=1)).all()
