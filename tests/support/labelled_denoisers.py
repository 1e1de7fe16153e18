"""Small denoisers that take class labels."""

import keras
import numpy as np
import tensorflow as tf

import keras_genmodels as kgm

# Means and variances of the two classes of data, and of "no label".
MEANS = np.array([[2.0, 0.0, -1.0], [-2.0, 1.0, 0.5], [0.0, 0.5, -0.25]])


VARIANCES = np.array([[1.0, 0.2, 0.5], [0.1, 0.6, 0.3], [3.0, 1.0, 1.0]])


RANGE = (0.05, 5.0)


NO_LABEL = 2


WALK = {"num_steps": 12, "jit_compile": False}


def exact(x, sigma, label):
    """Returns E[clean | x] of the Gaussian data of a class."""
    mean = tf.gather(tf.constant(MEANS, x.dtype), label)
    variance = tf.gather(tf.constant(VARIANCES, x.dtype), label)
    total = variance + sigma[:, None] ** 2
    return mean + variance / total * (x - mean)


class ExactNetwork(keras.Model):
    """The network with which a model of unit data is the exact denoiser."""

    def __init__(self, sigma):
        super().__init__(autocast=False)
        self.sigma = sigma

    def call(self, inputs):
        scaled, *others = inputs
        label = others[-1]
        if len(others) == 2:
            sigma = tf.exp(4 * others[0])
        else:
            sigma = tf.ones_like(scaled[:, 0]) * self.sigma
        total = (1 + sigma**2)[:, None]
        x = scaled * tf.sqrt(total)
        out = sigma[:, None] / tf.sqrt(total)
        return (exact(x, sigma, label) - x / total) / out


def make_exact(label_dropout=0.1, sigma=RANGE):
    """Returns a model with mean 0 and variance 1, and an exact D."""
    model = kgm.DenoisingAutoencoder(
        ExactNetwork(sigma),
        sigma=sigma,
        event_shape=(3,),
        num_classes=2,
        label_dropout=label_dropout,
    )
    model.adapt(np.array([[-1.0] * 3, [1.0] * 3]))
    return model


def events(n=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)) * 2


def tiny(label_dropout=0.5, sigma=(0.1, 1.0), **settings):
    keras.utils.set_random_seed(1)
    noise_conditional = np.ndim(sigma) == 1 and not settings.get("blind")
    network = kgm.mlp_denoiser(
        (3,),
        noise_conditional=noise_conditional,
        num_classes=2,
        hidden_sizes=(4,),
    )
    rng = np.random.default_rng(2)
    for weight in network.weights:
        weight.assign(weight + 0.3 * rng.standard_normal(weight.shape))
    model = kgm.DenoisingAutoencoder(
        network,
        sigma=sigma,
        num_classes=2,
        label_dropout=label_dropout,
        **settings,
    )
    model.adapt(events())
    return model
