"""Advice: signs of a model that does not learn as it should, found in what training logs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .._messages import listed

Record: TypeAlias = Mapping[str, float]  # what a step logged, and "step"

# Healthy runs on simulated and real counts and signal, any head, 5 to 1,500 steps, keep the distance that is said here.
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
_DEPTH_SPREAD, _DEPTH_RATIO, _FEWEST_READS_OF_TRACK = 3.0, 10.0, 100  # depths differ by at most 1.3 from what reads say


class TrainingAdvice(UserWarning):
    """A sign in training that the model does not learn as it should, and what to try."""


class Advisor:
    """Reads what training logs and gives advice, on each pattern once."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._rules = list(RULES)

    def add(self, record: Record) -> list[str]:
        """New advice after one more record, which holds `step` beside what was logged."""
        self._records.append(record)
        found = {rule: text for rule in self._rules if (text := rule(self._records))}
        self._rules = [rule for rule in self._rules if rule not in found]
        return list(found.values())

    def state(self) -> dict[str, Any]:
        """What it has read, and the patterns that it still looks for."""
        return {"records": [dict(one) for one in self._records], "rules": [rule.__name__ for rule in self._rules]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._records = list(state["records"])
        self._rules = [rule for rule in RULES if rule.__name__ in state["rules"]]


def tell(advice: Sequence[str]) -> None:
    """Warn, as if from where chipvi was called."""
    frame, level, last = sys._getframe(), 0, 0
    while frame.f_back is not None:
        frame, level = frame.f_back, level + 1
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "chipvi":
            last = level
    for text in advice:
        warnings.warn(text, TrainingAdvice, stacklevel=last + 2)


def find_plateau(records: Sequence[Record]) -> str | None:
    """Whether the hidden counts have not been learnt from the start."""
    losses, correlations = _series(records, "imp_count_loss"), _series(records, "imp_count_pcc")
    n_steps = int(records[-1]["step"]) + 1
    if n_steps < _FAIR_START or len(correlations) < _SEVERAL:
        return None
    # the median of several: minibatches differ in how much is hidden, so that the least loss is mostly luck
    first, recent, correlation = losses[0], float(np.median(losses[-_SEVERAL:])), max(correlations)
    if correlation > _NO_CORRELATION or recent < first - _NO_FALL * abs(first):
        return None
    return (
        f"the counts are not being learnt: after {n_steps} steps the loss of hidden counts is {losses[-1]:.3g}, from "
        f"{first:.3g} at first, and their Pearson correlation has not been above {correlation:.2f}. Either nothing "
        "reaches the count head, or the tracks say nothing of each other. Look at clamped_* and grad_norm_count_head "
        "in model.history, at kl_weight (0.001 is the default) and at depth; try head='mean_dispersion' and the "
        "defaults on chipvi.datasets.simulate() beside your data."
    )


def find_starved_head(records: Sequence[Record]) -> str | None:
    """Whether hardly a gradient reaches the count head, though there are counts to predict."""
    recent = _recent(records, "grad_norm_count_head", "predicted_mean")
    if not recent or max(_series(recent, "grad_norm_count_head")) > _STARVED:
        return None
    return (
        f"the count head is starved: the gradient that reaches it has a norm of {_last(recent, 'grad_norm_count_head')}"
        f", and at most {_STARVED:g} in the last {_SEVERAL} records. It cannot learn. Look at clamped_* in "
        "model.history, for past a clamp the gradient is zero; head='mean_dispersion' has no clamps. In a head or "
        "module of your own, look for detach() and clamp() between decoder and loss."
    )


_REMEDIES = {
    "logit": "lift the clamp with head_options={'logit_clamp': None}, or use head='mean_dispersion'",
    "count": "lift the floor with head_options={'count_floor': None}, or use head='mean_dispersion'",
    "mean": "look for counts and depths far from the rest (means reach from 1e-7 to 9e6), or lower lr",
    "dispersion": "look for tracks that are nearly empty, lower lr, or use head='poisson'",
    "losses": "clip the gradient in place of the loss, for the entries that a clamped loss silences are the peaks",
    "zero_logit": "use head='mean_dispersion', for zeros are not inflated here",
}


def find_clamped(records: Sequence[Record]) -> str | None:
    """Whether a clamp or bound of the count head holds a share of the entries that matters."""
    names = [name for name in records[-1] if name.startswith("clamped_")]
    held = {
        name.removeprefix("clamped_"): shares[-1]
        for name in names
        if min(shares := _series(_recent(records, name), name), default=0.0) > _SATURATED
    }
    if not held:
        return None
    shown = listed([f"{share:.0%} for the {name}" for name, share in held.items()])
    advice = "; ".join(_REMEDIES.get(name, f"{name}: loosen the clamp in the head or module") for name in held)
    return (
        f"the counts are held by a clamp or bound: {shown} of the target entries, and above {_SATURATED:.0%} in each "
        f"of the last {_SEVERAL} records. There the prediction cannot move to where the counts are. To mend it, "
        f"{advice}."
    )


def find_biased_tracks(records: Sequence[Record]) -> str | None:
    """Whether the predicted mean of a track stays off by a factor, by more than chance could do."""
    recent = records[-_SEVERAL:]
    if len(recent) < _SEVERAL or int(recent[0]["step"]) + 1 < _FAIR_START:
        return None
    biased = {name: ratio for name in _tracks(recent[-1]) if (ratio := _bias(recent, name)) is not None}
    if not biased:
        return None
    worst = sorted(biased, key=lambda name: -abs(np.log(biased[name])))
    shown = listed([f"{name} ({biased[name]:.2g} times)" for name in worst], most=5)
    return (
        f"predicted means are off by a factor: {shown} the true mean of the hidden counts, and far off in each of the "
        f"last {_SEVERAL} records. Compare the depth of the track with its reads, look for a few regions that hold "
        "most of them (blacklist them), and see that mean_weight is above 0."
    )


def find_collapsed_latents(records: Sequence[Record]) -> str | None:
    """Whether the KL divergence has emptied the latent space."""
    recent = _recent(records, "active_latents", "kl_weight")
    if not recent or recent[0]["kl_weight"] < _LEAST_KL:
        return None
    awake = [[kl for kl in _latents(record) if kl > _ASLEEP] for record in recent]
    n_latents = len(_latents(recent[-1]))
    if max(map(len, awake)) > _FEWEST_AWAKE * n_latents:
        return None
    return (
        f"the latent space is empty: {n_latents - len(awake[-1])} of {n_latents} latents carry less than {_ASLEEP} "
        f"nat, and it was so in the last {_SEVERAL} records. Encoder and latents then add nothing to the prediction. "
        "Lower kl_weight; 0.001 is the default, and 1 is far too much."
    )


def find_collapsed_spread(records: Sequence[Record]) -> str | None:
    """Whether the dispersion has left the range that counts have, or the spread of the signal lies at its floor."""
    found = []
    recent = _recent(records, "dispersion", "moment_dispersion")
    if recent:
        of_tracks = _last(recent, "moment_dispersion")
        shown = f"{_last(recent, 'dispersion')}, that of whole tracks by their moments {of_tracks}"
        ratios = [record["dispersion"] / record["moment_dispersion"] for record in recent]
        if max(ratios) < _COLLAPSED:
            found.append(
                f"the dispersion of the counts has collapsed: it is {shown}, though counts should be less noisy once "
                "regions are told apart. The likelihood then hardly cares about the mean: look for a few counts far "
                "above the rest, lower lr, and see that mean_weight is above 0"
            )
        elif min(ratios) > _EXPLODED and min(_series(recent, "dispersion")) > _LARGE:
            found.append(
                f"the dispersion of the counts has exploded: it is {shown}. Counts no noisier than Poisson are rare: "
                "make sure that they are raw reads, neither normalised nor smoothed nor shared between tracks; if they "
                "are, use head='poisson'"
            )
    recent = _recent(records, "floored_std")
    if recent and min(_series(recent, "floored_std")) > _FLOORED:
        found.append(
            f"the spread of the signal lies at its floor, for {recent[-1]['floored_std']:.0%} of the entries: they "
            "count as all but certain, and their loss takes over. Make sure that the signal is arcsinh(-log10 p), not "
            "scaled down and not constant"
        )
    return f"{'; '.join(found)}." if found else None


def find_drowned_counts(records: Sequence[Record]) -> str | None:
    """Whether the gradient of the signal head leaves nothing of the step to the counts."""
    recent = _recent(records, "grad_norm_signal_head", "grad_norm_count_head", "predicted_mean")
    if not recent or min(_series(recent, "grad_norm_count_head")) < _STARVED:
        return None
    ratios = [record["grad_norm_signal_head"] / record["grad_norm_count_head"] for record in recent]
    if min(ratios) < _DROWNED:
        return None
    return (
        f"the signal drowns the counts: the gradient of its head has been {min(ratios):.0f} to {max(ratios):.0f} times "
        f"that of the count head in the last {_SEVERAL} records, and a step has one length for both. Make sure that "
        "the signal is arcsinh(-log10 p), mostly 0 to 6 and not scaled; or train one model on the counts alone "
        "(without signal_layer) and one on the signal."
    )


RULES: tuple[Callable[[Sequence[Record]], str | None], ...] = (
    find_plateau,
    find_starved_head,
    find_clamped,
    find_biased_tracks,
    find_collapsed_latents,
    find_collapsed_spread,
    find_drowned_counts,
)


def judge_kl_weight(kl_weight: float, n_steps: int) -> list[str]:
    """Advice at the end of a training of so many steps, whose KL weight had risen so far, from 0 to 1."""
    if kl_weight > _LEAST_KL:
        return []
    return [
        f"the KL weight was still {kl_weight:.2g} of 1 when training ended at step {n_steps}: the latents were never "
        "held to their prior, so that get_latent_representation and get_elbo say little. Lower "
        "plan_kwargs={'kl_warmup': ...}, the share of the steps over which the weight rises (0.3 is the default), or "
        "train for longer."
    ]


def judge_depths(
    names: Sequence[str], assays: Sequence[str], depth_t: np.ndarray, mean_t: np.ndarray, reads_t: np.ndarray
) -> list[str]:
    """Advice on given depths that cannot be depths.

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
    both = f"{names[high]} has {mean_t[high]:.3g} reads per region, {names[low]} {mean_t[low]:.3g}"
    said = (
        f"every track has a depth of {depth_t[high]:,.9g}"
        if is_equal
        else f"their depths are {depth_t[high]:,.9g} and {depth_t[low]:,.9g}"
    )
    return [
        f"the depths cannot be right: {both}, of one assay, but {said}. The model takes what depth does not explain "
        "for biology. Give the number of mapped reads of each experiment in the column that depth_key names, or leave "
        "depth_key out to add up the counts. If a few regions hold most of the reads, blacklist them."
    ]


def _series(records: Sequence[Record], name: str) -> list[float]:
    return [record[name] for record in records if name in record]


def _recent(records: Sequence[Record], *names: str) -> list[Record]:
    """The last few records, if there are so many and all have these values; else none."""
    recent = list(records[-_SEVERAL:])
    return recent if len(recent) == _SEVERAL and all(name in r for r in recent for name in names) else []


def _last(records: Sequence[Record], name: str) -> str:
    return f"{records[-1][name]:.2g}"


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
