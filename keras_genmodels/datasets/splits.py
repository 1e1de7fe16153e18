"""The splits of a data set, in memory or on disk."""

import dataclasses

import numpy as np

from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.core.lazy_arrays import LazyArray

# Part of the data that is held out for the test if there is no such split.
TEST_FRACTION = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A part of a data set.

    Args:
        images: array `[n, height, width, channels]`, uint8 (read as value /
            255) or float32 in [0, 1]; in memory, or a `LazyArray`. Not to be
            written to.
        labels: int32 array `[n]`, or None.

    `split[rows]` is the `Split` of some rows: a slice, or an array of indices
    or of booleans. It reads no images of a `DiskArray`.
    """

    images: np.ndarray | LazyArray
    labels: np.ndarray | None

    def __getitem__(self, rows):
        labels = self.labels
        if isinstance(self.images, DiskArray):
            images = self.images.select(rows)
        else:
            images = self.images[rows]
        return Split(images, None if labels is None else labels[rows])

    def in_memory(self):
        """Returns the split with its images in memory.

        Raises:
            ValueError: if images on disk do not fit there.
        """
        if not isinstance(self.images, LazyArray):
            return self
        return Split(np.asarray(self.images), self.labels)

    def for_statistics(self):
        """Returns the images that stand for all in a mean and a variance."""
        if isinstance(self.images, LazyArray):
            return self.images.for_statistics()
        return self.images

    def fixed(self):
        """Returns the split; for random images some of them, in memory."""
        if not getattr(self.images, "is_random", False):
            return self
        return Split(self.for_statistics(), self.labels).in_memory()

    def take(self, num):
        """Returns the first `num` images, in memory; the split for None."""
        return self if num is None else self[:num].in_memory()

    def subsample(self, num):
        """Returns at most `num` images, in memory, evenly spaced."""
        if len(self.images) <= num:
            return self.in_memory()
        rows = np.linspace(0, len(self.images) - 1, num).astype(int)
        return self[rows].in_memory()


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """What a source holds, before splits that it lacks are held out.

    Args:
        train: Split; its images, and those of the others, may be `Blocks`.
        validation: Split, or None.
        test: Split, or None.
        label_names: tuple of str, or None.
        notes: tuple of str, one line each on how the source was understood.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __iter__(self):
        """Yields the splits that there are."""
        return iter(self.by_name().values())

    def by_name(self):
        """Returns a dict of the splits that there are."""
        names = ("train", "validation", "test")
        splits = {name: getattr(self, name) for name in names}
        return {k: split for k, split in splits.items() if split is not None}

    @property
    def shape(self):
        """`(n, height, width, channels)` of the images of all splits."""
        count = sum(len(split.images) for split in self)
        return (count, *self.train.images.shape[1:])
