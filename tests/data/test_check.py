"""The contract with the AnnData: what must work, what is refused and how, and that all storages read alike."""

import warnings
from dataclasses import fields

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from chipvi.data import survey
from chipvi.data.check import SetupKeys, check_anndata, open_track_data
from chipvi.data.track_data import ViewKind

REGIONS = ["chr1:0-200", "chr1:200-400", "chr1:400-600", "chr1:900-1100", "chr2:0-200", "chr2:200-400", "chr3:0-25"]
BIOSAMPLES = ["K562", "K562", "K562", "NK", "NK"]
ASSAYS = ["H3K4me3", "H3K27ac", "ATAC", "H3K4me3", "ATAC"]
TRACKS = [f"{biosample}.{assay}" for biosample, assay in zip(BIOSAMPLES, ASSAYS, strict=True)]
COUNTS = np.random.default_rng(0).poisson(3.0, (7, 5)).astype(np.float32)
SIGNAL = np.random.default_rng(1).uniform(0, 6, (7, 5)).astype(np.float32)
NAN = np.nan


def example(counts=COUNTS, obs=None, var=None, **layers) -> AnnData:
    """Seven regions in three segments of 3, 1, 2 and 1; five tracks of two biosamples and three assays."""
    places = [region.replace(":", "-").split("-") for region in REGIONS]
    frame = pd.DataFrame(places, columns=["chrom", "start", "end"], index=REGIONS).astype({"start": int, "end": int})
    columns = pd.DataFrame({"biosample": BIOSAMPLES, "assay": ASSAYS}, index=TRACKS)
    return AnnData(counts, obs=frame.assign(**obs or {}), var=columns.assign(**var or {}), layers=layers)


def edited(values: np.ndarray, *edits: tuple) -> np.ndarray:
    """Copy in which (region, track) entries are changed; float, so that any number fits."""
    values = values.astype(np.float64)
    for row, column, value in edits:
        values[row, column] = value
    return values


def check(adata: AnnData, **keys):
    return check_anndata(adata, SetupKeys(**keys))


def assert_same(block, other):
    assert (block.signal is None) == (other.signal is None)
    for entries, others in ((block.counts, other.counts), (block.signal, other.signal)):
        for item in fields(entries) if entries is not None else ():
            left, right = getattr(entries, item.name), getattr(others, item.name)
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


# what is read


def test_a_block_is_the_rows_asked_for_with_zero_where_missing():
    counts = edited(COUNTS, (1, 2, NAN), (4, 0, NAN))
    observed = np.ones((7, 5))
    observed[2, 3] = 0
    data = check(
        example(counts, observed=observed, signal=edited(SIGNAL, (3, 4, NAN))),
        observed_layer="observed",
        signal_layer="signal",
    )
    missing = np.zeros((7, 5), dtype=bool)
    missing[[1, 4, 2], [2, 0, 3]] = True
    block = data.read(1, 6)
    np.testing.assert_array_equal(block.counts.present_rt, ~missing[1:6])
    np.testing.assert_array_equal(block.counts.value_rt, np.where(missing, 0, COUNTS)[1:6])
    no_signal = np.zeros((7, 5), dtype=bool)
    no_signal[3, 4] = True
    np.testing.assert_array_equal(block.signal.present_rt, ~no_signal[1:6])
    np.testing.assert_array_equal(block.signal.value_rt, np.where(no_signal, 0, SIGNAL)[1:6])
    assert block.counts.value_rt.dtype == block.signal.value_rt.dtype == np.float32
    assert block.counts.present_rt.dtype == block.signal.present_rt.dtype == bool


def test_a_block_without_a_signal_layer_has_no_signal():
    block = check(example()).read(0, 7)
    assert block.signal is None


@pytest.mark.parametrize("rows", [[3], [6, 0, 3], [2, 2, 5], [4, 5, 6, 0], []], ids=str)
def test_rows_come_in_the_order_asked_for(rows):
    data = check(example(signal=SIGNAL), signal_layer="signal")
    block = data.read_rows(np.array(rows))
    np.testing.assert_array_equal(block.counts.value_rt, COUNTS[rows])
    np.testing.assert_array_equal(block.signal.value_rt, SIGNAL[rows])


