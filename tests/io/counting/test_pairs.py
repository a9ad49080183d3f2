"""Proper pairs of many aligners and filters: each counts once, between the 5' ends of its mates."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pysam
import pytest

from chipvi import io
from chipvi.io.counting import alignments

LENGTHS = {"chr1": 20_000, "chr2": 9_000}
READ = 50
FIRST, SECOND, REVERSE, MATE_REVERSE = 64, 128, 16, 32


@dataclass(frozen=True)
class Mate:
    name: str
    flag: int
    chrom: str
    start: int
    cigar: str
    mate_chrom: str
    mate_start: int
    template: int
    mapq: int = 40


def write(path, mates):
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": length} for name, length in LENGTHS.items()]}
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for mate in mates:
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.flag, read.mapping_quality = mate.name, mate.flag, mate.mapq
            read.reference_name, read.reference_start, read.cigarstring = mate.chrom, mate.start, mate.cigar
            read.next_reference_name, read.next_reference_start = mate.mate_chrom, mate.mate_start
            read.template_length = mate.template
            file.write(read)
    return path


def as_the_format_says(plus, minus, length):
    return length, -length


def both_negative_at_one_place(plus, minus, length):
    """As Bowtie 2 before March 2019 and HISAT2 2.1 write it."""
    return (-length, -length) if plus == minus else (length, -length)


def reversed_sign(plus, minus, length):
    """As strobealign once wrote it."""
    return -length, length


def zero(plus, minus, length):
    return 0, 0


def simulate(number=400, templates=as_the_format_says, clip=0, seed=0):
    """Pairs, trimmed to their fragment where it is shorter than a read, in the order of their places.

    With `clip` the reads are not trimmed: what reaches beyond a short fragment is soft-clipped, as is `clip` of each 5'
    end, and the template length spans what is clipped, as that of Bowtie 2 does.

    Returns the mates, and of each pair its chromosome, the 5' ends (half-open) and whether the first read is reverse.
    """
    rng = np.random.default_rng(seed)
    mates, truth = [], []
    for pair in range(number):
        chrom = str(rng.choice(list(LENGTHS)))
        length = int(rng.integers(20, READ) if rng.random() < 0.4 else rng.integers(READ, 400))
        start = int(rng.integers(200, LENGTHS[chrom] - 800))
        is_reverse = bool(rng.random() < 0.5)
        aligned = min(READ, length)
        minus = start + length - aligned
        beyond = READ - aligned if clip else 0
        head = f"{clip}S" if clip else ""
        tail = f"{beyond}S" if beyond else ""
        spanned = length + 2 * beyond + 2 * clip if clip else length
        sizes = templates(start, minus, spanned)
        flags = 3 | MATE_REVERSE | (SECOND if is_reverse else FIRST), 3 | REVERSE | (FIRST if is_reverse else SECOND)
        cigars = f"{head}{aligned}M{tail}", f"{tail}{aligned}M{head}"
        for at, other, flag, cigar, size in zip((start, minus), (minus, start), flags, cigars, sizes, strict=True):
            mates.append(Mate(f"p{pair}", flag, chrom, at, cigar, chrom, other, size))
        truth.append((chrom, start, start + length, is_reverse))
    return sorted(mates, key=lambda mate: (list(LENGTHS).index(mate.chrom), mate.start)), truth


def expected(truth, rule, bins):
    """Counts by the words of the documentation, one pair after the other."""
    counts = np.zeros(len(bins), dtype=int)
    bin_chrom, bin_start, bin_end = (bins[name].to_numpy() for name in ("chrom", "start", "end"))
    for chrom, start, end, is_reverse in truth:
        if rule == "overlap":
            first, last = start, end - 1
        elif rule == "five_prime":
            first = last = end - 1 if is_reverse else start
        else:
            first = last = (start + end) // 2
        counts += (bin_chrom == chrom) & (bin_start <= last) & (bin_end > first)
    return counts


BINS = io.make_bins(pd.Series(LENGTHS), 30)
RULES = ("five_prime", "shifted", "center", "overlap")


def check(path, truth, rules=RULES):
    for rule in rules:
        adata = io.count_reads(path, BINS, rule=rule, progress=False)
        np.testing.assert_array_equal(adata.to_df().to_numpy()[:, 0], expected(truth, rule, BINS))
        assert adata.var["depth"].tolist() == [len(truth)]
    return adata.var.iloc[0]


@pytest.mark.parametrize("templates", [as_the_format_says, both_negative_at_one_place, reversed_sign, zero])
def test_every_pair_counts_once_between_its_five_prime_ends_whatever_its_template_length(templates, tmp_path, caplog):
    mates, truth = simulate(templates=templates)
    assert sum(end - start < READ for _, start, end, _ in truth) > 100
    var = check(write(tmp_path / "a.bam", mates), truth)
    assert (var["n_records"], var["dropped_second_mate"], var["n_lone_mates"]) == (800, 400, 0)
    assert not caplog.records


def test_soft_clipped_bases_are_no_part_of_the_fragment_though_the_template_length_spans_them(tmp_path):
    mates, truth = simulate(clip=4)
    assert max(abs(mate.template) for mate in mates if mate.cigar.count("S") == 2) > READ + 30
    check(write(tmp_path / "local.bam", mates), truth)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_size_of_batches_makes_no_difference(size, tmp_path, monkeypatch):
    monkeypatch.setattr(alignments, "BATCH", size)
    mates, truth = simulate(60)
    assert check(write(tmp_path / "a.bam", mates), truth)["n_lone_mates"] == 0


@pytest.mark.parametrize(
    ("keeps", "lone"),
    [
        pytest.param(lambda mate: mate.flag & FIRST, 400, id="samtools view -f 64"),
        pytest.param(lambda mate: mate.flag & SECOND, 400, id="samtools view -f 128"),
        pytest.param(lambda mate: mate.flag & REVERSE, 400, id="samtools view -f 16"),
        pytest.param(lambda mate: not mate.flag & REVERSE, 400, id="samtools view -F 16"),
        pytest.param(lambda mate: mate.flag & FIRST or int(mate.name[1:]) % 2, 200, id="every other second mate"),
        pytest.param(lambda mate: mate.flag & SECOND or int(mate.name[1:]) % 2, 200, id="every other first mate"),
    ],
)
def test_a_file_without_some_of_the_mates_counts_every_pair_and_the_log_names_it(keeps, lone, tmp_path, caplog):
    mates, truth = simulate()
    path = write(tmp_path / "some.bam", [mate for mate in mates if keeps(mate)])
    with caplog.at_level(logging.WARNING):
        assert check(path, truth, rules=["shifted"])["n_lone_mates"] == lone
    assert f"{path} lacks a mate of {lone} of its 400 proper pairs" in caplog.text


def test_a_few_lone_mates_are_counted_without_a_warning(tmp_path, caplog):
    mates, truth = simulate()
    lost = next(number for number, mate in enumerate(mates) if not mate.flag & REVERSE)
    assert check(write(tmp_path / "a.bam", mates[:lost] + mates[lost + 1 :]), truth)["n_lone_mates"] == 1
    assert not caplog.records


def test_replicates_add_up_their_lone_mates(tmp_path):
    mates, _ = simulate()
    paths = [
        write(tmp_path / "first.bam", [mate for mate in mates if mate.flag & FIRST]),
        write(tmp_path / "second.bam", [mate for mate in mates if mate.flag & SECOND and mate.chrom == "chr1"]),
    ]
    number = sum(mate.chrom == "chr1" for mate in mates) // 2
    assert io.count_reads({"a": paths}, BINS, progress=False).var["n_lone_mates"].tolist() == [400 + number]


def test_single_reads_beside_pairs_and_what_is_no_primary_alignment_of_a_proper_pair(tmp_path):
    mates, truth = simulate(50)
    one = mates[0]
    further = {
        "secondary": [replace(one, flag=one.flag | 0x100)] * 2,
        "supplementary": [replace(one, flag=one.flag | 0x800)] * 3,
        "improper_pair": [
            replace(one, flag=one.flag & ~2),
            replace(one, mate_chrom="chr2" if one.chrom == "chr1" else "chr1"),
            replace(one, flag=one.flag | 8),
            replace(one, flag=one.flag & ~2, template=0),
        ],
    }
    single = [Mate(f"s{at}", 0, "chr1", at, "36M", "chr1", at, 0) for at in range(100, 800, 7)]
    path = write(tmp_path / "a.bam", [*mates, *single, *(mate for group in further.values() for mate in group)])
    adata = io.count_reads(path, BINS, rule="center", progress=False)
    counts = expected([*truth, *(("chr1", mate.start, mate.start + 36, False) for mate in single)], "center", BINS)
    np.testing.assert_array_equal(adata.to_df().to_numpy()[:, 0], counts)
    var = adata.var.iloc[0]
    assert var["depth"] == 150 and var["n_lone_mates"] == 0
    assert {reason: var[f"dropped_{reason}"] for reason in further} == {key: len(g) for key, g in further.items()}


def test_a_lone_mate_whose_fragment_nothing_measures_is_dropped_as_improper(tmp_path):
    mates, truth = simulate(40, templates=zero)
    path = write(tmp_path / "a.bam", [mate for mate in mates if mate.flag & FIRST])
    known = [pair for pair in truth if pair[3]]  # a reverse mate knows both ends
    assert 0 < len(known) < 40
    assert check(path, known)["dropped_improper_pair"] == 40 - len(known)


@pytest.mark.parametrize(
    ("flags", "starts", "template", "middle"),
    [
        pytest.param((3 | FIRST | REVERSE, 3 | SECOND | MATE_REVERSE), (3_000, 6_000), 3_050, 4_525, id="outward"),
        pytest.param((3 | FIRST, 3 | SECOND), (3_000, 3_400), 450, 3_225, id="both on the plus strand"),
        pytest.param(
            (3 | FIRST | REVERSE | MATE_REVERSE, 3 | SECOND | REVERSE | MATE_REVERSE), (3_400, 3_000), 450, 3_225,
            id="both on the minus strand",
        ),
    ],
)  # fmt: skip
def test_pairs_of_other_orientations_count_once_about_their_middle(flags, starts, template, middle, tmp_path):
    mates = [
        Mate("p", flag, "chr1", at, f"{READ}M", "chr1", other, size)
        for flag, at, other, size in zip(flags, starts, starts[::-1], (template, -template), strict=True)
    ]
    adata = io.count_reads(write(tmp_path / "a.bam", mates), BINS, progress=False)
    assert adata.var["depth"].tolist() == [1]
    assert adata.to_df().query("`a` > 0").index.tolist() == [f"chr1:{middle // 30 * 30}-{middle // 30 * 30 + 30}"]


def test_the_mate_that_stands_for_a_pair_brings_its_quality_and_its_marks(tmp_path):
    mates, truth = simulate(30)
    low = [replace(mate, mapq=3 if mate.flag & REVERSE else 60) for mate in mates]
    path = write(tmp_path / "low.bam", low)
    assert io.count_reads(path, BINS, progress=False).var["depth"].tolist() == [30]
    with pytest.raises(ValueError, match="30 low_mapq, 30 second_mate"):
        io.count_reads(path, BINS, min_mapq=10, progress=False)
