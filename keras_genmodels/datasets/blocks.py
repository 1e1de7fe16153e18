"""Images that a source has not read yet, and reads in blocks."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

# Bytes of a block.
_SIZE = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
    """Images of a source that are read in blocks, in their order.

    Args:
        shape: `(n, height, width, channels)`.
        dtype: uint8 or float32.
        read: function that yields arrays `[rows, height, width, channels]`
            of this dtype, n rows in all.
        path: of an .npy file of just these images, that can be used as it is;
            else None.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    read: Callable
    path: object = None

    def __len__(self):
        return self.shape[0]

    def in_memory(self):
        """Reads all images, as one array."""
        images, row = np.empty(self.shape, self.dtype), 0
        for block in self.read():
            images[row : row + len(block)] = block
            row += len(block)
        return images


def rows_of(shape, dtype):
    """Returns how many rows make a block, of arrays `[n, ...]` of a shape."""
    size = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    return max(1, _SIZE // max(1, size))


def parts(array):
    """Yields the blocks of an array in memory or in a mapped file."""
    rows = rows_of(array.shape, array.dtype)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
