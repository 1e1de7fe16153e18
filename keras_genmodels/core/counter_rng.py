"""The generator of all draws that belong to one row of a batch.

A draw is a formula of the seed of its row, a number and a place: Threefry
encrypts the pair of number and place with the seed as key. So it depends
neither on the batch around the row nor on the order of the draws, its bits are
the same with and without XLA, and XLA fuses the draws of all rows into one
loop. Eager calls encrypt in NumPy, where an operation costs a microsecond
instead of a hundred; the bits are the same.

Numbers below 2**31 count the vectors of `normals`. Each other kind of draw has
a number of its own above them, and is therefore independent of the others of
the same seed.
"""

import functools
import math

import numpy as np
import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
# Numbers of the kinds of draws; results for a seed depend on them.
_INTEGERS = np.uint32(2**32 - 1)
_NOISE = np.uint32(2**32 - 2)
_UNIFORM = np.uint32(2**32 - 3)
FOLDED = np.uint32(2**32 - 4)
ROWS = np.uint32(2**32 - 5)
CONTENT = np.uint32(2**32 - 6)
# Numbers that TensorFlow computes at a time on a CPU, at most; it rounds those
# that are left over differently.
_GROUP = 16
# Counters that NumPy encrypts at a time, so that they stay in the cache.
_BLOCK = 2**14
# Significant bits.
_PRECISION = {tf.float32: 24, tf.float16: 11, tf.bfloat16: 8}


def normals(rows, numbers, size, dtype):
    """Draws vectors of standard normals by their number.

    Args:
        rows: int32 tensor `[batch, 2]`, a seed per row.
        numbers: int32 tensor `[..., batch]`, >= 0, numbers of the draws.
        size: int, or in a graph an int32 scalar tensor, length of the vector
            of a draw.
        dtype: a float dtype; the 16-bit ones are rounded float32.

    Returns:
        tensor `[..., batch, size]`. A value depends on the seed of its row, on
        the number of the draw and on its place in the vector.
    """
    return _normals(rows, _unsigned(numbers), size, dtype)


def noise(rows, size, dtype):
    """Draws one vector of standard normals for each row.

    Args:
        rows, size, dtype: as of `normals`.

    Returns:
        tensor `[batch, size]`, independent of the `normals` of these seeds.
    """
    return _normals(rows, _NOISE, size, dtype)


def uniform(rows, dtype):
    """Draws a number in [0, 1) for each row.

    Args:
        rows: int32 tensor `[batch, 2]`, a seed per row.
        dtype: a float dtype.

    Returns:
        tensor `[batch]`, multiples of 2**-53 for float64, else of 2 to the
        minus number of significant bits of the dtype.
    """
    dtype = tf.as_dtype(dtype)
    high, low = words(rows, _UNIFORM, 0)
    if dtype == tf.float64:
        low = tf.cast(tf.bitwise.right_shift(low, np.uint32(11)), dtype)
        return tf.cast(high, dtype) * 2.0**-32 + low * 2.0**-53
    bits = _PRECISION[dtype]
    high = tf.bitwise.right_shift(high, np.uint32(32 - bits))
    return tf.cast(high, dtype) * 2.0**-bits


def integers(rows, count):
    """Draws a number in [0, count) for each row.

    Args:
        rows: int32 tensor `[batch, 2]`, a seed per row.
        count: int, at most 2**31 - 1.

    Returns:
        int32 tensor `[batch]`, independent of the other draws of these seeds.
    """
    high, low = words(rows, _INTEGERS, 0)
    high, low = tf.cast(high, tf.float64), tf.cast(low, tf.float64)
    fraction = high * 2.0**-32 + low * 2.0**-64
    # Rounding may reach 1.
    return tf.minimum(tf.cast(fraction * count, tf.int32), count - 1)


def derive(rows, kind, places):
    """Derives seeds: `words` as int32 tensor `[batch, 2]`.

    Args:
        rows, kind, places: as of `words`. For one seed, different places give
            different seeds.
    """
    return tf.bitcast(tf.stack(words(rows, kind, places), -1), tf.int32)


def words(rows, kind, places):
    """Draws 64 bits of one kind for each row, or for each place.

    Args:
        rows: int32 tensor `[2]` or `[batch, 2]`, seeds.
        kind: uint32, `FOLDED`, `ROWS` or `CONTENT`, or another >= 2**31.
        places: integer, or integer tensor `[batch]`; modulo 2**32.

    Returns:
        two uint32 tensors or, if eager, arrays `[batch]`.
    """
    return threefry(_keys(rows), (kind, _unsigned(places)))


