"""A counter-based generator: the j-th draw of each row, for any j.

`seeds.normal` draws all numbers of a row at once, and they differ with and
without XLA. These are a formula of (seed, j): they are the same with XLA,
which fuses them into one loop, and each costs the same.
"""

import math

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def normals(rows, numbers, size, dtype):
    """Draws vectors of standard normals by their index.

    Args:
        rows: int32 tensor `[batch, 2]`, a seed per row.
        numbers: int32 tensor `[..., batch]`, >= 0, indices of the draws.
        size: int, length of the vector of a draw.
        dtype: float32 or float64.

    Returns:
        tensor `[..., batch, size]`. A value depends on the seed of its row, on
        the index of the draw and on its index in the vector.
    """
    keys = tf.unstack(tf.bitcast(rows, tf.uint32)[:, tf.newaxis], axis=-1)
    numbers = tf.cast(numbers, tf.uint32)[..., tf.newaxis]
    places = tf.cast(tf.range(size), tf.uint32)
    places, numbers = places + 0 * numbers, numbers + 0 * places
    high, low = threefry(keys, (numbers, places))
    # Midpoints of equal intervals of (-1, 1), as many as the dtype resolves.
    if dtype == tf.float64:
        low = tf.cast(tf.bitwise.right_shift(low, _word(12)), dtype) + 0.5
        uniform = tf.cast(high, dtype) * 2.0**-31 + low * 2.0**-51 - 1
    else:
        high = tf.bitwise.right_shift(high, _word(9))
        uniform = (tf.cast(high, dtype) + 0.5) * 2.0**-22 - 1
    return math.sqrt(2) * tf.math.erfinv(uniform)


def integers(rows, count):
    """Draws a number in [0, count) for each row.

    Args:
        rows: int32 tensor `[batch, 2]`, a seed per row.
        count: int, at most 2**31 - 1.

    Returns:
        int32 tensor `[batch]`, independent of the `normals` of these seeds.
    """
    keys = tf.unstack(tf.bitcast(rows, tf.uint32), axis=-1)
    zero = tf.zeros_like(keys[0])
    # The last place, which no vector of normals reaches.
    high, low = threefry(keys, (zero + _word(2**32 - 1), zero))
    high, low = tf.cast(high, tf.float64), tf.cast(low, tf.float64)
    uniform = high * 2.0**-32 + low * 2.0**-64
    # Rounding may reach 1.
    return tf.minimum(tf.cast(uniform * count, tf.int32), count - 1)


def threefry(key, counter):
    """Encrypts a counter with a key: Threefry-2x32 of 20 rounds.

    Args:
        key: two uint32 tensors.
        counter: two uint32 tensors of one shape.

    Returns:
        two uint32 tensors, 64 random bits for each counter.

    #### References

    Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as
    1, 2, 3, SC11 (Threefry-2x32).
    """
    last = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(*key), _word(_PARITY))
    keys = (*key, last)
    a, b = counter[0] + keys[0], counter[1] + keys[1]
    for step in range(1, 6):
        for bits in _ROTATIONS[(step - 1) % 2]:
            a += b
            b = tf.bitwise.bitwise_xor(a, _rotate(b, bits))
        a += keys[step % 3]
        b += keys[(step + 1) % 3] + _word(step)
    return a, b


def _rotate(x, bits):
    return tf.bitwise.bitwise_or(
        tf.bitwise.left_shift(x, _word(bits)),
        tf.bitwise.right_shift(x, _word(32 - bits)),
    )


def _word(value):
    return tf.constant(value, tf.uint32)
