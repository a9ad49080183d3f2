"""Names of chromosomes, with and without "chr", however many there are."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pybigtools
import pysam
import pytest

from chipvi import io
from chipvi.io import assembly, contigs
from chipvi.io.assembly import require_one_assembly
from chipvi.io.contigs import bare_name, choose_chromosomes, contig_numbers, match_contigs
from chipvi.io.counting import alignments, files, fragments

# Work for each pair of names would take many minutes, and for each name it takes a second.
MANY = 60_000


@pytest.mark.parametrize("spellings", [("chr7", "7", "Chr7"), ("chrX", "X"), ("chrM", "MT", "M", "chrMT")])
def test_every_spelling_finds_every_other(spellings):
    for wanted, found in product(spellings, repeat=2):
        assert match_contigs([wanted, "other"], ["none", found]) == {found: wanted}
        assert choose_chromosomes(["before", found, "after"], wanted) == [found]
    assert len({bare_name(name) for name in spellings}) == 1


def test_a_name_that_is_there_as_it_is_goes_first_and_no_other_is_taken_for_it():
    assert match_contigs(["chrX"], ["X", "chrX"]) == {"chrX": "chrX"}  # a spike-in beside the genome
    assert match_contigs(["chrM"], ["MT", "M"]) == {"MT": "chrM"}
    assert choose_chromosomes(["X", "chrX"], "chrX") == ["chrX"]
    assert choose_chromosomes(["GL000191.1", "GL000191x1"], "GL000191.1") == ["GL000191.1"]


@pytest.mark.parametrize(
    ("chromosomes", "expected"),
    [
        ("21", ["chr21"]),
        ("chr21,X", ["chr21", "chrX"]),
        ("[0-9]+", ["chr2", "chr21"]),
        ("chr[0-9]+|chr[XY]", ["chr2", "chr21", "chrX"]),
        ("M", ["chrM"]),
    ],
)
def test_names_and_patterns_are_chosen_from_either_spelling(chromosomes, expected):
    names = ["chr2", "chr21", "chrX", "chrM", "chr21_random"]
    assert choose_chromosomes(names, chromosomes) == expected
    without = [name.removeprefix("chr") for name in names]
    assert choose_chromosomes(without, chromosomes) == [name.removeprefix("chr") for name in expected]


def test_bins_are_made_of_chromosomes_of_either_spelling():
    for genome in (pd.Series({"chr1": 90, "chr2": 60}), pd.Series({"1": 90, "2": 60})):
        for asked in ("1", "chr1"):
            assert io.make_bins(genome, 30, asked)["chrom"].tolist() == [genome.index[0]] * 3


def test_contig_numbers_point_into_the_chromosomes():
    assert contig_numbers(("chr2", "chr1", "chr9"), ("1", "chr2", "x")).tolist() == [1, 0, -1]
    assert contig_numbers(("chr1",), ()).tolist() == []


def test_tens_of_thousands_of_names_are_matched_chosen_and_compared():
    names = [f"scaffold_{number}" for number in range(MANY)]
    spelled = [f"chr{name}" for name in names]
    assert list(match_contigs(spelled, names).items())[-1] == (names[-1], spelled[-1])
    assert choose_chromosomes(names, ",".join(names)) == names
    assert choose_chromosomes(names, ",".join(spelled)) == names
    assert contig_numbers(tuple(spelled), tuple(names))[-1] == MANY - 1
    sizes = pd.Series(500, index=names)
    assert len(io.make_bins(sizes, 250)) == 2 * MANY
    regions = pd.DataFrame({"chrom": spelled, "start": 0, "end": 500})
    lengths = dict.fromkeys(names, 500)
    require_one_assembly({"a": lengths, "b": lengths}, regions, sizes)
    with pytest.raises(ValueError, match=f"a has no chrscaffold_{MANY - 1}, where"):
        require_one_assembly({"a": dict.fromkeys(names[:-1], 500)}, regions, None)
    with pytest.raises(ValueError, match=f"its scaffold_{MANY - 1} has 499 bp"):
        require_one_assembly({"a": lengths | {names[-1]: 499}}, regions.assign(end=499), sizes)


def test_a_draft_genome_of_many_scaffolds_is_counted_and_averaged(tmp_path):
    names = [f"s{number}" for number in range(50_000)]
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": 500} for name in names]}
    with pysam.AlignmentFile(str(tmp_path / "a.bam"), "wb", header=header) as file:
        read = pysam.AlignedSegment(file.header)
        read.query_name, read.reference_id, read.reference_start, read.cigarstring = "r", 49_999, 100, "36M"
        file.write(read)
    with_signal = sorted(names[:2_000])  # pybigtools looks through all of a file's chromosomes for each that it reads
    pybigtools.open(str(tmp_path / "a.bw"), "w").write(
        dict.fromkeys(with_signal, 500), ((name, 0, 400, 1.5) for name in with_signal)
    )
    sheet = pd.DataFrame({"biosample": "K", "assay": "A", "file": [str(tmp_path / n) for n in ("a.bam", "a.bw")]})
    regions = pd.DataFrame({"chrom": names, "start": 0, "end": 500})
    adata = io.count_sheet(sheet.assign(kind=["", "pvalue"]), regions=regions, rule="center", progress=False)
    assert adata.to_df()["K.A"].tolist() == [0] * 49_999 + [1]
    expected = [np.arcsinh(1.5)] * 2_000 + [np.nan] * 48_000
    np.testing.assert_allclose(adata.layers["signal"][:, 0], expected, rtol=1e-6)


def test_names_of_the_regions_are_gone_through_once_and_not_for_every_batch(tmp_path, monkeypatch):
    """Lines of fragments name few of many scaffolds in each batch."""
    seen = []
    original = contigs.bare_name
    monkeypatch.setattr(contigs, "bare_name", lambda name: seen.append(name) or original(name))
    monkeypatch.setattr(fragments, "_BATCH", 10)
    names = [f"s{number}" for number in range(1_000)]
    path = tmp_path / "a.bed"
    path.write_text("".join(f"s{number}\t10\t90\n" for number in range(200)))
    adata = io.count_reads(path, genome=pd.Series(100, index=names), bin_size=100, progress=False)
    assert adata.to_df()["a"].tolist() == [1] * 200 + [0] * 800
    assert len(seen) < 10 * len(names)


def test_names_are_matched_once_for_a_file_and_not_for_every_batch(write_bam, monkeypatch):
    calls = []
    original = contigs.match_contigs

    def counted(wanted, found):
        calls.append(1)
        return original(wanted, found)

    for module in (contigs, files, assembly):
        monkeypatch.setattr(module, "match_contigs", counted)
    contig_numbers.cache_clear()
    path = write_bam("a.bam", [(0, "chr1", at, "36M", 60, 0) for at in range(200)], {"chr1": 3_000})
    options = {"genome": pd.Series({"chr1": 3_000}), "bin_size": 100, "progress": False}
    of_one_batch = len(io.count_reads(path, **options)) and len(calls)
    calls.clear()
    contig_numbers.cache_clear()
    monkeypatch.setattr(alignments, "BATCH", 2)
    io.count_reads(path, **options)
    assert len(calls) == of_one_batch > 0


@pytest.mark.parametrize("kind", ["bam", "bigwig", "fragments"])
def test_chromosomes_without_a_region_may_have_any_length(kind, write_bam, tmp_path):
    """hg19 with UCSC's chrM and with the revised Cambridge sequence, one with a decoy."""
    lengths = [{"chr1": 5_000, "chrM": 16_571, "decoy": 70}, {"chr1": 5_000, "chrM": 16_569, "decoy": 90}]
    paths = []
    for number, of_file in enumerate(lengths):
        path = tmp_path / f"{number}.{'bw' if kind == 'bigwig' else 'bed'}"
        if kind == "bam":
            path = write_bam(f"{number}.bam", [(0, "chr1", 100, "36M", 60, 0)], of_file)
        elif kind == "bigwig":
            records = [("chr1", 0, 200, 2.0), ("chrM", 0, of_file["chrM"], 1.0), ("decoy", 0, of_file["decoy"], 1.0)]
            pybigtools.open(str(path), "w").write(of_file, records)
        else:
            path.write_text(f"chr1\t100\t136\nchrM\t16500\t{of_file['chrM']}\ndecoy\t0\t{of_file['decoy']}\n")
        paths.append(str(path))
    sheet = pd.DataFrame(
        {"biosample": ["a", "b"], "assay": "x", "file": paths, "kind": "pvalue" if kind == "bigwig" else ""}
    )
    genome = pd.Series({"chr1": 5_000, "chrM": 16_569, "decoy": 70})
    regions = pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [200]})
    for known in (None, genome):
        adata = io.count_sheet(sheet, regions=regions, genome=known, progress=False)
        assert np.isfinite(adata.layers["signal"]).all() if kind == "bigwig" else (adata.X.sum(axis=1) == 2).all()
    other = pd.DataFrame({"chrom": ["chr1", "chrM"], "start": [0, 0], "end": [200, 200]})
    if kind != "fragments":
        with pytest.raises(ValueError, match=r"chrM has 16,571 bp in .*0\.\w+ and 16,569 bp in .*1\.\w+\. Align"):
            io.count_sheet(sheet, regions=other, progress=False)
    with pytest.raises(ValueError, match=r"0\.\w+ is of another assembly"):
        io.count_sheet(sheet, regions=other, genome=genome, progress=False)


