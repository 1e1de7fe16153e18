"""Arrays of images: uint8 to float, and functions applied in batches."""

import numpy as np
import tensorflow as tf


def as_float(images, dtype=None):
    """Returns images as floats, with uint8 values divided by 255.

    Args:
        images: NumPy array or tensor, uint8 or floating.
        dtype: name of the result's dtype. By default uint8 becomes float32
            and floating images keep their dtype.

    Returns:
        array or tensor like `images`; not always a copy.
    """
    is_uint8 = images.dtype == "uint8"
    if dtype is None:
        dtype = "float32" if is_uint8 else images.dtype
    if tf.is_tensor(images):
        images = tf.cast(images, dtype)
        return images / 255 if is_uint8 else images
    if is_uint8:
        return np.divide(images, 255, dtype=dtype)
    return np.asarray(images, dtype)


def as_cpu_tensor(array):
    """Converts an array to a tensor in main memory, which is one copy."""
    with tf.device("cpu"):
        return tf.convert_to_tensor(_NoCopyArray(array))


class _NoCopyArray:
    """Makes TensorFlow copy an array once, where it copies plain ones twice."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


def map_batches(function, *arrays, batch_size, rows=None):
    """Applies a function to batches of rows and concatenates the results.

    Args:
        function: takes a batch of each of `arrays`; returns an array or
            tensor `[batch, ...]`, or a dict or (named) tuple of such.
        *arrays: arrays or tensors `[n, ...]`, n >= 1. All but the first may
            be None, which is passed on.
        batch_size: int, rows per batch; the last batch may be smaller.
        rows: `range` of the rows to return, at least one; by default all.
            The batches that hold them are the same as for all rows, so that
            the result is that part of the whole result to the last bit.

    Returns:
        arrays `[n, ...]`, or `[len(rows), ...]`, in the structure that
        `function` returns.
    """
    num_rows = len(arrays[0])
    rows = range(num_rows) if rows is None else rows
    computed = rows_of_batches(rows, num_rows, batch_size)
    found = concatenate(
        function(
            *(
                None if array is None else array[start : start + batch_size]
                for array in arrays
            )
        )
        for start in computed[::batch_size]
    )
    return take_rows(found, rows, computed)


def rows_of_batches(rows, num_rows, batch_size):
    """Returns all rows of the batches that hold some rows.

    The same row computed in a batch of another size, or at another place in
    its batch, differs by rounding: parts of a job that are to equal the whole
    to the last bit compute whole batches.

    Args:
        rows: `range`.
        num_rows: int, how many rows there are; the last batch may be smaller.
        batch_size: int.

    Returns:
        `range` that contains `rows`.
    """
    first = rows.start - rows.start % batch_size
    end = rows.stop + -rows.stop % batch_size
    return range(first, min(end, num_rows))


def take_rows(found, rows, computed):
    """Returns some of the rows that were computed.

    Args:
        found: array `[len(computed), ...]`, or a dict or (named) tuple of
            such.
        rows, computed: `range`s of the numbers of rows.

    Returns:
        arrays `[len(rows), ...]` in the structure of `found`.
    """
    if rows == computed:
        return found
    if isinstance(found, dict):
        return {k: take_rows(v, rows, computed) for k, v in found.items()}
    if isinstance(found, tuple):
        parts = (take_rows(part, rows, computed) for part in found)
        return (getattr(type(found), "_make", None) or tuple)(parts)
    first = computed.start
    return found[rows.start - first : rows.stop - first]


def concatenate(batches):
    """Concatenates batches along their first axis.

    Args:
        batches: non-empty iterable of arrays or tensors `[batch, ...]`, or of
            dicts or (named) tuples of such.

    Returns:
        arrays `[n, ...]` in the structure of one batch.
    """
    batches = list(batches)
    if not batches:
        raise ValueError("there are no batches to concatenate")
    first = batches[0]
    if isinstance(first, dict):
        return {k: concatenate(batch[k] for batch in batches) for k in first}
    if isinstance(first, tuple):
        columns = map(concatenate, zip(*batches, strict=True))
        return (getattr(first, "_make", None) or tuple)(columns)
    return np.concatenate(batches)
