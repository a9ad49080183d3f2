"""Pictures of what differs: every region where it belongs, in the colour of its call."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import chipvi
from chipvi.pl import differential_loci, ma, volcano
from chipvi.pl._style import BLUE, GREY, LIGHT, ORANGE


@pytest.fixture
def table() -> pd.DataFrame:
    """Fifty regions of two assays; in the first, 10 to 14 are higher in group a and 20 in group b."""
    n = 50
    start = np.arange(n) * 200 + np.where(np.arange(n) >= 40, 1_000, 0)  # a gap
    part = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 200, "assay": "CTCF"})
    part["scale2"] = 4.0
    part["scale1"] = 4.0
    part.loc[10:14, "scale1"] = 32.0
    part.loc[20, "scale1"] = 0.5
    part["lfc_mean"] = np.log2(part["scale1"] / part["scale2"])
    part["raw_mean1"], part["raw_mean2"] = part["scale1"] + 1, part["scale2"] - 1
    part["p_value"] = np.where(part["lfc_mean"] != 0, 1e-6, 0.7)
    part["is_de_fdr_0.1"] = part["p_value"] < 0.1
    none = part.assign(assay="ATAC", lfc_mean=np.nan, p_value=np.nan)  # never measured in one group
    none["is_de_fdr_0.1"] = False
    return pd.concat([part, none]).assign(group1="a", group2="b")


def points(ax, colour: str) -> np.ndarray:
    (found,) = [
        one for one in ax.collections if to_hex(one.get_facecolor()[0] if len(one.get_facecolor()) else "w") == colour
    ]
    return np.asarray(found.get_offsets())


def test_a_volcano_has_every_region_in_its_colour(table):
    ax = volcano(table).axes[0]
    np.testing.assert_allclose(points(ax, BLUE), [[3, 6]] * 5)
    np.testing.assert_allclose(points(ax, ORANGE), [[-3, 6]])
    np.testing.assert_allclose(points(ax, GREY), [[0, -np.log10(0.7)]] * 44)
    assert ax.get_title(loc="left") == "CTCF: 5 up, 1 down"


def test_an_ma_plot_has_the_fold_change_over_the_level(table):
    figure = ma(table)
    np.testing.assert_allclose(points(figure.axes[0], BLUE), [[np.sqrt(128), 3]] * 5)
    assert figure.axes[0].get_xscale() == "log" and "a over b" in figure.get_supylabel()
    assert figure.axes[1].get_title(loc="left") == "ATAC: 0 up, 0 down"


def test_a_huge_table_is_drawn_in_part_and_counted_whole(table):
    many = pd.concat([table[table["assay"] == "CTCF"]] * 1_000)
    ax = volcano(many).axes[0]
    assert ax.get_title(loc="left") == "CTCF: 5,000 up, 1,000 down"
    assert 10_000 < len(points(ax, GREY)) <= 20_000 and len(points(ax, BLUE)) == 5_000


def test_loci_show_the_best_intervals_with_gaps_where_there_is_no_region(table, tmp_path):
    intervals = chipvi.differential.merge_regions(table, fdr_target=0.1)
    assert len(intervals) == 2
    figure = differential_loci(table, intervals, save=tmp_path / "loci.png")
    assert (tmp_path / "loci.png").stat().st_size > 5_000
    first = figure.axes[0]
    first_line, second_line = first.lines[:2]
    assert (first_line.get_color(), second_line.get_color()) == (BLUE, ORANGE)
    x, y = first_line.get_data()
    assert y[(x > 2.0) & (x < 3.0)].min() == 32 and y[0] == 4
    (shade,) = [patch for patch in first.patches if to_hex(patch.get_facecolor()) == LIGHT]
    assert shade.get_x() == pytest.approx(2.0) and shade.get_width() == pytest.approx(1.0)
    assert first.get_title(loc="left").startswith("CTCF, chr1 (FDR ")
    low, high = first.get_xlim()
    assert low < x[0] and high > x[~np.isnan(y)][-1]  # an interval at the edge ends there
    whole = Figure(layout="constrained")
    left, right = whole.subplots(1, 2)
    assert differential_loci(table, intervals, ax=right) is whole
    (part,) = whole.subfigs
    assert [len(one.lines) for one in part.axes] == [2, 2] and len(part.legends) == 1 and left.axison
    last = differential_loci(table, intervals.assign(start=7_800, end=8_000)).axes[0].lines[0]
    assert np.isnan(last.get_ydata()).any()


def test_loci_name_the_gene_with_the_nearest_start(table, tmp_path):
    gtf = tmp_path / "genes.gtf"
    lines = [  # the start of a gene on the minus strand is its end
        ("gene", 9_001, 9_500, "+", "FAR"),
        ("gene", 101, 1_500, "-", "NEAR"),
        ("exon", 2_001, 2_100, "+", "PART"),
        ("gene", 4_101, 4_800, "+", "WITHIN"),
    ]
    rows = [
        f'1\tx\t{kind}\t{start}\t{end}\t.\t{strand}\t.\tgene_name "{name}";\n'
        for kind, start, end, strand, name in lines
    ]
    gtf.write_text("".join(rows))
    intervals = chipvi.differential.merge_regions(table, fdr_target=0.1)
    titles = [ax.get_title(loc="left").splitlines()[1] for ax in differential_loci(table, intervals, gtf=gtf).axes]
    assert titles == ["0.5 kb from the start of NEAR", "the start of WITHIN"]  # of 2,000 to 3,000 and 4,000 to 4,200
    gtf.write_text("".join(rows).replace("1\tx", "2\tx"))
    title = differential_loci(table, intervals, gtf=gtf).axes[0].get_title(loc="left")
    assert title.endswith("\nno gene on this chromosome")
    gtf.write_text(rows[2])
    with pytest.raises(ValueError, match="genes.gtf has no line of a gene"):
        differential_loci(table, intervals, gtf=gtf)


def test_nothing_called_has_no_locus(table):
    with pytest.raises(ValueError, match="intervals must hold at least one; nothing was called"):
        differential_loci(table, chipvi.differential.merge_regions(table.assign(p_value=1.0)))


@pytest.mark.parametrize("draw", [volcano, ma])
def test_a_table_of_something_else_is_refused(table, draw):
    with pytest.raises(ValueError, match="table: column 'is_de_fdr_0.05' is not in table"):
        draw(table.drop(columns="is_de_fdr_0.1"))
