import gzip

import numpy as np
import pandas as pd
import pysam
import pytest

from chipvi import io
from chipvi.io.counting import fragments
from chipvi.io.counting.formats import find_source
from chipvi.io.counting.fragments import read_fragments

TAGALIGN = "chr1\t100\t136\tN\t1000\t+\nchr2\t40\t76\tN\t1000\t-\n"
# mates without a place, or on two chromosomes: dropped, and no fault of the file
BROKEN_PAIRS = (
    b".\t-1\t-1\tchr1\t5\t9\nchr1\t5\t9\t.\t-1\t-1\nchr1\t5\t9\tchr2\t5\t9\n"
    b"chr1\t-1\t9\tchr1\t5\t9\nchr1\t5\t9\tchr1\t-1\t9\n"
)
FRAGMENTS = "# id=sample\n# a comment\nchr1\t100\t350\tACGT-1\t2\nchr2\t40\t90\tTTTT-1\t1\nchr1\t500\t701\tACGT-1\t9\n"


def read_all(path):
    """One row for each read: contig, start, end, strand, is_fragment."""
    return [
        (batch.reads.contigs[contig], *rest)
        for batch in read_fragments(find_source(path))
        for contig, *rest in zip(
            batch.reads.contig,
            batch.reads.start,
            batch.reads.end,
            batch.reads.strand,
            batch.reads.is_fragment,
            strict=True,
        )
    ]


def written(tmp_path, name, text):
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["a.tagAlign", "a.tagAlign.gz", "a.bed"])
def test_lines_with_a_strand_are_reads(name, tmp_path):
    expected = [("chr1", 100, 136, 1, False), ("chr2", 40, 76, -1, False)]
    assert read_all(written(tmp_path, name, TAGALIGN)) == expected


@pytest.mark.parametrize("name", ["fragments.tsv", "fragments.tsv.gz"])
def test_lines_without_a_strand_are_fragments_that_count_once(name, tmp_path):
    expected = [("chr1", 100, 350, 0, True), ("chr2", 40, 90, 0, True), ("chr1", 500, 701, 0, True)]
    assert read_all(written(tmp_path, name, FRAGMENTS)) == expected


def test_blocks_of_bgzip_are_read_to_the_last(tmp_path):
    plain = written(tmp_path, "plain.bed", "".join(f"chr1\t{at}\t{at + 36}\tr{at}\n" for at in range(9_000)))
    pysam.tabix_compress(str(plain), str(tmp_path / "a.bed.gz"))
    assert len(read_all(tmp_path / "a.bed.gz")) == 9_000


def test_batches_hold_every_line_once(tmp_path, monkeypatch):
    path = written(tmp_path, "a.bed", "track name=x\n" + "".join(f"{c}\t{c}0\t{c}9\n" for c in range(1, 8)))
    whole = read_all(path)
    assert [contig for contig, *_ in whole] == list("1234567")
    monkeypatch.setattr(fragments, "_BATCH", 3)
    assert read_all(path) == whole


def test_names_may_hold_any_character(tmp_path):
    text = 'chr1\t5\t9\tsample#AC"GT\t0\t+\nchr1\t6\t10\tNA\t0\t-\n'
    assert [strand for *_, strand, _ in read_all(written(tmp_path, "a.bed", text))] == [1, -1]


def test_reads_count_alike_from_tagalign_and_bam(shared_data, tmp_path):
    bam = shared_data / "bam" / "H3K4me3.bam"
    with pysam.AlignmentFile(str(bam)) as file:
        lines = [
            f"21\t{read.reference_start}\t{read.reference_end}\tN\t1000\t{'-' if read.is_reverse else '+'}\n"
            for read in file
        ]
    tagalign = written(tmp_path, "a.tagAlign.gz", "".join(lines))
    start = np.arange(40_005_600, 48_119_800, 200)
    bins = pd.DataFrame({"chrom": "chr21", "start": start, "end": start + 200})
    adata = io.count_reads({"bam": bam, "tagalign": tagalign}, bins, genome="hg19", progress=False)
    counts = adata.X.toarray()
    assert counts[:, 0].sum() > 74_000
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    assert adata.var["depth"].tolist() == [74_534, 74_534]


def count(path, rule="shifted", **options):
    regions = pd.DataFrame({"chrom": ["chr1", "chr2"], "start": [0, 50], "end": [300, 80]})
    return io.count_reads(path, regions, rule=rule, progress=False, **options)


def test_a_fragment_counts_at_its_middle_or_wherever_it_lies(tmp_path):
    path = written(tmp_path, "a.tsv", FRAGMENTS)
    for rule in ("shifted", "center", "overlap"):  # middles: 225, 65, 600
        assert count(path, rule).X[:, 0].tolist() == [1, 1]
        assert count(path, rule).var["depth"].tolist() == [3]


def test_five_prime_ends_of_unknown_strand_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.tsv gives no strand in its sixth column.*'five_prime'"):
        count(written(tmp_path, "a.tsv", FRAGMENTS), "five_prime")


