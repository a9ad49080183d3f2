"""What data can give before training: which tracks have others to be imputed from."""

from __future__ import annotations

import numpy as np
import pytest

from chipvi.data.outlook import Outlook
from chipvi.train.words import describe_outlook

ONE = ["cell1.H3K4me3", "cell1.H3K4me1", "cell1.H3K36me3", "cell1.H3K27me3"]


@pytest.mark.parametrize(
    ("names", "alone", "scarce", "sentence"),
    [
        (ONE[:1], ONE[:1], [], "1 track of 1 biosample: imputation has nothing to go by; denoising works."),
        (
            ONE[:2], [], ONE[:2],
            "2 tracks of 1 biosample: imputation has next to nothing to go by; denoising works.",
        ),
        (ONE, [], [], "4 tracks of 1 biosample: enough to impute from."),
        (["cell1.H3K4me3", "cell2.H3K4me3"], [], [], "2 tracks of 2 biosamples: enough to impute from."),
        (
            [*ONE, "cell2.H3K4me3", "cell3.H3K9me3"], ["cell3.H3K9me3"], [],
            "6 tracks of 3 biosamples: enough to impute from, but for cell3.H3K9me3; 9 experiments that nobody has run "
            "can be imputed.",
        ),
        (["cell1.H3K4me3", "cell2.H3K4me1"], ["cell1.H3K4me3", "cell2.H3K4me1"], [], None),
    ],
)  # fmt: skip
def test_tracks_are_poor_that_have_hardly_another_to_be_imputed_from(kit, names, alone, scarce, sentence):
    adata = kit.data(n_regions=40, n_assays=5, controls=False, signal=False, missing=[])[:, names].copy()
    outlook = Outlook.of(kit.model(adata, {"depth_key": "depth"}).data)
    assert (sorted(outlook.alone), sorted(outlook.scarce)) == (sorted(alone), sorted(scarce))
    assert outlook.is_poor == (len(alone) + len(scarce) == len(names))
    if sentence is not None:
        assert describe_outlook(outlook) == sentence


def test_controls_and_tracks_without_data_are_nothing_to_go_by(kit):
    adata = kit.data(n_regions=40, signal=False, missing=[])
    names = ["cell1.H3K4me3", "cell1.H3K4me1", *adata.var_names[adata.var["is_control"]]]
    adata = adata[:, names].copy()
    adata.layers["observed"] = np.ones(adata.shape, dtype=np.int8)
    adata.layers["observed"][:, 1] = 0
    keys = {"observed_layer": "observed", "depth_key": "depth", "control_key": "is_control"}
    outlook = Outlook.of(kit.model(adata, keys).data)
    assert outlook == Outlook(1, 1, alone=("cell1.H3K4me3",), scarce=(), n_gaps=1, has_counts=True)


def test_signal_alone_is_not_said_to_be_denoised():
    assert describe_outlook(Outlook(1, 1, ("a.x",), (), 0, has_counts=False)) == (
        "1 track of 1 biosample: imputation has nothing to go by."
    )
