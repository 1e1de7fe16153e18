"""Threefry and its normals against published words and their distribution."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_genmodels.core import counter_rng, seeds


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (2 * (0xFFFFFFFF,), 2 * (0xFFFFFFFF,), (0x1CB996FC, 0xBB002BE7)),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ],
)
def test_threefry_gives_the_published_words(key, counter, expected):
    """Those of the authors' library Random123, file kat_vectors."""
    words = [
        [tf.constant(word, tf.uint32) for word in pair]
        for pair in (key, counter)
    ]
    assert tuple(int(w) for w in counter_rng.threefry(*words)) == expected


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_normals_are_normal(dtype):
    rows = seeds.row_seeds(2, 40)
    numbers = tf.tile(tf.range(100)[:, tf.newaxis], (1, 40))
    drawn = counter_rng.normals(rows, numbers, 25, dtype).numpy()
    assert drawn.shape == (100, 40, 25)
    assert len(np.unique(drawn)) > 0.98 * drawn.size
    assert scipy.stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    # Neighbours along each axis are uncorrelated.
    for one, other in (
        (drawn[1:], drawn[:-1]),
        (drawn[:, 1:], drawn[:, :-1]),
        (drawn[:, :, 1:], drawn[:, :, :-1]),
    ):
        assert abs(np.mean(one * other)) < 4 / np.sqrt(one.size)
