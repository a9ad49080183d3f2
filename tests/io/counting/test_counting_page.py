"""What docs/counting.md says of chipvi, where no other test holds it."""

import anndata
import numpy as np
import pandas as pd
import pybigtools
import pytest

import chipvi
from chipvi import io

LENGTHS = {"chr7": 5_000}
BASES = pd.DataFrame({"chrom": "chr7", "start": range(5_000), "end": range(1, 5_001)})
READ_ON_MINUS = [(16, "chr7", 2_000, "36M", 37, 0)]  # 2,000 to 2,036
PAIR = [(99, "chr7", 2_000, "36M", 37, 180), (147, "chr7", 2_144, "36M", 37, -180)]  # 2,000 to 2,180


def places(file, **options):
    """Where the reads of a file count, each by its base."""
    counts = io.count_reads(file, BASES, progress=False, **options).to_df().to_numpy()[:, 0]
    return np.flatnonzero(counts).tolist()


@pytest.mark.parametrize(
    ("records", "options", "expected"),
    [
        pytest.param(READ_ON_MINUS, {"fragment_length": 200}, [2_035 - 100], id="ChIP-seq, single-end"),
        pytest.param(PAIR, {}, [2_090], id="ChIP-seq, paired-end"),
        pytest.param(PAIR, {"strand_shift": (4, -5)}, [(2_004 + 2_175) // 2], id="ATAC-seq, paired-end"),
        pytest.param(
            READ_ON_MINUS, {"rule": "five_prime", "strand_shift": (4, -5)}, [2_035 - 5], id="ATAC-seq, single-end"
        ),
        pytest.param(READ_ON_MINUS, {"rule": "five_prime"}, [2_035], id="DNase-seq"),
        pytest.param(PAIR, {"rule": "overlap"}, list(range(2_000, 2_180)), id="to compare"),
    ],
)
def test_the_rule_for_each_assay_counts_where_the_page_says(records, options, expected, write_bam):
    assert places(write_bam("a.bam", records, LENGTHS), **options) == expected


def test_fragments_of_single_cells_need_no_shift(tmp_path):
    (tmp_path / "fragments.tsv").write_text("chr7\t2004\t2175\tAAAC-1\t3\n")
    assert places(tmp_path / "fragments.tsv") == [(2_004 + 2_175) // 2]


def test_ends_given_as_reads_count_both_cuts_of_a_pair(write_bam, tmp_path):
    (tmp_path / "cuts.bed").write_text("chr7\t2000\t2036\tp/1\t37\t+\nchr7\t2144\t2180\tp/2\t37\t-\n")
    options = {"rule": "five_prime", "strand_shift": (4, -5)}
    assert places(tmp_path / "cuts.bed", **options) == [2_004, 2_174]
    assert places(write_bam("pair.bam", PAIR, LENGTHS), **options) == [2_004]


def test_a_mapping_quality_that_is_not_known_passes(write_bam):
    records = [(0, "chr7", 100, "36M", 255, 0), (0, "chr7", 300, "36M", 29, 0)]
    assert places(write_bam("a.bam", records, LENGTHS), rule="five_prime", min_mapq=30) == [100]


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("alignments", "a.bam", "alignments"),
        ("unfiltered alignments", "a.bam", "alignments"),
        ("signal p-value", "a.bigWig", "pvalue"),
        ("fold change over control", "a.bigWig", "fold_change"),
        ("read-depth normalized signal", "a.bigWig", None),
        ("alignments", "a.bigWig", None),
    ],
)
def test_a_sheet_may_use_the_names_of_encode_and_nothing_passes_for_counts(name, file, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).touch()
    (tmp_path / "sheet.csv").write_text(f"biosample,assay,file,kind\nK562,DNase,{file},{name}\n")
    if kind is None:
        with pytest.raises(ValueError, match="kind"):
            io.read_sheet("sheet.csv")
    else:
        assert io.read_sheet("sheet.csv")["kind"].tolist() == [kind]


def test_two_sheets_with_a_rule_each_stand_side_by_side(write_bam, tmp_path):
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 4_900, (3, 400))
    files = [
        write_bam(f"{number}.bam", [(0, "chr7", int(at), "36M", 37, 0) for at in sorted(row)], LENGTHS)
        for number, row in enumerate(starts)
    ]
    pybigtools.open(str(tmp_path / "p.bigWig"), "w").write(LENGTHS, [("chr7", 0, 4_000, 2.0)])
    marks = pd.DataFrame(
        {
            "biosample": ["A", "B", "B"],
            "assay": "H3K4me3",
            "file": [files[0], files[1], tmp_path / "p.bigWig"],
            "kind": ["", "", "pvalue"],
        }
    )
    cuts = pd.DataFrame({"biosample": ["A"], "assay": "DNase", "file": files[2:]})
    regions = pd.DataFrame({"chrom": ["chr7"], "start": [0], "end": [5_000]})
    options = {"regions": regions, "bin_size": 50, "progress": False}
    chip, dnase = io.count_sheet(marks, **options), io.count_sheet(cuts, rule="five_prime", **options)
    counts = anndata.concat([chip, dnase], axis="var", join="outer", merge="same")
    assert counts.shape == (100, 3)
    expected = np.histogram(starts[2], bins=np.arange(0, 5_001, 50))[0]
    np.testing.assert_array_equal(counts.to_df()["A.DNase"], expected)
    assert counts.to_df("signal").notna().mean().to_dict() == {"A.H3K4me3": 0, "B.H3K4me3": 0.8, "A.DNase": 0}
    names = {"observed_layer": "observed", "signal_layer": "signal", "depth_key": "depth", "control_key": "is_control"}
    chipvi.ChipVI.setup_anndata(counts, **names)


@pytest.mark.parametrize(("width", "number"), [(200, 15_441_337), (25, 123_530_780)])
def test_hg38_has_as_many_bins_as_the_page_says(width, number):
    sizes = io.chrom_sizes("hg38")
    main = [f"chr{name}" for name in [*range(1, 23), "X", "Y"]]
    assert (sizes[main] // width).sum() == number
