"""Sample sheets: what they may say, and what is said of those that are wrong."""

import re

import pandas as pd
import pytest

from chipvi.io.sheets import sheet
from chipvi.io.sheets.sheet import check_sheet, read_sheet


@pytest.fixture
def folder(tmp_path):
    """Files with the names that the sheets of this module use, and nothing in them."""
    (tmp_path / "bam").mkdir()
    for name in ("a.bam", "b.cram", "c.tagAlign.gz", "d.fragments.tsv.gz", "e.bigWig", "f.bw", "g.txt"):
        (tmp_path / "bam" / name).touch()
    return tmp_path


def write(folder, text, name="sheet.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_every_column_of_a_full_sheet_is_read(folder):
    sheet = read_sheet(
        write(
            folder,
            "# made by hand\n"
            "Biosample, assay,file,kind,control,replicate,sex\n"
            "K562,H3K4me3,bam/a.bam,alignments,no,1,F\n"
            "\n"
            "K562,ATAC,bam/d.fragments.tsv.gz,,,2,F\n"
            "K562,H3K4me3,bam/e.bigWig,signal p-value,,1,F\n"
            '"T cell, CD4",WCE,bam/b.cram,,,,M\n',
        )
    )
    assert list(sheet.columns) == ["biosample", "assay", "file", "kind", "control", "replicate", "sex"]
    assert sheet.index.tolist() == [3, 5, 6, 7]
    assert sheet["kind"].tolist() == ["alignments", "fragments", "pvalue", "alignments"]
    assert sheet["control"].tolist() == [False, False, False, True]
    assert sheet["replicate"].tolist() == ["1", "2", "1", ""]
    assert sheet["file"].iloc[0] == str(folder / "bam" / "a.bam")
    assert sheet["biosample"].iloc[3] == "T cell, CD4"
    assert sheet["sex"].tolist() == ["F", "F", "F", "M"]


@pytest.mark.parametrize(
    ("delimiter", "start"), [("\t", ""), (";", ""), (",", "\ufeff")], ids=["tab", "semicolon", "BOM"]
)
def test_other_delimiters_and_a_byte_order_mark_read_alike(folder, delimiter, start):
    rows = [("biosample", "assay", "file"), ("K562", "H3K4me3", "bam/a.bam")]
    path = write(folder, start + "\n".join(delimiter.join(row) for row in rows) + "\n", "sheet.tsv")
    assert read_sheet(path).iloc[0, :2].tolist() == ["K562", "H3K4me3"]


@pytest.mark.parametrize("scheme", ["https", "HTTP", "ftp"])
def test_urls_are_kept_and_not_looked_for(folder, scheme):
    url = f"{scheme}://example.org/files/x.bigWig"
    sheet = read_sheet(write(folder, f"biosample,assay,file,kind\nK562,ATAC,{url},fold change over control\n"))
    assert sheet[["file", "kind"]].iloc[0].tolist() == [url, "fold_change"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("K562,,bam/a.bam,,", "line 3 has no assay"),
        (",,bam/a.bam,,", "line 3 has no biosample and no assay"),
        ("K562,ATAC,bam/z.bam,,", "line 3 names bam/z.bam, but there is no "),
        ("K562,ATAC,bam,alignments,", "line 3 names bam, but there is no "),
        (
            "K562,ATAC,bam/f.bw,,",
            "line 3 has no kind, and the ending of f.bw does not show it; give alignments, fragments",
        ),
        ("K562,ATAC,bam/g.txt,,", "line 3 has no kind, and the ending of g.txt"),
        ("K562,ATAC,bam/a.bam,peaks,", "line 3 has the unknown kind 'peaks'; there is alignments"),
        ("K562,ATAC,bam/a.bam,control,", "mark controls in the column control"),
        ("K562,ATAC,bam/f.bw,alignments,", "line 3 has kind 'alignments', but f.bw is a bigWig file"),
        ("K562,ATAC,bam/b.cram,pvalue,", "line 3 has kind 'pvalue', but b.cram is no bigWig file"),
        ("K562,ATAC,https://example.org/x.bam,,", "line 3 names a URL, but only bigWig files are read from one"),
        ("K562,ATAC,bam/b.cram,,perhaps", "line 3 has 'perhaps' as control; give yes or no"),
        ("K562,ATAC,bam/a.bam,,", "line 3 names a.bam again, as line 2 does"),
        ("K562,ATAC,bam/b.cram,,,,", "line 3 has 7 cells, the header has 5"),
    ],
)
def test_a_fault_is_named_with_its_line(folder, row, fault):
    path = write(folder, f"biosample,assay,file,kind,control\nK562,H3K4me3,bam/a.bam,,\n{row}\n")
    with pytest.raises(ValueError, match=f"^sheet.csv: .*{re.escape(fault)}") as caught:
        read_sheet(path)
    assert "\n" not in str(caught.value)


