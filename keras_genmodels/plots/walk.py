"""Animations of the walk from noise to images."""

import numpy as np
from PIL import Image

from keras_genmodels.core import files
from keras_genmodels.plots.grid import image_grid

# Milliseconds of each frame, and of the last one.
_FRAME, _LAST_FRAME = 120, 2000
# Side of an image in pixels, as viewers do not enlarge animations.
_TILE = 96


def frames(trajectory):
    """Draws a sheet of images for each step.

    Args:
        trajectory: float array `[steps, n, height, width, channels]`, clipped
            to [0, 1].

    Returns:
        list of uint8 pictures `[height, width, 3]`.
    """
    return [
        image_grid(images, smallest_tile=_TILE)
        for images in np.asarray(trajectory)
    ]


def save_gif(path, pictures):
    """Writes pictures atomically as an animated GIF that repeats.

    Args:
        path: of the file.
        pictures: list of uint8 arrays `[height, width, 3]`, at least one.
    """
    first, *others = map(Image.fromarray, pictures)
    with files.replacing(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=[_FRAME] * len(others) + [_LAST_FRAME],
            loop=0,
        )
