"""Random patches of pictures: a function of (seed, number), without state."""

import math
import zlib

import numpy as np
import tensorflow as tf

from keras_genmodels.core.lazy_arrays import LazyArray
from keras_genmodels.core.seeds import PHILOX, philox
from keras_genmodels.datasets import augmentation, blocks

_LARGEST_16_BITS = 65535
# Values of the patches that a mean is computed of: seconds, not minutes.
_MOST_VALUES = 2**27


class PatchArray(LazyArray):
    """The first patches of an endless random sequence, as an array.

    Patch k is drawn from (seed, k) alone. All positions of all pictures of a
    group are equally likely, so that each pixel counts the same, in a large
    picture as in a small one; and all groups are.

    Args:
        pictures: `PictureArray`, each at least `size` pixels high and wide.
        size: int >= 1, height and width of a patch.
        num: int >= 1, number of patches of the array.
        seed: int32 tensor `[2]`.
        augmented: whether each patch is also flipped and turned, by one of the
            8 symmetries of a square.
        counts: ints >= 1, number of pictures of each group, one group after
            the other; by default all of them are one.

    Attributes:
        shape: `(num, size, size, channels)`.
        dtype: uint8; float32 in [0, 1] of pictures of 16 bits.
    """

    is_random = True

    def __init__(self, pictures, size, num, seed, augmented=True, counts=None):
        self.pictures, self.size, self.augmented = pictures, size, augmented
        self.counts = [len(pictures)] if counts is None else [*counts]
        self.shape = (num, size, size, pictures.channels)
        self.dtype = np.dtype("uint8" if pictures.bits == 8 else "float32")
        self._seed = seed
        # Half the time of int64, if all pixels have such a number.
        is_small = pictures.pixels.shape[0] < 2**31
        self._place_dtype = tf.int32 if is_small else tf.int64
        table = pictures.table
        columns = table["width"] - size + 1
        counts = columns * (table["height"] - size + 1)
        ends = np.cumsum(counts)
        ends_of_groups = ends[np.cumsum(self.counts) - 1]
        with tf.device("cpu"):
            # Positions are numbered through all pictures.
            self._ends = tf.constant(ends, tf.int64)
            sizes = np.diff(ends_of_groups, prepend=0)
            self._groups = {
                "first": tf.constant(ends_of_groups - sizes, tf.int64),
                "size": tf.constant(sizes, tf.int64),
            }
            self._pictures = {
                "first": tf.constant(ends - counts, tf.int64),
                "columns": tf.constant(columns, tf.int64),
                "width": tf.constant(table["width"], tf.int64),
                "start": tf.constant(table["start"], tf.int64),
            }

    @property
    def batch_size(self):
        """Number of patches that a pass over all of them reads at once."""
        # Each value has an index.
        return blocks.rows_of(self.shape, np.int64)

    def __getitem__(self, key):
        if isinstance(key, slice):
            rows = range(len(self))[key]
        else:
            rows = np.arange(len(self))[key]
        numbers = np.ravel(rows)
        patches = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for start in range(0, len(numbers), self.batch_size):
            part = numbers[start : start + self.batch_size]
            patches[start : start + len(part)] = self._numbered(part)
        return patches.reshape(*np.shape(rows), *self.shape[1:])

    def draw(self, first, num, seed=None):
        """Draws consecutive patches of the sequence.

        Args:
            first: int or int64 scalar tensor, >= 0, number of the first.
            num: int >= 1, how many.
            seed: int32 tensor `[2]`; by default that of the array.

        Returns:
            uint8 or float32 tensor `[num, size, size, channels]`.
        """
        seed = self._seed if seed is None else seed
        return self._patches(_words(first, num, seed), num)

    def for_statistics(self):
        """Returns the first patches: as random as all, but not too many."""
        most = max(1, _MOST_VALUES // math.prod(self.shape[1:]))
        return PatchArray(
            self.pictures,
            self.size,
            min(len(self), most),
            self._seed,
            self.augmented,
            self.counts,
        )

    def max(self):
        """Returns the largest value of the pictures, without reading them."""
        highest = self.pictures.highest()
        if self.pictures.bits == 16:
            highest /= _LARGEST_16_BITS
        return self.dtype.type(highest)

    def checksum(self, start=0):
        """Returns a CRC-32 of what the patches are drawn from."""
        text = f"patches of {self.size}, augmented: {self.augmented}"
        if len(self.counts) > 1:
            text += f", of groups of {self.counts}"
        start = zlib.crc32(text.encode(), start)
        return self.pictures.checksum(start)

    def _numbered(self, numbers):
        """Returns the patches of an array of numbers, as an array."""
        first = int(numbers.min())
        with tf.device("cpu"):
            words = _words(first, int(numbers.max()) - first + 1, self._seed)
            words = tf.gather(words, numbers - first)
            return self._patches(words, len(numbers)).numpy()

    def _patches(self, words, num):
        """Returns the patches that random words `[num, 2]` choose."""
        group = tf.cast(words[:, 1] % len(self.counts), tf.int32)
        group = {k: tf.gather(it, group) for k, it in self._groups.items()}
        position = tf.cast(_shifted(words[:, 0], 1), tf.int64) % group["size"]
        position += group["first"]
        index = tf.searchsorted(self._ends, position, side="right")
        of = {k: tf.gather(it, index) for k, it in self._pictures.items()}
        position -= of["first"]
        corner = of["start"] + position // of["columns"] * of["width"]
        corner += position % of["columns"]
        element = tf.cast(_shifted(words[:, 1], 61), tf.int32)
        if not self.augmented:
            element = tf.zeros_like(element)
        places = augmentation.sources(
            element,
            self.size,
            tf.cast(corner, self._place_dtype),
            tf.cast(of["width"], self._place_dtype),
        )
        values = tf.gather(self.pictures.pixels, places)
        if values.dtype == tf.uint16:
            values = tf.cast(values, tf.float32) / _LARGEST_16_BITS
        return tf.ensure_shape(values, (num, *self.shape[1:]))


def _words(first, num, seed):
    """Draws two random words for each of consecutive numbers.

    Returns:
        uint64 tensor `[num, 2]`: row i depends on the seed and `first` + i.
    """
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        **philox(seed, first), shape=[num, 2], alg=PHILOX, dtype=tf.uint64
    )


def _shifted(words, bits):
    return tf.bitwise.right_shift(words, tf.constant(bits, tf.uint64))
