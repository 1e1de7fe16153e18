"""Draws for the rows of one replica."""

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core import replicas


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [[], [3], [2, 5]])
def test_numbers_of_own_rows_are_those_of_the_whole_batch(dtype, shape):
    seed, total = [3, -7], 11
    whole = tf.random.stateless_normal([2 * total, *shape], seed, dtype=dtype)
    whole = np.reshape(whole, [2, total, *shape])
    for first, num_rows in ((0, 4), (4, 4), (8, 3), (10, 1)):
        own = replicas._own_normals(2, (first, num_rows, total), shape)
        np.testing.assert_array_equal(
            np.reshape(own(seed, dtype), [2, num_rows, *shape]),
            whole[:, first : first + num_rows],
        )