@pytest.mark.parametrize("rows", [(-1, 3), (2, 8), (5, 4)])
def test_rows_that_are_not_there_are_an_index_error(rows):
    data = check(example())
    with pytest.raises(IndexError, match="7 regions"):
        data.read(*rows)
    with pytest.raises(IndexError, match="7 regions"):
        data.read_rows(np.array([0, -1])) if rows[0] < 0 else data.read_rows(np.array([0, 7]))


def test_dense_float32_without_gaps_is_not_copied():
    adata = example()
    assert np.shares_memory(check(adata).read(2, 5).counts.value_rt, adata.X)


# all storages alike

STORAGES = {
    "dense": lambda values: values,
    "fortran order": np.asfortranarray,
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
}


@pytest.fixture
def reference():
    return check(example())


def assert_reads_like(data, reference):
    assert_same(data.read(0, 7), reference.read(0, 7))
    assert_same(data.read(3, 6), reference.read(3, 6))
    assert_same(data.read(4, 4), reference.read(4, 4))
    for rows in ([6, 1, 2, 1], [0, 1, 2, 5], []):
        assert_same(data.read_rows(np.array(rows)), reference.read_rows(np.array(rows)))
    for mine, other in (
        (data.summary.counts, reference.summary.counts),
        (data.summary.signal, reference.summary.signal),
    ):
        for item in fields(mine):
            np.testing.assert_allclose(getattr(mine, item.name), getattr(other, item.name), rtol=1e-6)


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "uint64", "float32", "float64"])
def test_counts_read_alike_from_every_storage_and_type(storage, dtype, reference):
    assert_reads_like(check(example(storage(COUNTS.astype(dtype)))), reference)


@pytest.mark.parametrize("dtype", [bool, np.float16])
def test_dense_counts_may_be_flags_or_half_floats(dtype):
    counts = COUNTS > 2
    np.testing.assert_array_equal(check(example(counts.astype(dtype))).read(0, 7).counts.value_rt, counts)


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_gaps_read_alike_from_every_storage(storage):
    counts, signal = edited(COUNTS, (1, 2, NAN), (6, 4, NAN)), edited(SIGNAL, (0, 0, NAN))
    observed = np.ones((7, 5), dtype=np.int8)
    observed[3:, 1] = 0
    keys = {"observed_layer": "observed", "signal_layer": "signal"}
    expected = check(example(counts, observed=observed, signal=signal), **keys)
    stored = example(storage(counts), observed=storage(observed), signal=storage(signal))
    assert_reads_like(check(stored, **keys), expected)
    assert expected.summary.counts.number_t.tolist() == [7, 3, 6, 7, 6]


@pytest.mark.parametrize("flags", [bool, np.uint8, np.float64])
def test_the_mask_may_be_boolean_or_any_number(flags):
    observed = COUNTS > 1
    expected = check(example(observed=observed), observed_layer="observed")
    assert_reads_like(check(example(observed=observed.astype(flags)), observed_layer="observed"), expected)


@pytest.mark.parametrize("storage", [STORAGES["dense"], sp.csr_matrix], ids=["dense", "csr"])
@pytest.mark.parametrize("backed", [True, False], ids=["backed", "in memory"])
def test_files_read_like_memory(tmp_path, storage, backed, reference):
    example(storage(COUNTS)).write_h5ad(tmp_path / "counts.h5ad")
    adata = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r" if backed else None)
    assert_reads_like(check(adata), reference)
    if backed:
        adata.file.close()


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_a_view_reads_like_its_copy(storage):
    adata = example(storage(COUNTS), signal=SIGNAL)
    for rows in (slice(1, 6), [0, 1, 4, 6], np.array([True, False, True, True, True, True, False])):
        view = adata[rows]
        data = check(view, signal_layer="signal")
        block, expected = data.read(0, data.n_regions), check(view.copy(), signal_layer="signal").read(0, view.n_obs)
        assert_same(block, expected)
        assert view.is_view


