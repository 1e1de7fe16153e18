"""The distribution of noisy versions of a finite set of events."""

import math

import tensorflow as tf

from keras_genmodels.core import counter_rng
from keras_genmodels.sampling.noisy_data import (
    flat,
    squared_level,
    start_noise,
)


class NoisyMixture:
    """p_sigma of a finite set: the mean of N(x_i, sigma^2 I) over i.

    Args:
        events: `EventSet`, x_1 ... x_N.
        event_shape: shape of one event.
        sigma: noise level, > 0, scalar or `[batch]`.
        dtype: float dtype of the draws.
    """

    def __init__(self, events, event_shape, sigma, dtype):
        self.events = events
        self.event_shape = tf.TensorShape(event_shape)
        self.sigma = sigma
        self.dtype = dtype

    def draw(self, rows):
        """Draws x_i + sigma eps, each i with probability 1/N.

        Args:
            rows: int32 tensor `[batch, 2]`, a seed for each.

        Returns:
            float tensor `[batch, *event_shape]`, row i from seed i alone.
        """
        indices = counter_rng.integers(rows, self.events.size)
        clean = self.events.values(indices, self.dtype)
        level = tf.sqrt(squared_level(self.sigma, self.dtype))
        x = clean + level * start_noise(rows, self.event_shape, self.dtype)
        return tf.reshape(x, (-1, *self.event_shape))

    def log_prob(self, x):
        """Returns log p_sigma(x) in nats, float64 `[batch]`.

        Args:
            x: float tensor `[batch, *event_shape]`.
        """
        x = flat(tf.cast(x, tf.float64))
        squares = squared_level(self.sigma, tf.float64)[:, 0]
        squares = tf.broadcast_to(squares, tf.shape(x)[:1])
        query = self.events.query(x, tf.sqrt(squares), tf.float64, False)
        found = self.events.sums(query, 1, average=False)
        centred = x - tf.cast(self.events.mean, tf.float64)
        log_sum = found.peak + tf.math.log(found.total)
        log_sum -= tf.reduce_sum(centred**2, axis=1) / (2 * squares)
        constant = tf.math.log(2 * math.pi * squares) * x.shape[1] / 2
        return log_sum - constant - math.log(self.events.size)
