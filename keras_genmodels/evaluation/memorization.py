"""How many images repeat the training set: a measure, or why there is none."""

import numpy as np

from keras_genmodels import attractors
from keras_genmodels.core.errors import UserError
from keras_genmodels.evaluation.sections import Measure
from keras_genmodels.metrics.estimates import average

# Share of the held-out images that may be nearer to a training image than
# what counts as memorised.
_QUANTILE = 0.01


def measure(images, train, held_out, *, label, meaning, unknown):
    """Measures which share of images is nearer to training ones than is new.

    The threshold is a distance that at most 1 % of the held-out images are
    below. Where more of these are copies of training images there is none:
    nothing is nearer than a copy.

    Args:
        images: array `[n, height, width, channels]`, samples.
        train, held_out: arrays of such, of the same type; see
            `attractors.memorization`.
        label, meaning: of the measure.
        unknown: str, what is not known without it, for the note.

    Returns:
        `Measure` and no notes, `[]`; or None and a list of one note.

    Raises:
        UserError: as `attractors.memorization`, for other reasons.
    """
    try:
        found = attractors.memorization(
            images, train, held_out, quantile=_QUANTILE
        )
    except UserError:
        copied = _share_copied(train, held_out)
        if not copied:
            raise
        return None, [
            f"{100 * copied:.3g} % of the test images are copies of training "
            f"images, than which nothing can be nearer: {unknown} is not told."
        ]
    return Measure(label, average(found.memorized), meaning), []


def _share_copied(train, held_out):
    """Gives the share of the held-out images that training images equal."""
    values = [image.tobytes() for image in np.asarray(held_out)]
    sought = {*values}
    copied = {v for v in map(np.ndarray.tobytes, train) if v in sought}
    return np.mean([value in copied for value in values])
