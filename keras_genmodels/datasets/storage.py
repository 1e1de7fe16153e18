"""Where the images of a data set are: in memory, or in a file on disk.

On disk they are one `.npy` file with the images of all splits one after the
other: an `.npy` file of the user, or one that is prepared once in the cache
folder. Next to it are the labels, and what is known of each image without
reading it (`disk_arrays.STATISTICS`).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_genmodels.core import disk_arrays, files, memory
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.datasets import blocks, cache, limits
from keras_genmodels.datasets.blocks import Blocks
from keras_genmodels.datasets.splits import Split, Splits

# Of prepared folders; raise it when their content changes.
_FORMAT = 1
_IMAGES, _LABELS, _STATISTICS = "images.npy", "labels.npy", "statistics.npy"
_SPLITS = "splits.json"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A source of images and how it is read.

    Args:
        name: str, of the source.
        read: function that returns `Splits`, of arrays or `Blocks`.
        identity: what tells this source, read in this way, from others, as
            JSON holds it.
        state: function that returns a text, which changes with the source.
    """

    name: str
    read: Callable
    identity: dict
    state: Callable


def load(reader, in_memory="auto"):
    """Reads a source to memory, or makes its images readable from disk.

    Args:
        reader: `Reader`.
        in_memory: True; False; or "auto", in memory if they take at most half
            of the free memory.

    Returns:
        `Splits` of arrays in memory, or of `DiskArray`s. Binary images, whose
        values are all 0 or 1, have the values 0 and 255.

    Raises:
        UserError: if the images do not fit in memory, and `in_memory` is True;
            if they cannot be written to the disk; and as `reader.read`.
    """
    entry = None
    if in_memory is not True:
        identity = {"format": _FORMAT, **reader.identity}
        entry = cache.Entry(reader.name, identity, reader.state, _open)
        if (found := entry.find()) is not None:
            if _is_on_disk(found, in_memory):
                return _noted(found)
            return _to_memory(found)
    found = reader.read()
    if not _is_on_disk(found, in_memory):
        count, *shape = found.shape
        dtype = found.train.images.dtype
        limits.check_memory(reader.name, count, shape, dtype)
        return _spread_binary(_to_memory(found))
    return _noted(_prepare(entry, reader.name, found))


def _noted(splits):
    """Returns splits on disk, with a note of the file."""
    note = f"images are read from disk: {splits.train.images.path}"
    return dataclasses.replace(splits, notes=(*splits.notes, note))


def _is_on_disk(splits, in_memory):
    """Returns whether images are to stay on disk."""
    if in_memory != "auto":
        return not in_memory
    return memory.excess(splits.shape, splits.train.images.dtype) is not None


def _replace_images(splits, replace):
    """Returns splits with a function applied to the images of each."""
    return dataclasses.replace(
        splits,
        **{
            name: Split(replace(split.images), split.labels)
            for name, split in splits.by_name().items()
        },
    )


def _to_memory(splits):
    def read(images):
        if isinstance(images, Blocks):
            return images.in_memory()
        return np.asarray(images)

    return _replace_images(splits, read)


def _spread_binary(splits):
    """Replaces 0 and 1 by 0 and 255, in place, if there are no others."""
    images = splits.train.images
    if images.dtype == np.uint8 and images.max() <= 1:
        for split in splits:
            np.multiply(split.images, 255, out=split.images)
    return splits


def _prepare(entry, name, splits):
    """Returns splits on disk, prepared if they are not there."""
    dtype = np.dtype(splits.train.images.dtype)
    size = int(np.prod(splits.shape)) * dtype.itemsize
    what = f"{splits.shape[0]} images of {name}, {size / 2**30:.1f} GiB"
    where = f"in {entry.path.parent}, "
    if _as_it_is(splits):
        size, where = 0, "which are used as they are, "

    def write(path):
        print(f"Preparing {what}, {where}once", flush=True)
        _write(path, splits)

    return entry.prepare(
        write,
        size,
        lambda: print(f"Another process prepares {what}: waiting", flush=True),
    )


