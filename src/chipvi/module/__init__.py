"""The network: from what is visible around a region to the distribution of every target."""

from .vae import ChipVAE

__all__ = ["ChipVAE"]
