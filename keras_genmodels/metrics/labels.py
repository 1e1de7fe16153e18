"""Label accuracy and diversity of class-conditional samples."""

import math

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import pairwise_distances_chunked

from keras_genmodels.core.arrays import as_float, concatenate
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.events import event_batches
from keras_genmodels.core.validation import check
from keras_genmodels.metrics.estimates import average

# Largest number of pixel values that a classifier is fitted to, as floats.
_MAX_VALUES = 2**26
# MiB of distances in memory at once.
_WORKING_MEMORY = 64

# The jackknife leaves one image out, and a distance needs two.
_MIN_IMAGES_PER_LABEL = 3


def fit_label_classifier(images, labels, *, seed=0):
    """Fits a classifier of real images, to classify generated ones.

    It is an ensemble of 100 extremely randomised trees, which shares nothing
    with the networks that it judges. On 57 000 images of Fashion-MNIST the
    fit took 31 s of processor time and 0.3 GB, for an accuracy of 87.5 % on
    the test split; a random forest took 64 s for 87.3 %. On the 8x8 digits the
    accuracy is 97 to 99 % on 360 random images, and 93 to 94 % on the test
    split, which is by other writers.

    Args:
        images: array `[n, height, width, channels]`, of the training split:
            floating in [0, 1], or uint8, read as value / 255.
        labels: integer array `[n]`.
        seed: int in [0, 2**31).

    Returns:
        `sklearn.ensemble.ExtraTreesClassifier` of `[n, height * width *
        channels]` float rows.

    Raises:
        NotMeasured: if all labels are the same.
        ValueError: if images or labels are missing, not finite, or of another
            type or shape.

    #### References

    Geurts, Ernst and Wehenkel (2006), Extremely randomized trees, Machine
    Learning 63.
    """
    images, labels = _validate(images, labels)
    if labels.min() == labels.max():
        raise NotMeasured(
            f"a classifier needs at least two labels, all are {labels[0]}"
        )
    classifier = ExtraTreesClassifier(n_jobs=-1, random_state=seed)
    classifier.fit(_as_rows(images), labels)
    # Threads would add up the trees' votes in a random order.
    return classifier.set_params(n_jobs=1)


