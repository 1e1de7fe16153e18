"""The models that are trained."""

from keras_genmodels.denoisers.autoencoder import DenoisingAutoencoder
from keras_genmodels.models.cvae import ConditionalVAE
from keras_genmodels.models.vae import VAE

__all__ = ["VAE", "ConditionalVAE", "DenoisingAutoencoder"]
