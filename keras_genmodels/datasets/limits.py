"""Limits on the number and the size of the images of a data set."""

from keras_genmodels.core import memory
from keras_genmodels.core.errors import UserError

_FEWEST_IMAGES = 10


def check_memory(source, count, shape, dtype="uint8"):
    """Checks that images fit in half of the free memory.

    Args:
        source: str, the name of the images for the message.
        count: number of images.
        shape: `(height, width, channels)` of each image.
        dtype: name of the type of a pixel.

    Raises:
        UserError: if they do not fit.
    """
    if excess := memory.excess((count, *shape), dtype):
        raise UserError(
            f"{source}: {excess}: choose a smaller image_size, or "
            "in_memory=auto, which reads them from disk"
        )


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
