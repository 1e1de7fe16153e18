"""Explicit randomness: every draw is a function of a seed that is passed in.

A seed is an int32 tensor `[2]`; a Python int `n` stands for `[0, n]`. Draws for
the rows of a batch use one seed per row, so that they depend neither on the
batch size nor on the position of the row.
"""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import replicas

_INT32_MAX = 2**31 - 1


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
        data: integer, the same for all rows.

    Returns:
        int32 tensor like `seed`.
    """
    if seed.shape.rank == 2:
        return seed if _is_empty(seed) else _by_rows(_fold_each, seed, data)
    return tf.random.experimental.stateless_fold_in(seed, data)


def row_seeds(seed, num_rows, first_row=0):
    """Returns one seed per row.

    Args:
        seed: as in `as_seed`. A single seed is folded with the index of each
            row; a seed per row is returned as it is.
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
        rows = tf.cast(rows, tf.int32)
        return (
            tf.zeros((0, 2), tf.int32)
            if _is_empty(rows)
            else _by_rows(_fold_rows, rows, seed)
        )
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
    if _is_empty(seeds):
        return tf.zeros((0, *shape), dtype)
    return _by_rows(_normal_rows, seeds, tuple(shape), dtype)


def uniform(seeds, dtype="float32"):
    """Draws one number in [0, 1) per row, row i from seed i alone.

    Args:
        seeds: int32 tensor `[batch, 2]`.
        dtype: dtype of the draw.

    Returns:
        tensor `[batch]`.
    """
    return (
        tf.zeros((0,), dtype)
        if _is_empty(seeds)
        else _by_rows(_uniform_rows, seeds, dtype)
    )


def _is_empty(rows):
    """Returns whether there are no rows, which `vectorized_map` refuses."""
    return rows.shape[0] == 0


def _by_rows(function, rows, *args):
    """Calls a function of rows, also if a replica has none in a graph."""
    if rows.shape[0] is not None or replicas.count() == 1:
        return function(rows, *args)
    # `vectorized_map` refuses an empty batch.
    one_more = tf.pad(rows, [[0, 1]] + [[0, 0]] * (rows.shape.rank - 1))
    return function(one_more, *args)[:-1]


# In functions, as `vectorized_map` would trace at every eager call.
@tf.function(reduce_retracing=True, autograph=False)
def _fold_rows(rows, seed):
    return tf.vectorized_map(lambda row: fold_in(seed, row), rows, warn=False)


@tf.function(reduce_retracing=True, autograph=False)
def _fold_each(rows, data):
    return tf.vectorized_map(lambda row: fold_in(row, data), rows, warn=False)


@tf.function(reduce_retracing=True, autograph=False)
def _normal_rows(seeds, shape, dtype):
    return tf.vectorized_map(
        lambda seed: tf.random.stateless_normal(shape, seed, dtype=dtype),
        seeds,
        warn=False,
    )


@tf.function(reduce_retracing=True, autograph=False)
def _uniform_rows(seeds, dtype):
    return tf.vectorized_map(
        lambda seed: tf.random.stateless_uniform((), seed, dtype=dtype),
        seeds,
        warn=False,
    )


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
    weights = tf.random.stateless_uniform(
        (tf.shape(bits)[1], 2), as_seed(seed), None, None, tf.int32
    )
    weights = tf.bitwise.bitwise_or(weights, 1)
    return tf.reduce_sum(bits[:, :, tf.newaxis] * weights, axis=1)
