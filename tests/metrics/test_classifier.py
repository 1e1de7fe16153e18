"""The classifier of a data set: its features, seed, cache and errors."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from keras_genmodels import datasets
from keras_genmodels.core.seeds import as_seed
from keras_genmodels.metrics import classifier as classifier_features

# Enough to tell most digits apart.
NUM_STEPS = 150


@pytest.fixture(scope="module")
def digits():
    values, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = (values * 15).reshape(-1, 8, 8, 1).astype(np.uint8)
    labels = labels.astype(np.int32)
    train = datasets.Split(images[:1400], labels[:1400])
    test = datasets.Split(images[1400:], labels[1400:])
    return datasets.ImageDataset("digits", train, None, test, None)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def classifier(digits, cache):
    return classifier_features.cached_classifier(
        digits, cache, num_steps=NUM_STEPS
    )


def tiny(labels=(0, 1) * 8, seed=0):
    """A data set of 16 images of noise."""
    images = np.random.default_rng(seed).random((16, 6, 5, 2), np.float32)
    labels = None if labels is None else np.array(labels, np.int32)
    split = datasets.Split(images, labels)
    return datasets.ImageDataset("tiny", split, None, split, None)


def test_it_learns_the_labels(digits, classifier):
    logits = classifier.predict(digits.test.images / np.float32(255), verbose=0)
    assert logits.dtype == np.float32
    # 0.90 was measured after twice the steps; chance is 0.1.
    assert np.mean(logits.argmax(1) == digits.test.labels) > 0.7


def test_it_separates_non_images_from_images(digits, classifier):
    generator = np.random.default_rng(0)
    images = digits.test.images / np.float32(255)
    pixels = images.reshape(len(images), -1)
    noise = generator.random(images.shape, np.float32)
    shuffled = generator.permuted(pixels, axis=1).reshape(images.shape)
    shares = [
        np.mean(classifier.predict(x, verbose=0).argmax(1) == 10)
        for x in (images, noise, shuffled)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.9
    assert shares[2] > 0.8


def test_non_images_are_those_of_the_seed_and_the_step():
    images = np.arange(2 * 8 * 6 * 5 * 2, dtype=np.float32).reshape(16, 6, 5, 2)
    batch = {"image": tf.constant(images), "label": tf.zeros(16, tf.int32)}
    made = [
        classifier_features._with_non_images(3, as_seed(seed))(step, batch)
        for seed, step in ((0, 4), (0, 4), (0, 5), (1, 4))
    ]
    (first, labels), (again, _), *others = made
    np.testing.assert_array_equal(labels, [0] * 16 + [3] * 16)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:16], images)
    noise, shuffled = first[16:24].numpy(), first[24:].numpy()
    assert 0 <= noise.min() < 0.05 and 0.95 < noise.max() < 1
    for image, other in zip(images[:8], shuffled, strict=True):
        pixels, others_pixels = image.reshape(-1, 2), other.reshape(-1, 2)
        # Of the order of the pixels, whose channels stay together.
        order = np.argsort(others_pixels[:, 0])
        assert not np.array_equal(order, np.arange(30))
        np.testing.assert_array_equal(others_pixels[order], pixels)
    for other, _ in others:
        differs = np.any(other[16:] != first[16:], axis=(1, 2, 3))
        assert differs.all()


def test_features_are_the_input_of_the_last_layer(digits, classifier):
    images = digits.test.images
    features = classifier_features.classifier_features(classifier, images)
    assert features.dtype == np.float32
    assert features.shape == (len(images), classifier_features.NUM_FEATURES)
    kernel, bias = classifier.layers[-1].get_weights()
    np.testing.assert_allclose(
        features @ kernel + bias,
        classifier.predict(images / np.float32(255), verbose=0),
        rtol=1e-4,
        atol=1e-4,
    )


def test_bytes_are_read_as_value_over_255(digits, classifier):
    images = digits.test.images[:9]
    features = [
        classifier_features.classifier_features(classifier, x)
        for x in (images, images / np.float32(255))
    ]
    np.testing.assert_array_equal(*features)


def test_the_size_of_blocks_changes_nothing(digits, classifier, monkeypatch):
    images = digits.test.images[:50]
    whole = classifier_features.classifier_features(classifier, images)
    monkeypatch.setattr(classifier_features, "_BLOCK", 7)
    parts = classifier_features.classifier_features(classifier, images)
    # Convolutions of other batch sizes are rounded otherwise.
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


_FEATURES = """
import sys
import numpy as np
from keras_genmodels import datasets
from keras_genmodels.metrics import classifier as classifier_features
with np.load(sys.argv[1]) as arrays:
    split = datasets.Split(arrays["images"], arrays["labels"])
