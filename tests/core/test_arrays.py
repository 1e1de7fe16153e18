"""Images become floats in one way; batches cover every row once."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core.arrays import as_float, concatenate, map_batches

LEVELS = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("make", [np.asarray, tf.constant])
@pytest.mark.parametrize("dtype", [None, "float32", "float64", np.float64])
def test_uint8_is_divided_by_255(make, dtype):
    floats = np.asarray(as_float(make(LEVELS), dtype))
    assert floats.dtype == np.dtype(dtype or "float32")
    np.testing.assert_array_equal(floats, LEVELS.astype(floats.dtype) / 255)


@pytest.mark.parametrize("make", [np.asarray, tf.constant])
def test_floats_keep_their_values(make):
    images = make(np.float16([0.25, 1.5]))
    assert as_float(images).dtype == "float16"
    doubles = as_float(images, "float64")
    assert doubles.dtype == "float64"
    np.testing.assert_array_equal(doubles, images)


class Pair(NamedTuple):
    total: object
    size: object


def test_a_function_of_batches_is_applied_to_every_row_once():
    x, y = np.arange(7), tf.range(7)
    sizes = []

    def function(x, missing, y):
        sizes.append(len(x))
        assert missing is None
        return {"pair": Pair(x + y, np.full(len(x), len(x))), "x": [*x]}

    found = map_batches(function, x, None, y, batch_size=3)
    assert sizes == [3, 3, 1]
    assert isinstance(found["pair"], Pair)
    np.testing.assert_array_equal(found["pair"].total, 2 * x)
    np.testing.assert_array_equal(found["pair"].size, [3, 3, 3, 3, 3, 3, 1])
    np.testing.assert_array_equal(found["x"], x)


def test_some_rows_have_the_bits_of_all_rows():
    x = np.random.default_rng(0).normal(size=11)

    def function(x):
        """Depends on the other rows of the batch and on the place in it."""
        return Pair({"sum": x + x.sum()}, x * np.arange(len(x)) + len(x))

    whole = map_batches(function, x, batch_size=4)
    for start in range(11):
        for stop in range(start + 1, 12):
            found = map_batches(
                function, x, batch_size=4, rows=range(start, stop)
            )
            np.testing.assert_array_equal(
                found.total["sum"], whole.total["sum"][start:stop]
            )
            np.testing.assert_array_equal(found.size, whole.size[start:stop])


def test_no_batches_are_an_error():
    with pytest.raises(ValueError, match="no batches"):
        concatenate([])
