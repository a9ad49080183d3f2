"""What holds for any data: properties of predictions over random AnnDatas, and of files that were cut."""

from __future__ import annotations

import shutil

import anndata
import dask.array
import numpy as np
import pandas as pd
import pybigtools
import pysam
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from chipvi import ChipVI, io
from chipvi.io.inputs import read_anndata
from chipvi.io.sheets.assemble import write_whole

CASES = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEMPLATE: dict[str, AnnData] = {}


@pytest.fixture(scope="module")
def trained(kit):
    TEMPLATE["adata"] = kit.data()
    return kit.train(kit.model(kit.data()), max_steps=12)


@st.composite
def anndatas(draw):
    """Any counts, signal, holes and stretches of regions with the tracks of the model."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    template = TEMPLATE["adata"]
    start = draw(st.integers(0, 200))
    adata = template[start : start + draw(st.integers(1, 60))].copy()
    rate = random.lognormal(draw(st.sampled_from([-2.0, 0.5, 4.0])), 1.0, adata.shape)
    adata.X = random.poisson(rate).astype(np.float32)
    adata.layers["observed"] = (random.random(adata.shape) < draw(st.sampled_from([0.1, 0.6, 1.0]))).astype(np.float32)
    signal = random.exponential(1.0, adata.shape).astype(np.float32)
    signal[random.random(adata.shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = np.nan
    adata.layers["signal"] = signal
    return adata


def predictions(model, adata, **options):
    """Everything that is predicted, as arrays by name."""
    found = model.impute(adata, **options)
    return {name: np.asarray(found.layers[name]) for name in found.layers}


def require_same(first, second, **tolerance):
    assert first.keys() == second.keys() and len(first) > 3
    for name, values in first.items():
        if tolerance:
            np.testing.assert_allclose(values, second[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_what_is_stored_in_a_missing_entry_never_matters(trained):
    @CASES
    @given(anndatas(), st.sampled_from([7.0, 1e9, np.nan]))
    def holds(adata, stored):
        other = adata.copy()
        other.X[other.layers["observed"] == 0] = stored
        require_same(predictions(trained, adata), predictions(trained, other))

    holds()


def test_corrupting_a_track_leaves_its_imputation_bit_by_bit(trained):
    targets = np.flatnonzero(~TEMPLATE["adata"].var["is_control"].to_numpy(dtype=bool))

    @CASES
    @given(anndatas(), st.sampled_from(list(targets)), st.integers(0, 10_000))
    def holds(adata, column, count):
        other, name = adata.copy(), adata.var_names[column]
        other.X[:, column] = count
        other.layers["signal"][:, column] = 3.25
        first, second = (trained.get_likelihood_parameters(x, tracks=[name]) for x in (adata, other))
        require_same(
            {f"{key}{n}": np.asarray(x) for n, (key, x) in enumerate(first.items())}
            | {"interval": np.stack(trained.get_prediction_interval(adata, tracks=[name])), "a": np.zeros(1)},
            {f"{key}{n}": np.asarray(x) for n, (key, x) in enumerate(second.items())}
            | {"interval": np.stack(trained.get_prediction_interval(other, tracks=[name])), "a": np.zeros(1)},
        )

    holds()


def test_twice_the_depth_is_twice_the_mean(trained):
    @CASES
    @given(anndatas(), st.floats(1e3, 1e9))
    def holds(adata, depth):
        once, twice = (trained.get_imputed_counts(adata, depth=d).to_numpy() for d in (depth, 2 * depth))
        np.testing.assert_allclose(twice, 2 * once, rtol=2e-5)

    holds()


def test_batches_do_not_matter_beyond_rounding(trained):
    @CASES
    @given(anndatas(), st.integers(1, 70))
    def holds(adata, batch_size):
        require_same(
            predictions(trained, adata), predictions(trained, adata, batch_size=batch_size), rtol=2e-4, atol=2e-4
        )

    holds()


def test_sparse_counts_are_predicted_as_dense_ones(trained):
    @CASES
    @given(anndatas())
    def holds(adata):
        other = adata.copy()
        other.X = csr_matrix(adata.X)
        require_same(predictions(trained, adata), predictions(trained, other))

    holds()


def test_each_method_returns_what_impute_returns(trained):
    @CASES
    @given(anndatas())
    def holds(adata):
        found = trained.impute(adata)
        np.testing.assert_array_equal(trained.get_imputed_counts(adata), found.X)
        lower, upper = trained.get_prediction_interval(adata)
        np.testing.assert_array_equal(lower, found.layers["lower"])
        np.testing.assert_array_equal(upper, found.layers["upper"])
        np.testing.assert_array_equal(trained.get_normalized_expression(adata), found.layers["denoised"])

    holds()


def stored(adata, kind, folder):
    """The same data as they may be kept: in a file, in chunks, on disk alone, or of another type."""
    path = folder / f"{kind}.{'zarr' if kind.startswith('zarr') else 'h5ad'}"
    if path.exists():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "zarr":
        return read_anndata(write_whole(adata, path))
    if kind == "backed":
        adata.write_h5ad(path)
        return anndata.read_h5ad(path, backed="r")
    other = adata.copy()
    if kind == "backed, sparse":
        other.X = csr_matrix(adata.X)
        other.write_h5ad(path)
        return anndata.read_h5ad(path, backed="r")
    chunks = (max(1, adata.n_obs // 3), 2)
    other.X = dask.array.from_array(np.asarray(adata.X), chunks=chunks)
    other.layers["signal"] = dask.array.from_array(adata.layers["signal"], chunks=chunks)
    return other


@pytest.mark.parametrize("kind", ["zarr", "backed", "backed, sparse", "dask"])
def test_what_is_stored_otherwise_is_predicted_alike_to_the_last_bit(trained, tmp_path, kind):
    @settings(CASES, max_examples=6)
    @given(anndatas())
    def holds(adata):
        other = stored(adata, kind, tmp_path)
        require_same(predictions(trained, adata), predictions(trained, other))
        if other.isbacked:
            other.file.close()

    holds()


def test_the_order_of_segments_permutes_what_is_predicted_and_nothing_else(trained):
    @settings(CASES, max_examples=12)
    @given(anndatas(), st.integers(0, 2**32 - 1))
    def holds(adata, seed):
        assume(adata.n_obs > 3)  # so that something is measured in every draw
        random = np.random.default_rng(seed)
        borders = np.flatnonzero(np.diff(adata.obs["chrom"].cat.codes)) + 1
        segments = np.split(np.arange(adata.n_obs), np.union1d(borders, random.choice(adata.n_obs, 3, replace=False)))
        # each on a chromosome of its own, so that any order of them is one of a genome
        adata.obs["chrom"] = np.repeat([f"chr{number}" for number in range(len(segments))], list(map(len, segments)))
        order = np.concatenate([segments[number] for number in random.permutation(len(segments))])
        expected, found = predictions(trained, adata), predictions(trained, adata[order].copy())
        require_same({name: values[order] for name, values in expected.items()}, found, rtol=2e-4, atol=2e-4)

    holds()


GENOME = pd.Series({"chr1": 5_000, "chr2": 1_700})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Files of each kind: a BAM of pairs and single reads, a BED, fragments, a bigWig, and a sheet that names them."""
    folder, random = tmp_path_factory.mktemp("inputs"), np.random.default_rng(5)
    header = {"HD": {"VN": "1.6"}, "SQ": [{"SN": name, "LN": int(length)} for name, length in GENOME.items()]}
    with pysam.AlignmentFile(str(folder / "a.bam"), "wb", header=header) as file:
        for number in range(3_000):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.reference_id = f"r{number}", int(random.integers(2))
            read.reference_start, read.flag = int(random.integers(0, 1_600)), int(random.choice([0, 16, 1024]))
            read.cigarstring, read.mapping_quality = "36M", int(random.integers(0, 60))
            file.write(read)
    places = [(str(random.choice(GENOME.index)), int(random.integers(0, 1_500))) for _ in range(800)]
    strands = random.choice(["+", "-"], len(places))
    bed = (f"{c}\t{s}\t{s + 40}\tr\t0\t{d}\n" for (c, s), d in zip(places, strands, strict=True))
    (folder / "b.bed").write_text("".join(bed))
    (folder / "c_fragments.tsv").write_text("".join(f"{c}\t{s}\t{s + 170}\tACGT\t1\n" for c, s in places))
    values = [("chr1", at, at + 50, float(random.gamma(2))) for at in range(0, 5_000, 50)]
    pybigtools.open(str(folder / "d.bw"), "w").write(GENOME.to_dict(), values)
    rows = [
        "K562,A,a.bam,alignments",
        "K562,B,b.bed,alignments",
        "K562,C,c_fragments.tsv,fragments",
        "K562,A,d.bw,pvalue",
    ]
    (folder / "sheet.csv").write_text("\n".join(["biosample,assay,file,kind", *rows]) + "\n")
    return folder


