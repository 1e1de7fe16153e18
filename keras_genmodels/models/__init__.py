"""The latent-variable models."""

from keras_genmodels.models.vae import VAE as VAE
