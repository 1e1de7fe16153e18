"""The handwritten digits of scikit-learn, which need no download."""

import numpy as np
import sklearn.datasets

from keras_genmodels.datasets import pictures
from keras_genmodels.datasets.splits import Split, Splits

_NUM_TRAINING = 1437


def read(size):
    """Returns the 1797 digits of 8x8 pixels, the last 360 of them for test.

    Args:
        size: `(height, width)` to resize to, or None.

    Returns:
        `Splits`: uint8 images, of which the grey values 0 to 16 are scaled to
        0 to 255.
    """
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    if size:
        images = pictures.resize(images, size).numpy()
    labels = labels.astype(np.int32)
    return Splits(
        Split(images[:_NUM_TRAINING], labels[:_NUM_TRAINING]),
        test=Split(images[_NUM_TRAINING:], labels[_NUM_TRAINING:]),
        label_names=tuple("0123456789"),
    )
