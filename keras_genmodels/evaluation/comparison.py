"""The real images that samples are compared with, and by which features."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.metrics import classifier
from keras_genmodels.training import inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The images that samples are compared with.

    Args:
        train: `datasets.Split`, all training images.
        real: array `[n, height, width, channels]`, real images, drawn from
            `all_training_images`, that the metrics compare samples with.
        test: `datasets.Split` of n test images.
        noise: array `[n, height, width, channels]`, uniform in [0, 1].
        thresholded: whether the images of `train`, `real` and `test`, but not
            the noise, are thresholded at 0.5.
    """

    train: datasets.Split
    real: np.ndarray
    test: datasets.Split
    noise: np.ndarray
    thresholded: bool = False


class Features(NamedTuple):
    """The features by which images are compared.

    Args:
        extract: function of images `[n, height, width, channels]`, floating
            in [0, 1] or uint8, to a float array `[n, d]`.
        name: str.
        of_classifier: whether they are those of a classifier.
    """

    extract: Callable
    name: str
    of_classifier: bool


def comparison(data, everything, num_images, binarization="none", *, seed):
    """Returns the images that samples are compared with.

    All but `train` are the same for runs that held out other images for
    validation.

    Args:
        data: a `datasets.ImageDataset`.
        everything: `datasets.Split`, from `all_training_images(data)`.
        num_images: int >= 1, n; fewer if a split has fewer.
        binarization: of the run; with "threshold" the images are thresholded,
            as the samples are means of thresholded images.
        seed: int in [0, 2**31).

    Returns:
        `Comparison`.
    """
    images = everything.images
    count = min(num_images, len(images), len(data.test.images))
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(images), count, replace=False)
    noise = generator.random((count, *data.image_shape), np.float32)
    return Comparison(
        thresholded(data.train, binarization),
        inputs.threshold(images[np.sort(rows)], binarization),
        thresholded(data.test.take(count), binarization),
        noise,
        binarization == "threshold",
    )


def all_training_images(data):
    """Joins the images for training and those held out for validation.

    Args:
        data: a `datasets.ImageDataset`.

    Returns:
        `datasets.Split`, a copy in memory unless the images are on disk,
        sorted by the hashes of the images: the same whichever images were
        held out.
    """
    splits = [s for s in (data.train, data.validation) if s is not None]
    images = splits[0].images
    if not isinstance(images, DiskArray):
        images = np.concatenate([split.images for split in splits])
    elif len(splits) > 1:
        images = images.followed_by(splits[1].images)
    labels = None
    if data.train.labels is not None:
        labels = np.concatenate([split.labels for split in splits])
    everything = datasets.Split(images, labels)
    return everything[np.argsort(_hashes(everything), kind="stable")]


def features(data, everything, folder, *, num_steps):
    """Returns the features that images are compared by.

    They are those of a classifier of `all_training_images`, which is the same
    for runs that held out other images; of the pixels if there are no labels.

    Args:
        data: a `datasets.ImageDataset`.
        everything: `datasets.Split`, from `all_training_images(data)`.
        folder: where the classifier is stored.
        num_steps: int >= 1, of its training.

    Returns:
        `Features`.

    Raises:
        DamagedClassifierError: if the file of the classifier is damaged.
    """
    if everything.labels is None or len(np.unique(everything.labels)) < 2:
        name = "the pixels (there are no two labels to train a classifier on)"
        return Features(_pixels, name, False)
    trained = classifier.cached_classifier(
        datasets.ImageDataset(
            data.name, everything, None, data.test, data.label_names
        ),
        folder,
        num_steps=num_steps,
    )
    return Features(
        functools.partial(classifier.classifier_features, trained),
        "a small classifier of the training images",
        True,
    )


def thresholded(split, binarization):
    """Returns a `Split` with `inputs.threshold` of its images."""
    images = split.images
    if isinstance(images, DiskArray):
        images = images.map(lambda it: inputs.threshold(it, binarization))
    else:
        images = inputs.threshold(images, binarization)
    return datasets.Split(images, split.labels)


def _hashes(split):
    """Hashes each image, with its label if there are any: uint64 `[n]`."""
    hashes = []
    for row, image in enumerate(split.images):
        digest = hashlib.blake2b(image.tobytes(), digest_size=8)
        if split.labels is not None:
            digest.update(split.labels[row].tobytes())
        hashes.append(int.from_bytes(digest.digest(), "big"))
    return np.array(hashes, np.uint64)


def _pixels(images):
    return arrays.as_float(images).reshape(len(images), -1)
