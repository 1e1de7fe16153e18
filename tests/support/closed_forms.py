"""Denoisers whose attractors have a closed form."""

import numpy as np
import tensorflow as tf

A = np.array([0.9, 1.2])
SIGMA = 1.0


def two_points(x, sigma):
    """The exact denoiser of the two points -A and A."""
    along = tf.linalg.matvec(x, tf.constant(A)) / tf.square(sigma)
    return tf.tanh(along)[:, None] * A


def scale_of_fixed_point(sigma=SIGMA):
    """Returns c > 0 such that c A is a fixed point."""
    c = 1.0
    for _ in range(1000):
        c = np.tanh(c * A @ A / sigma**2)
    return c


def linear(matrix):
    """The denoiser x -> matrix x, on events of any shape."""

    def denoise(x, sigma):
        flat = tf.reshape(x, (-1, len(matrix)))
        y = tf.matmul(flat, tf.constant(matrix, x.dtype), transpose_b=True)
        return tf.reshape(y, tf.shape(x))

    return denoise


def adapted(denoiser, data):
    denoiser.adapt(data)
    return denoiser


def small_images(n, seed=0, shape=(4, 4, 1)):
    return np.random.default_rng(seed).random((n, *shape)).astype("float32")


STORED = small_images(20)
