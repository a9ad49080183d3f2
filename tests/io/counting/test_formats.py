"""What a text of reads is: decided once, held to in every line, and the same in whatever batches it is read."""

import gzip

import numpy as np
import pandas as pd
import pytest

from chipvi import io
from chipvi.io.counting import fragments
from chipvi.io.counting.formats import find_source

SIZES = {"chr1": 5_000, "chr2": 3_000}


def written(folder, name, lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


def count(path, **options):
    options = {"genome": pd.Series(SIZES), "bin_size": 100, "progress": False} | options
    adata = io.count_reads(path, **options)
    counts = adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()
    return counts[:, 0].tolist(), adata.var.iloc[0]


def bins_of(places):
    """How many places lie in each bin of 100 bp, one by one."""
    bins = [(chrom, start) for chrom, length in SIZES.items() for start in range(0, length, 100)]
    return [sum(c == chrom and start <= at < start + 100 for c, at in places) for chrom, start in bins]


def random_places(number, seed=0):
    rng = np.random.default_rng(seed)
    chroms = rng.choice(list(SIZES), number)
    starts = [int(rng.integers(0, SIZES[chrom] - 450)) for chrom in chroms]
    return [
        (str(c), s, s + int(rng.integers(30, 450)), str(rng.choice(["+", "-"])))
        for c, s in zip(chroms, starts, strict=True)
    ]


PLACES = random_places(61)
MIDDLES = [(c, (s + e) // 2) for c, s, e, _ in PLACES]
SHIFTED = [(c, s + 75 if strand == "+" else e - 1 - 75) for c, s, e, strand in PLACES]
BARCODE = "ACGTACGTACGTACGT-1"
# name, kind, a line for a place, format, where it counts
FORMATS = [
    ("a_fragments.tsv.gz", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\t{BARCODE}", "fragments", MIDDLES),
    ("a_fragments.tsv.gz", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\t{BARCODE}\t2", "fragments", MIDDLES),
    ("atac_fragments.tsv.gz", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\t{BARCODE}\t2\t{d}", "fragments", MIDDLES),
    ("a.fragments.sorted.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\t{BARCODE}\t2\t{d}", "fragments", MIDDLES),
    ("a.tsv", "fragments", lambda c, s, e, d: f"{c}\t{s}\t{e}\t{BARCODE}\t2\t{d}", "fragments", MIDDLES),
    ("a.bed", "fragments", lambda c, s, e, d: f"{c}\t{s}\t{e}\tr\t.\t{d}", "fragments", MIDDLES),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}", "fragments", MIDDLES),
    ("a.bed.gz", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tname", "fragments", MIDDLES),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tname\t.", "fragments", MIDDLES),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tname\t0\t.", "fragments", MIDDLES),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tname\t.\t{d}", "reads", SHIFTED),
    ("a.bed", "alignments", lambda c, s, e, d: f"{c}\t{s}\t{e}\tname\t37\t{d}", "reads", SHIFTED),
    ("a.bed", "alignments", lambda c, s, e, d: f"{c}\t{s}\t{e}\t{BARCODE}\t37\t{d}", "reads", SHIFTED),
    ("a.tagAlign.gz", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tN\t1000\t{d}", "reads", SHIFTED),
    ("a.tagAlign", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tACGTACGTACGTACGT\t1000\t{d}", "reads", SHIFTED),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tr/1\t37\t{d}\t{e - s}M", "reads", SHIFTED),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tr\t0\t{d}\t{s}\t{e}\t0\t1\t{e - s},\t0,", "reads", SHIFTED),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tr\t0\t{d}\t{s}\t{e}\t0", "reads", SHIFTED),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{e}\tr\t0\t{d}\tnote\t5.0\t2.0", "reads", SHIFTED),
    ("a.bed", None, lambda c, s, e, d: f"{c}\t{s}\t{s + 20}\t{c}\t{e - 25}\t{e}\tr\t60\t+\t-", "pairs", MIDDLES),
    ("a.bedpe", None, lambda c, s, e, d: f"{c}\t{e - 25}\t{e}\t{c}\t{s}\t{s + 20}\tr\t60\t-\t+", "pairs", MIDDLES),
    ("a.bedpe.gz", None, lambda c, s, e, d: f"{c}\t{s}\t{s + 20}\t{c}\t{e - 25}\t{e}", "pairs", MIDDLES),
    ("a_fragments.bed", "fragments", lambda c, s, e, d: f"{c}\t{s}\t{e}\t{c}\t{s}\t{e}", "pairs", MIDDLES),
]


@pytest.mark.parametrize("batch", [1, 7, 1 << 18])
@pytest.mark.parametrize(("name", "kind", "line", "found", "places"), FORMATS)
def test_every_format_counts_where_its_lines_lie_in_whatever_batches(
    name, kind, line, found, places, batch, tmp_path, monkeypatch
):
    monkeypatch.setattr(fragments, "_BATCH", batch)
    path = written(tmp_path, name, [line(*place) for place in PLACES])
    counts, var = count(path, kind=kind)
    assert counts == bins_of(places) and sum(counts) > 50
    assert var["format"] == found and var["depth"] == var["n_records"] == 61


@pytest.mark.parametrize("batch", [1, 7, 1 << 18])
def test_pairs_without_a_mate_or_on_two_chromosomes_are_dropped_and_counted(batch, tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "_BATCH", batch)
    lines = [f"{c}\t{s}\t{s + 20}\t{c}\t{e - 25}\t{e}\tr\t60\t+\t-" for c, s, e, _ in PLACES]
    broken = [
        ".\t-1\t-1\tchr1\t700\t736\tr\t0\t.\t+",
        "chr1\t700\t736\t.\t-1\t-1\tr\t0\t+\t.",
        ".\t-1\t-1\t.\t-1\t-1\tr\t0\t.\t.",
        "chr1\t700\t736\tchr2\t900\t936\tr\t60\t+\t-",
    ]
    counts, var = count(written(tmp_path, "a.bed", [broken[0], *lines[:9], *broken, *lines[9:]]))
    assert counts == bins_of(MIDDLES)
    assert var[["depth", "n_records", "dropped_improper_pair"]].tolist() == [61, 66, 5]


def test_headers_of_cell_ranger_are_skipped_and_tell_fragments_by_any_name(tmp_path):
    header = ["# id=x", "# pipeline_name=cellranger-arc", "# primary_contig=chr1", "# primary_contig=chr2"]
    lines = [f"{c}\t{s}\t{e}\t{BARCODE}\t1\t{d}" for c, s, e, d in PLACES]
    for name, first in (("b.tsv.gz", header), ("b_fragments.tsv", ["chrom\tstart\tend\tbarcode\tcount\tstrand"])):
        counts, var = count(written(tmp_path, name, [*first, *lines]))
        assert counts == bins_of(MIDDLES) and var["format"] == "fragments"


def test_bed_files_of_fragments_that_were_joined_may_have_comments_and_other_names_between(tmp_path, monkeypatch):
    lines = [f"{c}\t{s}\t{e}" for c, s, e, _ in PLACES]
    joined = ["track name=one", *lines[:20], "# two", "browser hide all", *(f"{line}\tname" for line in lines[20:])]
    for batch in (7, 1 << 18):
        monkeypatch.setattr(fragments, "_BATCH", batch)
        assert count(written(tmp_path, "a.bed", joined))[0] == bins_of(MIDDLES)


PLACE, FRAGMENT = "chr1\t9\t90", "chr1\t9\t90\tname"
READ, NO_STRAND = "chr1\t9\t90\tr\t0\t+", "chr1\t9\t90\tr\t0\t."
PAIR = "chr1\t9\t50\tchr1\t80\t120\tr\t60\t+\t-"


@pytest.mark.parametrize("batch", [1, 7, 1 << 18])
@pytest.mark.parametrize(
    ("first", "other", "message"),
    [
        pytest.param(PLACE, READ, "fragments.* it has 6 columns, where the first line had none", id="3, 6"),
        pytest.param(FRAGMENT, READ, "fragments.* it has 6 columns, where the first line had none", id="4, 6"),
        pytest.param(FRAGMENT, PAIR, "fragments.* it has 10 columns", id="fragments, pairs"),
        pytest.param(READ, FRAGMENT, "reads.* it has 4 columns, and reads need 6", id="6, 4"),
        pytest.param(READ, NO_STRAND, "reads.* column 6 must be \\+ or -, as in the first line", id="strand, none"),
        pytest.param(NO_STRAND, READ, "fragments.* column 6 must be \\., as in the first line", id="no strand, one"),
        pytest.param(READ, PAIR, "reads.* column 6 must be \\+ or -", id="reads, pairs"),
        pytest.param(PAIR, READ, "pairs.* it does not hold chromosome, start and end twice", id="pairs, reads"),
        pytest.param(PAIR, FRAGMENT, "pairs.* it has 4 columns, and pairs need 6", id="pairs, fragments"),
    ],
)
def test_a_later_line_of_another_format_is_refused_with_its_number(first, other, message, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "_BATCH", batch)
    path = written(tmp_path, "a.bed", ["# one", *[first] * 20, "# two", other, first])
    with pytest.raises(ValueError, match=rf"a\.bed must hold {message}") as error:
        count(path)
    assert "as line 2 does; line 23 is " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "kind", "line", "message"),
    [
        ("a.bed", None, "chr1\t9\t90\tpeak1\t100\t.\t5.2\t3.1\t2.0\t40", "holds peaks, which are no reads"),
        ("a.bed", None, "chr1\t9\t90\t.\t0\t.\t182\t5.0945\t-1\t50", "holds peaks, which are no reads"),
        ("a.bed", "fragments", "chr1\t9\t90\tpeak1\t100\t.\t5.2\t3.1\t2.0", "holds peaks, which are no reads"),
        ("a.bed", None, "chr1\t9\t90\t0.35", "holds a signal, as bedGraph"),
        ("a.bed", None, "chr1\t9\t90\tx\t0\t17", "whose column 6 is no strand"),
        ("a.txt", None, "chr1\tsource\texon\t9\t90\t.\t+", "it holds no chromosome, start and end"),
        ("a.bed", "alignments", "chr1\t9\t90\tx", "must have a strand, \\+ or -, in column 6"),
        ("a.bed", "alignments", "chr1\t9\t90\tx\t0\t.", "must have a strand, \\+ or -, in column 6"),
        ("a.tagAlign", None, "chr1\t9\t90\tN\t1000\t.", "must have a strand, \\+ or -, in column 6"),
        ("a_fragments.tsv", "alignments", READ, "holds fragments by its name or header, but its kind is alignments"),
        ("a.tsv", None, READ, "may hold reads or fragments.* Give its kind"),
        ("a.bed", None, f"chr1\t9\t90\t{BARCODE}\t1\t+", "may hold reads or fragments.* Give its kind"),
        ("a.bed", None, "chr1\t9\t90\tlung#ACGTACGTACGTAC-1\t1\t+", "may hold reads or fragments.* Give its kind"),
        ("a.bed", "peaks", READ, "kind must be alignments or fragments; it is 'peaks'"),
    ],
)
def test_what_is_neither_read_nor_fragment_or_contradicts_itself_is_refused(name, kind, line, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        count(written(tmp_path, name, [line] * 3), kind=kind)
    assert "\n" not in str(error.value)


SECOND_PLACE = "chr1\t9\t50\tchr2\t80\t120"


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("a.bed", f"{SECOND_PLACE}\tr\t60\t+\t-", "pairs"),
        ("a.bed", f"{SECOND_PLACE}\tr\t60\t+", "column 6 is no strand"),
        ("a.bed", f"{SECOND_PLACE}\tr\t60\t+\t.", "pairs"),
        ("a.bed", f"{SECOND_PLACE}\tr\t60\t.\t-", "pairs"),
        ("a.bed", f"{SECOND_PLACE}\tr\t60\t+\t.", "pairs"),
        ("a.bed", SECOND_PLACE, "column 6 is no strand"),
        ("a.bedpe", SECOND_PLACE, "pairs"),
        ("a.bed", "chr1\t9\t50\tchr1\t80\t120", "pairs"),
        ("a.bed", "chr1\t9\t50\t.\t-1\t-1", "pairs"),
        ("a.bed", ".\t-1\t-1\tchr1\t9\t50", "pairs"),
        ("a.bedpe", "chr1\t9\t50\tchr1\t80\tx", "column 6 is no strand"),
        ("a.bed", f"{READ}\t9\t90\t0", "reads"),
        ("a.bed", f"{READ}\t20\t80\t0", "reads"),
        ("a.bed", f"{READ}\t8\t90\t0", "peaks"),
        ("a.bed", f"{READ}\t9\t91\t0", "peaks"),
        ("a.bed", f"{READ}\t80\t20\t0", "peaks"),
        ("a.bed", f"{READ}\t5.2\t20\t2\t30", "peaks"),
        ("a.bed", f"{READ}\t8\t20", "reads"),
        ("a.bed", f"{READ}\t8\t20\t0\t30\t2", "reads"),
        ("a.bed", f"{READ}\t8\t20\tred", "reads"),
    ],
)
def test_columns_that_mark_pairs_and_peaks(name, line, found, tmp_path):
    path = written(tmp_path, name, [line])
    if found in ("pairs", "reads"):
        assert find_source(path, None).format == found
    else:
        with pytest.raises(ValueError, match=found):
            find_source(path, None)


def test_alignments_that_are_called_fragments_are_refused(write_bam):
    path = write_bam("a.bam", [(0, "chr1", 100, "36M", 60, 0)], SIZES)
    assert find_source(path, "alignments").format == "BAM"
    with pytest.raises(ValueError, match=r"a\.bam holds alignments, not fragments"):
        find_source(path, "fragments")


@pytest.mark.parametrize("batch", [7, 1 << 18])
@pytest.mark.parametrize("order", ["X first", "chrX first", "mixed"])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a.bed", "{c}\t{s}\t{e}\tr\t0\t+"),
        ("a.tagAlign", "{c}\t{s}\t{e}\tN\t1000\t-"),
        ("a_fragments.tsv", "{c}\t{s}\t{e}\tB\t1"),
        ("a.bedpe", "{c}\t{s}\t{e}\t{c}\t{s}\t{e}\tr\t9\t+\t-"),
    ],
)
def test_x_of_a_spike_in_is_never_chrx_wherever_batches_end(name, line, order, batch, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fragments, "_BATCH", batch)
    rng = np.random.default_rng(0)
    human, fly = ([(c, int(s)) for s in rng.integers(0, 900, n)] for c, n in (("chrX", 53), ("X", 41)))
    places = fly + human if order == "X first" else human + fly
    if order == "mixed":
        places = [places[at] for at in rng.permutation(len(places))]
    path = written(tmp_path, name, [line.format(c=c, s=s, e=s + 10) for c, s in places])
    # reads of the fly lie where the blacklist of chrX does, and count in the depth
    adata = io.count_reads(
        path,
        genome=pd.Series({"chrX": 910, "chr2": 500}),
        bin_size=130,
        rule="center",
        blacklist=pd.DataFrame({"chrom": ["chrX"], "start": [0], "end": [65]}),
        progress=False,
    )
    middles = [s + 5 for _, s in human]
    expected = [sum(start <= at < start + 130 for at in middles) for start in range(130, 910, 130)] + [0] * 3
    assert np.ravel(adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()).tolist() == expected
    in_blacklist = sum(at < 65 for at in middles)
    assert adata.var[["depth", "dropped_blacklisted"]].iloc[0].tolist() == [94 - in_blacklist, in_blacklist]
    assert not caplog.records


