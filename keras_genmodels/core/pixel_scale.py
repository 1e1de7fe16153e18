"""Checks that images are on the scale of pixels in [0, 1].

Wider than [0, 1], so that noise and rounding pass; 0 to 255 does not. Only
arrays and eager tensors are checked: the values of a graph are not known.
"""

import tensorflow as tf

from keras_genmodels.core.validation import check

CLEAN = (-1.0, 2.0)
ADVICE = "pixels are in [0, 1]: divide grey levels of 0 to 255 by 255"


def is_image(event_shape):
    """Returns whether events are (height, width, 1 to 4 channels)."""
    return (
        event_shape is not None
        and len(event_shape) == 3
        and event_shape[-1] in range(1, 5)
    )


def check_clean(x, event_shape, name="x"):
    """Checks clean images.

    Args:
        x: floating array or tensor `[batch, *event_shape]`.
        event_shape: tuple; events that are no images are not checked.
        name: name of the argument, for the message.

    Raises:
        ValueError: for values below -1 or above 2.
    """
    if not is_image(event_shape) or _is_symbolic(x) or not tf.size(x):
        return
    low, high = float(tf.reduce_min(x)), float(tf.reduce_max(x))
    # False for NaN, which has a message of its own.
    is_off = low < CLEAN[0] or high > CLEAN[1]
    check(
        not is_off, f"{name} has values from {low:g} to {high:g}, and {ADVICE}"
    )


def _is_symbolic(x):
    return tf.is_tensor(x) and not hasattr(x, "numpy")
