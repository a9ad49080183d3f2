"""The command that imputes: what it asks of a model, where it writes, and what it refuses."""

import gzip
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pybigtools
import pytest
from anndata import AnnData
from click.testing import Result
from typer.testing import CliRunner

from chipvi import ChipVI, datasets, io
from chipvi.cli.app import app
from chipvi.cli.places import find_regions
from chipvi.data import check

UNSEEN = "cell2.H3K4me3"
N_REGIONS = 320


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def make_data(**options) -> AnnData:
    sizes = {"n_regions": N_REGIONS, "n_biosamples": 3, "n_assays": 2, "n_chromosomes": 4, "controls": True}
    return datasets.simulate(**(sizes | {"signal": True, "missing": [UNSEEN], "seed": 3} | options))


def old_and_new() -> tuple[AnnData, AnnData]:
    """All tracks of two biosamples but one, and the tracks of a third."""
    adata = make_data(missing=[])
    is_new = (adata.var["biosample"] == "cell3").to_numpy()
    return adata[:, ~is_new & (adata.var_names != UNSEEN)].copy(), adata[:, is_new].copy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A trained model without the data of cell2.H3K4me3, beside its data."""
    path = tmp_path_factory.mktemp("trained")
    make_data().write_h5ad(path / "data.h5ad")
    assert call("train", path / "data.h5ad", "-o", path / "model", "--steps", 4).exit_code == 0
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """A model of two biosamples."""
    path = tmp_path_factory.mktemp("two")
    old_and_new()[0].write_h5ad(path / "data.h5ad")
    assert call("train", path / "data.h5ad", "-o", path / "model", "--steps", 4).exit_code == 0
    return path


def load(folder: Path, adata: AnnData | None = None) -> ChipVI:
    adata = anndata.read_h5ad(folder / "data.h5ad") if adata is None else adata
    return ChipVI.load(folder / "model", adata, accelerator="cpu")


def one_line(result: Result, exit_code: int = 2) -> str:
    assert result.exit_code == exit_code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def assert_same(first: AnnData, second: AnnData):
    pd.testing.assert_index_equal(first.var_names, second.var_names, check_names=False)
    assert list(first.obs_names) == list(second.obs_names)
    np.testing.assert_allclose(first.X, second.X, rtol=1e-5)
    assert set(first.layers) == set(second.layers)
    for name in first.layers:
        np.testing.assert_allclose(first.layers[name], second.layers[name], rtol=1e-5, atol=1e-6)


def impute(folder: Path, out: Path, *options: object) -> AnnData:
    result = call("impute", folder / "model", "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert f"Wrote: {out}" in result.stdout.replace("\n", "")
    return anndata.read_h5ad(out)


def test_the_file_is_what_python_imputes_of_all_tracks_but_the_controls(folder, tmp_path):
    written = impute(folder, tmp_path / "new" / "out.h5ad")
    assert_same(written, load(folder).impute())
    assert not written.var_names.str.contains("input", case=False).any()


def test_what_is_not_asked_for_is_left_out_and_the_rest_is_the_same(folder, tmp_path):
    whole = load(folder).impute()
    without = impute(folder, tmp_path / "no.h5ad", "--no-intervals", "--no-denoised")
    assert set(whole.layers) - set(without.layers) == {"lower", "upper", "denoised"}
    assert "level" in whole.uns["chipvi"] and "level" not in without.uns["chipvi"]
    for name in [None, *without.layers]:
        first, second = (a.X if name is None else a.layers[name] for a in (whole, without))
        np.testing.assert_array_equal(first, second)


def test_tracks_depth_level_and_regions_are_those_asked_for(folder, tmp_path):
    options = ["--tracks", "cell3.H3K4me3, cell2:H3K4me3", "--depth", "5e4", "--level", "0.5"]
    written = impute(folder, tmp_path / "out.h5ad", *options, "--regions", "chr2")
    model = load(folder)
    rows = np.flatnonzero(model.adata.obs["chrom"] == "chr2")
    tracks = ["cell3.H3K4me3", UNSEEN]
    assert_same(written, model.impute(indices=rows, tracks=tracks, depth=5e4, level=0.5))
    np.testing.assert_allclose(written.var["depth"], 5e4, rtol=1e-5)


def test_an_experiment_that_is_no_column_is_asked_for_by_biosample_and_assay(two, tmp_path):
    written = impute(two, tmp_path / "out.h5ad", "--tracks", UNSEEN)
    table = pd.DataFrame({"biosample": ["cell2"], "assay": ["H3K4me3"]})
    assert_same(written, load(two).impute(tracks=table))


def test_bigwig_files_hold_what_was_imputed_and_leave_nothing_else(folder, tmp_path):
    obs = make_data().obs
    sizes = tmp_path / "chrom.sizes"
    ends = obs.groupby("chrom", observed=True)["end"].max() + 77
    sizes.write_text("".join(f"{chrom}\t{end}\n" for chrom, end in ends.items()))
    both = call(
        *("impute", folder / "model", "-o", tmp_path / "out.h5ad", "--bigwig", tmp_path / "both"),
        *("--genome", sizes, "--tracks", "cell1.H3K4me3"),
    )
    assert both.exit_code == 0, both.output
    alone = call("impute", folder / "model", "--bigwig", tmp_path / "alone", "--tracks", "cell1.H3K4me3")
    assert alone.exit_code == 0, alone.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "both", "chrom.sizes", "out.h5ad"]
    expected = ["denoised", "imputed", "lower", "pval", "upper"]
    for name in ("both", "alone"):
        assert sorted(p.name for p in (tmp_path / name).glob("*.bw")) == [f"cell1.H3K4me3.{k}.bw" for k in expected]
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    with pybigtools.open(str(tmp_path / "both" / "cell1.H3K4me3.imputed.bw")) as file:
        assert file.chroms() == dict(ends)
        for row in (0, 85, N_REGIONS - 1):
            region = written.obs.iloc[row]
            values = file.values(str(region["chrom"]), int(region["start"]), int(region["end"]), fillna=None)
            np.testing.assert_allclose(values, written.X[row, 0], rtol=1e-3)


def test_hub_and_session_have_the_measured_tracks_and_are_as_asked_for(folder, tmp_path):
    options = (
        "--genome",
        "hg19",
        "--email",
        "a@b.org",
        "--locus",
        "chr2:1-9,000",
        "--tracks",
        f"cell1.H3K4me3,{UNSEEN}",
    )
    result = call("impute", folder / "model", "--bigwig", tmp_path / "bw", "--regions", "chr2", *options)
    assert result.exit_code == 0, result.output
    found = {
        kind: sorted(path.name for path in (tmp_path / "bw").glob(f"*.{kind}.bw")) for kind in ("observed", "imputed")
    }
    assert found == {
        "observed": ["cell1.H3K4me3.observed.bw"],
        "imputed": ["cell1.H3K4me3.imputed.bw", f"{UNSEEN}.imputed.bw"],
    }
    adata = make_data()
    with pybigtools.open(str(tmp_path / "bw" / "cell1.H3K4me3.observed.bw")) as file:
        row = adata.obs[adata.obs["chrom"] == "chr2"].iloc[7]
        values = file.values("chr2", int(row["start"]), int(row["end"]), fillna=None)
        np.testing.assert_allclose(values, adata[row.name, "cell1.H3K4me3"].X.item(), rtol=1e-3)
    assert "email a@b.org" in (tmp_path / "bw" / "hub.txt").read_text()
    assert 'locus="chr2:1-9,000"' in (tmp_path / "bw" / "igv_session.xml").read_text()
    wrong = call("impute", folder / "model", "--bigwig", tmp_path / "no", "--genome", "hg19", "--locus", "chr2:9-1")
    assert "a place counts from 1 and ends where it starts or later; got 'chr2:9-1'" in one_line(wrong)


def test_hub_and_session_are_of_the_assembly_that_the_data_name_or_else_their_lack_is_told(folder, tmp_path):
    adata = make_data()
    adata.uns["assembly"] = "hg19"
    adata.write_h5ad(tmp_path / "named.h5ad")
    options = ["--tracks", UNSEEN, "--regions", "chr2"]
    named = call("impute", folder / "model", "--data", tmp_path / "named.h5ad", "--bigwig", tmp_path / "bw", *options)
    assert named.exit_code == 0, named.output
    assert "hub.txt: a track hub" in named.stdout and "No track hub" not in named.stdout
    assert "genome hg19" in (tmp_path / "bw" / "genomes.txt").read_text()
    plain = call("impute", folder / "model", "--bigwig", tmp_path / "plain", *options)
    assert "No track hub, no session: the data name no assembly" in plain.stdout.replace("\n", " ")
    assert {path.suffix for path in (tmp_path / "plain").iterdir()} == {".bw"}


def test_chromhmm_gets_what_was_measured_and_what_was_imputed_alone_or_beside_a_file(folder, tmp_path):
    both = call("impute", folder / "model", "-o", tmp_path / "out.h5ad", "--chromhmm", tmp_path / "both")
    alone = call("impute", folder / "model", "--chromhmm", tmp_path / "alone")
    assert both.exit_code == alone.exit_code == 0, both.output + alone.output
    adata, result = make_data(), anndata.read_h5ad(tmp_path / "out.h5ad")
    io.write_chromhmm(result, tmp_path / "python", adata, observed_layer="observed")
    for path in sorted((tmp_path / "python").rglob("*.gz")):
        for name in ("both", "alone"):
            other = tmp_path / name / path.relative_to(tmp_path / "python")
            assert gzip.open(other).read() == gzip.open(path).read()
    signal = pd.read_csv(tmp_path / "alone" / "signal" / "cell2_chr1_signal.txt.gz", sep="\t", skiprows=1)
    np.testing.assert_array_equal(signal["H3K4me1"], adata.to_df()["cell2.H3K4me1"][:80])
    np.testing.assert_allclose(signal["H3K4me3"], result.to_df()[UNSEEN][:80], rtol=1e-4)


def test_overlapping_regions_are_refused_for_bigwig_files_before_anything_is_imputed(folder, tmp_path):
    overlapping = make_data()
    overlapping.obs.iloc[3, 1] -= 1
    overlapping.write_h5ad(tmp_path / "data.h5ad")
    line = one_line(call("impute", folder / "model", "--data", tmp_path / "data.h5ad", "--bigwig", tmp_path / "bw"))
    assert "cannot hold regions that overlap; region chr1:600-800 is chr1:599-800" in line
    assert not (tmp_path / "bw").exists()


def test_a_dry_run_tells_and_writes_nothing(folder, tmp_path):
    options = ["--bigwig", tmp_path / "bw", "--chromosomes", "chr1,chr[34]", "--dry-run"]
    result = call("impute", folder / "model", "-o", tmp_path / "out.h5ad", *options)
    assert result.exit_code == 0, result.output
    assert "Would impute 240 regions x " in result.stdout and UNSEEN in result.stdout
    assert result.stdout.count("Would write: ") == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", [False, True], ids=["data of training", "data named"])
def test_the_data_are_gone_through_once(folder, tmp_path, monkeypatch, named):
    passes = []
    survey = check.survey
    monkeypatch.setattr(check, "survey", lambda *args: passes.append(1) or survey(*args))
    data = ["--data", folder / "data.h5ad"] if named else []
    assert call("impute", folder / "model", "-o", tmp_path / "out.h5ad", "--tracks", UNSEEN, *data).exit_code == 0
    assert len(passes) == 1
    passes.clear()
    model = load(folder)
    assert len(passes) == 1
    model.impute(indices=[0])
    assert len(passes) == 2  # for the data may have been changed between two calls


# data


def test_other_regions_are_imputed_whatever_the_order_of_the_tracks(folder, tmp_path):
    other = make_data(n_regions=200, seed=8)
    other[:, ::-1].copy().write_h5ad(tmp_path / "other.h5ad")
    written = impute(folder, tmp_path / "out.h5ad", "--data", tmp_path / "other.h5ad")
    assert_same(written, load(folder, other).impute())


@pytest.mark.parametrize("beside", [False, True], ids=["new tracks alone", "beside the old"])
def test_biosamples_that_the_model_has_not_seen_become_a_query(two, tmp_path, beside):
    old, new = old_and_new()
    data = anndata.concat([old, new], axis=1, merge="first") if beside else new
    data.obs = old.obs
    data.write_h5ad(tmp_path / "new.h5ad")
    out = tmp_path / "out.h5ad"
    result = call("impute", two / "model", "--data", tmp_path / "new.h5ad", "-o", out)
    assert result.exit_code == 0, result.output
    assert "New to the model: cell3." in result.stdout
    query = ChipVI.load_query_data(new, load(two))
    targets = [name for name in new.var_names if not new.var.loc[name, "is_control"]]
    assert len(targets) == 2
    assert_same(anndata.read_h5ad(out), query.impute(tracks=targets))


def test_a_query_elsewhere_is_told_that_it_has_little_to_go_by(two, tmp_path):
    old, new = old_and_new()
    new.obs[["start", "end"]] += 10_000_000
    new.write_h5ad(tmp_path / "new.h5ad")
    result = call("impute", two / "model", "--data", tmp_path / "new.h5ad", "-o", tmp_path / "o.h5ad")
    assert result.exit_code == 0, result.output
    assert "Warning: no region of the query is a region of the reference" in result.stdout


def test_data_that_lack_a_track_are_refused_by_its_name(folder, tmp_path):
    make_data()[:, 1:].copy().write_h5ad(tmp_path / "less.h5ad")
    message = one_line(call("impute", folder / "model", "--data", tmp_path / "less.h5ad", "-o", tmp_path / "o.h5ad"))
    assert f"missing {make_data().var_names[0]}" in message


# what cannot be done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tracks", "cell1.H3K4me2"], "track 'cell1.H3K4me2' is not in"),
        (["--tracks", " , "], "tracks name no track"),
        (["--tracks", "cell1.Input"], "track cell1.Input is a control"),
        (["--regions", "chr9"], "chromosome 'chr9' is not in the data; did you mean"),
        (["--regions", "chr1:90,000,000-90,000,005"], "no region of the data lies in chr1:90,000,000-90,000,005; on"),
        (["--regions", "chr1:5"], "must be a BED file, or a place such as"),
        (["--regions", "chr1:0-5"], "a place counts from 1"),
        (["--regions", "peaks.bed"], "there is no peaks.bed."),
        (["--chromosomes", "chr9"], "'chr9' matches no whole name of the genome"),
        (["--chromosomes", "chr1", "--regions", "chr1"], "--regions and --chromosomes both name regions; give one"),
        (["--level", "95"], "level must be between 0 and 1"),
        (["--genome", "hg19"], "--genome is for bigWig files"),
        (["--data", "none.h5ad"], "there is no none.h5ad."),
    ],
)
def test_what_cannot_be_imputed_is_told_in_one_line_and_nothing_is_written(folder, tmp_path, options, message):
    assert message in one_line(call("impute", folder / "model", "-o", tmp_path / "out.h5ad", *options))
    assert not list(tmp_path.iterdir())


def test_what_to_write_must_be_named_free_and_of_a_known_ending(folder, tmp_path):
    assert "name what to write" in one_line(call("impute", folder / "model"))
    assert "must end in .h5ad or .zarr" in one_line(call("impute", folder / "model", "-o", tmp_path / "out.csv"))
    (tmp_path / "out.h5ad").touch()
    result = call("impute", folder / "model", "-o", tmp_path / "out.h5ad")
    assert "exists already" in one_line(result, exit_code=1)


# places


@pytest.fixture(scope="module")
def obs() -> pd.DataFrame:
    starts = [0, 200, 400, 1_000, 0, 200]
    chroms = ["chr1"] * 4 + ["chr2"] * 2
    return pd.DataFrame({"chrom": pd.Categorical(chroms), "start": starts, "end": [start + 200 for start in starts]})


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("chr1", [0, 1, 2, 3]),
        ("chr1:1-200", [0]),
        ("chr1:200-201", [0, 1]),
        ("chr1:201-400", [1]),
        ("chr1:601-1,000", []),
        ("chr1:601-1,001", [3]),
        ("chr2:1-1 chr1:401-401", [2, 4]),
    ],
)
def test_places_count_from_1_and_include_their_end(obs, text, rows):
    if rows:
        assert find_regions(text, obs).tolist() == rows
    else:
        with pytest.raises(ValueError, match="no region of the data lies in"):
            find_regions(text, obs)


def test_bed_files_count_from_0_and_exclude_their_end(obs, tmp_path):
    (tmp_path / "some.bed").write_text("chr1\t200\t400\nchr2\t399\t400\nchr7\t1\t2\n")
    assert find_regions(str(tmp_path / "some.bed"), obs).tolist() == [1, 5]


def test_regions_of_many_overlapping_places_are_those_that_touch_one(tmp_path):
    random = np.random.default_rng(3)
    start_r = np.r_[np.arange(0, 5_000, 50), np.arange(25, 4_000, 75)]
    width_r = random.integers(20, 60, len(start_r))
    obs = pd.DataFrame({"chrom": ["chr1"] * 100 + ["chr2"] * 53, "start": start_r, "end": start_r + width_r})
    places = [
        (f"chr{random.integers(1, 4)}", *(low + [0, random.integers(1, 90)])) for low in random.integers(0, 5_000, 40)
    ]
    (tmp_path / "many.bed").write_text("".join(f"{chrom}\t{low}\t{high}\n" for chrom, low, high in places))
    rows = [
        row
        for row, (chrom, start, end) in enumerate(obs.itertuples(index=False))
        if any(chrom == name and start < high and low < end for name, low, high in places)
    ]
    assert 20 < len(rows) < 130
    assert find_regions(str(tmp_path / "many.bed"), obs).tolist() == rows
