"""Small priors of each kind, and the linear-Gaussian model with such."""

import numpy as np

import keras_genmodels as kgm

# Of the prior of the linear-Gaussian model.
MEAN = np.array([0.8, -0.6])
ROOT = np.array([[1.3, 0.0], [0.5, 0.4]])


def make_prior(kind, latent_size=3, event_shape=(8, 8, 1), condition_size=0):
    """A small prior, whose weights differ from the initial ones."""
    given = {"condition_size": condition_size}
    if kind == "standard":
        return kgm.StandardNormal(latent_size)
    if kind == "flow":
        layer = kgm.RealNVPPrior(latent_size, 3, hidden_sizes=(8,), **given)
    elif kind == "mixture":
        layer = kgm.MixturePrior(latent_size, 5, **given)
    else:
        return kgm.VampPrior(event_shape, 6)
    rng = np.random.default_rng(1)
    layer.set_weights(
        [w + 0.2 * rng.standard_normal(w.shape) for w in layer.get_weights()]
    )
    return layer


LEARNED = ("flow", "mixture", "vamp")
KINDS = ("standard", *LEARNED)
