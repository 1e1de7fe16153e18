"""Seeded noise."""

import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.events import as_floating, as_sigma, per_event


def gaussian(x, sigma, *, seed):
    """Returns x with Gaussian noise, x + sigma eps.

    Args:
        x: floating tensor or array `[batch, ...]`.
        sigma: standard deviation of the noise, > 0: scalar or `[batch]`.
        seed: int, int32 `[2]` or `[batch, 2]`; row i depends on the i-th row
            seed alone.

    Returns:
        tensor like `x`; not clipped.

    Raises:
        ValueError: for x of integer type, and for a sigma of another shape or
            not > 0.
    """
    x = as_floating(x)
    rows = seeds.row_seeds(seed, tf.shape(x)[0])
    eps = seeds.normal(rows, x.shape[1:], x.dtype)
    return x + per_event(as_sigma(sigma, x), x) * eps