def subsample(split):
    """Takes evenly spaced images of a split, as many as memory allows.

    Args:
        split: a `datasets.Split` with labels.

    Returns:
        `datasets.Split`, the same one if it is small enough.
    """
    num = max(1, _MAX_VALUES // math.prod(split.images.shape[1:]))
    return split.subsample(num)


def label_accuracy(classifier, images, labels):
    """Computes how often a classifier predicts the label that was asked for.

    The classifier errs on real images too: compare with its accuracy on the
    test split, which is what perfect samples would get. The accuracy ignores
    diversity: a single good image of each label gets 1.

    Args:
        classifier: from `fit_label_classifier`.
        images: array `[n, height, width, channels]`, generated or of the test
            split: floating in [0, 1], or uint8, read as value / 255.
        labels: integer array `[n]`, those the images were generated for.

    Returns:
        dict: the floats `accuracy` in [0, 1] and `accuracy_standard_error`,
        see `estimates.average`; the int `num_examples`; and `labels`, a dict
        of each label as text to a dict of these three.

    Raises:
        NotMeasured: if a label is not among those of the classifier.
        ValueError: if images or labels are missing, not finite, or of another
            type or shape.
    """
    images, labels = _validate(images, labels)
    rows = _as_rows(images)
    check(
        rows.shape[1] == classifier.n_features_in_,
        f"images have {rows.shape[1]} values each, and the classifier was "
        f"trained on such of {classifier.n_features_in_}",
    )
    _check_known(labels, classifier.classes_, "the classifier's labels")
    is_right = classifier.predict(rows) == labels
    return {
        **_accuracy(is_right),
        "labels": {
            str(label): _accuracy(is_right[labels == label])
            for label in np.unique(labels)
        },
    }


def diversity(images, labels, real_images, real_labels, *, seed=0):
    """Compares distances within a label, of generated and of real images.

    The mean Euclidean distance of two images of a label, over all pairs, is
    averaged over the labels and divided by the same of real images: as many
    for each label, drawn by `seed`, or all if there are fewer. The ratio is 0
    if each label has a single image, repeated, and 1 if the images are as
    diverse as real ones. Noise raises it: read it together with
    `label_accuracy`.

    The standard errors are those of the delete-one jackknife over the images
    of each label, generated and real, taken as independent. Labels with fewer
    than 3 generated or 3 real images are left out.

    Args:
        images: array `[n, height, width, channels]`, generated: floating in
            [0, 1], or uint8, read as value / 255.
        labels: integer array `[n]`.
        real_images: array `[num_real, height, width, channels]`, likewise.
        real_labels: integer array `[num_real]`.
        seed: int, which draws the real images.

    Returns:
        dict: the floats `diversity`, the ratio, >= 0, `distance` and
        `real_distance`, Euclidean, over all pixels in [0, 1], each with its
        `..._standard_error`; the int `num_labels`; and `labels`, a dict of
        each label as text to a dict of these without `num_labels`, and of the
        ints `num_examples` and `num_real_examples`.

    Raises:
        NotMeasured: if a label has no real images, if no label has enough
            images, or if the real images of a label are all the same.
        ValueError: if images or labels are missing, not finite, or of another
            type or shape.
    """
    images, labels = _validate(images, labels)
    real_images, real_labels = _validate(real_images, real_labels, "real_")
    check(
        images.shape[1:] == real_images.shape[1:],
        f"images have shape {images.shape[1:]}, and real_images have shape "
        f"{real_images.shape[1:]}",
    )
    _check_known(labels, np.unique(real_labels), "real_labels")
    generator = np.random.default_rng(seed)
    spreads = {}
    for label in np.unique(labels):
        own = images[labels == label]
        real = real_images[real_labels == label]
        if min(len(own), len(real)) >= _MIN_IMAGES_PER_LABEL:
            spreads[str(label)] = _compare(own, real, generator)
    if not spreads:
        raise NotMeasured(
            f"no label has {_MIN_IMAGES_PER_LABEL} images and as many real ones"
        )
    return {
        **_ratio(
            _average(spreads.values(), "distance"),
            _average(spreads.values(), "real_distance"),
        ),
        "num_labels": len(spreads),
        "labels": spreads,
    }


def _validate(images, labels, prefix=""):
    """Checks images and their labels; returns both as arrays."""
    images = concatenate(event_batches(images, f"{prefix}images"))
    check(
        images.ndim == 4,
        f"{prefix}images must have shape [n, height, width, channels], got "
        f"{images.shape}",
    )
    check(
        labels is not None,
        f"{prefix}labels are missing: take a data set that has labels",
    )
    labels = np.asarray(labels)
    check(
        labels.dtype.kind in "iu" and labels.shape == images.shape[:1],
        f"{prefix}labels must be {len(images)} integers, one an image, got "
        f"{labels.dtype} of shape {labels.shape}",
    )
    return images, labels


def _check_known(labels, known, where):
    unknown = np.setdiff1d(labels, known)
    if len(unknown):
        raise NotMeasured(f"labels {unknown} are not among {where}, {known}")


def _as_rows(images):
    return as_float(images).reshape(len(images), -1)


def _accuracy(is_right):
    accuracy, error = average(is_right)
    return {
        "accuracy": accuracy,
        "accuracy_standard_error": error,
        "num_examples": len(is_right),
    }


def _compare(images, real_images, generator):
    """Compares the images of one label with as many real ones."""
    count = min(len(images), len(real_images))
    rows = generator.choice(len(real_images), count, replace=False)
    return {
        **_ratio(_spread(images), _spread(real_images[rows])),
        "num_examples": len(images),
        "num_real_examples": count,
    }


def _spread(images):
    """Computes the mean distance of two images, and its standard error.

    With r_i the sum of distances from image i and S that of all pairs, the
    mean over the pairs without i is (S - r_i) / ((n - 1) (n - 2) / 2).
    """
    rows = _as_rows(images).astype(np.float64)
    # Centred, |a|^2 - 2 a'b + |b|^2 has little rounding error.
    rows -= rows.mean(0)
    sums = np.concatenate(
        list(
            pairwise_distances_chunked(
                rows,
                reduce_func=lambda distances, start: distances.sum(1),
                working_memory=_WORKING_MEMORY,
            )
        )
    )
    count, total = len(rows), sums.sum() / 2
    left_out = (total - sums) / ((count - 1) * (count - 2) / 2)
    error = math.sqrt((count - 1) * left_out.var())
    return float(total / (count * (count - 1) / 2)), error


def _average(spreads, name):
    """Averages a distance over the labels, with its standard error."""
    spreads = list(spreads)
    errors = [spread[f"{name}_standard_error"] for spread in spreads]
    return (
        float(np.mean([spread[name] for spread in spreads])),
        math.hypot(*errors) / len(errors),
    )


def _ratio(generated, real):
    """Divides two `(distance, standard error)`, independent, to first order."""
    if not real[0] > 0:
        raise NotMeasured("the real images of a label are all the same")
    ratio = generated[0] / real[0]
    error = math.hypot(generated[1], ratio * real[1]) / real[0]
    return {
        "diversity": ratio,
        "diversity_standard_error": error,
        "distance": generated[0],
        "distance_standard_error": generated[1],
        "real_distance": real[0],
        "real_distance_standard_error": real[1],
    }
