"""The test pictures of picture denoising: ten that scikit-image contains."""

import importlib.resources
import pathlib

import numpy as np
import PIL.Image

from keras_genmodels.datasets import pictures

# What `--input` calls them.
NAME = "skimage"
_FILES = (
    *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("moon.png", "motorcycle_left.png", "rocket.jpg", "brick.png"),
    "grass.png",
)
_LONGEST_SIDE = 512


def paths(channels):
    """Lists the picture files.

    Args:
        channels: 1, or 3 for those that have colours.

    Returns:
        list of pathlib.Path; without those that the installed scikit-image
        lacks.
    """
    folder = pathlib.Path(str(importlib.resources.files("skimage.data")))
    found = [folder / name for name in _FILES if (folder / name).exists()]
    if channels == 1:
        return found
    headers = pictures.read_headers(found)
    pairs = zip(found, headers, strict=True)
    return [path for path, header in pairs if not header.is_grey]


def missing():
    """Lists the names of the pictures that the installed scikit-image lacks."""
    return sorted({*_FILES} - {path.name for path in paths(1)})


def read(path, channels):
    """Decodes one of them, shrunk by Lanczos' filter to at most 512 pixels.

    Args:
        path: one of `paths`.
        channels: 1 for grey or 3 for RGB.

    Returns:
        uint8 array `[height, width, channels]`.
    """
    image = pictures.read_own_size(path, channels)
    height, width = size_of(image.shape)
    if (height, width) == image.shape[:2]:
        return image
    picture = PIL.Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(height, width, channels)


def size_of(shape):
    """Returns the `(height, width)` in which `read` returns a picture.

    Args:
        shape: `(height, width, ...)` of the file.
    """
    sides = np.array(shape[:2])
    if max(sides) > _LONGEST_SIDE:
        sides = np.rint(sides * _LONGEST_SIDE / max(sides)).astype(int)
    height, width = sides.tolist()
    return height, width
