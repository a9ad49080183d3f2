"""How good predictions are, and the simple predictions that any model should beat."""

from ._annotation import count_intervals, count_promoters
from ._calibration import CrpsSplit, coverage, crps_split, nb_cdf, nb_coverage, nb_crps, nb_pit
from ._counts import deviance_explained, fit_dispersion, nb_nll, nb_quantile
from ._mixture import NBMixture
from ._ranking import Concordance, auprc, c_index
from ._references import fit_average, gaussian_smoothing, leave_one_out_average, leave_one_out_variance
from ._signal import encode_scores, gwcorr, gwspear, mse1imp, mse1obs, mseenh, msegene, mseprom, msevar
from ._tables import mse, pearson, r2, r2_arcsinh, score_tracks

__all__ = [
    "Concordance",
    "CrpsSplit",
    "NBMixture",
    "auprc",
    "c_index",
    "count_intervals",
    "count_promoters",
    "coverage",
    "crps_split",
    "deviance_explained",
    "encode_scores",
    "fit_average",
    "fit_dispersion",
    "gaussian_smoothing",
    "gwcorr",
    "gwspear",
    "leave_one_out_average",
    "leave_one_out_variance",
    "mse",
    "mse1imp",
    "mse1obs",
    "mseenh",
    "msegene",
    "mseprom",
    "msevar",
    "nb_cdf",
    "nb_coverage",
    "nb_crps",
    "nb_nll",
    "nb_pit",
    "nb_quantile",
    "pearson",
    "r2",
    "r2_arcsinh",
    "score_tracks",
]
