"""Arrays of random patches of pictures in memory."""

import numpy as np
import tensorflow as tf
from support.patch_places import places_of

from keras_genmodels import datasets
from keras_genmodels.core.events import event_batches
from keras_genmodels.datasets import batches, patches
from keras_genmodels.datasets.picture_array import TABLE, PictureArray

SIZE = 4


def some_pictures(sizes, dtype=np.uint8):
    """Returns a `PictureArray` in which each pixel has another value."""
    table, start = np.zeros(len(sizes), TABLE), 0
    for row, (height, width) in enumerate(sizes):
        table[row] = (start, height, width, row, 0)
        start += height * width
    pixels = tf.range(start)[:, tf.newaxis]
    return PictureArray(tf.cast(pixels, dtype), table)


def test_patches_are_parts_of_pictures_all_places_and_turns_alike():
    sizes = [(4, 4), (5, 4), (6, 8)]
    whole = some_pictures(sizes, np.uint16)
    values = whole.pixels.numpy()
    drawn = patches.PatchArray(
        whole, SIZE, 1, batches.stream_seed(3, batches.PATCHES)
    ).draw(0, 16000)
    drawn = np.rint(drawn * 65535).astype(np.uint16)[..., 0]
    ends = np.cumsum([h * w for h, w in sizes])
    pictures = [
        part.reshape(size)
        for part, size in zip(np.split(values, ends[:-1]), sizes, strict=True)
    ]
    found, counts = np.unique(
        places_of(drawn, pictures, 8), axis=0, return_counts=True
    )
    # 1 + 2 + 15 positions, 8 elements; each count has a Poisson error.
    expected = 16000 / (18 * 8)
    assert len(found) == 18 * 8
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_patches_are_as_often_of_each_group():
    sizes = [(4, 4), (9, 9), (4, 5), (5, 4)]
    pictures = some_pictures(sizes)
    seed = batches.stream_seed(3, batches.PATCHES)
    options = {"augmented": False, "counts": (2, 1, 1)}
    array = patches.PatchArray(pictures, SIZE, 12000, seed, **options)
    corners, counts = np.unique(array[:][:, 0, 0, 0], return_counts=True)
    firsts = pictures.table["start"]
    # 1 + 36 positions, 2 and 2: a third of all patches for each group.
    assert len(corners) == 1 + 36 + 2 + 2
    for group in (corners < firsts[2], corners >= firsts[3]):
        assert abs(counts[group].sum() - 4000) < 5 * 52
    assert np.abs(counts[corners >= firsts[2]] - 2000).max() < 5 * 41
    other = patches.PatchArray(pictures, SIZE, 12000, seed, augmented=False)
    assert other.checksum() != array.checksum()
    assert [*array.for_statistics().counts] == [2, 1, 1]


def test_a_patch_is_a_function_of_seed_and_number():
    pictures = some_pictures([(9, 9), (20, 5)])
    seed = batches.stream_seed(0, batches.PATCHES)
    array = patches.PatchArray(pictures, SIZE, 100, seed)
    assert (array.shape, array.dtype) == ((100, SIZE, SIZE, 1), np.uint8)
    whole = np.asarray(array)
    for key in (slice(3, 60, 7), [99, 0, 0], np.arange(100) > 90, slice(0)):
        np.testing.assert_array_equal(array[key], whole[key])
    for key in (-1, np.arange(6).reshape(2, 3)):
        np.testing.assert_array_equal(array[key], whole[key])
    np.testing.assert_array_equal(array.draw(41, 7), whole[41:48])
    other = batches.stream_seed(1, batches.PATCHES)
    assert np.any(array.draw(0, 100, other) != whole)
    # Far into a training, too.
    far = 10**12
    np.testing.assert_array_equal(
        array.draw(far, 9)[5:], array.draw(tf.constant(far + 5), 4)
    )
    read = [*event_batches(array)]
    np.testing.assert_array_equal(np.concatenate(read), whole)


def test_patches_are_those_of_earlier_versions():
    """A run that was begun by one goes on with the same patches."""
    seed = batches.stream_seed(0, batches.PATCHES)
    array = patches.PatchArray(some_pictures([(9, 9), (20, 5)]), 2, 9, seed)
    corners = array[:][:, 0, 0, 0].tolist()
    assert corners == [128, 45, 67, 78, 132, 126, 56, 52, 11]
    assert array.checksum() == 481802031


def test_statistics_are_of_some_of_many_patches(monkeypatch):
    monkeypatch.setattr(patches, "_MOST_VALUES", 5 * SIZE**2)
    seed = batches.stream_seed(0, batches.PATCHES)
    array = patches.PatchArray(some_pictures([(9, 9)]), SIZE, 10**9, seed)
    found = datasets.Split(array, None).for_statistics()
    assert len(found) == 5
    np.testing.assert_array_equal(found[:], array[:5])
    images = np.zeros((3, 2, 2, 1), np.uint8)
    assert datasets.Split(images, None).for_statistics() is images
