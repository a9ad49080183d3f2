"""The page holds what it claims, opens in a real browser without script or network, and is whole or not there."""

import base64
import html
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from click.testing import Result
from matplotlib.figure import Figure
from sklearn.metrics import r2_score
from typer.testing import CliRunner

import chipvi
from chipvi import ChipVI, _files, datasets
from chipvi.cli.app import app
from chipvi.cli.report import find_validated
from chipvi.cli.saved import Saved
from chipvi.cli.settings import Made, fingerprint, write_settings
from chipvi.data.segments import Segments
from chipvi.evaluate.diagnosis import Diagnosis, order_by_grade
from chipvi.evaluate.verdicts import Grade, Intervals, Level, Spread, Standing, TrackVerdict
from chipvi.io.inputs import read_anndata
from chipvi.nn import COUNT_HEADS
from chipvi.report import contents, loci, overview
from chipvi.report import words as wording
from chipvi.report.overview import Kind
from chipvi.report.page import Picture, render, write_whole

NEVER = "cell2.H3K4me3"
ODD = "<b>&odd"  # a name that would break a page that does not escape it


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> tuple[Path, Path]:
    """Folder of the model, and its data."""
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder / "model")
    data = model.adata.copy()
    data.obs = data.obs.drop(columns=["_scvi_batch", "_indices"], errors="ignore")
    data.uns = {}
    data.write_h5ad(folder / "data.h5ad")
    return folder / "model", folder / "data.h5ad"


