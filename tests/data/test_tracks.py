"""What experiment each column is, and which experiments are to be predicted."""

import numpy as np
import pandas as pd
import pytest

from chipvi.data.tracks import parse_targets, read_tracks


def table(**columns: list) -> pd.DataFrame:
    """Five tracks of two biosamples and three assays, the last a control; NK.H3K27ac was never run."""
    frame = {
        "biosample": ["K562", "K562", "K562", "NK", "NK"],
        "assay": ["H3K4me3", "H3K27ac", "ATAC", "H3K4me3", "ATAC"],
        "reads": [5e6, 4e6, 3e6, 2e6, 1e6],
        "is_input": [False, False, False, False, True],
    } | columns
    names = [f"{biosample}.{assay}" for biosample, assay in zip(frame["biosample"], frame["assay"], strict=True)]
    return pd.DataFrame(frame, index=names if "index" not in frame else frame.pop("index"))


def tracks(**columns):
    return read_tracks(table(**columns), depth_key="reads", control_key="is_input")


def test_labels_are_text_and_unasked_columns_are_not_read():
    found = read_tracks(table(biosample=[1, 1, 1, 2, 2], reads=[-1] * 5))
    assert found.biosamples == ("1", "1", "1", "2", "2")
    assert found.depth is None
    assert not found.is_control.any()
    assert len(found) == found.n_tracks == 5


@pytest.mark.parametrize("values", [[0, 0, 0, 0, 1], [0.0, 0.0, 0.0, 0.0, 1.0], [False, False, False, False, True]])
@pytest.mark.parametrize("dtype", [None, object, "boolean", "category"])
def test_controls_are_marked_by_booleans_or_by_zero_and_one(values, dtype):
    column = pd.Series(values, dtype=dtype)
    np.testing.assert_array_equal(tracks(is_input=list(column)).is_control, [False, False, False, False, True])


def test_selected_tracks_keep_what_is_theirs():
    chosen = tracks().select(["NK.ATAC", "K562.H3K27ac"])
    assert chosen.names == ("NK.ATAC", "K562.H3K27ac")
    assert chosen.biosamples == ("NK", "K562")
    assert chosen.assays == ("ATAC", "H3K27ac")
    np.testing.assert_array_equal(chosen.is_control, [True, False])
    np.testing.assert_array_equal(chosen.depth, [1e6, 4e6])
    assert tracks().index("NK.H3K4me3") == 3


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"biosample": ["K562", None, "K562", "NK", "NK"]}, ["'biosample'", "track K562.b has ", "Fill it in"]),
        ({"assay": ["H3K4me3", "x", " ", "", "ATAC"]}, ["'assay'", "track K562.c has ' ' (and 1 more)"]),
        ({"is_input": [0, np.nan, 0, 0, 1]}, ["'is_input'", "True or False", "track K562.b has nan"]),
        ({"is_input": [0, 0, 2, 3, 1]}, ["'is_input'", "track K562.c has 2 (and 1 more)"]),
        ({"is_input": ["no", "no", "no", "no", "yes"]}, ["'is_input'", "track K562.a has 'no'"]),
        ({"reads": [5e6, 0, -3, 2e6, 1e6]}, ["'reads'", "above 0", "track K562.b has 0.0 (and 1 more)"]),
        ({"reads": [5e6, 1, 1, 1, np.inf]}, ["'reads'", "track NK.e has inf"]),
        ({"reads": ["5", "4", "3", "2", "1"]}, ["'reads'", "its dtype is", ".astype(float)"]),
        ({"index": ["a", "b", "a", "a", "c"]}, ["var_names must be unique", "a comes back (and 1 more)"]),
        (
            {"assay": ["H3K4me3", "ATAC", "ATAC", "H3K4me3", "ATAC"]},
            ["K562.b and K562.c are both biosample 'K562', assay 'ATAC'", "'K562_rep1'", "adding up"],
        ),
    ],
)
def test_an_error_names_the_track_and_says_what_to_do(columns, expected):
    with pytest.raises(ValueError) as error:
        tracks(**({"index": ["K562.a", "K562.b", "K562.c", "NK.d", "NK.e"]} | columns))
    for text in expected:
        assert text in str(error.value)


@pytest.mark.parametrize("argument", ["biosample_key", "assay_key", "depth_key", "control_key", "condition_key"])
def test_an_unknown_key_is_named_with_what_there_is(argument):
    with pytest.raises(
        ValueError, match=rf"{argument} 'read'.*did you mean 'reads'\?.*biosample, assay, reads, is_inp"
    ):
        read_tracks(table(), **{argument: "read"})


