"""Emulates, on a CPU, a device that multiplies float32 matrices in TF32."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import precision
from keras_genmodels.denoisers import (
    _posterior_mean,
    _shared_events,
    empirical,
)


class Switch:
    """Turns TF32 on and off; programs read it whenever they run."""

    def __init__(self):
        self.is_on = False

    def read(self):
        """Returns `is_on` when a program runs, a bool scalar."""
        # No variable: `tf.custom_gradient` would want its gradient.
        found = tf.numpy_function(lambda: np.array(self.is_on), [], tf.bool)
        return tf.ensure_shape(found, [])


def cut(x):
    """Cuts float32 values to the 11 bits of TF32."""
    bits = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), -(2**13))
    return tf.bitcast(bits, tf.float32)


def emulate_products(monkeypatch, is_on=lambda: True):
    """Makes `tf.matmul` cut factors.

    Args:
        monkeypatch: pytest's.
        is_on: function that returns whether it does, a bool scalar.
    """
    matmul = tf.matmul

    def short_matmul(a, b, **settings):
        if a.dtype == tf.float32:
            a, b = (tf.where(is_on(), cut(it), it) for it in (a, b))
        return matmul(a, b, **settings)

    monkeypatch.setattr(tf, "matmul", short_matmul)


def emulate_device(monkeypatch, is_on):
    """Makes `tf.matmul` cut factors, and programs know that it may.

    Args:
        monkeypatch, is_on: as of `emulate_products`.
    """
    emulate_products(monkeypatch, is_on)
    for module in (precision, _posterior_mean, _shared_events, empirical):
        monkeypatch.setattr(module, "splits_factors", is_on)
