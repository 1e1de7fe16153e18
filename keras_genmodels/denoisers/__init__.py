"""Denoisers: an event x and a noise level in, the posterior mean out."""

from keras_genmodels.denoisers.base import Denoiser
from keras_genmodels.denoisers.empirical import EmpiricalDenoiser
from keras_genmodels.denoisers.linear import LinearDenoiser

__all__ = ["Denoiser", "EmpiricalDenoiser", "LinearDenoiser"]
