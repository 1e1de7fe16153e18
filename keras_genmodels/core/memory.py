"""The free memory, and whether an array fits in half of it."""

import math

import numpy as np
import psutil


def available():
    """Returns the free memory in bytes."""
    return psutil.virtual_memory().available


def excess(shape, dtype):
    """Describes an array that takes more than half of the free memory.

    Half, because training holds images a second time, as a tensor.

    Args:
        shape: `(n, height, width, channels)` of images.
        dtype: of a pixel.

    Returns:
        str, such as "9 images of 8x8x1 take 2.0 GiB, more than half of the
        3.0 GiB of free memory"; None for an array that fits.
    """
    return excess_of(
        f"{shape[0]} images of {'x'.join(map(str, shape[1:]))}",
        math.prod(shape) * np.dtype(dtype).itemsize,
    )


def excess_of(what, size):
    """Describes what takes more than half of the free memory, as `excess`.

    Args:
        what: str, such as "9 images".
        size: int, bytes that they take.
    """
    free = available()
    if size <= free // 2:
        return None
    return (
        f"{what} take {size / 2**30:.1f} GiB, more than half of the "
        f"{free / 2**30:.1f} GiB of free memory"
    )
