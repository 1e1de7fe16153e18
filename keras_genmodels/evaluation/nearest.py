"""A picture of samples and the training images that they resemble most."""

import math

import numpy as np

from keras_genmodels import plots
from keras_genmodels.core import arrays
from keras_genmodels.metrics import sample_quality

_NUM_SHOWN = 8
_NUM_NEIGHBOURS = 2
# Approximate number of values of training images in memory as floats.
_MAX_VALUES = 2**24


def nearest_sheet(samples, images, features):
    """Draws the samples nearest to training images, and the furthest ones.

    Args:
        samples: float array `[n, height, width, channels]` in [0, 1].
        images: a `Comparison`.
        features: a `Features`.

    Returns:
        uint8 picture `[height, width, 3]`: 8 samples above the two training
        images nearest to each in the features; first the nearest samples,
        then the furthest.

    Raises:
        NotMeasured: if there are too few training images.
    """
    train = images.train.images
    indices, distances = _nearest(samples, train, features.extract)
    order = np.argsort(distances[:, 0], kind="stable")
    count = min(_NUM_SHOWN, len(order))
    blocks = []
    for rows in (order[:count], order[-count:]):
        blocks += [
            samples[rows],
            *(arrays.as_float(train[i]) for i in indices[rows].T),
        ]
    return plots.titled(
        plots.image_grid(np.concatenate(blocks), count),
        "Samples nearest to and furthest from training images, above these",
        rows=["nearest", "1st image", "2nd", "furthest", "1st image", "2nd"],
    )


def _nearest(samples, train, extract):
    """Finds the training images nearest to each sample, block by block.

    Returns:
        indices and distances as `sample_quality.nearest_training_images`.
    """
    size = max(_NUM_NEIGHBOURS, _MAX_VALUES // math.prod(train.shape[1:]))
    of_samples = extract(samples)
    found = []
    # The last block is larger rather than too small for the neighbours.
    starts = range(0, max(1, len(train) - len(train) % size), size)
    for start, end in zip(starts, [*starts[1:], len(train)], strict=True):
        indices, distances = sample_quality.nearest_training_images(
            of_samples, extract(train[start:end]), _NUM_NEIGHBOURS
        )
        found.append((indices + start, distances))
    indices, distances = (
        np.concatenate(part, 1) for part in zip(*found, strict=True)
    )
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :_NUM_NEIGHBOURS]
    return (
        np.take_along_axis(indices, nearest, axis=1),
        np.take_along_axis(distances, nearest, axis=1),
    )
