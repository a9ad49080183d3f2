"""What differs between two groups of biosamples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import _keys
from .._arguments import checked, require_real
from .._messages import levels_to_caller, listed, unknown
from .._workers import progress_bar
from ..differential.changes import ChangePrior
from ..differential.discovery import adjusted
from ..differential.groups import Contrast, find_contrasts
from ..differential.levels import GroupTrends, mean_by_row
from ..differential.moderated import FEWEST, Difference, SpreadPrior
from ..predict.alone import LoneDenoiser, LoneRates
from ..predict.predictor import require_batch_size
from ..predict.request import LONG, Indices, asked_rows
from .parameters import documented
from .requests import RequestMixin

if TYPE_CHECKING:
    from ..data.setup_keys import SetupKeys

_MOST_LEARNT = 200_000  # regions that what they share is estimated from
_STRETCH = 256  # neighbouring regions of these
_EPSILON = 1e-8  # of scvi-tools, in the log odds of probabilities


class DifferentialMixin(RequestMixin):
    """Comparisons of :class:`chipvi.ChipVI` between groups of biosamples."""

    if TYPE_CHECKING:

        @property
        def setup_keys(self) -> SetupKeys: ...  # noqa: D102

    @documented
    @checked
    def differential_signal(
        self,
        group1: str | Sequence[str],
        group2: str | Sequence[str] | None = None,
        assay: str | Sequence[str] | None = None,
        groupby: str | None = None,
        mode: Literal["change", "vanilla"] = "change",
        delta: float = 0.1,
        fdr_target: float = 0.05,
        adata: AnnData | None = None,
        indices: Indices = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Find regions whose rate differs between two groups of biosamples, the replicates of two conditions.

        Each biosample is denoised from its own tracks alone, so that replicates stay independent (the average of the
        other biosamples would carry the noise of one into the next). Log rates are freed of what depends on a region's
        level alone (depth, enrichment), and compared by a moderated t test: the variance between replicates of each
        region is drawn towards that of regions of its level, as far as the data say that these agree. So all that
        replicates differ by is in the spread. A change of most regions in one direction cannot be distinguished from a
        difference of depth or enrichment, and is not seen.

        The variance is that of all groups of `groupby` with replicates, compared or not, as in limma's linear models
        (of up to 12 biosamples that are not compared), each in what is usual for its group: some vary more.

        **A group of one biosample** borrows its variance from these replicates. How much it would vary itself remains
        unknown, since one biosample in a few is unlike its fellows everywhere. It is taken to vary more than 19 of 20
        biosamples do, as far as the scatter of the others' variances says (three are needed: a group of three, or three
        pairs), and the degrees of freedom are those of the prior alone. Such a design calls the larger changes; of 20
        such biosamples one may have many false calls. Where too few groups have replicates, or `groupby` does not name
        them, the spread is at least what it would be if most regions did not change (an empirical null, with the median
        and the tail of the differences; Efron 2004): only what stands out from the bulk is called, next to nothing
        where most regions change. Where no group has any, this is a screen rather than a test, with normal tails. A
        warning says which.

        Parameters
        ----------
        group1, group2
            Biosamples of each group, or with `groupby` values of that column. None: all others.
        assay
            Assays to compare; None: all that were measured in both groups.
        groupby
            Column of `var` whose values are shared by replicates, of the compared groups and of others; None: the
            biosample itself, so that only the compared groups have replicates.
        mode
            "change" tests whether the log2 fold change is beyond `delta` either way; "vanilla" whether there is any,
            and in which direction.
        delta
            Log2 fold change that does not matter, above 0; of no account in the mode "vanilla".
        fdr_target
            Share of false discoveries to allow, above 0 and below 1.
        %(adata)s
        %(indices)s
        %(batch_size)s

        Returns
        -------
        A row per assay and region, in the order of the regions. Names are those of
        :meth:`scvi.model.SCVI.differential_expression`:

        - `chrom`, `start`, `end` where the data have them, and `assay`.
        - `lfc_mean`, `lfc_std`: log2 fold change of the denoised rate, group 1 over group 2, and its standard error.
          Shallow tracks are drawn towards the model's expectation, so that true changes are larger rather than smaller.
        - `p_value`: of a log2 fold change within `delta` (McCarthy & Smyth 2009); `fdr`: false discovery rate at which
          the region is called, by assay (Benjamini & Hochberg); `is_de_fdr_0.05`: called at `fdr_target`.
        - `proba_de`, `proba_not_de`: probability of a change beyond `delta`, given how large changes are over all
          regions (Stephens 2017); in the mode "vanilla" `proba_m1`, `proba_m2`: that group 1, or 2, is higher.
          `bayes_factor`: log odds of the first of them.
        - `scale1`, `scale2`: geometric mean of the denoised rate over each group; `raw_mean1`, `raw_mean2`: mean count.
          All in reads per region at the typical depth of the compared tracks (their geometric mean).
        - `delta`, `group1`, `group2`.

        A region where a group has no count has NaN, and is not called.

        Raises
        ------
        ValueError
            For unknown groups, assays or columns, groups that overlap or were not measured, sizes out of range, and a
            model without counts.

        Warns
        -----
        UserWarning
            Where a group is a single biosample in an assay.

        Examples
        --------
        >>> import chipvi
        >>> adata = chipvi.datasets.simulate(n_regions=1_000, n_biosamples=2, n_assays=2, n_replicates=2)
        >>> chipvi.ChipVI.setup_anndata(adata, observed_layer="observed", depth_key="depth")
        >>> model = chipvi.ChipVI(adata)
        >>> model.train(max_steps=20, enable_progress_bar=False)
        >>> table = model.differential_signal("cell1", "cell2", assay="H3K4me3", groupby="cell")
        >>> table.loc["chr1:0-200", ["group1", "group2"]].tolist()
        ['cell1', 'cell2']
        """
        if mode not in ("change", "vanilla"):
            raise ValueError(f"mode must be 'change' or 'vanilla'; it is {mode!r}.")
        require_real("delta", delta, least=0)
        if mode == "change" and delta == 0:
            raise ValueError("delta must be above 0 in the mode 'change'; with mode='vanilla' any change counts.")
        require_real("fdr_target", fdr_target, least=0, below=1)
        require_batch_size(batch_size)
        self._require_counts()
        self._check_if_trained(warn=False)
        source, data = self.adata if adata is None else adata, self.open_data(adata)
        key = self.setup_keys.biosample_key if groupby is None else groupby
        if key not in source.var:
            raise ValueError(unknown("groupby", key, list(source.var.columns), "adata.var"))
        is_measured_t = (data.summary.counts.number_t > 0) & ~data.tracks.is_control
        groups = (_names(group1), None if group2 is None else _names(group2))
        asked = None if assay is None else _names(assay)
        contrasts = find_contrasts(source.var[key], data.tracks.assays, is_measured_t, groups, asked)
        for remark in _remarks([one for one in contrasts if one.singles]):
            warnings.warn(remark, UserWarning, stacklevel=levels_to_caller())
        rows, back = np.unique(asked_rows(indices, data.n_regions), return_inverse=True)
        columns, log_depth_t = np.concatenate([one.columns for one in contrasts]), self.log_depths(data)
        asked_n = np.concatenate([one.typical(log_depth_t) for one in contrasts])
        self.module.eval()
        denoiser = LoneDenoiser(self.module, self.grid, data, columns, log_depth_t, asked_n, batch_size)
        tests = _Tests(contrasts, delta if mode == "change" else 0.0, is_directed=mode == "vanilla")
        found = tests.run(denoiser, rows, data.n_regions)

        obs = source.obs.iloc[rows[back]]
        tables = []
        for one, table in zip(contrasts, found, strict=True):
            table = table.iloc[back].set_axis(obs.index)
            table.insert(table.columns.get_loc("p_value") + 1, "fdr", adjusted(table["p_value"].to_numpy()))
            table[f"is_de_fdr_{fdr_target:g}"] = (table["fdr"] <= fdr_target).to_numpy()
            place = {name: obs[name] for name in (_keys.CHROM, _keys.START, _keys.END) if name in obs}
            place[_keys.ASSAY] = _repeated(one.assay, len(table), [other.assay for other in contrasts])
            labels = {"delta": np.float32(tests.delta)}
            labels |= {
                name: _repeated(listed(group), len(table))
                for name, group in (("group1", one.first), ("group2", one.second))
            }
            tables.append(pd.DataFrame(place | dict(table.items()) | labels))
        return pd.concat(tables)

    differential_expression = differential_signal
    """The same under the name that scvi-tools has for it: groups are of biosamples where there they are of cells."""


