"""The spread of imputed counts by a trained model: intervals, quantiles, samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from .._arguments import LARGEST_SEED, checked, require_whole
from ..data.track_data import ViewKind
from ..module.inputs import Surroundings
from ..nn import NegativeBinomial
from ..predict.predictor import independent_draws, shared_draws
from ..predict.quantiles import latent_noise, nb_mixture_quantile, tails
from ..predict.request import Indices, Request, TracksArgument, require_level, require_samples
from .parameters import documented
from .requests import RequestMixin


class IntervalMixin(RequestMixin):
    """The predictions of :class:`chipvi.ChipVI` that need a whole distribution."""

    @documented
    @checked
    def get_prediction_interval(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        level: float = 0.95,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
        n_samples: int | None = None,
    ) -> tuple[Any, Any]:
        """Central interval of the imputed count of each track.

        Parameters
        ----------
        %(adata)s
        %(indices)s
        %(tracks)s
        level
            Probability to cover at least, 0 to 1.
        %(depth)s
        %(batch_size)s
        return_numpy
            Arrays in place of tables.
        n_samples
            Draws of the latent to average over; see :meth:`get_quantiles`.

        Returns
        -------
        The quantiles at (1 - level) / 2 from either end: whole counts, both inclusive, regions x tracks each.

        Raises
        ------
        ValueError
            As :meth:`chipvi.ChipVI.get_imputed_counts`, and for a level or `n_samples` out of range.
        """
        require_level(level)
        request = self._counts_request(adata, indices, tracks, depth)
        lower, upper = np.moveaxis(self._quantiles(request, tails(level), n_samples, batch_size), -1, 0)
        return request.frame(lower, return_numpy), request.frame(upper, return_numpy)

    @documented
    @checked
    def get_quantiles(
        self,
        quantiles: Sequence[float],
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
        n_samples: int | None = None,
    ) -> Any:
        """Quantiles of the imputed count of each track.

        Parameters
        ----------
        quantiles
            Probabilities, each between 0 and 1, such as ``[0.1, 0.5, 0.9]``.
        %(asked)s
        %(batch_size)s
        return_numpy
            An array in place of tables.
        n_samples
            None takes the latent at its posterior mean. A number, such as 16, integrates the latent by that many draws:
            the count then follows the mixture of the draws' negative binomials, whose quantiles are exact. The draws
            are the same for all regions and tracks and in every call, so that, rounding aside, numbers depend neither
            on the batches nor on what else is asked for. Time grows with the draws.

        Returns
        -------
        For each quantile the smallest count up to which there is at least that probability: a dictionary of tables,
        regions x tracks, by quantile, or float32 of shape (regions, tracks, quantiles).

        Raises
        ------
        ValueError
            As :meth:`chipvi.ChipVI.get_imputed_counts`, and for quantiles or `n_samples` out of range.
        """
        asked = np.asarray(quantiles)
        if asked.dtype.kind not in "fiu" or asked.ndim != 1 or not asked.size or not ((asked > 0) & (asked < 1)).all():
            raise ValueError(
                f"quantiles must be a list of numbers between 0 and 1, such as [0.1, 0.5, 0.9]; got {quantiles!r}."
            )
        request = self._counts_request(adata, indices, tracks, depth)
        values = self._quantiles(request, asked, n_samples, batch_size)
        if return_numpy:
            return values
        return {float(q): request.frame(values[..., number], False) for number, q in enumerate(asked)}

    @documented
    @checked
    def posterior_predictive_sample(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        tracks: TracksArgument = None,
        depth: float | None = None,
        n_samples: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Draw imputed counts, the latent and the reads both sampled.

        Parameters
        ----------
        %(asked)s
        n_samples
            Draws.
        seed
            The same seed gives the same draws.
        %(batch_size)s

        Returns
        -------
        Counts, float32, shape (regions, tracks, draws).
        """
        require_whole("n_samples", n_samples, least=1)
        require_whole("seed", seed, least=0, most=LARGEST_SEED)
        request = self._counts_request(adata, indices, tracks, depth)
        predictor, asked = request.predictor, request.predictor.without_own_data()
        generator = torch.Generator(self.module.known_ba.device).manual_seed(seed)

        def draws(around: Surroundings) -> np.ndarray:
            answer = predictor.predict(around, asked, independent_draws(n_samples, generator))[ViewKind.COUNTS]
            both = zip(answer.mean_srn.cpu(), answer.spread_srn.cpu(), strict=True)
            counts = [NegativeBinomial(mean, spread).sample(generator=_on_cpu(generator)) for mean, spread in both]
            return torch.stack(counts, dim=-1).float().numpy()

        return request.collect(draws, batch_size)

    def _quantiles(
        self, request: Request, quantiles: Sequence[float] | np.ndarray, n_samples: int | None, batch_size: int | None
    ) -> np.ndarray:
        """Regions x tracks x quantiles, float32."""
        require_samples(n_samples)
        noise_sk = torch.from_numpy(latent_noise(n_samples, self.module.options.n_latent))
        predictor, asked = request.predictor, request.predictor.without_own_data()

        def found(around: Surroundings) -> np.ndarray:
            answer = predictor.predict(around, asked, shared_draws(noise_sk))[ViewKind.COUNTS]
            mean_srn, dispersion_srn = answer.mean_srn.cpu().numpy(), answer.spread_srn.cpu().numpy()
            parts = [nb_mixture_quantile(q, mean_srn, dispersion_srn) for q in quantiles]
            return np.stack(parts, axis=-1).astype(np.float32)

        return request.collect(found, batch_size)


def _on_cpu(generator: torch.Generator) -> torch.Generator:
    """A generator on the CPU, fed by one that may be elsewhere."""
    if generator.device.type == "cpu":
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))
