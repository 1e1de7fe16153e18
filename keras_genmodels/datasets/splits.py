"""The splits of a data set, in memory."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A part of a data set, in memory.

    Args:
        images: array `[n, height, width, channels]`, uint8 (read as value /
            255) or float32 in [0, 1]. Not to be written to.
        labels: int32 array `[n]`, or None.

    `split[rows]` is the `Split` of some rows: a slice, or an array of indices
    or of booleans.
    """

    images: np.ndarray
    labels: np.ndarray | None

    def __getitem__(self, rows):
        labels = self.labels
        return Split(
            self.images[rows], None if labels is None else labels[rows]
        )

    def take(self, num):
        """Returns the first `num` images; all if there are fewer, or None."""
        return self[:num]

    def subsample(self, num):
        """Returns at most `num` images, evenly spaced over the split."""
        if len(self.images) <= num:
            return self
        return self[np.linspace(0, len(self.images) - 1, num).astype(int)]


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """What a source holds, before splits that it lacks are held out.

    Args:
        train: Split.
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
        splits = (self.train, self.validation, self.test)
        return (split for split in splits if split is not None)
