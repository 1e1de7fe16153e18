"""The distribution p_sigma of noisy data x + sigma eps.

Generating starts with a draw from it. An object for it has an `event_shape`
and two methods, `draw(rows)` and `log_prob(x)`, like `NoisyGaussian`.
"""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core import counter_rng
from keras_genmodels.core.events import is_any_size
from keras_genmodels.core.validation import check


def noisy_data_of(denoiser, sigma, shape):
    """Returns p_sigma of the data of a denoiser.

    Args:
        denoiser: an object with `noisy_data(sigma)`, or at least a
            `data_mean`, about which the data are then taken to be constant.
        sigma: noise level, > 0, scalar or `[batch]`.
        shape: shape of one event; only used for images of any size.

    Raises:
        ValueError: if it has neither.
    """
    if is_any_size(getattr(denoiser, "event_shape", None)):
        return denoiser.noisy_data(sigma, shape)
    if hasattr(denoiser, "noisy_data"):
        return denoiser.noisy_data(sigma)
    mean = getattr(denoiser, "data_mean", None)
    check(
        mean is not None,
        "this denoiser has neither noisy_data nor data_mean to start from: "
        "pass initial",
    )
    return NoisyGaussian(mean, sigma)


class NoisyGaussian:
    """p_sigma of Gaussian data: N(m, S + sigma^2 I).

    S = V diag(lambda) V' + v (I - V V') has k axes V of variances lambda, and
    the variance v in all other directions.

    Args:
        mean: float tensor `[*event_shape]`, m.
        sigma: noise level, > 0, scalar or `[batch]`.
        variances: float `[k]`, lambda >= 0; None for k = 0.
        axes: float `[M, k]`, orthonormal columns V; None for k = 0.
        remainder: float >= 0, v.
    """

    def __init__(self, mean, sigma, variances=None, axes=None, remainder=0.0):
        self.mean = tf.convert_to_tensor(mean)
        self.sigma = sigma
        self.variances = variances
        self.axes = axes
        self.remainder = remainder

    @property
    def event_shape(self):
        """Shape of one event."""
        return self.mean.shape

    def draw(self, rows):
        """Draws noisy events.

        Args:
            rows: int32 tensor `[batch, 2]`, a seed for each.

        Returns:
            float tensor `[batch, *event_shape]`, row i from seed i alone.
        """
        return self.transform(
            start_noise(rows, self.event_shape, self.mean.dtype)
        )

    def transform(self, eps):
        """Returns the noisy events that belong to standard normal noise.

        Args:
            eps: float tensor `[batch, M]`.

        Returns:
            float tensor `[batch, *event_shape]`.
        """
        dtype = self.mean.dtype
        eps = tf.cast(eps, dtype)
        along_axes, elsewhere = map(tf.sqrt, self._variances(dtype))
        x = elsewhere * eps
        if self.axes is not None:
            axes = tf.cast(self.axes, dtype)
            along = (along_axes - elsewhere) * tf.matmul(eps, axes)
            x += tf.matmul(along, axes, transpose_b=True)
        return self.mean + tf.reshape(x, (-1, *self.event_shape))

    def log_prob(self, x):
        """Returns log p_sigma(x) in nats, float64 `[batch]`.

        Args:
            x: float tensor `[batch, *event_shape]`.
        """
        mean = tf.cast(self.mean, tf.float64)
        rest = flat(tf.cast(x, tf.float64) - mean)
        size = rest.shape[1]
        along_axes, elsewhere = self._variances(tf.float64)
        log_det, distance, num_axes = 0.0, 0.0, 0
        if self.axes is not None:
            axes = tf.cast(self.axes, tf.float64)
            num_axes = axes.shape[1]
            along = tf.matmul(rest, axes)
            rest -= tf.matmul(along, axes, transpose_b=True)
            log_det = tf.reduce_sum(tf.math.log(along_axes), axis=1)
            distance = tf.reduce_sum(along**2 / along_axes, axis=1)
        log_det += (size - num_axes) * tf.math.log(elsewhere[:, 0])
        distance += tf.reduce_sum(rest**2 / elsewhere, axis=1)
        return -0.5 * (distance + log_det + size * math.log(2 * math.pi))

    def _variances(self, dtype):
        """Returns those along the axes, `[1 or batch, k]`, and elsewhere."""
        noise = squared_level(self.sigma, dtype)
        elsewhere = _as_tensor(self.remainder, dtype) + noise
        if self.variances is None:
            return elsewhere, elsewhere
        return tf.cast(self.variances, dtype) + noise, elsewhere


def squared_level(sigma, dtype):
    """Returns sigma^2, `[1, 1]` for a scalar and `[batch, 1]` for `[batch]`."""
    return tf.reshape(_as_tensor(sigma, dtype), (-1, 1)) ** 2


def _as_tensor(value, dtype):
    if isinstance(value, float | int):
        # TensorFlow would convert Python's floats to float32 first.
        value = np.float64(value)
    return tf.cast(value, dtype)


def start_noise(rows, event_shape, dtype):
    """Draws standard normals `[batch, M]`, those of number 0 of each seed."""
    numbers = tf.zeros_like(rows[:, 0])
    size = math.prod(event_shape)
    return counter_rng.normals(rows, numbers, size, dtype)


def flat(x):
    """Returns events as `[batch, M]`."""
    return tf.reshape(x, (-1, math.prod(x.shape[1:])))
