"""How well a trained model accounts for data: evidence lower bound, reconstruction error, marginal likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from .._arguments import checked
from .._workers import progress_bar
from ..data.loader import FixedMinibatches
from ..data.track_data import ViewKind
from ..module.inputs import Encoding, Example, ViewPrediction
from ..predict.predictor import require_batch_size
from ..predict.request import Indices, asked_rows
from ..train.masking import apply_task, hide_nothing
from .parameters import documented
from .requests import RequestMixin

_BATCH = 1_024


class LikelihoodMixin(RequestMixin):
    """The likelihoods of :class:`chipvi.ChipVI`.

    All are in nats per region, summed over its observed entries, with everything visible. They are conditional on the
    average of the other biosamples, which the decoder sees, so they compare models on the same data and no more.
    """

    @checked
    def get_elbo(self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None) -> float:
        """Evidence lower bound per region, the expectation over the latent by one seeded sample."""
        likelihood_r, kl_r = self._evidence(adata, indices, batch_size, n_samples=1)[:2]
        return float((likelihood_r - kl_r).mean())

    @checked
    def get_reconstruction_error(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> dict[str, float]:
        """Negative log-likelihood of the observed entries per region: `reconstruction_loss`."""
        likelihood_r = self._evidence(adata, indices, batch_size, n_samples=1)[0]
        return {"reconstruction_loss": float(-likelihood_r.mean())}

    @checked
    def get_marginal_ll(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        n_mc_samples: int = 100,
        batch_size: int | None = None,
    ) -> float:
        """Log marginal likelihood per region, by importance sampling from the posterior (seeded).

        The estimate rises with `n_mc_samples` towards the truth and is at least :meth:`get_elbo` on average.
        """
        if n_mc_samples < 1:
            raise ValueError(f"n_mc_samples must be at least 1, got {n_mc_samples}.")
        return float(self._evidence(adata, indices, batch_size, n_mc_samples)[2].mean())

    @documented
    @checked
    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        per_biosample: bool = False,
        batch_size: int | None = None,
        give_mean: bool = True,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Posterior of the latent, from all data: its mean, a draw, or mean and variance.

        Parameters
        ----------
        %(adata)s
        %(indices)s
        per_biosample
            One latent for each biosample, in the order of :attr:`chipvi.ChipVI.biosamples`; otherwise their mean.
        %(batch_size)s
        give_mean
            False for a draw from the posterior (seeded) in place of its mean.
        return_dist
            Mean and variance in place of one of them. Latents of different biosamples are independent, so that the
            variance of their mean is the mean of theirs, by the number of biosamples.

        Returns
        -------
        Shape (regions, n_latent), or (regions, biosamples, n_latent), float32; with `return_dist` a pair of them.
        """
        rows, back = self._asked_rows(adata, indices)
        generator, parts = self._generator(), []
        for example in self._visible(adata, rows, batch_size):
            encoding = self._infer(example, generator)
            wanted = [encoding.posterior.loc if give_mean or return_dist else encoding.z_rqk]
            if return_dist:
                wanted.append(encoding.posterior.variance)
            if not per_biosample:
                n_biosamples = wanted[0].shape[1]
                wanted = [
                    x_rqk.mean(dim=1) / divisor for x_rqk, divisor in zip(wanted, (1, n_biosamples), strict=False)
                ]
            parts.append([x.cpu() for x in wanted])
        found = [torch.cat(x).numpy()[back] for x in zip(*parts, strict=True)]
        return (found[0], found[1]) if return_dist else found[0]

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.module.known_ba.device).manual_seed(0)

    def _asked_rows(self, adata: AnnData | None, indices: Indices) -> tuple[np.ndarray, np.ndarray]:
        self._check_if_trained(warn=False)
        source = self.adata if adata is None else adata
        return np.unique(asked_rows(indices, source.n_obs), return_inverse=True)

    def _visible(self, adata: AnnData | None, rows: np.ndarray, batch_size: int | None) -> Iterator[Example]:
        """Minibatches with everything visible, and everything observed as target."""
        require_batch_size(batch_size)
        data = self.open_data(adata)
        module, device = self.module.eval(), self.module.known_ba.device
        log_depth_t = torch.as_tensor(self.log_depths(data), dtype=torch.float32, device=device)
        for minibatch in FixedMinibatches(data, rows, module.half_widths, batch_size or _BATCH):
            task = hide_nothing(module, minibatch.n_regions)
            yield apply_task(module, minibatch.to(device), task, None, log_depth_t)

    @torch.no_grad()
    def _infer(self, example: Example, generator: torch.Generator) -> Encoding:
        return self.module.inference(example.visible, example.queries, generator)

    @torch.no_grad()
    def _evidence(
        self, adata: AnnData | None, indices: Indices, batch_size: int | None, n_samples: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-likelihood given one sample, KL divergence, and marginal log-likelihood, each per region."""
        rows, _ = self._asked_rows(adata, indices)
        generator = self._generator()
        prior, parts, n_done = Normal(0.0, 1.0), [], 0
        with progress_bar("Marginal likelihood", n_samples * len(rows), "draws", shown=n_samples > 1) as show:
            for example in self._visible(adata, rows, batch_size):
                weights = []
                for _ in range(n_samples):
                    encoding = self._infer(example, generator).without_own()
                    predicted = self.module.generative(encoding, example.queries, example.log_depth_rqg)
                    likelihood_rq = _log_likelihood(example, predicted)
                    posterior, z_rqk = encoding.posterior, encoding.z_rqk
                    ratio_rq = (prior.log_prob(z_rqk) - posterior.log_prob(z_rqk)).sum(dim=-1)
                    weights.append(likelihood_rq + ratio_rq)
                    n_done += len(likelihood_rq)
                    show(n_done)
                marginal_rq = torch.logsumexp(torch.stack(weights), dim=0) - np.log(n_samples)
                kl_rq = kl_divergence(posterior, prior).sum(dim=-1)
                parts.append([x.sum(dim=1).double().cpu() for x in (likelihood_rq, kl_rq, marginal_rq)])
        likelihood_r, kl_r, marginal_r = (torch.cat(x).numpy() for x in zip(*parts, strict=True))
        return likelihood_r, kl_r, marginal_r


def _log_likelihood(example: Example, predicted: Mapping[ViewKind, ViewPrediction]) -> Tensor:
    """Of the observed entries, per region and biosample."""
    terms_rq = []
    for kind, prediction in predicted.items():
        truth = example.truth[kind]
        terms_rq.append((prediction.distribution.log_prob(truth.value_rqg) * truth.observed_rqg).sum(dim=-1))
    return torch.stack(terms_rq).sum(dim=0)
