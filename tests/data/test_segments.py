"""Which regions are neighbours, and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from chipvi.data.context import choose_half_widths
from chipvi.data.segments import Segments, Widths, find_overlaps, find_segments, refuse_overlaps


def regions(*texts: str) -> pd.DataFrame:
    """Regions from texts such as chr1:0-200, by which they are named."""
    rows = [text.replace(":", "-").split("-") for text in texts]
    frame = pd.DataFrame(rows, columns=["chrom", "start", "end"], index=list(texts))
    return frame.astype({"start": int, "end": int})


@pytest.mark.parametrize(
    ("obs", "offsets"),
    [
        (regions("chr1:0-200", "chr1:200-400", "chr1:400-600"), [0, 3]),
        (regions("chr1:0-200", "chr1:200-400", "chr1:600-800", "chr1:800-1000"), [0, 2, 4]),
        (regions("chr1:0-200", "chr1:900-1100", "chr1:2000-2200", "chr1:2300-2500"), [0, 4]),
        (regions("chr1:0-200", "chr1:900-1200", "chr1:8200-8600"), [0, 3]),
        (regions("chr1:0-200", "chr1:900-1200", "chr1:12200-12600"), [0, 2, 3]),
        (regions("chr1:0-200", "chr1:200-400", "chr1:300-500", "chr1:500-700"), [0, 2, 4]),
        (regions("chr1:0-900", "chr1:100-200", "chr1:300-400"), [0, 1, 3]),
        (regions("chr2:0-200", "chr2:200-400", "chr1:400-600", "chr1:600-625"), [0, 2, 4]),
        (regions("chr1:0-25", "chr10:25-50", "chr2:50-75"), [0, 1, 2, 3]),
        (regions("chr7:500-525"), [0, 1]),
        (regions(), [0]),
    ],
    ids=[
        "one run",
        "gap between bins",
        "scattered",
        "peaks",
        "wide gap between peaks",
        "overlap",
        "one within another",
        "chromosome ends where the next one goes on",
        "all apart",
        "one region",
        "none",
    ],
)
def test_a_segment_ends_with_the_chromosome_or_at_an_overlap_or_gap_of_bins_or_one_that_no_window_spans(obs, offsets):
    segments = find_segments(obs)
    np.testing.assert_array_equal(segments.offsets, offsets)
    assert segments.offsets.dtype == np.int64
    assert (segments.n_regions, segments.n_segments) == (len(obs), len(offsets) - 1)


@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_a_segment_key_is_read_whatever_its_type_and_coordinates_are_then_ignored(dtype):
    obs = regions("chr1:400-600", "chr1:0-200", "chr1:0-200", "chr9:1-2", "chr2:1-2")
    obs["gene"] = pd.Series(["b", "b", "a", "a", "c"], index=obs.index).astype(dtype)
    np.testing.assert_array_equal(find_segments(obs, "gene").offsets, [0, 2, 4, 5])


@pytest.mark.parametrize("dtype", ["int32", "uint64", "float64", "Int64"])
def test_positions_may_have_any_type_of_number(dtype):
    obs = regions("chr1:0-200", "chr1:200-400", "chr1:600-800").astype({"start": dtype, "end": dtype})
    np.testing.assert_array_equal(find_segments(obs).offsets, [0, 2, 3])


def test_bounds_hold_each_row_and_nothing_of_another_segment():
    segments = Segments(np.array([0, 1, 4, 6]))
    low, high = segments.bounds(np.array([5, 0, 3, 1, 3]))
    np.testing.assert_array_equal(low, [4, 0, 1, 1, 1])
    np.testing.assert_array_equal(high, [6, 1, 4, 4, 4])
    np.testing.assert_array_equal(segments.lengths, [1, 3, 2])
    np.testing.assert_array_equal(segments.index(np.arange(6)), [0, 1, 1, 1, 2, 2])


def with_values(column: str, values: list, **types) -> pd.DataFrame:
    obs = regions("chr1:0-200", "chr1:200-400", "chr1:400-600", "chr1:600-800")
    obs[column] = values
    return obs.astype(types)


UNSORTED = ["chr1:200-400", "chr1:0-200", "chr1:600-800", "chr1:400-600"]


@pytest.mark.parametrize(
    ("obs", "segment_key", "expected"),
    [
        (regions(*UNSORTED), None, ["sorted by start", "region chr1:0-200 ", "(and 1 more)", "sort_values"]),
        (
            regions("chr1:0-200", "chr2:0-200", "chr1:200-400"),
            None,
            ["chromosome in one block", "region chr1:200-400 ", "sort_values"],
        ),
        (regions("chr1:0-200", "chr1:200-200"), None, ["end after they start", "region chr1:200-200 "]),
        (regions("chr1:0-200", "chr1:300-250"), None, ["end after they start", "region chr1:300-250 "]),
        (with_values("start", [-5, 200, 400, 600]), None, ["at 0 or later", "region chr1:0-200 "]),
        (with_values("start", [0, 200.5, 400, 600]), None, ["'start'", "whole base pairs", "region chr1:200-400 "]),
        (with_values("end", [200, 400, np.nan, np.nan]), None, ["'end'", "chr1:400-600 has nan", "(and 1 more)"]),
        (with_values("start", ["0", "200", "400", "600"]), None, ["'start'", "whole base pairs", ".astype(int)"]),
        (with_values("chrom", ["chr1", None, "chr1", "chr1"]), None, ["chromosome for every", "chr1:200-400 has "]),
        (regions("chr1:0-200").drop(columns="end"), None, ["chrom, start and end", "end not found", "segment_key"]),
        (pd.DataFrame(index=["a", "b"]), None, ["chrom, start, end not found", "segment_key"]),
        (with_values("gene", list("abca")), "gene", ["'gene'", "one block", "region chr1:600-800 has 'a'", "sort"]),
        (with_values("gene", ["a", "a", None, "b"]), "gene", ["'gene'", "chr1:400-600 has ", "Fill in"]),
        (with_values("gene", [1, np.nan, np.nan, 2]), "gene", ["chr1:200-400 has nan", "(and 1 more)"]),
        (with_values("gene", list("aabb")), "genes", ["segment_key 'genes'", "did you mean 'gene'?", "chrom, start"]),
    ],
)
def test_an_error_names_the_region_and_says_what_to_do(obs, segment_key, expected):
    with pytest.raises(ValueError) as error:
        find_segments(obs, segment_key)
    for text in expected:
        assert text in str(error.value)


def test_the_advice_to_sort_works():
    obs = regions("chr2:0-200", "chr1:400-600", "chr2:200-400", "chr1:0-200")
    np.testing.assert_array_equal(find_segments(obs.sort_values(["chrom", "start"])).offsets, [0, 1, 2, 4])


# windows


def peaks(random: np.random.Generator, n: int = 400) -> pd.DataFrame:
    """Peaks of unequal width on two chromosomes, near and far from each other, two of which overlap the one before."""
    width = random.integers(150, 1_500, n)
    gap = random.choice([0, 90, 700, 4_000, 40_000], n)
    gap[[50, 300]] = -100
    end = np.cumsum(width + gap) + 5_000
    chrom = np.where(np.arange(n) < 180, "chr1", "chr2")
    return pd.DataFrame({"chrom": chrom, "start": end - width, "end": end}, index=[f"peak{i}" for i in range(n)])


def test_windows_hold_the_regions_whose_middles_lie_within_and_nothing_beyond_an_overlap():
    obs = peaks(np.random.default_rng(0))
    segments, half_widths = find_segments(obs), (0, 300, 2_000, 11_111)
    middle = (obs["start"] + obs["end"]).to_numpy() / 2
    part = np.cumsum((obs["chrom"] != obs["chrom"].shift()) | (obs["start"] < obs["end"].shift())).to_numpy()
    low_rs, high_rs = segments.windows(np.arange(len(obs)), half_widths)
    for row in range(len(obs)):
        for s, half_width in enumerate(half_widths):
            held = np.flatnonzero((np.abs(middle - middle[row]) <= half_width) & (part == part[row]))
            np.testing.assert_array_equal(np.arange(low_rs[row, s], high_rs[row, s]), held)
    assert (high_rs - low_rs).max() > 5
    np.testing.assert_array_equal(find_overlaps(obs), [50, 300])
    assert {0, 50, 180, 300} <= set(segments.offsets)


@pytest.mark.parametrize("width", [25, 130, 200, 1_000])
def test_of_gapless_bins_distances_and_numbers_of_rows_are_the_same(width):
    start = width * np.arange(100)
    obs = pd.DataFrame({"chrom": np.repeat(["chr1", "chr2"], 50), "start": start, "end": start + width})
    obs.loc[[49, 99], "end"] -= width // 3  # the ends of chromosomes
    segments, half_widths, rows = find_segments(obs), choose_half_widths(width), np.arange(100)
    assert (segments.spacing, segments.middle_r) == (width, None)
    by_middle = replace(segments, middle_r=(obs["start"] + obs["end"]).to_numpy() / 2)
    for by_number, by_distance in zip(
        segments.windows(rows, half_widths), by_middle.windows(rows, half_widths), strict=True
    ):
        np.testing.assert_array_equal(by_number, by_distance)


def test_widths_are_relative_to_the_typical_one_of_the_model():
    obs = regions("chr1:0-300", "chr1:300-700", "chr1:700-900")
    segments = find_segments(obs)
    assert segments.typical_width == 300 and segments.total_width == pytest.approx(3)
    np.testing.assert_allclose(segments.relative_widths(0, 3), [1, 4 / 3, 2 / 3], rtol=1e-6)
    other = find_segments(obs, widths=Widths(None, 100))
    np.testing.assert_array_equal(other.relative_widths(1, 3), [4, 2])
    equal = find_segments(regions("chr1:0-300", "chr1:900-1200"))
    assert equal.relative_width_r is None and equal.total_width == 2


def test_bins_stay_bins_whichever_of_them_are_asked_about():
    bins = find_segments(regions(*(f"chr1:{start}-{start + 200}" for start in range(0, 2_000, 200))))
    assert bins.widths == Widths(200, 200)
    few = find_segments(regions("chr1:0-200", "chr1:400-600", "chr1:800-1000"), widths=bins.widths)
    np.testing.assert_array_equal(few.offsets, [0, 1, 2, 3])
    assert few.widths == bins.widths
    scattered = find_segments(regions("chr1:0-200", "chr1:400-600", "chr1:1600-1800"))
    assert scattered.widths == Widths(None, 200)
    low_rs, high_rs = scattered.windows(np.arange(3), choose_half_widths(200))
    assert (high_rs - low_rs)[0].tolist() == [1, 1, 2, 3, 3]


def test_what_genome_browsers_cannot_show_is_refused_by_name():
    obs = peaks(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"cannot hold regions that overlap; region peak50 is chr1:.* \(and 1 more\)"):
        refuse_overlaps(obs)
    refuse_overlaps(obs.drop(index=["peak50", "peak300"]))
