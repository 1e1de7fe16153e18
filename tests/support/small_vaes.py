"""Small VAEs of 8 x 8 images, and data for them."""

import numpy as np

import keras_genmodels as kgm

SHAPE = (8, 8, 1)


def make_vae(
    posterior="diagonal", likelihood="bernoulli", latent_size=3, **kwargs
):
    posterior = {
        "diagonal": kgm.MultivariateNormalDiag,
        "full": kgm.MultivariateNormalTriL,
    }[posterior](latent_size)
    likelihood = {
        "bernoulli": kgm.IndependentBernoulli,
        "gaussian": kgm.IndependentNormal,
        "discretized_logistic": kgm.IndependentDiscretizedLogistic,
    }[likelihood](SHAPE)
    return kgm.VAE(
        kgm.mlp_encoder(SHAPE, posterior.params_size, (16,)),
        kgm.mlp_decoder(latent_size, likelihood.params_shape, (16,)),
        posterior,
        likelihood,
        **kwargs,
    )


def binary_images(n=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (n, *SHAPE)).astype("float32")
