"""What a trained model expects of tracks: imputed and denoised counts, p-values, the likelihood of counts."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from .. import _keys
from .._arguments import checked
from ..data.track_data import SCVI_COLUMNS, ViewKind
from ..module.inputs import Visible
from ..nn import NegativeBinomial, TwoStateNegativeBinomial
from ..predict.quantiles import mix_draws, tails
from ..predict.request import Indices, Request, TracksArgument, require_level
from ..predict.stream import write_in_parts
from .parameters import documented
from .requests import RequestMixin


class ImputationMixin(RequestMixin):
    """The predictions of :class:`chipvi.ChipVI`.

    The latent is its posterior mean unless `n_samples` says otherwise, and the same call gives the same numbers.
    """

    @documented
    @checked
    def impute(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        level: float = 0.95,
        batch_size: int | None = None,
        out: str | PathLike | None = None,
    ) -> AnnData | Path:
        """Impute and denoise in one pass.

        Parameters
        ----------
        %(asked)s
        level
            Probability of the interval, 0 to 1.
        %(batch_size)s
        out
            File to stream to, ending in `.h5ad` or `.zarr`, so that memory does not grow with the regions. It must not
            exist. Its regions ascend without repeats, whatever the order of `indices`.

        Returns
        -------
        Regions x tracks, or with `out` the path written. X is the imputed count; the layers are `lower` and `upper`
        (ends of the interval, counts), `dispersion` (of one negative binomial, see
        :meth:`get_likelihood_parameters`), `denoised` (expected count, own data used), and with signal `pval` and
        `pval_std` (arcsinh(-log10 p)). Without counts X is the imputed signal.

        Raises
        ------
        ValueError
            For unknown tracks, a level or depth out of range, or a single track, which has nothing to go by.
        BlockingIOError
            If another process is writing to `out`.
        OSError
            If `out` cannot be written, as where the disk is full.
        """
        require_level(level)
        request = self._request(adata, indices, tracks, depth)
        request.require_others()
        predictor = request.predictor
        without_own, with_own = predictor.without_own_data(), predictor.with_own_data()

        def layers(visible: Visible) -> dict[str, np.ndarray]:
            """X and the layers of the result."""
            imputed, found = predictor.predict(visible, without_own), {}
            if ViewKind.SIGNAL in imputed:
                signal = imputed[ViewKind.SIGNAL]
                found = {_keys.PVAL: _only(signal.mean_srn), _keys.PVAL_STD: _only(signal.spread_srn)}
            if ViewKind.COUNTS not in imputed:
                return {"X": found[_keys.PVAL]} | found
            counts = imputed[ViewKind.COUNTS]
            mean, dispersion = _only(counts.mean_srn), _only(counts.spread_srn)
            whole = mix_draws(counts.mean_srn, counts.spread_srn, counts.shape_srnp)
            lower, upper = (whole.quantile(q) for q in tails(level))
            return {
                "X": mean,
                _keys.LOWER: lower.astype(np.float32),
                _keys.UPPER: upper.astype(np.float32),
                _keys.DISPERSION: dispersion,
                _keys.DENOISED: _only(predictor.predict(visible, with_own)[ViewKind.COUNTS].mean_srn),
            } | found

        regions = (self.adata if adata is None else adata).obs.drop(columns=list(SCVI_COLUMNS), errors="ignore")
        var = request.target_table(with_depth=self.grid.has_counts)
        parts = request.run(layers, batch_size)
        if out is not None:
            return write_in_parts(Path(out), regions.iloc[request.rows], var, parts, len(request.rows))
        batches = list(parts)
        arrays = {name: np.concatenate([batch[name] for batch in batches])[request.back] for name in batches[0]}
        obs = regions.iloc[request.rows[request.back]].copy()
        return AnnData(X=arrays.pop("X"), obs=obs, var=var, layers=arrays)

    @documented
    @checked
    def get_imputed_counts(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Expected count of each track, predicted without the track's own counts and signal.

        Parameters
        ----------
        %(asked)s
        %(batch_size)s
        %(return_numpy)s

        Returns
        -------
        Regions x tracks, in reads per region at that depth.

        Raises
        ------
        ValueError
            As :meth:`impute`, and for a model without counts.
        """
        request = self._counts_request(adata, indices, tracks, depth)
        mean, _ = _moments(request, ViewKind.COUNTS, batch_size)
        return request.frame(mean, return_numpy)

    @documented
    @checked
    def get_imputed_pvalues(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        scale: Literal["arcsinh", "-log10p"] = "arcsinh",
        return_std: bool = False,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> Any:
        """Expected p-value signal of each track, predicted without the track's own counts and signal.

        Parameters
        ----------
        %(adata)s
        %(indices)s
        %(tracks)s
        scale
            "arcsinh" for arcsinh(-log10 p), as in the signal layer; "-log10p" for its hyperbolic sine.
        return_std
            Return the standard deviation as well; on the scale "-log10p" by the delta method.
        %(batch_size)s
        return_numpy
            Arrays in place of tables.

        Returns
        -------
        Regions x tracks, or with `return_std` a pair of them.

        Raises
        ------
        ValueError
            As :meth:`impute`, for another scale, and for a model without signal.
        """
        if scale not in ("arcsinh", "-log10p"):
            raise ValueError(f"scale must be 'arcsinh' or '-log10p', got {scale!r}.")
        if not self.grid.has_signal:
            raise ValueError("the model was trained without signal; name a signal_layer in setup_anndata.")
        request = self._request(adata, indices, tracks)
        request.require_others()
        mean, std = _moments(request, ViewKind.SIGNAL, batch_size)
        if scale == "-log10p":
            mean, std = np.sinh(mean), np.cosh(mean) * std
        mean = request.frame(mean, return_numpy)
        return (mean, request.frame(std, return_numpy)) if return_std else mean

    @documented
    @checked
    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised rate of each track: its expected count, given all data, its own included.

        Parameters
        ----------
        %(asked)s
        %(batch_size)s
        %(return_numpy)s

        Returns
        -------
        Regions x tracks, in reads per region at that depth. A track without data of its own is imputed.

        Raises
        ------
        ValueError
            For unknown tracks, a depth out of range, and for a model without counts.
        """
        self._require_counts()
        request = self._request(adata, indices, tracks, depth)

        predictor, asked = request.predictor, request.predictor.with_own_data()
        denoised = request.collect(
            lambda visible: _only(predictor.predict(visible, asked)[ViewKind.COUNTS].mean_srn), batch_size
        )
        return request.frame(denoised, return_numpy)

    @documented
    @checked
    def get_likelihood_parameters(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> dict[str, Any]:
        """Distribution of the imputed count of each track.

        Parameters
        ----------
        %(asked)s
        %(batch_size)s
        return_numpy
            Arrays in place of tables.

        Returns
        -------
        `mean`, equal to :meth:`get_imputed_counts`, and `dispersions` (variance = mean + mean^2 / dispersion) of a
        negative binomial, regions x tracks each. It is that of the head, or for "poisson" and "zero_inflated" has the
        same mean and variance.

        With "two_state" it is the single one that fits best, and the distribution is a mixture of two: `peak_probs`,
        the probability of a peak, `background_mean` and `peak_mean`, and the `state_dispersions` of either state.
        :meth:`chipvi.metrics.NBMixture.from_parameters` takes all of it.
        """
        request = self._counts_request(adata, indices, tracks, depth)
        predictor, asked = request.predictor, request.predictor.without_own_data()

        def parameters(visible: Visible) -> dict[str, np.ndarray]:
            answer = predictor.predict(visible, asked)[ViewKind.COUNTS]
            counts = NegativeBinomial.with_shape(answer.mean_srn[0], answer.spread_srn[0], answer.shape_srnp[0])
            found = {"mean": counts.mu, "dispersions": counts.theta}
            if isinstance(counts, TwoStateNegativeBinomial):
                states = counts.states
                found["peak_probs"] = torch.sigmoid(states.log_odds)
                found["background_mean"], found["peak_mean"] = states.background_mean, states.peak_mean
                found["state_dispersions"] = states.dispersion
            return {name: values.float().cpu().numpy() for name, values in found.items()}

        batches = list(request.run(parameters, batch_size))
        return {
            name: request.frame(np.concatenate([batch[name] for batch in batches])[request.back], return_numpy)
            for name in batches[0]
        }


def _moments(request: Request, kind: ViewKind, batch_size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of one view of the targets without their own data, regions x targets each."""
    predictor, asked = request.predictor, request.predictor.without_own_data()

    def moments(visible: Visible) -> np.ndarray:
        answer = predictor.predict(visible, asked)[kind]
        return np.stack([_only(answer.mean_srn), _only(answer.spread_srn)], axis=-1)

    mean, spread = np.moveaxis(request.collect(moments, batch_size), -1, 0)
    return mean, spread


def _only(x_srn: Tensor) -> np.ndarray:
    """The only draw, on the CPU."""
    (x_rn,) = x_srn.cpu().numpy()
    return x_rn