def test_all_faults_are_named_at_once(folder):
    path = write(folder, "biosample,assay,file,kind\nK562,,bam/a.bam,\nK562,ATAC,bam/a.bam,peaks\nH1,ATAC,none.bam,\n")
    with pytest.raises(ValueError, match="line 2 .*; line 3 .*; line 4 ") as caught:
        read_sheet(path)
    assert str(caught.value).count("line") == 3


def test_a_control_may_serve_several_biosamples_but_other_files_only_one(folder):
    rows = "biosample,assay,file,control\nK562,{0},bam/a.bam,{1}\nH1,{0},bam/a.bam,{1}\n"
    assert read_sheet(write(folder, rows.format("Input", "")))["control"].all()
    with pytest.raises(ValueError, match=r"line 3 names a\.bam again"):
        read_sheet(write(folder, rows.format("Input", "no")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("biosample,asay,file\nK562,ATAC,bam/a.bam\n", "column 'assay' is not in sheet.csv; did you mean 'asay'"),
        ("biosample,assay,file,depth\nK562,ATAC,bam/a.bam,7\n", "cannot have a column 'depth': it is measured"),
        ("biosample,assay,file,is_control\nK562,ATAC,bam/a.bam,1\n", "mark controls in a column control"),
        ("biosample,assay,file,assay\nK562,ATAC,bam/a.bam,ATAC\n", "must name each column once; 'assay' comes back"),
        ("biosample,assay,file,\nK562,ATAC,bam/a.bam,7\n", "column 4 has no name"),
        ("biosample,assay,file\n", "must hold a header and a line per file; it holds 1 lines"),
        ("", "it holds 0 lines"),
    ],
)
def test_a_sheet_without_the_right_columns_is_refused(folder, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_sheet(write(folder, text))


def test_no_sheet_and_no_text_are_told(folder):
    with pytest.raises(ValueError, match=r"there is no sample sheet .*none\.csv"):
        read_sheet(folder / "none.csv")
    (folder / "sheet.xlsx").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as a sample sheet, CSV or TSV: it is no text"):
        read_sheet(folder / "sheet.xlsx")


def test_a_table_is_checked_as_a_file_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    table = pd.DataFrame({"biosample": ["K562", "H1"], "assay": ["ATAC"] * 2, "file": ["bam/a.bam", "bam/b.cram"]})
    table["replicate"] = [1, None]
    sheet = check_sheet(table)
    assert sheet["file"].tolist() == [str(folder / "bam/a.bam"), str(folder / "bam/b.cram")]
    assert sheet["replicate"].iloc[1] == ""
    pd.testing.assert_frame_equal(check_sheet(sheet), sheet)
    with pytest.raises(ValueError, match="line 1 names x.bam, but there is no"):
        check_sheet(table.assign(file=["bam/a.bam", "x.bam"]))


def test_all_kinds_have_an_alias_or_an_ending_that_leads_to_them():
    assert set(sheet._ALIASES.values()) == set(sheet.KINDS)
