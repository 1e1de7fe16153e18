"""Image data sets in memory, loaded by name."""

import dataclasses
import pathlib
import zlib

import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation, files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.datasets import (
    array_files,
    batches,
    digits,
    endings,
    file_kinds,
    folders,
    notes,
)
from keras_genmodels.datasets.splits import Split

_FOLDER_IMAGE_SIZE = (64, 64)
_TEST_FRACTION = 0.1
_NOT_OF_TFDS = ("digits", "image_folder")
# Data sets that are one file, by suffix: `read(path, size, white_level)`
# returns `Splits`, as `array_files.read` does.
_FILE_READERS = dict.fromkeys(endings.ARRAYS, array_files.read)


@dataclasses.dataclass(frozen=True)
class Source:
    """The arguments of `load` that load a data set again.

    Args:
        name: str.
        data_dir: str or None.
        image_size: `(height, width)` or None.
        validation_split: float.
        seed: int.
        white_level: int or None.
    """

    name: str
    data_dir: str | None = None
    image_size: tuple[int, int] | None = None
    validation_split: float = 0.05
    seed: int = 0
    white_level: int | None = None

    def load(self):
        """Loads the data set, as `load` does."""
        return load(**dataclasses.asdict(self))

    def moved_to(self, data_dir):
        """Returns the `Source` of the same data in another folder.

        Raises:
            UserError: for a folder of pictures, if the data are the digits.
        """
        if self.name == "digits" and file_kinds.holds_pictures(data_dir):
            raise UserError(
                f"data_dir {data_dir} holds pictures, but the data set is "
                "digits, which needs no folder: give pictures as input"
            )
        name = (
            pathlib.Path(self.name).name if _is_file(self.name) else self.name
        )
        return dataclasses.replace(self, name=name, data_dir=data_dir)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """The splits of a data set.

    Args:
        name: str, as given to `load`.
        train: Split.
        validation: Split, or None.
        test: Split.
        label_names: tuple of str, the name of each label, or None.
        source: `Source` that `load` made these images of; None for images
            that were made otherwise.
        notes: tuple of str, one line each on how `load` understood the source:
            its splits, labels, sizes and skipped files.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    label_names: tuple[str, ...] | None = None
    source: Source | None = None
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self):
        """`(height, width, channels)`."""
        return self.train.images.shape[1:]

    def training_labels(self):
        """Returns the labels that training images have, sorted, or None.

        Returns:
            tuple of int; None without labels.
        """
        labels = self.train.labels
        return None if labels is None else tuple(np.unique(labels).tolist())

    def fingerprint(self):
        """Returns the number of images and a checksum of them, as a text."""
        splits = (self.train, self.validation, self.test)
        images = [split.images for split in splits if split is not None]
        checksum = 0
        for array in images:
            checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
        counts = "+".join(str(len(array)) for array in images)
        return f"{counts} images, checksum {checksum:08x}"

    def num_labels(self):
        """Deprecated: use `num_classes`."""
        deprecation.warn("num_labels", "num_classes")
        return self.num_classes()

    def num_classes(self):
        """Returns the number of labels: of names, or the highest label plus 1.

        Raises:
            UserError: if an image has no label, or the labels are not small
                integers from 0.
        """
        labels = [
            split.labels
            for split in (self.train, self.validation, self.test)
            if split is not None
        ]
        if any(part is None for part in labels):
            raise UserError(
                f"{self.name} has no labels to condition on: choose a data "
                "set with labels, or another condition"
            )
        values = np.concatenate(labels)
        lowest, highest = values.min(), values.max()
        if lowest < 0 or highest >= len(values):
            raise UserError(
                f"{self.name} has labels from {lowest} to {highest} for "
                f"{len(values)} images; they must count classes, from 0"
            )
        return max(len(self.label_names or ()), int(highest) + 1)

    def check_levels(self):
        """Checks that all pixels are among the 256 levels k/255.

        Raises:
            UserError: otherwise.
        """
        for split in (self.train, self.validation, self.test):
            if split is None or split.images.dtype == np.uint8:
                continue
            levels = split.images * np.float32(255)
            off = np.abs(levels - np.round(levels)) > 1e-3
            if off.any():
                value = split.images[off][0]
                raise UserError(
                    f"{self.name} has pixels such as {value:.6g}, not k/255 "
                    "for an integer k, which discretized_logistic requires: "
                    "round them to uint8, or choose the gaussian likelihood"
                )


def load(
    name="digits",
    *,
    data_dir=None,
    image_size=None,
    validation_split=0.05,
    seed=0,
    white_level=None,
):
    """Loads a data set into memory.

    8-bit images whose values are all 0 or 1, as some binary data sets are
    stored, become 0 or 255. 16-bit images become floats.

    Args:
        name: "digits" (scikit-learn's 8x8 images), the name of a TFDS image
            data set (prepared on first use), "image_folder" (a folder of
            pictures, see `folders.read`), or the path of an array file: an
            `.npz` with the arrays `image` (`[n, height, width]` or `[n,
            height, width, channels]`, uint8, uint16 or floating in [0, 1])
            and, optionally, `label` (integer `[n]`), or with splits: x_train,
            y_train, x_test, ... or train_images, train_labels, ...; or an
            `.npy` of images.
        data_dir: str: the folder of TFDS' data sets (TFDS' default if None),
            the folder of the pictures, or the folder that a relative path of
            an array file refers to.
        image_size: int or `(height, width)` that images are squeezed to. None
            keeps their size, but means 64 for "image_folder".
        validation_split: float in [0, 1), fraction of the training images to
            hold out, drawn by `seed`, if files have no validation split.
        seed: int in [0, 2**31). It also draws 10 % test images if the data set
            has no split for test.
        white_level: int in [1, 65535], the value of white in 16-bit images,
            such as 4095 for 12 bits; by default 65535, or what the chunk sBIT
            of a PNG says.

    Returns:
        ImageDataset.

    Raises:
        UserError: if the data set does not exist, has no images, or does not
            fit in memory; if an argument is out of range.
    """
    if ":/" in name:
        name = str(file_kinds.local_path(name))
    size = _as_size(image_size)
    if not 0 <= validation_split < 1:
        raise UserError(
            f"validation_split must be in [0, 1), got {validation_split}"
        )
    if white_level is not None and not 1 <= white_level <= 65535:
        raise UserError(f"white_level must be in [1, 65535], got {white_level}")
    found = _read(name, data_dir, size, white_level)
    _spread_binary(found)
    train, validation, test = found.train, found.validation, found.test
    if test is None:
        train, test = _hold_out(train, _TEST_FRACTION, seed, batches.TEST)
    if validation is None and validation_split:
        train, validation = _hold_out(
            train, validation_split, seed, batches.VALIDATION
        )
    return ImageDataset(
        name,
        train,
        validation,
        test,
        found.label_names,
        _source(name, data_dir, size, validation_split, seed, white_level),
        notes.of(found, train, name),
    )


def _source(name, data_dir, size, validation_split, seed, white_level):
    """Returns the `Source`, whose paths hold from any working directory."""
    if data_dir is not None and not _is_remote(data_dir):
        data_dir = str(files.local_path(data_dir).expanduser().absolute())
    if _is_file(name) and data_dir is None:
        name = str(files.local_path(name).expanduser().absolute())
    return Source(name, data_dir, size, validation_split, seed, white_level)


def _is_remote(data_dir):
    """Returns whether TFDS reads a folder from Google Cloud Storage."""
    return str(data_dir).lower().startswith("gs://")


def _is_file(name):
    return pathlib.Path(name).suffix.lower() in _FILE_READERS


def _as_size(image_size):
    """Converts an int or a pair to `(height, width)`; None stays None."""
    if image_size is None:
        return None
    size = np.atleast_1d(image_size)
    if size.dtype.kind not in "iu" or size.shape not in ((1,), (2,)):
        raise UserError(
            f"image_size must be an int or (height, width), got {image_size!r}"
        )
    if size.min() < 1:
        raise UserError(f"image_size must be at least 1, got {image_size!r}")
    return int(size[0]), int(size[-1])


def _read(name, data_dir, size, white_level):
    """Returns the `Splits` of a data set."""
    is_remote = data_dir is not None and _is_remote(data_dir)
    # Only TFDS reads remote folders.
    is_remote = is_remote and not (_is_file(name) or name in _NOT_OF_TFDS)
    if data_dir is not None and not is_remote:
        with user_errors():
            data_dir = files.local_path(data_dir).expanduser()
        if not data_dir.is_dir():
            raise UserError(
                f"data_dir {data_dir} is not a folder: create it or "
                "choose another data_dir"
            )
    if _is_file(name):
        path = pathlib.Path(data_dir or "", name).expanduser()
        return _FILE_READERS[path.suffix.lower()](path, size, white_level)
    if name == "image_folder":
        if data_dir is None:
            raise UserError(
                "image_folder needs the folder of the pictures: name it as "
                "data_dir"
            )
        return folders.read(data_dir, size or _FOLDER_IMAGE_SIZE, white_level)
    _check_is_name(name, None if is_remote else data_dir)
    if name == "digits":
        _check_holds_no_pictures(data_dir)
        found = digits.read(size)
    else:
        # Imported here, as it takes a while.
        from keras_genmodels.datasets import tfds_images

        found = tfds_images.read(name, data_dir, size, white_level)
    if white_level is not None and found.train.images.dtype == np.uint8:
        raise UserError(
            f"white_level={white_level} requires 16-bit images, those of "
            f"{name} have 8 bits"
        )
    return found


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


def _spread_binary(splits):
    """Replaces 0 and 1 by 0 and 255, in place, if there are no others."""
    images = splits.train.images
    if images.dtype == np.uint8 and images.max() <= 1:
        for split in splits:
            np.multiply(split.images, 255, out=split.images)


def _hold_out(split, fraction, seed, stream):
    """Divides a split into `(rest, held out)`; the rest keeps its order."""
    count = len(split.images)
    held = round(count * fraction)
    if not 0 < held < count:
        what = "test images" if stream == batches.TEST else "validation_split"
        raise UserError(
            f"{what}: {fraction:g} of {count} images would be {held}, which "
            "leaves one side empty: use more images or another "
            "validation_split, 0 for none"
        )
    order = batches.shuffled(
        tf.range(count, dtype=tf.int64),
        count,
        batches.stream_seed(seed, stream),
    ).numpy()
    return split[np.sort(order[: count - held])], split[order[count - held :]]
