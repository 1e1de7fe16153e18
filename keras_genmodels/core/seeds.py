"""Explicit randomness: every draw is a function of a seed that is passed in.

A seed is an int32 tensor `[2]`; a Python int `n` stands for `[0, n]`. Draws for
the rows of a batch use one seed per row, so that they depend neither on the
batch size nor on the position of the row.
"""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core import counter_rng

_INT32_MAX = 2**31 - 1
# TensorFlow's number of the generator that `philox` places.
PHILOX = 1


def as_seed(seed):
    """Converts a seed to a tensor.

    Args:
        seed: int in [0, 2**31), or an integer tensor or array `[2]` (one seed)
            or `[batch, 2]` (one per row).

    Returns:
        int32 tensor `[2]` or `[batch, 2]`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        if not 0 <= seed <= _INT32_MAX:
            raise ValueError(f"seed must be in [0, 2**31), got {seed}")
        return tf.constant([0, int(seed)], tf.int32)
    if seed is None or isinstance(seed, (bool, float)):
        raise ValueError(
            f"seed must be an int or an int32 [2] or [batch, 2], got {seed!r}"
        )
    seed = tf.convert_to_tensor(seed)
    if not seed.dtype.is_integer:
        raise ValueError(f"seed must be of integer type, got {seed.dtype.name}")
    values = tf.get_static_value(seed)
    if values is not None and not np.array_equal(values.astype("i4"), values):
        raise ValueError(f"seed must be in int32, got {values}")
    seed = tf.cast(seed, tf.int32)
    if seed.shape.rank == 0:
        return tf.stack([tf.zeros_like(seed), seed])
    if seed.shape.rank not in (1, 2) or seed.shape[-1] != 2:
        raise ValueError(
            f"seed must be an int or int32 [2] or [batch, 2], got {seed.shape}"
        )
    return seed


def fold_in(seed, data):
    """Derives new seeds.

    Args:
        seed: int32 tensor `[2]` or `[batch, 2]`.
        data: integer or integer scalar tensor, the same for all rows.

    Returns:
        int32 tensor like `seed`. A single seed, as of a training, is folded by
        TensorFlow; the seeds of rows by `counter_rng`.
    """
    if seed.shape.rank == 2:
        return counter_rng.derive(seed, counter_rng.FOLDED, data)
    return tf.random.experimental.stateless_fold_in(seed, data)


def philox(seed, num_skipped):
    """Returns where TensorFlow's generator is after some of its numbers.

    Args:
        seed: int32 tensor `[2]`.
        num_skipped: int or integer scalar tensor, values of the counter that
            are skipped. Each makes 128 bits.

    Returns:
        dict of the arguments `key` and `counter` of a stateless `tf.raw_ops`.
    """
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    skipped = tf.stack(
        [tf.cast(num_skipped, tf.uint64), tf.zeros((), "uint64")]
    )
    return {"key": key, "counter": counter + skipped}


def row_seeds(seed, num_rows, first_row=0):
    """Returns one seed per row.

    Args:
        seed: as in `as_seed`. From a single seed and the index of a row its
            seed is derived; a seed per row is returned as it is.
        num_rows: int or int32 scalar tensor.
        first_row: index of the first row, for rows that come in parts.

    Returns:
        int32 tensor `[num_rows, 2]`.

    Raises:
        ValueError: if `seed` has a row count other than `num_rows`.
    """
    seed = as_seed(seed)
    if seed.shape.rank == 1:
        rows = tf.range(first_row, first_row + num_rows)
        return counter_rng.derive(seed, counter_rng.ROWS, rows)
    given, asked = seed.shape[0], tf.get_static_value(num_rows)
    if None not in (given, asked) and given != asked:
        raise ValueError(f"got {given} row seeds for {asked} rows")
    return seed


def normal(seeds, shape, dtype="float32"):
    """Draws standard normal numbers, row i from seed i alone.

    Args:
        seeds: int32 tensor `[batch, 2]`.
        shape: shape of one row.
        dtype: dtype of the draw.

    Returns:
        tensor `[batch, *shape]`.
    """
    shape = [int(side) for side in shape]
    draws = counter_rng.noise(seeds, math.prod(shape), dtype)
    return tf.reshape(draws, (tf.shape(seeds)[0], *shape))


def uniform(seeds, dtype="float32"):
    """Draws one number in [0, 1) per row, row i from seed i alone.

    Args:
        seeds: int32 tensor `[batch, 2]`.
        dtype: dtype of the draw.

    Returns:
        tensor `[batch]`.
    """
    return counter_rng.uniform(seeds, dtype)


def content_seeds(seed, x):
    """Returns for each row of `x` a seed that depends on its values alone.

    For Keras' `evaluate` and `predict`, which do not know the index of a row:
    the draw for an example depends neither on the batch size nor on the order.
    The bits of the values are summed with random odd weights, modulo 2**32.

    Args:
        seed: one seed, as in `as_seed`.
        x: float tensor `[batch, ...]`.

    Returns:
        int32 tensor `[batch, 2]`.
    """
    bits = tf.bitcast(tf.cast(x, tf.float32), tf.int32)
    bits = tf.reshape(bits, (tf.shape(bits)[0], -1))
    # The set bits of 1.0 are the highest, which a product would shift out.
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, 23))
    places = tf.range(tf.shape(bits)[1])
    weights = counter_rng.derive(as_seed(seed), counter_rng.CONTENT, places)
    weights = tf.bitwise.bitwise_or(weights, 1)
    return tf.reduce_sum(bits[:, :, tf.newaxis] * weights, axis=1)
