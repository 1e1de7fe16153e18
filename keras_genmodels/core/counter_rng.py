"""Standard normals by number: as many as wanted of a row, from any on.

`seeds.normal` draws all of a row at once, and its numbers differ with XLA and
without. These are those of a counter-based generator, which is a formula:
XLA makes one loop of it, and the j-th draw costs the same for every j.
"""

import math

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def normals(rows, numbers, size, dtype):
    """Draws vectors of standard normals by their numbers.

    Args:
        rows: int32 tensor `[batch, 2]`, seeds.
        numbers: int32 tensor `[..., batch]`, >= 0, which draw of each row.
        size: int, how many normals to a draw.
        dtype: float32 or float64.

    Returns:
        tensor `[..., batch, size]`. Each is a function of its row's seed, the
        draw's number and its place in the vector.
    """
    keys = tf.unstack(tf.bitcast(rows, tf.uint32)[:, tf.newaxis], axis=-1)
    numbers = tf.cast(numbers, tf.uint32)[..., tf.newaxis]
    places = tf.cast(tf.range(size), tf.uint32)
    places, numbers = places + 0 * numbers, numbers + 0 * places
    high, low = threefry(keys, (numbers, places))
    # The middles of so many intervals of (-1, 1) as the type can tell apart.
    if dtype == tf.float64:
        low = tf.cast(tf.bitwise.right_shift(low, _word(12)), dtype) + 0.5
        uniform = tf.cast(high, dtype) * 2.0**-31 + low * 2.0**-51 - 1
    else:
        high = tf.bitwise.right_shift(high, _word(9))
        uniform = (tf.cast(high, dtype) + 0.5) * 2.0**-22 - 1
    return math.sqrt(2) * tf.math.erfinv(uniform)


def threefry(key, counter):
    """Scrambles a counter by a key: Threefry-2x32 of 20 rounds.

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
