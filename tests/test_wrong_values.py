"""Values of the right type that cannot be: each is refused by chipvi, in one sentence that names the argument."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import chipvi
from chipvi import ChipVI, datasets, io, metrics, pl

SOURCE = Path(chipvi.__file__).parent
ONES, REGIONS = np.ones((5, 2)), pd.DataFrame({"chrom": ["chr1"], "start": [0], "end": [200]})
STEP = {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": False, "calibrate_unseen": False}
RUNNER = {
    "a text for devices": ({"devices": "x"}, "devices"),
    "no device": ({"devices": 0}, "devices"),
    "a GPU's number on a CPU": ({"devices": [0, 1]}, "devices"),
    "a number for callbacks": ({"callbacks": 3}, "callbacks must be a Callback"),
    "a list of numbers for callbacks": ({"callbacks": [3]}, "callbacks must be a Callback"),
    "a text for a logger": ({"logger": "csv"}, "logger must be a Logger"),
    "a precision that there is not": ({"precision": "17"}, "precision"),
    "steps without end": ({"max_steps": 10**30}, "max_steps must be at most"),
    "an accelerator that there is not": ({"accelerator": "quantum"}, "accelerator 'quantum' is not"),
    "patience alone": ({"early_stopping_patience": 3}, "early_stopping_patience needs early_stopping=True"),
    "a foreign monitor": ({"early_stopping_monitor": "elbo_validation"}, "early_stopping_monitor cannot be chosen"),
    "a slip": ({"bath_size": 3}, "argument 'bath_size' is not in .*; did you mean 'batch_size'"),
}
REQUESTS = {
    "nested indices": ("impute", {"indices": [[0], [1, 2]]}, "indices must be a list of row numbers"),
    "a set of indices": ("impute", {"indices": {1, 2}}, "indices must be a list of row numbers"),
    "texts for quantiles": ("get_quantiles", {"quantiles": ["a"]}, "quantiles must be a list of numbers"),
    "nested quantiles": ("get_quantiles", {"quantiles": [[0.5]]}, "quantiles must be a list of numbers"),
}
CALLS = {
    "head options of another head": (
        lambda adata: ChipVI(adata, head_options={"logit_clamp": 3.0}),
        "'logit_clamp' is not in head_options of mean_dispersion. There is: nothing",
    ),
    "a text among head options": (
        lambda adata: ChipVI(adata, head="clamped_np", head_options={"logit_clamp": "a"}),
        "logit_clamp must be a finite number",
    ),
    "NaN among head options": (
        lambda adata: ChipVI(adata, head="clamped_np", head_options={"count_floor": float("nan")}),
        "count_floor must be a finite number",
    ),
    "a number for a model": (lambda adata: ChipVI.load_query_data(adata, 3), "model must be a ChipVI or the folder"),
    "more regions than fit": (lambda _: datasets.simulate(n_regions=10**18), "n_regions must be at most"),
    "a width of 0": (lambda _: metrics.gaussian_smoothing(ONES, np.array([0, 5]), width=0), "width must be above 0"),
    "a negative width": (lambda _: metrics.gaussian_smoothing(ONES, np.array([0, 5]), width=-1.0), "width must be at"),
    "offsets beyond the end": (
        lambda _: metrics.gaussian_smoothing(ONES, np.array([0, 9]), width=1.0),
        "offsets must ascend from 0 to the number of regions, 5",
    ),
    "offsets that stop early": (
        lambda _: metrics.gaussian_smoothing(ONES, np.array([0, 3]), width=1.0),
        "offsets must",
    ),
    "offsets that go back": (lambda _: metrics.gaussian_smoothing(ONES, np.array([0, 4, 2, 5]), width=1.0), "offsets"),
    "too few names of tracks": (
        lambda _: metrics.leave_one_out_average(ONES, ONES == 1, ["a"], ["x", "y"]),
        r"biosample_t and assay_t name every track; their shapes are \(5, 2\), \(5, 2\), \(1,\) and \(2,\)",
    ),
    "a mask of another shape": (
        lambda _: metrics.leave_one_out_average(ONES, np.ones((1, 2), bool), ["a", "b"], ["x", "x"]),
        "observed_rt must be regions x tracks",
    ),
    "no bin": (lambda _: metrics.nb_pit(ONES, ONES, 1.0, n_bins=0), "n_bins must be at least 1"),
    "intervals without ends": (
        lambda _: metrics.count_intervals(REGIONS, REGIONS.drop(columns="end")),
        "intervals must have the columns chrom, start, end; it has no end",
    ),
    "genes without strands": (
        lambda _: metrics.count_promoters(REGIONS, REGIONS),
        "genes must have the columns chrom, start, end, strand; it has no strand",
    ),
    "a number among files": (lambda _: io.count_reads([3], REGIONS), "files must be a path, a list of paths"),
    "a number for the files of a track": (lambda _: io.count_reads({"a": 3}, REGIONS), "files must be a path, a list"),
    "a history without tables": (lambda _: pl.training({"train_loss": 3}), "model_or_history must hold tables"),
    "a picture nowhere": (
        lambda adata: pl.tracks(adata, adata, rows=slice(0, 5), save="nowhere/a.png"),
        "save must name a file in a folder that is there; there is no nowhere",
    ),
}


def own_message(call, pattern: str) -> str:
    """The message of a call's error, which must be raised in chipvi's own source."""
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=pattern) as caught:
        call()
    innermost = Path(traceback.extract_tb(caught.value.__traceback__)[-1].filename)
    assert SOURCE in innermost.parents, f"raised in {innermost}: {caught.value!r}"
    return str(caught.value)


@pytest.mark.parametrize(("options", "pattern"), RUNNER.values(), ids=RUNNER)
def test_what_training_cannot_do_is_refused_before_the_model_changes(kit, options, pattern):
    model = kit.model(kit.data())
    own_message(lambda: model.train(**(STEP | options)), pattern)
    assert not model.is_trained and model.history is None


@pytest.mark.parametrize(("method", "options", "pattern"), REQUESTS.values(), ids=REQUESTS)
def test_what_cannot_be_asked_for_is_refused(model, method, options, pattern):
    assert "\n" not in own_message(lambda: getattr(model, method)(**options), pattern)


@pytest.mark.parametrize(("call", "pattern"), CALLS.values(), ids=CALLS)
def test_a_value_that_cannot_be_is_refused(adata, call, pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ChipVI.setup_anndata(adata := adata.copy(), observed_layer="observed", depth_key="depth")
    assert "\n" not in own_message(lambda: call(adata), pattern)
    assert list(tmp_path.iterdir()) == []
