"""Emulates, on a CPU, a device that multiplies float32 matrices in TF32."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import precision
from keras_genmodels.denoisers import (
    _posterior_mean,
    _shared_events,
    empirical,
)

_MATMUL = tf.matmul

# Terms that a tensor core adds at once.
_TERMS = 8


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


def product(a, b):
    """Multiplies matrices `[..., m, k]` and `[..., k, n]` in TF32.

    Factors are cut, and the sum is cut to float32 after every `_TERMS` terms,
    as tensor cores do. Without a gradient.
    """
    length = a.shape[-1]
    padding = -length % _TERMS
    a, b = (tf.cast(cut(it), tf.float64) for it in (a, b))
    a = tf.pad(a, [[0, 0]] * (a.shape.rank - 1) + [[0, padding]])
    b = tf.pad(b, [[0, 0]] * (b.shape.rank - 2) + [[0, padding], [0, 0]])
    total = tf.zeros_like(a[..., :1] * b[..., :1, :], tf.float32)

    def add(first, total):
        left = tf.slice(
            a,
            [0] * (a.shape.rank - 1) + [first],
            [-1] * (a.shape.rank - 1) + [_TERMS],
        )
        right = tf.slice(
            b,
            [0] * (b.shape.rank - 2) + [first, 0],
            [-1] * (b.shape.rank - 2) + [_TERMS, -1],
        )
        exact = tf.cast(total, tf.float64) + _MATMUL(left, right)
        rounded = tf.cast(exact, tf.float32)
        too_large = tf.abs(tf.cast(rounded, tf.float64)) > tf.abs(exact)
        lower = tf.math.nextafter(rounded, tf.zeros_like(rounded))
        return first + _TERMS, tf.where(too_large, lower, rounded)

    _, total = tf.while_loop(
        lambda first, _: first < length,
        add,
        (0, total),
        maximum_iterations=-(-length // _TERMS),
    )
    return total


def emulate_products(monkeypatch, is_on=lambda: True):
    """Makes `tf.matmul` compute `product`.

    Args:
        monkeypatch: pytest's.
        is_on: function that returns whether it does, a bool scalar.
    """

    def matmul(a, b, transpose_a=False, transpose_b=False):
        a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
        a = tf.linalg.matrix_transpose(a) if transpose_a else a
        b = tf.linalg.matrix_transpose(b) if transpose_b else b
        if a.dtype != tf.float32:
            return _MATMUL(a, b)
        return tf.cond(
            tf.convert_to_tensor(is_on()),
            lambda: product(a, b),
            lambda: _MATMUL(a, b),
        )

    monkeypatch.setattr(tf, "matmul", matmul)


def emulate_device(monkeypatch, is_on):
    """Makes `tf.matmul` cut factors, and programs know that it may.

    Args:
        monkeypatch, is_on: as of `emulate_products`.
    """
    emulate_products(monkeypatch, is_on)
    for module in (precision, _posterior_mean, _shared_events, empirical):
        monkeypatch.setattr(module, "splits_factors", is_on)
