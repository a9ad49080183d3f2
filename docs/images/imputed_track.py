"""Draw the picture of the README: imputed tracks beside the truth, on a chromosome that was not trained on."""

from pathlib import Path

import numpy as np

import chipvi

NEVER_MEASURED, MEASURED = "cell2.H3K4me3", "cell2.H3K36me3"
HELD_OUT = "chr8"
SHOWN = 400  # regions


def main() -> None:
    """Train on seven chromosomes, impute the eighth, and draw where most was withheld: the fit has no say in it."""
    sizes = {"n_regions": 32_000, "n_chromosomes": 8, "seed": 0}
    adata = chipvi.datasets.simulate(**sizes, missing=[NEVER_MEASURED])
    complete = chipvi.datasets.simulate(**sizes)  # the same, with the counts that were withheld
    adata.obs["split"] = np.where(adata.obs["chrom"] == HELD_OUT, "test", "train")

    chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
    model = chipvi.ChipVI(adata)
    model.train(split_key="split", seed=0)
    result = model.impute(indices=np.flatnonzero(adata.obs["split"] == "test"))
    del result.layers["denoised"]  # the picture is about imputation

    withheld = complete[result.obs_names, NEVER_MEASURED].X[:, 0]
    start = SHOWN * int(np.argmax(np.sqrt(withheld).reshape(-1, SHOWN).sum(axis=1)))
    shown = slice(start, start + SHOWN)
    chipvi.pl.tracks(complete, result, [NEVER_MEASURED, MEASURED], rows=shown, save=Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
