"""Genomes by name or by file, their bins, and blacklists."""

import gzip
import re
import socket

import bioframe
import numpy as np
import pandas as pd
import pytest

from chipvi.io.contigs import choose_chromosomes
from chipvi.io.genomes import chrom_sizes, cut_regions, genome_names, make_bins, read_blacklist

REGIONS = pd.DataFrame({"chrom": ["chr1", "chr2"], "start": [65_000, 3], "end": [65_500, 40]})


# Lengths as UCSC publishes them.
@pytest.mark.parametrize(
    ("genome", "chrom", "length"),
    [
        ("hg19", "chr21", 48_129_895),
        ("hg19", "chrY", 59_373_566),
        ("hg38", "chr1", 248_956_422),
        ("hg38", "chrX", 156_040_895),
        ("mm10", "chr19", 61_431_566),
        ("mm39", "chr1", 195_154_279),
        ("mm9", "chr1", 197_195_432),
        ("hs1", "chr1", 248_387_328),
        ("dm6", "chr2L", 23_513_712),
        ("ce11", "chrI", 15_072_434),
        ("danRer10", "chr1", 58_871_917),
        ("danRer11", "chr1", 59_578_282),
        ("sacCer3", "chrI", 230_218),
    ],
)
def test_a_named_genome_has_its_published_lengths_without_a_network(genome, chrom, length, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    sizes = chrom_sizes(genome)
    assert sizes[chrom] == length
    assert sizes.dtype == np.int64


@pytest.mark.parametrize("genome", ["hg19", "hg38", "mm10", "mm39"])
def test_a_named_genome_is_binned_over_autosomes_and_sex_chromosomes_only(genome):
    bins = make_bins(genome, 1_000_000)
    assert list(bins["chrom"].unique()) == [f"chr{n}" for n in range(1, 23 if "hg" in genome else 20)] + [
        "chrX",
        "chrY",
    ]
    assert {"chrM"} < set(chrom_sizes(genome).index)


@pytest.mark.parametrize(
    ("genome", "chroms"),
    [
        ("dm6", "2L 2R 3L 3R 4 X Y"),
        ("ce11", "I II III IV V X"),
        ("sacCer3", "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI"),
        ("danRer11", " ".join(map(str, range(1, 26)))),
        ("hs1", " ".join(map(str, [*range(1, 23), "X", "Y"]))),
    ],
)
def test_other_named_genomes_are_binned_over_their_nuclear_chromosomes(genome, chroms):
    assert list(make_bins(genome, 10_000)["chrom"].unique()) == [f"chr{name}" for name in chroms.split()]


def test_every_genome_that_bioframe_ships_is_known_and_an_error_lists_them():
    available = bioframe.assemblies_available()
    shipped = set(available.loc[available["provider"] == "ucsc", "provider_build"])
    assert shipped <= set(genome_names())
    for name in shipped:
        assert chrom_sizes(name)["chrM"] > 10_000
    with pytest.raises(ValueError) as error:
        chrom_sizes("hg83")
    assert all(name in str(error.value) for name in shipped)


def test_sizes_come_from_chrom_sizes_and_fai_in_the_order_of_the_file(tmp_path):
    plain, fai, packed = tmp_path / "my.chrom.sizes", tmp_path / "my.fa.fai", tmp_path / "my.chrom.sizes.gz"
    plain.write_text("# mine\nchr10\t500\nchr2\t70\n\n")
    fai.write_text("chr10\t500\t7\t60\t61\nchr2\t70\t600\t60\t61\n")
    packed.write_bytes(gzip.compress(b"chr10 500\nchr2 70\n"))
    for path in (plain, str(fai), packed):
        assert list(chrom_sizes(path).items()) == [("chr10", 500), ("chr2", 70)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t100\nchr2\n", "line 2 of g.sizes must begin with a name and a length in bp; it is 'chr2'"),
        ("chr1\tmany\n", "line 1 of g.sizes must begin with a name and a length"),
        ("chr1\t100\nchr2\t50\nchr1\t100\n", "line 3 of g.sizes names chr1 again"),
        ("chr1\t100\nchr2\t0\n", "g.sizes must give lengths of whole bp above 0; chr2 has 0"),
        ("", "g.sizes must hold a sequence and its length a line; it holds none"),
    ],
)
def test_a_broken_size_file_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "g.sizes").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        chrom_sizes(tmp_path / "g.sizes")


def test_binary_and_unknown_genomes_are_told(tmp_path):
    (tmp_path / "genome.2bit").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"genome\.2bit cannot be read as chromosome sizes: it is no text"):
        chrom_sizes(tmp_path / "genome.2bit")
    with pytest.raises(ValueError, match=r"genome must be ce10, .*hg38.*'hg83' is neither"):
        chrom_sizes("hg83")


def test_lengths_that_are_given_are_checked():
    with pytest.raises(ValueError, match="chr1 is there twice"):
        chrom_sizes(pd.Series([5, 6], index=["chr1", "chr1"]))
    with pytest.raises(ValueError, match=r"chr2 has .*7\.5"):
        chrom_sizes(pd.Series({"chr1": 5.0, "chr2": 7.5}))


