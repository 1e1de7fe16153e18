"""Small denoising autoencoders, and events for them."""

import keras
import numpy as np
import pytest

import keras_genmodels as kgm

SHAPE = (3, 2)
RANGE = (0.05, 1.5)
MEAN = np.array([[0.2, 3.0], [-1.0, 0.5], [0.0, 8.0]])
STDDEV = np.array([[0.5, 2.0], [1.0, 0.1], [0.3, 0.7]])


def events(n=40, seed=0):
    noise = np.random.default_rng(seed).standard_normal((n, *SHAPE))
    dtype = keras.config.dtype_policy().variable_dtype
    return (MEAN + STDDEV * noise).astype(dtype)


def make_network(noise_conditional):
    return kgm.mlp_denoiser(
        SHAPE, noise_conditional=noise_conditional, hidden_sizes=(8,)
    )


def make_dae(sigma=RANGE, blind=False, adapted=True, **kwargs):
    """Returns a model with fixed weights whose network is not constant 0."""
    keras.utils.set_random_seed(0)
    network = make_network(not blind and np.ndim(sigma) == 1)
    rng = np.random.default_rng(3)
    for weight in network.weights:
        weight.assign(weight + 0.3 * rng.standard_normal(weight.shape))
    model = kgm.DenoisingAutoencoder(
        network, sigma=sigma, blind=blind, **kwargs
    )
    if adapted:
        model.adapt(events())
    return model


def compile_eagerly(model, optimizer="sgd"):
    """Compiles for a few steps, which a trace would take longer than."""
    model.compile(optimizer, run_eagerly=True)


KINDS = {
    "range": {},
    "single": {"sigma": 0.3},
    "blind": {"blind": True},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
# Of those that draw levels, and those that do not.
two_kinds = pytest.mark.parametrize(
    "kind",
    [
        {},
        pytest.param({"sigma": 0.3}, marks=pytest.mark.slow),
        pytest.param({"blind": True}, marks=pytest.mark.exhaustive),
    ],
    ids=KINDS,
)


class Spy(keras.Model):
    """Applies a network and records its last inputs and outputs."""

    def __init__(self, network):
        super().__init__(autocast=False)
        self.network = network
        self.inputs = self.outputs = None

    def call(self, inputs):
        self.inputs, self.outputs = inputs, self.network(inputs)
        return self.outputs


def covariance_of(noisy):
    axes, variances = np.asarray(noisy.axes), np.asarray(noisy.variances)
    elsewhere = np.eye(len(axes)) - axes @ axes.T
    return (axes * variances) @ axes.T + noisy.remainder * elsewhere
