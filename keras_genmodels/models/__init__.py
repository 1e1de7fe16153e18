"""Latent-variable models: their base class, VAEs, a VAE's learned prior."""

from keras_genmodels import _aliases
from keras_genmodels.models.conditional_vae import ConditionalVAE
from keras_genmodels.models.hierarchical_vae import HierarchicalVAE
from keras_genmodels.models.latent_diffusion import LatentDiffusion
from keras_genmodels.models.latent_variable import LatentVariableModel
from keras_genmodels.models.vae import VAE

__all__ = [
    "VAE",
    "ConditionalVAE",
    "HierarchicalVAE",
    "LatentDiffusion",
    "LatentVariableModel",
]

# For names that moved.
__getattr__ = _aliases.names_of(__name__)
