"""Loops over any denoiser: restoring, and generating from noise."""

from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.restoration import (
    Restoration,
    denoise_once,
    restore,
)

__all__ = ["Restoration", "denoise_once", "generate", "restore"]
