"""The command that counts a sample sheet: what it prints, what it writes, and what it refuses."""

import gzip
import warnings

import anndata
import numpy as np
import pysam
import pytest
from click.testing import Result
from typer.testing import CliRunner

from chipvi.cli.app import app
from chipvi.cli.count import describe

SIZES = {"chr1": 1_000, "chr2": 650}
PLACES = ("--genome", "genome.sizes", "--bin", "100")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A sheet with two files of reads, in the current folder; one read in five is a duplicate."""
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": length} for name, length in SIZES.items()]}
    for name, step in (("a", 10), ("b", 25)):
        with pysam.AlignmentFile(str(tmp_path / f"{name}.bam"), "wb", header=header) as file:
            for number, start in enumerate(range(0, 500, step)):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.reference_name, read.reference_start = f"r{number}", "chr1", start
                read.cigarstring, read.mapping_quality, read.flag = "30M", number % 40, 1024 * (number % 5 == 0)
                file.write(read)
    (tmp_path / "genome.sizes").write_text("".join(f"{name}\t{length}\n" for name, length in SIZES.items()))
    (tmp_path / "sheet.tsv").write_text("biosample\tassay\tfile\nK562\tATAC\ta.bam\nH1\tInput\tb.bam\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.startswith(("K562.", "H1."))}


@pytest.mark.parametrize("name", ["data.h5ad", "data.zarr"])
def test_count_prints_a_row_per_track_and_writes_what_it_says(folder, name):
    result = call("count", "sheet.tsv", *PLACES, "--rule", "five_prime", "-o", name)
    assert result.exit_code == 0, result.output
    assert table(result.output) == {"K562.ATAC": ["50", "40", "40", "68.8%"], "H1.Input": ["20", "16", "16", "68.8%"]}
    assert f"Wrote: {name}, 16 regions x 2 tracks." in result.output
    adata = (anndata.read_h5ad if name.endswith("h5ad") else anndata.read_zarr)(folder / name)
    assert adata.var["depth"].tolist() == [40, 16] and adata.var["is_control"].tolist() == [False, True]
    assert np.ravel(adata.X.sum(axis=0)).tolist() == [40, 16]


def test_count_prints_what_each_file_was_read_as(folder):
    (folder / "reads.bed").write_text("chr1\t10\t46\tr\t0\t+\n")
    (folder / "x_fragments.tsv").write_text("chr1\t10\t46\tACGT\t1\t+\n")
    (folder / "sheet.tsv").write_text(
        "biosample\tassay\tfile\nK562\tA\ta.bam\nH1\tA\treads.bed\nH1\tB\tx_fragments.tsv\nK562\tB\tb.bam\n"
    )
    result = call("count", "sheet.tsv", *PLACES, "-o", "data.h5ad")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("Read as")]
    assert lines == ["Read as BAM: K562.A, K562.B.", "Read as reads: H1.A.", "Read as fragments: H1.B."]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_counting_warns_of_is_a_line_without_a_place_in_the_code(folder, more):
    (folder / "black.bed").write_text("chr7\t250\t320\n")
    (folder / "regions.bed").write_text("chr1\t1\t200\nchr1\t201\t400\nchr1\t401\t600\n")
    options = ["--regions", "regions.bed", "--blacklist", "black.bed", "-o", "data.h5ad", *more]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        shown = warnings.showwarning
        result = call("count", "sheet.tsv", *options)
        assert warnings.showwarning is shown
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    of_regions, of_blacklist = (line for line in lines if line.startswith("Warning"))
    assert of_regions.startswith("Warning: 2 of 2 regions start one past the end of the region before")
    assert of_blacklist.startswith("Warning: the blacklist leaves out no region: it names chr7, and the regions lie on")
    assert ".py" not in result.stderr and "warnings.warn" not in result.stderr


def test_with_debug_a_warning_names_its_place(folder):
    (folder / "black.bed").write_text("chr7\t250\t320\n")
    with pytest.warns(UserWarning, match="the blacklist leaves out no region"):
        result = call("--debug", "count", "sheet.tsv", *PLACES, "--blacklist", "black.bed", "-o", "data.h5ad")
    assert result.exit_code == 0, result.output
    assert "Warning:" not in result.stderr


def test_options_reach_the_counting(folder):
    arguments = [
        "--duplicates",
        "--min-mapq",
        "10",
        "--chromosomes",
        "chr1",
        "--strand-shift",
        "4",
        "-5",
        "--rule",
        "center",
    ]
    result = call("count", "sheet.tsv", *PLACES, *arguments, "--workers", "1", "-o", "data.h5ad")
    assert result.exit_code == 0, result.output
    adata = anndata.read_h5ad(folder / "data.h5ad")
    assert adata.n_obs == 10
    assert adata.var["depth"].tolist() == [30, 10]  # of numbers 0 to 49 and 0 to 19, those whose MAPQ is 10 or more
    counting = adata.uns["chipvi_counting"]
    assert (counting["rule"], counting["min_mapq"], list(counting["strand_shift"])) == ("center", 10, [4, -5])


def test_regions_of_a_bed_file_and_merged_replicates(folder):
    (folder / "sheet.tsv").write_text("biosample\tassay\tfile\treplicate\nK\tA\ta.bam\t1\nK\tA\tb.bam\t2\n")
    (folder / "r.bed").write_text("chr1\t0\t250\nchr2\t0\t100\n")
    result = call("count", "sheet.tsv", "--regions", "r.bed", "--merge-replicates", "--duplicates", "-o", "data.h5ad")
    assert result.exit_code == 0, result.output
    adata = anndata.read_h5ad(folder / "data.h5ad")
    assert adata.shape == (2, 1) and adata.var["depth"].tolist() == [70]


def test_a_dry_run_tells_the_size_and_writes_nothing(folder):
    before = set(folder.iterdir())
    result = call("count", "sheet.tsv", *PLACES, "-o", "data.h5ad", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "Would write: data.h5ad, 16 regions on 2 chromosomes x 2 tracks." in result.output
    unwrapped = result.output.replace("\n", "").replace(" ", "")
    assert "a.bam" in unwrapped and "b.bam" in unwrapped and "H1.Input(control)" in unwrapped
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("none.csv", *PLACES, "-o", "data.h5ad"), "there is no sample sheet none.csv", 2),
        (("sheet.tsv", *PLACES, "-o", "data.csv"), "must end in .h5ad or .zarr; got 'data.csv'", 2),
        (("sheet.tsv", *PLACES, "-o", "old.h5ad"), "old.h5ad exists already", 1),
        (("sheet.tsv", *PLACES, "-o", "none/data.h5ad"), "none is no folder", 1),
        (("sheet.tsv", "-o", "data.h5ad"), "say where to count", 2),
        (
            ("sheet.tsv", "--genome", "hg38", "--bin", "9000", "--chromosomes", "chr1,chr2", "-o", "data.h5ad"),
            "is of another assembly",
            2,
        ),
        (("sheet.tsv", *PLACES, "--blacklist", "none.bed", "-o", "data.h5ad"), "there is no none.bed", 2),
        (("peaks.tsv", *PLACES, "-o", "data.h5ad"), "holds peaks, which are no reads", 2),
        (("sheet.tsv", "--regions", "utf16.bed", "-o", "data.h5ad"), "utf16.bed cannot be read as a BED file", 2),
        (("sheet.tsv", *PLACES, "--rule", "middle", "-o", "data.h5ad"), "rule must be one of five_prime, shifted", 2),
        (("sheet.tsv", *PLACES, "--min-mapq", "256", "-o", "data.h5ad"), "min_mapq must be at most 255; it is 256", 2),
        (
            ("sheet.tsv", *PLACES, "--fragment-length", f"{2**41}", "-o", "data.h5ad"),
            "fragment_length must be at most 1099511627776 bp",
            2,
        ),
        (
            ("sheet.tsv", *PLACES, "--strand-shift", "4", f"-{2**41}", "-o", "data.h5ad"),
            "strand_shift must be at least -1099511627776 bp",
            2,
        ),
        (
            ("fragments.tsv", *PLACES, "--rule", "five_prime", "-o", "data.h5ad"),
            "atac_fragments.tsv.gz gives no strand in its sixth column, and rule 'five_prime' needs it",
            2,
        ),
        (
            ("sheet.tsv", "--bin", "200", "--regions", "r.bed", "--append", "-o", "old.zarr"),
            "in the regions of the store; leave out --regions, --bin.",
            2,
        ),
    ],
)
def test_errors_take_one_line_and_leave_nothing(folder, arguments, message, code, dry_run):
    (folder / "old.h5ad").touch()
    (folder / "utf16.bed").write_bytes("chr1\t0\t9\n".encode("utf-16"))
    with gzip.open(folder / "atac_fragments.tsv.gz", "wt") as file:
        file.write("chr1\t9\t90\tACGT\t1\n")
    (folder / "fragments.tsv").write_text("biosample\tassay\tfile\nK562\tATAC\tatac_fragments.tsv.gz\n")
    (folder / "peaks.bed").write_text("chr1\t9\t90\tp\t0\t.\t5.2\t3.1\t2.0\t40\n")
    (folder / "peaks.tsv").write_text("biosample\tassay\tfile\nK562\tATAC\tpeaks.bed\n")
    before = set(folder.iterdir())
    result = call("count", *arguments, *dry_run)
    assert result.exit_code == code
    assert result.output.startswith("Error: ") and message in result.output and result.output.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_debug_shows_where_an_error_was_raised_and_only_where_asked():
    result = call("--debug", "count", "none.csv", *PLACES, "-o", "data.h5ad")
    assert isinstance(result.exception, ValueError)
    assert isinstance(call("count", "none.csv", *PLACES, "-o", "data.h5ad").exception, SystemExit)


def test_a_track_without_counts_has_none_to_tell():
    adata = anndata.AnnData(np.array([[0, 0], [3, 0], [0, 0], [4, 0]], dtype=np.int32))
    adata.var["depth"], adata.var["n_records"] = [9.0, np.nan], [11.0, np.nan]
    adata.layers["signal"] = np.array([[np.nan, 1.0]] * 4, dtype=np.float32)
    told = describe(adata)
    assert told.iloc[0].tolist() == [11, 9, 7, 0.5, 0]
    assert told.iloc[1, :4].isna().all() and told["signal"].iloc[1] == 1