def test_regions_and_a_genome_may_spell_chromosomes_differently(write_bam):
    records = [(0, "chr1", at, "36M", 60, 0) for at in (100, 130, 460)]
    path = write_bam("a.bam", records, {"chr1": 900, "chr2": 700})
    regions = pd.DataFrame({"chrom": ["1", "1"], "start": [0, 400], "end": [300, 700]})
    options = {"rule": "five_prime", "progress": False}
    for genome in ({"chr1": 900, "chr2": 700}, {"1": 900, "2": 700}):
        adata = io.count_reads(path, regions, genome=pd.Series(genome), **options)
        assert adata.to_df().to_numpy()[:, 0].tolist() == [2, 1]
    with pytest.raises(ValueError, match=re.escape("a.bam is of another assembly: its chr1 has 900 bp, that of the")):
        io.count_reads(path, regions, genome=pd.Series({"chr1": 910}), **options)
    with pytest.raises(ValueError, match=r"regions must lie within the genome; one ends at 1:700, 1 at 600"):
        io.count_reads(path, regions, genome=pd.Series({"chr1": 600}), **options)
    with pytest.raises(ValueError, match=r"chromosomes of the genome, which has no 1; it has chr7\. Are they named"):
        io.count_reads(path, regions, genome=pd.Series({"chr7": 600}), **options)
