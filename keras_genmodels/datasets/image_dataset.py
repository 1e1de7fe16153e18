"""Image data sets, loaded by name: in memory, or on disk."""

import dataclasses
import functools
import pathlib

import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation, files
from keras_genmodels.core.disk_arrays import DiskArray, checksum
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import (
    batches,
    file_kinds,
    notes,
    sources,
    storage,
)
from keras_genmodels.datasets.splits import Split

_TEST_FRACTION = 0.1


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
        in_memory: False or "auto". `load` records True as "auto", as another
            machine may have less memory.
    """

    name: str
    data_dir: str | None = None
    image_size: tuple[int, int] | None = None
    validation_split: float = 0.05
    seed: int = 0
    white_level: int | None = None
    in_memory: str | bool = "auto"

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
        name = self.name
        if sources.is_file(name):
            name = pathlib.Path(name).name
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
        counts = "+".join(str(len(array)) for array in images)
        total = functools.reduce(lambda sum, it: checksum(it, sum), images, 0)
        return f"{counts} images, checksum {total:08x}"

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
            if split is None:
                continue
            value = _value_off_the_levels(split.images)
            if value is not None:
                raise UserError(
                    f"{self.name} has pixels such as {value:.6g}, not k/255 "
                    "for an integer k, which discretized_logistic requires: "
                    "round them to uint8, or choose the gaussian likelihood"
                )


def _value_off_the_levels(images):
    """Returns a pixel that is not among the levels k/255, or None."""
    if images.dtype == np.uint8:
        return None
    if isinstance(images, DiskArray):
        images = images.without_levels()[:1]
    levels = images * np.float32(255)
    off = np.abs(levels - np.round(levels)) > 1e-3
    return images[off][0] if off.any() else None


def load(
    name="digits",
    *,
    data_dir=None,
    image_size=None,
    validation_split=0.05,
    seed=0,
    white_level=None,
    in_memory="auto",
):
    """Loads a data set into memory, or makes it readable from disk.

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
        in_memory: True; False, on disk: the images are prepared once, see
            `cache.folder`, and read as needed; or "auto", in memory if they
            take at most half of the free memory. Images and batches are the
            same.

    Returns:
        ImageDataset.

    Raises:
        UserError: if the data set does not exist, has no images, or does not
            fit in memory as `in_memory` asks; if it cannot be prepared on
            disk; if an argument is out of range.
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
    if in_memory not in ("auto", True, False):
        raise UserError(
            f"in_memory must be 'auto', True or False, got {in_memory!r}"
        )
    reader = sources.reader(name, data_dir, size, white_level)
    found = storage.load(reader, in_memory)
    train, validation, test = _completed(found, validation_split, seed)
    return ImageDataset(
        name,
        train,
        validation,
        test,
        found.label_names,
        Source(
            *_absolute(name, data_dir),
            size,
            validation_split,
            seed,
            white_level,
            False if in_memory is False else "auto",
        ),
        notes.of(found, train, name),
    )


def _absolute(name, data_dir):
    """Returns paths that hold from any working directory."""
    if data_dir is not None and not sources.is_remote(data_dir):
        data_dir = str(files.local_path(data_dir).expanduser().absolute())
    if sources.is_file(name) and data_dir is None:
        name = str(files.local_path(name).expanduser().absolute())
    return name, data_dir


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


def _completed(found, validation_split, seed):
    """Returns the splits `(train, validation, test)`, held out if missing."""
    train, validation, test = found.train, found.validation, found.test
    if test is None:
        train, test = _hold_out(train, _TEST_FRACTION, seed, batches.TEST)
    if validation is None and validation_split:
        train, validation = _hold_out(
            train, validation_split, seed, batches.VALIDATION
        )
    return train, validation, test


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
