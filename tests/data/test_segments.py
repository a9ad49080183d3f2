"""Which regions are neighbours, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from chipvi.data.segments import Segments, find_segments


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
        (regions("chr2:0-200", "chr2:200-400", "chr1:400-600", "chr1:600-625"), [0, 2, 4]),
        (regions("chr1:0-25", "chr10:25-50", "chr2:50-75"), [0, 1, 2, 3]),
        (regions("chr7:500-525"), [0, 1]),
        (regions(), [0]),
    ],
    ids=["one run", "gap", "chromosome ends where the next one goes on", "all apart", "one region", "none"],
)
def test_a_segment_ends_with_the_chromosome_or_before_a_gap(obs, offsets):
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
        (
            regions("chr1:0-200", "chr1:100-300", "chr1:250-400", "chr1:400-500"),
            None,
            ["must not overlap", "region chr1:100-300 ", "(and 1 more)", "segment_key"],
        ),
        (regions("chr1:0-200", "chr1:0-300"), None, ["must not overlap", "region chr1:0-300 "]),
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
