"""Pictures of any sizes, one after the other in one array."""

import dataclasses
import pathlib
import zlib

import numpy as np
import tensorflow as tf

# What is known of each picture: its first pixel in the array, its size, the
# CRC-32 of its pixels, and the largest value.
TABLE = np.dtype(
    [
        ("start", "<i8"),
        ("height", "<i8"),
        ("width", "<i8"),
        ("checksum", "<u4"),
        ("highest", "<u2"),
    ]
)


@dataclasses.dataclass(frozen=True, eq=False)
class PictureArray:
    """Pictures of any sizes, in memory or in a file.

    Args:
        pixels: tensor `[num_pixels, channels]`, uint8 or uint16 (65535 stands
            for 1), the rows of each picture one after the other. It may share
            the memory of a file.
        table: array `[n]` of `TABLE`, for each picture; of some pictures of
            the array only.
        path: of the file, None if the pixels are in memory.
    """

    pixels: tf.Tensor
    table: np.ndarray
    path: pathlib.Path | None = None

    def __len__(self):
        return len(self.table)

    @property
    def channels(self):
        """1 for grey pictures, 3 for RGB."""
        return self.pixels.shape[1]

    @property
    def bits(self):
        """8 or 16, of each value."""
        return 8 * self.pixels.dtype.size

    def select(self, rows):
        """Returns some of the pictures, without reading them.

        Args:
            rows: slice, or array of indices or bools.
        """
        return dataclasses.replace(self, table=self.table[rows])

    def fits(self, side):
        """Returns which pictures contain a square, bool `[n]`.

        Args:
            side: int, of the square.
        """
        return (self.table["height"] >= side) & (self.table["width"] >= side)

    def highest(self):
        """Returns the largest value, without reading the pictures."""
        return int(self.table["highest"].max())

    def checksum(self, start=0):
        """Returns a CRC-32 of sizes and pixels, without reading them.

        Args:
            start: int, CRC-32 of what they follow.
        """
        columns = ("height", "width", "checksum")
        known = np.stack([self.table[it].astype(np.int64) for it in columns])
        return zlib.crc32(known.tobytes(), start)
