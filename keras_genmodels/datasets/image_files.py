"""Images from the user's own files: pictures and arrays."""

import os
import pathlib

import keras
import numpy as np
import PIL.Image
import psutil
import tensorflow as tf

from keras_genmodels.core import files
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.errors import UserError

# The endings that keras.utils.image_dataset_from_directory reads.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_FEWEST_IMAGES = 10
_UNREADABLE_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    PIL.Image.DecompressionBombError,
)
_GREY_MODES = ("1", "L", "LA", "I", "I;16")


def resize(images, size):
    """Resizes images by antialiased bilinear interpolation.

    Args:
        images: uint8 or float32 tensor of one image or several, `[..., height,
            width, channels]`.
        size: `(height, width)`.

    Returns:
        tensor of the same dtype, integers rounded.
    """
    resized = tf.image.resize(images, size, antialias=True)
    if tf.as_dtype(images.dtype) == tf.uint8:
        resized = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    return resized


def check_memory(what, count, shape):
    """Refuses a set of images that would not fit in half of the free memory.

    Half, because training holds the images a second time, as a tensor.

    Args:
        what: str, the images' name for the message.
        count: number of images.
        shape: `(height, width, channels)` of each, a byte a value.

    Raises:
        UserError: if they would not fit.
    """
    needed = count * int(np.prod(shape, dtype=np.int64))
    available = available_memory()
    if needed > available // 2:
        raise UserError(
            f"{what}: {count} images of {'x'.join(map(str, shape))} take "
            f"{needed / 2**30:.1f} GiB, more than half of the "
            f"{available / 2**30:.1f} GiB of free memory: make them smaller "
            "with --image_size"
        )


def available_memory():
    """Returns the bytes of memory that are free for use."""
    return psutil.virtual_memory().available


def check_count(source, count):
    """Refuses a source of too few images to divide.

    Args:
        source: the file or folder, for the message.
        count: int, the number of its images.

    Raises:
        UserError: if there are too few.
    """
    if count < _FEWEST_IMAGES:
        raise UserError(
            f"{source} holds {count} images: give at least {_FEWEST_IMAGES}, "
            "of which a tenth is kept for the test"
        )


def read_labelled_folder(folder, size):
    """Reads a folder of pictures, flat or with one sub-folder a label.

    Args:
        folder: path of a directory.
        size: `(height, width)` that every picture is squeezed to.

    Returns:
        `(images, labels, label_names)`: uint8 `[n, height, width, channels]`,
        one channel if all pictures are grey and three if not; int32 `[n]` or
        None; tuple of str or None.

    Raises:
        UserError: if there are no pictures, pictures both beside and inside
            sub-folders, or one that cannot be read.
    """
    paths, label_names = _list_labelled(folder)
    check_count(folder, len(paths))
    grey, shrinks = _scan_headers(paths, size)
    channels = 1 if grey else 3
    check_memory(str(folder), len(paths), (*size, channels))
    reader = keras.utils.image_dataset_from_directory(
        folder,
        labels="inferred" if label_names else None,
        class_names=label_names,
        batch_size=None,
        shuffle=False,
        image_size=size,
        # Of Keras' choices only "area" smooths before it shrinks, and only
        # "bilinear" interpolates when it enlarges.
        interpolation="area" if shrinks else "bilinear",
        verbose=False,
    )
    images, labels = _collect(reader, paths, (*size, channels))
    return images, labels if label_names else None, label_names


def read_pictures(path, *, image_shape):
    """Reads the user's own pictures in the shape that a model takes.

    Args:
        path: a picture file, or a folder of pictures, which is read with all
            its sub-folders in sorted order; or an `.npz` file with an array
            `image` of the shape that the model takes, uint8 or finite floats,
            such as noisy images.
        image_shape: `(height, width, channels)`. Pictures are squeezed to it
            and turned grey or to RGB, for one or three channels.

    Returns:
        array `[n, height, width, channels]`, uint8, to be read as value /
        255, or of an `.npz` file also float32.

    Raises:
        UserError: if the path does not exist, holds no picture or one that
            cannot be read, or none of that shape.
    """
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        return _read_model_inputs(path, image_shape)
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UserError(
            f"pictures have 1 or 3 channels, the model takes {channels}: "
            "they can't be turned into what it takes"
        )
    paths = list_pictures(path)
    images = np.empty((len(paths), *image_shape), np.uint8)
    for row, picture in enumerate(paths):
        image = _decode(picture)
        if channels == 1:
            image = tf.image.rgb_to_grayscale(image)
        images[row] = resize(image, (height, width))
    return images