def test_fragments_of_another_genome_are_refused(tmp_path):
    path = written(tmp_path, "a.tsv", FRAGMENTS)
    assert count(path, genome=pd.Series({"chr1": 701, "chr2": 90})).shape == (2, 1)
    with pytest.raises(ValueError, match=r"another assembly.*it has chr1:500-701, where the chromosome has 700 bp"):
        count(path, genome=pd.Series({"chr1": 700, "chr2": 90}))
    with pytest.raises(ValueError, match=r"no line on any chromosome of the regions, such as chr1"):
        count(written(tmp_path, "b.tsv", "chr7\t5\t9\n"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        pytest.param("a.bed", b"", "it holds none", id="empty"),
        pytest.param("a.bed.gz", gzip.compress(b""), "it holds none", id="empty after decompression"),
        pytest.param("a.bed", b"# nothing\n", "it holds none", id="only a header"),
        pytest.param("a.bed", b"chr1\tx\t9\n", r"line 1 is 'chr1\\tx\\t9'", id="no number first"),
        pytest.param("a.bed", b"chr1\t1\t9\n\nchr1\tx\t9\n", r"line 3 is 'chr1\\tx\\t9'", id="no number later"),
        pytest.param("a.bed", b"chr1\t1\t9\n#\n#\nchr1\t5\n", "line 4 is .* it has 2 columns", id="a short line"),
        pytest.param("a.bed", b"chr1 1 9\n", "separated by tabs; line 1 is", id="spaces"),
        pytest.param("a.bed", b"chr1\t1\t9\nchr1\t9\t9\n", "line 2 is .* chr1:9-9 does not", id="no base"),
        pytest.param("a.bed", b"chr1\t1\t9\nchr1\t-2\t9\n", "line 2 is .* chr1:-2-9 does not", id="before the start"),
        pytest.param("a.bed", b"chr1\t1\t9\nchr1\t1\t99999999999999999999\n", "line 2 is", id="no 64 bits"),
        pytest.param("a.bed", b"chr1\t1\t9\n\t1\t9\n", "line 2 is .* no chromosome", id="no chromosome"),
        pytest.param(
            "a.bedpe", b"chr1\t1\t9\tchr1\t5\t9\nchr1\t-2\t9\tchr1\t5\t9\n", "line 2 is", id="a mate before the start"
        ),
        pytest.param("a.bedpe", b"chr1\t1\t9\tchr1\t5\t9\nchr1\t5\t9\tchr1\t-2\t9\n", "line 2 is", id="the other one"),
        pytest.param(
            "a.bedpe", b"chr1\t1\t9\tchr1\t5\t9\nchr1\t9\t9\tchr1\t5\t9\n", "line 2 is", id="a mate without a base"
        ),
        pytest.param(
            "a.bedpe", b"chr1\t1\t9\tchr1\t5\t9\nchr1\t5\t9\tchr1\t9\t9\n", "line 2 is", id="the other without"
        ),
        pytest.param(
            "a.bedpe",
            b"chr1\t1\t9\tchr1\t5\t9\n" + BROKEN_PAIRS + b"chr1\t5\t9\tchr1\tx\t9\n",
            "line 7 is .* it does not hold chromosome, start and end twice",
            id="behind pairs that are none",
        ),
        pytest.param("a.bed.gz", gzip.compress(FRAGMENTS.encode() * 999)[:400], "truncated", id="cut"),
        pytest.param("a.bed", b"\xff\xfe\x00chr", "it is no text", id="binary"),
        pytest.param("a.bed", b"chr1\t1\t9\nchr1\t1\t9\0\n", "it is no text", id="a zero byte"),
        pytest.param("a.bed", b"chr1\t1\t9\tr\n" * 9_000 + b"chr1\t1\t9\tr\xe9\n", "it is no text", id="Latin-1"),
        pytest.param("a.bed", "chr1\t1\t9\n".encode("utf-16"), "it is no text", id="UTF-16"),
    ],
)
def test_a_file_that_is_no_bed_is_refused_by_name(name, data, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read_all(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_pairs_may_start_at_the_first_base(tmp_path):
    lines = "chr1\t0\t9\tchr1\t5\t9\nchr1\t5\t9\tchr1\t0\t9\n"
    assert [(start, end) for _, start, end, *_ in read_all(written(tmp_path, "a.bedpe", lines))] == [(0, 9), (0, 9)]


def test_unknown_endings_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*gone\.bam"):
        count(tmp_path / "gone.bam")
    with pytest.raises(ValueError, match=r"a\.wig must end in \.bam, \.cram, \.sam, \.bed"):
        count(written(tmp_path, "a.wig", ""))


def test_names_that_look_like_numbers_stay_text(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("1\t10\t46\n01\t20\t56\n01\t30\t66\n")
    regions = pd.DataFrame({"chrom": ["1", "01"], "start": 0, "end": 100})
    assert io.count_reads(path, regions, progress=False).to_df().to_numpy().tolist() == [[1], [2]]
