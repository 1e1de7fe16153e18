"""The exact denoiser, and its formula computed densely in float64."""

import numpy as np
import tensorflow as tf

from keras_genmodels.denoisers import (
    EmpiricalDenoiser,
)

LEVELS = [1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 1e4]


def adapted(data):
    denoiser = EmpiricalDenoiser()
    denoiser.adapt(data)
    return denoiser


def flat(x):
    return np.reshape(x, (len(x), -1)).astype(np.float64)


def dense(data, x, sigma):
    """Returns P(x_i|x) `[batch, N]` and D(x) `[batch, M]`."""
    data = flat(data) / (255 if data.dtype == np.uint8 else 1)
    squares = np.square(flat(x)[:, None] - data).sum(-1)
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), len(x))
    logits = -squares / (2 * sigma[:, None] ** 2)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return weights, weights @ data


def noisy_like(data, sigma, n=6, dtype="float32"):
    """Returns the last events with noise, which are not in the data."""
    rng = np.random.default_rng(0)
    clean = data[-n:] / (255 if data.dtype == np.uint8 else 1)
    return (clean + sigma * rng.standard_normal(clean.shape)).astype(dtype)


# The error of float32 is bounded by 0.003 times the distance of the events from
# D, and is far smaller in practice.
TOLERANCE = 1e-4


def crowd(size):
    """Returns data with hundreds of neighbours within a small sigma."""
    rng = np.random.default_rng(0)
    return rng.random((20000, size)).astype("float32") + 3


def derivative(denoise, x, sigma, vectors):
    """Returns D, J' v and v' dD/dsigma, by reverse mode."""
    x, sigma, vectors = map(tf.convert_to_tensor, (x, sigma, vectors))
    with tf.GradientTape() as tape:
        tape.watch([x, sigma])
        denoised = denoise(x, sigma)
    return denoised, *tape.gradient(denoised, [x, sigma], vectors)
