import numpy as np
import pysam
import pytest

from chipvi.io.counting import alignments
from chipvi.io.counting.alignments import ReadFilters, contig_lengths, read_alignments
from chipvi.io.counting.rules import CountingRule, Reads

LENGTHS = {"chr1": 3_000, "chr2": 1_700}
# flag, contig, start, CIGAR, MAPQ, template length: a pair 100-350 whose first read is on the plus strand, one
# 500-720 whose first read is on the minus strand, one that is not proper
PAIRS = [
    (99, "chr1", 100, "30M", 40, 250),
    (147, "chr1", 320, "30M", 3, -250),
    (163, "chr1", 500, "30M", 40, 220),
    (83, "chr1", 690, "30M", 40, -220),
    (65, "chr1", 900, "30M", 40, 800),
    (129, "chr1", 1_670, "30M", 40, -800),
]


def read_all(path, **filters):
    batches = list(read_alignments(path, ReadFilters(**filters)))
    fields = ("contig", "start", "end", "strand", "is_fragment")
    columns = [np.concatenate([getattr(batch.reads, name) for batch in batches]) for name in fields]
    dropped = {reason: sum(batch.dropped[reason] for batch in batches) for reason in batches[0].dropped}
    return Reads(batches[0].reads.contigs, *columns), {reason: n for reason, n in dropped.items() if n}


def reads_of(places, strand, is_fragment):
    start, end = np.array(places).T
    number = len(start)
    return Reads(
        ("chr1",), np.zeros(number, int), start, end, np.full(number, strand, np.int8), np.full(number, is_fragment)
    )


def test_a_proper_pair_is_one_fragment_with_the_strand_of_its_first_read(write_bam):
    reads, dropped = read_all(write_bam("a.bam", PAIRS, LENGTHS))
    assert list(zip(reads.start, reads.end, reads.strand, reads.is_fragment, strict=True)) == [
        (100, 350, 1, True),
        (500, 720, -1, True),
    ]
    assert dropped == {"improper_pair": 2, "second_mate": 2}


def test_a_fragment_whose_ends_meet_is_one_base_and_one_without_a_length_is_none(write_bam):
    # the mate on the plus strand begins where that on the minus strand ends: what lies between is empty
    meeting = [(83, "chr1", 100, "30M", 40, -60), (163, "chr1", 130, "30M", 40, 60)]
    path = write_bam("a.bam", meeting, LENGTHS)
    with pysam.AlignmentFile(str(path)) as file:
        records = list(file)
        records[0].next_reference_start, records[1].next_reference_start = 130, 100
        with pysam.AlignmentFile(str(path.with_name("b.bam")), "wb", header=file.header) as out:
            for record in records:
                out.write(record)
    reads, dropped = read_all(path.with_name("b.bam"))
    assert list(zip(reads.start, reads.end, reads.is_fragment, strict=True)) == [(130, 131, True)]
    assert dropped == {"second_mate": 1}


def test_a_fragment_may_begin_at_the_first_base_of_a_chromosome(write_bam):
    reads, dropped = read_all(
        write_bam("a.bam", [(99, "chr1", 0, "30M", 40, 250), (147, "chr1", 220, "30M", 40, -250)], LENGTHS)
    )
    assert list(zip(reads.start, reads.end, strict=True)) == [(0, 250)] and dropped == {"second_mate": 1}


@pytest.mark.parametrize("strand", [0, 16 | 32], ids=["plus", "minus"])
def test_mates_on_one_strand_are_a_fragment_from_the_first_base_of_both(write_bam, strand):
    records = [(67 | strand, "chr1", 120, "30M", 40, -50), (131 | strand, "chr1", 100, "30M", 40, 50)]
    reads, _ = read_all(write_bam("a.bam", records, LENGTHS))
    assert list(zip(reads.start, reads.end, reads.strand, strict=True)) == [(100, 150, -1 if strand else 1)]


