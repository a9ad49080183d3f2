"""Wrong calls of everything public: each is refused by chipvi itself, in one sentence that names the argument."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import chipvi

SOURCE = Path(chipvi.__file__).parent
NAN, INF = float("nan"), float("inf")


class Thing:
    """What no argument is."""


METHODS = (
    "impute get_imputed_counts get_imputed_pvalues get_normalized_expression get_likelihood_parameters "
    "get_prediction_interval get_quantiles posterior_predictive_sample get_elbo get_reconstruction_error "
    "get_marginal_ll get_latent_representation diagnose train get_biosample_affinity save differential_signal"
).split()
FUNCTIONS = {
    f"{room}.{name}": getattr(getattr(chipvi, room), name)
    for room in ("io", "metrics", "pl", "tl", "datasets", "differential")
    for name in getattr(chipvi, room).__all__
    if not inspect.isclass(getattr(getattr(chipvi, room), name))
}
FUNCTIONS |= {"report": chipvi.report, "compare_heads": chipvi.compare_heads}
CLASS_METHODS = ("setup_anndata", "load_query_data", "load", "load_registry", "view_setup_args")
FUNCTIONS |= {f"ChipVI.{name}": getattr(chipvi.ChipVI, name) for name in CLASS_METHODS}
FUNCTIONS |= {"ChipVI": chipvi.ChipVI}
CALLS = FUNCTIONS | {f"model.{name}": getattr(chipvi.ChipVI, name) for name in METHODS}
REGIONS = pd.DataFrame({"chrom": "chr1", "start": [0, 200], "end": [200, 400]})
COUNTS = np.array([[1.0, 2.0], [3.0, 5.0]])
# A value that is right, or at least of the right type, by name of the argument or else by annotation.
RIGHT = {
    "regions": REGIONS, "intervals": REGIONS, "genes": REGIONS.assign(strand="+"),
    "genome": pd.Series({"chr1": 400}), "bin_size": 200, "quantiles": [0.5], "width": 2.0, "n_bins": 4,
    "biosample_t": ["a", "b"], "assay_t": ["x", "x"], "offsets": np.array([0, 2]), "path": "none.html",
    "sheet": "none.csv", "q": 0.5, "group1": "cell1",
}  # fmt: skip
# Numbers out of range, by name of the argument.
RANGES: dict[str, list[Any]] = {
    "n_latent": [0, -1], "n_hidden": [0], "dropout": [1.0, -0.1, NAN], "kl_weight": [-1.0, NAN, INF],
    "mean_weight": [-1.0], "denoise_weight": [NAN], "depth": [0, -1.0, NAN, INF, 1e40], "level": [0.0, 1.0, NAN],
    "batch_size": [0, -3], "n_samples": [0, -1], "n_mc_samples": [0], "max_steps": [0], "max_epochs": [-1],
    "validation_size": [1.0, -0.5, NAN], "bin_size": [0, -5], "fragment_length": [0, 2**60], "min_mapq": [-1, 256],
    "processes": [0], "n_regions": [0], "n_biosamples": [0], "n_assays": [0, 12], "n_chromosomes": [0],
    "mean_count": [0.0, NAN, INF, 1e40], "depth_spread": [-1.0, NAN, 1e3], "digits": [0, 10], "steps": [0],
    "n_states": [1, 101], "resolution": [0.0, NAN], "biosamples": [["nonsense"]],
    "head": ["nonsense"], "rule": ["nonsense"], "scale": ["nonsense"], "uncovered": ["nonsense"], "format": ["x"],
    "kind": ["nonsense"], "splits": ["nonsense", []], "quantiles": [[], [0.0], [NAN]], "seed": [-1],
    "accelerator": ["nonsense"], "split_key": ["nonsense"], "layer": ["nonsense"], "covariate_keys": [["nonsense"]],
    "plan_kwargs": [{"nonsense": 1}, {"lr": NAN}], "mode": ["nonsense"], "delta": [0.0, -1.0, NAN], "n_loci": [0],
    "fdr_target": [1.0, -0.1, NAN], "gap": [-1], "groupby": ["nonsense"], "group1": ["nonsense"],
    "group2": ["nonsense"],
    "head_options": [{"nonsense": 1}], "heads": [["nonsense"]],
}  # fmt: skip
NOT_RANGED = {("pl.tracks", "layer"), ("compare_heads", "seed"), ("io.write_bigwigs", "layer")}


def wrong_values(parameter: inspect.Parameter) -> list[Any]:
    """Values of a wrong type, by the annotation as it is written."""
    written = str(parameter.annotation)
    values: list[Any] = [Thing()]
    if written.startswith(("int", "float")) and "str" not in written:
        values += ["3", True]
    if written.startswith("int"):
        values += [1.5]
    if written.startswith("bool"):
        values += ["no", 1]
    if written.startswith("str") and "Sequence" not in written and "_Files" not in written:
        values += [3]
    if "AnnData" in written and "str" not in written:
        values += ["x"]
    if "DataFrame" in written and "str" not in written:
        values += [] if "ndarray" in written else ["x"]
    may_be_none = "None" in written or written in ("Indices", "TracksArgument", "Any")
    return values if may_be_none else [*values, None]


def cases() -> list[Any]:
    found = []
    for name, function in CALLS.items():
        parameters = {key: one for key, one in inspect.signature(function).parameters.items() if key != "self"}
        for key, parameter in parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD or (name, key) == ("ChipVI.load_query_data", "model"):
                continue
            ranged = [] if (name, key) in NOT_RANGED else RANGES.get(key, [])
            for value in [*wrong_values(parameter), *ranged]:
                shown = "Thing" if isinstance(value, Thing) else repr(value)
                found.append(pytest.param(name, key, value, id=f"{name}({key}={shown})"))
        found.append(pytest.param(name, "nonsense", 1, id=f"{name}(nonsense=1)"))
    return found


def right_value(parameter: inspect.Parameter, adata: Any, model: Any) -> Any:
    if parameter.name in ("model", "model_or_history", "model_or_adata"):
        return model
    if parameter.name == "counts":
        return REGIONS.assign(a_b=[1, 2]) if "DataFrame" in str(parameter.annotation) else COUNTS
    if parameter.name == "genome" and str(parameter.annotation) == "str":
        return "hg38"
    if parameter.name in RIGHT:
        return RIGHT[parameter.name]
    if parameter.name == "files":
        return REGIONS if str(parameter.annotation) == "pd.DataFrame" else "none.bam"
    if parameter.name == "diagnosis":
        return model.diagnose(indices=range(30))
    if parameter.name == "comparison":
        return SimpleNamespace(table=REGIONS, runs=REGIONS, curves=REGIONS)
    if "AnnData" in str(parameter.annotation):
        return adata
    if "DataFrame" in str(parameter.annotation) and "ndarray" not in str(parameter.annotation):
        return pd.DataFrame({"pearson": [0.5], "r2": [0.5]}, index=["a"])
    if "str" in str(parameter.annotation):
        return "x"
    return COUNTS


@pytest.fixture(scope="module")
def barely_trained(kit: Any) -> chipvi.ChipVI:
    return kit.train(kit.model(kit.data()), max_steps=2, calibrate_unseen=False)


def own_error(call: Callable[[], Any]) -> BaseException:
    """The error of a call, which must be raised in chipvi's own source."""
    with pytest.raises((TypeError, ValueError, KeyError, FileNotFoundError)) as caught:
        call()
    innermost = Path(traceback.extract_tb(caught.value.__traceback__)[-1].filename)
    assert SOURCE in innermost.parents, f"raised in {innermost}: {caught.value!r}"
    return caught.value


@pytest.mark.parametrize(("name", "key", "value"), cases())
def test_a_wrong_call_is_refused_by_name_in_one_sentence(name, key, value, barely_trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, adata = barely_trained, barely_trained.adata
    function = getattr(model, name.partition(".")[2]) if name.startswith("model.") else CALLS[name]
    parameters = inspect.signature(function).parameters
    needed = {
        one: right_value(parameter, adata, model)
        for one, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD and one != key
    }
    message = str(own_error(lambda: function(**needed, **{key: value})))
    named = [key.removesuffix("s"), *(value if isinstance(value, dict) else [])]  # `split` of `splits`
    assert any(one in message for one in named), message
    assert "\n" not in message and list(tmp_path.iterdir()) == []
