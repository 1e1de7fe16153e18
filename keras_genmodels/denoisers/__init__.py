"""Denoisers: a noisy event and its noise level to the posterior mean."""

from keras_genmodels.denoisers.autoencoder import DenoisingAutoencoder
from keras_genmodels.denoisers.base import Denoiser
from keras_genmodels.denoisers.empirical import EmpiricalDenoiser
from keras_genmodels.denoisers.linear import LinearDenoiser

__all__ = [
    "Denoiser",
    "DenoisingAutoencoder",
    "EmpiricalDenoiser",
    "LinearDenoiser",
]
