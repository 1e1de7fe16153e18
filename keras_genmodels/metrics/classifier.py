"""Features of images from a small classifier, trained on the data at hand."""

import itertools
import re
import zlib

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels import datasets
from keras_genmodels.core import files
from keras_genmodels.core.arrays import as_float, concatenate, map_batches
from keras_genmodels.core.events import event_batches
from keras_genmodels.core.seeds import as_seed, fold_in
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.networks.convolutions import conv_encoder

NUM_FEATURES = 64


class DamagedClassifierError(ValueError):
    """The file of a cached classifier cannot be read."""


_FILTERS = 16
_DROPOUT = 0.5
_LEARNING_RATE = 2e-3
_BATCH_SIZE = 128
# In each batch: so much noise, and as many images of shuffled pixels.
_NUM_NON_IMAGES = 8
# Version of the network and its training; raise it when either changes.
_RECIPE = 2

# Images whose features are computed at once.
_BLOCK = 512


def cached_classifier(dataset, folder, *, seed=0, num_steps=2000):
    """Returns the classifier of a data set, trained on first use.

    It is stored in `folder` as a `.keras` file, whose name contains the data
    set's fingerprint, a checksum of the labels, the seed, the number of steps
    and the version of the network.

    Args:
        dataset: datasets.ImageDataset with labels, whose training split is
            trained on.
        folder: of the file; made if needed.
        seed: int in [0, 2**31).
        num_steps: int >= 1, batches of 128 images to train on.

    Returns:
        `keras.Model`, as from `train_classifier`.

    Raises:
        DamagedClassifierError: if the file is damaged.
        ValueError: as `train_classifier`.
    """
    _label_indices(dataset.train)
    name = _file_name(dataset, f"seed {seed}, {num_steps} steps")
    path = files.local_path(folder) / name
    if path.exists():
        try:
            return keras.saving.load_model(path)
        except Exception as error:  # Keras raises many kinds.
            raise DamagedClassifierError(
                f"{path} is damaged: delete it"
            ) from error
    classifier = train_classifier(dataset.train, seed=seed, num_steps=num_steps)
    with files.replacing(path) as temporary:
        classifier.save(temporary)
    return classifier


def train_classifier(split, *, seed=0, num_steps=2000):
    """Trains a small convolutional classifier.

    One more class than there are labels is that of non-images: uniform noise,
    and images whose pixels are shuffled. Features that separate only the
    labels need not separate these: with a classifier of digits alone, noise
    had a precision of 0.34 and a Frechet distance of 431, averages of three
    digits 413. With the class of non-images the precision is 0, and the
    distances are 8059 and 314.

    On 57 000 images of Fashion-MNIST 1000 steps took 52 s of processor time,
    for a test accuracy of 88 %; on the digits 2000 took 15 s, for 93 %.

    Args:
        split: datasets.Split with labels, of at least two values.
        seed: int in [0, 2**31), which draws the initial weights, the order
            of the images and the non-images: the same seed gives the same
            weights.
        num_steps: int >= 1, training steps, of 112 images and 16 non-images
            each.

    Returns:
        `keras.Model` of float32 images `[batch, height, width, channels]` in
        [0, 1] to logits `[batch, num_classes + 1]`, float32, of the labels in
        ascending order and of non-images.

    Raises:
        ValueError: if there are no labels, or only one.
    """
    check_count("num_steps", num_steps)
    indices = _label_indices(split)
    num_classes = int(indices.max()) + 1
    classifier = _network(split.images.shape[1:], num_classes + 1, seed)
    classifier.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, num_steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = datasets.training_batches(
        datasets.Split(split.images, indices),
        batch_size=_BATCH_SIZE - 2 * _NUM_NON_IMAGES,
        seed=seed,
    )
    classifier.fit(
        batches.enumerate().map(_with_non_images(num_classes, as_seed(seed))),
        steps_per_epoch=num_steps,
        shuffle=False,
        verbose=0,
    )
    return classifier


def classifier_features(classifier, images):
    """Computes the activations before a classifier's last layer.

    Args:
        classifier: from `cached_classifier`.
        images: array `[n, height, width, channels]`: floating in [0, 1], or
            uint8, read as value / 255.

    Returns:
        float32 array `[n, 64]`.

    Raises:
        ValueError: for images that are not finite or of another type or
            shape, or none.
    """
    shape = classifier.input_shape[1:]
    extractor = keras.Model(
        classifier.inputs, classifier.get_layer("features").output
    )

    def features(batch):
        check(
            batch.shape[1:] == shape,
            f"images must have shape [n, {', '.join(map(str, shape))}], as "
            f"the classifier's, got events of {batch.shape[1:]}",
        )
        return map_batches(
            lambda block: extractor.predict_on_batch(as_float(block)),
            batch,
            batch_size=_BLOCK,
        )

    return concatenate(map(features, event_batches(images, "images")))


def _label_indices(split):
    """Numbers the labels of a split from 0."""
    check(
        split.labels is not None,
        "there are no labels to train the classifier on: use a data set with "
        "labels, or other features, such as the pixels",
    )
    values, indices = np.unique(split.labels, return_inverse=True)
    check(
        len(values) > 1,
        f"the classifier needs at least two labels, got {values}",
    )
    return indices.astype(np.int32)


def _with_non_images(label, seed):
    """Returns a function that adds non-images to the s-th batch.

    Args:
        label: int, that of non-images.
        seed: int32 tensor `[2]`; the non-images are drawn from (seed, s).
    """

    def add(step, batch):
        noise_seed, order_seed = tf.unstack(
            tf.random.split(fold_in(seed, step), 2)
        )
        few = batch["image"][:_NUM_NON_IMAGES]
        noise = tf.random.stateless_uniform(tf.shape(few), noise_seed)
        images = [batch["image"], noise, _shuffled(few, order_seed)]
        labels = tf.fill([2 * _NUM_NON_IMAGES], tf.cast(label, tf.int32))
        return tf.concat(images, 0), tf.concat([batch["label"], labels], 0)

    return add


def _shuffled(images, seed):
    """Shuffles the pixels of each image, keeping their channels together."""
    pixels = tf.reshape(images, [len(images), -1, images.shape[-1]])
    draws = tf.random.stateless_uniform(tf.shape(pixels)[:2], seed)
    pixels = tf.gather(pixels, tf.argsort(draws, axis=1), batch_dims=1)
    return tf.reshape(pixels, tf.shape(images))


def _file_name(dataset, settings):
    labels = zlib.crc32(np.ascontiguousarray(dataset.train.labels))
    key = (
        f"{dataset.fingerprint()}, labels {labels:08x}, {settings}, "
        f"recipe {_RECIPE}"
    )
    return f"classifier-{re.sub('[^0-9a-z]+', '-', key)}.keras"


def _network(image_shape, num_logits, seed):
    """Builds the classifier, in float32 whatever the policy."""
    seeds = itertools.count(seed)

    def seeded(layer):
        config = {**layer.get_config(), "dtype": "float32"}
        if "kernel_initializer" in config:
            config["kernel_initializer"] = keras.initializers.GlorotUniform(
                next(seeds)
            )
        return type(layer).from_config(config)

    network = conv_encoder(image_shape, NUM_FEATURES, _FILTERS)
    network.add(keras.layers.Activation("silu", name="features"))
    network.add(keras.layers.Dropout(_DROPOUT, seed=seed))
    network.add(keras.layers.Dense(num_logits, name="logits"))
    return keras.models.clone_model(network, clone_function=seeded)
