"""The linear-Gaussian VAE with a learned prior that is Gaussian as well."""

import numpy as np

import keras_genmodels as kgm
from support import linear_gaussian
from support.linear_gaussian import B, S, W

# Of the latents that the denoiser is adapted to.
MEAN = np.array([0.3, -0.6])
ROOT = np.array([[0.9, 0.0], [0.5, 0.4]])
LOWEST = 0.01


def latent_data(n=200):
    """Vectors whose mean and covariance (1 / n) are exact."""
    z = np.random.default_rng(0).standard_normal((n, 2))
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T, bias=True)), z.T).T
    return MEAN + (z - z.mean(0)) @ ROOT.T


def covariance():
    return ROOT @ ROOT.T + LOWEST**2 * np.eye(2)


def gaussian_prior():
    """The linear-Gaussian VAE whose prior is N(MEAN, covariance())."""
    denoiser = kgm.LinearDenoiser()
    denoiser.adapt(latent_data())
    model = kgm.LatentDiffusion(linear_gaussian.linear_vae(), denoiser)
    precision = np.linalg.inv(covariance())
    posterior = np.linalg.inv(W.T @ W / S**2 + precision)
    kernel = W @ posterior / S**2
    mean = posterior @ (precision @ MEAN - W.T @ B / S**2)
    vae = model.vae
    vae.encoder.set_weights(
        linear_gaussian.gaussian_params(vae.posterior, kernel, mean, posterior)
    )
    return model