@pytest.mark.parametrize("bin_size", [1, 7, 50, 60])
def test_bins_tile_each_chromosome_from_zero_and_drop_what_is_left(bin_size):
    sizes = {"chrB": 110, "chrA": 60, "tiny": 3}
    expected = [
        (chrom, start, start + bin_size)
        for chrom, length in sizes.items()
        for start in range(0, length - bin_size + 1, bin_size)
    ]
    bins = make_bins(pd.Series(sizes), bin_size)
    assert list(bins.itertuples(index=False, name=None)) == expected
    assert bins["start"].dtype == bins["end"].dtype == np.int64


def test_chromosomes_are_chosen_by_name_or_whole_match_in_the_order_of_the_genome():
    sizes = pd.Series({"chr1": 30, "chr10": 40, "chr1_random": 50, "HLA*01": 60, "chrX": 20})
    assert list(make_bins(sizes, 10, "chrX,chr1")["chrom"].unique()) == ["chr1", "chrX"]
    assert choose_chromosomes(list(sizes.index), "chr[0-9]+") == ["chr1", "chr10"]
    assert choose_chromosomes(list(sizes.index), "HLA*01, chr1") == ["chr1", "HLA*01"]


@pytest.mark.parametrize(
    ("chromosomes", "message"),
    [
        ("chr1,chr3", "'chr3' matches no whole name of the genome, which has chr1, chr2"),
        ("chr[", r"'chr\[' is neither"),
        (" ,", "must name at least one"),
    ],
)
def test_a_choice_that_matches_nothing_is_refused(chromosomes, message):
    with pytest.raises(ValueError, match=message):
        make_bins(pd.Series({"chr1": 30, "chr2": 40}), 10, chromosomes)


def test_bins_that_fit_nowhere_are_refused():
    with pytest.raises(ValueError, match="50 bp is longer than each of chr1, chr2"):
        make_bins(pd.Series({"chr1": 30, "chr2": 40}), 50)


@pytest.mark.parametrize("cut", [lambda width: make_bins("hg38", width), lambda width: cut_regions(REGIONS, width)])
@pytest.mark.parametrize(
    ("width", "message"),
    [
        (0, "bin_size must be at least 1 bp; it is 0"),
        (12.5, "bin_size must be a whole number.*; it is 12.5"),
        (True, "bin_size must be a whole number.*; it is True"),
        ("200", "bin_size must be a whole number.*; it is '200'"),
        (10**20, "bin_size must be at most"),
    ],
)
def test_a_width_that_is_no_whole_number_of_bases_is_refused(cut, width, message):
    with pytest.raises(ValueError, match=message):
        cut(width)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint64"])
def test_regions_are_cut_exactly_whatever_the_type_of_their_positions(dtype):
    regions = REGIONS.astype({"start": dtype, "end": dtype})
    expected = [(chrom, at, at + 7) for chrom, start, end in REGIONS.values for at in range(start, end - 6, 7)]
    assert list(cut_regions(regions, 7).itertuples(index=False, name=None)) == expected


def test_a_blacklist_is_read_plain_or_packed(tmp_path):
    text = "chr1\t0\t500\tHigh Signal Region\nchr2\t70\t90\tLow Mappability\n"
    (tmp_path / "b.bed").write_text(text)
    (tmp_path / "b.bed.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("b.bed", "b.bed.gz"):
        intervals = read_blacklist(tmp_path / name)
        assert list(intervals.itertuples(index=False, name=None)) == [("chr1", 0, 500), ("chr2", 70, 90)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold an interval a line; it holds none"),
        ("chr1\t5\n", "line 1 of b.bed must begin with chromosome, start and end"),
        (
            "chr1\t5\t9\nchr1\t50\t40\nchr2\t3\t3\n",
            r"intervals of the blacklist b.bed must .* row 1 is chr1:50-40 \(and 1 more\)",
        ),
        ("chr1\t-5\t9\n", "row 0 is chr1:-5-9"),
    ],
)
def test_an_empty_or_broken_blacklist_is_refused(tmp_path, text, message):
    (tmp_path / "b.bed").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_blacklist(tmp_path / "b.bed")


def test_a_blacklist_that_was_cut_off_is_refused(tmp_path):
    whole = gzip.compress("".join(f"chr1\t{n}\t{n + 9}\n" for n in range(0, 90_000, 17)).encode())
    (tmp_path / "b.bed.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"b\.bed\.gz is truncated or damaged"):
        read_blacklist(tmp_path / "b.bed.gz")


@pytest.mark.parametrize(
    ("genome", "where"),
    [("hg38", "Get hg38-blacklist.v2.bed.gz from https"), ("dm6", "Get dm6-blacklist.v2.bed.gz"), ("mm39", "Make one")],
)
def test_a_blacklist_by_name_tells_where_to_get_it(genome, where):
    with pytest.raises(ValueError, match=f"'{genome}' is a genome. {where}"):
        read_blacklist(genome)