def test_the_same_tracks_pass_whatever_their_depth():
    tracks().require_same(tracks(reads=[1, 2, 3, 4, 5]))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (table().iloc[[0, 2, 4]], ["5 tracks", "missing K562.H3K27ac, NK.H3K4me3", "0 in the observed layer"]),
        (table().rename(index={"NK.ATAC": "NK.DNase"}), ["missing NK.ATAC; extra NK.DNase"]),
        (table().iloc[[0, 2, 1, 3, 4]], ["order", "column 1 is K562.ATAC, expected K562.H3K27ac", "Reorder"]),
        (
            table(assay=["H3K4me1", "H3K27ac", "DNase", "H3K4me3", "ATAC"], index=list(table().index)),
            ["K562.H3K4me3 is biosample 'K562', assay 'H3K4me1', expected", "assay 'H3K4me3' (and 1 more)"],
        ),
        (table(is_input=[0, 0, 0, 0, 0]), ["NK.ATAC is biosample", "assay 'ATAC', expected", "'ATAC', a control"]),
    ],
    ids=["missing", "renamed", "permuted", "relabelled", "no control"],
)
def test_other_tracks_are_refused_by_name(other, expected):
    with pytest.raises(ValueError) as error:
        tracks().require_same(read_tracks(other, depth_key="reads", control_key="is_input"))
    for text in expected:
        assert text in str(error.value)


def test_all_tracks_but_controls_are_predicted_unless_told():
    targets = parse_targets(None, tracks())
    assert targets.names == ("K562.H3K4me3", "K562.H3K27ac", "K562.ATAC", "NK.H3K4me3")
    np.testing.assert_array_equal(targets.columns, [0, 1, 2, 3])
    assert np.isnan(targets.depth).all()


@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Index, pd.Series])
def test_tracks_are_predicted_in_the_order_of_their_names(container):
    targets = parse_targets(container(["NK.H3K4me3", "K562.H3K4me3", "K562.ATAC"]), tracks())
    assert targets.names == ("NK.H3K4me3", "K562.H3K4me3", "K562.ATAC")
    assert targets.biosamples == ("NK", "K562", "K562")
    assert targets.assays == ("H3K4me3", "H3K4me3", "ATAC")
    np.testing.assert_array_equal(targets.columns, [3, 0, 2])


def test_one_name_is_one_track():
    assert parse_targets("K562.ATAC", tracks()).names == ("K562.ATAC",)


def test_a_table_asks_for_experiments_that_nobody_has_run():
    wanted = pd.DataFrame(
        {"biosample": ["NK", "K562"], "assay": ["H3K27ac", "ATAC"], "depth": [7e6, np.nan]}, index=["new", "old"]
    )
    targets = parse_targets(wanted, tracks())
    assert targets.names == ("new", "old")
    np.testing.assert_array_equal(targets.columns, [-1, 2])
    np.testing.assert_array_equal(targets.depth, [7e6, np.nan])


def test_an_unnamed_experiment_is_called_after_its_biosample_and_assay_or_as_the_track_it_is():
    known = tracks(index=["a", "b", "c", "d", "e"])
    wanted = pd.DataFrame({"biosample": ["K562", "NK", "NK"], "assay": ["ATAC", "ATAC", "H3K27ac"]})
    assert parse_targets(wanted.drop(index=1), known).names == ("c", "NK.H3K27ac")


def wanted(**columns) -> pd.DataFrame:
    return pd.DataFrame({"biosample": ["K562", "NK"], "assay": ["ATAC", "H3K27ac"]} | columns, index=["x", "y"])


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (["K562.H3K4me1"], ["track 'K562.H3K4me1'", "did you mean 'K562.H3K4me3'", "NK.ATAC"]),
        (["NK.ATAC"], ["NK.ATAC is a control"]),
        ([], ["no track to predict"]),
        (["K562.ATAC", "K562.ATAC"], ["K562.ATAC comes back"]),
        (wanted().rename(columns={"assay": "asay"}), ["column 'asay'", "did you mean 'assay'?"]),
        (wanted().drop(columns="biosample"), ["column 'biosample' is not in the table of tracks"]),
        (wanted(reads=[1, 2]), ["column 'reads'", "biosample, assay, depth"]),
        (wanted(assay=["ATAC", "H3K27me"]), ["assay 'H3K27me'", "did you mean 'H3K4me3' or 'H3K27ac'?"]),
        (wanted(biosample=["K563", "NK"]), ["biosample 'K563'", "did you mean 'K562'"]),
        (wanted(depth=[-1, 5]), ["'depth'", "track x has -1"]),
        (wanted(assay=["ATAC", None]), ["'assay'", "track y has "]),
        (wanted(biosample=["NK", "NK"], assay=["H3K27ac"] * 2), ["x and y are both", "assay 'H3K27ac'"]),
        (wanted(assay=["H3K4me3", "ATAC"]), ["track y is a control"]),
        (wanted().rename(index={"y": "K562.ATAC"}), ["assay 'H3K27ac' K562.ATAC", "name is taken"]),
        (wanted().iloc[:0], ["no track to predict"]),
    ],
)
def test_a_wrong_target_is_refused_with_what_was_probably_meant(argument, expected):
    with pytest.raises(ValueError) as error:
        parse_targets(argument, tracks())
    for text in expected:
        assert text in str(error.value)
