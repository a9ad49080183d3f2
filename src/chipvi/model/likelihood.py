"""How well a trained model accounts for data: evidence lower bound, reconstruction error, marginal likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ..data.loader import FixedMinibatches
from ..predict.request import Indices, RequestMixin, asked_rows, require_batch_size
from ..train.masking import apply_task, hide_nothing

_BATCH = 1_024


class EvidenceMixin(RequestMixin):
    """The likelihoods of :class:`chipvi.ChipVI`.

    All are in nats per region, summed over its observed entries, with everything visible. They are conditional on the
    average of the other biosamples, which the decoder sees, so they compare models on the same data and no more.
    """

    def get_elbo(self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None) -> float:
        """Evidence lower bound per region, the expectation over the latent by one seeded sample."""
        likelihood_r, kl_r = self._evidence(adata, indices, batch_size, n_samples=1)[:2]
        return float((likelihood_r - kl_r).mean())

    def get_reconstruction_error(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> dict[str, float]:
        """Negative log-likelihood of the observed entries per region: `reconstruction_loss`."""
        likelihood_r = self._evidence(adata, indices, batch_size, n_samples=1)[0]
        return {"reconstruction_loss": float(-likelihood_r.mean())}

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

    def _latents(
        self, adata: AnnData | None, indices: Indices, batch_size: int | None, per_biosample: bool
    ) -> np.ndarray:
        """Posterior means of the latents, of each biosample or averaged over them, in the order asked for."""
        rows, back = self._asked_rows(adata, indices)
        generator = self._generator()
        parts = []
        for inputs in self._visible(adata, rows, batch_size):
            latent_rqk = self._infer(inputs, generator)["qz"].loc
            parts.append((latent_rqk if per_biosample else latent_rqk.mean(dim=1)).cpu())
        return torch.cat(parts).numpy()[back]

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.module.assay_t.device).manual_seed(0)

    def _asked_rows(self, adata: AnnData | None, indices: Indices) -> tuple[np.ndarray, np.ndarray]:
        self._check_if_trained(warn=False)
        source = self.adata if adata is None else adata
        return np.unique(asked_rows(indices, source.n_obs), return_inverse=True)

    def _visible(self, adata: AnnData | None, rows: np.ndarray, batch_size: int | None) -> Iterator[dict[str, Tensor]]:
        """Minibatches with everything visible, and everything observed as target."""
        require_batch_size(batch_size)
        data = self._open_data(adata)
        module, device = self.module.eval(), self.module.assay_t.device
        log_depth_t = torch.as_tensor(self._log_depths(data), dtype=torch.float32, device=device)
        for minibatch in FixedMinibatches(data, rows, batch_size or _BATCH):
            tensors = {name: values.to(device) for name, values in minibatch.items()}
            task = hide_nothing(module, len(tensors["low_rs"]))
            yield apply_task(module, tensors, task, None, log_depth_t)

    @torch.no_grad()
    def _infer(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Any]:
        return self.module.inference(**self.module._get_inference_input(inputs), generator=generator)

    @torch.no_grad()
    def _evidence(
        self, adata: AnnData | None, indices: Indices, batch_size: int | None, n_samples: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-likelihood given one sample, KL divergence, and marginal log-likelihood, each per region."""
        rows, _ = self._asked_rows(adata, indices)
        generator = self._generator()
        prior, parts = Normal(0.0, 1.0), []
        for inputs in self._visible(adata, rows, batch_size):
            weights = []
            for _ in range(n_samples):
                inferred = self.module.without_own(self._infer(inputs, generator))
                generated = self.module.generative(**self.module._get_generative_input(inputs, inferred))
                likelihood_rq = self._log_likelihood(inputs, generated)
                z_rqk, qz = inferred["z_rqk"], inferred["qz"]
                ratio_rq = (prior.log_prob(z_rqk) - qz.log_prob(z_rqk)).sum(dim=-1)
                weights.append(likelihood_rq + ratio_rq)
            marginal_rq = torch.logsumexp(torch.stack(weights), dim=0) - np.log(n_samples)
            kl_rq = kl_divergence(qz, prior).sum(dim=-1)
            parts.append([x.sum(dim=1).double().cpu() for x in (likelihood_rq, kl_rq, marginal_rq)])
        likelihood_r, kl_r, marginal_r = (torch.cat(x).numpy() for x in zip(*parts, strict=True))
        return likelihood_r, kl_r, marginal_r

    @staticmethod
    def _log_likelihood(inputs: dict[str, Tensor], generated: dict[str, Any]) -> Tensor:
        """Of the observed entries, per region and biosample."""
        terms_rq = []
        for view in ("counts", "signal"):
            if generated[view] is not None:
                entry_rqg = generated[view].log_prob(inputs[f"target_{view}_rqg"])
                terms_rq.append((entry_rqg * inputs[f"observed_{view}_rqg"]).sum(dim=-1))
        return torch.stack(terms_rq).sum(dim=0)
