"""Limits on the number and the size of the images of a data set."""

import numpy as np
import psutil

from keras_genmodels.core.errors import UserError

_FEWEST_IMAGES = 10


def check_memory(source, count, shape, dtype="uint8"):
    """Checks that images fit in half of the free memory.

    Half, because training holds the images a second time, as a tensor.

    Args:
        source: str, the name of the images for the message.
        count: number of images.
        shape: `(height, width, channels)` of each image.
        dtype: name of the type of a pixel.

    Raises:
        UserError: if they do not fit.
    """
    needed = count * int(np.prod(shape, dtype=np.int64))
    needed *= np.dtype(dtype).itemsize
    available = available_memory()
    if needed > available // 2:
        raise UserError(
            f"{source}: {count} images of {'x'.join(map(str, shape))} take "
            f"{needed / 2**30:.1f} GiB, more than half of the "
            f"{available / 2**30:.1f} GiB of free memory: choose a "
            "smaller image_size"
        )


def available_memory():
    """Returns the free memory in bytes."""
    return psutil.virtual_memory().available


def check_count(source, count):
    """Checks that there are enough images to hold a test split out.

    Args:
        source: the file or folder, for the message.
        count: int, the number of its images.

    Raises:
        UserError: if there are fewer than 10.
    """
    if count < _FEWEST_IMAGES:
        raise UserError(
            f"{source} holds {count} images: give at least {_FEWEST_IMAGES}, "
            "of which a tenth is kept for the test"
        )
