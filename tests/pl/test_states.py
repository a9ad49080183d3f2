"""The picture of states has the enrichment, the shares and the colours of the table."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import chipvi

NAMES = ["1 Active TSS", "2 Transcribed", "3 Quiescent"]


@pytest.fixture
def adata():
    code_rb = np.array([[0, 2], [0, 2], [1, 2], [2, 1], [2, 0]])
    starts = [0, 200, 400, 600, 1_000]  # with a gap
    obs = pd.DataFrame({"chrom": "chr1", "start": starts}, index=list("abcde"))
    obs["end"] = obs["start"] + 200
    table = pd.DataFrame(
        {"kind": [name[2:] for name in NAMES], "color": ["#ff0000", "#008000", "#ffffff"], "regions": [3, 2, 5]},
        index=NAMES,
    )
    table["share"] = table["regions"] / 10
    table[["H3K4me3", "H3K36me3"]] = [[8.0, 1.0], [0.5, 2.0], [0.25, 0.4]]
    states = {name: pd.Categorical.from_codes(code_rb[:, b], NAMES) for b, name in enumerate(["K562", "H1"])}
    found = {"states": {"table": table}, "states_colors": list(table["color"])}
    return AnnData(obs=obs, obsm={"states": pd.DataFrame(states, index=obs.index)}, uns=found)


def test_every_number_and_colour_is_that_of_the_table(adata):
    heat, shares, strip = chipvi.pl.states(adata).axes
    assert [text.get_text() for text in heat.texts] == ["8.0", "1.0", "0.5", "2.0", "0.2", "0.4"]
    np.testing.assert_allclose(heat.images[0].get_array(), np.log2([[8, 1], [0.5, 2], [0.25, 0.4]]))
    colour = heat.images[0].to_rgba
    np.testing.assert_allclose(colour(np.zeros(1))[0], 1, atol=0.02)  # white is average
    assert colour(np.array([1.0]))[0, 2] < 0.8 < colour(np.array([-1.0]))[0, 2]  # orange above it, blue below
    assert [label.get_text() for label in heat.get_yticklabels()] == NAMES
    assert [bar.get_width() for bar in shares.patches] == [0.3, 0.2, 0.5]
    assert [to_hex(bar.get_facecolor()) for bar in shares.patches] == list(adata.uns["states_colors"])
    (mesh,) = strip.collections[:1]
    drawn = mesh.get_array().reshape(2, 6)
    np.testing.assert_array_equal(drawn.filled(-1), [[0, 0, 1, 2, -1, 2], [2, 2, 2, 1, -1, 0]])
    assert [label.get_text() for label in strip.get_yticklabels()] == ["K562", "H1"]


def test_a_stretch_may_be_chosen_and_the_figure_saved(adata, tmp_path):
    strip = chipvi.pl.states(adata, region="chr1:400-700", save=tmp_path / "s.png").axes[-1]
    assert strip.collections[0].get_array().shape[-1] == 2
    assert (tmp_path / "s.png").stat().st_size > 1_000
    with pytest.raises(ValueError, match="no region in chr2:0-9"):
        chipvi.pl.states(adata, region="chr2:0-9")


def test_size_and_title_are_those_asked_for(adata):
    figure = chipvi.pl.states(adata, figsize=(8, 3.5), title="states")
    assert tuple(figure.get_size_inches()) == (8, 3.5) and figure.get_suptitle() == "states"


def test_a_gene_is_found_and_panels_take_the_place_of_given_axes(adata, tmp_path):
    gtf = tmp_path / "genes.gtf"
    gtf.write_text('chr1\tx\tgene\t451\t500\t.\t+\t.\tgene_id "G1"; gene_name "ABC1";\n')
    whole = Figure(layout="constrained")
    left, right = whole.subplots(1, 2)
    assert chipvi.pl.states(adata, region="ABC1", gtf=gtf, ax=right, title="here") is whole
    heat, shares, strip = whole.axes[2:]
    assert strip.get_xlabel().endswith("ABC1 0.5–0.5 kb →") and strip.get_xlim()[0] == 0
    assert not right.axison and left.axison and whole.subfigs[0].get_suptitle() == "here"
    with pytest.raises(ValueError, match="figsize is that of a figure of its own"):
        chipvi.pl.states(adata, ax=left, figsize=(3, 3))
    with pytest.raises(ValueError, match="ax must be axes of a grid"):
        chipvi.pl.states(adata, ax=whole.add_axes((0, 0, 1, 1)))


def test_data_without_states_are_told_how_to_get_them(adata):
    del adata.uns["states"]
    with pytest.raises(ValueError, match="find them with chipvi.tl.states first"):
        chipvi.pl.states(adata)
    with pytest.raises(ValueError, match="find them with chipvi.tl.states first"):
        chipvi.io.write_states(adata, "nowhere")


def test_bed_files_join_neighbours_of_one_state_that_touch(adata, tmp_path):
    files = chipvi.io.write_states(adata, tmp_path / "new")
    assert list(files) == ["K562", "H1"]
    assert files["K562"].read_text().splitlines() == [
        'track name="K562 states" description="Chromatin states of K562, chipvi" itemRgb="On"',
        "chr1\t0\t400\t1_Active_TSS\t0\t.\t0\t400\t255,0,0",
        "chr1\t400\t600\t2_Transcribed\t0\t.\t400\t600\t0,128,0",
        "chr1\t600\t800\t3_Quiescent\t0\t.\t600\t800\t255,255,255",
        "chr1\t1000\t1200\t3_Quiescent\t0\t.\t1000\t1200\t255,255,255",
    ]
    adata.obs = adata.obs.drop(columns="end")
    with pytest.raises(ValueError, match="the columns chrom, start and end of obs; end not found"):
        chipvi.io.write_states(adata, tmp_path)
