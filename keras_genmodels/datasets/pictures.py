"""Picture files: found, decoded and resized in one way, whoever reads them."""

import os
import pathlib

import numpy as np
import PIL.Image
import tensorflow as tf

from keras_genmodels.core.errors import UserError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_GREY_MODES = ("1", "L", "LA", "I", "I;16")
# What Pillow raises for a file that is not a picture.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    PIL.Image.DecompressionBombError,
)


def list_pictures(path):
    """Lists a picture file, or all pictures in a folder and its sub-folders.

    Args:
        path: of a file or a folder.

    Returns:
        list of pathlib.Path: the files of a folder by name, before those of
        its sub-folders.

    Raises:
        UserError: if the path does not exist or holds no picture.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such picture file or folder")
    paths = find(path)
    if not paths:
        raise UserError(no_pictures(path))
    return paths


def find(folder):
    """Lists the pictures in a folder and its sub-folders, perhaps none."""
    return [
        pathlib.Path(root, name)
        for root, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(ENDINGS)
    ]


def no_pictures(folder):
    """Returns the message of the error for a folder without pictures."""
    return f"{folder} holds no picture ({', '.join(ENDINGS)}): name another"


def are_grey(paths):
    """Returns whether all pictures are grey, from the headers of the files.

    Raises:
        UserError: if a file is not a picture.
    """
    grey = True
    for path in paths:
        try:
            with PIL.Image.open(path) as picture:
                grey &= picture.mode in _GREY_MODES
        except _UNREADABLE as error:
            raise _unreadable(path) from error
    return grey


def read_all(paths, image_shape):
    """Decodes and resizes picture files.

    Args:
        paths: list of n picture files.
        image_shape: `(height, width, channels)` that each picture is squeezed
            to, with 1 channel for grey or 3 for RGB.

    Returns:
        uint8 array `[n, height, width, channels]`. An image depends on its
        file alone.

    Raises:
        UserError: if a file cannot be read.
    """
    images = np.empty((len(paths), *image_shape), np.uint8)
    # One by one: eager operations of several threads crashed TensorFlow once.
    for row, path in enumerate(paths):
        images[row] = _read(path, image_shape)
    return images


def resize(images, size, method="bilinear", antialias=True):
    """Resizes images; uint8 values are rounded.

    Args:
        images: uint8 or float tensor `[..., height, width, channels]`.
        size: `(height, width)`.
        method, antialias: as in `tf.image.resize`. Images that do not come
            from picture files are resized by the defaults, as in earlier
            versions: the checksum of a run's data depends on it.

    Returns:
        tensor of the same dtype.
    """
    resized = tf.image.resize(images, size, method, antialias=antialias)
    if images.dtype == "uint8":
        resized = tf.clip_by_value(tf.round(resized), 0, 255)
    return tf.cast(resized, images.dtype)


def _read(path, image_shape):
    """Reads one picture; each axis that shrinks is smoothed."""
    try:
        image = tf.io.decode_image(
            tf.io.read_file(str(path)), channels=3, expand_animations=False
        )
    except tf.errors.OpError as error:
        raise _unreadable(path) from error
    height, width, channels = image_shape
    enlarges = image.shape[0] < height or image.shape[1] < width
    shrinks = image.shape[0] > height or image.shape[1] > width
    method = "bilinear" if enlarges else "area"
    image = resize(image, (height, width), method, antialias=shrinks)
    return tf.image.rgb_to_grayscale(image) if channels == 1 else image


def _unreadable(path):
    return UserError(
        f"{path} cannot be read as a picture: repair or remove it, or save it "
        "again as PNG or JPEG"
    )
