"""Images from the user's own files: folders of pictures and `.npz` files."""

import pathlib

import numpy as np

from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import array_files, limits, pictures
from keras_genmodels.datasets.pictures import list_pictures

__all__ = [
    "list_pictures",
    "read_labelled_folder",
    "read_labels",
    "read_pictures",
]


def read_labelled_folder(folder, size):
    """Reads a folder of pictures, flat or with one sub-folder per label.

    Args:
        folder: path of a directory.
        size: `(height, width)` that every picture is squeezed to.

    Returns:
        `(images, labels, label_names)`: uint8 `[n, height, width, channels]`,
        with one channel if all pictures are grey and three otherwise; int32
        `[n]` or None; tuple of str or None.

    Raises:
        UserError: if there are no pictures, if there are pictures both next
            to and inside sub-folders, or if one cannot be read.
    """
    paths, labels, label_names = _list_labelled(pathlib.Path(folder))
    limits.check_count(folder, len(paths))
    shape = (*size, 1 if pictures.are_grey(paths) else 3)
    limits.check_memory(str(folder), len(paths), shape)
    return pictures.read_all(paths, shape), labels, label_names


def read_pictures(path, *, image_shape):
    """Reads the user's own images in the shape that a model takes.

    Args:
        path: a picture file; or a folder of pictures, which is read with all
            its sub-folders in sorted order; or an `.npz` file with an array
            `image` of the shape that the model takes, uint8 or finite floats,
            such as noisy images.
        image_shape: `(height, width, channels)`. Pictures are squeezed to it
            and converted to grey or RGB, for one or three channels.

    Returns:
        array `[n, height, width, channels]`, uint8 (value / 255), or for an
        `.npz` file also float32.

    Raises:
        UserError: if the path does not exist, holds no picture or one that
            cannot be read, or an array of another shape.
    """
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        return array_files.read_model_inputs(path, image_shape)
    if image_shape[2] not in (1, 3):
        raise UserError(
            f"pictures have 1 or 3 channels, the model takes {image_shape[2]}: "
            "give an .npz file"
        )
    return pictures.read_all(list_pictures(path), image_shape)


def read_labels(path):
    """Reads the labels of the images that `read_pictures` reads.

    Returns:
        int32 array `[n]`, the array `label` of an `.npz` file; None if there
        is none, and for pictures.

    Raises:
        UserError: if they are not one integer for each image.
    """
    path = pathlib.Path(path)
    return array_files.read_labels(path) if path.suffix == ".npz" else None


def _list_labelled(folder):
    """Lists the pictures of a folder with their labels.

    Returns:
        `(paths, labels, label_names)`; the last two are None for a folder
        without sub-folders.
    """
    entries = sorted(folder.iterdir())
    flat = [
        entry
        for entry in entries
        if not entry.is_dir() and entry.name.lower().endswith(pictures.ENDINGS)
    ]
    nested = {
        entry.name: found
        for entry in entries
        if entry.is_dir() and (found := pictures.find(entry))
    }
    if flat and nested:
        raise UserError(
            f"{folder} holds pictures ({flat[0].name}) next to sub-folders of "
            f"pictures ({next(iter(nested))}): put all of them in one folder, "
            "or each in the sub-folder of its label"
        )
    if flat:
        return flat, None, None
    # Hidden folders hold thumbnails and the like.
    names = tuple(name for name in nested if not name.startswith("."))
    if not names:
        raise UserError(pictures.no_pictures(folder))
    counts = [len(nested[name]) for name in names]
    labels = np.repeat(np.arange(len(names), dtype=np.int32), counts)
    return [path for name in names for path in nested[name]], labels, names