def test_names_are_listed_in_the_order_of_the_lines_wherever_batches_end(tmp_path, monkeypatch):
    chroms = ["MT", "chr2", "M", "chr1", "MT", "chr10", "chr1", "A"]
    path = written(tmp_path, "a.bed", [f"{chrom}\t1\t9" for chrom in chroms])
    for batch in (1, 3, 1 << 18):
        monkeypatch.setattr(fragments, "_BATCH", batch)
        *_, last = fragments.read_fragments(find_source(path))
        assert last.reads.contigs == ("MT", "chr2", "M", "chr1", "chr10", "A")


def test_a_long_chromosome_of_a_spike_in_does_not_make_another_assembly(tmp_path, monkeypatch):
    monkeypatch.setattr(fragments, "_BATCH", 7)
    genome = pd.Series({"chrX": 500})
    lines = ["X\t800\t836\tr\t0\t+"] * 20 + ["chrX\t100\t136\tr\t0\t+"] * 9
    assert count(written(tmp_path, "a.bed", lines), genome=genome, rule="center")[0] == [0, 9, 0, 0, 0]
    with pytest.raises(ValueError, match=r"another assembly.*it has X:800-836, where the chromosome has 500 bp"):
        count(written(tmp_path, "b.bed", lines[:20]), genome=genome)


