"""Images and labels in `.npz` files."""

import numpy as np

from keras_genmodels.core import files
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.datasets import limits, pictures


def read(path, size):
    """Reads an `.npz` file with the arrays `image` and, optionally, `label`.

    Args:
        path: pathlib.Path of the file.
        size: `(height, width)` to resize to, or None.

    Returns:
        `(images, labels)`: uint8 or float32 `[n, height, width, channels]`;
        int32 `[n]` or None.

    Raises:
        UserError: if the file or the array `image` is missing or not as
            `datasets.load` describes.
    """
    images, labels = _load(path)
    images = _check_images(path, images)
    if labels is not None:
        labels = _check_labels(path, labels, len(images))
    if size:
        images = map_batches(
            lambda part: pictures.resize(part, size), images, batch_size=256
        )
    return images, labels


def read_labels(path):
    """Reads the array `label`.

    Returns:
        int32 array `[n]`, or None if the file has none.

    Raises:
        UserError: if it is not one integer for each image.
    """
    images, labels = _load(path)
    return None if labels is None else _check_labels(path, labels, len(images))


def read_model_inputs(path, image_shape):
    """Reads an array `image` of the shape that a model takes.

    Args:
        path: pathlib.Path of the file.
        image_shape: `(height, width, channels)`.

    Returns:
        uint8 or float32 array `[n, height, width, channels]`, not limited to
        [0, 1].

    Raises:
        UserError: if the array is missing or of another shape or type.
    """
    images, _ = _load(path)
    if images.ndim == 3 and image_shape[-1] == 1:
        images = images[..., np.newaxis]
    if images.shape[1:] != tuple(image_shape) or not len(images):
        raise UserError(
            f"{path}: 'image' must be {['n', *image_shape]} for this model, "
            f"got {list(images.shape)}"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(
            f"{path}: 'image' must be uint8 or floating, got {images.dtype}: "
            "convert it"
        )
    if not np.isfinite(images).all():
        raise UserError(f"{path}: 'image' holds NaN or infinite pixels")
    return images.astype(np.float32)


def _load(path):
    """Returns the arrays `image` and `label` of a file, None if missing."""
    with user_errors():
        arrays, found = files.read_arrays(path, "image", "label")
    if "image" not in arrays:
        raise UserError(
            f"{path} has no array 'image' (found: {', '.join(found) or 'none'}"
            "): save it under that name"
        )
    return arrays["image"], arrays.get("label")


def _check_images(path, images):
    """Checks the array `image` and returns it with a channel axis."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 2, 3, 4):
        raise UserError(
            f"{path}: 'image' must be [n, height, width] or [n, height, "
            f"width, 1 to 4 channels], got {list(images.shape)}"
        )
    if 0 in images.shape[1:]:
        raise UserError(f"{path}: the images are empty, {images.shape[1:]}")
    limits.check_count(path, len(images))
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(
            f"{path}: 'image' must be uint8 or floating in [0, 1], got "
            f"{images.dtype}: convert it"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        if np.isnan(low):
            count = np.isnan(images).sum()
            raise UserError(
                f"{path}: 'image' has {count} values that are NaN: remove the "
                "images that hold them, or replace them"
            )
        raise UserError(
            f"{path}: floating 'image' must be in [0, 1], got values from "
            f"{low:.9g} to {high:.9g}: divide by 255 if they are grey levels, "
            "or clip them"
        )
    return images.astype(np.float32)


def _check_labels(path, labels, count):
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: 'label' must be integers [{count}], one for each image, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise UserError(
            f"{path}: 'label' must be in [0, 2**31), got values from "
            f"{labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)
