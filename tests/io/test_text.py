"""Every text that chipvi reads, as different editors and tools write it."""

import gzip

import numpy as np
import pandas as pd
import pytest

from chipvi.io import chrom_sizes, from_matrix, read_blacklist, read_sheet
from chipvi.io.counting.formats import find_source
from chipvi.io.counting.fragments import read_fragments
from chipvi.io.inputs import read_bed
from chipvi.io.text import numbered_lines, read_rows

READERS = {
    "regions": (lambda path: read_bed(path).iloc[:, :3].to_numpy().tolist(), "chr1\t0\t20\nchr2\t5\t9\n", None),
    "blacklist": (lambda path: read_blacklist(path).to_numpy().tolist(), "chr1\t0\t20\nchr2\t5\t9\n", None),
    "sizes": (lambda path: list(chrom_sizes(path).items()), "chr1\t20\nchr2\t9\n", [("chr1", 20), ("chr2", 9)]),
    "fragments": (lambda path: places_of(path), "chr1\t0\t20\tA\t1\nchr2\t5\t9\tC\t1\n", None),
    "reads": (lambda path: places_of(path), "chr1\t0\t20\tr\t.\t+\nchr2\t5\t9\tr\t.\t-\n", None),
}
PLACES = [["chr1", 0, 20], ["chr2", 5, 9]]


def places_of(path):
    return [
        [batch.reads.contigs[contig], start, end]
        for batch in read_fragments(find_source(path))
        for contig, start, end in zip(batch.reads.contig, batch.reads.start, batch.reads.end, strict=True)
    ]


CHANGES = {
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "byte order mark and CRLF": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    "no last line end": lambda data: data.rstrip(b"\n"),
    "old Macintosh": lambda data: data.replace(b"\n", b"\r"),
    "comment first": lambda data: b"# made by hand\n#chr1\t1\t2\n" + data,
    "comment between": lambda data: data.replace(b"\nchr2", b"\n# of another file\n#chr1\t7\t8\t.\t.\t+\nchr2"),
    "comment last": lambda data: data + b"# the end\n",
    "blank lines": lambda data: b"\n" + data.replace(b"\nchr2", b"\n  \n\nchr2") + b"\n",
    "track lines": lambda data: b"browser position chr1\n" + data.replace(b"\nchr2", b"\ntrack name=x\nchr2"),
    "gzip": gzip.compress,
    "gzip in members": lambda data: b"".join(gzip.compress(line) for line in data.splitlines(keepends=True)),
    "gzip, byte order mark": lambda data: gzip.compress(b"\xef\xbb\xbf" + data),
}


@pytest.mark.parametrize("name", ["a.bed", "a.bed.gz"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_reads_every_manner_of_writing_alike_whatever_the_name(reader, change, name, tmp_path):
    read, text, expected = READERS[reader]
    (tmp_path / name).write_bytes(CHANGES[change](text.encode()))
    assert read(tmp_path / name) == (expected or PLACES)


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "track lines"])
@pytest.mark.parametrize("reader", ["sheet", "table"])
def test_sheets_and_tables_of_counts_are_read_with_the_same_care(reader, change, tmp_path):
    if change in ("comment between", "comment last") and reader == "table":
        pytest.skip("no tool writes comments between the rows of a table of counts")
    (tmp_path / "chr2.bam").touch()
    texts = {
        "sheet": "biosample,assay,file\nchr2,ATAC,chr2.bam\n",
        "table": "chrom\tstart\tend\tK562_ATAC\nchr2\t5\t9\t7\n",
    }
    (tmp_path / "a.txt").write_bytes(CHANGES[change](texts[reader].encode()))
    if reader == "sheet":
        assert read_sheet(tmp_path / "a.txt")["biosample"].tolist() == ["chr2"]
    else:
        adata = from_matrix(tmp_path / "a.txt")
        assert adata.obs_names.tolist() == ["chr2:5-9"] and adata.X.tolist() == [[7]]


def test_a_row_that_names_the_columns_is_no_interval(tmp_path):
    for header in ("chrom\tstart\tend", "chr\tchromStart\tchromEnd\tname", "seqnames\tStart\tEnd"):
        (tmp_path / "a.bed").write_text(f"{header}\nchr1\t0\t20\nchr2\t5\t9\n")
        assert read_bed(tmp_path / "a.bed").iloc[:, :3].to_numpy().tolist() == PLACES
        assert places_of(tmp_path / "a.bed") == PLACES


def test_lines_keep_their_number_and_names_their_blanks(tmp_path):
    (tmp_path / "a.bed").write_bytes(b"\xef\xbb\xbf# one\r\n\r\nchr1\t5\t9\thigh signal\r\nchr1 5  9\r\n")
    rows = list(read_rows(tmp_path / "a.bed", "a BED file"))
    assert rows == [(3, ["chr1", "5", "9", "high signal"]), (4, ["chr1", "5", "9"])]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"chr1\t0\t9\nchr\xe91\t0\t9\n", "cannot be read as a BED file: it is no text", id="Latin-1"),
        pytest.param("chr1\t0\t9\n".encode("utf-16-le"), "cannot be read as a BED file: it is no text", id="UTF-16"),
        pytest.param(gzip.compress(bytes(range(256))), "it is no text", id="binary"),
        pytest.param(gzip.compress(np.random.default_rng(0).bytes(900).hex().encode())[:99], "truncated", id="cut"),
        pytest.param(gzip.compress(b"chr1\t0\t9\n") + b"more", "truncated or damaged", id="rest is no gzip"),
    ],
)
def test_what_is_no_whole_text_is_refused_by_one_message(data, message, tmp_path):
    (tmp_path / "a.bed").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.bed .*{message}") as error:
        list(numbered_lines(tmp_path / "a.bed", "a BED file"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cell", ["1.5", "1_000", "", "x", "9" * 30])
def test_a_start_that_is_no_whole_number_is_named_with_its_line(cell, tmp_path):
    (tmp_path / "a.bed").write_text(f"# x\nchr1\t0\t9\nchr1\t{cell}\t99\n")
    with pytest.raises(ValueError, match=r"line 3 of a\.bed must begin with chromosome, start and end"):
        read_bed(tmp_path / "a.bed")


def test_tables_of_ensembl_place_their_rows_by_text(tmp_path):
    (tmp_path / "counts.bed").write_text("1\t0\t9\t4\nX\t5\t9\t7\n")
    (tmp_path / "whole.bed").write_text("1\t0\t9\t4\n2\t5\t9\t7\n")
    for name, chroms in (("counts.bed", ["1", "X"]), ("whole.bed", ["1", "2"])):
        adata = from_matrix(tmp_path / name, tracks=["K562.ATAC"])
        assert adata.obs["chrom"].tolist() == chroms and adata.X.tolist() == [[4], [7]]
    table = pd.DataFrame({"chrom": [1, 2], "start": [0, 5], "end": [9, 9], "K562_ATAC": [4, 7]})
    assert from_matrix(table).obs["chrom"].tolist() == ["1", "2"]