def _normals(rows, numbers, size, dtype):
    """Draws `normals` of uint32 numbers `[..., batch]` or `[]`."""
    dtype = tf.as_dtype(dtype)
    if dtype.size == 2:
        return tf.cast(_normals(rows, numbers, size, tf.float32), dtype)
    keys = [key[:, tf.newaxis] for key in _keys(rows)]
    # Whole groups, so that a row has the same bits in any batch.
    places = _range(size + -size % _GROUP)
    high, low = threefry(keys, (numbers[..., tf.newaxis], places))
    # Midpoints of equal intervals of (-1, 1), as many as the dtype resolves.
    if dtype == tf.float64:
        low = tf.cast(tf.bitwise.right_shift(low, np.uint32(12)), dtype) + 0.5
        middle = tf.cast(high, dtype) * 2.0**-31 + low * 2.0**-51 - 1
    else:
        high = tf.bitwise.right_shift(high, np.uint32(9))
        middle = (tf.cast(high, dtype) + 0.5) * 2.0**-22 - 1
    return math.sqrt(2) * tf.math.erfinv(middle)[..., :size]


def _range(count):
    """Returns the numbers below a count as uint32: an array unless a tensor."""
    if tf.is_tensor(count):
        return tf.cast(tf.range(count), tf.uint32)
    return np.arange(count, dtype=np.uint32)


def _keys(rows):
    """Returns the two words of each seed, as of `_unsigned`."""
    if tf.executing_eagerly():
        return np.moveaxis(_unsigned(rows), -1, 0)
    return tf.unstack(tf.bitcast(rows, tf.uint32), axis=-1)


def _unsigned(values):
    """Returns integers as uint32, modulo 2**32: an array if eager."""
    if tf.executing_eagerly():
        return np.asarray(values).astype(np.uint32)
    return tf.cast(values, tf.uint32)


def threefry(key, counter):
    """Encrypts a counter with a key: Threefry-2x32 of 20 rounds.

    Args:
        key: two uint32 tensors or arrays.
        counter: two uint32 tensors or arrays; their shapes and those of the key
            are broadcast.

    Returns:
        two uint32 tensors, 64 random bits for each counter; arrays if all
        arguments are arrays.

    #### References

    Salmon, Moraes, Dror and Shaw (2011), Parallel random numbers: as easy as
    1, 2, 3, SC11 (Threefry-2x32).
    """
    words = (*key, *counter)
    if any(map(tf.is_tensor, words)):
        return _encrypted_in_graph(*words)
    shape = np.broadcast_shapes(*map(np.shape, words))
    # Single values are not repeated: a picture has many places.
    words = [
        np.reshape(word, 1)
        if np.size(word) == 1
        else np.broadcast_to(word, shape).ravel()
        for word in words
    ]
    result = np.empty((2, math.prod(shape)), np.uint32)
    for i in range(0, result.shape[1], _BLOCK):
        block = slice(i, i + _BLOCK)
        result[:, block] = _encrypted(
            *(word if word.size == 1 else word[block] for word in words)
        )
    return tuple(result.reshape(2, *shape))


def _encrypted_in_graph(*words):
    """Calls `_encrypted` as one operation, with a known shape."""
    words = [tf.convert_to_tensor(word, tf.uint32) for word in words]
    shapes = [word.shape for word in words]
    shape = functools.reduce(tf.broadcast_static_shape, shapes)
    results = _traced(*words)
    for result in results:
        result.set_shape(shape)
    return results


# Traced once, as building so many operations for each draw takes long.
@tf.function(input_signature=4 * [tf.TensorSpec(None, tf.uint32)])
def _traced(key, other_key, a, b):
    # The product is even, which compilers do not know. LLVM would take seconds
    # for the sums if it saw that `b` counts the steps of a loop.
    zero = key * (key + np.uint32(1)) & np.uint32(1)
    return _encrypted(key, other_key, a, b ^ zero)


def _encrypted(key, other_key, a, b):
    """Applies the 20 rounds of `threefry` to the counters `a` and `b`."""
    keys = (key, other_key, key ^ other_key ^ _PARITY)
    a, b = keys[0] + a, keys[1] + b
    for step in range(1, 6):
        for bits in _ROTATIONS[(step - 1) % 2]:
            a = a + b
            b = a ^ _rotated(b, bits)
        a = a + keys[step % 3]
        b = b + (keys[(step + 1) % 3] + np.uint32(step))
    return a, b


def _rotated(x, bits):
    shift = tf.bitwise if tf.is_tensor(x) else np
    left = shift.left_shift(x, np.uint32(bits))
    return left | shift.right_shift(x, np.uint32(32 - bits))
