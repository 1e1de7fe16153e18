"""Pictures at their own size: decoded once, to memory or to one file on disk.

Each picture is followed by its shrunken copies, if there are any. On disk they
are one `.npy` file of the pixels of all pictures, in the cache folder, next to
a table of what is known of each picture without reading it
(`picture_array.TABLE`).
"""

import dataclasses
import math
import pathlib
import zlib

import numpy as np

from keras_genmodels.core import arrays, disk_arrays, files, memory
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import cache, pictures
from keras_genmodels.datasets.picture_array import TABLE, PictureArray

# Of prepared folders; raise it when their content changes.
_FORMAT = 1
_PIXELS, _TABLE, _ABOUT = "pixels.npy", "table.npy", "about.json"


@dataclasses.dataclass(frozen=True)
class PictureFiles:
    """Picture files that are not decoded yet.

    Args:
        folder: pathlib.Path that they lie in.
        paths: dict of "train" and, if there are such, "validation" and "test"
            to lists of paths.
        sizes: list of `(height, width)`, of all paths in this order.
        channels: 1 or 3, that they are converted to.
        bits: 8 or 16, of each value: 16 if a picture has them.
        white_level: int or None, as in `decoding.decode`.
        notes: tuple of str, one line each.
        scales: tuple of floats in (0, 1], the first of which is 1: each picture
            is also kept shrunk to the others.
    """

    folder: pathlib.Path
    paths: dict
    sizes: list
    channels: int
    bits: int
    white_level: int | None
    notes: tuple[str, ...]
    scales: tuple[float, ...] = (1.0,)

    @property
    def shape(self):
        """Shape of the array of all pixels."""
        sizes = [
            pictures.shrunken_size(size, scale)
            for size in self.sizes
            for scale in self.scales
        ]
        return (sum(map(math.prod, sizes)), self.channels)

    @property
    def dtype(self):
        """Dtype of the array of all pixels."""
        return np.dtype(f"uint{self.bits}")

    def __len__(self):
        return len(self.sizes)

    def names(self):
        """Returns the path of each picture in the folder, as list of str."""
        return [
            str(path.relative_to(self.folder))
            for part in self.paths.values()
            for path in part
        ]

    def decode(self, write):
        """Decodes one picture after the other.

        Args:
            write: function of the number of the first pixel and the pixels,
                array `[num_pixels, channels]`, of each picture and scale.

        Returns:
            array `[n]` of `TABLE`, of each picture and scale.

        Raises:
            UserError: if a file cannot be read.
        """
        rows, start = [], 0
        paths = [path for part in self.paths.values() for path in part]
        for path, size in zip(paths, self.sizes, strict=True):
            image = self._read(path, size)
            for scale in self.scales:
                pixels = self._stored(pictures.shrink(image, scale))
                flat = pixels.reshape(-1, self.channels)
                write(start, flat)
                known = zlib.crc32(flat), pixels.max()
                rows.append((start, *pixels.shape[:2], *known))
                start += len(flat)
        return np.array(rows, TABLE)

    def _read(self, path, size):
        image = pictures.read_own_size(path, self.channels, self.white_level)
        if image.shape[:2] != tuple(size):
            raise UserError(
                f"{path} changed while it was read: repeat the command"
            )
        return image

    def _stored(self, image):
        """Returns the image in the dtype of the array."""
        if self.bits == 16:
            image = np.rint(arrays.as_float(image, "float64") * 65535)
        return np.ascontiguousarray(image, self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredPictures:
    """Pictures that can be read at random.

    Args:
        pictures: `PictureArray` of those of all splits, one after the other,
            each at all scales.
        names: list of str, the path of each in its folder.
        counts: dict of the splits that there are to their number of pictures.
        notes: tuple of str, one line each.
        scales: tuple of floats, of `PictureFiles`.
    """

    pictures: PictureArray
    names: list
    counts: dict
    notes: tuple[str, ...]
    scales: tuple[float, ...]

    def at_scale(self, number):
        """Returns the `PictureArray` of all pictures at one of the scales.

        Args:
            number: int, index of the scale.
        """
        return self.pictures.select(slice(number, None, len(self.scales)))

    def rows_by_split(self):
        """Returns a dict of the splits to the indices of their pictures."""
        rows, start = {}, 0
        for split, count in self.counts.items():
            rows[split] = np.arange(start, start + count)
            start += count
        return rows


def load(reader, in_memory="auto"):
    """Reads pictures to memory, or makes them readable from disk.

    Args:
        reader: `storage.Reader`, of `PictureFiles`.
        in_memory: as of `storage.load`.

    Returns:
        `StoredPictures`.

    Raises:
        UserError: as `storage.load`.
    """
    entry = None
    if in_memory is not True:
        identity = {"format": _FORMAT, **reader.identity}
        entry = cache.Entry(
            reader.name,
            identity,
            reader.state,
            lambda folder: _open(folder, reader.name, in_memory),
        )
        if (found := entry.find()) is not None:
            return found
    unread = reader.read()
    size = math.prod(unread.shape) * unread.dtype.itemsize
    excess = _excess(reader.name, len(unread), size)
    if in_memory is True and excess:
        raise UserError(
            f"{excess}: give in_memory=auto, which reads them from disk"
        )
    if in_memory is not False and not excess:
        return _decode_to_memory(unread)
    what = f"{len(unread)} pictures of {reader.name}, {size / 2**30:.1f} GiB"

    def write(folder):
        print(f"Preparing {what}, in {entry.path.parent}, once", flush=True)
        _write(folder, unread)

    return entry.prepare(
        write,
        size,
        lambda: print(f"Another process prepares {what}: waiting", flush=True),
    )


def _excess(name, count, size):
    return memory.excess_of(f"{count} pictures of {name}", size)


def _decode_to_memory(unread):
    values = np.empty(unread.shape, unread.dtype)

    def write(start, pixels):
        values[start : start + len(pixels)] = pixels

    table = unread.decode(write)
    return StoredPictures(
        PictureArray(arrays.as_cpu_tensor(values), table),
        unread.names(),
        _counts(unread),
        unread.notes,
        unread.scales,
    )


def _counts(unread):
    return {split: len(paths) for split, paths in unread.paths.items()}


def _write(folder, unread):
    """Decodes pictures to an empty folder."""
    with open(folder / _PIXELS, "wb") as file:
        disk_arrays.write_header(file, unread.shape, unread.dtype)
        table = unread.decode(lambda start, pixels: file.write(pixels))
    np.save(folder / _TABLE, table)
    files.write_json(
        folder / _ABOUT,
        {
            "names": unread.names(),
            "counts": _counts(unread),
            "notes": unread.notes,
            "scales": unread.scales,
        },
    )


def _open(folder, name, in_memory):
    """Opens what `_write` wrote, or reads it to memory.

    Raises:
        ValueError and others: if it is damaged.
    """
    path = folder / _PIXELS
    table, about = _known(folder)
    notes = about["notes"]
    values = np.load(path, mmap_mode="r")
    sizes = table["height"] * table["width"]
    cache.require(
        values.dtype in (np.uint8, np.uint16)
        and values.ndim == 2
        and values.shape[1] in (1, 3)
        and values.flags.c_contiguous
        and len(values) == sizes.sum(),
        path,
    )
    excess = _excess(name, len(about["names"]), values.nbytes)
    if in_memory is not False and not excess:
        pixels, path = arrays.as_cpu_tensor(np.array(values)), None
    else:
        layout = (values.offset, values.shape, values.dtype)
        with open(path, "rb") as file:
            values = disk_arrays.map_values(file, *layout, "MADV_RANDOM")
        pixels = disk_arrays.share(values)
        notes = [*notes, f"pictures are read from disk: {path}"]
    return StoredPictures(
        PictureArray(pixels, table, path),
        about["names"],
        about["counts"],
        tuple(notes),
        about["scales"],
    )


def _known(folder):
    """Reads what is known of the pictures; raises as `_open`."""
    table = np.load(folder / _TABLE)
    cache.require(table.dtype == TABLE and table.ndim == 1, folder / _TABLE)
    about = files.read_json(folder / _ABOUT)
    # Earlier versions shrunk no pictures.
    about["scales"] = tuple(about.get("scales", (1.0,)))
    count = sum(about["counts"].values())
    cache.require(
        len(about["names"]) == count
        and len(table) == count * len(about["scales"]),
        folder / _ABOUT,
    )
    sizes = table["height"] * table["width"]
    cache.require(
        np.array_equal(table["start"], np.cumsum(sizes) - sizes),
        folder / _TABLE,
    )
    return table, about
