"""Where a data set comes from: a file, a folder, the digits or TFDS."""

import pathlib

import numpy as np
import sklearn

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.datasets import (
    array_files,
    cache,
    digits,
    endings,
    file_kinds,
    folders,
    storage,
)

_FOLDER_IMAGE_SIZE = (64, 64)
_NOT_OF_TFDS = ("digits", "image_folder")
# Data sets that are one file, by suffix: `read(path, size, white_level)`
# returns `Splits`, as `array_files.read` does.
_FILE_READERS = dict.fromkeys(endings.ARRAYS, array_files.read)


def reader(name, data_dir, size, white_level, color="auto"):
    """Returns the `storage.Reader` of a data set.

    Args:
        name, data_dir, white_level, color: as of `load`.
        size: `(height, width)` or None.

    Raises:
        UserError: if there is no such data set.
    """
    # Only TFDS reads remote folders.
    by_tfds = not (is_file(name) or name in _NOT_OF_TFDS)
    remote = by_tfds and data_dir is not None and is_remote(data_dir)
    if data_dir is not None and not remote:
        data_dir = _local_folder(data_dir)
    if color != "auto" and name != "image_folder":
        raise UserError(
            f"color={color} requires pictures (image_folder), not {name}: "
            "leave it out"
        )
    settings = {"image_size": size, "white_level": white_level}
    if is_file(name):
        return _reader_of_file(
            pathlib.Path(data_dir or "", name).expanduser(), settings
        )
    if name == "image_folder":
        return _reader_of_folder(data_dir, settings, color)
    _check_is_name(name, None if remote else data_dir)
    if name == "digits":
        _check_holds_no_pictures(data_dir)
    return _reader_of_name(name, data_dir, settings)


def own_size_reader(data_dir, white_level, color="auto", scales=(1.0,)):
    """Returns the `storage.Reader` of `PictureFiles`, at their own size.

    Args:
        data_dir, white_level, color: as of `load`.
        scales: of `PictureFiles`.

    Raises:
        UserError: if there is no such folder.
    """
    folder = _local_folder(_check_given(data_dir))
    settings = {"white_level": white_level, "color": color}
    if len(scales) > 1:
        settings["scales"] = scales
    return storage.Reader(
        str(folder),
        lambda: folders.find_own_size(folder, white_level, color, scales),
        {"pictures": str(folder.resolve()), **settings},
        lambda: folders.state(folder),
    )


def _local_folder(data_dir):
    with user_errors():
        folder = files.local_path(data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"data_dir {folder} is not a folder: create it or choose another "
            "data_dir"
        )
    return folder


def _check_given(folder):
    if folder is None:
        raise UserError(
            "image_folder needs the folder of the pictures: name it as data_dir"
        )
    return folder


def _reader_of_file(path, settings):
    read = _FILE_READERS[path.suffix.lower()]
    return storage.Reader(
        str(path),
        lambda: read(path, *settings.values()),
        {"file": str(path.resolve()), **settings},
        lambda: cache.stamp(path),
    )


def _reader_of_folder(folder, settings, color):
    folder = _check_given(folder)
    size = settings["image_size"] or _FOLDER_IMAGE_SIZE
    settings = {**settings, "image_size": size}
    white_level = settings["white_level"]
    # Not by default, so that folders which earlier versions prepared are found.
    identity = {} if color == "auto" else {"color": color}
    return storage.Reader(
        str(folder),
        lambda: folders.read(folder, size, white_level, color),
        {"folder": str(folder.resolve()), **settings, **identity},
        lambda: folders.state(folder),
    )


def _reader_of_name(name, data_dir, settings):
    """Returns the `storage.Reader` of the digits or a data set of TFDS."""
    size, white_level = settings.values()

    def read():
        if name == "digits":
            found = digits.read(size)
        else:
            found = _tfds().read(name, data_dir, size, white_level)
        if white_level is not None and found.train.images.dtype == np.uint8:
            raise UserError(
                f"white_level={white_level} requires 16-bit images, those of "
                f"{name} have 8 bits"
            )
        return found

    def state():
        if name == "digits":
            return sklearn.__version__
        return _tfds().state(name, data_dir)

    place = data_dir and str(data_dir)
    if place and not is_remote(place):
        place = str(pathlib.Path(place).absolute())
    identity = {"name": name, "data_dir": place}
    return storage.Reader(name, read, {**identity, **settings}, state)


def _tfds():
    # Imported here, as it takes a while.
    from keras_genmodels.datasets import tfds_images

    return tfds_images


def _check_holds_no_pictures(data_dir):
    """Raises a `UserError` for a folder of pictures as that of the digits."""
    if data_dir is None:
        return
    if file_kinds.holds_pictures(data_dir, but=("downloads",)):
        raise UserError(
            f"data_dir {data_dir} holds pictures, but the data set is digits, "
            "which needs no folder: give image_folder as the data set to read "
            "them, or give pictures as input"
        )


def _check_is_name(name, data_dir):
    """Raises a `UserError` if `name` is a file or folder that is not read."""
    path = pathlib.Path(data_dir or "", name).expanduser()
    if file_kinds.is_other_data(name) or (path.is_file() and path.suffix):
        supported = file_kinds.supported(_FILE_READERS)
        raise UserError(f"{path} is no data set: {supported}")
    if "/" in name and path.is_dir() and file_kinds.holds_pictures(path):
        raise UserError(
            f"{path} is a folder: for its pictures, give image_folder as name "
            "of the data set and the folder as data_dir"
        )


def is_remote(data_dir):
    """Returns whether TFDS reads a folder from Google Cloud Storage."""
    return str(data_dir).lower().startswith("gs://")


def is_file(name):
    """Returns whether a data set is one file, by its name."""
    return pathlib.Path(name).suffix.lower() in _FILE_READERS
