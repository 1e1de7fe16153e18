"""`memorization` against a plain search for nearest neighbours."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist

from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.metrics.memorization import memorization


def small_images(n, seed=0, shape=(4, 4, 1)):
    return np.random.default_rng(seed).random((n, *shape)).astype("float32")


def test_training_images_are_memorised_and_held_out_ones_are_not():
    train, held_out = small_images(300), small_images(60, seed=1)
    both = np.concatenate([train[:10], held_out[:30]])
    found = memorization(both, train, held_out)
    assert found.rate == 0.25
    assert found.memorized.tolist() == [True] * 10 + [False] * 30
    assert (found.train_distances[:10] == 0).all()
    np.testing.assert_array_equal(found.train_indices[:10], range(10))
    assert (found.held_out_distances[10:] == 0).all()
    np.testing.assert_array_equal(found.held_out_indices[10:], range(30))


def test_distances_agree_with_a_plain_search():
    # uint8, more than one block.
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (9000, 3, 3, 1), np.uint8)
    held_out = rng.integers(0, 256, (50, 3, 3, 1), np.uint8)
    images = rng.random((70, 3, 3, 1)).astype("float32")
    found = memorization(images, train, held_out)
    flat = images.reshape(70, -1).astype(float)
    for distances, indices, data in (
        (found.train_distances, found.train_indices, train),
        (found.held_out_distances, found.held_out_indices, held_out),
    ):
        plain = cdist(flat, data.reshape(len(data), -1) / 255)
        np.testing.assert_allclose(distances, plain.min(1), rtol=1e-12)
        np.testing.assert_array_equal(indices, plain.argmin(1))
    between = cdist(held_out.reshape(50, -1), train.reshape(9000, -1)) / 255
    np.testing.assert_allclose(found.threshold, between.min(), rtol=1e-12)
    batches = tf.data.Dataset.from_tensor_slices({"image": train})
    streamed = memorization(images, batches.batch(4000), held_out)
    np.testing.assert_array_equal(streamed.train_indices, found.train_indices)


def test_new_images_are_not_memorised():
    train, held_out, new = (small_images(500, seed=s) for s in range(3))
    found = memorization(new, train, held_out[:100])
    # At most 1 / 101 in expectation; but nearer to the larger set.
    assert found.rate <= 0.03
    assert abs(found.nearer_train_rate - 5 / 6) < 0.06


def test_near_duplicates_count_and_quantile_ignores_duplicates():
    train, held_out = small_images(200), small_images(50, seed=1)
    copies = train[:20] + np.float32(1e-3)
    assert memorization(copies, train, held_out).rate == 1
    held_out[0] = train[7]
    with pytest.raises(NotMeasured, match="exact duplicates"):
        memorization(copies, train, held_out)
    found = memorization(copies, train, held_out, quantile=0.05)
    assert found.rate == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantile": 1.0}, r"quantile must be in \[0, 1\), got 1.0"),
        ({"train": np.ones((0, 3))}, "train got no data"),
        ({"held_out": np.full((2, 3), np.inf)}, "held_out got data that are"),
        ({"images": np.ones((2, 3), int)}, "images takes floating data"),
        ({"train": np.ones((2, 4))}, "train has events of shape"),
        ({"held_out": np.ones((2, 4))}, "compared with events of shape"),
    ],
)
def test_bad_sets_are_refused(changes, message):
    sets = {name: np.ones((2, 3)) for name in ("images", "train", "held_out")}
    with pytest.raises(ValueError, match=message):
        memorization(**(sets | changes))
