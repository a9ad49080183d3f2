"""Regions and blacklists as tables: checked alike by whatever reads at them."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from chipvi import io
from chipvi.io.places import check_places, check_regions

READS = "1\t100\t136\tx\t0\t+\n2\t10\t46\tx\t0\t-\n2\t900\t936\tx\t0\t+\n"
PLACES = [("1", 0, 100), ("1", 100, 200), ("2", 0, 50), ("2", 800, 950)]


def table(chroms, dtype="int64"):
    names, start, end = zip(*PLACES, strict=True)
    positions = {"start": pd.array(start, dtype=dtype), "end": pd.array(end, dtype=dtype)}
    return pd.DataFrame({"chrom": chroms(names), **positions})


CHROMS = {
    "text": list,
    "whole numbers": lambda names: [int(name) for name in names],
    "both": lambda names: pd.Series([1, "1", 2, "2"], dtype=object),
    "categories": lambda names: pd.Categorical(names),
    "categories of whole numbers": lambda names: pd.Categorical([int(name) for name in names]),
    "nullable whole numbers": lambda names: pd.array([int(name) for name in names], dtype="Int64"),
    "nullable text": lambda names: pd.array(names, dtype="string"),
}


@pytest.fixture
def reads(tmp_path, write_bam):
    (tmp_path / "a.bed").write_text(READS)
    records = [(0, "1", 100, "36M", 9, 0), (16, "2", 10, "36M", 9, 0), (0, "2", 900, "36M", 9, 0)]
    return [tmp_path / "a.bed", write_bam("b.bam", records, {"1": 5_000, "2": 4_000})]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", "Int64"])
@pytest.mark.parametrize("chroms", CHROMS)
def test_chromosomes_and_positions_of_any_dtype_count_alike(chroms, dtype, reads, tmp_path):
    regions = table(CHROMS[chroms], dtype)
    expected = [[0, 1, 1, 1]] * 2
    whole = {"rule": "five_prime", "progress": False}
    assert io.count_reads(reads, regions, **whole).to_df().T.to_numpy().tolist() == expected
    listed = regions.iloc[[1]]
    adata = io.count_reads(reads, regions, blacklist=listed, **whole)
    assert adata.to_df().T.to_numpy().tolist() == [[0, 1, 1]] * 2
    assert adata.var["depth"].tolist() == [2, 2]
    sheet = pd.DataFrame({"biosample": ["K", "L"], "assay": "A", "file": [str(path) for path in reads]})
    adata = io.count_sheet(sheet, regions=regions, blacklist=listed, **whole)
    assert adata.to_df().T.to_numpy().tolist() == [[0, 1, 1]] * 2
    assert adata.uns["chipvi_counting"]["blacklisted_regions_left_out"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": pd.array([0, None, 0, 800], dtype="Int64")}, "must each have a value of start; row 1 has none."),
        (
            {"end": pd.array([100, 200, None, None], dtype="Int64")},
            "must each have a value of end; row 2 has none (and 1 more).",
        ),
        ({"start": [0, np.nan, 0, 800]}, "must each have a value of start; row 1 has none."),
        ({"start": [0.0, 100.0, 0.0, 800.0]}, "must hold whole base pairs; its dtype is float64"),
        ({"chrom": ["1", None, "2", "2"]}, "must each have a chromosome; row 1 has none."),
        ({"chrom": [1.0, 1.0, 2.0, 2.0]}, "must be text, such as chr1 or 1; it holds"),
        ({"start": [0, 100, 50, 800]}, "row 2 is 2:50-50."),
        ({"start": [0, 100, -1, -9]}, "row 2 is 2:-1-50 (and 1 more)."),
    ],
)
def test_a_broken_table_is_refused_in_one_sentence_whether_of_regions_or_of_a_blacklist(change, message, reads):
    broken = table(CHROMS["text"]).assign(**change)
    sheet = pd.DataFrame({"biosample": ["K"], "assay": "A", "file": [str(reads[0])]})
    message = re.escape(message)
    for call in (
        lambda: io.count_reads(reads, broken, progress=False),
        lambda: io.count_sheet(sheet, regions=broken, progress=False),
        lambda: io.from_matrix(broken.assign(K_A=1)),
    ):
        with pytest.raises(ValueError, match=f"regions .*{message}"):
            call()
    for call in (
        lambda: io.count_reads(reads, table(CHROMS["text"]), blacklist=broken, progress=False),
        lambda: io.count_sheet(sheet, regions=table(CHROMS["text"]), blacklist=broken, progress=False),
        lambda: io.count_sheet(sheet, genome=pd.Series({"1": 5_000, "2": 4_000}), bin_size=50, blacklist=broken),
    ):
        with pytest.raises(ValueError, match=f"intervals of the blacklist .*{message}"):
            call()


def test_checked_places_keep_their_rows_columns_and_order():
    given = pd.DataFrame({"gene": ["b", "a"], "chrom": [2, 1], "start": [7, 0], "end": [9, 4]}, index=["x", "y"])
    checked = check_places(given, "regions")
    assert list(checked.columns) == ["gene", "chrom", "start", "end"] and list(checked.index) == ["x", "y"]
    assert checked["chrom"].tolist() == ["2", "1"] and given["chrom"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="regions must have the columns chrom, start and end; end not found"):
        check_places(given.drop(columns="end"), "regions")
    with pytest.raises(ValueError, match="at least one region; there is none"):
        check_regions(given[:0])


def frame(*places):
    return pd.DataFrame(places, columns=["chrom", "start", "end"])


ONE_BASED = frame(("1", 1, 200), ("1", 201, 400), ("1", 401, 600), ("2", 1, 200), ("2", 201, 400), ("2", 900, 950))


def test_regions_that_look_one_based_are_warned_of_once_by_every_reader(reads, tmp_path):
    ONE_BASED.to_csv(tmp_path / "r.bed", sep="\t", header=False, index=False)
    sheet = pd.DataFrame({"biosample": ["K"], "assay": "A", "file": [str(reads[0])]})
    for call in (
        lambda: io.count_reads(reads, ONE_BASED, progress=False),
        lambda: io.count_reads(reads, ONE_BASED[::-1], progress=False),
        lambda: io.count_sheet(sheet, regions=ONE_BASED, progress=False),
        lambda: io.count_sheet(sheet, regions=tmp_path / "r.bed", progress=False),
        lambda: io.from_matrix(ONE_BASED.assign(K_A=1)),
        lambda: io.from_matrix(pd.DataFrame({"K_A": [1] * 6}), tmp_path / "r.bed"),
    ):
        with pytest.warns(UserWarning, match=r"3 of 4 regions start one past .*1-based.*subtract 1") as caught:
            call()
        assert len(caught) == 1


@pytest.mark.parametrize(
    "regions",
    [
        ONE_BASED.assign(start=ONE_BASED["start"] - 1),
        frame(("1", 201, 400)),
        frame(("1", 1, 200), ("2", 201, 400)),
        frame(("1", 0, 200), ("1", 200, 400), ("1", 401, 600), ("1", 601, 700)),
        frame(("1", 0, 200), ("1", 201, 400), ("1", 500, 600), ("1", 700, 800)),
        frame(("1", 0, 200), ("1", 100, 300), ("1", 0, 200)),
    ],
)
def test_regions_that_touch_are_alone_or_lie_apart_are_not(regions):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_regions(regions)


def test_a_blacklist_without_a_chromosome_of_the_regions_is_warned_of_once(reads, tmp_path):
    (tmp_path / "black.bed").write_text("chr7\t100\t200\nchr8\t0\t5\n")
    regions = table(CHROMS["text"])
    sheet = pd.DataFrame({"biosample": ["K"], "assay": "A", "file": [str(reads[0])]})
    sizes = pd.Series({"1": 5_000, "2": 4_000})
    for blacklist in (tmp_path / "black.bed", io.read_blacklist(tmp_path / "black.bed")):
        options = {"blacklist": blacklist, "rule": "five_prime", "progress": False}
        for call in (
            lambda options=options: io.count_reads(reads[0], regions, **options),
            lambda options=options: io.count_reads(reads[0], io.make_bins(sizes, 1_000), **options),
            lambda options=options: io.count_reads(reads[0], genome=sizes, bin_size=1_000, **options),
            lambda options=options: io.count_sheet(sheet, regions=regions, **options),
            lambda options=options: io.count_sheet(sheet, genome=sizes, bin_size=1_000, **options),
        ):
            with pytest.warns(UserWarning, match=r"it names chr7, chr8, and the regions lie on 1, 2") as caught:
                adata = call()
            assert len(caught) == 1 and adata.X.sum() == 3
    # another spelling is no other chromosome
    adata = io.count_reads(reads[0], regions, blacklist=frame(("chr1", 150, 160)), progress=False)
    assert len(adata) == 3
