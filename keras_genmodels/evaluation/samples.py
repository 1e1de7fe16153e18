"""How good the samples of any model are, beside real images and noise."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_genmodels import datasets, plots
from keras_genmodels.core import arrays, seeds
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.evaluation import memorization
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics import classifier as classifier_features
from keras_genmodels.metrics import sample_quality
from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.models import ConditionalVAE, conditional_sampling
from keras_genmodels.sampling.restoration import generate
from keras_genmodels.training import inputs

# Images at a time.
_PART = 250
# Of a denoiser's walk from noise.
_WALK_STEPS = 50
# Of the sheet of samples.
_SHOWN = 8
_NEIGHBOURS = 2
# Values of training images that are held as floats at once, about.
_MOST_VALUES = 2**24

_MEANINGS = {
    "precision": (
        "Precision",
        "Share of the samples within the reach of real images, the distance "
        "to the 5th nearest other: 1 if all look real.",
    ),
    "recall": (
        "Recall",
        "Share of the real images within the reach of the samples: low if "
        "kinds of images are missing.",
    ),
    "density": (
        "Density",
        "How many real images' reach a sample is in, over 5: about 1 for "
        "real ones.",
    ),
    "coverage": (
        "Coverage",
        "Share of the real images that have a sample within their reach: "
        "about 0.97 for new real ones.",
    ),
    "frechet_classifier_distance": (
        "Frechet classifier distance",
        "Squared distance of Gaussians fitted to the features: 0 for the same "
        "images; not the FID, and to be compared for this data set and number "
        "of images alone.",
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The images that samples are compared with.

    Args:
        train: `datasets.Split`, the training images, all of them.
        real: array `[n, height, width, channels]`, the real ones that samples
            are measured against, drawn from `all_training_images`.
        test: `datasets.Split` of n test images.
        noise: array `[n, height, width, channels]`, uniform in [0, 1].
        are_cut: whether the images of `train`, `real` and `test` are cut at
            0.5; the noise never is.
    """

    train: datasets.Split
    real: np.ndarray
    test: datasets.Split
    noise: np.ndarray
    are_cut: bool = False


class Features(NamedTuple):
    """What images are compared by.

    Args:
        extract: function of images `[n, height, width, channels]`, floating
            in [0, 1] or uint8, to a float array `[n, d]`.
        name: str, what they are.
        of_classifier: whether a classifier's.
    """

    extract: Callable
    name: str
    of_classifier: bool


def comparison(data, num_images, binarization, *, seed):
    """Gives the images that samples are compared with, as many of each kind.

    All but `train` are the same whichever images a run held out for its
    validation, so that runs of other seeds have the same scale.

    Args:
        data: a `datasets.ImageDataset`.
        num_images: int >= 1, n; fewer where a split has fewer.
        binarization: the run's; by "threshold" images are cut at 0.5, as the
            means of samples are of such.
        seed: int in [0, 2**31).

    Returns:
        `Comparison`.
    """
    everything = all_training_images(data).images
    count = min(num_images, len(everything), len(data.test.images))
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(everything), count, replace=False)
    noise = generator.random((count, *data.image_shape), np.float32)
    return Comparison(
        first(data.train, None, binarization),
        inputs.cut(everything[np.sort(rows)], binarization),
        first(data.test, count, binarization),
        noise,
        binarization == "threshold",
    )


def all_training_images(data):
    """Joins the images for training and those held out for validation.

    Args:
        data: a `datasets.ImageDataset`.

    Returns:
        `datasets.Split`, a copy, in an order of the images' own (that of
        their hashes): the same whichever were held out.
    """
    splits = [s for s in (data.train, data.validation) if s is not None]
    images = np.concatenate([split.images for split in splits])
    labels = None
    if data.train.labels is not None:
        labels = np.concatenate([split.labels for split in splits])
    order = np.argsort(_hashes(images, labels), kind="stable")
    return datasets.Split(
        images[order], None if labels is None else labels[order]
    )


def draw(model, test, given, *, seed):
    """Draws a sample for each test image, of any kind of model.

    Args:
        model: a `VAE`, `ConditionalVAE` or `Denoiser` of images.
        test: `datasets.Split` of n images, whose label or known part a
            conditional model is given.
        given: float array like the images, as the model was trained on them:
            binarised or not.
        seed: int.

    Returns:
        float array `[n, height, width, channels]` in [0, 1]: means of p(x|z),
        or ends of a walk from noise in 50 steps. What is known of an image is
        as `test` has it.
    """
    rows = seeds.row_seeds(seed, len(given))
    if isinstance(model, Denoiser):
        images = _in_parts(
            lambda part: generate(
                model,
                model.event_shape,
                len(part),
                seed=part,
                num_steps=_WALK_STEPS,
            ),
            rows,
        )
    elif not isinstance(model, ConditionalVAE):
        images = _in_parts(
            lambda part: model.sample(len(part), seed=part), rows
        )
    elif model.known is None:
        images = conditional_sampling.sample(model, test.labels, seed=rows)
    else:
        images = conditional_sampling.sample(model, given, seed=rows)
        grey = arrays.as_float(test.images)
        images = np.where(model.known, grey, images)
    return np.clip(images, 0, 1).astype(np.float32)


