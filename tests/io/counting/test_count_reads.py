import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from chipvi import io
from chipvi.io.counting import count as counting
from chipvi.io.counting import files
from chipvi.io.counting.alignments import DROPPED
from chipvi.io.counting.regions import RegionCounter, Regions
from chipvi.io.counting.rules import RULES, Reads

LENGTHS = {"chr1": 3_000, "chr2": 1_700, "chrM": 400}


def count(*args, **kwargs):
    return io.count_reads(*args, progress=False, **kwargs)


def dense(adata):
    return adata.X.toarray() if sp.issparse(adata.X) else adata.X


def regions_of(*places):
    return pd.DataFrame(places, columns=["chrom", "start", "end"])


def random_records(n, seed, lengths=LENGTHS):
    """Single reads of 36 bp on both strands, at the ends of chromosomes too, in no order."""
    rng = np.random.default_rng(seed)
    names = list(lengths)
    records = []
    for _ in range(n):
        chrom = names[rng.integers(len(names))]
        start = int(rng.choice([0, lengths[chrom] - 36, rng.integers(lengths[chrom] - 36)], p=[0.05, 0.05, 0.9]))
        records.append((int(rng.choice([0, 16])), chrom, start, "36M", int(rng.integers(61)), 0))
    return records


def covered_by_rule(rule, flag, start, end, half=75):
    """First and last base that count, by the words of the docstring."""
    if rule == "overlap":
        return start, end - 1
    if rule == "center":
        return (start + end) // 2, (start + end) // 2
    five_prime = end - 1 if flag & 16 else start
    towards_3_prime = -1 if flag & 16 else 1
    at = five_prime + (half * towards_3_prime if rule == "shifted" else 0)
    return at, at


def brute_force(records, regions, rule):
    counts = np.zeros(len(regions), dtype=int)
    for flag, chrom, start, _, _, _ in records:
        first, last = covered_by_rule(rule, flag, start, start + 36)
        for row, region in enumerate(regions.itertuples()):
            counts[row] += region.chrom == chrom and first < region.end and last >= region.start
    return counts


def real_bins(bam):
    runs = pd.read_csv(bam / "contigs.bed", sep="\t", header=None, names=["chrom", "start", "end"])
    starts = [np.arange(run.start, run.end, 200) for run in runs.itertuples()]
    return pd.DataFrame({"chrom": "chr21", "start": np.concatenate(starts), "end": np.concatenate(starts) + 200})


@pytest.mark.parametrize("processes", [1, 2])
def test_counts_of_real_reads_equal_those_of_an_independent_program(shared_data, processes):
    bam = shared_data / "bam"
    expected = pd.read_csv(bam / "counts.txt", sep="\t")
    adata = count([bam / "H3K4me3.bam", bam / "H3K36me3.bam"], real_bins(bam), processes=processes)
    assert list(adata.var_names) == ["H3K4me3", "H3K36me3"]
    assert adata.shape == (40_320, 2)
    np.testing.assert_array_equal(dense(adata), expected[adata.var_names].to_numpy())
    assert adata.var["depth"].tolist() == [74_534, 102_893]


def test_shuffled_regions_keep_their_order_and_their_counts(shared_data):
    bam = shared_data / "bam"
    bins = real_bins(bam)
    order = np.random.default_rng(0).permutation(len(bins))
    expected = pd.read_csv(bam / "counts.txt", sep="\t")["H3K4me3"].to_numpy()
    np.testing.assert_array_equal(dense(count(bam / "H3K4me3.bam", bins.iloc[order]))[:, 0], expected[order])


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_agrees_with_a_loop_over_reads_and_regions(rule, write_bam):
    records = random_records(400, seed=1)
    rng = np.random.default_rng(2)
    chrom = rng.choice(list(LENGTHS), 57)
    start = np.array([rng.integers(LENGTHS[name] - 1) for name in chrom])
    end = np.array([min(at + rng.integers(1, 300), LENGTHS[name]) for name, at in zip(chrom, start, strict=True)])
    regions = pd.DataFrame({"chrom": chrom, "start": start, "end": end})  # overlaps, gaps, no order
    regions = pd.concat([regions, regions[:5]], ignore_index=True)  # and places that come twice
    counts = dense(count(write_bam("a.bam", records, LENGTHS), regions, rule=rule))[:, 0]
    expected = brute_force(records, regions, rule)
    assert expected.max() > 3
    np.testing.assert_array_equal(counts, expected)


