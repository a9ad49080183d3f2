"""Advice: signs of a model that does not learn as it should, found in the records of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .._messages import Place, levels_to_caller
from .findings import Finding, Sign
from .words import describe

Record: TypeAlias = Mapping[str, float]  # what a step logged, "step", and what only advice is made of

# Healthy runs on simulated and real counts and signal, any head, 5 to 1,500 steps, keep the distance noted here.
_SEVERAL = 3  # records in a row, so that no single minibatch is judged
_FAIR_START = 200  # steps after which a model that learns at all has learnt something
_NO_CORRELATION, _NO_FALL = 0.1, 0.05  # by then correlations are above 0.3
_STARVED = 1e-3  # norm of a gradient; above 0.2
_SATURATED = 0.05  # of the entries; none
_BIAS, _FEWEST_READS, _FEWEST_ENTRIES = 1.75, 500, 500  # factor of at most 1.3
_ASLEEP, _FEWEST_AWAKE = 0.02, 1 / 16  # nat, and share of the latents; nearly all have more
_COLLAPSED, _EXPLODED, _LARGE = 0.25, 30.0, 100.0  # dispersion by that of the moments, 1 to 25, and itself, below 7
_FLOORED = 0.95  # of the entries; up to 0.8, for background is nearly constant
_DROWNED = 100.0  # times the gradient of the count head; up to 27
_LEAST_KL = 0.9
_DEPTH_SPREAD, _DEPTH_RATIO, _FEWEST_READS_OF_TRACK = (
    3.0,
    10.0,
    100,
)  # depths differ by at most 1.3 from what reads suggest


class TrainingAdvice(UserWarning):
    """A sign in training that the model does not learn as it should, and what to try."""


class Diverged(FloatingPointError):
    """Training came to numbers that are not finite.

    Parameters
    ----------
    step
        Number of the step, from 0 on.
    values
        The quantities that are not finite, by name.
    lr
        Learning rate to try instead.
    """

    def __init__(self, step: int, values: Mapping[str, float], lr: float) -> None:
        super().__init__(step, values, lr)
        self.step, self.names = step, tuple(values)
        self.finding = Finding(Sign.DIVERGED, {"steps": step, "lr": lr}, values)

    def __str__(self) -> str:
        return describe(self.finding, Place.PYTHON)


class Advisor:
    """Reads what training logs, and finds each sign once."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._rules = list(RULES)

    def add(self, record: Record) -> list[Finding]:
        """What is newly found after one more record, which holds `step` beside what was logged."""
        self._records.append(record)
        found = {rule: finding for rule in self._rules if (finding := rule(self._records))}
        self._rules = [rule for rule in self._rules if rule not in found]
        return list(found.values())

    def state(self) -> dict[str, Any]:
        """What it has read, and the signs that it still looks for."""
        return {"records": [dict(one) for one in self._records], "rules": [rule.__name__ for rule in self._rules]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._records = list(state["records"])
        self._rules = [rule for rule in RULES if rule.__name__ in state["rules"]]


def warn(findings: Iterable[Finding]) -> None:
    """Warn, as if from where chipvi was called."""
    for finding in findings:
        warnings.warn(describe(finding, Place.PYTHON), TrainingAdvice, stacklevel=levels_to_caller())


def find_plateau(records: Sequence[Record]) -> Finding | None:
    """Whether hidden counts have not been learnt from the start, of those that can be imputed."""
    losses, correlations = _series(records, "imp_count_loss"), _series(records, "imputable_count_pcc")
    n_steps = int(records[-1]["step"]) + 1
    if n_steps < _FAIR_START or len(correlations) < _SEVERAL:
        return None
    # the median of several: minibatches differ in how much is hidden, so that the least loss is mostly luck
    first, recent, correlation = losses[0], float(np.median(losses[-_SEVERAL:])), max(correlations)
    if correlation > _NO_CORRELATION or recent < first - _NO_FALL * abs(first):
        return None
    numbers = {"steps": n_steps, "first": first, "loss": losses[-1], "correlation": correlation}
    return Finding(Sign.PLATEAU, numbers)


def find_starved_head(records: Sequence[Record]) -> Finding | None:
    """Whether hardly a gradient reaches the count head, though there are counts to predict."""
    recent = _recent(records, "grad_norm_count_head", "predicted_mean")
    if not recent or max(_series(recent, "grad_norm_count_head")) > _STARVED:
        return None
    numbers = {"norm": recent[-1]["grad_norm_count_head"], "most": _STARVED, "records": _SEVERAL}
    return Finding(Sign.STARVED_HEAD, numbers)


def find_clamped(records: Sequence[Record]) -> Finding | None:
    """Whether a clamp or bound of the count head holds a share of the entries that matters."""
    names = [name for name in records[-1] if name.startswith("clamped_")]
    held = {
        name.removeprefix("clamped_"): shares[-1]
        for name in names
        if min(shares := _series(_recent(records, name), name), default=0.0) > _SATURATED
    }
    return Finding(Sign.CLAMPED, {"least": _SATURATED, "records": _SEVERAL}, held) if held else None


def find_biased_tracks(records: Sequence[Record]) -> Finding | None:
    """Whether the predicted mean of a track stays off by a factor, by more than chance could do."""
    recent = records[-_SEVERAL:]
    if len(recent) < _SEVERAL or int(recent[0]["step"]) + 1 < _FAIR_START:
        return None
    biased = {name: ratio for name in _tracks(recent[-1]) if (ratio := _bias(recent, name)) is not None}
    if not biased:
        return None
    worst_first = dict(sorted(biased.items(), key=lambda pair: -abs(np.log(pair[1]))))
    return Finding(Sign.BIASED_TRACKS, {"records": _SEVERAL}, worst_first)


def find_collapsed_latents(records: Sequence[Record]) -> Finding | None:
    """Whether the KL divergence has emptied the latent space."""
    recent = _recent(records, "active_latents", "kl_weight")
    if not recent or recent[0]["kl_weight"] < _LEAST_KL:
        return None
    awake = [[kl for kl in _latents(record) if kl > _ASLEEP] for record in recent]
    n_latents = len(_latents(recent[-1]))
    if max(map(len, awake)) > _FEWEST_AWAKE * n_latents:
        return None
    numbers = {"asleep": n_latents - len(awake[-1]), "latents": n_latents, "least": _ASLEEP, "records": _SEVERAL}
    return Finding(Sign.EMPTY_LATENTS, numbers)


def find_strayed_dispersion(records: Sequence[Record]) -> Finding | None:
    """Whether the dispersion has left the range that counts have."""
    recent = _recent(records, "dispersion", "moment_dispersion")
    if not recent:
        return None
    numbers = {"dispersion": recent[-1]["dispersion"], "moments": recent[-1]["moment_dispersion"]}
    ratios = [record["dispersion"] / record["moment_dispersion"] for record in recent]
    if max(ratios) < _COLLAPSED:
        return Finding(Sign.COLLAPSED_DISPERSION, numbers)
    if min(ratios) > _EXPLODED and min(_series(recent, "dispersion")) > _LARGE:
        return Finding(Sign.EXPLODED_DISPERSION, numbers)
    return None


def find_floored_spread(records: Sequence[Record]) -> Finding | None:
    """Whether the spread of the signal lies at its floor."""
    recent = _recent(records, "floored_std")
    if not recent or min(_series(recent, "floored_std")) <= _FLOORED:
        return None
    return Finding(Sign.FLOORED_SPREAD, {"share": recent[-1]["floored_std"]})


def find_drowned_counts(records: Sequence[Record]) -> Finding | None:
    """Whether the gradient of the signal head leaves nothing of the step to the counts."""
    recent = _recent(records, "grad_norm_signal_head", "grad_norm_count_head", "predicted_mean")
    if not recent or min(_series(recent, "grad_norm_count_head")) < _STARVED:
        return None
    ratios = [record["grad_norm_signal_head"] / record["grad_norm_count_head"] for record in recent]
    if min(ratios) < _DROWNED:
        return None
    numbers = {"least": min(ratios), "most": max(ratios), "records": _SEVERAL}
    return Finding(Sign.DROWNED_COUNTS, numbers)


RULES: tuple[Callable[[Sequence[Record]], Finding | None], ...] = (
    find_plateau,
    find_starved_head,
    find_clamped,
    find_biased_tracks,
    find_collapsed_latents,
    find_strayed_dispersion,
    find_floored_spread,
    find_drowned_counts,
)


def judge_kl_weight(kl_weight: float, n_steps: int) -> list[Finding]:
    """What is found at the end of a training of so many steps, whose KL weight had risen so far, from 0 to 1."""
    return [] if kl_weight > _LEAST_KL else [Finding(Sign.LOW_KL_WEIGHT, {"weight": kl_weight, "steps": n_steps})]


def judge_depths(
    names: Sequence[str], assays: Sequence[str], depth_t: np.ndarray, mean_t: np.ndarray, reads_t: np.ndarray
) -> list[Finding]:
    """What is found of given depths that cannot be depths.

    Parameters
    ----------
    names, assays
        Of the tracks.
    depth_t, mean_t, reads_t
        Depth as given, mean count and number of reads of each track; NaN where unknown.
    """
    judged_t = np.isfinite(depth_t) & (depth_t > 0) & (reads_t >= _FEWEST_READS_OF_TRACK)
    worst, is_equal = 1.0, len(set(depth_t[judged_t])) == 1
    pair = (0, 0)
    for assay in dict.fromkeys(assays):
        t = np.flatnonzero(judged_t & (np.asarray(assays) == assay))
        rate = mean_t[t] if is_equal else mean_t[t] / depth_t[t]
        if len(t) > 1 and rate.max() / rate.min() > worst:
            worst, pair = rate.max() / rate.min(), (t[rate.argmax()], t[rate.argmin()])
    if worst < (_DEPTH_SPREAD if is_equal else _DEPTH_RATIO):
        return []
    high, low = pair
    numbers = {"depth_high": float(depth_t[high]), "depth_low": float(depth_t[low])}
    where = {names[t]: float(mean_t[t]) for t in pair}
    return [Finding(Sign.EQUAL_DEPTHS if is_equal else Sign.UNLIKELY_DEPTHS, numbers, where)]


def _series(records: Sequence[Record], name: str) -> list[float]:
    return [record[name] for record in records if name in record]


def _recent(records: Sequence[Record], *names: str) -> list[Record]:
    """The last few records, if there are so many and all have these values; else none."""
    recent = list(records[-_SEVERAL:])
    return recent if len(recent) == _SEVERAL and all(name in r for r in recent for name in names) else []


def _latents(record: Record) -> list[float]:
    return [value for name, value in record.items() if name.startswith("kl_by_latent.")]


def _tracks(record: Record) -> list[str]:
    return [name.partition(".")[2] for name in record if name.startswith("true_mean_by_track.")]


def _bias(recent: Sequence[Record], track: str) -> float | None:
    """Predicted over true mean of the last record, if it is off in the same direction in all of them."""
    ratios = []
    for record in recent:
        entries, predicted, true = (
            record[f"{kind}_by_track.{track}"] for kind in ("entries", "predicted_mean", "true_mean")
        )
        if entries < _FEWEST_ENTRIES or not entries * max(predicted, true) >= _FEWEST_READS:
            return None
        ratios.append(predicted / max(true, 1 / entries))
    return ratios[-1] if min(ratios) > _BIAS or max(ratios) < 1 / _BIAS else None
