"""A data set of images: its splits, its labels and checks on its images."""

import dataclasses
import functools

import numpy as np

from keras_genmodels.core import deprecation
from keras_genmodels.core.disk_arrays import DiskArray, checksum
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets.splits import Split


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """The splits of a data set.

    Args:
        name: str, as given to `load`.
        train: Split.
        validation: Split, or None.
        test: Split.
        label_names: tuple of str, the name of each label, or None.
        source: `loading.Source` that `load` made these images of; None for
            images that were made otherwise.
        notes: tuple of str, one line each on how `load` understood the source:
            its splits, labels, sizes and skipped files.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    label_names: tuple[str, ...] | None = None
    source: object = None
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
                    "for an integer k, which a likelihood of 256 levels "
                    "requires: round them to uint8, or choose the gaussian "
                    "likelihood"
                )


def _value_off_the_levels(images):
    """Returns a pixel that is not among the levels k/255, or None."""
    if images.dtype == np.uint8:
        return None
    if isinstance(images, DiskArray):
        images = images.without_levels()[:1]
    elif getattr(images, "is_random", False):
        images = images[: images.batch_size]
    images = np.asarray(images)
    levels = images * np.float32(255)
    off = np.abs(levels - np.round(levels)) > 1e-3
    return images[off][0] if off.any() else None