@dataclass(frozen=True, eq=False)
class _Learnt:
    """What many regions say of one assay: how its tracks depart, how much replicates differ, how large changes are."""

    trends: GroupTrends
    spread: SpreadPrior
    changes: ChangePrior


@dataclass(frozen=True, eq=False)
class _Tests:
    """Tests of some contrasts, with what is asked of them.

    Parameters
    ----------
    contrasts
        Whose tracks follow each other in the rates.
    delta
        Log2 fold change that does not matter.
    is_directed
        Whether it is asked which group is higher.
    """

    contrasts: list[Contrast]
    delta: float
    is_directed: bool

    def run(self, denoiser: LoneDenoiser, rows: np.ndarray, n_regions: int) -> list[pd.DataFrame]:
        """A table for each contrast, a row for each of these rows; all regions say what is usual."""
        some = _spread_out(n_regions)
        learning = list(denoiser.rates(some))
        learnt = [self._learn(one, rates) for one, rates in self._split(learning)]
        blocks = learning if np.array_equal(some, rows) else denoiser.rates(rows)
        parts: list[list[pd.DataFrame]] = [[] for _ in self.contrasts]
        n_done = 0
        with progress_bar("Comparing", len(rows), "regions", shown=denoiser.n_batches(rows) >= LONG) as show:
            for rates in blocks:
                for part, known, (one, rates_of_one) in zip(parts, learnt, self._split([rates]), strict=True):
                    part.append(self._compare(one, known, rates_of_one))
                n_done += len(rates.log_rate_rn)
                show(n_done)
        return [pd.concat(part, ignore_index=True) for part in parts]

    def _split(self, blocks: list[LoneRates]) -> Iterator[tuple[Contrast, LoneRates]]:
        """Rates of the tracks of each contrast."""
        start = 0
        for one in self.contrasts:
            place = slice(start, start := start + len(one.columns))
            yield one, LoneRates.joined([rates.of(place) for rates in blocks])

    def _learn(self, one: Contrast, rates: LoneRates) -> _Learnt:
        is_first_r, is_second_r = (rates.present_rn[:, one.group_t == g].any(axis=1) for g in (0, 1))
        is_compared_r = is_first_r & is_second_r
        if not is_compared_r.any():
            raise ValueError(f"no region has counts of {one.assay} in both groups, so that they cannot be compared.")
        log_rate_rt = rates.log_rate_rn[is_compared_r]
        trends = GroupTrends.fit(log_rate_rt, one.group_t)
        even_rt = trends.remove(log_rate_rt)
        spread = SpreadPrior.fit(even_rt, one.group_t)
        found = spread.moderate(Difference.of(even_rt, one.group_t))
        return _Learnt(trends, spread, ChangePrior.fit(found))

    def _compare(self, one: Contrast, known: _Learnt, rates: LoneRates) -> pd.DataFrame:
        found = Difference.of(known.trends.remove(rates.log_rate_rn), one.group_t)
        difference = known.spread.moderate(found)
        below_r, above_r = known.changes.probability_beyond(difference, self.delta)
        if self.is_directed:
            open_r = 1 - below_r - above_r  # no change: neither is higher
            first, second = above_r + open_r / 2, below_r + open_r / 2
            names = ("proba_m1", "proba_m2")
        else:
            first, second = below_r + above_r, 1 - below_r - above_r
            names = ("proba_de", "proba_not_de")
        scales = [2**group.mean_r for group in found.groups[:2]]
        raw = [mean_by_row(rates.count_rn[:, one.group_t == g]) for g in (0, 1)]
        columns = {
            "lfc_mean": difference.mean_r,
            "lfc_std": difference.error_r,
            "p_value": difference.p_value(self.delta),
            names[0]: first,
            names[1]: second,
            "bayes_factor": np.log(first + _EPSILON) - np.log(np.maximum(1 - first, 0) + _EPSILON),
            "scale1": scales[0],
            "scale2": scales[1],
            "raw_mean1": raw[0],
            "raw_mean2": raw[1],
        }
        # p-values need the range of float64; in the others, of which a genome has many, float32 is enough
        return pd.DataFrame(columns).astype({name: np.float32 for name in columns if name != "p_value"})


