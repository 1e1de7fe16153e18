"""The share of images that repeat the training set, as a measure."""

from keras_genmodels.evaluation.sections import Measure
from keras_genmodels.metrics.estimates import average
from keras_genmodels.metrics.memorization import memorization

# The share of held-out images that may be nearer to a training image than the
# threshold for memorisation.
_QUANTILE = 0.01


def measure(images, train, held_out, *, label, what):
    """Measures which share of images are memorised training images.

    Args:
        images: array `[n, height, width, channels]`, samples or fixed points.
        train, held_out: as in `metrics.memorization.memorization`.
        label: str, of the measure.
        what: str, what the images are, for the meaning.

    Returns:
        `Measure`.

    Raises:
        NotMeasured: if over 1 % of the held-out images are duplicates of
            training images.
    """
    found = memorization(images, train, held_out, quantile=_QUANTILE)
    return Measure(
        label,
        average(found.memorized),
        f"Share of the {what} that are nearer to a training image than 99 % of "
        "the test images are.",
    )