def feature_function(data, folder, *, num_steps):
    """Gives the function from images to features that they are compared by.

    It is a classifier that learned `all_training_images`, so that runs of
    other seeds have the same; or, where there are no labels to learn, the
    pixels.

    Args:
        data: a `datasets.ImageDataset`.
        folder: where the classifier is kept.
        num_steps: int >= 1, of its training.

    Returns:
        `Features`.

    Raises:
        UserError: if the file of the classifier is damaged.
    """
    everything = datasets.ImageDataset(
        data.name, all_training_images(data), None, data.test, data.label_names
    )
    labels = everything.train.labels
    if labels is None or len(np.unique(labels)) < 2:
        told = "the pixels (there are no two labels to tell apart)"
        return Features(_pixels, told, False)
    classifier = classifier_features.cached_classifier(
        everything, folder, num_steps=num_steps
    )
    return Features(
        functools.partial(classifier_features.classifier_features, classifier),
        "a small classifier of the data set's training images",
        True,
    )


def measure(samples, images, features):
    """Measures samples against real images, beside real ones and noise.

    Args:
        samples: float array `[n, height, width, channels]` in [0, 1].
        images: a `Comparison`.
        features: as `feature_function` gives it.

    Returns:
        `Section` of `precision`, `recall`, `density`, `coverage` and, for
        features of a classifier, `frechet_classifier_distance`; and, unless
        test images are copies of training images, of `memorized`. Its title
        tells whether the real images are cut at 0.5.

    Raises:
        UserError: as `sample_metrics` and `attractors.memorization`.
    """
    real = features.extract(images.real)
    own, *found = (
        _metrics(features.extract(values), real, features.of_classifier)
        for values in (samples, images.test.images, images.noise)
    )
    found = dict(zip(("test images", "noise"), found, strict=True))
    measures = {
        key: Measure(
            label,
            own[key],
            meaning,
            references={kind: other[key] for kind, other in found.items()},
        )
        for key, (label, meaning) in _MEANINGS.items()
        if key in own
    }
    memorized, notes = _memorized(samples, images)
    if memorized is not None:
        measures["memorized"] = memorized
    return Section(
        "Samples, cut at 0.5" if images.are_cut else "Samples",
        measures,
        [
            f"{len(samples)} samples against as many images, drawn from those "
            f"for training and validation, in the features of {features.name}.",
            *notes,
        ],
        ["Beside them as many test images and as much uniform noise."],
    )


def extremes(samples, images, features):
    """Draws the samples nearest to training images, and the furthest ones.

    Args:
        samples, images, features: as in `measure`.

    Returns:
        uint8 picture `[height, width, 3]`: 8 samples above the two training
        images nearest to each by its features, first of the nearest samples,
        then of the furthest.

    Raises:
        UserError: as `sample_metrics.nearest_training_images`.
    """
    train = images.train.images
    indices, distances = _nearest(samples, train, features.extract)
    order = np.argsort(distances[:, 0], kind="stable")
    count = min(_SHOWN, len(order))
    blocks = []
    for rows in (order[:count], order[-count:]):
        blocks += [
            samples[rows],
            *(arrays.as_float(train[i]) for i in indices[rows].T),
        ]
    return plots.titled(
        plots.image_grid(np.concatenate(blocks), count),
        "Samples nearest to training images, and furthest, each above these",
        rows=["nearest", "1st image", "2nd", "furthest", "1st image", "2nd"],
    )


def first(split, count, binarization="none"):
    """Gives the first images of a split, all if there are fewer.

    Args:
        split: a `datasets.Split`.
        count: int >= 1; None for all.
        binarization: by "threshold" they are cut at 0.5, else left grey.

    Returns:
        `datasets.Split`.
    """
    images = inputs.cut(split.images[:count], binarization)
    labels = None if split.labels is None else split.labels[:count]
    return datasets.Split(images, labels)


def _nearest(samples, train, extract):
    """Finds the training images nearest to each sample, block by block.

    Returns:
        indices and distances as of `sample_metrics.nearest_training_images`.
    """
    size = max(_NEIGHBOURS, _MOST_VALUES // math.prod(train.shape[1:]))
    of_samples = extract(samples)
    found = []
    # The last block may be larger, as it must not have too few for k.
    starts = range(0, max(1, len(train) - len(train) % size), size)
    for start, end in zip(starts, [*starts[1:], len(train)], strict=True):
        indices, distances = sample_quality.nearest_training_images(
            of_samples, extract(train[start:end]), _NEIGHBOURS
        )
        found.append((indices + start, distances))
    indices, distances = (
        np.concatenate(part, 1) for part in zip(*found, strict=True)
    )
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :_NEIGHBOURS]
    return (
        np.take_along_axis(indices, nearest, axis=1),
        np.take_along_axis(distances, nearest, axis=1),
    )


def _in_parts(make, rows):
    return arrays.map_batches(make, rows, batch_size=_PART)


def _hashes(images, labels):
    """Hashes each image and its label, where there are any: uint64 `[n]`."""
    found = []
    for row, image in enumerate(images):
        known = hashlib.blake2b(image.tobytes(), digest_size=8)
        if labels is not None:
            known.update(labels[row].tobytes())
        found.append(int.from_bytes(known.digest(), "big"))
    return np.array(found, np.uint64)


def _pixels(images):
    return arrays.as_float(images).reshape(len(images), -1)


def _metrics(features, real, of_classifier):
    found = {
        **sample_quality.precision_recall(features, real),
        **sample_quality.density_coverage(features, real),
    }
    if of_classifier:
        found |= sample_quality.frechet_classifier_distance(features, real)
    return {
        name: Estimate(value, found[f"{name}_standard_error"])
        for name, value in found.items()
        if name in _MEANINGS
    }


def _memorized(samples, images):
    """Gives a measure and notes, as `copies.measure`."""
    return memorization.measure(
        samples,
        images.train.images,
        images.test.images,
        label="Memorised",
        meaning="Share of the samples that are nearer to a training image, by "
        "their pixels, than all but 1 % of the test images are.",
        unknown="how many samples are memorised",
    )
