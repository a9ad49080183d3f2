"""A hidden Markov model along the genome whose states have normal log rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROUNDS = 20  # of expectation and maximisation
FLOOR = 0.01  # of the variance of a standardised log rate
_STAY = 0.9  # chance to stay in a state, to begin with
_PRIOR = 0.1  # transitions of each kind that were seen before any data


@dataclass(frozen=True, eq=False)
class Stretches:
    """Rows of equal length, each a run of neighbouring regions in one biosample.

    Parameters
    ----------
    x_lnf
        Standardised log rates: place x stretch x assay.
    is_there_ln
        False beyond the end of a short stretch.
    """

    x_lnf: np.ndarray
    is_there_ln: np.ndarray


@dataclass(frozen=True, eq=False)
class Chain:
    """States with a normal distribution each, and the chances to go from one (row) to the next (column).

    Parameters
    ----------
    mean_kf, covariance_kff, transition_kk, start_k
        Of the states.
    """

    mean_kf: np.ndarray
    covariance_kff: np.ndarray
    transition_kk: np.ndarray
    start_k: np.ndarray

    @classmethod
    def of_clusters(cls, x_nf: np.ndarray, cluster_n: np.ndarray) -> Chain:
        """Begin with clusters of regions."""
        weight_nk = np.eye(cluster_n.max() + 1)[cluster_n]
        n_states = weight_nk.shape[1]
        transition_kk = np.full((n_states, n_states), (1 - _STAY) / n_states) + _STAY * np.eye(n_states)
        return cls(*_moments(x_nf, weight_nk), transition_kk, weight_nk.mean(axis=0))

    def fit(self, stretches: Stretches) -> Chain:
        """The same states after some rounds of Baum and Welch's algorithm."""
        chain, x_nf = self, stretches.x_lnf[stretches.is_there_ln]
        for _ in range(_ROUNDS):
            weight_lnk, pairs_kk = chain.posterior(stretches)
            weight_nk = weight_lnk[stretches.is_there_ln]
            transition_kk = pairs_kk + _PRIOR
            chain = Chain(
                *_moments(x_nf, weight_nk),
                transition_kk / transition_kk.sum(axis=1, keepdims=True),
                weight_nk.mean(axis=0),
            )
        return chain

    def posterior(self, stretches: Stretches) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each state, place x stretch x state, and the expected number of each transition.

        By the forward and backward recursions of Rabiner 1989 (Proceedings of the IEEE 77:257), scaled at every place.
        """
        like_lnk = self._likelihood(stretches)
        n_places, transition_kk = len(like_lnk), self.transition_kk
        forward_lnk, pairs_kk = np.empty_like(like_lnk), np.zeros_like(transition_kk)
        forward_lnk[0] = _scaled(self.start_k * like_lnk[0])
        for place in range(1, n_places):
            forward_lnk[place] = _scaled(forward_lnk[place - 1] @ transition_kk * like_lnk[place])
        backward_nk, weight_lnk = np.ones_like(like_lnk[0]), np.empty_like(like_lnk)
        weight_lnk[-1] = forward_lnk[-1]
        for place in range(n_places - 2, -1, -1):
            ahead_nk = backward_nk * like_lnk[place + 1]
            total_n1 = (forward_lnk[place] @ transition_kk * ahead_nk).sum(axis=1, keepdims=True)
            seen_nk = ahead_nk / total_n1 * stretches.is_there_ln[place + 1][:, None]
            pairs_kk += transition_kk * (forward_lnk[place].T @ seen_nk)
            backward_nk = _scaled(ahead_nk @ transition_kk.T)
            weight_lnk[place] = _scaled(forward_lnk[place] * backward_nk)
        return weight_lnk, pairs_kk

    def _likelihood(self, stretches: Stretches) -> np.ndarray:
        """Of each state, up to a factor of the place; 1 where nothing is there."""
        n_features = stretches.x_lnf.shape[-1]
        log_lnk = np.empty((*stretches.x_lnf.shape[:2], len(self.mean_kf)))
        for k, (mean_f, covariance_ff) in enumerate(zip(self.mean_kf, self.covariance_kff, strict=True)):
            root_ff = np.linalg.cholesky(covariance_ff)
            white_fn = np.linalg.solve(root_ff, (stretches.x_lnf - mean_f).reshape(-1, n_features).T)
            log_n = -0.5 * (white_fn**2).sum(axis=0) - np.log(np.diag(root_ff)).sum()
            log_lnk[..., k] = log_n.reshape(log_lnk.shape[:2])
        log_lnk -= log_lnk.max(axis=-1, keepdims=True)
        return np.where(stretches.is_there_ln[..., None], np.exp(np.maximum(log_lnk, -600)), 1.0)


def _moments(x_nf: np.ndarray, weight_nk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of each state."""
    total_k = weight_nk.sum(axis=0) + 1e-9
    mean_kf = weight_nk.T @ x_nf / total_k[:, None]
    floor_ff = FLOOR * np.eye(x_nf.shape[1])
    centred = (x_nf - mean_f for mean_f in mean_kf)
    covariances = [
        (weight_n[:, None] * d_nf).T @ d_nf / n + floor_ff
        for weight_n, d_nf, n in zip(weight_nk.T, centred, total_k, strict=True)
    ]
    return mean_kf, np.stack(covariances)


def _scaled(x_nk: np.ndarray) -> np.ndarray:
    return x_nk / x_nk.sum(axis=1, keepdims=True)