classifier = classifier_features.train_classifier(split, num_steps=20)
features = classifier_features.classifier_features(classifier, split.images)
np.save(sys.argv[2], features)
"""


@pytest.mark.slow
def test_a_fresh_process_trains_the_same(digits, tmp_path):
    split = datasets.Split(digits.train.images[:300], digits.train.labels[:300])
    np.savez(tmp_path / "x.npz", images=split.images, labels=split.labels)
    subprocess.run(
        [sys.executable, "-c", _FEATURES, "x.npz", "features.npy"],
        cwd=tmp_path,
        check=True,
    )
    theirs = np.load(tmp_path / "features.npy")
    # Whatever the global seed and the policy are here.
    keras.utils.set_random_seed(7)
    ours, other = (
        classifier_features.classifier_features(
            classifier_features.train_classifier(
                split, seed=seed, num_steps=20
            ),
            split.images,
        )
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(ours, theirs)
    assert np.abs(ours - other).max() > 0.1


@pytest.mark.slow
def test_it_is_float32_whatever_the_policy(bfloat16):
    data = tiny()
    classifier = classifier_features.train_classifier(data.train, num_steps=1)
    keras.config.set_dtype_policy("float64")
    other = classifier_features.train_classifier(data.train, num_steps=1)
    keras.config.set_dtype_policy("float32")
    usual = classifier_features.train_classifier(data.train, num_steps=1)
    features = [
        classifier_features.classifier_features(c, data.train.images)
        for c in (classifier, other, usual)
    ]
    np.testing.assert_array_equal(features[0], features[2])
    np.testing.assert_array_equal(features[1], features[2])


@pytest.mark.slow
def test_training_does_not_set_the_global_seed():
    draws = []
    for is_first in (True, False):
        np.random.seed(3)
        if is_first:
            classifier_features.train_classifier(tiny().train, num_steps=1)
        draws.append(np.random.random())
    assert draws[0] == draws[1]


def test_it_is_read_from_its_file_the_second_time(
    digits, classifier, cache, monkeypatch
):
    monkeypatch.setattr(classifier_features, "train_classifier", None)
    again = classifier_features.cached_classifier(
        digits, cache, num_steps=NUM_STEPS
    )
    images = digits.test.images[:20]
    np.testing.assert_array_equal(
        classifier_features.classifier_features(classifier, images),
        classifier_features.classifier_features(again, images),
    )


def test_other_data_or_settings_have_another_file(tmp_path, monkeypatch):
    trained = []

    def train(split, seed, num_steps):
        trained.append((split, seed, num_steps))
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])

    monkeypatch.setattr(classifier_features, "train_classifier", train)
    folder = tmp_path / "made"
    calls = [
        (tiny(), 0, 5),
        (tiny(seed=1), 0, 5),
        (tiny(labels=(1, 1, 0, 0) * 4), 0, 5),
        (tiny(), 1, 5),
        (tiny(), 0, 6),
    ]
    for _ in range(2):
        for data, seed, num_steps in calls:
            classifier_features.cached_classifier(
                data, folder, seed=seed, num_steps=num_steps
            )
    assert trained == [
        (data.train, seed, num_steps) for data, seed, num_steps in calls
    ]
    assert len(list(folder.iterdir())) == 5
    # As has another network or training.
    monkeypatch.setattr(classifier_features, "_RECIPE", 0)
    classifier_features.cached_classifier(tiny(), folder, num_steps=5)
    assert len(trained) == 6 and len(list(folder.iterdir())) == 6


@pytest.fixture
def untrained(monkeypatch):
    """Skips the training, which takes seconds to compile."""

    def build(split, seed, num_steps):
        del split, seed, num_steps
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])

    monkeypatch.setattr(classifier_features, "train_classifier", build)


def test_a_training_that_fails_leaves_no_file(tmp_path, monkeypatch, untrained):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        classifier_features.cached_classifier(tiny(), tmp_path, num_steps=1)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_an_error_that_names_it(tmp_path, untrained):
    classifier_features.cached_classifier(tiny(), tmp_path, num_steps=1)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:1000], whole.replace(b"Dense", b"Dance")):
        path.write_bytes(damaged)
        with pytest.raises(
            classifier_features.DamagedClassifierError,
            match=r"\.keras is damaged: delete it",
        ):
            classifier_features.cached_classifier(tiny(), tmp_path, num_steps=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "no labels to train"), ((3,) * 16, r"at least two labels.* \[3\]")],
)
def test_a_classifier_needs_two_labels(tmp_path, labels, message):
    data = tiny(labels)
    with pytest.raises(ValueError, match=message):
        classifier_features.train_classifier(data.train)
    with pytest.raises(ValueError, match=message):
        classifier_features.cached_classifier(data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_errors(digits, classifier, tmp_path):
    with pytest.raises(ValueError, match="num_steps must be an int >= 1"):
        classifier_features.cached_classifier(digits, tmp_path, num_steps=0)
    with pytest.raises(ValueError, match="num_steps must be an int >= 1"):
        classifier_features.train_classifier(digits.train, num_steps=1.5)
    with pytest.raises(ValueError, match="seed must be in"):
        classifier_features.train_classifier(digits.train, seed=-1)
    images = digits.test.images[:3]
    for bad, message in (
        (images[:, :7], r"must have shape \[n, 8, 8, 1\], .*\(7, 8, 1\)"),
        (images[:0], "no data"),
        (np.full((3, 8, 8, 1), np.nan), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier_features.classifier_features(classifier, bad)