def counted(folder, processes=1):
    """All layers of the sheet's tracks, as arrays by name."""
    adata = io.count_sheet(folder / "sheet.csv", genome=GENOME, bin_size=100, processes=processes, progress=False)
    layers = {"X": adata.X} | dict(adata.layers)
    dense = {name: x.toarray() if hasattr(x, "toarray") else np.asarray(x) for name, x in layers.items()}
    return dense | {"depth": adata.var["depth"].to_numpy()}


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_does_not_matter_to_counting(inputs, processes):
    require_same(counted(inputs), counted(inputs, processes))


@st.composite
def damages(draw):
    """What may befall a file: a bit flips, its end is lost, or a piece of it comes twice."""
    kind = draw(st.sampled_from(["flip", "cut", "repeat"]))
    place, length, bit = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 400)), draw(st.integers(0, 7))

    def damage(good: bytes) -> bytes:
        at = int(place * len(good))
        if kind == "flip":
            return good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :]
        return good[:at] if kind == "cut" else good[: at + length] + good[at:]

    return damage


def refused_in_one_line(call):
    """What is called returns, or raises what the command line ends with in one line, and status 1 or 2."""
    try:
        return call()
    except (ValueError, OSError) as error:
        assert str(error) and len(str(error).splitlines()) == 1, error
        return None