def test_a_view_of_a_backed_file_reads_like_memory(tmp_path):
    example().write_h5ad(tmp_path / "counts.h5ad")
    adata = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    np.testing.assert_array_equal(check(adata[1:6]).read(0, 5).counts.value_rt, COUNTS[1:6])
    adata.file.close()


def test_dask_reads_like_memory(reference):
    dask = pytest.importorskip("dask.array")
    assert_reads_like(check(example(dask.from_array(COUNTS, chunks=(2, 3)))), reference)


def test_chunks_of_any_size_give_the_same_summary_and_the_same_error(monkeypatch):
    counts = edited(COUNTS, (2, 3, NAN))
    broken = edited(COUNTS, (2, 3, 0.5), (6, 0, -1))
    expected = check(example(counts))
    for entries in (1, 11, 15, 1000):
        monkeypatch.setattr(survey, "CHUNK_ENTRIES", entries)
        assert_reads_like(check(example(counts)), expected)
        with pytest.raises(ValueError, match=r"region chr1:400-600, track NK.H3K4me3 is 0.5 \(and 1 more\)"):
            check(example(broken))


# what is known beforehand


def test_the_summary_is_that_of_the_measured_entries():
    counts, signal = edited(COUNTS, (1, 2, NAN), (4, 0, NAN)), edited(SIGNAL, (3, 4, NAN), (5, 4, NAN))
    data = check(example(counts, signal=signal), signal_layer="signal")
    for moments, values in ((data.summary.counts, counts), (data.summary.signal, signal)):
        np.testing.assert_array_equal(moments.number_t, (~np.isnan(values)).sum(axis=0))
        np.testing.assert_allclose(moments.mean_t, np.nanmean(values, axis=0))
        np.testing.assert_allclose(moments.variance_t, np.nanvar(values, axis=0), atol=1e-12)
    np.testing.assert_allclose(data.counted_share_t, [6 / 7, 1, 6 / 7, 1, 1])
    np.testing.assert_allclose(data.signalled_share_t, [1, 1, 1, 1, 5 / 7])
    assert data.seen == data.views == (ViewKind.COUNTS, ViewKind.SIGNAL)
    assert (data.n_regions, data.n_tracks) == (7, 5)
    assert list(data.region_names) == REGIONS
    np.testing.assert_array_equal(data.segments.offsets, [0, 4, 6, 7])


def test_counts_that_overflow_int16_and_float32_sums_are_added_exactly():
    counts = np.full((7, 5), 16_777_217, dtype=np.int32)
    np.testing.assert_array_equal(check(example(counts)).summary.counts.total_t, np.full(5, 7 * 16_777_217))
    np.testing.assert_allclose(check(example(counts)).depth_t, np.full(5, 7 * 16_777_217), rtol=1e-15)
    counts = np.full((7, 5), 30_000, dtype=np.int16)
    np.testing.assert_array_equal(check(example(counts)).summary.counts.total_t, np.full(5, 210_000))


def test_depth_without_a_key_is_what_the_measured_regions_promise_for_all():
    counts = np.tile(np.arange(7.0)[:, None], (1, 5))
    counts[4:, 1] = NAN
    counts[:, 2] = NAN
    # the last region has an eighth of the width of the others
    np.testing.assert_allclose(check(example(counts)).depth_t, [21, 6 / 4 * 6.125, NAN, 21, 21])


def test_depth_is_that_of_the_key_and_may_be_unknown_where_nothing_is_counted():
    depth = np.array([5e6, 4e6, NAN, 2e6, 1e6])
    counts = COUNTS.copy()
    counts[:, 2] = NAN
    np.testing.assert_array_equal(check(example(counts, var={"reads": depth}), depth_key="reads").depth_t, depth)


# what must simply work


def without(*columns: int) -> np.ndarray:
    counts = COUNTS.copy()
    counts[:, list(columns)] = NAN
    return counts


def test_signal_alone_is_enough():
    data = check(example(None, signal=SIGNAL), signal_layer="signal")
    assert data.seen == (ViewKind.SIGNAL,)
    block = data.read(2, 5)
    assert block.counts.value_rt.shape == block.counts.present_rt.shape == (3, 5)
    assert not block.counts.present_rt.any()
    assert np.isnan(data.depth_t).all()


