"""A page of a small model, and what the tests of the page share."""

import numpy as np
import pytest
from anndata import AnnData

import chipvi
from chipvi import ChipVI, datasets
from chipvi.train.findings import Finding, Sign

NEVER = "cell2.H3K4me3"
ODD = "<b>&odd"  # a name that would break a page that does not escape it


@pytest.fixture(scope="package")
def adata() -> AnnData:
    adata = datasets.simulate(
        n_regions=660, n_biosamples=2, n_assays=3, n_chromosomes=3, controls=True, missing=[NEVER], seed=2
    )
    adata.layers["observed"][:300, 0] = 0
    adata.var["assay"] = adata.var["assay"].astype(str).replace("H3K36me3", ODD)
    adata.obs["part"] = np.where(adata.obs["chrom"] == "chr3", "test", "train")
    adata.uns["assembly"] = "hg38"
    return adata


@pytest.fixture(scope="package")
def model(adata) -> ChipVI:
    ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth", control_key="is_control")
    model = ChipVI(adata, n_latent=5, n_hidden=24)
    model.train(max_steps=5, batch_size=64, seed=3, accelerator="cpu", enable_progress_bar=False)
    model.findings_ = [Finding(Sign.BIASED_TRACKS, {"records": 3}, {ODD: 4.0}).plain()]
    return model


@pytest.fixture(scope="package")
def page(model, tmp_path_factory):
    return chipvi.report(model, tmp_path_factory.mktemp("report") / "of us.html")