def _as_it_is(splits):
    """Returns the path of an .npy file that needs no copy, or None."""
    return getattr(splits.train.images, "path", None)


def _write(folder, splits):
    """Writes splits to an empty folder."""
    path = _as_it_is(splits)
    statistics = _statistics(splits) if path else _copy(folder, splits)
    train = statistics[: len(splits.train.images)]
    is_binary = train["highest"].max() <= 1
    if splits.train.images.dtype == np.uint8 and is_binary:
        if path:
            print("Their values are 0 and 1: written as 0 and 255", flush=True)
            cache.check_room(folder, int(np.prod(splits.shape)))
        path = None
        binary = _replace_images(splits, _spread)
        statistics = _copy(folder, binary)
    np.save(folder / _STATISTICS, statistics)
    labels = [split.labels for split in splits]
    if labels[0] is not None:
        np.save(folder / _LABELS, np.concatenate(labels))
    files.write_json(
        folder / _SPLITS,
        {
            "file": path and str(path),
            "has_labels": labels[0] is not None,
            "splits": {k: len(v.images) for k, v in splits.by_name().items()},
            "label_names": splits.label_names,
            "notes": splits.notes,
        },
    )


def _spread(images):
    """Returns binary images as `Blocks` of 0 and 255."""
    return Blocks(
        images.shape,
        images.dtype,
        lambda: (block * np.uint8(255) for block in _read(images)),
    )


def _read(images):
    """Yields the blocks of an array or of `Blocks`."""
    return images.read() if isinstance(images, Blocks) else blocks.parts(images)


def _statistics(splits):
    """Returns `disk_arrays.STATISTICS` of all images of all splits."""
    return np.concatenate(
        [
            disk_arrays.statistics_of(block)
            for split in splits
            for block in _read(split.images)
        ]
    )


def _copy(folder, splits):
    """Writes the images of all splits to a file; returns their statistics."""
    statistics = []
    dtype = np.dtype(splits.train.images.dtype)
    with open(folder / _IMAGES, "wb") as file:
        disk_arrays.write_header(file, splits.shape, dtype)
        for split in splits:
            for block in _read(split.images):
                block = np.ascontiguousarray(block, dtype)
                statistics.append(disk_arrays.statistics_of(block))
                file.write(block)
    return np.concatenate(statistics)


def _open(folder):
    """Returns the splits that `_write` wrote.

    Raises:
        ValueError and others: if they are damaged.
    """
    content = files.read_json(folder / _SPLITS)
    path = content["file"] or folder / _IMAGES
    statistics = np.load(folder / _STATISTICS)
    images = open_npy(path, statistics)
    count = sum(content["splits"].values())
    cache.require(
        statistics.dtype == disk_arrays.STATISTICS
        and len(statistics) == len(images) == count,
        folder / _STATISTICS,
    )
    labels = None
    if content.get("has_labels", (folder / _LABELS).exists()):
        labels = np.load(folder / _LABELS)
        cache.require(labels.shape == (count,), folder / _LABELS)
    everything, start, splits = Split(images, labels), 0, {}
    for name, count in content["splits"].items():
        splits[name] = everything[start : start + count]
        start += count
    names = content["label_names"]
    if len(splits) == 1:
        splits = {"train": everything}
    return Splits(
        **splits,
        label_names=names and tuple(names),
        notes=tuple(content["notes"]),
    )


def open_npy(path, statistics):
    """Opens an .npy file of images as a `DiskArray`.

    Args:
        path: of a file of uint8 or float32 `[n, height, width]` or `[n,
            height, width, channels]`.
        statistics: `disk_arrays.statistics_of` its images.
    """
    array = np.load(path, mmap_mode="r")
    shape = (*array.shape, 1)[:4]
    return DiskArray.open(path, array.offset, shape, array.dtype, statistics)


def is_usable(array):
    """Returns whether a mapped .npy file needs no copy."""
    return (
        isinstance(array, np.memmap)
        and array.dtype in (np.uint8, np.float32)
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.offset % disk_arrays.ALIGNMENT == 0
    )