def test_the_advice_to_move_signal_out_of_x_works():
    adata = example(SIGNAL)
    adata.layers["signal"] = adata.X
    adata.X = None
    np.testing.assert_array_equal(check(adata, signal_layer="signal").read(0, 7).signal.value_rt, SIGNAL)


def test_signal_alone_is_enough_beside_counts_that_are_all_missing():
    data = check(example(without(0, 1, 2, 3, 4), signal=SIGNAL), signal_layer="signal")
    assert data.seen == (ViewKind.SIGNAL,)


def test_counts_alone_are_enough_beside_signal_that_is_all_missing():
    data = check(example(signal=np.full((7, 5), NAN)), signal_layer="signal")
    assert data.seen == (ViewKind.COUNTS,)


def test_counts_and_signal_may_cover_different_tracks():
    signal = np.full((7, 5), NAN)
    signal[:, [1, 2]] = SIGNAL[:, [1, 2]]
    data = check(example(without(1, 2), signal=signal), signal_layer="signal")
    np.testing.assert_array_equal(data.counted_share_t > 0, [True, False, False, True, True])
    np.testing.assert_array_equal(data.signalled_share_t > 0, [False, True, True, False, False])


@pytest.mark.parametrize("biosamples", [["K562"] * 5, list("abcde")], ids=["one biosample", "one assay"])
def test_one_biosample_or_one_assay_is_enough(biosamples):
    assays = list("vwxyz") if biosamples[0] == biosamples[1] else ["ATAC"] * 5
    assert check(example(var={"biosample": biosamples, "assay": assays})).n_tracks == 5


def test_one_track_is_enough():
    data = check(example()[:, [2]].copy())
    np.testing.assert_array_equal(data.read(0, 7).counts.value_rt, COUNTS[:, [2]])


def test_one_region_is_enough():
    assert check(example(np.full((7, 5), 2))[[3]].copy()).n_regions == 1


def test_a_track_without_data_is_fine_while_its_assay_or_biosample_has_some():
    labels = {"biosample": ["K562", "K562", "NK", "NK", "GM"], "assay": ["A", "B", "C", "A", "B"]}
    assert ViewKind.COUNTS in check(example(without(2, 4), var=labels)).seen


def test_the_relative_of_a_track_without_data_may_have_signal_only():
    signal = np.full((7, 5), NAN)
    signal[:, 0] = SIGNAL[:, 0]
    var = {"biosample": ["GM", "K562", "K562", "NK", "GM"], "assay": ["A", "B", "C", "B", "D"]}
    assert ViewKind.SIGNAL in check(example(without(0, 4), var=var, signal=signal), signal_layer="signal").seen


def test_rows_without_a_read_or_without_any_data_are_fine():
    counts = COUNTS.copy()
    counts[1], counts[2] = 0, NAN
    np.testing.assert_array_equal(check(example(counts)).read(1, 3).counts.present_rt.sum(axis=1), [5, 0])


@pytest.mark.parametrize("value", [-1, 3.5, np.inf, NAN])
def test_the_number_under_a_missing_entry_does_not_matter(value):
    observed = np.ones((7, 5))
    observed[1, 2] = 0
    data = check(example(edited(COUNTS, (1, 2, value)), observed=observed), observed_layer="observed")
    assert data.read(1, 2).counts.value_rt[0, 2] == 0
    np.testing.assert_allclose(data.summary.counts.total_t[2], COUNTS[:, 2].sum() - COUNTS[1, 2])


def test_any_rows_will_do_with_a_segment_key():
    adata = example(obs={"gene": list("aabbbcd")})
    adata.obs = adata.obs[["gene"]]
    np.testing.assert_array_equal(check(adata, segment_key="gene").segments.lengths, [2, 3, 1, 1])


def test_controls_are_read_like_other_tracks():
    data = check(example(var={"input": [0, 0, 0, 0, 1]}), control_key="input")
    np.testing.assert_array_equal(data.tracks.is_control, [False, False, False, False, True])
    np.testing.assert_array_equal(data.read(0, 7).counts.value_rt, COUNTS)


