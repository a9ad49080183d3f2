"""States are named by the marks that they are enriched in, as the rules of tl.states say."""

import pytest

from chipvi.tl._naming import KINDS, find_kind


@pytest.mark.parametrize(
    ("enrichment", "name"),
    [
        ({"H3K4me3": 6.0, "H3K4me1": 2.0, "H3K27me3": 0.4}, "Active TSS"),
        ({"H3K9ac": 1.5, "H3K36me3": 9.0}, "Active TSS"),
        ({"H3K4me3": 6.0, "H3K27me3": 1.5}, "Bivalent TSS"),
        ({"H3K4me3": 2.0, "H3K4me1": 3.0}, "Enhancer"),
        ({"H3K4me3": 1.6, "H3K4me1": 3.0, "H3K27ac": 2.0}, "Active enhancer"),
        ({"H3K4me1": 3.0, "H3K27ac": 9.0, "H3K36me3": 1.6}, "Genic enhancer"),
        ({"H3K4me1": 3.0, "H3K27me3": 1.6}, "Bivalent enhancer"),
        ({"H3K36me3": 2.0, "H3K4me1": 1.4}, "Transcribed"),
        ({"H3K79me2": 2.0}, "Transcribed"),
        ({"H3K36me3": 2.0, "H3K9me3": 1.5}, "ZNF genes and repeats"),
        ({"H3K27me3": 2.0, "H3K9me3": 1.6}, "Repressed (Polycomb)"),
        ({"H3K27me3": 1.6, "H3K9me3": 2.0}, "Heterochromatin"),
        ({"CTCF": 8.0, "DNase-seq": 4.0}, "Insulator"),
        ({"DNase-seq": 4.0}, "Open chromatin"),
        ({"ATAC": 1.4, "h3k4me3": 1.49, "H3K27me3": 1.49}, "Quiescent"),
        ({"POLR2A": 7.0}, "Quiescent"),
    ],
)
def test_the_first_rule_that_fits_names_a_state(enrichment, name):
    assert KINDS[find_kind(enrichment)].name == name


def test_kinds_have_names_and_colours_of_their_own():
    assert len({kind.name for kind in KINDS}) == len({kind.color for kind in KINDS}) == len(KINDS)
