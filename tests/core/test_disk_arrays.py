"""Arrays on disk behave as the same arrays in memory, and read little."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core import disk_arrays, memory
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.core.events import event_batches


def make(folder, dtype=np.uint8, count=20, statistics=True):
    """Returns images in memory and the same on disk."""
    values = np.random.default_rng(0).integers(0, 256, (count, 4, 3, 1))
    images = values.astype(np.uint8)
    if dtype == np.float32:
        images = images / np.float32(255)
        images[3, 1, 1] += 1e-3
    np.save(folder / "x.npy", images)
    array = np.load(folder / "x.npy", mmap_mode="r")
    known = disk_arrays.statistics_of(images) if statistics else None
    return images, DiskArray.open(
        folder / "x.npy", array.offset, images.shape, images.dtype, known
    )


ROWS = np.array([7, 3, 3, 19, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_are_those_of_the_array(tmp_path, dtype):
    images, stored = make(tmp_path, dtype)
    even = np.arange(20) % 2 == 0
    for mine, theirs in (
        (stored, images),
        (stored.select(ROWS), images[ROWS]),
        (stored.select(even).select(slice(2, 5)), images[even][2:5]),
        (
            stored.select(ROWS).followed_by(stored.select(slice(2))),
            images[[*ROWS, 0, 1]],
        ),
    ):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        assert len(mine) == len(theirs) and mine.ndim == 4
        np.testing.assert_array_equal(np.asarray(mine), theirs)
        np.testing.assert_array_equal(mine[1:3], theirs[1:3])
        np.testing.assert_array_equal(mine[[2, 0]], theirs[[2, 0]])
        np.testing.assert_array_equal(list(mine), theirs)
        assert mine.max() == theirs.max()
        assert disk_arrays.checksum(mine, 9) == disk_arrays.checksum(theirs, 9)
    off = len(stored.without_levels())
    assert off == (0 if dtype == np.uint8 else 1)


def test_a_function_is_applied_to_what_is_read(tmp_path):
    images, stored = make(tmp_path, np.float32)
    white = stored.select(ROWS).map(lambda x: (x >= 0.5).astype(np.uint8))
    assert white.dtype == np.uint8
    np.testing.assert_array_equal(white[:], images[ROWS] >= 0.5)
    with pytest.raises(TypeError, match="alone"):
        white.max()


@pytest.mark.parametrize("in_order", [True, False])
def test_the_tensor_shares_the_file_and_outlives_the_array(tmp_path, in_order):
    images, stored = make(tmp_path)
    tensor = stored.as_tensor(in_order)
    data = tf.data.Dataset.from_tensors(0).map(
        lambda _, tensor=tensor: tensor[3]
    )
    rows = iter(data)
    mapped = stored._file.in_order if in_order else stored._file.at_random
    shared = np.asarray(memoryview(tensor))
    assert shared.ctypes.data == mapped.ctypes.data
    del stored, mapped, shared, tensor, data
    gc.collect()
    np.testing.assert_array_equal(next(rows), images[3])


def test_blocks_of_data_are_those_of_the_array(tmp_path, monkeypatch):
    images, stored = make(tmp_path)
    monkeypatch.setattr("keras_genmodels.core.events._BATCH_SIZE", 7)
    pairs = zip(event_batches(stored), event_batches(images), strict=True)
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine, theirs)


def test_an_array_that_does_not_fit_in_memory_is_not_read(
    tmp_path, monkeypatch
):
    images, stored = make(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 2 * images.nbytes - 1)
    with pytest.raises(ValueError, match=r"20 images of 4x3x1 .*fewer"):
        np.asarray(stored)
    np.testing.assert_array_equal(stored.select(slice(9)), images[:9])