def test_the_length_on_the_genome_comes_from_the_cigar(write_bam):
    records = [(0, "chr2", 50, "5S20M3D10M2I4M", 9, 0), (16, "chr2", 60, "10M100N5M", 9, 0)]
    reads, _ = read_all(write_bam("a.bam", records, LENGTHS))
    assert list(zip(reads.start, reads.end, reads.strand, strict=True)) == [(50, 87, 1), (60, 175, -1)]


def test_filters_drop_what_they_name_and_every_record_is_accounted_for(write_bam):
    records = [
        (0, "chr1", 10, "36M", 30, 0),
        (4, None, 0, None, 0, 0),
        (0x200, "chr1", 11, "36M", 30, 0),
        *[(0x100, "chr1", 12, "36M", 30, 0)] * 2,
        *[(0x800, "chr1", 13, "36M", 30, 0)] * 3,
        *[(0x400, "chr1", 14, "36M", 30, 0)] * 4,
        *[(0, "chr1", 15, "36M", 29, 0)] * 5,
    ]
    path = write_bam("a.bam", records, LENGTHS)
    reads, dropped = read_all(path, min_mapq=30)
    expected = {"unmapped": 1, "qc_fail": 1, "secondary": 2, "supplementary": 3, "duplicate": 4, "low_mapq": 5}
    assert dropped == expected
    assert reads.start.tolist() == [10]
    for name, reason in (("secondary", "secondary"), ("supplementary", "supplementary"), ("duplicates", "duplicate")):
        reads, dropped = read_all(path, min_mapq=30, **{name: True})
        assert dropped == {key: number for key, number in expected.items() if key != reason}
        assert len(reads.start) == 1 + expected[reason]


def test_batches_hold_every_record_once_whatever_their_size(write_bam, monkeypatch):
    records = [(0, "chr1", at, "36M", 30, 0) for at in range(10)] + [(4, None, 0, None, 0, 0)] * 5
    path = write_bam("a.bam", records, LENGTHS)
    for size in (1, 3, 5, 15, 16):
        monkeypatch.setattr(alignments, "BATCH", size)
        reads, dropped = read_all(path)
        assert reads.start.tolist() == list(range(10))
        assert dropped == {"unmapped": 5}


def test_an_index_and_an_order_make_no_difference(shared_data, tmp_path):
    indexed = shared_data / "bam" / "H3K4me3.bam"
    shuffled = tmp_path / "shuffled.bam"
    with pysam.AlignmentFile(str(indexed)) as source:
        records = list(source)
        with pysam.AlignmentFile(str(shuffled), "wb", template=source) as file:
            for row in np.random.default_rng(0).permutation(len(records)):
                file.write(records[row])
    expected, reads = read_all(indexed)[0], read_all(shuffled)[0]
    assert len(reads.start) == 74_534
    np.testing.assert_array_equal(np.sort(reads.start * reads.strand), np.sort(expected.start * expected.strand))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cram_is_read_without_its_reference(write_bam, tmp_path, monkeypatch):
    monkeypatch.setenv("REF_PATH", str(tmp_path / "nowhere"))  # else htslib might ask a server
    fasta = tmp_path / "genome.fa"
    rng = np.random.default_rng(0)
    bases = {name: "".join(rng.choice(list("ACGT"), length)) for name, length in LENGTHS.items()}
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in bases.items()))
    pysam.faidx(str(fasta))
    bam = write_bam("a.bam", PAIRS, LENGTHS)
    with_bases = tmp_path / "bases.cram"
    with pysam.AlignmentFile(str(bam)) as source:
        with pysam.AlignmentFile(str(with_bases), "wc", template=source, reference_filename=str(fasta)) as file:
            for read in source:
                read.query_sequence = bases[read.reference_name][read.reference_start : read.reference_end]
                file.write(read)
    fasta.unlink()
    expected, dropped = read_all(bam)
    reads, of_cram = read_all(with_bases)
    for name in ("contig", "start", "end", "strand", "is_fragment"):
        np.testing.assert_array_equal(getattr(reads, name), getattr(expected, name))
    assert of_cram == dropped


