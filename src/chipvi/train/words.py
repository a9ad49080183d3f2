"""Findings in words: what is wrong, and what to try in Python or on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from .._messages import Place, counted, listed
from ..data.outlook import Outlook
from .findings import Finding, Sign

_WRONG = {
    Sign.PLATEAU: "the counts are not being learnt: after {steps:.0f} steps the loss of hidden counts is {loss:.3g}, "
    "from {first:.3g} at first, and the Pearson correlation of those that can be imputed has not been above "
    "{correlation:.2f}. Either nothing reaches the count head, or the tracks have nothing in common.",
    Sign.STARVED_HEAD: "the count head is starved: the gradient that reaches it has a norm of {norm:.2g}, and at most "
    "{most:g} in the last {records:.0f} records. It cannot learn.",
    Sign.CLAMPED: "the counts are held by a clamp or bound: {shown} of the target entries, and above {least:.0%} "
    "in each of the last {records:.0f} records. There the prediction cannot move to where the counts are.",
    Sign.BIASED_TRACKS: "predicted means are off by a factor: {shown} the true mean of the hidden counts, and far off "
    "in each of the last {records:.0f} records.",
    Sign.EMPTY_LATENTS: "the latent space is empty: {asleep:.0f} of {latents:.0f} latents carry less than {least:g} "
    "nat, and it was so in the last {records:.0f} records. Encoder and latents then add nothing to the prediction.",
    Sign.COLLAPSED_DISPERSION: "the dispersion of the counts has collapsed: it is {dispersion:.2g}, that of whole "
    "tracks by their moments {moments:.2g}, though counts should be less noisy once regions are distinguished. The "
    "likelihood then hardly cares about the mean.",
    Sign.EXPLODED_DISPERSION: "the dispersion of the counts has exploded: it is {dispersion:.2g}, that of whole tracks "
    "by their moments {moments:.2g}. Counts no noisier than Poisson are rare.",
    Sign.FLOORED_SPREAD: "the spread of the signal lies at its floor, for {share:.0%} of the entries: they count as "
    "all but certain, and their loss takes over.",
    Sign.DROWNED_COUNTS: "the signal drowns the counts: the gradient of its head has been {least:.0f} to {most:.0f} "
    "times that of the count head in the last {records:.0f} records, and a step has one length for both.",
    Sign.LOW_KL_WEIGHT: "the KL weight was still {weight:.2g} of 1 when training ended at step {steps:.0f}: the "
    "latents were never held to their prior, so that latent representation and ELBO mean little.",
    Sign.EQUAL_DEPTHS: "the depths cannot be right: {high} has {mean_high:.3g} reads per region, {low} {mean_low:.3g}, "
    "of one assay, but every track has a depth of {depth_high:,.9g}. The model takes what depth does not explain for "
    "biology.",
    Sign.UNLIKELY_DEPTHS: "the depths cannot be right: {high} has {mean_high:.3g} reads per region, {low} "
    "{mean_low:.3g}, of one assay, but their depths are {depth_high:,.9g} and {depth_low:,.9g}. The model takes what "
    "depth does not explain for biology.",
    Sign.DIVERGED: "training diverged at step {steps:.0f}: not finite are {shown}.",
}

_DEPTHS = (
    "Give the number of mapped reads of each experiment in the column that {key} names, or {leave_out} to add up the "
    "counts. If a few regions hold most of the reads, blacklist them."
)
_SIGNAL = "Make sure that the signal is arcsinh(-log10 p), mostly 0 to 6 and not scaled"
_TRY = {
    Place.PYTHON: {
        Sign.PLATEAU: "Look at clamped_* and grad_norm_count_head in model.history, at kl_weight (0.001 is the "
        "default) and at depth; try head='mean_dispersion' and the defaults on chipvi.datasets.simulate() beside your "
        "data.",
        Sign.STARVED_HEAD: "Look at clamped_* in model.history, for past a clamp the gradient is zero; "
        "head='mean_dispersion' has no clamps. In a head or module of your own, look for detach() and clamp() between "
        "decoder and loss.",
        Sign.BIASED_TRACKS: "Compare the depth of the track with its reads, look for a few regions that hold most of "
        "them (blacklist them), and see that mean_weight is above 0.",
        Sign.EMPTY_LATENTS: "Lower kl_weight; 0.001 is the default, and 1 is far too much.",
        Sign.COLLAPSED_DISPERSION: "Look for a few counts far above the rest, lower lr, and see that mean_weight is "
        "above 0.",
        Sign.EXPLODED_DISPERSION: "Make sure that they are raw reads, neither normalised nor smoothed nor shared "
        "between tracks; if they are, use head='poisson'.",
        Sign.FLOORED_SPREAD: "Make sure that the signal is arcsinh(-log10 p), not scaled down and not constant.",
        Sign.DROWNED_COUNTS: f"{_SIGNAL}; or train one model on the counts alone (without signal_layer) and one on the "
        "signal.",
        Sign.LOW_KL_WEIGHT: "Lower plan_kwargs={{'kl_warmup': ...}}, the share of the steps over which the weight "
        "rises (0.3 is the default), or train for longer.",
        Sign.EQUAL_DEPTHS: _DEPTHS.format(key="depth_key", leave_out="leave depth_key out"),
        Sign.UNLIKELY_DEPTHS: _DEPTHS.format(key="depth_key", leave_out="leave depth_key out"),
        Sign.DIVERGED: "The model is as it was before. Lower the learning rate, as in plan_kwargs={{'lr': {lr:g}}}; if "
        "that does not help, look for counts or signal far above the rest (adata.X.max(axis=0)), and, in a head or "
        "module of your own, for what gives the first NaN.",
    },
    # without what only Python can set, such as learning rate and KL weight
    Place.COMMAND_LINE: {
        Sign.PLATEAU: "Look at the columns clamped_* and grad_norm_count_head of history.csv, and at the depths "
        "(--depth-key); try --head mean_dispersion, and chipvi demo beside your data.",
        Sign.STARVED_HEAD: "Look at the columns clamped_* of history.csv, for past a clamp the gradient is zero; "
        "--head mean_dispersion has no clamps.",
        Sign.BIASED_TRACKS: "Compare the depth of the track with its reads, and look for a few regions that hold most "
        "of them (chipvi count --blacklist leaves them out).",
        Sign.EMPTY_LATENTS: "",
        Sign.COLLAPSED_DISPERSION: "Look for a few counts far above the rest (chipvi count --blacklist leaves regions "
        "out).",
        Sign.EXPLODED_DISPERSION: "Make sure that they are raw reads, neither normalised nor smoothed nor shared "
        "between tracks; if they are, use --head poisson.",
        Sign.FLOORED_SPREAD: "Make sure that the signal is arcsinh(-log10 p), not scaled down and not constant.",
        Sign.DROWNED_COUNTS: f"{_SIGNAL}; or train on the counts alone (--signal-layer none).",
        Sign.LOW_KL_WEIGHT: "Train without --early-stopping.",
        Sign.EQUAL_DEPTHS: _DEPTHS.format(key="--depth-key", leave_out="give --depth-key none"),
        Sign.UNLIKELY_DEPTHS: _DEPTHS.format(key="--depth-key", leave_out="give --depth-key none"),
        Sign.DIVERGED: "Look for counts or signal far above the rest (chipvi count --blacklist leaves regions out).",
    },
}
# by coordinate of the count head that a clamp or bound holds
_UNCLAMP = {
    Place.PYTHON: {
        "logit": "lift the clamp with head_options={'logit_clamp': None}, or use head='mean_dispersion'",
        "count": "lift the floor with head_options={'count_floor': None}, or use head='mean_dispersion'",
        "mean": "look for counts and depths far from the rest (means reach from 1e-7 to 9e6), or lower lr",
        "dispersion": "look for tracks that are nearly empty, lower lr, or use head='poisson'",
        "losses": "clip the gradient in place of the loss, for the entries that a clamped loss silences are the peaks",
        "zero_logit": "use head='mean_dispersion', for zeros are not inflated here",
    },
    Place.COMMAND_LINE: {
        "mean": "look for counts and depths far from the rest (means reach from 1e-7 to 9e6)",
        "dispersion": "look for tracks that are nearly empty, or use --head poisson",
        "zero_logit": "use --head mean_dispersion, for zeros are not inflated here",
    },
}


def describe_length(n_steps: int, rounds: Sequence[int]) -> str:
    """How long a training takes, with the steps of each round of the held-out-track calibration that follows.

    >>> print(describe_length(300, [200, 200]))
    300 steps; then held-out-track calibration: 2 trainings of 200 steps without some of the tracks.
    """
    text = counted(n_steps, "step")
    if rounds:
        text += (
            f"; then held-out-track calibration: {counted(len(rounds), 'training')} of {counted(rounds[0], 'step')} "
            "without some of the tracks"
        )
    return f"{text}."


def describe_outlook(outlook: Outlook) -> str:
    """What can be expected of data, in a sentence.

    >>> describe_outlook(Outlook(2, 1, alone=(), scarce=("a.x", "a.y"), n_gaps=0, has_counts=True))
    '2 tracks of 1 biosample: imputation has next to nothing to go by; denoising works.'
    >>> describe_outlook(Outlook(5, 2, alone=("b.z",), scarce=(), n_gaps=1, has_counts=True))
    '5 tracks of 2 biosamples: enough to impute from, but for b.z; 1 experiment that nobody has run can be imputed.'
    """
    tracks = f"{counted(outlook.n_tracks, 'track')} of {counted(outlook.n_biosamples, 'biosample')}"
    if outlook.is_poor:
        what = "next to nothing" if outlook.scarce else "nothing"
        return f"{tracks}: imputation has {what} to go by{'; denoising works' if outlook.has_counts else ''}."
    poor = [*outlook.alone, *outlook.scarce]
    but = f", but for {listed(poor)}" if poor else ""
    gaps = f"; {counted(outlook.n_gaps, 'experiment')} that nobody has run can be imputed" if outlook.n_gaps else ""
    return f"{tracks}: enough to impute from{but}{gaps}."


def describe(finding: Finding, place: Place) -> str:
    """A finding as sentences: what is wrong, with numbers, and what to try there."""
    words = {**finding.numbers, **_shown(finding)}
    what = _WRONG[finding.sign].format_map(words)
    advice = _unclamp(finding, place) if finding.sign is Sign.CLAMPED else _TRY[place][finding.sign].format_map(words)
    return f"{what} {advice}".rstrip()


def _shown(finding: Finding) -> dict[str, str | float]:
    """Where a sign was found, as its sentence has it."""
    where = finding.where
    if finding.sign is Sign.CLAMPED:
        return {"shown": listed([f"{share:.0%} for the {name}" for name, share in where.items()])}
    if finding.sign is Sign.BIASED_TRACKS:
        return {"shown": listed([f"{name} ({ratio:.2g} times)" for name, ratio in where.items()], most=5)}
    if finding.sign in (Sign.EQUAL_DEPTHS, Sign.UNLIKELY_DEPTHS):
        (high, mean_high), (low, mean_low) = where.items()
        return {"high": high, "low": low, "mean_high": mean_high, "mean_low": mean_low}
    return {"shown": listed(where, most=20)}


def _unclamp(finding: Finding, place: Place) -> str:
    """What to try for each coordinate that is held."""
    known = _UNCLAMP[place]
    if place is Place.PYTHON:
        remedies = [known.get(name, f"{name}: loosen the clamp in the head or module") for name in finding.where]
    else:
        remedies = [known.get(name, "use --head mean_dispersion") for name in finding.where]
    return f"To mend it, {'; '.join(dict.fromkeys(remedies))}."
