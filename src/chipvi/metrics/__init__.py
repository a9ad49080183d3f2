"""How good predictions are, and the simple predictions that any model should beat."""

from ._calibration import coverage, nb_cdf, nb_coverage, nb_crps, nb_pit
from ._counts import fit_dispersion, nb_nll, nb_quantile
from ._references import gaussian_smoothing, leave_one_out_average
from ._tables import mse, pearson, r2, score_tracks

__all__ = [
    "coverage",
    "fit_dispersion",
    "gaussian_smoothing",
    "leave_one_out_average",
    "mse",
    "nb_cdf",
    "nb_coverage",
    "nb_crps",
    "nb_nll",
    "nb_pit",
    "nb_quantile",
    "pearson",
    "r2",
    "score_tracks",
]
