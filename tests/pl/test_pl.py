"""Figures hold what they claim: panels, colours, gaps where data are missing, every curve that was recorded."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import StepPatch

from chipvi import datasets, pl
from chipvi.evaluate.diagnosis import Diagnosis
from chipvi.evaluate.verdicts import Intervals, Level, Spread, Standing, TrackVerdict
from chipvi.io.bigwigs.colors import assay_color
from chipvi.pl._calibration import draw_calibration
from chipvi.pl._style import assay_colour

NEVER = "cell2.H3K4me3"


@pytest.fixture(scope="module")
def adata() -> AnnData:
    adata = datasets.simulate(n_regions=60, n_biosamples=2, n_assays=3, n_chromosomes=2, missing=[NEVER], seed=1)
    adata.layers["observed"][4:7, 0] = 0
    adata.X[4:7, 0] = 99.0  # a missing entry may hold anything
    return adata


@pytest.fixture(scope="module")
def result(adata) -> AnnData:
    rate_rt = adata.layers["rate"]
    layers = {"lower": rate_rt * 0.5, "upper": rate_rt * 3 + 1, "denoised": rate_rt * 1.1}
    return AnnData(rate_rt * 0.9, obs=adata.obs, var=adata.var[["biosample", "assay"]], layers=layers)


def drawn(ax: Axes) -> dict[str, StepPatch]:
    return {patch.get_label(): patch for patch in ax.patches}


def values(ax: Axes, label: str) -> np.ndarray:
    return drawn(ax)[label].get_data().values


def test_there_is_a_panel_per_track_with_its_name_and_the_colour_of_its_assay(adata, result):
    names = ["cell2.H3K36me3", "cell1.H3K4me3"]
    figure = pl.tracks(adata, result, tracks=names, rows=slice(0, 20))
    assert [ax.get_ylabel() for ax in figure.axes] == ["cell2\nH3K36me3", "cell1\nH3K4me3"]
    for ax, assay in zip(figure.axes, ("H3K36me3", "H3K4me3"), strict=True):
        assert to_hex(drawn(ax)["imputed"].get_edgecolor()) == assay_colour(assay)
        assert to_hex(drawn(ax)["interval"].get_facecolor()) == assay_colour(assay)
    assert len(pl.tracks(adata, result, rows=slice(0, 20)).axes) == 6


def test_colours_tell_assays_apart_and_know_their_other_spellings():
    assays = ["H3K4me3", "H3K4me1", "H3K36me3", "H3K27me3", "H3K9me3", "H3K27ac", "DNase", "ATAC", "CTCF", "POLR2A"]
    assert len({assay_colour(assay) for assay in [*assays, "REST"]}) == len(assays) + 1
    assert assay_colour("ATAC-seq") == assay_colour("atac") == assay_colour("ATAC")
    red, green, blue = to_rgb(assay_colour("H3K4me3"))
    assert red > 2 * max(green, blue)


def test_panels_show_the_numbers_they_claim(adata, result):
    (ax,) = pl.tracks(adata, result, tracks=["cell1.H3K4me1"], rows=slice(3, 12)).axes
    t = adata.var_names.get_loc("cell1.H3K4me1")
    np.testing.assert_allclose(values(ax, "observed"), adata.X[3:12, t])
    np.testing.assert_allclose(values(ax, "imputed"), result.X[3:12, t])
    np.testing.assert_allclose(values(ax, "denoised"), result.layers["denoised"][3:12, t])
    np.testing.assert_allclose(values(ax, "true rate"), adata.layers["rate"][3:12, t])
    np.testing.assert_allclose(values(ax, "interval"), result.layers["upper"][3:12, t])
    np.testing.assert_allclose(drawn(ax)["interval"].get_data().baseline, result.layers["lower"][3:12, t])


def test_missing_counts_are_gaps_and_neither_zero_nor_what_the_layer_holds_there(adata, result):
    (ax,) = pl.tracks(adata, result, tracks=["cell1.H3K4me3"], rows=slice(0, 20)).axes
    for label in ("observed", "denoised"):
        assert np.flatnonzero(np.isnan(values(ax, label))).tolist() == [4, 5, 6]
    assert not np.isnan(values(ax, "imputed")).any()
    assert ax.get_ylim()[1] < 50


def test_missing_regions_are_hatched_over_the_height_of_the_panel_and_gaps_between_regions_are_not(adata, result):
    keep = np.r_[0:5, 6:12]
    (ax,) = pl.tracks(adata, result[keep], tracks=["cell1.H3K4me3"], region="chr1:0-2400").axes
    hatched = drawn(ax)["missing"]
    assert np.flatnonzero(~np.isnan(hatched.get_data().values)).tolist() == [4, 6]  # 5 is no region
    assert hatched.get_hatch()
    assert hatched.get_transform().transform((1, 1))[1] == ax.transAxes.transform((1, 1))[1]
    (whole,) = pl.tracks(adata, result, tracks=["cell1.H3K4me1"], rows=slice(0, 20)).axes
    assert "missing" not in drawn(whole)


def with_signal(adata: AnnData, result: AnnData) -> tuple[AnnData, AnnData]:
    """Signal in two tracks, one of which lacks a region."""
    adata, result = adata.copy(), result.copy()
    signal_rt = np.full(adata.shape, np.nan)
    signal_rt[:, :2] = np.arcsinh(adata.layers["rate"][:, :2])
    signal_rt[3, 1] = np.nan
    adata.layers["signal"] = signal_rt
    result.layers["pval"], result.layers["pval_std"] = np.arcsinh(result.X), np.full(adata.shape, 0.5)
    return adata, result


def test_tracks_with_signal_have_a_lower_panel_with_its_interval(adata, result):
    both, imputed = with_signal(adata, result)
    names = ["cell1.H3K4me3", "cell1.H3K4me1", "cell1.H3K36me3"]
    axes = pl.tracks(both, imputed, tracks=names, rows=slice(0, 20)).axes
    assert [ax.get_ylabel() for ax in axes] == [
        *("cell1\nH3K4me3", "p-value"),
        *("cell1\nH3K4me1", "p-value"),
        "cell1\nH3K36me3",
    ]
    np.testing.assert_allclose(values(axes[3], "observed"), both.layers["signal"][:20, 1])
    np.testing.assert_allclose(values(axes[3], "imputed"), imputed.layers["pval"][:20, 1])
    np.testing.assert_allclose(values(axes[3], "interval"), imputed.layers["pval"][:20, 1] + 0.5 * 1.96)
    assert np.flatnonzero(values(axes[3], "missing") == 1).tolist() == [3]
    assert axes[3].get_position().height < axes[2].get_position().height


def test_signal_without_counts_has_a_panel_per_track(adata, result):
    both, imputed = with_signal(adata, result)
    only = AnnData(obs=both.obs, var=both.var, layers={"chip": both.layers["signal"]})
    layers = {name: imputed.layers[name] for name in ("pval", "pval_std")}
    result = AnnData(layers["pval"], obs=imputed.obs, var=imputed.var, layers=layers)
    axes = pl.tracks(only, result, tracks=["cell1.H3K4me1", NEVER], rows=slice(0, 20), signal_layer="chip").axes
    assert [ax.get_ylabel() for ax in axes] == ["cell1\nH3K4me1", "cell2\nH3K4me3"]
    np.testing.assert_allclose(values(axes[0], "observed"), both.layers["signal"][:20, 1])
    assert axes[1].get_title(loc="right") == "not measured"


def test_the_average_of_the_others_is_drawn_where_the_result_has_it_and_does_not_flatten_the_rest(adata, result):
    with_average = result.copy()
    with_average.layers["average"] = 50 * result.X
    (ax,) = pl.tracks(adata, with_average, tracks=["cell1.H3K4me1"], rows=slice(0, 20)).axes
    (bare,) = pl.tracks(adata, result, tracks=["cell1.H3K4me1"], rows=slice(0, 20)).axes
    np.testing.assert_allclose(values(ax, "average"), 50 * result.X[:20, 1])
    assert "average" not in drawn(bare)
    highest = max(values(ax, name).max() for name in ("observed", "imputed", "denoised", "true rate"))
    assert ax.get_ylim()[1] < 1.5 * highest


def test_figures_and_browser_files_have_the_same_colours():
    red, green, blue = assay_color("H3K27ac")
    assert assay_colour("H3K27ac") == f"#{red:02x}{green:02x}{blue:02x}"


def test_counts_that_are_nan_are_gaps_without_a_mask_too(adata, result):
    bare = AnnData(np.where(adata.layers["observed"] == 1, adata.X, np.nan), obs=adata.obs, var=adata.var)
    (ax,) = pl.tracks(bare, result, tracks=["cell1.H3K4me3"], rows=slice(0, 20)).axes
    assert np.flatnonzero(np.isnan(values(ax, "observed"))).tolist() == [4, 5, 6]
    assert "true rate" not in drawn(ax)


def test_a_track_that_was_never_measured_shows_its_imputation_only_and_says_so(adata, result):
    (ax,) = pl.tracks(adata, result, tracks=[NEVER], rows=slice(0, 20)).axes
    assert set(drawn(ax)) == {"interval", "imputed", "true rate", "missing"}
    assert ax.get_title(loc="right") == "not measured"


def test_an_experiment_that_is_no_track_of_adata_shows_its_imputation(adata, result):
    var = pd.DataFrame({"biosample": ["cell2"], "assay": ["CTCF"]}, index=["new"])
    new = AnnData(result.X[:, :1], obs=result.obs, var=var)
    (ax,) = pl.tracks(adata, new, rows=slice(0, 20)).axes
    assert set(drawn(ax)) == {"imputed", "missing"}
    assert ax.get_ylabel() == "cell2\nCTCF"


def test_sparse_counts_are_drawn_like_dense_ones(adata, result):
    sparse = adata.copy()
    sparse.X = sp.csr_matrix(adata.X)
    ((ax,), (other,)) = (pl.tracks(a, result, tracks=["cell1.H3K4me3"], rows=slice(0, 9)).axes for a in (adata, sparse))
    np.testing.assert_array_equal(values(ax, "observed"), values(other, "observed"))


def test_a_region_chooses_what_touches_it_and_the_axis_is_in_genome_coordinates(adata, result):
    (ax,) = pl.tracks(adata, result, tracks=["cell1.H3K4me3"], region="chr2:1,100-3,000").axes
    assert ax.get_xlim() == (1.0, 3.0)  # bins of 200 bp
    assert ax.get_xlabel() == "chr2 (kb)"
    rows = np.flatnonzero((adata.obs["chrom"] == "chr2") & (adata.obs["end"] > 1100) & (adata.obs["start"] < 3000))
    np.testing.assert_allclose(values(ax, "imputed"), result.X[rows, 0])


def test_a_region_may_leave_out_chr(adata, result):
    (ax,) = pl.tracks(adata, result, tracks=["cell1.H3K4me3"], region="2:1,100-3,000").axes
    assert (ax.get_xlim(), ax.get_xlabel()) == ((1.0, 3.0), "chr2 (kb)")
    with pytest.raises(ValueError, match="the result has no region in 22:0-400"):
        pl.tracks(adata, result, region="22:0-400")


def test_stretches_without_regions_are_gaps(adata, result):
    keep = np.r_[0:5, 9:12]
    (ax,) = pl.tracks(adata, result[keep], tracks=["cell1.H3K4me1"], region="chr1:0-2400").axes
    expected = np.r_[result.X[0:5, 1], np.nan, result.X[9:12, 1]]
    np.testing.assert_allclose(values(ax, "imputed"), expected)
    np.testing.assert_allclose(drawn(ax)["imputed"].get_data().edges, np.r_[0:1001:200, 1800:2401:200] / 1000)


def test_regions_without_coordinates_are_numbered(adata, result):
    numbered = AnnData(adata.X, obs=pd.DataFrame(index=adata.obs_names), var=adata.var)
    bare = AnnData(result.X, obs=numbered.obs, var=result.var)
    (ax,) = pl.tracks(numbered, bare, tracks=["cell1.H3K4me3"], rows=slice(8, 20)).axes
    assert (ax.get_xlim(), ax.get_xlabel()) == ((8.0, 20.0), "region")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"tracks": ["cell1.H3K4me33"]}, "track 'cell1.H3K4me33' .* did you mean 'cell1.H3K4me3'", id="track"
        ),
        pytest.param({}, "must lie on one chromosome to be drawn; got chr1, chr2", id="two chromosomes"),
        pytest.param({"region": "chr3:0-100"}, "no region in chr3:0-100", id="nothing there"),
        pytest.param({"region": "chr1"}, "must look like 'chr1:10,000-20,000'", id="spelling"),
        pytest.param({"region": "chr1:0-9", "rows": slice(3)}, "give one of them", id="both"),
        pytest.param({"rows": slice(3), "layer": "count"}, "layer 'count' is not in adata.layers", id="layer"),
    ],
)
def test_what_cannot_be_drawn_is_refused(adata, result, arguments, message):
    with pytest.raises(ValueError, match=message):
        pl.tracks(adata, result, **arguments)


def test_other_data_than_those_imputed_are_refused(adata, result):
    with pytest.raises(ValueError, match="region chr1:0-200 of the result is not in adata"):
        pl.tracks(adata[5:], result, rows=slice(3))


def curve(name: str, *points: float) -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame({name: points}, index=pd.RangeIndex(10, 10 * len(points) + 1, 10, name="step"))}


HISTORY = (
    curve("imp_count_loss", 3.0, 2.0)
    | curve("validation_imp_count_loss", 3.5, 2.5)
    | curve("obs_count_loss", 2.0, 1.0)
    | curve("train_loss", 900.0, 800.0)
    | curve("imp_count_r2", -300.0, -0.93, -0.93)
    | curve("imp_count_pcc", -0.003, 0.1)
    | curve("grad_norm_trunk", 0.5, 0.1)
    | curve("predicted_mean", 1.3, 1.3)
    | curve("true_mean", 2.2, 2.1)
    | curve("kl_weight", 0.0, 1.0)
    | curve("clamped_logit", 0.0, 0.25)
    | curve("floored_std", 0.0, 0.0)
    | curve("active_latents", 6.0, 5.0)
)
TRACK_MEANS = {
    "predicted_mean_by_track": {
        "a": [9.0, 1.0, 2.0],
        "b.c": [9.0, 2.0, 4.0],
        "never": [np.nan] * 3,
        "empty": [1.0] * 3,
    },
    "true_mean_by_track": {"a": [1.0, 2.0, 2.0], "b.c": [1.0, 2.0, 1.0], "never": [np.nan] * 3, "empty": [0.0] * 3},
}
BY_TRACK = {
    name: pd.DataFrame({f"{name}.{track}": means for track, means in columns.items()}, index=[0, 49, 99])
    for name, columns in TRACK_MEANS.items()
}


def test_training_shows_every_curve_by_step():
    figure = pl.training(HISTORY)
    panels = {ax.get_title(loc="left"): {line.get_label(): line for line in ax.lines} for ax in figure.axes}
    assert {title: set(lines) for title, lines in panels.items()} == {
        "Loss (nat per entry)": {"hidden counts", "hidden counts, validation", "visible counts"},
        "R²": {"hidden counts"},
        "Pearson": {"hidden counts"},
        "Gradient norm": {"trunk"},
        "Mean of the hidden counts": {"predicted", "true"},
        "Share at a clamp or floor": {"logit", "spread of the signal"},
        "Active latents": {"active latents"},
    }
    line = panels["Loss (nat per entry)"]["hidden counts, validation"]
    np.testing.assert_array_equal(line.get_xydata(), [[10, 3.5], [20, 2.5]])
    assert figure.axes[3].get_yscale() == "log"


def test_an_r2_that_never_rises_stays_in_sight_and_a_wild_start_does_not_hide_it():
    low, high = pl.training(HISTORY).axes[1].get_ylim()
    assert -2 < low < -0.93 < high


def test_training_shows_for_each_track_how_far_its_mean_is_off_and_names_the_worst():
    (ax,) = pl.training(BY_TRACK).axes
    *tracks, one = ax.lines
    assert {line.get_label(): line.get_xydata().tolist() for line in tracks} == {
        "_": [[49, 0.5], [99, 1.0]],
        "b.c": [[49, 1.0], [99, 4.0]],
    }
    assert set(one.get_ydata()) == {1}
    assert ax.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b.c"]


def test_training_shows_a_single_record_as_a_point():
    (line,) = pl.training(curve("imp_pval_r2", 0.1)).axes[0].lines
    assert (line.get_marker(), line.get_ydata().tolist()) == ("o", [0.1])


def test_training_leaves_out_what_was_not_recorded():
    figure = pl.training(curve("imp_pval_r2", 0.1, 0.2))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["R²"]
    with pytest.raises(ValueError, match="train the model first"):
        pl.training({})


TABLE = pd.DataFrame(
    {
        "r2": [0.5, 0.4, 0.45],
        "pearson": [0.8, 0.7, 0.75],
        "average_r2": [-4.0, np.nan, -4.0],
        "average_pearson": [0.6, np.nan, 0.6],
    },
    index=["cell1.H3K4me3", "cell2.H3K4me3", "macro_mean"],
)


def dots(ax: Axes) -> list[list[float]]:
    return sorted(point for collection in ax.collections[1:] for point in np.asarray(collection.get_offsets()).tolist())


def test_quality_has_a_dot_per_track_and_score_and_none_where_there_is_no_score():
    pearson, r2 = pl.quality(TABLE).axes
    assert dots(pearson) == [[0.6, 0.0], [0.6, 2.5], [0.7, 1.0], [0.75, 2.5], [0.8, 0.0]]
    assert dots(r2) == [[-0.5, 0.0], [-0.5, 2.5], [0.4, 1.0], [0.45, 2.5], [0.5, 0.0]]  # far below: at the edge
    labels = [label.get_text() for label in pearson.get_yticklabels()]
    assert labels == ["cell1.H3K4me3", "cell2.H3K4me3", "mean over tracks"]


def test_quality_needs_a_score():
    assert len(pl.quality(TABLE[["pearson"]]).axes) == 1
    with pytest.raises(ValueError, match="must have a column pearson or r2; it has mse"):
        pl.quality(pd.DataFrame({"mse": [1.0]}))


def test_figures_are_written_and_leave_nothing_open(adata, result, tmp_path: Path):
    before = plt.get_fignums()
    pl.tracks(adata, result, rows=slice(0, 20), save=tmp_path / "tracks.png")
    pl.training(HISTORY, save=tmp_path / "training.pdf")
    pl.quality(TABLE, save=str(tmp_path / "quality.svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality.svg", "tracks.png", "training.pdf"]
    assert (tmp_path / "tracks.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


def comparable() -> pd.DataFrame:
    """What the pictures of differences need, of two regions."""
    columns = {"assay": "H3K27ac", "group1": "a", "group2": "b", "is_de_fdr_0.05": [True, False]}
    places = {"chrom": "chr1", "start": [0, 200], "end": [200, 400]}
    numbers = dict.fromkeys(("scale1", "scale2", "raw_mean1", "raw_mean2", "lfc_mean", "p_value"), 0.5)
    return pd.DataFrame(columns | places | numbers)


DRAWN = {
    "tracks": lambda adata, result, **options: pl.tracks(adata, result, rows=slice(0, 20), **options),
    "training": lambda *_, **options: pl.training(HISTORY, **options),
    "quality": lambda *_, **options: pl.quality(TABLE, **options),
    "calibration": lambda *_, **options: pl.calibration(diagnosis(3, {}), **options),
    "heads": lambda *_, **options: pl.heads(compared(), **options),
    "affinity": lambda *_, **options: pl.affinity(WEIGHTS, **options),
    "volcano": lambda *_, **options: pl.volcano(comparable(), **options),
    "ma": lambda *_, **options: pl.ma(comparable(), **options),
    "differential_loci": lambda *_, **options: pl.differential_loci(comparable(), comparable(), **options),
}
WEIGHTS = pd.DataFrame([[0, 0.9, 0.1], [0.8, 0, 0.2], [0.5, 0.5, 0]], index=list("abc"), columns=list("abc"))


@pytest.mark.parametrize("name", DRAWN)
def test_every_picture_takes_size_title_and_show(adata, result, monkeypatch, name):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf().canvas.manager.canvas.figure))
    figure = DRAWN[name](adata, result, figsize=(7, 5.5), title="all of it", show=True)
    assert shown == [figure]
    plt.close("all")
    assert tuple(figure.get_size_inches()) == (7, 5.5)
    (legend,) = figure.legends or [None]  # which a title stands above, if there is one
    assert "all of it" == (legend.get_title().get_text() if legend else figure.get_suptitle())
    with pytest.raises(ValueError, match=r"figsize must be width and height in inches, such as \(9, 4\); got \(3,\)"):
        DRAWN[name](adata, result, figsize=(3,))


def test_tracks_are_drawn_into_axes_beside_others(adata, result):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    plt.close(figure)
    names = ["cell1.H3K4me1", "cell2.H3K36me3"]
    assert pl.tracks(adata, result, names, rows=slice(3, 12), ax=right, title="here") is figure
    first, second = right.child_axes
    np.testing.assert_allclose(values(first, "imputed"), result.X[3:12, 1])
    assert [one.get_ylabel() for one in (first, second)] == ["cell1\nH3K4me1", "cell2\nH3K36me3"]
    figure.canvas.draw()
    upper, lower, whole = (one.get_position() for one in (first, second, right))
    assert upper.y0 > lower.y1 and whole.y1 == pytest.approx(upper.y1) and whole.y0 == pytest.approx(lower.y0)
    assert right.get_title() == "here" and not left.child_axes and left.axison
    with pytest.raises(ValueError, match="figsize is that of a figure of its own"):
        pl.tracks(adata, result, names, rows=slice(3), ax=left, figsize=(3, 3))
    pl.affinity(WEIGHTS, ax=left)
    assert len(left.images) == 1


GTF = """#!genome-build x
1\thavana\tgene\t3001\t3600\t.\t-\t.\tgene_id "ENSG7.4"; gene_name "ABC1";
1\thavana\texon\t3001\t3100\t.\t-\t.\tgene_id "ENSG7.4"; gene_name "ABC1"; exon_number "1";
chrUn\tx\tgene\t1\t50\t.\t+\t.\tgene_id "ENSG8"; gene_name "LOST";
"""


@pytest.mark.parametrize("name", ["ABC1", "ENSG7.4", "ENSG7"])
def test_a_gene_is_drawn_with_what_is_around_it(adata, result, tmp_path, name):
    path = tmp_path / "genes.gtf.gz"
    path.write_bytes(gzip.compress(GTF.encode()))
    (ax,) = pl.tracks(adata, result, ["cell1.H3K4me1"], region=name, gtf=path).axes
    assert ax.get_xlim() == (1.0, 5.6)  # 3,000 to 3,600 and 2 kb to either side, in bins of 200 bp
    assert ax.get_xlabel() == f"chr1 (kb), {name} 3.0–3.6 kb ←"
    (plain,) = pl.tracks(adata, result, ["cell1.H3K4me1"], region="chr1:1000-5600", gtf=path).axes
    np.testing.assert_array_equal(values(ax, "imputed"), values(plain, "imputed"))


@pytest.mark.parametrize(
    ("region", "text", "message"),
    [
        ("ABC2", GTF, "gene 'ABC2' is not in genes.gtf; did you mean 'ABC1'"),
        ("LOST", GTF, "gene LOST lies at chrUn:1, where the result has no region"),
        ("ABC1", "chr1\t1\t5\n", "line 1 of genes.gtf is no line of GTF"),
        (None, GTF, "name the gene to draw as region"),
    ],
)
def test_a_gene_that_cannot_be_found_is_refused(adata, result, tmp_path, region, text, message):
    (tmp_path / "genes.gtf").write_text(text)
    with pytest.raises(ValueError, match=message):
        pl.tracks(adata, result, region=region, gtf=tmp_path / "genes.gtf")


def diagnosis(n_tracks: int, others: dict[int, tuple[Level, Spread]], quantity: str = "counts") -> Diagnosis:
    names = [f"cell{t}.H3K4me3" for t in range(n_tracks)]
    table = pd.DataFrame({"quantity": quantity}, index=names)
    verdicts = tuple(
        TrackVerdict(
            quantity,
            *others.get(t, (Level.RIGHT, Spread.RIGHT)),
            standing=Standing.BEATS_BOTH,
            intervals=Intervals.RIGHT,
            ratio=1.2,
            difference=0.4,
            coverage=0.95,
            expected_coverage=0.95,
        )
        for t in range(n_tracks)
    )
    heights = np.random.default_rng(0).uniform(0.8, 1.2, size=(n_tracks, 10))
    heights[0, 0] = 4.0
    return Diagnosis(table, pd.DataFrame(heights, index=names), [], "", verdicts, ())


@pytest.mark.parametrize("n_tracks", [1, 4, 7])
def test_calibration_has_a_panel_per_track_with_its_bars_and_verdict(n_tracks):
    figure = pl.calibration(checked := diagnosis(n_tracks, {0: (Level.RIGHT, Spread.NARROW)}))
    assert [ax.get_title(loc="left").split("\n")[0] for ax in figure.axes] == list(checked.table.index)
    for ax, heights in zip(figure.axes, checked.pit.to_numpy(), strict=True):
        (bars,) = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
        np.testing.assert_array_equal(bars.get_data().values, heights)
        np.testing.assert_allclose(bars.get_data().edges, np.linspace(0, 1, 11))
    assert figure.axes[0].get_ylim() == (0, 2.5)
    assert [text.get_text() for text in figure.axes[0].texts] == ["4.0"]  # a bar that is cut off says its height


def test_calibration_sets_off_what_is_not_right_and_what_has_no_verdict():
    verdicts = {
        1: (Level.RIGHT, Spread.WIDE),
        2: (Level.HIGH, Spread.UNCLEAR),
        3: (Level.TOO_FEW, Spread.TOO_FEW),
        4: (Level.UNCERTAIN, Spread.RIGHT),
    }
    axes = pl.calibration(diagnosis(5, verdicts)).axes
    words = [ax.get_title(loc="left").split("\n")[1] for ax in axes]
    assert words == ["right", "too wide", "mean 20 % too high", "too few reads to judge", "right"]
    colours = [to_hex(ax.patches[-1].get_facecolor()) for ax in axes]
    assert colours[0] == colours[4]
    assert colours[1] == colours[2]
    assert len(set(colours)) == 3


def test_calibration_of_tracks_that_are_right_can_share_a_panel():
    one_off = diagnosis(6, {2: (Level.RIGHT, Spread.NARROW)})
    axes = draw_calibration(one_off, together=True).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["cell2.H3K4me3\ntoo narrow", "5 tracks\nright"]
    lines = [patch.get_data().values for patch in axes[1].patches if isinstance(patch, StepPatch)]
    np.testing.assert_array_equal(lines, one_off.pit.drop("cell2.H3K4me3").to_numpy())


def test_calibration_names_counts_and_signal_where_there_are_both():
    counts, signal = diagnosis(1, {}), diagnosis(1, {}, "signal")
    table, pit = pd.concat([counts.table, signal.table]), pd.concat([counts.pit, signal.pit])
    both = Diagnosis(table, pit, [], "", (*counts.verdicts, *signal.verdicts), ())
    titles = [ax.get_title(loc="left") for ax in pl.calibration(both).axes]
    assert titles == ["cell0.H3K4me3, counts\nright", "cell0.H3K4me3, signal\nright"]


def compared() -> SimpleNamespace:
    """A comparison of two heads, one of which failed once, in what is drawn of it."""
    rows = [("good", 0, 0.40, 1.50), ("good", 1, 0.44, 1.54), ("bad", 0, 0.30, 1.60), ("bad", 1, np.nan, np.nan)]
    runs = pd.DataFrame(rows, columns=["head", "seed", "r2", "nll"])
    runs["pearson"], runs["crps"] = runs["r2"] + 0.2, runs["nll"] - 0.3
    by_head = runs.groupby("head", sort=False)[["r2", "pearson", "nll", "crps"]]
    table = by_head.mean().join(by_head.std().add_suffix("_sd"))
    table["diverged"] = [0, 1]
    table.loc["marginal", ["r2", "nll", "crps"]] = [-0.02, 1.9, 1.7]
    table.loc["average", ["r2", "pearson"]] = [-0.7, 0.55]
    curves = pd.DataFrame(
        {"head": ["good", "good", "bad"], "seed": [0, 0, 0], "step": [5, 10, 5], "r2": [0.1, 0.2, -3]}
    )
    return SimpleNamespace(table=table, runs=runs, curves=curves)


def test_heads_are_drawn_with_their_seeds_their_spread_and_what_needs_no_model():
    curves, *scores = pl.heads(compared()).axes
    lines = sorted(line.get_xydata().tolist() for line in curves.lines[:2])
    assert lines == [[[5, -3]], [[5, 0.1], [10, 0.2]]]
    assert [ax.get_title(loc="left").partition(" ")[0] for ax in scores] == ["R²", "Pearson", "NLL", "CRPS"]
    labels = [label.get_text() for label in scores[0].get_yticklabels()]
    assert labels == ["good", "bad (diverged)", "marginal", "average"]
    points = [np.asarray(c.get_offsets()).tolist() for c in scores[1].collections if isinstance(c, PathCollection)]
    assert np.allclose(points[0], [[0.60, 0.25], [0.64, 0.25]])
    assert np.allclose(points[1], [[0.62, 0]])
    bars = [c.get_segments() for c in scores[1].collections if isinstance(c, LineCollection)]
    assert np.allclose(bars[0][0][:, 0], [0.62 - 0.02 * 2**0.5, 0.62 + 0.02 * 2**0.5])


def test_what_is_far_from_the_heads_has_its_value_at_the_edge():
    _, r2, pearson, nll, _ = pl.heads(compared()).axes
    assert [text.get_text() for text in r2.texts] == ["◂ -0.02", "◂ -0.70"]
    assert [text.get_text() for text in nll.texts] == ["1.90 ▸"]
    assert not pearson.texts  # the average lies among the heads
    assert nll.get_xlim()[0] < 1.50 and 1.60 < nll.get_xlim()[1] < 1.9


def test_small_differences_of_heads_do_not_fill_the_axis():
    comparison = compared()
    comparison.runs[["r2", "nll"]] = comparison.table[["r2", "nll"]] = [0.4, 1.5]
    _, r2, _, nll, _ = pl.heads(comparison).axes
    assert np.ptp(nll.get_xlim()) == pytest.approx(0.06 * 1.5)
