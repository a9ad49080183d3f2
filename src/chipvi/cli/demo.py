"""chipvi demo: a model trained in some minutes on example data, and judged on regions that it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import _keys
from .._messages import counted, listed, unknown
from .._quiet import quiet_lightning
from .console import open_console, plain_table, print_files, print_line
from .options import Seed, require_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from rich.console import Console

    from ..model.chipvi import ChipVI

SIMULATED, REAL = DATA = ("simulated", "roadmap-tss")
_SPLIT = "split"
_NEVER_MEASURED = "cell2.H3K4me3"
_N_REGIONS, _N_CHROMOSOMES = 40_000, 10
_STEPS = 2_000
_EVERY_GENE = 10  # is to validate on
_SHOWN = 200  # regions in the picture of tracks
_WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)  # of the Gaussians, in regions; the first hardly smooths
_SHORT = {"smoothed": "Gauss"}  # so that a table fits 80 columns
_MOST_FITTED = 10_000  # regions to fit the likelihood of the average on


@dataclass(frozen=True, eq=False)
class Example:
    """Data to train on, and what is known beyond them.

    Parameters
    ----------
    adata
        With a column `split` in obs: train, valid and test.
    setup
        Arguments of `setup_anndata`.
    truth_rt
        Counts, those held out of `adata` included; NaN where unknown.
    name, held_out
        What the data are, and what the test regions are, in words.
    shown
        Tracks in the picture.
    """

    adata: AnnData
    setup: dict[str, Any]
    truth_rt: np.ndarray
    name: str
    held_out: str
    shown: list[str]

    @property
    def test(self) -> np.ndarray:
        """Rows to judge on."""
        return self._rows("test")

    @property
    def train(self) -> np.ndarray:
        """Rows to train on."""
        return self._rows("train")

    def _rows(self, part: str) -> np.ndarray:
        return (self.adata.obs[_SPLIT] == part).to_numpy().nonzero()[0]


PAGE = "report.html"
_FILES = {
    "imputed.h5ad": "imputed counts of the held-out regions, their intervals, denoised counts",
    "scores.csv": "all scores, by track",
    "tracks.png": "the tracks along a held-out stretch",
    "quality.png": "imputation beside the average of the other biosamples",
    "training.png": "how training went",
    PAGE: "all of it on a page",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    data: Annotated[
        str | None,
        typer.Option(help=f"Data to train on, {REAL} or {SIMULATED}; by default real ones, if they can be downloaded."),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("chipvi-demo")
    steps: Annotated[int | None, typer.Option(help="Training steps; by default 2,000, for some minutes.", min=1)] = None
    seed: Seed = 0


def run(options: Options) -> None:
    """Train on example data, impute held-out regions, and judge the result."""
    from .._files import claimed, naming

    require_folder(options.out)
    if options.data not in (None, *DATA):
        raise ValueError(unknown("data", options.data, DATA, "the data of the demo"))
    with claimed(options.out), naming(options.out):
        _run(options, open_console())


def _run(options: Options, console: Console) -> None:
    from anndata import AnnData
    from anndata.io import write_elem

    from .. import pl, report
    from .._files import new_h5ad, written_whole
    from ..model.chipvi import ChipVI
    from ..train.words import describe_length

    out = options.out
    example = _find_example(options, console)
    out.mkdir(exist_ok=True)
    adata = example.adata
    size = f"{counted(adata.n_obs, 'region')} x {counted(adata.n_vars, 'track')}"
    print_line(f"{example.name}: {size}; judged on {example.held_out}.", console)
    with quiet_lightning():
        ChipVI.setup_anndata(adata, **example.setup)
        model = ChipVI(adata)
        steps = options.steps or _STEPS
        print_line(f"To train: {describe_length(steps, model.plan_calibration(steps))}", console)
        model.train(max_steps=steps, split_key=_SPLIT, seed=options.seed)
        result = model.impute(indices=example.test)
        assert isinstance(result, AnnData)  # without `out`
        scores = score(example, result)
        if _keys.RATE not in adata.layers:
            scores = scores.join(score_other_half(example, model, options.seed))
        scores.loc["macro_mean"] = scores.mean()
        scores = scores.rename_axis("track")
    _print_scores(scores, console)

    with written_whole(out / "imputed.h5ad") as partial, new_h5ad(partial) as (file, _):
        write_elem(file, "/", result)
    with written_whole(out / "scores.csv") as partial:
        scores.to_csv(partial, float_format="%.4f")
    pl.tracks(adata, result, example.shown, rows=_liveliest(result.obs_names, adata), save=out / "tracks.png")
    pl.quality(scores, save=out / "quality.png")
    pl.training(model, save=out / "training.png")
    with quiet_lightning():
        report(model, out / PAGE, indices=example.test, overwrite=True)
    print_files(out, _FILES, console)
    for line in summarise(scores):
        print_line(line, console)
    print_line(f"Open {(out / PAGE).absolute()} in a browser.", console)


def _find_example(options: Options, console: Console) -> Example:
    """The data asked for; if nobody asked, real ones, or simulated ones where these cannot be had."""
    if options.data == SIMULATED:
        return _simulated(options.seed)
    try:
        return _roadmap_tss()
    except ConnectionError as error:
        if options.data is not None:
            raise
        print_line(f"No real counts: {error}", console)
        print_line("The demo goes on with simulated counts, whose true rate is known.", console)
        return _simulated(options.seed)


def _simulated(seed: int) -> Example:
    """Three biosamples, one track of which is missing; a chromosome is held out."""
    from .. import datasets

    sizes: dict[str, Any] = {"n_regions": _N_REGIONS, "n_chromosomes": _N_CHROMOSOMES, "seed": seed}
    adata = datasets.simulate(**sizes, missing=[_NEVER_MEASURED])
    *_, valid, test = (f"chr{c + 1}" for c in range(_N_CHROMOSOMES))
    adata.obs[_SPLIT] = adata.obs[_keys.CHROM].astype(str).map({valid: "valid", test: "test"}).fillna("train")
    biosample, assay = adata.var.loc[_NEVER_MEASURED, [_keys.BIOSAMPLE, _keys.ASSAY]]
    shown = adata.var_names[(adata.var[_keys.BIOSAMPLE] == biosample) | (adata.var[_keys.ASSAY] == assay)]
    return Example(
        adata=adata,
        setup={"observed_layer": _keys.OBSERVED, "depth_key": _keys.DEPTH},
        truth_rt=datasets.simulate(**sizes).X,
        name="Simulated counts",
        held_out=f"{test}, which is not trained on; {_NEVER_MEASURED} is missing everywhere",
        shown=list(shown),
    )


def _roadmap_tss() -> Example:
    """Two biosamples; the genes of the second split are held out, and some of the first are to validate on."""
    import numpy as np
    import pandas as pd

    from .. import datasets

    adata = datasets.roadmap_tss(splits=("train", "valid"))
    gene_r, _ = pd.factorize(adata.obs["gene_id"])
    to_validate_r = gene_r % _EVERY_GENE == 0
    is_test_r = (adata.obs[_SPLIT] == "valid").to_numpy()
    adata.obs[_SPLIT] = np.select([is_test_r, to_validate_r], ["test", "valid"], "train")
    return Example(
        adata=adata,
        setup={"depth_key": _keys.DEPTH, "segment_key": "gene_id"},
        truth_rt=adata.X,
        name="Roadmap Epigenomics, K562 and H1 around the starts of genes",
        held_out="200 genes, which are not trained on",
        shown=list(adata.var_names),
    )


def score(example: Example, result: AnnData) -> pd.DataFrame:
    """Score a prediction of the test regions.

    Returns
    -------
    A row per track. `r2`, `pearson` and `nll` are of the imputed counts; `average_*` are
    of the average of the other biosamples, at the depth of the track. Its likelihood has a dispersion, and a share that
    is spread evenly over the regions (a mean of zero would forbid all reads), both fitted to the training regions.

    Where the true rate is known, `*_rate_r2` and `*_rate_pearson` compare it with the imputed and the denoised counts,
    with the raw counts, and with those smoothed by the Gaussian that suits the track best, chosen in the knowledge of
    the truth. A track without data has only the first.
    """
    import numpy as np

    from .. import metrics
    from ..data.segments import find_segments

    adata, test = example.adata, example.test
    names, truth_rt = adata.var_names, example.truth_rt[test]
    columns = ["r2", "pearson", "nll"]
    scores = metrics.score_tracks(truth_rt, result.X, result.layers[_keys.DISPERSION])[columns].iloc[:-1]
    average_rt, dispersion_t, mean_rt = _average(example)
    of_average = metrics.score_tracks(truth_rt, average_rt[test])
    of_average["nll"] = metrics.score_tracks(truth_rt, mean_rt[test], dispersion_t)["nll"]
    scores = scores.join(of_average[columns].add_prefix("average_"))
    if _keys.RATE in adata.layers:
        rate_rt = adata.layers[_keys.RATE][test]
        counts_rt = np.where(_observed(adata)[test], adata.X[test], np.nan)
        offsets = find_segments(adata.obs.iloc[test]).offsets
        denoised_rt = np.where(np.isnan(counts_rt), np.nan, result.layers[_keys.DENOISED])
        smooth = [metrics.gaussian_smoothing(counts_rt, offsets, width) for width in _WIDTHS]
        for name, measure in (("r2", metrics.r2), ("pearson", metrics.pearson)):
            scores[f"imputed_rate_{name}"] = measure(rate_rt, result.X)
            scores[f"denoised_rate_{name}"] = measure(rate_rt, denoised_rt)
            scores[f"raw_rate_{name}"] = measure(rate_rt, counts_rt)
            scores[f"smoothed_rate_{name}"] = np.max([measure(rate_rt, s_rt) for s_rt in smooth], axis=0)
    scores.index = names
    return scores


def score_other_half(example: Example, model: ChipVI, seed: int) -> pd.DataFrame:
    """Score denoising where no true rate is known: by half of the reads, against the other half.

    Returns
    -------
    `raw_half_r2`, `smoothed_half_r2` and `denoised_half_r2`, a row per track: each read of the test regions is dealt to
    one half or the other; the first half as it is, smoothed by the Gaussian that suits the track best (chosen in the
    knowledge of the other half), and denoised.
    """
    import numpy as np
    import pandas as pd

    from .. import metrics
    from ..data.segments import find_segments

    shallow, test = example.adata.copy(), example.test
    shallow.X = np.random.default_rng(seed).binomial(shallow.X.astype(np.int64), 0.5).astype(np.float32)
    shallow.var[_keys.DEPTH] = shallow.var[_keys.DEPTH] / 2
    half_rt, other_rt = shallow.X[test], example.adata.X[test] - shallow.X[test]
    offsets = find_segments(shallow.obs.iloc[test], example.setup.get("segment_key")).offsets
    smooth = [metrics.gaussian_smoothing(half_rt, offsets, width) for width in _WIDTHS]
    denoised_rt = model.get_normalized_expression(shallow, indices=test, return_numpy=True)
    return pd.DataFrame(
        {
            "raw_half_r2": metrics.r2(other_rt, half_rt),
            "smoothed_half_r2": np.max([metrics.r2(other_rt, s_rt) for s_rt in smooth], axis=0),
            "denoised_half_r2": metrics.r2(other_rt, denoised_rt),
        },
        index=shallow.var_names,
    )


def summarise(scores: pd.DataFrame) -> list[str]:
    """What the scores come to: how many tracks are ahead, of what, and which are not.

    Parameters
    ----------
    scores
        Of :func:`score`, with a row of means.
    """
    by = "rate" if "denoised_rate_r2" in scores else "half"
    of_what = {"rate": "closer to the true rate than", "half": "closer to the reads held back than"}[by]
    return [
        _compare(scores, "r2", "average_r2", "Imputation", "the average of the other biosamples", "beat"),
        _compare(scores, f"denoised_{by}_r2", f"smoothed_{by}_r2", "Denoising", "the best Gaussian", f"are {of_what}"),
    ]


def _compare(scores: pd.DataFrame, ours: str, theirs: str, what: str, reference: str, verb: str) -> str:
    tracks = scores.drop("macro_mean")[[ours, theirs]].dropna()
    behind = tracks.index[tracks[ours] <= tracks[theirs]]
    mean, of_reference = tracks.mean()
    text = (
        f"{what}: {len(tracks) - len(behind)} of {counted(len(tracks), 'track')} {verb} {reference} "
        f"(mean R² {mean:.2f} against {of_reference:.2f})"
    )
    return f"{text}; not {listed(behind)}." if len(behind) else f"{text}."


def _observed(adata: AnnData) -> np.ndarray:
    from ..data.track_data import find_present

    return find_present(adata.X, adata.layers[_keys.OBSERVED] == 1 if _keys.OBSERVED in adata.layers else None)


def _average(example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average of the other biosamples, and the likelihood around it: a dispersion per track, and a mean above zero."""
    import numpy as np
    import pandas as pd

    from .. import metrics

    adata = example.adata
    depth_t, observed_rt = adata.var[_keys.DEPTH].to_numpy(), _observed(adata)
    labels = adata.var[_keys.BIOSAMPLE], adata.var[_keys.ASSAY]
    average_rt = metrics.leave_one_out_average(adata.X / depth_t, observed_rt, *labels) * depth_t
    rows = example.train[:: -(-len(example.train) // _MOST_FITTED)]
    counts_rt = np.where(observed_rt[rows], adata.X[rows], np.nan)
    level_t = average_rt[rows].mean(axis=0)
    fitted = pd.DataFrame(
        dict(zip(("spread", "dispersion"), metrics.fit_average(counts_rt, average_rt[rows]), strict=True)),
        index=adata.var_names,
    )
    # a track without data takes the middle of its assay
    fitted = fitted.fillna(fitted.groupby(labels[1].astype(str)).transform("median"))
    spread_t = fitted["spread"].to_numpy()
    return average_rt, fitted["dispersion"].to_numpy(), (1 - spread_t) * average_rt + spread_t * level_t


def _liveliest(names: pd.Index, adata: AnnData) -> slice:
    """Rows of the result where the counts of most tracks vary most; whatever the fit."""
    import numpy as np

    counts_rt = adata[names].X
    starts = range(0, max(1, len(names) - _SHOWN + 1), _SHOWN)
    spread_wt = np.array([counts_rt[start : start + _SHOWN].std(axis=0) for start in starts])
    liveliness_w = np.log1p(spread_wt / np.maximum(counts_rt.std(axis=0), 1e-9)).sum(axis=1)
    start = starts[int(np.argmax(liveliness_w))]
    return slice(start, start + _SHOWN)


def _print_scores(scores: pd.DataFrame, console: Console) -> None:
    pairs = [("R²", "r2"), ("Pearson", "pearson"), ("NLL", "nll")]
    imputation = {title: {"imputed": name, "average": f"average_{name}"} for title, name in pairs}
    _print_table(scores, "Held-out regions, imputed without the track's own data", imputation, console)
    if "denoised_rate_r2" in scores:
        kinds = ("raw", "smoothed", "denoised", "imputed")
        rate = {title: {kind: f"{kind}_rate_{name}" for kind in kinds} for title, name in pairs[:2]}
        _print_table(scores, "Held-out regions, against the true rate", rate, console)
    else:
        half = {"R²": {kind: f"{kind}_half_r2" for kind in ("raw", "smoothed", "denoised")}}
        _print_table(scores, "Denoised, against reads held back", half, console)


def _print_table(scores: pd.DataFrame, title: str, groups: dict[str, dict[str, str]], console: Console) -> None:
    from rich.text import Text

    table = plain_table(title, "track")
    for group, columns in groups.items():
        for kind in columns:
            table.add_column(f"{group}\n{_SHORT.get(kind, kind)}", justify="right")
    for track, row in scores.iterrows():
        cells: list[str | Text] = []
        for group, columns in groups.items():
            values = row[list(columns.values())]
            best = values.min() if group == "NLL" else values.max()
            cells += ["-" if math.isnan(v) else Text(f"{v:.2f}", style="bold" if v == best else "") for v in values]
        is_mean = track == "macro_mean"
        table.add_row("mean" if is_mean else str(track), *cells, style="italic" if is_mean else None)
    console.print(table)
