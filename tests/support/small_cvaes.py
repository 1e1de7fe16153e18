"""Small conditional VAEs of 4 x 4 images, and data for them."""

import keras
import numpy as np

import keras_genmodels as kgm

SHAPE = (4, 4, 1)
NUM_CLASSES = 3
LIKELIHOODS = {
    "bernoulli": kgm.IndependentBernoulli,
    "gaussian": kgm.IndependentNormal,
    "discretized_logistic": kgm.IndependentDiscretizedLogistic,
}
POSTERIORS = {
    "diagonal": kgm.MultivariateNormalDiag,
    "full": kgm.MultivariateNormalTriL,
}
# The upper half and the pixel below it.
OBSERVED = (np.arange(16) < 9).reshape(SHAPE)


def assemble(
    condition_network,
    condition_size,
    posterior="diagonal",
    likelihood="bernoulli",
    learned=False,
    **kwargs,
):
    posterior = POSTERIORS[posterior](2)
    likelihood = LIKELIHOODS[likelihood](SHAPE)
    sizes = {"hidden_sizes": (16,), "condition_size": condition_size}
    prior = kgm.mlp_prior(condition_size, posterior.params_size, (8,))
    pieces = {
        "encoder": kgm.mlp_encoder(SHAPE, posterior.params_size, **sizes),
        "decoder": kgm.mlp_decoder(2, likelihood.params_shape, **sizes),
        "posterior": posterior,
        "likelihood": likelihood,
        "condition_network": condition_network,
        "prior_network": prior if learned else None,
    }
    return kgm.ConditionalVAE(**{**pieces, **kwargs})


def of_labels(posterior="diagonal", likelihood="bernoulli", **kwargs):
    kwargs = {"num_classes": NUM_CLASSES, **kwargs}
    return assemble(
        kgm.label_embedding(NUM_CLASSES, 5), 5, posterior, likelihood, **kwargs
    )


def of_parts(likelihood="bernoulli", observed_mask=OBSERVED, **kwargs):
    """A model that completes images."""
    network = kgm.image_condition(SHAPE, 5, filters=2)
    kwargs = {"observed_mask": observed_mask, **kwargs}
    return assemble(network, 5, "full", likelihood, **kwargs)


def images(n=12, seed=0, levels=2):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (n, *SHAPE)) / (levels - 1)
    return x.astype("float32")


def labels(n=12):
    return np.arange(n) % NUM_CLASSES


def dicts(n=12):
    return {"image": images(n), "condition": labels(n)}


def word_network():
    """A condition network of two words."""
    return keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(7, 3),
            keras.layers.Flatten(),
        ]
    )