def read_labels(path):
    """Reads the labels that go with what `read_pictures` reads.

    Returns:
        int32 array `[n]`, the array `label` of an `.npz` file; None if there
        is none, and for pictures.

    Raises:
        UserError: if they are not one integer for each image.
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        return None
    images, labels = _load_arrays(path)
    return None if labels is None else _check_labels(path, labels, len(images))


def list_pictures(path):
    """Lists the pictures that `read_pictures` reads, in its order.

    Raises:
        UserError: if the path does not exist or holds no picture.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such picture file or folder")
    paths = _list_pictures(path)
    if not paths:
        raise UserError(_no_pictures(path))
    return paths


def read_arrays(path, size):
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
    images, labels = _load_arrays(path)
    images = _check_images(path, images)
    if labels is not None:
        labels = _check_labels(path, labels, len(images))
    return _resize_all(images, size) if size else images, labels


def _load_arrays(path):
    """Returns the arrays `image` and `label` of a file, None if missing."""
    arrays, found = files.read_arrays(path, "image", "label")
    if "image" not in arrays:
        raise UserError(
            f"{path} has no array 'image' (found: {', '.join(found) or 'none'}"
            "): save it under that name"
        )
    return arrays["image"], arrays.get("label")


def _read_model_inputs(path, image_shape):
    """Reads an array `image` that a model takes as it is."""
    images, _ = _load_arrays(path)
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


def _no_pictures(folder):
    return f"{folder} holds no picture ({', '.join(ENDINGS)}): name another"


def _list_pictures(folder):
    """Lists all pictures below a folder, as Keras' reader orders them."""
    return [
        pathlib.Path(root, name)
        for root, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if name.lower().endswith(ENDINGS)
    ]


def _list_labelled(folder):
    """Returns the pictures and the label names, None for a flat folder."""
    entries = sorted(pathlib.Path(folder).iterdir())
    flat = [
        entry
        for entry in entries
        if not entry.is_dir() and entry.name.lower().endswith(ENDINGS)
    ]
    nested = {
        entry.name: _list_pictures(entry) for entry in entries if entry.is_dir()
    }
    nested = {name: paths for name, paths in nested.items() if paths}
    if flat and nested:
        raise UserError(
            f"{folder} holds pictures ({flat[0].name}) beside sub-folders of "
            f"pictures ({next(iter(nested))}): put all of them in one folder, "
            "or each in the sub-folder of its label"
        )
    label_names = tuple(name for name in nested if not name.startswith("."))
    paths = flat + [path for name in label_names for path in nested[name]]
    if not paths:
        raise UserError(_no_pictures(folder))
    return paths, label_names or None


def _scan_headers(paths, size):
    """Returns whether all are grey, and whether all are at least `size`."""
    grey, shrinks = True, True
    for path in paths:
        try:
            with PIL.Image.open(path) as picture:
                grey &= picture.mode in _GREY_MODES
                shrinks &= picture.height >= size[0]
                shrinks &= picture.width >= size[1]
        except _UNREADABLE_PICTURE as error:
            raise UserError(_unreadable(path)) from error
    return grey, shrinks


def _unreadable(path):
    return (
        f"{path} cannot be read as a picture: repair or remove it, or save it "
        "again as PNG or JPEG"
    )


def _decode(path):
    """Reads one picture file as uint8 `[height, width, 3]`."""
    try:
        return tf.io.decode_image(
            tf.io.read_file(str(path)), channels=3, expand_animations=False
        )
    except tf.errors.OpError as error:
        raise UserError(_unreadable(path)) from error


def _collect(reader, paths, shape):
    """Gathers Keras' float32 pictures in one uint8 array."""
    images = np.empty((len(paths), *shape), np.uint8)
    labels = np.empty(len(paths), np.int32)
    if not isinstance(reader.element_spec, tuple):
        reader = reader.map(lambda image: (image, 0))
    try:
        for row, (image, label) in enumerate(reader.as_numpy_iterator()):
            images[row] = np.rint(np.clip(image, 0, 255))[..., : shape[-1]]
            labels[row] = label
    except tf.errors.OpError:
        # The reader does not say which file it could not read.
        for path in paths:
            _decode(path)
        raise
    return images, labels


def _check_images(path, images):
    """Checks the images of an array file and gives them their channels."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 2, 3, 4):
        raise UserError(
            f"{path}: 'image' must be [n, height, width] or [n, height, "
            f"width, 1 to 4 channels], got {list(images.shape)}"
        )
    if 0 in images.shape[1:]:
        raise UserError(f"{path}: the images are empty, {images.shape[1:]}")
    check_count(path, len(images))
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(
            f"{path}: 'image' must be uint8 or floating in [0, 1], got "
            f"{images.dtype}: convert it"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        found = "NaN" if np.isnan(low) else f"values from {low:g} to {high:g}"
        raise UserError(
            f"{path}: floating 'image' must be in [0, 1], got {found}: "
            "rescale it"
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


def _resize_all(images, size):
    return map_batches(lambda part: resize(part, size), images, batch_size=256)
