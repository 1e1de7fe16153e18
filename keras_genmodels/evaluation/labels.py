"""Whether class-conditional samples show their label, and how they differ."""

import numpy as np

from keras_genmodels.evaluation.sections import (
    NOT_FINITE,
    Measure,
    Section,
)
from keras_genmodels.metrics import labels
from keras_genmodels.metrics.estimates import Estimate


def section(samples, real, train, *, seed, thresholded=False):
    """Measures the label accuracy and the diversity of samples.

    Args:
        samples: float array `[n, height, width, channels]` in [0, 1], one for
            each image of `real`, of its label.
        real: `datasets.Split` of n test images.
        train: `datasets.Split` that the classifier is fitted to.
        seed: int in [0, 2**31).
        thresholded: whether the real images are thresholded at 0.5.

    Returns:
        `Section` of `label_accuracy` and `diversity`, or of notes where these
        data do not allow them.
    """
    title = f"Labels{', of pixels thresholded at 0.5' * thresholded}"
    key = "thresholded" if thresholded else "grey"
    if not np.isfinite(samples).all():
        return Section(title, notes=[NOT_FINITE], key=key)
    found = Section(
        title,
        notes=[
            f"{len(samples)} samples, with the labels of the test split; the "
            f"classifier was fitted to {len(train.images)} training images."
        ],
        key=key,
    )
    found.add("Label accuracy", _accuracy, samples, real, train, seed)
    found.add("Diversity", _diversity, samples, real, seed)
    return found


def accuracy_measure(of_samples, of_real):
    """Returns the `Measure` of two `Estimate`s of the label accuracy."""
    return Measure(
        "Label accuracy",
        of_samples,
        "How often a classifier fitted to real images (extremely randomised "
        "trees) predicts the label that the sample was drawn for.",
        references={"real test images": of_real},
    )


def diversity_measure(diversity):
    """Returns the `Measure` of an `Estimate` of the diversity."""
    return Measure(
        "Diversity within a label",
        diversity,
        "Mean distance of two samples of a label, divided by that of real "
        "images: 0 for one image repeated; noise raises it.",
        references={"real test images": Estimate(1.0)},
    )


def _accuracy(samples, real, train, seed):
    classifier = labels.fit_label_classifier(
        train.images, train.labels, seed=seed
    )
    of_samples, of_real = (
        _estimate(
            labels.label_accuracy(classifier, images, real.labels), "accuracy"
        )
        for images in (samples, real.images)
    )
    return {"label_accuracy": accuracy_measure(of_samples, of_real)}


def _diversity(samples, real, seed):
    found = labels.diversity(
        samples, real.labels, real.images, real.labels, seed=seed
    )
    return {"diversity": diversity_measure(_estimate(found, "diversity"))}


def _estimate(found, name):
    return Estimate(found[name], found[f"{name}_standard_error"])