def _remarks(singles: list[Contrast]) -> Iterator[str]:
    """What to know of designs in which a group has no replicates."""
    borrowing = [one for one in singles if one.n_variances >= FEWEST]
    bare = [one for one in singles if one.n_variances < FEWEST]
    for contrasts, remark in (
        (
            borrowing,
            "It is taken to vary more than 19 of 20 biosamples do, by the replicates of other groups, so that only "
            "larger changes are called; if it varies still more, too many are.",
        ),
        (
            bare,
            "Regions that are called differ more than most do, and are few where most differ; whether other biosamples "
            "of the same kinds would differ there is not known. Replicates of other groups would help: three of one, "
            "or three pairs, in the column that groupby names.",
        ),
    ):
        if contrasts:
            names = listed(dict.fromkeys(name for one in contrasts for name in one.singles))
            yield f"{listed(one.assay for one in contrasts)}: no replicates of {names}. {remark}"


def _repeated(text: str, number: int, known: Sequence[str] | None = None) -> pd.Categorical:
    """A text for each of many rows, which takes a byte of memory each."""
    known = [text] if known is None else list(known)
    return pd.Categorical.from_codes(np.full(number, known.index(text), dtype=np.int16), known)


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _spread_out(n_regions: int) -> np.ndarray:
    """All rows, or of many some, in stretches that are spread over all."""
    rows = np.arange(n_regions)
    if n_regions <= _MOST_LEARNT:
        return rows
    stretches = np.array_split(rows, -(-n_regions // _STRETCH))
    chosen = np.linspace(0, len(stretches) - 1, _MOST_LEARNT // _STRETCH).astype(np.int64)
    return np.concatenate([stretches[number] for number in chosen])
