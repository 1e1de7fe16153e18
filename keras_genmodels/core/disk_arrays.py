"""Arrays of images in a file, whose rows are read when they are needed."""

import ctypes
import math
import mmap
import pathlib

import numpy as np
import tensorflow as tf

from keras_genmodels.core import checksums
from keras_genmodels.core.lazy_arrays import LazyArray

# Offset of the data in a file that TensorFlow can use without a copy.
ALIGNMENT = 64
# What is known of each image without reading it: its CRC-32, its largest
# value, and whether its values are among the 256 levels k/255.
STATISTICS = np.dtype(
    [("checksum", "<u4"), ("highest", "<f4"), ("has_levels", "?")]
)


def statistics_of(images):
    """Returns the `STATISTICS` of uint8 or float32 images, array `[n]`."""
    found = np.empty(len(images), STATISTICS)
    rows = images.reshape(len(images), -1)
    found["checksum"] = checksums.of_rows(images)
    found["highest"] = rows.max(axis=1)
    found["has_levels"] = True
    if images.dtype != np.uint8:
        levels = rows * np.float32(255)
        off = np.abs(levels - np.round(levels)) > 1e-3
        found["has_levels"] = ~off.any(axis=1)
    return found


class _File:
    """The images of a file, mapped to memory.

    Args:
        path: of the file, which must not change.
        offset: int, bytes before the first image.
        shape: `(n, height, width, channels)`.
        dtype: of the pixels.
        statistics: array `[n]` of `STATISTICS`.

    Attributes:
        in_order: the array, read-only, for which the system reads ahead.
        at_random: the same, without reading ahead.
    """

    def __init__(self, path, offset, shape, dtype, statistics):
        self.path = pathlib.Path(path)
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.statistics = statistics
        # At once, as another file may get its name.
        with open(path, "rb") as file:
            layout = (offset, self.shape, self.dtype)
            self.in_order = map_values(file, *layout)
            self.at_random = map_values(file, *layout, "MADV_RANDOM")


def write_header(file, shape, dtype):
    """Writes what an .npy file begins with; the values follow in C order.

    Args:
        file: opened to write bytes.
        shape, dtype: of the array.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)


def map_values(file, offset, shape, dtype, advice=None):
    """Maps the values of an open file to memory.

    Args:
        file: opened to read bytes.
        offset: int, bytes before the first value.
        shape, dtype: of the array.
        advice: name of a constant of `mmap` for `madvise`, or None.

    Returns:
        read-only array, valid after the file is closed.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Not on all systems.
    if advice and hasattr(mmap, advice):
        mapped.madvise(getattr(mmap, advice))
    values = np.frombuffer(mapped, dtype, math.prod(shape), offset)
    return values.reshape(shape)


class DiskArray(LazyArray):
    """Images in a file, or some of them in any order, as a read-only array.

    Indexing reads images to memory, and so does `np.asarray`, if all of them
    fit there. `select` reads nothing.
    """

    def __init__(self, file, rows=None, function=None, dtype=None):
        self._file, self._rows, self._function = file, rows, function
        count = file.shape[0] if rows is None else len(rows)
        self.shape = (count, *file.shape[1:])
        self.dtype = np.dtype(dtype or file.dtype)

    @classmethod
    def open(cls, path, offset, shape, dtype, statistics):
        """Opens a file of images.

        Args:
            path: of the file, which must not change.
            offset: int, bytes before the first image, a multiple of
                `ALIGNMENT`.
            shape: `(n, height, width, channels)`.
            dtype: uint8 or float32.
            statistics: array `[n]`, `statistics_of` these images.

        Raises:
            OSError: if there is no such file.
        """
        return cls(_File(path, offset, shape, dtype, statistics))

    def __getitem__(self, key):
        images = self._file.in_order
        images = images[key if self._rows is None else self._rows[key]]
        return self._applied(np.array(images))

    @property
    def path(self):
        """Path of the file."""
        return self._file.path

    @property
    def rows(self):
        """Indices of the images in the file, int `[n]`; None for all."""
        return self._rows

    def select(self, rows):
        """Returns some of the images, without reading them.

        Args:
            rows: slice, or array of indices or bools.
        """
        if self._rows is None:
            selected = np.arange(len(self))[rows]
        else:
            selected = self._rows[rows]
        return DiskArray(self._file, selected, self._function, self.dtype)

    def followed_by(self, other):
        """Returns these images and, after them, others of the same file."""
        if other._file is not self._file:
            raise ValueError(f"images of {other.path} are not in {self.path}")
        rows = [
            np.arange(len(it)) if it.rows is None else it.rows
            for it in (self, other)
        ]
        return DiskArray(
            self._file, np.concatenate(rows), self._function, self.dtype
        )

    def map(self, function):
        """Returns the images with a function applied when they are read.

        Args:
            function: of an array of images, to one of the same shape.
        """
        none = function(np.empty((0, *self.shape[1:]), self.dtype))
        return DiskArray(self._file, self._rows, function, none.dtype)

    def max(self):
        """Returns the largest value, without reading the images."""
        return self._of_statistics("highest").max().astype(self.dtype)

    def without_levels(self):
        """Returns the images with values that are none of k/255, unread."""
        return self.select(~self._of_statistics("has_levels"))

    def checksum(self, start=0):
        """Returns `checksums.of_array` of the images, without reading them."""
        row_size = math.prod(self.shape[1:]) * self.dtype.itemsize
        return checksums.joined(
            self._of_statistics("checksum"), row_size, start
        )

    def as_tensor(self, in_order):
        """Returns a tensor of all images of the file, which stay there.

        Args:
            in_order: whether images will be read in their order, so that the
                system should read ahead.

        Returns:
            uint8 or float32 tensor, of which this array has the `rows`.
        """
        self._check_not_mapped()
        file = self._file
        return share(file.in_order if in_order else file.at_random)

    def _of_statistics(self, name):
        self._check_not_mapped()
        values = self._file.statistics[name]
        return values if self._rows is None else values[self._rows]

    def _check_not_mapped(self):
        if self._function is not None:
            raise TypeError("known of the images of the file alone")

    def _applied(self, images):
        return images if self._function is None else self._function(images)


def checksum(images, start=0):
    """Returns the CRC-32 of an array or `LazyArray` that follows others.

    Args:
        images: array or `LazyArray`.
        start: int, CRC-32 of what it follows.
    """
    if isinstance(images, LazyArray):
        return images.checksum(start)
    return checksums.of_array(images, start)


def share(array):
    """Returns a tensor that shares the memory of a read-only array."""
    # DLPack refuses read-only arrays. Nothing writes to the tensor.
    region = type(
        "Region",
        (ctypes.Array,),
        {
            "_type_": ctypes.c_ubyte,
            "_length_": array.nbytes,
        },
    ).from_address(array.ctypes.data)
    # The tensor keeps the region, and so the array.
    region.owner = array
    writable = np.frombuffer(region, array.dtype).reshape(array.shape)
    with tf.device("cpu"):
        return tf.experimental.dlpack.from_dlpack(writable.__dlpack__())
