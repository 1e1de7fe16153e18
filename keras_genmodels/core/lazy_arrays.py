"""Arrays of images that are read, or drawn, when they are indexed."""

import numpy as np

from keras_genmodels.core import memory


class LazyArray:
    """Images that are not in memory, as a read-only array.

    A subclass has the attributes `shape` and `dtype`, reads by `__getitem__`,
    and knows `max()` and `checksum(start)` without reading.
    """

    # Number of images that a pass over all of them should read at once, None
    # for the usual one.
    batch_size = None
    # Whether the images are drawn at random, such as patches of pictures.
    is_random = False

    @property
    def ndim(self):
        """Number of axes."""
        return len(self.shape)

    def for_statistics(self):
        """Returns images whose mean and variance are those of the array."""
        return self

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError(
                "images that are not in memory cannot be read without a copy"
            )
        if excess := memory.excess(self.shape, self.dtype):
            raise ValueError(
                f"{excess}, and this needs all of them at once: take fewer "
                "images, or smaller ones"
            )
        return np.asarray(self[:], dtype)