# pysam closes a damaged file once more as it goes, and says so on standard error
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# Of what has checksums nothing wrong is ever taken for right; of the others only the first half can be held.
@pytest.mark.parametrize(("name", "has_checksums"), [("a.bam", True), ("d.bw", False), ("sheet.csv", False)])
def test_a_damaged_copy_is_refused_in_one_line(inputs, tmp_path, name, has_checksums):
    for path in inputs.iterdir():
        shutil.copy(path, tmp_path)
    good, expected = (inputs / name).read_bytes(), counted(inputs)

    @settings(CASES, max_examples=100)
    @given(damages())
    def holds(damage):
        (tmp_path / name).write_bytes(damage(good))
        found = refused_in_one_line(lambda: counted(tmp_path))
        if found is not None and has_checksums:
            require_same(expected, found)

    holds()


def test_a_damaged_copy_of_a_model_is_refused_in_one_line(trained, tmp_path):
    trained.save(tmp_path / "model")
    files = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    @settings(CASES, max_examples=100)
    @given(damages(), st.sampled_from(sorted(files)))
    def holds(damage, path):
        damaged = damage(files[path])
        path.write_bytes(damaged)
        model = refused_in_one_line(lambda: ChipVI.load(tmp_path / "model", trained.adata, accelerator="cpu"))
        path.write_bytes(files[path])
        assert model is None or damaged == files[path]

    holds()


def test_a_damaged_copy_of_a_zarr_store_is_refused_in_one_line(kit, tmp_path):
    write_whole(kit.data(n_regions=40), tmp_path / "good.zarr")
    files = sorted(
        path.relative_to(tmp_path / "good.zarr") for path in (tmp_path / "good.zarr").rglob("*") if path.is_file()
    )

    @settings(CASES, max_examples=40)
    @given(damages(), st.sampled_from(files))
    def holds(damage, path):
        good = (tmp_path / "good.zarr" / path).read_bytes()
        damaged = tmp_path / "damaged.zarr"
        shutil.copytree(tmp_path / "good.zarr", damaged)
        (damaged / path).write_bytes(damage(good))
        refused_in_one_line(lambda: read_anndata(damaged))
        shutil.rmtree(damaged)

    holds()


@pytest.fixture(scope="module")
def file(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "good.h5ad"
    kit.data().write_h5ad(path)
    return path


def test_a_file_that_ends_too_early_is_refused_in_one_line(file, tmp_path):
    good, cut = file.read_bytes(), tmp_path / "cut.h5ad"

    @CASES
    @given(st.integers(0, len(good) - 1))
    def holds(length):
        cut.write_bytes(good[:length])
        with pytest.raises((ValueError, OSError)) as caught:
            read_anndata(cut)
        assert str(caught.value) and len(str(caught.value).splitlines()) == 1

    holds()