def test_overlap_counts_as_multibamsummary_does(write_bam):
    """Its rule: a read adds one to every bin from that of its first base to that of its last, once."""
    records = random_records(500, seed=3)
    width = 50
    expected = {name: np.zeros(length // width, dtype=int) for name, length in LENGTHS.items()}
    for _, chrom, start, _, _, _ in records:
        for bin_ in range(start // width, (start + 35) // width + 1):
            expected[chrom][bin_] += 1
    adata = count(write_bam("a.bam", records, LENGTHS), genome=pd.Series(LENGTHS), bin_size=width, rule="overlap")
    np.testing.assert_array_equal(dense(adata)[:, 0], np.concatenate(list(expected.values())))


def test_point_rules_lose_and_double_no_read(write_bam):
    records = random_records(300, seed=4)
    whole = regions_of(*((name, 0, length) for name, length in LENGTHS.items()))
    path = write_bam("a.bam", records, LENGTHS)
    for rule in ("five_prime", "center"):
        assert dense(count(path, whole, rule=rule)).sum() == 300
    bins = io.make_bins(pd.Series(LENGTHS), 100)
    assert dense(count(path, bins, rule="five_prime")).sum() == 300


def test_a_read_that_is_shifted_off_its_chromosome_counts_in_the_depth_only(write_bam):
    records = [(16, "chr2", 0, "36M", 60, 0), (0, "chr1", 2_964, "36M", 60, 0)]  # to -40, and to 3,039
    adata = count(write_bam("a.bam", records, LENGTHS), genome=pd.Series(LENGTHS), bin_size=100)
    assert dense(adata).sum() == 0
    assert adata.var["depth"].tolist() == [2]


def test_the_strand_shift_moves_five_prime_ends(write_bam):
    records = [(0, "chr1", 100, "36M", 60, 0), (16, "chr1", 200, "36M", 60, 0)]  # at 100 and 235
    adata = count(
        write_bam("a.bam", records, LENGTHS),
        regions_of(("chr1", 100, 101), ("chr1", 104, 105), ("chr1", 230, 231), ("chr1", 235, 236)),
        rule="five_prime",
        strand_shift=(4, -5),
    )
    assert dense(adata)[:, 0].tolist() == [0, 1, 1, 0]


def test_replicates_are_added_up(write_bam):
    first, second = random_records(130, seed=5), random_records(70, seed=6)
    paths = [write_bam("a.bam", first, LENGTHS), write_bam("b.bam", second, LENGTHS)]
    bins = io.make_bins(pd.Series(LENGTHS), 100)
    adata = count({"both": paths, "first": paths[0]}, bins, rule="five_prime")
    assert list(adata.var_names) == ["both", "first"]
    assert adata.var["depth"].tolist() == [200, 130]
    expected = np.c_[brute_force(first + second, bins, "five_prime"), brute_force(first, bins, "five_prime")]
    np.testing.assert_array_equal(dense(adata), expected)


def test_regions_on_the_blacklist_are_left_out_and_its_reads_lower_the_depth(write_bam, tmp_path):
    records = [(0, "chr1", at, "36M", 60, 0) for at in (10, 110, 149, 150, 210, 210)]
    blacklist = tmp_path / "black.bed"
    blacklist.write_text("1\t150\t180\n")
    bins = io.make_bins(pd.Series(LENGTHS), 100, "chr1")[:3]
    path = write_bam("a.bam", records, LENGTHS)
    for given in (blacklist, regions_of(("chr1", 150, 180))):
        adata = count(path, bins, rule="five_prime", blacklist=given)
        assert list(adata.obs_names) == ["chr1:0-100", "chr1:200-300"]
        assert dense(adata)[:, 0].tolist() == [1, 2]
        assert adata.var[["depth", "n_records", "dropped_blacklisted"]].iloc[0].tolist() == [5, 6, 1]
    assert adata.uns["chipvi_counting"]["blacklisted_regions_left_out"] == 1


def test_chromosomes_are_found_with_and_without_chr_and_the_log_says_so(write_bam, caplog):
    renamed = {"1": 3_000, "2": 1_700, "MT": 400}
    records = random_records(200, seed=7)
    bins = io.make_bins(pd.Series(LENGTHS), 100)
    to_ensembl = dict(zip(LENGTHS, renamed, strict=True))
    ensembl = [(flag, to_ensembl[chrom], *rest) for flag, chrom, *rest in records]
    expected = dense(count(write_bam("a.bam", records, LENGTHS), bins))
    assert not caplog.records
    adata = count(write_bam("b.bam", ensembl, renamed), bins)
    np.testing.assert_array_equal(dense(adata), expected)
    assert "such as 1 for chr1 (and 2 more)" in caplog.text


def test_the_result_keeps_columns_names_and_settings_and_can_be_stored(write_bam, tmp_path):
    regions = regions_of(("chr1", 0, 500), ("chr1", 0, 500), ("chr2", 100, 900)).assign(gene=["a", "b", "c"])
    path = write_bam("mark.sorted.bam", random_records(90, seed=8), LENGTHS)
    adata = count(path, regions, min_mapq=20, fragment_length=200)
    assert list(adata.obs_names) == ["chr1:0-500", "chr1:0-500-1", "chr2:100-900"]
    assert list(adata.obs["gene"]) == ["a", "b", "c"]
    assert list(adata.var_names) == ["mark.sorted"]
    assert list(count(path, regions.set_index("gene")).obs_names) == ["a", "b", "c"]
    adata.write_h5ad(tmp_path / "counts.h5ad")
    back = anndata.read_h5ad(tmp_path / "counts.h5ad")
    np.testing.assert_array_equal(dense(back), dense(adata))
    settings = back.uns["chipvi_counting"]
    assert (settings["rule"], settings["fragment_length"], settings["min_mapq"]) == ("shifted", 200, 20)
    assert back.var["depth"].iloc[0] < back.var["n_records"].iloc[0] == 90


def test_mostly_zero_counts_are_sparse_and_others_are_dense(write_bam):
    path = write_bam("a.bam", random_records(30, seed=9), LENGTHS)
    narrow = count(path, genome=pd.Series(LENGTHS), bin_size=5)
    wide = count(path, genome=pd.Series(LENGTHS), bin_size=400)
    assert isinstance(narrow.X, sp.csr_matrix)
    assert isinstance(wide.X, np.ndarray)
    assert narrow.X.dtype == wide.X.dtype == np.int32


def test_counting_in_batches_is_counting_at_once():
    rng = np.random.default_rng(10)
    start = rng.integers(0, 1_000, 333)
    reads = Reads(("chr1",), start * 0, start, start + 7, np.ones(333, np.int8), np.zeros(333, bool))
    regions = Regions.from_frame(regions_of(("chr1", 0, 400), ("chr1", 300, 900)))
    once, often = RegionCounter(regions), RegionCounter(regions)
    once.add(reads, start, start + 7)
    for at in range(0, 333, 10):
        part = Reads(("chr1",), *(a[at : at + 10] for a in (start * 0, start, start, reads.strand, reads.is_fragment)))
        often.add(part, start[at : at + 10], start[at : at + 10] + 7)
    np.testing.assert_array_equal(once.counts(), often.counts())


SCRIPT = """
from concurrent.futures import ProcessPoolExecutor
from chipvi import _workers
print("here", flush=True)
with ProcessPoolExecutor(2, _workers.clean_context("json")) as pool, _workers.script_not_run_again():
    print(list(pool.map(abs, [-3, 5])))
"""


def test_a_script_without_a_main_guard_can_use_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert run.stdout == "here\n[3, 5]\n", run.stderr


def test_a_fault_in_one_of_several_processes_is_told_for_its_file(write_bam):
    good = write_bam("good.bam", random_records(500, seed=12), LENGTHS)
    empty = write_bam("empty.bam", [], LENGTHS)
    with pytest.raises(ValueError, match=r"empty\.bam must hold reads; it holds none"):
        count([good, empty], regions_of(("chr1", 0, 100)), processes=2)


def test_another_assembly_is_refused(write_bam):
    hg19 = {"chr21": 48_129_895, "chr22": 51_304_566}
    path = write_bam("a.bam", [(0, "chr21", 9_500_000, "36M", 60, 0)], hg19)
    with pytest.raises(
        ValueError, match=r"a\.bam is of another assembly: its chr21 has 48,129,895 bp.*46,709,983.*hg19"
    ):
        count(path, genome="hg38", bin_size=10_000, chromosomes="chr21")
    with pytest.raises(ValueError, match=r"chr22 has 51,304,566 bp there, and a region ends at 51,400,000"):
        count(path, regions_of(("chr21", 0, 100), ("chr22", 51_300_000, 51_400_000)))
    other = write_bam("b.bam", [(0, "chr21", 9_500_000, "36M", 60, 0)], {"chr21": 46_709_983})
    with pytest.raises(ValueError, match=r"one assembly; chr21 has 48,129,895 bp in .*a\.bam and 46,709,983 bp in"):
        count([path, other], regions_of(("chr21", 0, 100)))


def test_a_chromosome_that_a_file_lacks_is_refused(write_bam):
    path = write_bam("a.bam", random_records(20, seed=13), LENGTHS)
    with pytest.raises(ValueError, match=r"a\.bam has no chr7 \(and 1 more\).*its header names chr1, chr2, chrM"):
        count(path, regions_of(("chr1", 0, 100), ("chr7", 0, 100), ("chr8", 0, 100)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "middle"}, "rule must be one of five_prime, shifted, center, overlap; it is 'middle'"),
        ({"fragment_length": 0}, "fragment_length must be at least 1 bp; it is 0"),
        ({"regions": None}, "give either regions, or genome and bin_size"),
        ({"bin_size": 100}, "must not be given beside regions"),
        ({"names": ["a", "b"]}, "there are 2 names and 1 files"),
        ({"processes": 0}, "processes must be at least 1; it is 0"),
        ({"regions": regions_of(("chr1", 5, 5))}, "row 0 is chr1:5-5"),
        ({"regions": regions_of(("chr1", 0, 9), (None, 5, 6))}, "row 1 has none"),
        ({"regions": regions_of(("chr1", 0.5, 5))}, "'start' of regions must hold whole base pairs"),
        ({"regions": regions_of(("chr1", 0, 9))[["chrom", "end"]]}, "start not found"),
        ({"regions": regions_of()}, "at least one region"),
        ({"blacklist": regions_of(("chr1", 0, 999))}, "all 1 overlap it"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_wrong_options_are_refused(change, message, write_bam):
    options = {"regions": regions_of(("chr1", 0, 100)), **change}
    with pytest.raises(ValueError, match=message):
        count(write_bam("a.bam", random_records(3, seed=14), LENGTHS), **options)


def test_a_sum_of_replicates_beyond_int32_is_refused_with_its_region_and_track(write_bam, monkeypatch):
    path = write_bam("a.bam", random_records(3, seed=14), LENGTHS)
    regions = regions_of(("chr1", 0, 100), ("chr1", 100, 200), ("chr2", 0, 300))
    most = np.iinfo(np.int32).max
    deep = files.FileCounts({"stretch0": np.array([5, 0, most])}, most, most, dict.fromkeys(DROPPED, 0), {}, 0, 0)
    monkeypatch.setattr(counting, "count_files", lambda paths, *_: [deep] * len(paths))
    assert dense(count({"x": path}, regions))[:, 0].tolist() == [5, 0, most]
    with pytest.raises(ValueError, match=r"region chr2:0-300, track both holds 4,294,967,294\. Make smaller regions"):
        count({"x": path, "both": [path, path]}, regions)


def test_two_tracks_of_one_name_are_refused(write_bam, tmp_path):
    path = write_bam("a.bam", random_records(3, seed=15), LENGTHS)
    (tmp_path / "again").mkdir()
    again = path.rename(tmp_path / "again" / "a.bam")
    path.write_bytes(again.read_bytes())
    with pytest.raises(ValueError, match="two tracks would be called 'a'"):
        count([path, again], regions_of(("chr1", 0, 100)))


def test_nothing_that_passes_is_told_with_the_reasons(write_bam):
    path = write_bam("a.bam", [(0, "chr1", 5, "36M", 3, 0), (4, None, 0, None, 0, 0)], LENGTHS)
    with pytest.raises(ValueError, match=r"none of its 2 records passed the filters \(1 unmapped, 1 low_mapq\)"):
        count(path, regions_of(("chr1", 0, 100)), min_mapq=10)
