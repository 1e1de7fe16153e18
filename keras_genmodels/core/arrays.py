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


def map_batches(function, *arrays, batch_size):
    """Applies a function to batches of rows and concatenates the results.

    Args:
        function: takes a batch of each of `arrays`; returns an array or
            tensor `[batch, ...]`, or a dict or (named) tuple of such.
        *arrays: arrays or tensors `[n, ...]`, n >= 1. All but the first may
            be None, which is passed on.
        batch_size: int, rows per batch; the last batch may be smaller.

    Returns:
        arrays `[n, ...]` in the structure that `function` returns.
    """
    return concatenate(
        function(
            *(
                None if array is None else array[start : start + batch_size]
                for array in arrays
            )
        )
        for start in range(0, len(arrays[0]), batch_size)
    )


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