def test_signal_may_fall_below_zero_by_rounding():
    assert ViewKind.SIGNAL in check(example(signal=edited(SIGNAL, (1, 1, -1e-6))), signal_layer="signal").seen


# what is refused


def repeated_names(axis: str) -> AnnData:
    adata = example()
    names = list(getattr(adata, axis))
    names[3] = names[1]
    setattr(adata, axis, names)
    return adata


OBSERVED, SIGNALLED = {"observed_layer": "observed"}, {"signal_layer": "signal"}
LONE = {"biosample": ["K562", "K562", "K562", "NK", "GM"], "assay": ["A", "B", "C", "A", "D"]}

REFUSED = {
    "negative": (
        lambda: example(edited(COUNTS, (2, 3, -4), (5, 0, -1))),
        {},
        ["adata.X must hold whole counts; region chr1:400-600, track NK.H3K4me3 is -4 (and 1 more)"],
    ),
    "negative integer": (
        lambda: example(edited(COUNTS, (2, 3, -4)).astype(np.int16)),
        {},
        ["region chr1:400-600, track NK.H3K4me3 is -4."],
    ),
    "fractional in a layer": (
        lambda: example(raw=edited(COUNTS, (0, 1, 3.5))),
        {"layer": "raw"},
        ["layer 'raw' must hold whole counts; region chr1:0-200, track K562.H3K27ac is 3.5. Count reads with"],
    ),
    "fractional in CSR": (
        lambda: example(sp.csr_matrix(edited(COUNTS, (6, 4, 0.25)))),
        {},
        ["region chr3:0-25, track NK.ATAC is 0.25."],
    ),
    "signal in X": (lambda: example(SIGNAL), {}, ["(and 34 more)", "If X is signal, move it", "signal_layer='signal'"]),
    "infinite": (lambda: example(edited(COUNTS, (0, 1, np.inf))), {}, ["track K562.H3K27ac is inf"]),
    "text": (lambda: example(raw=COUNTS.astype(str)), {"layer": "raw"}, ["layer 'raw' must hold numbers", "dtype"]),
    "column-wise sparse": (
        lambda: example(sp.csc_matrix(COUNTS)),
        {},
        ["adata.X is read by region", "CSC", ".tocsr()"],
    ),
    "masked array": (
        lambda: example(raw=np.ma.masked_array(COUNTS)),
        {"layer": "raw"},
        ["layer 'raw' is a masked array", ".filled(np.nan)"],
    ),
    "mask is not 0 or 1": (
        lambda: example(observed=edited(np.ones((7, 5)), (1, 0, 2), (1, 1, NAN))),
        OBSERVED,
        ["layer 'observed' must be 1", "region chr1:200-400, track K562.H3K4me3 is 2 (and 1 more)"],
    ),
    "mask is text": (
        lambda: example(observed=np.full((7, 5), "yes")),
        OBSERVED,
        ["layer 'observed' must hold numbers"],
    ),
    "mask without counts": (
        lambda: example(None, observed=np.ones((7, 5)), signal=SIGNAL),
        OBSERVED | SIGNALLED,
        ["layer 'observed' marks", "adata.X is None"],
    ),
    "signal is infinite": (
        lambda: example(signal=edited(SIGNAL, (4, 2, np.inf), (5, 2, -np.inf))),
        SIGNALLED,
        ["layer 'signal' must hold arcsinh(-log10 p)", "region chr2:0-200, track K562.ATAC is inf (and 1 more)"],
    ),
    "signal is negative": (
        lambda: example(signal=edited(SIGNAL, (4, 2, -0.5))),
        SIGNALLED,
        ["layer 'signal' must hold arcsinh(-log10 p)", "region chr2:0-200, track K562.ATAC is -0.5"],
    ),
    "no data": (lambda: example(None, raw=COUNTS), {}, ["adata.X is None", "There is: raw"]),
    "one layer twice": (
        lambda: example(raw=COUNTS),
        {"layer": "raw", "signal_layer": "raw"},
        ["must be different layers; got raw, raw"],
    ),
    "no region": (lambda: example()[:0].copy(), {}, ["it has 0 and 5"]),
    "no track": (lambda: example()[:, :0].copy(), {}, ["it has 7 and 0"]),
    "region twice": (
        lambda: repeated_names("obs_names"),
        {},
        ["obs_names must be unique; chr1:200-400 comes back", "obs_names_make_unique"],
    ),
    "track twice": (
        lambda: repeated_names("var_names"),
        {},
        ["var_names must be unique; K562.H3K27ac comes back", "var_names_make_unique"],
    ),
    "unsorted": (lambda: example()[[1, 0, 2, 3]].copy(), {}, ["sorted", "region chr1:0-200", "sort_values"]),
    "empty region": (
        lambda: example(obs={"end": [200, 400, 600, 1100, 200, 400, 0]}),
        {},
        ["end after they start", "region chr3:0-25 is chr3:0-0"],
    ),
    "same experiment twice": (
        lambda: example(var={"assay": ["A", "B", "C", "D", "D"]}),
        {},
        ["NK.H3K4me3 and NK.ATAC are both biosample 'NK', assay 'D'", "NK_rep1", "merge"],
    ),
    "label missing": (
        lambda: example(var={"assay": ["A", "B", None, "D", "E"]}),
        {},
        ["column 'assay'", "track K562.ATAC has "],
    ),
    "control unclear": (
        lambda: example(var={"input": [0, 0, NAN, 0, 1]}),
        {"control_key": "input"},
        ["column 'input'", "track K562.ATAC has nan"],
    ),
    "only controls": (lambda: example(var={"input": True}), {"control_key": "input"}, ["no control", "all 5"]),
    "no depth": (
        lambda: example(var={"reads": [1, 2, NAN, NAN, 5]}),
        {"depth_key": "reads"},
        ["column 'reads'", "track K562.ATAC has none (and 1 more)", "leave out depth_key"],
    ),
    "zero depth": (
        lambda: example(var={"reads": [1, 2, 3, 0, 5]}),
        {"depth_key": "reads"},
        ["column 'reads'", "above 0", "track NK.H3K4me3 has 0"],
    ),
    "no read and no depth": (
        lambda: example(COUNTS * [1, 1, 0, 1, 0]),
        {},
        ["track K562.ATAC has none in any region", "(and 1 more)", "depth_key"],
    ),
    "nothing measured": (lambda: example(np.full((7, 5), NAN)), {}, ["all entries are missing", "1 means measured"]),
    "nothing but a control measured": (
        lambda: example(without(0, 1, 2, 3), var={"input": [0, 0, 0, 0, 1]}),
        {"control_key": "input"},
        ["at least one track that is no control must have data"],
    ),
    "a track nothing is known about": (
        lambda: example(without(1, 4), var=LONE),
        {},
        ["share its biosample or its assay", "track NK.ATAC does not"],
    ),
    "a track related to none but another without data": (
        lambda: example(without(3, 4), var=LONE | {"assay": ["A", "B", "C", "D", "D"]}),
        {},
        ["track NK.H3K4me3 does not (and 1 more)"],
    ),
    "unknown layer": (
        lambda: example(raw_counts=COUNTS, signal=SIGNAL),
        {"layer": "Counts"},
        ["layer 'Counts' is not in adata.layers; did you mean 'raw_counts'? There is: raw_counts, signal."],
    ),
    "unknown mask": (lambda: example(mask=COUNTS), OBSERVED, ["observed_layer 'observed'", "There is: mask."]),
    "unknown signal": (lambda: example(), SIGNALLED, ["signal_layer 'signal' is not in adata.layers", "nothing"]),
    "unknown biosample column": (
        lambda: example(),
        {"biosample_key": "cell"},
        ["biosample_key 'cell' is not in adata.var. There is: biosample, assay."],
    ),
    "unknown segment column": (
        lambda: example(),
        {"segment_key": "gene"},
        ["segment_key 'gene' is not in adata.obs. There is: chrom, start, end."],
    ),
}


