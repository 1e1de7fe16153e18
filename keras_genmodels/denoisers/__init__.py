"""Denoisers: the posterior mean of a noisy event and its noise level."""

from keras_genmodels.denoisers.autoencoder import DenoisingAutoencoder
from keras_genmodels.denoisers.base import Denoiser
from keras_genmodels.denoisers.empirical import EmpiricalDenoiser
from keras_genmodels.denoisers.fitted import AdaptedDenoiser
from keras_genmodels.denoisers.linear import LinearDenoiser

__all__ = [
    "AdaptedDenoiser",
    "Denoiser",
    "DenoisingAutoencoder",
    "EmpiricalDenoiser",
    "LinearDenoiser",
]