def test_one_spelling_alone_is_still_taken_for_the_other(tmp_path, caplog):
    lines = [f"{c.removeprefix('chr')}\t{s}\t{e}\tr\t0\t{d}" for c, s, e, d in PLACES]
    assert count(written(tmp_path, "a.bed", lines))[0] == bins_of(SHIFTED)
    assert "such as 1 for chr1 (and 1 more)" in caplog.text or "such as 2 for chr2 (and 1 more)" in caplog.text


def test_formats_of_replicates_stand_side_by_side_and_are_stored(tmp_path, write_bam):
    reads = written(tmp_path, "a.bed", [READ] * 3)
    whole = written(tmp_path, "b_fragments.tsv", [FRAGMENT] * 2)
    bam = write_bam("c.bam", [(0, "chr1", 100, "36M", 60, 0)], SIZES)
    tracks = {"both": [reads, whole], "bam": bam}
    adata = io.count_reads(tracks, genome=pd.Series(SIZES), bin_size=500, processes=2, progress=False)
    assert adata.var["depth"].tolist() == [5, 1]
    assert adata.var["format"].tolist() == ["reads;fragments", "BAM"]
    adata.write_h5ad(tmp_path / "a.h5ad")


def test_the_kind_of_a_sheet_decides_and_is_found_where_it_is_empty(tmp_path):
    for name in ("a.bed", "b.bed"):
        written(tmp_path, name, [f"{c}\t{s}\t{e}\tr\t0\t{d}" for c, s, e, d in PLACES])
    written(tmp_path, "c.bed", [f"{c}\t{s}\t{e}" for c, s, e, _ in PLACES])
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("biosample,assay,file,kind\nK,A,a.bed,\nK,B,b.bed,fragments\nK,C,c.bed,\n")
    assert io.read_sheet(sheet)["kind"].tolist() == ["alignments", "fragments", "fragments"]
    adata = io.count_sheet(sheet, genome=pd.Series(SIZES), bin_size=100, progress=False)
    assert adata.var["format"].tolist() == ["reads", "fragments", "fragments"]
    counts = adata.to_df().astype(int)
    assert counts["K.A"].tolist() == bins_of(SHIFTED)
    assert counts["K.B"].tolist() == counts["K.C"].tolist() == bins_of(MIDDLES)
    sheet.write_text("biosample,assay,file,kind\nK,C,c.bed,alignments\n")
    with pytest.raises(ValueError, match=r"c\.bed must have a strand"):
        io.count_sheet(sheet, genome=pd.Series(SIZES), bin_size=100, progress=False)
    written(tmp_path, "d.bed", [f"chr1\t9\t90\t{BARCODE}\t1\t+"])
    sheet.write_text("biosample,assay,file\nK,C,d.bed\n")
    with pytest.raises(ValueError, match=r"sheet\.csv: line 2 has no kind, .*d\.bed may hold reads or fragments"):
        io.read_sheet(sheet)