def test_sam_text_is_read_too(write_bam):
    assert read_all(write_bam("a.sam", PAIRS, LENGTHS, mode="w"))[0].start.tolist() == [100, 500]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: data[:-28], "truncated: its end-of-file marker is missing", id="no end marker"),
        pytest.param(lambda data: data[:9_000], "truncated: its end-of-file marker is missing", id="cut in the middle"),
        pytest.param(lambda data: data[:9_000] + data[-28:], "truncated or damaged", id="a piece is missing"),
        pytest.param(lambda data: data[:9_000] + bytes(50) + data[9_050:], "truncated or damaged", id="overwritten"),
        pytest.param(lambda data: b"", "cannot be read as BAM", id="empty"),
        pytest.param(lambda data: b"chr1\t0\t100\n", "cannot be read as BAM", id="text"),
    ],
)
def test_a_damaged_file_is_refused_by_name(damage, message, write_bam, tmp_path, capfd):
    rng = np.random.default_rng(0)
    records = [(0, "chr1", int(at), "36M", int(at) % 60, 0) for at in rng.integers(0, 2_900, 9_000)]
    data = write_bam("whole.bam", records, LENGTHS).read_bytes()
    assert len(data) > 20_000
    path = tmp_path / "broken.bam"
    path.write_bytes(damage(data))
    with pytest.raises(ValueError, match=message) as error:
        read_all(path)
    assert "broken.bam" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""  # htslib would print its own lines


def test_alignments_without_chromosomes_are_refused(write_bam):
    with pytest.raises(ValueError, match=r"a\.bam must hold aligned reads; its header names no chromosome"):
        contig_lengths(write_bam("a.bam", [], {}))


def test_every_rule_places_reads_and_fragments_by_hand():
    reads = {"+": reads_of([(100, 136)], 1, False), "-": reads_of([(100, 136)], -1, False)}
    expected = {"five_prime": (100, 135), "shifted": (175, 60), "center": (118, 118)}
    for name, positions in expected.items():
        rule = CountingRule(name, 150)
        for strand, position in zip("+-", positions, strict=True):
            assert [int(at[0]) for at in rule.place(reads[strand])] == [position, position + 1]
    fragment = reads_of([(100, 350)], -1, True)
    for name, position in {"five_prime": 349, "shifted": 225, "center": 225}.items():
        assert [int(at[0]) for at in CountingRule(name, 150).place(fragment)] == [position, position + 1]
    assert [int(at[0]) for at in CountingRule("overlap").place(fragment)] == [100, 350]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
@pytest.mark.parametrize("length", [254, 256, 300, 1_001, 70_000, 2**33])
def test_a_fragment_length_may_be_larger_than_the_type_of_any_column(length, dtype):
    """A plus read at 1,000, a minus read that ends at 2,036, a fragment from 500 to 900."""
    columns = [0, 0, 0], [1_000, 2_000, 500], [1_036, 2_036, 900]
    contig, start, end = (np.array(column, dtype=np.int64) for column in columns)
    reads = Reads(("chr1",), contig, start, end, np.array([1, -1, 0], dtype), np.array([False, False, True]))
    half = length // 2
    at, to = CountingRule("shifted", length).place(reads)
    assert at.tolist() == [1_000 + half, 2_035 - half, 700]
    assert to.tolist() == [1_001 + half, 2_036 - half, 701]
    shifted = CountingRule("shifted", length, (length, -length))
    assert shifted.place(reads)[0][:2].tolist() == [1_000 + length + half, 2_035 - length - half]


def test_the_strand_shift_moves_both_ends_of_a_fragment_and_a_read_as_a_whole():
    rule = CountingRule("overlap", strand_shift=(4, -5))
    assert [at.tolist() for at in rule.place(reads_of([(100, 350), (100, 105)], 1, True))] == [[104, 104], [345, 105]]
    assert [at.tolist() for at in rule.place(reads_of([(100, 136)], 1, False))] == [[104], [140]]
    assert [at.tolist() for at in rule.place(reads_of([(100, 136)], -1, False))] == [[95], [131]]