def text_of(page: Path) -> str:
    """What a reader sees."""
    body = re.sub(r"<script.*?</script>", "", page.read_text("utf-8").partition("<body>")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_page_needs_nothing_but_itself(page):
    source = re.sub(r"<script.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL)
    links = r'src="(?!data:image/png;base64,)|href="(?!#|https://genome.ucsc.edu/)|(?:src|href)=[^"]'
    assert re.findall(links, source) == []
    assert "url(" not in source and "@import" not in source and "http://" not in source
    images = re.findall(r'src="data:image/png;base64,([^"]*)"', source)
    assert len(images) == 3 + 2  # training, quality, calibration; the two loci of the strongest signal
    assert all(base64.b64decode(image, validate=True).startswith(b"\x89PNG") for image in images)
    assert source.count("<img ") == source.count(' alt="') == len(images)


def test_the_page_shows_the_data_how_training_went_and_what_to_beware_of(page):
    text = text_of(page)
    assert text.count("imputable") == 1
    assert f"cell1 {ODD}" not in text and f"H3K4me1 {ODD}" in text  # a column of the matrix
    assert "660 regions in 3 stretches of neighbours" in text
    assert "Steps: 5. Seed: 3." in text
    assert f"off by a factor: {ODD} (4 times) the true mean" in text
    for heading in ("1 Data", "2 Training", "3 Quality", "4 Loci", "5 Warnings", "Strongest signal 2:"):
        assert heading in text
    assert "Counts are predicted as negative binomials." in text
    assert "may have been trained on" in text
    assert "There are 660 regions only" in text
    assert f"cannot be judged here: {NEVER}" in text
    assert "Measured in one biosample only: H3K4me3" in text


def test_the_command_judges_on_the_regions_that_were_held_out(saved, tmp_path):
    folder, data = saved
    result = call("report", folder, "-o", tmp_path / "a.html", "--data", data, "--split-key", "part")
    assert result.exit_code == 0, result.output
    assert "Judging 220 of 660 regions" in result.output
    text = text_of(tmp_path / "a.html")
    assert "220 regions (regions that column part labels test" in text
    assert "may have been trained on" not in text
    assert re.findall(r"signal \d: (chr\d)", text) == ["chr3", "chr3"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_the_command_finds_the_data_in_the_settings_of_the_model(saved, tmp_path):
    folder, data = saved
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    made = Made.of(data, ChipVI.load(folder, read_anndata(data), accelerator="cpu").data)
    write_settings(copy, {"seed": 3, "steps": 5}, made)
    result = call("report", copy, "-o", tmp_path / "a.html")
    assert result.exit_code == 0, result.output
    text = text_of(tmp_path / "a.html")
    assert "Steps: 5. Seed: 3." in text
    assert text.startswith(f"data: H3K4me3, H3K4me1, {ODD} and 1 more in cell1, cell2 Report of chipvi")
    assert str(tmp_path) not in text and str(data.parent) not in text  # who reads it has other folders


def test_a_page_that_is_there_is_replaced_only_if_asked(model, saved, tmp_path):
    page = tmp_path / "a.html"
    page.write_text("old")
    with pytest.raises(
        FileExistsError, match="a.html exists already. Name another file, or replace it with overwrite=Tr"
    ):
        chipvi.report(model, page)
    folder, data = saved
    refused = call("report", folder, "--data", data, "-o", page)
    assert refused.exit_code == 1 and "replace it with --overwrite" in " ".join(refused.output.split())
    assert page.read_text() == "old"
    chipvi.report(model, page, overwrite=True)
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_the_command_judges_on_what_training_held_out(saved, tmp_path, monkeypatch):
    folder, data = saved
    splits = []
    monkeypatch.setattr(ChipVI, "fit_split", lambda self, data, split, *_, **__: splits.append(split))
    model = ChipVI.load(folder, read_anndata(data), accelerator="cpu")
    model.train(max_steps=1, validation_size=0.3, seed=8)
    settings, made = {"validation_size": 0.3, "seed": 8}, Made.of(data, model.data)
    saved_model = Saved(folder, [], settings, made)
    np.testing.assert_array_equal(find_validated(saved_model, model), splits[0].validation)
    assert 0 < len(splits[0].validation) < 250
    assert fingerprint(model.data) == made.fingerprint != "of other data"
    for other in ({"settings": settings | {"validation_size": 0.0}}, {"settings": {}}, {"made": None}):
        assert find_validated(replace(saved_model, **other), model) is None
    assert find_validated(replace(saved_model, made=replace(made, fingerprint="of other data")), model) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["{model}", "--data", "{data}", "-o", "page.pdf"], "must be a file that ends in .html", id="pdf"),
        pytest.param(["{model}", "--data", "{data}", "-o", "no/a.html"], "there is no folder no", id="no out folder"),
        pytest.param(["{model}", "--data", "{data}", "--split-key", "prt"], "did you mean 'part'", id="column"),
        pytest.param(
            ["{model}", "--data", "{data}", "--split-key", "chrom"], "it holds chr1, chr2, chr3", id="not a split"
        ),
    ],
)
def test_what_is_wrong_is_reported_in_one_line_and_nothing_is_written(saved, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = call("report", *(one.format(model=saved[0], data=saved[1]) for one in arguments))
    assert result.exit_code in (1, 2)
    assert message in result.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_fails_leaves_the_old_one(model, tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(_files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole("new", path)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a.html", "old")]


def test_a_model_that_is_not_trained_is_refused(adata, tmp_path):
    copy = adata.copy()
    ChipVI.setup_anndata(copy, observed_layer="observed", depth_key="depth")
    with pytest.raises(ValueError, match="is not trained"):
        chipvi.report(ChipVI(copy), tmp_path / "a.html")


def test_the_matrix_distinguishes_measured_partly_imputable_and_control(model):
    tracks = overview.describe_tracks(model.data)
    kinds = {
        f"{biosample}.{assay}": cell.kind
        for biosample, row in zip(model.biosamples, overview.fill_matrix(model.grid, tracks), strict=True)
        for assay, cell in zip(model.grid.assays, row, strict=True)
    }
    assert kinds.pop("cell1.H3K4me3") is Kind.PART
    assert kinds.pop(NEVER) is Kind.IMPUTABLE
    assert {kind for name, kind in kinds.items() if "ontrol" in name or "nput" in name} == {Kind.CONTROL}
    assert sorted(kinds.values()) == [Kind.CONTROL] * 2 + [Kind.MEASURED] * 4


def test_stretches_cover_the_rows_once_and_never_cross_a_gap():
    segments, rows = Segments(np.array([0, 450, 700])), np.r_[0:400, 410:700]
    stretches, is_scattered = loci.cut_stretches(rows, segments, None)
    assert not is_scattered
    np.testing.assert_array_equal(np.concatenate(stretches), rows)
    assert max(map(len, stretches)) <= loci.LENGTH
    for stretch in stretches:
        assert (np.diff(stretch) == 1).all()
        assert len(set(segments.index(stretch))) == 1


def test_stretches_of_scattered_regions_reach_over_gaps_but_not_to_another_chromosome():
    chrom = np.repeat(["chr1", "chr2"], [310, 90])
    stretches, is_scattered = loci.cut_stretches(np.arange(400), Segments(np.arange(401)), chrom)
    assert is_scattered
    assert [len(stretch) for stretch in stretches] == [155, 155, 90]


def test_enough_stretches_are_drawn_from_all_over_and_always_the_same():
    stretches = np.split(np.arange(30_000), 150)
    chosen = loci.choose_stretches(stretches)
    assert 8_000 <= sum(map(len, chosen)) <= 8_200
    starts = [int(one[0]) for one in chosen]
    assert starts == sorted(starts) == [int(one[0]) for one in loci.choose_stretches(stretches)]
    assert starts[0] < 5_000 and starts[-1] > 25_000
    assert len(loci.choose_stretches(stretches[:3])) == 3


def test_a_stretch_is_judged_by_r2_over_the_tracks_that_have_signal_there():
    random = np.random.default_rng(0)
    truth_rn = random.poisson(1.0, size=(40, 3)).astype(float)
    truth_rn[:10:2, 0] += random.poisson(40, 5)
    truth_rn[10:20:3, 1] += random.poisson(30, 4)
    truth_rn[30:, 2] = np.nan
    imputed_rn, average_rn = truth_rn + random.normal(size=(40, 3)), np.full((40, 3), np.nan)
    average_rn[:, 1] = 1.0
    one, other = loci.judge_stretches(truth_rn, imputed_rn, average_rn, [10, 10, 10, 10], are_counts=True)
    assert [(one.start, one.stop), (other.start, other.stop)] == [(0, 10), (10, 20)]  # elsewhere there is noise alone
    assert one.r2 == pytest.approx(r2_score(truth_rn[:10, 0], imputed_rn[:10, 0])) and np.isnan(one.r2_average)
    assert other.r2_average == pytest.approx(r2_score(truth_rn[10:20, 1], average_rn[10:20, 1]))
    assert one.n_tracks == 1 and np.isnan(one.r2_n[1:]).all()
    assert one.variance == pytest.approx(truth_rn[:10, 0].var() / truth_rn[:, 0].var())
    assert loci.judge_stretches(truth_rn, imputed_rn, average_rn, [10, 6, 24], are_counts=True) == []  # too short


def stretches(*r2: float) -> list[loci.Stretch]:
    return [loci.Stretch(i, i + 1, score, np.nan, np.array([score]), variance=-score) for i, score in enumerate(r2)]


def test_best_and_worst_are_named_only_among_twenty_stretches():
    judged = stretches(0.1, 0.8, -0.3, 0.5, 0.6)
    shown = loci.choose_shown(judged, 20)
    assert {heading: [one.r2 for one in some] for heading, some in shown.items()} == {
        "Best": [0.8, 0.6],
        "Worst": [-0.3, 0.1],
    }
    few = loci.choose_shown(judged, 19)
    assert {heading: [one.r2 for one in some] for heading, some in few.items()} == {"Strongest signal": [-0.3, 0.1]}
    assert list(loci.choose_shown(judged[:1], 40)) == ["Best"]
    assert loci.choose_shown([], 40) == loci.choose_shown([], 4) == {}


def test_tracks_with_signal_are_drawn_in_order_and_two_that_were_never_measured():
    stretch = loci.Stretch(0, 9, 0.5, np.nan, np.array([0.2, np.nan, 0.9, np.nan, np.nan, np.nan]), 1.0)
    is_measured_n = np.array([True, True, True, False, False, False])
    assert loci.choose_tracks(stretch, is_measured_n, is_worst=False) == [2, 0, 3, 4]
    assert loci.choose_tracks(stretch, is_measured_n, is_worst=True) == [0, 2, 3, 4]


def test_the_average_of_the_others_is_at_the_depth_of_the_track(model):
    rows = np.arange(300, 500)
    result = model.impute(indices=rows)
    truth_rn = loci.add_average(model, model.data, rows, result)
    adata, name, other = model.adata[rows], "cell1.H3K4me1", "cell2.H3K4me1"
    n, depth = result.var_names.get_loc(name), adata.var["depth"]
    np.testing.assert_array_equal(truth_rn[:, n], adata.to_df()[name])
    expected = adata.to_df()[other] / depth[other] * depth[name]
    np.testing.assert_allclose(result.layers["average"][:, n], expected, rtol=1e-6)
    assert np.isnan(truth_rn[:, result.var_names.get_loc(NEVER)]).all()


def verdict(
    level=Level.RIGHT, spread=Spread.RIGHT, standing=Standing.BEATS_BOTH, intervals=Intervals.RIGHT, explained=0.9
):
    """Of a track of counts that is 20 % too high, and 90 % of whose values lie where 97 % should."""
    numbers = {"ratio": 1.2, "difference": 0.7, "coverage": 0.9, "expected_coverage": 0.97, "explained": explained}
    return TrackVerdict("counts", level, spread, standing, intervals, **numbers)


UNJUDGED = verdict(Level.TOO_FEW, Spread.TOO_FEW, Standing.TOO_FEW, Intervals.TOO_FEW)


@pytest.mark.parametrize(
    ("given", "grade", "words"),
    [
        (verdict(), Grade.GOOD, "Level, spread and intervals are right"),
        (verdict(standing=Standing.BEATS_MARGINAL), Grade.GOOD, "no other biosample has this assay"),
        (verdict(standing=Standing.LEVEL_WITH_AVERAGE), Grade.CARE, "do not read differences"),
        (verdict(standing=Standing.BELOW_AVERAGE), Grade.POOR, "use that instead"),
        (verdict(standing=Standing.LEVEL_WITH_MARGINAL), Grade.POOR, "no better than the track's overall level"),
        (verdict(spread=Spread.NARROW, standing=Standing.BELOW_MARGINAL), Grade.POOR, "wrong spread"),
        (verdict(standing=Standing.NOT_IMPUTABLE), Grade.CARE, "nothing to impute from but the track's overall level"),
        (verdict(level=Level.HIGH), Grade.CARE, "level is 20 % too high"),
        (verdict(level=Level.UNCERTAIN), Grade.CARE, "Whether the level is right cannot be judged"),
        (verdict(intervals=Intervals.OFF), Grade.CARE, "95 % intervals cover 90 % where 97 % was expected."),
        (verdict(intervals=Intervals.UNCERTAIN), Grade.GOOD, "intervals are right"),
        (verdict(spread=Spread.WIDE), Grade.GOOD, "intervals are safe"),
        (verdict(explained=0.6), Grade.GOOD, "intervals are right"),
        (verdict(explained=0.3), Grade.CARE, "It explains 30 % of what noise allows."),
        (verdict(explained=0.05), Grade.POOR, "explains 5 %"),
        (verdict(explained=-0.2), Grade.POOR, "explains 0 %"),
        (UNJUDGED, Grade.UNKNOWN, "Too few reads to judge."),
    ],
)
def test_verdicts_are_put_into_plain_words(given, grade, words):
    assert given.grade is grade
    assert words in wording.assess(given)


def test_every_verdict_has_words():
    for spread in set(Spread) - {Spread.TOO_FEW}:
        for standing in set(Standing) - {Standing.TOO_FEW}:
            assert wording.assess(verdict(Level.LOW, spread, standing)).endswith(".")


def diagnosis_of(table, verdicts):
    return Diagnosis(table, pd.DataFrame(), [], "", tuple(verdicts), ())


def test_checks_of_counts_and_of_signal_are_not_taken_for_tracks():
    table = pd.DataFrame({"quantity": ["counts", "signal", "counts"], "r2": [0.1, -0.25, 0.3], "pearson": 0.5})
    found = [verdict(), verdict(level=Level.HIGH), verdict(explained=0.3)]
    assert wording.summarise(diagnosis_of(table, found)) == (
        "Of 3 checks, of counts and of p-values, 1 is good, 2 are to be used with care. The median is R² 0.10, Pearson "
        "0.50."
    )
    of_one = wording.summarise(diagnosis_of(table.iloc[:1], found[:1]))
    assert of_one.startswith("Of 1 judged track 1 is good. The median")


@pytest.mark.parametrize("head", COUNT_HEADS)
def test_the_page_says_what_the_predictions_of_each_head_are(head):
    kind = {"poisson": "Poisson", "zero_inflated": "of the head's zero-inflated ones"}.get(
        head, "as negative binomials."
    )
    assert kind in wording.describe_head(head)


def test_tracks_are_in_order_of_grade_and_then_of_r2():
    judged = [verdict(), UNJUDGED, verdict(explained=0.05), verdict(level=Level.HIGH), verdict()]
    table = pd.DataFrame({"r2": [0.4, 0.0, 0.9, 0.5, 0.3]})
    assert order_by_grade(table, judged) == [2, 3, 4, 0, 1]


def test_signal_alone_is_ranked_and_drawn_beside_the_average(tmp_path):
    both = datasets.simulate(n_regions=430, n_biosamples=2, n_assays=3, n_chromosomes=1, signal=True, seed=4)
    adata = AnnData(obs=both.obs, var=both.var, layers={"chip": both.layers["signal"]})
    ChipVI.setup_anndata(adata, signal_layer="chip")
    model = ChipVI(adata, n_latent=5, n_hidden=24)
    model.train(max_steps=3, batch_size=64, seed=1, accelerator="cpu", enable_progress_bar=False)
    text = text_of(chipvi.report(model, tmp_path / "a.html"))
    assert "a track whose measured p-values vary" in text and "Depth (reads)" not in text
    result = model.impute()
    truth_rn = loci.add_average(model, model.data, np.arange(430), result)
    frame = adata.to_df("chip")
    np.testing.assert_allclose(truth_rn[:, 1], frame["cell1.H3K4me1"])
    np.testing.assert_allclose(result.layers["average"][:, 1], frame["cell2.H3K4me1"], rtol=1e-6)


def test_warnings_name_odd_depths_and_tracks_below_the_average():
    depths = {"a": 100.0, "b": 110.0, "c": 9.0, "d": 900.0, "e": 105.0}
    tracks = [overview.Track(name, Kind.MEASURED, "#000000", 1.0, 0.0, depth, 1.0) for name, depth in depths.items()]
    judged = [("a", verdict()), ("b", verdict(standing=Standing.BELOW_AVERAGE))]
    found = wording.warn(tracks, ["x"] * 5, judged, 9_000, 3_000, is_held_out=True)
    assert len(found) == 3
    assert found[0].startswith("Below the average of the other biosamples: b.")
    assert found[1].startswith("c: more than 5 times fewer reads")
    assert found[2].startswith("d: more than 5 times more reads")


def test_a_track_that_fails_in_counts_and_in_signal_is_named_once_and_one_region_is_one():
    judged = [("b", verdict(standing=Standing.BELOW_MARGINAL)), ("b", verdict(standing=Standing.LEVEL_WITH_MARGINAL))]
    found = wording.warn([], [], judged, n_regions=1, n_steps=1, is_held_out=True)
    assert found[0] == "Not better than the track's overall level: b. Do not use these imputations."
    assert found[1].startswith("There is 1 region only.")
    assert found[2].startswith("Training was short (1 step; ")


def test_whatever_a_user_can_name_is_escaped():
    evil = "<img src=x onerror=alert(1)>"
    source = render(page_content(evil))
    assert source.count("&lt;img src=x onerror=alert(1)&gt;") == 13
    assert evil not in source
    assert "<img src=x" not in source


def page_content(name: str) -> dict[str, object]:
    """What the page is filled with where one name is everywhere, and there is one of everything."""
    picture = Picture("data:image/png;base64,", "data:image/png;base64,", f"alt {name}", f"caption {name}", 9)
    track = overview.Track(name, Kind.MEASURED, "#000000", 1.0, 0.0, 9.0, 1.0)
    row = pd.Series({"r2": 0.1, "pearson": 0.2, "r2_average": 0.3, "pearson_average": 0.4, "r2_ceiling": 0.5})
    return {
        "title": name,
        "version": "1",
        "today": "2025-01-01",
        "summary": "",
        "warnings": [name],
        "overview": {
            "assays": [name],
            "matrix": [(name, [overview.Cell(Kind.MEASURED, name)])],
            "tracks": [(track, 1.0, "9")],
            "n_regions": 1,
            "n_segments": 1,
            "n_measured": 1,
            "n_controls": 1,
            "n_imputable": 1,
            "kinds": {Kind.MEASURED},
            "has_signal": False,
            "has_counts": True,
        },
        "training": {
            "steps": 1,
            "seed": 1,
            "settings": [],
            "advice": [name],
            "picture": picture,
            "weights": 1,
            "head": None,
        },
        "quality": [],
        "rows": [(name, row, Grade.GOOD, "")],
        "judged": {"n_regions": 1, "where": name},
        "loci": [
            contents.Locus("Best 1", name, stretches(0.1)[0], [], replace(picture, alt="", caption=""), name, None)
        ],
        "browser": None,
        "n_stretches": 1,
        "n_judged": 1,
        "fewest": 20,
        "length": 200,
        "has_counts": True,
    }


def test_one_of_anything_is_in_the_singular():
    text = " ".join(re.sub(r"<[^>]*>", " ", render(page_content("a")).partition("<body>")[2]).split())
    assert "1 measured track of 1 biosample in 1 region." in text
    assert "1 region in 1 stretch of neighbours; 1 measured track, 1 control, and 1 combination of" in text
    assert "1 thing to know first" in text
    assert "were cut into 1 stretch of up to" in text and "1 stretch has signal" in text
    assert "R² 0.10 in 1 track with signal." in text


def test_many_tracks_are_drawn_up_to_a_limit_and_the_worst_of_them(monkeypatch):
    n = 55
    columns = ("pearson", "r2", "pearson_average", "r2_average")
    table = pd.DataFrame({name: np.linspace(0, 1, n) for name in columns} | {"quantity": "counts"})
    table.index = [f"t{i}" for i in range(n)]
    pit = pd.DataFrame(np.ones((n, 10)), index=table.index)
    seen = []
    monkeypatch.setattr(contents.pl, "quality", lambda scores, figsize: seen.append(list(scores.index)) or Figure())
    pictures = contents._quality(Diagnosis(table, pit, [], "", (verdict(),) * n, ()), list(range(n)))
    assert seen == [[f"t{i}" for i in range(40)]] * 2  # wide, and narrow for phones
    assert all("The 40 worst of 55 tracks" in picture.caption for picture in pictures)


def test_a_report_on_real_counts_without_coordinates_names_the_gene(shared_data, tmp_path):
    adata = chipvi_read(shared_data / "roadmap_tss.h5ad")
    ChipVI.setup_anndata(adata, depth_key="depth", segment_key="gene_id")
    model = ChipVI(adata, n_latent=5, n_hidden=24)
    model.train(max_steps=3, seed=1, accelerator="cpu", enable_progress_bar=False)
    text = text_of(chipvi.report(model, tmp_path / "a.html", indices=np.arange(1_000)))
    assert re.findall(r"signal \d: gene_id (\w+)", text)
    assert "1,000 regions (regions chosen to judge on)" in text


def chipvi_read(path: Path) -> AnnData:
    """The first genes of a file."""
    adata = read_anndata(path)
    return adata[:2_000].copy()