def test_an_overlap_ends_a_stretch_with_one_warning_that_counts_them_and_names_the_first():
    adata = example(obs={"end": [200, 401, 600, 1100, 201, 400, 25]})
    with pytest.warns(UserWarning) as warned:
        data = check(adata)
    (message,) = (str(one.message) for one in warned)
    assert "chr1:400-600 is chr1:400-600 (and 1 more). Each begins a new stretch" in message
    np.testing.assert_array_equal(data.segments.offsets, [0, 2, 4, 5, 6, 7])
    check(example(obs={"gene": list("aaabbbb"), "end": [200, 401, 600, 1100, 201, 400, 25]}), segment_key="gene")


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@pytest.mark.parametrize(("make", "keys", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_breaks_the_contract_is_refused_by_name_and_left_as_it_was(make, keys, expected):
    adata = make()
    before = adata.copy()
    with pytest.raises(ValueError) as error:
        check(adata, **keys)
    for text in expected:
        assert text in str(error.value)
    assert_unchanged(adata, before)


def assert_unchanged(adata: AnnData, before: AnnData):
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert dict(adata.uns) == dict(before.uns)
    assert list(adata.layers) == list(before.layers)
    for matrix, old in [(adata.X, before.X), *((adata.layers[key], before.layers[key]) for key in before.layers)]:
        assert type(matrix) is type(old)
        if matrix is not None:
            matrix, old = (one.toarray() if sp.issparse(one) else one for one in (matrix, old))
            np.testing.assert_array_equal(matrix, old)


def test_an_accepted_anndata_is_left_as_it_was_too():
    adata = example(edited(COUNTS, (1, 1, NAN)), observed=(COUNTS > 1).astype(int), signal=SIGNAL)
    before = adata.copy()
    check(adata, **OBSERVED, **SIGNALLED).read(0, 7)
    assert_unchanged(adata, before)


def test_signal_without_arcsinh_draws_a_warning_at_the_line_of_the_caller():
    adata = example(signal=np.sinh(SIGNAL))
    with pytest.warns(UserWarning, match=r"layer 'signal'.*arcsinh.*region chr1:0-200, track .*np\.arcsinh") as caught:
        check_anndata(adata, SetupKeys(signal_layer="signal"))
    assert [warning.filename for warning in caught] == [__file__]


def test_signal_as_it_should_be_draws_no_warning():
    strongest = np.arcsinh(-np.log10(np.full((7, 5), 1e-300)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(example(signal=strongest), signal_layer="signal")


# another AnnData, to predict on


def test_prediction_takes_tracks_without_data_and_its_own_depth():
    reference = check(example(var={"reads": 1e6}), depth_key="reads").tracks
    adata = example(without(0, 1, 2, 3, 4), var={"reads": [1e5, 2e5, NAN, 4e5, 5e5]})
    data = open_track_data(adata, SetupKeys(depth_key="reads"), reference)
    assert ViewKind.COUNTS not in data.seen
    np.testing.assert_array_equal(data.depth_t, [1e5, 2e5, NAN, 4e5, 5e5])


def test_prediction_takes_regions_without_a_read_whose_depth_is_then_unknown(reference):
    adata = example(COUNTS * [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(
        np.isnan(open_track_data(adata, SetupKeys(), reference.tracks).depth_t), [False, False, True, False, False]
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: example()[:, [0, 2, 1, 3, 4]].copy(), "column 1 is K562.ATAC, expected K562.H3K27ac"),
        (lambda: example()[:, 1:].copy(), "missing K562.H3K4me3"),
        (
            lambda: example(var={"biosample": ["K562"] * 3 + ["GM"] * 2}),
            r"NK.H3K4me3 is biosample 'GM'.*\(and 1 more\)",
        ),
        (lambda: example(edited(COUNTS, (1, 1, 0.5))), "region chr1:200-400, track K562.H3K27ac is 0.5"),
    ],
    ids=["permuted", "missing", "relabelled", "fractional"],
)
def test_prediction_refuses_other_tracks_and_broken_counts(make, expected, reference):
    with pytest.raises(ValueError, match=expected):
        open_track_data(make(), SetupKeys(), reference.tracks)
